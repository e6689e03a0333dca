//! ethtool asks generic netlink about offloads, channels and XDP of an interface.
//!
//! All of the asking is open to everybody. A kernel or driver that does not know the question is no
//! error: the answer is then `None`.

use std::io;

use netlink_packet_core::DefaultNla;

use super::netlink::{Generic, Netlink, Scope, attributes, find, number};

/// What an interface does for the processor, as `ethtool -k` shows it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Offloads {
    /// rx-gro
    pub(crate) gro: bool,
    /// rx-lro
    pub(crate) lro: bool,
    /// tx-checksum-ip-generic, or the one for IPv4 or IPv6
    pub(crate) send_checksum: bool,
    /// tx-udp-segmentation
    pub(crate) udp_segmentation: bool,
}

/// Receive channels, as `ethtool -l` shows them: combined and receive-only ones together.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Channels {
    pub(crate) now: u64,
    pub(crate) max: u64,
    /// Whether they are set by `combined`, not by `rx`.
    pub(crate) combined: bool,
}

/// What the driver says about XDP, linux/netdev.h.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct XdpFeatures(pub(crate) u64);

impl XdpFeatures {
    /// Programs run in the driver.
    pub(crate) fn native(self) -> bool {
        self.0 & 1 != 0
    }

    /// Frames of more than one buffer reach a program that declares to know them.
    pub(crate) fn fragments(self) -> bool {
        self.0 & (1 << 5) != 0
    }
}

/// The families that answer here.
pub(crate) struct Ethtool {
    netlink: Netlink,
    ethtool: Option<u16>,
    netdev: Option<u16>,
}

impl Ethtool {
    pub(crate) fn open() -> io::Result<Self> {
        let netlink = Netlink::generic()?;
        let ethtool = Generic::family(&netlink, "ethtool").ok();
        let netdev = Generic::family(&netlink, "netdev").ok();
        Ok(Self { netlink, ethtool, netdev })
    }

    pub(super) fn offloads(&self, index: u32) -> Option<Offloads> {
        Some(read_offloads(&self.ethtool(FEATURES_GET, index)?))
    }

    pub(super) fn channels(&self, index: u32) -> Option<Channels> {
        read_channels(&self.ethtool(CHANNELS_GET, index)?)
    }

    pub(super) fn xdp(&self, index: u32) -> Option<XdpFeatures> {
        let index = DefaultNla::new(NETDEV_IFINDEX, index.to_ne_bytes().to_vec());
        let answer = self.ask(self.netdev?, NETDEV_DEV_GET, index)?;
        Some(XdpFeatures(number(find(&answer, NETDEV_XDP_FEATURES)?)?))
    }

    fn ethtool(&self, command: u8, index: u32) -> Option<Vec<DefaultNla>> {
        self.tell(command, index, Vec::new()).ok()?
    }

    /// Sends a command about an interface with more attributes; what the kernel answers beside
    /// "done".
    pub(crate) fn tell(
        &self,
        command: u8,
        index: u32,
        mut more: Vec<DefaultNla>,
    ) -> io::Result<Option<Vec<DefaultNla>>> {
        let family = self.ethtool.ok_or(io::ErrorKind::Unsupported)?;
        let index = nested(HEADER_DEV_INDEX, &index.to_ne_bytes());
        more.insert(0, DefaultNla::new(HEADER | NESTED, index));
        let question = Generic { family, command, attributes: more };
        let answers = self.netlink.ask(question, Scope::One)?;
        Ok(answers.into_iter().next().map(|answer| answer.attributes))
    }

    fn ask(&self, family: u16, command: u8, about: DefaultNla) -> Option<Vec<DefaultNla>> {
        let question = Generic { family, command, attributes: vec![about] };
        let answers = self.netlink.ask(question, Scope::One).ok()?;
        Some(answers.into_iter().next()?.attributes)
    }
}

fn read_offloads(answer: &[DefaultNla]) -> Offloads {
    let on: Vec<String> = active(answer).unwrap_or_default();
    let has = |name: &str| on.iter().any(|one| one == name);
    Offloads {
        gro: has("rx-gro"),
        lro: has("rx-lro"),
        send_checksum: has("tx-checksum-ip-generic")
            || has("tx-checksum-ipv4")
            || has("tx-checksum-ipv6"),
        udp_segmentation: has("tx-udp-segmentation"),
    }
}

