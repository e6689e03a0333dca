//! frame finds the UDP datagram in an Ethernet frame: what the kernel's first program is given.
//!
//! In come the bytes of a frame, out comes where its UDP payload lies, or why nobody here looks
//! any further. Whatever is not understood is left to the kernel, which understands more.
//!
//! ```text
//!   Ethernet 14 | 802.1Q or 802.1ad tag, 0 to 2 times 4 | IPv4 20..60 or IPv6 40 | UDP 8 | payload
//! ```
//!
//! Invariant: the payload of a [`Located`] lies inside the frame, and inside what the IP header
//! says: Ethernet padding is no payload.

use core::fmt;

use crate::Bytes;

/// Where a frame carries its UDP datagram. Offsets count from the first byte of the frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Located {
    /// Which IP carries it, and so how long its addresses are.
    pub ip: IpVersion,
    /// Where the source address starts; the destination address is right behind it.
    pub source_at: usize,
    /// The UDP source port.
    pub source_port: u16,
    /// The UDP destination port.
    pub target_port: u16,
    /// Where the UDP payload starts.
    pub payload_at: usize,
    /// How many bytes the UDP payload has.
    pub payload_len: usize,
}

impl Located {
    /// Where the destination address starts.
    #[inline]
    pub const fn target_at(&self) -> usize {
        self.source_at + self.ip.address_len()
    }

    /// Where the IP header starts: behind Ethernet's and up to two VLAN tags.
    #[inline]
    pub const fn ip_at(&self) -> usize {
        self.source_at - self.ip.addresses_at()
    }
}

/// The two versions of IP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IpVersion {
    /// IPv4, RFC 791.
    V4,
    /// IPv6, RFC 8200.
    V6,
}

impl IpVersion {
    /// How many bytes an address has.
    #[inline]
    pub const fn address_len(self) -> usize {
        match self {
            Self::V4 => 4,
            Self::V6 => 16,
        }
    }

    /// Where in the header the addresses are.
    #[inline]
    const fn addresses_at(self) -> usize {
        match self {
            Self::V4 => IPV4_ADDRESSES_AT,
            Self::V6 => IPV6_ADDRESSES_AT,
        }
    }
}

/// Why a frame is left to the kernel as it is: one list for kernel and workers, each a metric
/// label. None of these is ever dropped.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Untouched {
    /// Neither IPv4 nor IPv6 behind at most two VLAN tags: ARP, a third tag, 802.3.
    NotIp,
    /// Headers that contradict each other, or a frame that ends before they say.
    Malformed,
    /// A fragment: only the first one has ports, and the kernel puts them together.
    Fragment,
    /// IPv6 with an extension header in front of UDP, if there is one.
    ExtensionHeader,
    /// IP in IP or GRE: the datagram inside is seen once the kernel has unpacked it.
    Tunnel,
    /// Another protocol than UDP.
    NotUdp,
    /// UDP to a port that the server does not listen on.
    OtherPort,
    /// UDP to a port of the server at an address that is not its own.
    OtherAddress,
    /// Longer than the device can receive, so datagrams that were merged before they got here; or
    /// in several pieces of memory.
    Merged,
}

impl Untouched {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::NotIp,
        Self::Malformed,
        Self::Fragment,
        Self::ExtensionHeader,
        Self::Tunnel,
        Self::NotUdp,
        Self::OtherPort,
        Self::OtherAddress,
        Self::Merged,
    ];

    /// The name of this reason as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
            Self::Malformed => "malformed",
            Self::Fragment => "fragment",
            Self::ExtensionHeader => "extension_header",
            Self::Tunnel => "tunnel",
            Self::NotUdp => "not_udp",
            Self::OtherPort => "other_port",
            Self::OtherAddress => "other_address",
            Self::Merged => "merged",
        }
    }
}

impl fmt::Display for Untouched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Finds the UDP datagram in an Ethernet frame.
///
/// # Errors
///
/// The reasons of [`Untouched`] up to [`Untouched::NotUdp`]. The rest is for the caller, who knows
/// the server and the device.
#[inline]
pub fn locate<B: Bytes + ?Sized>(frame: &B) -> Result<Located, Untouched> {
    let mut tag_bytes = 0;
    let mut ether_type = read_u16(frame, ETHER_TYPE_AT)?;
    for _ in 0..TAGS_MAX {
        if !matches!(ether_type, ETHER_TYPE_VLAN | ETHER_TYPE_SERVICE_VLAN) {
            break;
        }
        tag_bytes += TAG_LEN;
        ether_type = read_u16(frame, ETHER_TYPE_AT + tag_bytes)?;
    }
    match ether_type {
        ETHER_TYPE_IPV4 => ipv4(frame, tag_bytes),
        ETHER_TYPE_IPV6 => ipv6(frame, tag_bytes),
        _ => Err(Untouched::NotIp),
    }
}

#[inline]
fn ipv4<B: Bytes + ?Sized>(frame: &B, tag_bytes: usize) -> Result<Located, Untouched> {
    let ip_at = IP_AT + tag_bytes;
    let [first, _, len_high, len_low, _, _, flags, offset, _, protocol] =
        frame.read(ip_at).ok_or(Untouched::Malformed)?;
    let header_len = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header_len < IPV4_LEN {
        return Err(Untouched::Malformed);
    }
    // More fragments follow, or this is not the first one.
    if u16::from_be_bytes([flags, offset]) & 0x3fff != 0 {
        return Err(Untouched::Fragment);
    }
    carries_udp(protocol)?;
    let ip_len = usize::from(u16::from_be_bytes([len_high, len_low]));
    let ip = Ip { version: IpVersion::V4, at: ip_at, header_len, len: ip_len };
    udp(frame, &ip)
}

