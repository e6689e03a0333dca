//! cid writes and reads our connection IDs: which worker of which epoch of which server owns them.
//!
//! The layout is drawn in the crate documentation and shaped after QUIC-LB
//! (draft-ietf-quic-load-balancers): the config codepoint and self-encoded length in the first
//! byte and the server ID after it are what a layer-4 load balancer in front of us reads; the rest
//! is its nonce and ours to fill. Which byte names the worker is written in this file and nowhere
//! else: offsets are those inside the CID, callers add where their CID starts.
//!
//! The four check bytes let any room tell our IDs from client-chosen and from forged ones without
//! a table of connections. A forger guesses one in 2^32; the check is a filter against floods and
//! for routing, never a proof of identity, which remains the packet's own protection.

use crate::header::ConnectionId;
use crate::siphash::{Key, siphash64, siphash64_seven, siphash64_words};
use crate::words::{Words, low_bytes};
use crate::{Bytes, Reason};

/// Where the destination connection ID starts in a packet with a short header.
pub const SHORT_HEADER_CID_AT: usize = 1;

/// The operator's name for this host in front of load balancers: 0 to 8 bytes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ServerId {
    len: u8,
    /// Zero from `len` on.
    bytes: [u8; Self::LEN_MAX],
}

impl ServerId {
    /// The longest server ID that leaves room for the rest of a 20-byte connection ID.
    pub const LEN_MAX: usize = 8;

    /// No server ID: no load balancer in front of us reads our connection IDs.
    pub const EMPTY: Self = Self { len: 0, bytes: [0; Self::LEN_MAX] };

    /// The server ID with these bytes, or `None` if they are more than 8.
    pub fn new(id: &[u8]) -> Option<Self> {
        if id.len() > Self::LEN_MAX {
            return None;
        }
        let mut bytes = [0; Self::LEN_MAX];
        for (byte, source) in bytes.iter_mut().zip(id) {
            *byte = *source;
        }
        let len = u8::try_from(id.len()).ok()?;
        Some(Self { len, bytes })
    }

    /// The server ID, zero behind its end.
    #[inline]
    pub const fn padded(&self) -> [u8; Self::LEN_MAX] {
        self.bytes
    }

    /// The bytes of the server ID.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len()).unwrap_or_default()
    }

    /// How many bytes the server ID has: 0 to 8.
    #[inline]
    pub const fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no server ID.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the eight bytes of a connection ID behind its first one start with this server ID.
    #[inline]
    fn leads(&self, bytes: u64) -> bool {
        (bytes ^ u64::from_le_bytes(self.bytes)) & low_bytes(self.len()) == 0
    }
}

/// What a connection ID of ours says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Parts {
    /// The worker that owns the connection.
    pub worker: u8,
    /// The low byte of the epoch that made the ID.
    pub epoch: u8,
    /// A number of 40 bits that no other ID of this worker and epoch has, see [`UniqueSequence`].
    pub unique: u64,
}

/// The shape that all connection IDs of one server have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Layout {
    first: u8,
    server: ServerId,
}

impl Layout {
    /// The layout of a server with this ID.
    ///
    /// The config codepoint is 0 with a server ID and 7, "unroutable" in QUIC-LB, without one.
    pub const fn new(server: ServerId) -> Self {
        let codepoint = if server.is_empty() { CODEPOINT_UNROUTABLE } else { CODEPOINT_SERVER_ID };
        Self { first: codepoint << LENGTH_BITS | (REST_LEN + server.len), server }
    }

    /// The layout with this [`Layout::first_byte`] and this [`ServerId::padded`], as a kernel map
    /// stores it. No branch; with other bytes it is a layout that no connection ID has.
    #[inline]
    pub const fn from_parts(first: u8, server: [u8; ServerId::LEN_MAX]) -> Self {
        let len = (first & LENGTH_MASK).wrapping_sub(REST_LEN) & SERVER_LEN_MASK;
        Self { first, server: ServerId { len, bytes: server } }
    }

    /// The first byte of every connection ID: config codepoint and length of the rest.
    #[inline]
    pub const fn first_byte(&self) -> u8 {
        self.first
    }

