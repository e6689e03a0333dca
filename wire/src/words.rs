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
    /// The connection ID of no bytes.
    pub(crate) const EMPTY: Self = Self { words: [0; 3], len: 0 };

    /// The `len` bytes of `datagram` from `at`, or `None` if they are more than 20 or not there.
    #[inline]
    pub(crate) fn read<B: Bytes + ?Sized>(datagram: &B, at: usize, len: usize) -> Option<Self> {
        if len > ConnectionId::LEN_MAX {
            return None;
        }
        if let Some(bytes) = datagram.read::<{ ConnectionId::LEN_MAX }>(at)
            && let ([a, b], [c, d, e, f]) = bytes.as_chunks()
        {
            let last = u64::from(u32::from_le_bytes([*c, *d, *e, *f]));
            let words = [u64::from_le_bytes(*a), u64::from_le_bytes(*b), last];
            return Some(Self { words, len });
        }
        // The ID lies in the last 20 bytes of the datagram.
        let [mut a, mut b, mut c] = [0; 3];
        for offset in 0..len {
            let [byte] = datagram.read(at + offset)?;
            let bits = u64::from(byte) << (offset % 8 * 8);
            match offset / 8 {
                0 => a |= bits,
                1 => b |= bits,
                _ => c |= bits,
            }
        }
        Some(Self { words: [a, b, c], len })
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

    /// The eight bytes from offset `at`, the first of them in the lowest bits; zero beyond the
    /// third word.
    #[inline]
    pub(crate) const fn window(&self, at: usize) -> u64 {
        let [a, b, c] = self.words;
        let (low, high) = match at / 8 {
            0 => (a, b),
            1 => (b, c),
            2 => (c, 0),
            _ => (0, 0),
        };
        let shift = at % 8 * 8;
        // In two steps, for a shift by 64 is none.
        low >> shift | (high << 1) << (63 - shift)
    }
}

/// The low `len` bytes of a word, of at most 8.
#[inline]
pub(crate) const fn low_bytes(len: usize) -> u64 {
    if len >= 8 { u64::MAX } else { (1 << (8 * len)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cid_is_read_the_same_at_the_end_of_a_datagram() {
        let datagram: [u8; 40] = core::array::from_fn(|at| at.to_le_bytes()[0]);
        for len in 0..=ConnectionId::LEN_MAX {
            let far = Words::read(&datagram[..], 3, len).unwrap();
            let near = Words::read(&datagram[..3 + len], 3, len).unwrap();
            for at in 0..len {
                assert_eq!(far.window(at) & 0xff, 3 + at as u64);
                assert_eq!(near.window(at) & 0xff, 3 + at as u64);
            }
            if len > 0 {
                assert!(Words::read(&datagram[..2 + len], 3, len).is_none());
            }
        }
        assert!(Words::read(&datagram[..], 0, 21).is_none());
        assert!(Words::read(&datagram[..], 0, usize::MAX).is_none());
    }

    #[test]
    fn windows_are_the_bytes_of_the_id() {
        let bytes: [u8; 20] = core::array::from_fn(|at| 0x80 | at.to_le_bytes()[0]);
        let words = Words::read(&bytes[..], 0, 20).unwrap();
        for at in 0..24 {
            let expected: [u8; 8] =
                core::array::from_fn(|offset| bytes.get(at + offset).copied().unwrap_or(0));
            assert_eq!(words.window(at), u64::from_le_bytes(expected), "{at}");
        }
    }

    #[test]
    fn low_bytes_are_masked() {
        assert_eq!([0, 1, 7, 8].map(low_bytes), [0, 0xff, u64::MAX >> 8, u64::MAX]);
    }
}
