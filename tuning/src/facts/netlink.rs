//! netlink asks the kernel one question at a time and waits for nothing.
//!
//! The kernel has its answer ready when the question has been sent, so a socket that would block
//! is one that nobody answers on.

use std::io;

use netlink_packet_core::{
    DecodeError, DefaultNla, Emitable, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
    NlasIterator, Parseable,
};
use netlink_sys::protocols::{NETLINK_GENERIC, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};

/// A conversation with one part of the kernel.
pub(super) struct Netlink(Socket);

/// Whether one object is asked for or all of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Scope {
    One,
    All,
}

impl Netlink {
    /// About interfaces and addresses.
    pub(super) fn route() -> io::Result<Self> {
        Self::connect(NETLINK_ROUTE)
    }

    /// About everything that has a family by name.
    pub(super) fn generic() -> io::Result<Self> {
        Self::connect(NETLINK_GENERIC)
    }

    fn connect(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        Ok(Self(socket))
    }

    /// Everything the kernel answers.
    pub(super) fn ask<M>(&self, question: M, scope: Scope) -> io::Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST
            | match scope {
                Scope::One => NLM_F_ACK,
                Scope::All => NLM_F_DUMP,
            };
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(question));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (datagram, _) = self.0.recv_from_full()?;
            if read(&datagram, &mut answers)? == End::Reached {
                return Ok(answers);
            }
        }
    }
}

/// Whether more datagrams belong to an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    Reached,
    Ahead,
}

/// Adds the messages of one datagram to `answers`. What this program is too old to understand is
/// left out.
pub(super) fn read<M: NetlinkDeserializable>(
    datagram: &[u8],
    answers: &mut Vec<M>,
) -> io::Result<End> {
    let mut rest = datagram;
    while let Ok(buffer) = NetlinkBuffer::new_checked(rest) {
        let length = buffer.length() as usize;
        if let Ok(message) = NetlinkMessage::<M>::deserialize(rest) {
            match message.payload {
                NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                NetlinkPayload::Done(_) => return Ok(End::Reached),
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(End::Reached),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                _ => {}
            }
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(End::Ahead)
}

/// A message of generic netlink: a command of a family, with attributes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Generic {
    pub(super) family: u16,
    pub(super) command: u8,
    pub(super) attributes: Vec<DefaultNla>,
}

impl Generic {
    /// The number of a family on this host.
    pub(super) fn family(netlink: &Netlink, name: &str) -> io::Result<u16> {
        let name = DefaultNla::new(CTRL_ATTR_FAMILY_NAME, [name.as_bytes(), b"\0"].concat());
        let question =
            Self { family: GENL_ID_CTRL, command: CTRL_CMD_GETFAMILY, attributes: vec![name] };
        let answers = netlink.ask(question, Scope::One)?;
        answers
            .iter()
            .find_map(|answer| number(find(&answer.attributes, CTRL_ATTR_FAMILY_ID)?))
            .and_then(|family| u16::try_from(family).ok())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl NetlinkSerializable for Generic {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        GENL_HEADER_BYTES + self.attributes.as_slice().buffer_len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (header, attributes) = buffer.split_at_mut(GENL_HEADER_BYTES);
        header.copy_from_slice(&[self.command, GENL_VERSION, 0, 0]);
        self.attributes.as_slice().emit(attributes);
    }
}

impl NetlinkDeserializable for Generic {
    type Error = DecodeError;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, DecodeError> {
        let short = || DecodeError::from("no generic netlink header");
        let (head, rest) = payload.split_at_checked(GENL_HEADER_BYTES).ok_or_else(short)?;
        let command = head.first().copied().unwrap_or_default();
        Ok(Self { family: header.message_type, command, attributes: attributes(rest) })
    }
}

/// The attributes in `bytes`, up to the first that is malformed.
pub(super) fn attributes(bytes: &[u8]) -> Vec<DefaultNla> {
    NlasIterator::new(bytes)
        .map_while(|attribute| DefaultNla::parse(&attribute.ok()?).ok())
        .collect()
}

/// The content of the first attribute of `kind`.
pub(crate) fn find(attributes: &[DefaultNla], kind: u16) -> Option<Vec<u8>> {
    use netlink_packet_core::{NLA_TYPE_MASK, Nla};
    let found = attributes.iter().find(|one| one.kind() & NLA_TYPE_MASK == kind)?;
    let mut value = vec![0; found.value_len()];
    found.emit_value(&mut value);
    Some(value)
}

/// A number of 1 to 8 bytes in the host's byte order.
pub(crate) fn number(value: Vec<u8>) -> Option<u64> {
    match value.as_slice() {
        [one] => Some(u64::from(*one)),
        [a, b] => Some(u64::from(u16::from_ne_bytes([*a, *b]))),
        [a, b, c, d] => Some(u64::from(u32::from_ne_bytes([*a, *b, *c, *d]))),
        eight => Some(u64::from_ne_bytes(eight.try_into().ok()?)),
    }
}

// linux/genetlink.h
const GENL_ID_CTRL: u16 = 0x10;
const GENL_HEADER_BYTES: usize = 4;
const GENL_VERSION: u8 = 1;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generic_messages_survive_the_wire() {
        let attributes = vec![DefaultNla::new(1, vec![7, 0]), DefaultNla::new(3, vec![1; 8])];
        let message = Generic { family: 21, command: 4, attributes };
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let mut header = NetlinkHeader::default();
        header.message_type = 21;
        let back = Generic::deserialize(&header, &bytes).unwrap();
        assert_eq!(back, message);
        assert_eq!(number(find(&back.attributes, 1).unwrap()), Some(7));
        assert_eq!(find(&back.attributes, 2), None);
        assert!(Generic::deserialize(&header, &bytes[..3]).is_err());
    }

    #[test]
    fn truncated_answers_end_quietly() {
        let bytes = [20_u8, 0, 0, 0, 21, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0];
        for length in 0..=bytes.len() {
            let mut answers = Vec::<Generic>::new();
            assert_eq!(read(&bytes[..length], &mut answers).unwrap(), End::Ahead);
            assert_eq!(answers.len(), usize::from(length == bytes.len()), "{length}");
        }
    }

    #[test]
    fn numbers_have_any_width() {
        assert_eq!(number(vec![3]), Some(3));
        assert_eq!(number(vec![0; 8]), Some(0));
        assert_eq!(number(vec![1, 2, 3]), None);
        assert_eq!(number(Vec::new()), None);
    }
}
