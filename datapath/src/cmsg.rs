//! cmsg writes and reads the control messages beside a datagram.
//!
//! ```text
//! out: ECN | source address | segment size      in: stride | ECN | target | dropped
//! ```
//!
//! The segment size is last, so that the same bytes without their tail describe a single datagram.
//! Everything here is plain byte handling: the layout is the kernel's ABI (a `usize` length that
//! counts its own header, two `int`s, the data, padding to the next `usize`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libc::c_int;

use crate::address::{array, canonical};
use crate::traffic::Ecn;

/// Control space per message. An IPv6 socket costs most: stride 24, ECN 24 and IPV6_PKTINFO 40
/// bytes make 88, and 24 for what was dropped 112. Less space is MSG_CTRUNC, which loses the ECN
/// codepoint or the address.
pub(crate) const CONTROL_BYTES: usize = 128;

/// Control messages of one datagram or train that leaves.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(crate) struct Control {
    bytes: [u8; CONTROL_BYTES],
    single_bytes: usize,
    train_bytes: usize,
}

impl Control {
    pub(crate) const EMPTY: Self =
        Self { bytes: [0; CONTROL_BYTES], single_bytes: 0, train_bytes: 0 };

    /// Writes the control messages for a peer that really is (not: is mapped to) of the family of
    /// `target`. The kernel reads IP level messages for IPv4 peers on sockets of either family.
    pub(crate) fn encode(
        &mut self,
        target: IpAddr,
        source: Option<IpAddr>,
        ecn: Option<Ecn>,
        segment: Option<u16>,
    ) {
        self.single_bytes = 0;
        if let Some(ecn) = ecn {
            let tos = c_int::from(ecn as u8).to_ne_bytes();
            match target {
                IpAddr::V4(_) => self.push(libc::IPPROTO_IP, libc::IP_TOS, &tos),
                IpAddr::V6(_) => self.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &tos),
            }
        }
        match (target, source) {
            (IpAddr::V4(_), Some(IpAddr::V4(source))) => {
                // in_pktinfo { interface index 0, source, unused }
                let mut info = [0; PKTINFO_V4_BYTES];
                info[4..8].copy_from_slice(&source.octets());
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            (IpAddr::V6(_), Some(IpAddr::V6(source))) => {
                // in6_pktinfo { source, interface index 0 }
                let mut info = [0; PKTINFO_V6_BYTES];
                info[..16].copy_from_slice(&source.octets());
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            // A source of the other family cannot be: the routing table chooses.
            _ => {}
        }
        let single_bytes = self.single_bytes;
        if let Some(segment) = segment {
            self.push(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        self.train_bytes = self.single_bytes;
        self.single_bytes = single_bytes;
    }

    /// The messages that go with a single datagram.
    pub(crate) fn single(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.single_bytes]
    }

    /// The messages that go with the whole train.
    pub(crate) fn train(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.train_bytes]
    }

    fn push(&mut self, level: c_int, kind: c_int, data: &[u8]) {
        let at = self.single_bytes;
        let end = at + HEADER_BYTES + data.len();
        self.bytes[at..at + LEN_BYTES].copy_from_slice(&(end - at).to_ne_bytes());
        self.bytes[at + LEN_BYTES..at + LEN_BYTES + 4].copy_from_slice(&level.to_ne_bytes());
        self.bytes[at + LEN_BYTES + 4..at + HEADER_BYTES].copy_from_slice(&kind.to_ne_bytes());
        self.bytes[at + HEADER_BYTES..end].copy_from_slice(data);
        self.single_bytes = end.next_multiple_of(LEN_BYTES);
        self.bytes[end..self.single_bytes].fill(0);
    }
}

/// What the control messages of a received train say.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Arrival {
    pub(crate) stride: Option<usize>,
    pub(crate) ecn: Option<Ecn>,
    pub(crate) target: Option<IpAddr>,
    /// What the socket had dropped, in all, when this train was queued; only once there is any.
    pub(crate) dropped: Option<u32>,
}

/// Reads control messages; what is unknown or cut short is skipped.
pub(crate) fn decode(mut control: &[u8]) -> Arrival {
    let mut arrival = Arrival::default();
    while let Some((level, kind, data, rest)) = next(control) {
        match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let stride = array(data, 0).map(c_int::from_ne_bytes);
                arrival.stride = stride.and_then(|stride| usize::try_from(stride).ok());
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                arrival.dropped = array(data, 0).map(u32::from_ne_bytes);
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => {
                arrival.ecn = data.first().and_then(|tos| Ecn::from_bits(*tos));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                let [low, ..] = array(data, 0).map_or(0, c_int::from_ne_bytes).to_le_bytes();
                arrival.ecn = Ecn::from_bits(low);
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let target = array::<4>(data, 8);
                arrival.target = target.map(|ip| IpAddr::V4(Ipv4Addr::from(ip)));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                arrival.target = array::<16>(data, 0).map(|ip| canonical(Ipv6Addr::from(ip)));
            }
            _ => {}
        }
        control = rest;
    }
    arrival
}

