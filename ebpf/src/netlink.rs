//! netlink asks the kernel which XDP programs an interface has, and of what kind it is:
//! rtnetlink(7), one question.
//!
//! Whoever attached it: a program that came over netlink has no bpf_link that could be listed.

use std::io::{self, Read, Write};

use socket2::{Domain, Protocol, Socket, Type};

use crate::Mode;

/// What the kernel says of an interface.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Link {
    /// The ids of its XDP programs, one a mode at most.
    pub(crate) programs: Vec<(Mode, u32)>,
    pub(crate) is_veth: bool,
}

/// Asks about an interface.
///
/// # Errors
/// `NotFound` or ENODEV if there is no such interface.
pub(crate) fn link(interface: &str) -> io::Result<Link> {
    let mut socket = Socket::new(Domain::from(AF_NETLINK), Type::RAW, Some(Protocol::from(0)))?;
    socket.write_all(&question(interface)?)?;
    let mut answer = vec![0; ANSWER_LEN_MAX];
    let len = socket.read(&mut answer)?;
    answer.truncate(len);
    read_answer(&answer)
}

/// An RTM_GETLINK request by name.
fn question(interface: &str) -> io::Result<Vec<u8>> {
    let name_len = u16::try_from(interface.len() + 1).ok().filter(|len| *len <= NAME_LEN_MAX);
    let name_len = name_len.ok_or(io::ErrorKind::NotFound)?;
    let mut message = vec![0; HEADER_LEN + LINK_LEN];
    message.extend((ATTRIBUTE_LEN_U16 + name_len).to_ne_bytes());
    message.extend(IFLA_IFNAME.to_ne_bytes());
    message.extend(interface.as_bytes());
    message.push(0);
    message.resize(message.len().next_multiple_of(4), 0);
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX);
    message[..4].copy_from_slice(&len.to_ne_bytes());
    message[4..6].copy_from_slice(&RTM_GETLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    Ok(message)
}

fn read_answer(answer: &[u8]) -> io::Result<Link> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "netlink answer cut short");
    let kind = u16_at(answer, 4).ok_or_else(malformed)?;
    if kind == NLMSG_ERROR {
        let error = u32_at(answer, HEADER_LEN).ok_or_else(malformed)?;
        return Err(io::Error::from_raw_os_error(error.cast_signed().wrapping_neg()));
    }
    let attributes_at = HEADER_LEN + LINK_LEN;
    let link = answer.get(attributes_at..).ok_or_else(malformed)?;
    let kind = attribute(link, IFLA_LINKINFO).and_then(|info| attribute(info, IFLA_INFO_KIND));
    let is_veth = kind.is_some_and(|kind| kind == VETH);
    Ok(Link { programs: programs(link), is_veth })
}

fn programs(link: &[u8]) -> Vec<(Mode, u32)> {
    let Some(xdp) = attribute(link, IFLA_XDP) else { return Vec::new() };
    let by_mode = [
        (Mode::Native, IFLA_XDP_DRV_PROG_ID),
        (Mode::Generic, IFLA_XDP_SKB_PROG_ID),
        (Mode::Hardware, IFLA_XDP_HW_PROG_ID),
    ];
    let id = |kind| u32_at(attribute(xdp, kind)?, 0).filter(|id| *id != 0);
    let found: Vec<_> =
        by_mode.into_iter().filter_map(|(mode, kind)| Some((mode, id(kind)?))).collect();
    if !found.is_empty() {
        return found;
    }
    // Kernels before 4.19 have one program at most, and say its mode apart from its id.
    let mode = match attribute(xdp, IFLA_XDP_ATTACHED) {
        Some([XDP_ATTACHED_DRV]) => Mode::Native,
        Some([XDP_ATTACHED_HW]) => Mode::Hardware,
        _ => Mode::Generic,
    };
    id(IFLA_XDP_PROG_ID).map(|id| (mode, id)).into_iter().collect()
}

/// The value of the first attribute of this kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let len = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)? & NLA_TYPE_MASK;
        let value = attributes.get(ATTRIBUTE_LEN..len)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(len.next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

const AF_NETLINK: i32 = 16;
/// `struct nlmsghdr`: length, type, flags, sequence, port.
const HEADER_LEN: usize = 16;
/// `struct ifinfomsg`.
const LINK_LEN: usize = 16;
/// `struct nlattr`: length and type.
const ATTRIBUTE_LEN: usize = 4;
const ATTRIBUTE_LEN_U16: u16 = 4;
/// IFNAMSIZ, with the zero at the end.
const NAME_LEN_MAX: u16 = 16;
const RTM_GETLINK: u16 = 18;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLA_TYPE_MASK: u16 = 0x3fff;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const VETH: &[u8] = b"veth\0";
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
const XDP_ATTACHED_DRV: u8 = 1;
const XDP_ATTACHED_HW: u8 = 3;
/// More than any link message without virtual functions.
const ANSWER_LEN_MAX: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    /// RTM_NEWLINK of one end of a veth pair with an XDP program, from Linux 6.18, without its
    /// counters.
    const OF_VETH: &str = "\
        800000001000000001000000515c0000000001000600000043100100000000000b0003006476657468300000\
        08000d00e803000008000400dc05000008001f000200000008002000020000001c002b000800050050010000\
        05000200010000000800040050010000100012000900010076657468000000000800050005000000";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
        (0..hex.len() / 2).map(digits).collect()
    }

    /// An answer about an interface that has these attributes of XDP.
    fn answer(attributes: &[u8]) -> Vec<u8> {
        let mut answer = question("eth0").unwrap();
        let len = u16::try_from(ATTRIBUTE_LEN + attributes.len()).unwrap();
        answer.extend(len.to_ne_bytes());
        answer.extend((IFLA_XDP | 0x8000).to_ne_bytes());
        answer.extend(attributes);
        answer
    }

    #[test]
    fn loopback_exists_and_others_do_not() {
        link("lo").unwrap();
        assert!(link("no such device").is_err());
        let long = link("a name that is longer than the kernel allows").unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_recorded_veth_with_a_program_is_understood() {
        assert_eq!(read_answer(&bytes(OF_VETH)).unwrap().programs, [(Mode::Native, 336)]);
    }

    #[test]
    fn several_programs_have_a_mode_each() {
        let both = [5, 0, 2, 0, 4, 0, 0, 0, 8, 0, 5, 0, 7, 0, 0, 0, 8, 0, 6, 0, 9, 0, 0, 0];
        let expected = [(Mode::Native, 7), (Mode::Generic, 9)];
        assert_eq!(read_answer(&answer(&both)).unwrap().programs, expected);
        let old = [5, 0, 2, 0, 2, 0, 0, 0, 8, 0, 4, 0, 3, 0, 0, 0];
        assert_eq!(read_answer(&answer(&old)).unwrap().programs, [(Mode::Generic, 3)]);
        let none = [5, 0, 2, 0, 0, 0, 0, 0];
        assert_eq!(read_answer(&answer(&none)).unwrap().programs, []);
    }

    #[test]
    fn an_answer_cut_anywhere_is_no_panic() {
        let mut answer = answer(&[8, 0, 5, 0, 57, 0, 0, 0]);
        assert_eq!(read_answer(&answer).unwrap().programs, [(Mode::Native, 57)]);
        for len in 0..answer.len() {
            assert!(read_answer(&answer[..len]).unwrap_or_default().programs.is_empty(), "{len}");
        }
        answer[4] = 2;
        assert!(read_answer(&answer).is_err());
    }
}