    /// The server ID in every connection ID.
    #[inline]
    pub const fn server_id(&self) -> ServerId {
        self.server
    }

    /// The length of every connection ID: 12 without a server ID, 20 at most.
    #[inline]
    pub const fn cid_len(&self) -> usize {
        self.check_at() + CHECK_LEN
    }

    /// The offset of the worker byte in a connection ID.
    #[inline]
    pub const fn worker_at(&self) -> usize {
        1 + self.server.len()
    }

    /// The offset of the epoch byte in a connection ID.
    #[inline]
    pub const fn epoch_at(&self) -> usize {
        self.worker_at() + 1
    }

    /// The offset of the five unique bytes in a connection ID, the most significant first.
    #[inline]
    pub const fn unique_at(&self) -> usize {
        self.epoch_at() + 1
    }

    /// The offset of the four check bytes in a connection ID.
    #[inline]
    pub const fn check_at(&self) -> usize {
        self.unique_at() + UNIQUE_LEN
    }

    /// The connection ID that says `parts`; of `unique` only the low 40 bits fit.
    pub fn encode(&self, check_key: &Key, parts: Parts) -> ConnectionId {
        let Parts { worker, epoch, unique } = parts;
        let [_, _, _, unique @ ..] = unique.to_be_bytes();
        let mut cid = ConnectionId::EMPTY.pushed(self.first);
        for byte in self.server.as_slice() {
            cid = cid.pushed(*byte);
        }
        cid = cid.pushed(worker).pushed(epoch);
        for byte in unique {
            cid = cid.pushed(byte);
        }
        let (own, _) = self.behind_server(&cid.words());
        for byte in check(check_key, own).to_le_bytes() {
            cid = cid.pushed(byte);
        }
        cid
    }

    /// The epoch of a connection ID that has our shape (length, first byte and server ID), so that
    /// its check key can be looked up. The check itself is not made: anyone can forge this.
    pub fn epoch_of(&self, cid: &[u8]) -> Option<u8> {
        self.shape(&ConnectionId::from_slice(cid)?.words()).ok()
    }

    /// What a connection ID says, if it has our shape and its check verifies.
    pub fn decode(&self, check_key: &Key, cid: &[u8]) -> Option<Parts> {
        let cid = ConnectionId::from_slice(cid)?.words();
        self.shape(&cid).ok()?;
        self.parts(check_key, &cid)
    }

    /// The epoch of a connection ID of our shape, or what is wrong with it.
    #[inline]
    pub(crate) fn shape(&self, cid: &Words) -> Result<u8, Reason> {
        let [word, ..] = cid.words();
        let [first, ..] = word.to_le_bytes();
        if first != self.first || cid.len() != self.cid_len() {
            return Err(Reason::ForeignLayout);
        }
        let [behind_first, _] = cid.behind(1);
        if !self.server.leads(behind_first) {
            return Err(Reason::ForeignServerId);
        }
        let (own, _) = self.behind_server(cid);
        let [_, _, epoch, ..] = own.to_le_bytes();
        Ok(epoch)
    }

    /// What a connection ID of our shape says, if its check verifies.
    #[inline]
    pub(crate) fn parts(&self, check_key: &Key, cid: &Words) -> Option<Parts> {
        let (own, found) = self.behind_server(cid);
        // One comparison of the whole word: how long it takes says nothing about where they differ.
        if check(check_key, own) != found {
            return None;
        }
        let [_, worker, epoch, a, b, c, d, e] = own.to_le_bytes();
        Some(Parts { worker, epoch, unique: u64::from_be_bytes([0, 0, 0, a, b, c, d, e]) })
    }

    /// What tells the connection of a short header of ours from all others: its worker, epoch and
    /// unique number in the low 56 bits, and the check. `None` if there is no connection ID.
    #[inline]
    pub fn connection<B: Bytes + ?Sized>(&self, datagram: &B) -> Option<(u64, u32)> {
        let cid = Words::read(datagram, SHORT_HEADER_CID_AT, self.cid_len())?;
        let (own, check) = self.behind_server(&cid);
        Some((own >> 8, check))
    }

