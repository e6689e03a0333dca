//! heard says what a datagram from the server is, by what stands in it for everybody to read.

/// A connection ID of ours: those of a test begin with its [`Tag`], so that no table is needed to
/// know them.
pub(super) type Cid = [u8; 8];

/// What the connection IDs of a test begin with.
pub(super) type Tag = [u8; 4];

/// What a datagram is. Of several packets in one the first one says it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Heard {
    /// Version Negotiation (RFC 9000 section 17.2.1).
    Versions,
    /// Retry (section 17.2.5).
    Retry(Cid),
    /// Initial (section 17.2.2): the server's flight begins with it, or it is a refusal.
    Initial(Cid),
    /// Handshake (section 17.2.4): more of the server's flight.
    Handshake(Cid),
    /// A short header with an ID of ours: the server has said all of its flight and goes on.
    OneRtt,
    /// A short header with an ID that is none of ours, long enough for a stateless reset (section
    /// 10.3).
    ResetLike,
    /// Nothing of the sort.
    Other,
}

impl Heard {
    /// Reads the head of a datagram. `tag` is that of the connection IDs of ours.
    pub(super) fn new(datagram: &[u8], tag: Tag) -> Self {
        let Some(&first) = datagram.first() else { return Self::Other };
        if first & LONG == 0 {
            return match datagram.get(1..1 + tag.len()) {
                Some(id) if *id == tag => Self::OneRtt,
                _ if datagram.len() >= RESET_BYTES_MIN => Self::ResetLike,
                _ => Self::Other,
            };
        }
        let version = datagram.get(1..5);
        if version == Some(&[0; 4]) {
            return Self::Versions;
        }
        let is_ours = |cid: &&Cid| datagram.get(5) == Some(&8) && cid.starts_with(&tag);
        let cid = datagram.get(6..).and_then(|rest| rest.first_chunk::<8>()).filter(is_ours);
        match (cid, (first >> 4) & 3) {
            (Some(_), _) if version != Some(&[0, 0, 0, 1]) => Self::Other,
            (Some(cid), 0) => Self::Initial(*cid),
            (Some(cid), 2) => Self::Handshake(*cid),
            (Some(cid), 3) => Self::Retry(*cid),
            _ => Self::Other,
        }
    }
}

/// The bit of long headers.
const LONG: u8 = 0x80;

/// RFC 9000 section 10.3: what is shorter is taken by nobody for a reset.
const RESET_BYTES_MIN: usize = 21;

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: Tag = *b"ours";
    const CID: Cid = *b"ours0123";

    fn long(first: u8, version: u32, cid: &[u8]) -> Vec<u8> {
        let length = u8::try_from(cid.len()).unwrap();
        [&[first], &version.to_be_bytes()[..], &[length], cid, &[0; 30]].concat()
    }

    #[test]
    fn the_head_says_what_it_is() {
        for (datagram, heard) in [
            (long(0xc0, 1, &CID), Heard::Initial(CID)),
            (long(0xd0, 1, &CID), Heard::Other),
            (long(0xe3, 1, &CID), Heard::Handshake(CID)),
            (long(0xff, 1, &CID), Heard::Retry(CID)),
            (long(0xc0, 2, &CID), Heard::Other),
            (long(0xc0, 1, b"notours0"), Heard::Other),
            (long(0xc0, 1, b"ours"), Heard::Other),
            (long(0x80, 0, &[]), Heard::Versions),
            ([&[0x40], &CID[..], &[7; 20]].concat(), Heard::OneRtt),
            (vec![0x41; 21], Heard::ResetLike),
            (vec![0x41; 20], Heard::Other),
            (Vec::new(), Heard::Other),
        ] {
            assert_eq!(Heard::new(&datagram, TAG), heard, "{datagram:02x?}");
        }
    }

    #[test]
    fn no_cut_is_too_short() {
        for datagram in [long(0xc0, 1, &CID), [&[0x40], &CID[..]].concat()] {
            for bytes in 0..datagram.len() {
                Heard::new(&datagram[..bytes], TAG);
            }
        }
    }
}