#[inline]
fn ipv6<B: Bytes + ?Sized>(frame: &B, tag_bytes: usize) -> Result<Located, Untouched> {
    let ip_at = IP_AT + tag_bytes;
    let [first, _, _, _, len_high, len_low, next_header] =
        frame.read(ip_at).ok_or(Untouched::Malformed)?;
    if first >> 4 != 6 {
        return Err(Untouched::Malformed);
    }
    match next_header {
        44 => return Err(Untouched::Fragment),
        // Hop-by-hop, routing, ESP, AH, destination options, mobility, HIP, Shim6: RFC 7045.
        0 | 43 | 50 | 51 | 60 | 135 | 139 | 140 => return Err(Untouched::ExtensionHeader),
        _ => carries_udp(next_header)?,
    }
    // A length of zero would be a jumbogram: it is too short for a UDP header, so malformed.
    let ip_len = IPV6_LEN + usize::from(u16::from_be_bytes([len_high, len_low]));
    let header_len = IPV6_LEN;
    let ip = Ip { version: IpVersion::V6, at: ip_at, header_len, len: ip_len };
    udp(frame, &ip)
}

/// What [`udp`] needs to know of the header in front of it.
struct Ip {
    version: IpVersion,
    at: usize,
    header_len: usize,
    /// Header and everything behind it.
    len: usize,
}

#[inline]
fn udp<B: Bytes + ?Sized>(frame: &B, ip: &Ip) -> Result<Located, Untouched> {
    let udp_at = ip.at + ip.header_len;
    let [source_high, source_low, target_high, target_low, len_high, len_low] =
        frame.read(udp_at).ok_or(Untouched::Malformed)?;
    let udp_len = usize::from(u16::from_be_bytes([len_high, len_low]));
    let payload_at = udp_at + UDP_LEN;
    // The kernel cuts a datagram off where UDP says that it ends, and drops one that ends later
    // than IP or the frame.
    let fits = ip.header_len + udp_len <= ip.len && frame.holds(ip.at + ip.len);
    let payload_len = match udp_len.checked_sub(UDP_LEN) {
        Some(payload_len) if fits => payload_len,
        _ => return Err(Untouched::Malformed),
    };
    Ok(Located {
        ip: ip.version,
        source_at: ip.at + ip.version.addresses_at(),
        source_port: u16::from_be_bytes([source_high, source_low]),
        target_port: u16::from_be_bytes([target_high, target_low]),
        payload_at,
        payload_len,
    })
}

#[inline]
fn carries_udp(protocol: u8) -> Result<(), Untouched> {
    match protocol {
        17 => Ok(()),
        // IP in IP, IPv6 in IP, GRE.
        4 | 41 | 47 => Err(Untouched::Tunnel),
        _ => Err(Untouched::NotUdp),
    }
}

#[inline]
fn read_u16<B: Bytes + ?Sized>(frame: &B, at: usize) -> Result<u16, Untouched> {
    frame.read(at).map(u16::from_be_bytes).ok_or(Untouched::Malformed)
}

const ETHER_TYPE_AT: usize = 12;
const ETHER_TYPE_IPV4: u16 = 0x0800;
const ETHER_TYPE_IPV6: u16 = 0x86dd;
const ETHER_TYPE_VLAN: u16 = 0x8100;
const ETHER_TYPE_SERVICE_VLAN: u16 = 0x88a8;
const TAG_LEN: usize = 4;
/// A service tag and a customer tag, IEEE 802.1ad.
const TAGS_MAX: usize = 2;
const IP_AT: usize = 14;
const IPV4_LEN: usize = 20;
const IPV4_ADDRESSES_AT: usize = 12;
const IPV6_LEN: usize = 40;
const IPV6_ADDRESSES_AT: usize = 8;
const UDP_LEN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_listed_by_number_and_named_apart() {
        for (index, reason) in Untouched::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            let name = reason.name();
            assert!(name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()));
            let same = Untouched::ALL.iter().filter(|other| other.name() == name);
            assert_eq!(same.count(), 1, "{name}");
        }
    }

    #[test]
    fn a_plain_frame_is_read() {
        let mut frame = [0; 14 + 20 + 8 + 5];
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x45;
        frame[17] = 20 + 8 + 5;
        frame[23] = 17;
        frame[34..40].copy_from_slice(&[0x12, 0x34, 0x11, 0x51, 0, 8 + 3]);
        let located = Located {
            ip: IpVersion::V4,
            source_at: 26,
            source_port: 0x1234,
            target_port: 4433,
            payload_at: 42,
            payload_len: 3,
        };
        assert_eq!(locate(&frame[..]), Ok(located));
        assert_eq!((located.target_at(), located.ip_at()), (30, 14));
        for len in 0..frame.len() {
            assert_eq!(locate(&frame[..len]), Err(Untouched::Malformed), "{len}");
        }
    }
}