    /// The last byte of the server ID, or the first of the ID if there is none, with the seven
    /// bytes behind it, little endian; and then the check.
    #[inline]
    fn behind_server(&self, cid: &Words) -> (u64, u32) {
        let [own, check] = cid.behind(self.server.len());
        let [a, b, c, d, ..] = check.to_le_bytes();
        (own, u32::from_le_bytes([a, b, c, d]))
    }
}

/// The check bytes of a connection ID: the first four of SipHash-2-4 over worker, epoch and unique,
/// which are the bytes of `own` but its lowest.
///
/// The key is made for one server ID, which names the first byte too, and both are compared.
#[inline]
fn check(check_key: &Key, own: u64) -> u32 {
    let [a, b, c, d, ..] = siphash64_seven(check_key, own >> 8).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The `unique` numbers of one worker in one epoch: all 2^40 of them, each once, in an order that
/// nobody without the key can follow.
///
/// A counter runs from a random start through a keyed permutation, a Feistel network of four
/// rounds. A random number of 40 bits would repeat after about a million connections, and a
/// connection ID that came back would bring a published reset token back to life.
//= https://www.rfc-editor.org/rfc/rfc9000#section-10.3.2
//# the combination of connection ID and static key
//# MUST NOT be used for another connection.
#[derive(Clone, Debug)]
pub struct UniqueSequence {
    key: Key,
    counter: u64,
    left: u64,
}

impl UniqueSequence {
    /// The sequence under this key from this start, of which the low 40 bits count.
    pub const fn new(key: Key, start: u64) -> Self {
        Self { key, counter: start & UNIQUE_MASK, left: UNIQUE_COUNT }
    }
}

impl Iterator for UniqueSequence {
    type Item = u64;

    /// The next number, or `None` for ever after all 2^40: the epoch is used up.
    fn next(&mut self) -> Option<u64> {
        self.left = self.left.checked_sub(1)?;
        let unique = permute(&self.key, self.counter);
        self.counter = (self.counter + 1) & UNIQUE_MASK;
        Some(unique)
    }
}

/// The keyed hash that spreads client-chosen connection IDs, so that nobody can aim at one worker.
#[inline]
pub fn spread(key: &Key, dcid: &[u8]) -> u64 {
    siphash64(key, dcid)
}

/// [`spread`] of a connection ID that is at hand as one.
#[inline]
pub(crate) fn spread_of(key: &Key, dcid: &Words) -> u64 {
    siphash64_words(key, dcid.words(), dcid.len())
}

/// The worker, of so many, that a spread hash falls to: multiply and shift on its high 32 bits.
///
/// The shares of two workers differ by less than `workers / 2^32`. With no workers it is 0.
#[inline]
pub fn worker_of_spread(spread: u64, workers: u8) -> u8 {
    let scaled = (spread >> 32) * u64::from(workers);
    // Bits 32 to 39: the whole integer part, for it is below `workers`.
    let [_, _, _, _, worker, ..] = scaled.to_le_bytes();
    worker
}

/// One number of 40 bits for another, and never the same for two.
fn permute(key: &Key, number: u64) -> u64 {
    let mut left = number >> HALF_BITS;
    let mut right = number & HALF_MASK;
    for round in 0..FEISTEL_ROUNDS {
        (left, right) = (right, left ^ scramble(key, round, right));
    }
    left << HALF_BITS | right
}

/// The round function of the Feistel network.
fn scramble(key: &Key, round: u8, half: u64) -> u64 {
    let [low, middle, high, ..] = half.to_le_bytes();
    siphash64(key, &[round, low, middle, high]) & HALF_MASK
}

const CODEPOINT_SERVER_ID: u8 = 0;
/// QUIC-LB: no load balancer has a config for this connection ID.
const CODEPOINT_UNROUTABLE: u8 = 7;
/// The low bits of the first byte, which hold the length of the rest.
const LENGTH_BITS: u32 = 5;
const LENGTH_MASK: u8 = (1 << LENGTH_BITS) - 1;
/// The bits that a server ID's length of up to 8 has.
const SERVER_LEN_MASK: u8 = 15;
/// The bytes behind the first one, without the server ID.
const REST_LEN: u8 = 11;
const UNIQUE_LEN: usize = 5;
const CHECK_LEN: usize = 4;
const UNIQUE_COUNT: u64 = 1 << 40;
const UNIQUE_MASK: u64 = UNIQUE_COUNT - 1;
const HALF_BITS: u32 = 20;
const HALF_MASK: u64 = (1 << HALF_BITS) - 1;
/// Luby and Rackoff: four rounds are a strong pseudorandom permutation, three are not.
const FEISTEL_ROUNDS: u8 = 4;

const _: () = assert!(REST_LEN as usize == 2 + UNIQUE_LEN + CHECK_LEN);
const _: () = assert!(1 + ServerId::LEN_MAX + REST_LEN as usize == ConnectionId::LEN_MAX);
const _: () = assert!(REST_LEN as usize + ServerId::LEN_MAX < 1 << LENGTH_BITS);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_permutation_has_an_inverse(key: [u8; 16], number in 0..UNIQUE_COUNT) {
            let key = Key::from_bytes(key);
            let permuted = permute(&key, number);
            prop_assert!(permuted < UNIQUE_COUNT);
            prop_assert_eq!(restore(&key, permuted), number);
        }

        #[test]
        fn the_sequence_is_the_permuted_counter(key: [u8; 16], start: u64) {
            let key = Key::from_bytes(key);
            let numbers = UniqueSequence::new(key, start).take(5);
            for (offset, number) in numbers.enumerate() {
                let counter = start.wrapping_add(offset as u64) & UNIQUE_MASK;
                prop_assert_eq!(restore(&key, number), counter);
            }
        }
    }

    #[test]
    fn the_sequence_wraps_and_ends_for_ever() {
        let key = Key { k0: 1, k1: 2 };
        let mut sequence = UniqueSequence::new(key, UNIQUE_MASK);
        sequence.left = 2;
        assert_eq!(sequence.next(), Some(permute(&key, UNIQUE_MASK)));
        assert_eq!(sequence.next(), Some(permute(&key, 0)));
        assert_eq!(sequence.next(), None);
        assert_eq!(sequence.next(), None);
        assert_eq!(UniqueSequence::new(key, 7).left, 1 << 40);
    }

    #[test]
    fn the_default_layout_has_twelve_bytes() {
        let layout = Layout::new(ServerId::EMPTY);
        assert_eq!(layout.first_byte(), 0b111_01011);
        assert_eq!(layout.cid_len(), 12);
        assert_eq!(layout.worker_at(), 1);
        assert_eq!(layout.epoch_at(), 2);
        assert_eq!(layout.unique_at(), 3);
        assert_eq!(layout.check_at(), 8);
    }

    #[test]
    fn the_longest_layout_has_twenty_bytes() {
        let layout = Layout::new(ServerId::new(&[0xff; 8]).unwrap());
        assert_eq!(layout.first_byte(), 0b000_10011);
        assert_eq!(layout.cid_len(), 20);
        assert_eq!(layout.worker_at(), 9);
        assert_eq!(ServerId::new(&[0; 9]), None);
    }

    #[test]
    fn a_layout_survives_its_parts() {
        for len in 0..=8 {
            let layout = Layout::new(ServerId::new(&[7; 8][..len]).unwrap());
            let server = layout.server_id().padded();
            assert_eq!(Layout::from_parts(layout.first_byte(), server), layout);
        }
    }

    #[test]
    fn a_server_id_leads_in_all_its_bytes_and_no_more() {
        for len in 0..=ServerId::LEN_MAX {
            let bytes = [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88];
            let server = ServerId::new(&bytes[..len]).unwrap();
            for at in 0..ServerId::LEN_MAX {
                let mut other = bytes;
                other[at] ^= 0x80;
                assert_eq!(server.leads(u64::from_le_bytes(other)), at >= len);
            }
        }
    }

    /// The inverse of [`permute`].
    fn restore(key: &Key, number: u64) -> u64 {
        let mut left = number >> HALF_BITS;
        let mut right = number & HALF_MASK;
        for round in (0..FEISTEL_ROUNDS).rev() {
            (left, right) = (right ^ scramble(key, round, left), left);
        }
        left << HALF_BITS | right
    }
}
