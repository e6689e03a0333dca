//! sysctl: a file for sysctl.d.

use super::{Left, Wanted, line};
use crate::knobs::Access;

pub(super) fn write<'p>(wanted: &[Wanted<'p>]) -> (String, Vec<Left<'p>>) {
    let (mut text, mut left) = (String::new(), Vec::new());
    for wanted in wanted {
        match wanted.site.knob.access {
            Access::Sysctl(name, _) => {
                text += &format!("\n# {}\n{name} = {}\n", line(wanted.why), line(wanted.value));
            }
            _ => left.push(Left(*wanted, "it is no sysctl")),
        }
    }
    (text, left)
}