/// Level, type and data of the first control message, and what follows it.
fn next(control: &[u8]) -> Option<(c_int, c_int, &[u8], &[u8])> {
    let len = usize::from_ne_bytes(array(control, 0)?);
    let level = c_int::from_ne_bytes(array(control, LEN_BYTES)?);
    let kind = c_int::from_ne_bytes(array(control, LEN_BYTES + 4)?);
    let data = control.get(HEADER_BYTES..len)?;
    let rest = control.get(len.next_multiple_of(LEN_BYTES)..).unwrap_or_default();
    Some((level, kind, data, rest))
}

const LEN_BYTES: usize = size_of::<usize>();
const HEADER_BYTES: usize = LEN_BYTES + 2 * size_of::<c_int>();
const PKTINFO_V4_BYTES: usize = size_of::<libc::in_pktinfo>();
const PKTINFO_V6_BYTES: usize = size_of::<libc::in6_pktinfo>();
const _: () = assert!(PKTINFO_V4_BYTES == 12 && PKTINFO_V6_BYTES == 20);
const _: () = assert!(size_of::<libc::cmsghdr>() == HEADER_BYTES);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sys;

    /// Walks control messages with the macros of libc.
    fn by_libc(control: &mut [u8]) -> Vec<(c_int, c_int, Vec<u8>)> {
        let mut header = sys::empty_header();
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = control.len() as _;
        let mut found = Vec::new();
        // SAFETY: the header points to `control`, whole and alive.
        let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        while !message.is_null() {
            // SAFETY: libc checked that a whole header lies inside `control`.
            let here = unsafe { message.read_unaligned() };
            // SAFETY: as above.
            let data = unsafe { libc::CMSG_DATA(message) };
            let len = here.cmsg_len as usize - HEADER_BYTES;
            // SAFETY: `Control::push` wrote `len` bytes of data there.
            let data = unsafe { std::slice::from_raw_parts(data, len) };
            found.push((here.cmsg_level, here.cmsg_type, data.to_vec()));
            // SAFETY: as above.
            message = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
        }
        found
    }

    fn ecns() -> impl Strategy<Value = Option<Ecn>> {
        (0u8..4).prop_map(Ecn::from_bits)
    }

    proptest! {
        #[test]
        fn libc_reads_what_we_write(
            target: IpAddr,
            source: Option<IpAddr>,
            ecn in ecns(),
            segment: Option<u16>,
        ) {
            let mut control = Control::EMPTY;
            control.encode(target, source, ecn, segment);
            let source = source.filter(|source| source.is_ipv4() == target.is_ipv4());
            let count = usize::from(ecn.is_some()) + usize::from(source.is_some());
            prop_assert_eq!(by_libc(control.single()).len(), count);
            let train = by_libc(control.train());
            prop_assert_eq!(train.len(), count + usize::from(segment.is_some()));
            if let Some(segment) = segment {
                let (level, kind, data) = &train[count];
                prop_assert_eq!((*level, *kind), (libc::SOL_UDP, libc::UDP_SEGMENT));
                prop_assert_eq!(data.as_slice(), segment.to_ne_bytes());
            }
        }

        #[test]
        fn reads_what_the_kernel_writes(
            stride: u16,
            tos: u8,
            v4: Option<Ipv4Addr>,
            v6: Option<Ipv6Addr>,
            dropped: Option<u32>,
        ) {
            let mut control = Control::EMPTY;
            control.push(libc::SOL_UDP, libc::UDP_GRO, &c_int::from(stride).to_ne_bytes());
            let expected = if let Some(ip) = v4 {
                let mut info = [0; PKTINFO_V4_BYTES];
                info[8..].copy_from_slice(&ip.octets());
                control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
                control.push(libc::IPPROTO_IP, libc::IP_TOS, &[tos]);
                Some(IpAddr::V4(ip))
            } else if let Some(ip) = v6 {
                let mut info = [0; PKTINFO_V6_BYTES];
                info[..16].copy_from_slice(&ip.octets());
                control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
                let tos = c_int::from(tos).to_ne_bytes();
                control.push(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &tos);
                Some(canonical(ip))
            } else {
                control.push(libc::IPPROTO_IP, libc::IP_TOS, &[tos]);
                None
            };
            if let Some(dropped) = dropped {
                control.push(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &dropped.to_ne_bytes());
            }
            let arrival = decode(control.single());
            prop_assert_eq!(arrival.dropped, dropped);
            prop_assert_eq!(arrival.stride, Some(usize::from(stride)));
            prop_assert_eq!(arrival.ecn, Ecn::from_bits(tos));
            prop_assert_eq!(arrival.target, expected);
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
