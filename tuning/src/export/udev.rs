//! udev: rules that set an interface when it appears.
//!
//! Attributes of the interface's folder are set by udev itself, while it reads the rules; what is
//! to be run is run after that, in order.

use super::{Left, Wanted, line};
use crate::shell::word;
use crate::site::Nic;

pub(super) fn write<'p>(wanted: &[Wanted<'p>]) -> (String, Vec<Left<'p>>) {
    let (mut text, mut left) = (String::new(), Vec::new());
    for wanted in wanted {
        let Some(nic) = &wanted.site.interface else {
            left.push(Left(*wanted, "it is of no interface"));
            continue;
        };
        let (name, action) = (quoted(&literal(&nic.name)), action(wanted, nic));
        text += &format!(
            "\n# {}\n{ACTIONS}, SUBSYSTEM==\"net\", KERNEL==\"{name}\", {action}\n",
            line(wanted.why)
        );
    }
    (text, left)
}

fn action(wanted: &Wanted<'_>, nic: &Nic) -> String {
    let Wanted { site, value, .. } = wanted;
    let folder = format!("/sys/class/net/{}/", nic.name);
    let attribute = site.path.as_deref().and_then(|path| path.strip_prefix(&folder));
    match (attribute, &site.path) {
        (Some(attribute), _) if wanted.turn() <= 0 => {
            format!("ATTR{{{attribute}}}=\"{}\"", quoted(value))
        }
        // It needs what the rules before it have run.
        (_, Some(path)) => run(&format!("{WRITE} {} {}", word(path), word(value))),
        // udev knows no PATH.
        (_, None) => run(&format!("/usr/sbin/{}", site.command(value))),
    }
}

fn run(command: &str) -> String {
    format!("RUN+=\"{}\"", quoted(command))
}

/// For a string of a rule of udev: its own substitutions begin with these.
fn quoted(text: &str) -> String {
    line(text).replace('\\', "\\\\").replace('"', "\\\"").replace('$', "$$").replace('%', "%%")
}

/// Names of interfaces may have what is a pattern for udev.
fn literal(name: &str) -> String {
    let one = |c: char| if "*?[".contains(c) { format!("[{c}]") } else { c.to_string() };
    name.chars().map(one).collect()
}

/// An interface that is renamed comes a second time, as moved; a trigger is a change.
const ACTIONS: &str = "ACTION==\"add|change|move\"";

/// Takes a path and a value: udev runs no shell by itself.
const WRITE: &str = "/bin/sh -c 'echo $1 > $0'";

#[cfg(test)]
mod tests {
    use crate::export::Format;
    use crate::export::tests::{of_nic, plan};

    #[test]
    fn what_needs_gro_is_run_behind_it() {
        let changes = vec![of_nic("gro", "veth0", "on"), of_nic("threaded_napi", "veth0", "1")];
        let text = plan(changes).export(Format::Udev).text;
        let runs: Vec<&str> =
            text.lines().filter_map(|line| Some(line.split_once("RUN+=")?.1)).collect();
        let write = "\"/bin/sh -c 'echo $$1 > $$0' /sys/class/net/veth0/threaded 1\"";
        assert_eq!(runs, ["\"/usr/sbin/ethtool -K veth0 rx-gro on\"", write]);
        assert!(!text.contains("ATTR"), "{text}");
        // Off it needs nobody.
        let text = plan(vec![of_nic("threaded_napi", "veth0", "0")]).export(Format::Udev).text;
        assert!(text.contains("ATTR{threaded}=\"0\"\n"), "{text}");
    }
}
