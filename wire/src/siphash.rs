//! siphash hashes short messages under a key: SipHash-2-4 with 64 and with 128 bits of output.
//!
//! It is the one keyed function that is cheap enough for every packet and simple enough for the
//! kernel's verifier: additions, rotations and exclusive-ors of 64-bit words, no table. It checks
//! connection IDs, spreads client-chosen ones and makes reset tokens.

use core::fmt;

use crate::words::low_bytes;

/// A key of SipHash: 128 secret bits.
#[derive(Clone, Copy)]
pub struct Key {
    /// The first eight bytes, little endian.
    pub k0: u64,
    /// The last eight bytes, little endian.
    pub k1: u64,
}

impl Key {
    /// The key with these bytes, in the order of the reference implementation.
    #[inline]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
        Self {
            k0: u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            k1: u64::from_le_bytes([i, j, k, l, m, n, o, p]),
        }
    }
}

impl fmt::Debug for Key {
    /// Says that it is a key, and nothing about which.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// SipHash-2-4 of `data`, as the integer whose little-endian bytes are the reference output.
#[inline]
pub fn siphash64(key: &Key, data: &[u8]) -> u64 {
    let mut state = State::new(key);
    state.absorb(data);
    state.finish64()
}

/// SipHash-2-4-128 of `data`, the sixteen bytes of the reference output.
#[inline]
pub fn siphash128(key: &Key, data: &[u8]) -> [u8; 16] {
    let mut state = State::new128(key);
    state.absorb(data);
    let [first, last] = state.finish128().map(u64::to_le_bytes);
    let ([a, b, c, d, e, f, g, h], [i, j, k, l, m, n, o, p]) = (first, last);
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

/// [`siphash128`] of the first `len` (at most 23) bytes of a message given as little-endian words,
/// as two of them.
#[inline]
pub(crate) fn siphash128_words(key: &Key, words: [u64; 3], len: usize) -> [u64; 2] {
    let mut state = State::new128(key);
    state.absorb_words(words, len);
    state.finish128()
}

/// [`siphash64`] of the first `len` (at most 23) bytes of a message given as little-endian words.
///
/// The kernel program's form: no pointer arithmetic that a verifier would have to follow.
#[inline]
pub(crate) fn siphash64_words(key: &Key, words: [u64; 3], len: usize) -> u64 {
    let mut state = State::new(key);
    state.absorb_words(words, len);
    state.finish64()
}

/// [`siphash64`] of the seven low bytes of `word`: all that fits into one block, so the fastest
/// hash there is.
#[inline]
pub(crate) fn siphash64_seven(key: &Key, word: u64) -> u64 {
    let mut state = State::new(key);
    state.compress(word & low_bytes(7) | length_byte(7));
    state.finish64()
}

/// The four words of SipHash while it eats a message.
struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline]
    fn new(key: &Key) -> Self {
        Self {
            v0: key.k0 ^ 0x736f_6d65_7073_6575,
            v1: key.k1 ^ 0x646f_7261_6e64_6f6d,
            v2: key.k0 ^ 0x6c79_6765_6e65_7261,
            v3: key.k1 ^ 0x7465_6462_7974_6573,
        }
    }

    #[inline]
    fn new128(key: &Key) -> Self {
        let mut state = Self::new(key);
        state.v1 ^= 0xee;
        state
    }

    #[inline]
    fn absorb(&mut self, data: &[u8]) {
        let (words, tail) = data.as_chunks();
        for word in words {
            self.compress(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        for (byte, source) in last.iter_mut().zip(tail) {
            *byte = *source;
        }
        self.compress(u64::from_le_bytes(last) | length_byte(data.len()));
    }

    #[inline]
    fn absorb_words(&mut self, words: [u64; 3], len: usize) {
        let whole = len / 8;
        let tail_mask = (1 << (len % 8 * 8)) - 1;
        for (index, word) in words.into_iter().enumerate() {
            if index == whole {
                self.compress(word & tail_mask | length_byte(len));
                return;
            }
            self.compress(word);
        }
    }

    #[inline]
    fn compress(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }

    #[inline]
    fn finish64(mut self) -> u64 {
        self.v2 ^= 0xff;
        self.four_rounds()
    }

    #[inline]
    fn finish128(mut self) -> [u64; 2] {
        self.v2 ^= 0xee;
        let first = self.four_rounds();
        self.v1 ^= 0xdd;
        [first, self.four_rounds()]
    }

    #[inline]
    fn four_rounds(&mut self) -> u64 {
        for _ in 0..4 {
            self.round();
        }
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    #[inline]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }
}

/// The low byte of a message's length, where the last word carries it.
#[inline]
const fn length_byte(len: usize) -> u64 {
    (len as u64) << 56
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_and_slices_hash_alike(key: [u8; 16], bytes: [u8; 24], len in 0_usize..=23) {
            let key = Key::from_bytes(key);
            let mut words = [0; 3];
            for (word, chunk) in words.iter_mut().zip(bytes.as_chunks().0) {
                *word = u64::from_le_bytes(*chunk);
            }
            prop_assert_eq!(siphash64_words(&key, words, len), siphash64(&key, &bytes[..len]));
        }

        #[test]
        fn seven_bytes_hash_alike(key: [u8; 16], word: u64) {
            let key = Key::from_bytes(key);
            let bytes = word.to_le_bytes();
            prop_assert_eq!(siphash64_seven(&key, word), siphash64(&key, &bytes[..7]));
        }
    }

    /// The well-known ends of the reference implementation's tables, and the paper's example.
    #[test]
    fn reference_vectors() {
        let mut bytes = [0; 64];
        for (byte, value) in bytes.iter_mut().zip(0..) {
            *byte = value;
        }
        let key = Key::from_bytes(*bytes.first_chunk().unwrap());
        assert_eq!(siphash64(&key, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(siphash64(&key, &bytes[..15]), 0xa129_ca61_49be_45e5);
        assert_eq!(siphash64(&key, &bytes[..63]), 0x958a_324c_eb06_4572);
        let empty = "a3817f04ba25a8e66df67214c7550293";
        assert_eq!(hex(siphash128(&key, &[])), empty);
        let longest = "5150d1772f50834a503e069a973fbd7c";
        assert_eq!(hex(siphash128(&key, &bytes[..63])), longest);
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = Key::from_bytes([0x42; 16]);
        assert_eq!(format!("{key:?}"), "Key(..)");
    }

    fn hex(bytes: [u8; 16]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
