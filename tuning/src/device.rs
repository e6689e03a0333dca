//! device reads and sets features and numbers of an interface over ethtool netlink.

use std::io;

use netlink_packet_core::DefaultNla;

use crate::facts::ethtool::{
    BIT_NAME, BIT_VALUE, BITSET_BITS, Ethtool, FEATURES_ACTIVE, FEATURES_GET, NESTED, bits, nested,
};
use crate::facts::netlink::{find, number};
use crate::knobs::Setting;

/// The devices of this network namespace.
pub(crate) struct Device(Ethtool);

impl Device {
    pub(crate) fn open() -> io::Result<Self> {
        Ethtool::open().map(Self)
    }

    /// A feature as `ethtool -k` writes it: `on`, `off`, `on [fixed]`, `off [requested on]`.
    pub(crate) fn feature(&self, index: u32, name: &str) -> io::Result<Option<String>> {
        let answer = self.0.tell(FEATURES_GET, index, Vec::new())?.unwrap_or_default();
        Ok(read_feature(&answer, name))
    }

    pub(crate) fn set_feature(&self, index: u32, name: &str, on: bool) -> io::Result<()> {
        let mut bit = nested(BIT_NAME, &[name.as_bytes(), b"\0"].concat());
        if on {
            bit.extend(nested(BIT_VALUE, &[]));
        }
        let bit = nested(BITS_BIT | NESTED, &bit);
        let set = nested(BITSET_BITS | NESTED, &bit);
        let wanted = DefaultNla::new(FEATURES_WANTED | NESTED, set);
        self.0.tell(FEATURES_GET + 1, index, vec![wanted]).map(|_| ())
    }

    /// A number of the driver; `None`: it has no such thing.
    pub(crate) fn number(&self, index: u32, setting: &Setting) -> io::Result<Option<u64>> {
        let answer = self.0.tell(setting.get, index, Vec::new())?.unwrap_or_default();
        let read = |kind| find(&answer, kind).and_then(number);
        // A device that has none of it says that the most is none.
        let none = setting.max.is_some_and(|max| read(max).unwrap_or(0) == 0);
        Ok(read(setting.kind).filter(|_| !none))
    }

    pub(crate) fn set_number(&self, index: u32, setting: &Setting, value: u64) -> io::Result<()> {
        let width = usize::from(setting.width);
        let bytes = match width {
            1 => u8::try_from(value).map(|value| value.to_ne_bytes().to_vec()),
            _ => u32::try_from(value).map(|value| value.to_ne_bytes().to_vec()),
        };
        let bytes = bytes.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let value = DefaultNla::new(setting.kind, bytes);
        self.0.tell(setting.get + 1, index, vec![value]).map(|_| ())
    }
}

fn read_feature(answer: &[DefaultNla], name: &str) -> Option<String> {
    let has = |kind| bits(answer, kind).unwrap_or_default().into_iter().any(|(one, _)| one == name);
    // The hardware's set has a mask: what is in it at all exists, what is marked can be changed.
    let (_, changeable) = bits(answer, FEATURES_HW)?.into_iter().find(|(one, _)| one == name)?;
    let never = bits(answer, FEATURES_NOCHANGE)
        .unwrap_or_default()
        .into_iter()
        .any(|(one, marked)| one == name && marked);
    let word = |on| if on { "on" } else { "off" };
    let (active, wanted) = (has(FEATURES_ACTIVE), has(FEATURES_WANTED));
    Some(match (changeable && !never, active == wanted) {
        (false, _) => format!("{} [fixed]", word(active)),
        (true, true) => word(active).to_owned(),
        (true, false) => format!("{} [requested {}]", word(active), word(wanted)),
    })
}

// linux/ethtool_netlink.h
const FEATURES_HW: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const FEATURES_NOCHANGE: u16 = 5;
const BITS_BIT: u16 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn set(kind: u16, names: &[(&str, bool)]) -> DefaultNla {
        let bit = |(name, marked): &(&str, bool)| {
            let mut bit = nested(BIT_NAME, format!("{name}\0").as_bytes());
            if *marked {
                bit.extend(nested(BIT_VALUE, &[]));
            }
            nested(BITS_BIT | NESTED, &bit)
        };
        let bits: Vec<u8> = names.iter().flat_map(bit).collect();
        DefaultNla::new(kind | NESTED, nested(BITSET_BITS | NESTED, &bits))
    }

    #[test]
    fn features_are_written_as_ethtool_does() {
        let answer = [
            set(FEATURES_HW, &[("a", true), ("b", true), ("c", false), ("d", true), ("e", true)]),
            set(FEATURES_WANTED, &[("a", false), ("b", false)]),
            set(FEATURES_ACTIVE, &[("a", false), ("c", false), ("e", false)]),
            set(FEATURES_NOCHANGE, &[("e", true), ("a", false)]),
        ];
        let read = |name| read_feature(&answer, name);
        assert_eq!(read("a").as_deref(), Some("on"));
        assert_eq!(read("b").as_deref(), Some("off [requested on]"));
        assert_eq!(read("c").as_deref(), Some("on [fixed]"));
        assert_eq!(read("d").as_deref(), Some("off"));
        assert_eq!(read("e").as_deref(), Some("on [fixed]"));
        assert_eq!(read("f"), None);
        assert_eq!(read_feature(&[], "a"), None);
    }

    #[test]
    fn loopback_has_features_and_no_rings() {
        let device = Device::open().unwrap();
        let lo = 1;
        assert_eq!(device.feature(lo, "loopback").unwrap().as_deref(), Some("on [fixed]"));
        assert_eq!(device.feature(lo, "no-such-feature").unwrap(), None);
        let setting =
            Setting { option: 'G', word: "rx", get: 15, kind: 6, max: Some(2), width: 4, least: 1 };
        let ring = device.number(lo, &setting);
        assert!(!matches!(ring, Ok(Some(_))), "{ring:?}");
    }
}
