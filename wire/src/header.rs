//! header peeks at what no version of QUIC may change: the invariants of RFC 8999.
//!
//! In comes a datagram, out comes its form and, for a long header, version and connection IDs.
//! Never done here: removing header protection, reading packet numbers, or looking at the second
//! packet of a coalesced datagram (all packets in one datagram name the same connection).

use core::fmt;

use crate::words::{Words, low_bytes};
use crate::{Bytes, Reason};

/// QUIC version 1, RFC 9000: the only version whose packet types this crate tells apart.
pub const VERSION_1: u32 = 0x0000_0001;

/// A connection ID of up to [`ConnectionId::LEN_MAX`] bytes, held inline.
#[derive(Clone, Copy, Default, Eq, Hash, PartialEq)]
pub struct ConnectionId {
    len: u8,
    /// Zero from `len` on, so that the derived equality and hash see only the ID.
    bytes: [u8; Self::LEN_MAX],
}

impl ConnectionId {
    /// The longest connection ID of QUIC version 1.
    //= https://www.rfc-editor.org/rfc/rfc9000#section-17.2
    //# In QUIC version 1, this value MUST NOT exceed 20 bytes.
    pub const LEN_MAX: usize = 20;

    /// The connection ID of no bytes.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; Self::LEN_MAX] };

    /// The connection ID with these bytes, or `None` if they are more than 20.
    #[inline]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Self::read(bytes, 0, bytes.len())
    }

    /// The `len` bytes of `datagram` from `at`, or `None` if they are more than 20 or not there.
    #[inline]
    fn read<B: Bytes + ?Sized>(datagram: &B, at: usize, len: usize) -> Option<Self> {
        if let Some(words) = Words::read(datagram, at, len) {
            return Some(Self::from_words(&words));
        }
        // The ID lies in the last 20 bytes of the datagram.
        let mut id = Self { len: u8::try_from(len).ok()?, ..Self::EMPTY };
        for (offset, byte) in id.bytes.get_mut(..len)?.iter_mut().enumerate() {
            [*byte] = datagram.read(at + offset)?;
        }
        Some(id)
    }

    /// With one byte more at the end; a full ID stays as it is.
    pub(crate) fn pushed(mut self, byte: u8) -> Self {
        if let Some(next) = self.bytes.get_mut(usize::from(self.len)) {
            *next = byte;
            self.len += 1;
        }
        self
    }

    /// The bytes of the ID.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// How many bytes the ID has: 0 to 20.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether this is the ID of no bytes.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The ID in registers.
    #[inline]
    pub(crate) fn words(&self) -> Words {
        Words::from_padded(self.bytes, self.len())
    }

    #[inline]
    fn from_words(words: &Words) -> Self {
        let mut id = Self { len: words.len().to_le_bytes()[0], ..Self::EMPTY };
        let used = [0, 8, 16].map(|at| low_bytes(words.len().saturating_sub(at).min(8)));
        for ((chunk, word), used) in id.bytes.chunks_mut(8).zip(words.words()).zip(used) {
            for (byte, source) in chunk.iter_mut().zip((word & used).to_le_bytes()) {
                *byte = source;
            }
        }
        id
    }
}

impl AsRef<[u8]> for ConnectionId {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What the version-independent part of the first packet in a datagram says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Header {
    /// A short header: the destination connection ID follows at once and has no length of its own.
    Short,
    /// A long header.
    Long {
        /// The version field; 0 is Version Negotiation.
        version: u32,
        /// The first byte, whose other seven bits belong to the version.
        first: u8,
        /// The destination connection ID.
        dcid: ConnectionId,
        /// The length of the source connection ID, whose bytes are present: 0 to 20.
        scid_len: u8,
    },
}

/// The packet types of a long header in QUIC version 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum LongType {
    /// The first packets of a connection, client and server.
    Initial = 0,
    /// Early data of the client.
    ZeroRtt = 1,
    /// The rest of the handshake.
    Handshake = 2,
    /// A server's wish that the client prove its address.
    Retry = 3,
}

/// The type that the first byte of a long header names, in version 1 and in no other.
#[inline]
pub fn long_type(first: u8) -> LongType {
    match (first >> 4) & 0b11 {
        0 => LongType::Initial,
        1 => LongType::ZeroRtt,
        2 => LongType::Handshake,
        _ => LongType::Retry,
    }
}

/// Reads the invariant part of the first packet in a datagram.
///
/// # Errors
///
/// [`Reason::Empty`] for no byte at all, [`Reason::LongTruncated`] for a long header that ends
/// before its source connection ID does, [`Reason::CidTooLong`] for an ID of more than 20 bytes.
/// Other versions may allow longer IDs; we could neither hold nor echo them, so they are refused
/// whatever the version.
#[inline]
pub fn peek<B: Bytes + ?Sized>(datagram: &B) -> Result<Header, Reason> {
    let Some(long) = long_header(datagram)? else { return Ok(Header::Short) };
    let LongHeader { version, first, dcid_len } = long;
    let dcid = ConnectionId::read(datagram, DCID_AT, dcid_len).ok_or(Reason::LongTruncated)?;
    let scid_len = scid_len(datagram, dcid_len)?;
    Ok(Header::Long { version, first, dcid, scid_len })
}

/// [`peek`] for [`crate::classify`]: in registers, and nothing that is too short to be a packet.
/// `None` for a short header.
#[inline]
pub(crate) fn peek_words<B: Bytes + ?Sized>(
    datagram: &B,
) -> Result<Option<(u32, u8, Words)>, Reason> {
    let Some(long) = long_header(datagram)? else { return Ok(None) };
    let LongHeader { version, first, dcid_len } = long;
    if datagram.len() < LONG_DATAGRAM_LEN_MIN {
        return Err(Reason::LongTruncated);
    }
    let dcid = Words::read(datagram, DCID_AT, dcid_len).ok_or(Reason::LongTruncated)?;
    scid_len(datagram, dcid_len)?;
    Ok(Some((version, first, dcid)))
}

