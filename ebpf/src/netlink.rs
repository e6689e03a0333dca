//! netlink asks the kernel which XDP program an interface has: rtnetlink(7), one question.
//!
//! Whoever attached it: a program that came over netlink has no bpf_link that could be listed.

use std::io::{self, Read, Write};

use socket2::{Domain, Protocol, Socket, Type};

/// The id of the XDP program on an interface, if there is one; `None` as well if several modes
/// have programs of their own and the kernel names none of them first.
///
/// # Errors
/// `NotFound` or ENODEV if there is no such interface.
pub(crate) fn xdp_program(interface: &str) -> io::Result<Option<u32>> {
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

fn read_answer(answer: &[u8]) -> io::Result<Option<u32>> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "netlink answer cut short");
    let kind = u16_at(answer, 4).ok_or_else(malformed)?;
    if kind == NLMSG_ERROR {
        let error = u32_at(answer, HEADER_LEN).ok_or_else(malformed)?;
        return Err(io::Error::from_raw_os_error(error.cast_signed().wrapping_neg()));
    }
    let attributes_at = HEADER_LEN + LINK_LEN;
    let link = answer.get(attributes_at..).ok_or_else(malformed)?;
    let Some(xdp) = attribute(link, IFLA_XDP) else { return Ok(None) };
    let ids = [IFLA_XDP_PROG_ID, IFLA_XDP_DRV_PROG_ID, IFLA_XDP_SKB_PROG_ID, IFLA_XDP_HW_PROG_ID];
    Ok(ids.iter().find_map(|id| u32_at(attribute(xdp, *id)?, 0)).filter(|id| *id != 0))
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
const IFLA_XDP: u16 = 43;
const IFLA_XDP_PROG_ID: u16 = 4;
const IFLA_XDP_DRV_PROG_ID: u16 = 5;
const IFLA_XDP_SKB_PROG_ID: u16 = 6;
const IFLA_XDP_HW_PROG_ID: u16 = 7;
/// More than any link message without virtual functions.
const ANSWER_LEN_MAX: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_exists_and_others_do_not() {
        xdp_program("lo").unwrap();
        assert!(xdp_program("no such device").is_err());
        let long = xdp_program("a name that is longer than the kernel allows").unwrap_err();
        assert_eq!(long.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn an_answer_cut_anywhere_is_no_panic() {
        let mut answer = question("eth0").unwrap();
        answer.extend([12, 0, 43, 0x80, 8, 0, 4, 0, 57, 0, 0, 0]);
        assert_eq!(read_answer(&answer).unwrap(), Some(57));
        for len in 0..answer.len() {
            assert_ne!(read_answer(&answer[..len]).ok().flatten(), Some(57));
        }
        answer[4] = 2;
        assert!(read_answer(&answer).is_err());
    }
}