/// The names of the features that are on.
fn active(answer: &[DefaultNla]) -> Option<Vec<String>> {
    let bits = bits(answer, FEATURES_ACTIVE)?;
    Some(bits.into_iter().map(|(name, _)| name).collect())
}

/// A bit set whose bits are named one by one: each name, and whether it is marked as set. A set
/// without a mask has only bits that are set, and marks none.
pub(crate) fn bits(answer: &[DefaultNla], kind: u16) -> Option<Vec<(String, bool)>> {
    let set = attributes(&find(answer, kind)?);
    let bits = find(&set, BITSET_BITS)?;
    let mut names = Vec::new();
    let mut rest = bits.as_slice();
    // The bits share one kind, so they are taken one after the other.
    while let [a, b, ..] = rest {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        let bit = attributes(rest.get(4..length)?);
        let name = find(&bit, BIT_NAME)?;
        let name = String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(&name)).into();
        names.push((name, find(&bit, BIT_VALUE).is_some()));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(names)
}

/// An attribute to be put into another one.
pub(crate) fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn read_channels(answer: &[DefaultNla]) -> Option<Channels> {
    let count = |kind| find(answer, kind).and_then(number).unwrap_or(0);
    let (combined, combined_max) = (count(COMBINED_COUNT), count(COMBINED_MAX));
    let (rx, rx_max) = (count(RX_COUNT), count(RX_MAX));
    let channels =
        Channels { now: combined + rx, max: combined_max.max(rx_max), combined: combined_max > 0 };
    (channels.now > 0).then_some(channels)
}

// linux/ethtool_netlink.h
pub(crate) const FEATURES_GET: u8 = 11;
const CHANNELS_GET: u8 = 17;
pub(crate) const NESTED: u16 = 1 << 15;
const HEADER: u16 = 1;
const HEADER_DEV_INDEX: u16 = 1;
pub(crate) const FEATURES_ACTIVE: u16 = 4;
pub(crate) const BITSET_BITS: u16 = 3;
pub(crate) const BIT_NAME: u16 = 2;
pub(crate) const BIT_VALUE: u16 = 3;
const RX_MAX: u16 = 2;
const COMBINED_MAX: u16 = 5;
const RX_COUNT: u16 = 6;
const COMBINED_COUNT: u16 = 9;

// linux/netdev.h
const NETDEV_DEV_GET: u8 = 1;
const NETDEV_IFINDEX: u16 = 1;
const NETDEV_XDP_FEATURES: u16 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn features(names: &[&str]) -> Vec<DefaultNla> {
        let bit = |name: &&str| {
            let name = nested(BIT_NAME, format!("{name}\0").as_bytes());
            nested(1 | NESTED, &[nested(1, &7_u32.to_ne_bytes()), name].concat())
        };
        let bits: Vec<u8> = names.iter().flat_map(bit).collect();
        let set = [nested(1, &[]), nested(BITSET_BITS | NESTED, &bits)].concat();
        vec![DefaultNla::new(FEATURES_ACTIVE | NESTED, set)]
    }

    #[test]
    fn offloads_are_read_by_name() {
        let on = read_offloads(&features(&["rx-gro", "tx-checksum-ip-generic", "rx-hashing"]));
        assert_eq!(on, Offloads { gro: true, send_checksum: true, ..Offloads::default() });
        let on = read_offloads(&features(&["rx-lro", "tx-udp-segmentation", "tx-checksum-ipv4"]));
        assert!(on.lro && on.udp_segmentation && on.send_checksum && !on.gro);
        assert_eq!(read_offloads(&[]), Offloads::default());
    }

    #[test]
    fn channels_are_combined_or_not() {
        let count = |kind, count: u32| DefaultNla::new(kind, count.to_ne_bytes().to_vec());
        let combined = [count(COMBINED_MAX, 63), count(COMBINED_COUNT, 16)];
        let expected = Channels { now: 16, max: 63, combined: true };
        assert_eq!(read_channels(&combined), Some(expected));
        let split = [count(RX_MAX, 8), count(RX_COUNT, 1)];
        assert_eq!(read_channels(&split), Some(Channels { now: 1, max: 8, combined: false }));
        assert_eq!(read_channels(&[]), None);
    }

    #[test]
    fn xdp_features_are_bits() {
        assert!(XdpFeatures(0x23).native() && XdpFeatures(0x23).fragments());
        assert!(!XdpFeatures(0).native() && !XdpFeatures(3).fragments());
    }
}