/// What is in front of the connection IDs.
struct LongHeader {
    version: u32,
    first: u8,
    /// At most 20.
    dcid_len: usize,
}

/// Reads a long header up to its connection IDs; `None` for a short one.
#[inline]
fn long_header<B: Bytes + ?Sized>(datagram: &B) -> Result<Option<LongHeader>, Reason> {
    let [first] = datagram.read(0).ok_or(Reason::Empty)?;

    //= https://www.rfc-editor.org/rfc/rfc8999#section-5.2
    //# A QUIC packet with a short header has the high bit of the first byte set to 0.
    if first & LONG_FORM == 0 {
        return Ok(None);
    }

    //= https://www.rfc-editor.org/rfc/rfc8999#section-5.1
    //# The next four bytes include a 32-bit Version field.
    let version = datagram.read(VERSION_AT).ok_or(Reason::LongTruncated)?;
    let version = u32::from_be_bytes(version);
    let [dcid_len] = datagram.read(DCID_LEN_AT).ok_or(Reason::LongTruncated)?;
    let dcid_len = usize::from(dcid_len);

    //= https://www.rfc-editor.org/rfc/rfc9000#section-17.2
    //# Endpoints that receive a version 1 long header with a value larger than 20
    //# MUST drop the packet.
    if dcid_len > ConnectionId::LEN_MAX {
        return Err(Reason::CidTooLong);
    }
    Ok(Some(LongHeader { version, first, dcid_len }))
}

/// The length of the source connection ID behind a destination ID of this length.
#[inline]
fn scid_len<B: Bytes + ?Sized>(datagram: &B, dcid_len: usize) -> Result<u8, Reason> {
    let scid_len_at = DCID_AT + dcid_len;
    let [scid_len] = datagram.read(scid_len_at).ok_or(Reason::LongTruncated)?;
    if usize::from(scid_len) > ConnectionId::LEN_MAX {
        return Err(Reason::CidTooLong);
    }
    if datagram.len() < scid_len_at + 1 + usize::from(scid_len) {
        return Err(Reason::LongTruncated);
    }
    Ok(scid_len)
}

/// The shortest datagram that can be a packet with a long header, for a server.
///
/// With connection IDs of no bytes: first byte, version and two lengths (7), the length field (1),
/// four bytes of packet number and payload, and the sample behind them. Shorter is only what
/// servers send: Version Negotiation. It is also long enough for any destination connection ID.
//= https://www.rfc-editor.org/rfc/rfc9001#section-5.4.2
//# An endpoint MUST discard packets that are not long enough to contain a
//# complete sample.
pub const LONG_DATAGRAM_LEN_MIN: usize = 7 + 1 + 4 + 16;

const _: () = assert!(LONG_DATAGRAM_LEN_MIN >= DCID_AT + ConnectionId::LEN_MAX);

/// The header form bit of the first byte.
const LONG_FORM: u8 = 0x80;
const VERSION_AT: usize = 1;
const DCID_LEN_AT: usize = 5;
const DCID_AT: usize = 6;

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn a_cid_keeps_its_bytes_and_nothing_behind_them() {
        let datagram: [u8; 26] = core::array::from_fn(|at| 0x80 | at.to_le_bytes()[0]);
        for len in 0..=ConnectionId::LEN_MAX {
            let far = ConnectionId::read(&datagram[..], 3, len).unwrap();
            assert_eq!(far.as_slice(), &datagram[3..3 + len]);
            assert_eq!(Some(far), ConnectionId::read(&datagram[..3 + len], 3, len));
            assert_eq!(far, ConnectionId::from_words(&far.words()));
            if len > 0 {
                assert_eq!(ConnectionId::read(&datagram[..2 + len], 3, len), None);
            }
        }
        assert_eq!(ConnectionId::read(&datagram[..], 0, 21), None);
        assert_eq!(ConnectionId::read(&datagram[..], 0, 256), None);
        assert_eq!(ConnectionId::from_slice(&[0; 21]), None);
    }

    #[test]
    fn a_full_cid_takes_no_more_bytes() {
        let full = ConnectionId::from_slice(&[7; 20]).unwrap();
        assert_eq!(full.pushed(8), full);
        assert_eq!(format!("{:?}", ConnectionId::EMPTY.pushed(0xa)), "0a");
    }

    #[test]
    fn types_of_version_1() {
        assert_eq!(long_type(0xc0), LongType::Initial);
        assert_eq!(long_type(0x9f), LongType::ZeroRtt);
        assert_eq!(long_type(0xe5), LongType::Handshake);
        assert_eq!(long_type(0xff), LongType::Retry);
    }

    #[test]
    fn peek_tells_what_the_header_says() {
        assert_eq!(peek(&[0x7f][..]), Ok(Header::Short));
        let datagram = [0xd1, 1, 2, 3, 4, 2, 0xaa, 0xbb, 1, 0xcc];
        let header = Header::Long {
            version: 0x0102_0304,
            first: 0xd1,
            dcid: ConnectionId::from_slice(&[0xaa, 0xbb]).unwrap(),
            scid_len: 1,
        };
        assert_eq!(peek(&datagram[..]), Ok(header));
        for len in 1..datagram.len() {
            assert_eq!(peek(&datagram[..len]), Err(Reason::LongTruncated));
        }
        assert_eq!(peek(&[][..]), Err(Reason::Empty));
    }
}
