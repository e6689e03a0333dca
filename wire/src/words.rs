//! words holds a connection ID in registers: three little-endian words instead of twenty bytes.
//!
//! The form in which a packet is judged: SipHash eats words, and the kernel's verifier follows
//! shifts of a register but no reads at computed places of a stack.

use crate::Bytes;
use crate::header::ConnectionId;

/// A connection ID of up to 20 bytes. What lies behind its end is undefined.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Words {
    words: [u64; 3],
    len: usize,
}

impl Words {
    /// The first `len` of the 20 bytes of `datagram` from `at`, or `None` if `len` is more than 20
    /// or those 20 bytes are not there.
    #[inline]
    pub(crate) fn read<B: Bytes + ?Sized>(datagram: &B, at: usize, len: usize) -> Option<Self> {
        let bytes = datagram.read::<{ ConnectionId::LEN_MAX }>(at)?;
        if len > ConnectionId::LEN_MAX {
            return None;
        }
        Some(Self::from_padded(bytes, len))
    }

    /// The first `len` of these bytes, of at most 20.
    #[inline]
    pub(crate) const fn from_padded(bytes: [u8; ConnectionId::LEN_MAX], len: usize) -> Self {
        let [a, b, c, d, e, f, g, h, bytes @ ..] = bytes;
        let first = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        let middle = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let last = u32::from_le_bytes([i, j, k, l]) as u64;
        Self { words: [first, middle, last], len }
    }

    /// How many bytes the ID has: 0 to 20.
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The words, the first byte of the ID in the lowest bits of the first.
    #[inline]
    pub(crate) const fn words(&self) -> [u64; 3] {
        self.words
    }

    /// Two words without the first `skipped` bytes of the ID, of at most 8. No branch: each would
    /// be two paths for the verifier.
    #[inline]
    pub(crate) const fn behind(&self, skipped: usize) -> [u64; 2] {
        let [a, b, c] = self.words;
        let (down, up) = (8 * skipped, 64 - 8 * skipped);
        [shift_down(a, down) | shift_up(b, up), shift_down(b, down) | shift_up(c, up)]
    }
}

/// The low `len` bytes of a word, of at most 8.
#[inline]
pub(crate) const fn low_bytes(len: usize) -> u64 {
    shift_down(u64::MAX, 64 - 8 * len)
}

/// `word >> bits` for up to 64 bits. In two steps, for a machine shifts by 63 at most.
#[inline]
const fn shift_down(word: u64, bits: usize) -> u64 {
    let half = bits / 2;
    word >> half >> (bits - half)
}

/// `word << bits` for up to 64 bits.
#[inline]
const fn shift_up(word: u64, bits: usize) -> u64 {
    let half = bits / 2;
    word << half << (bits - half)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATAGRAM: [u8; 23] =
        [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];

    #[test]
    fn twenty_bytes_must_be_there_and_no_more() {
        assert!(Words::read(&DATAGRAM[..], 3, 20).is_some());
        assert!(Words::read(&DATAGRAM[..], 3, 0).is_some());
        assert!(Words::read(&DATAGRAM[..], 3, 21).is_none());
        assert!(Words::read(&DATAGRAM[..], 4, 1).is_none());
    }

    #[test]
    fn what_is_behind_is_shifted_down() {
        let words = Words::read(&DATAGRAM[..], 3, 20).unwrap();
        for skipped in 0..=8 {
            let bytes = words.behind(skipped).map(u64::to_le_bytes);
            for (offset, byte) in bytes.as_flattened().iter().enumerate() {
                let expected = DATAGRAM.get(3 + skipped + offset).copied().unwrap_or(0);
                assert_eq!(*byte, expected, "{skipped} {offset}");
            }
        }
    }

    #[test]
    fn low_bytes_are_masked() {
        assert_eq!([0, 1, 7, 8].map(low_bytes), [0, 0xff, u64::MAX >> 8, u64::MAX]);
    }
}
