//! huffman is the code of RFC 7541 appendix B, which QPACK uses as it is.
//!
//! The code is canonical: codes of one length are consecutive, in the order of their symbols. So
//! the lengths below say everything, and the tables of both directions are computed from them.

/// Why a string could not be decoded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum HuffmanError {
    /// A padding that is none, or the symbol for the end inside the string.
    Broken,
    /// More than the limit came out.
    TooLong,
}

/// How many bytes `text` takes when encoded.
pub(crate) fn encoded_bytes(text: &[u8]) -> usize {
    let bits: usize = text.iter().map(|byte| code(*byte).1 as usize).sum();
    bits.div_ceil(8)
}

/// Appends `text`, encoded.
pub(crate) fn encode(text: &[u8], out: &mut Vec<u8>) {
    let (mut window, mut bits) = (0_u64, 0);
    for byte in text {
        let (code, code_bits) = code(*byte);
        // At most 31 bits wait and a code has at most 30: they fit.
        window = window << code_bits | u64::from(code);
        bits += u32::from(code_bits);
        if bits >= 32 {
            bits -= 32;
            out.extend_from_slice(&low_32(window >> bits).to_be_bytes());
        }
    }
    //= https://www.rfc-editor.org/rfc/rfc7541#section-5.2
    //# As the Huffman-encoded data doesn't always end at an octet boundary,
    //# some padding is inserted after it, up to the next octet boundary.  To
    //# prevent this padding from being misinterpreted as part of the string
    //# literal, the most significant bits of the code corresponding to the
    //# EOS (end-of-string) symbol are used.
    let padded = (window << (32 - bits)) | (u64::from(u32::MAX) >> bits);
    let bytes = low_32(padded).to_be_bytes();
    out.extend_from_slice(bytes.get(..bits.div_ceil(8) as usize).unwrap_or_default());
}

/// Appends the text of `coded`, at most `bytes_max` bytes of it.
///
/// # Errors
/// For a broken code, and for a text longer than `bytes_max`: then part of it was appended.
pub(crate) fn decode(
    coded: &[u8],
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), HuffmanError> {
    let end = out.len().saturating_add(bytes_max);
    // The shortest code has five bits.
    out.reserve((coded.len() * 8 / 5).min(bytes_max).saturating_add(SYMBOLS_A_FILL));
    let mut bits = Bits { coded, window: 0, count: 0 };
    loop {
        bits.fill();
        let mut text = [0; SYMBOLS_A_FILL];
        let mut symbols = 0;
        for place in &mut text {
            let (symbol, length) = short_symbol(bits.window);
            if length == 0 || length > bits.count {
                break;
            }
            *place = symbol;
            bits.skip(length);
            symbols += 1;
        }
        if symbols == 0 {
            // A long code or the end.
            let Some(byte) = bits.long()? else { return Ok(()) };
            (text[0], symbols) = (byte, 1);
        }
        // A copy of a fixed length is the quicker one.
        let before = out.len();
        out.extend_from_slice(&text);
        out.truncate((before + symbols).min(end));
        if before + symbols > end {
            return Err(HuffmanError::TooLong);
        }
    }
}

/// The code that is left.
struct Bits<'c> {
    coded: &'c [u8],
    /// The next bits stand at its top; behind the last one, ones as in a padding.
    window: u64,
    /// How many of them were taken off `coded`. More may stand there, but are not counted.
    count: u32,
}

impl Bits<'_> {
    /// Fills the window up with whole bytes, to 56 bits or more unless `coded` ends.
    fn fill(&mut self) {
        let eight = self.coded.first_chunk().copied().unwrap_or_else(|| {
            let mut last = [u8::MAX; 8];
            last.iter_mut().zip(self.coded).for_each(|(to, from)| *to = *from);
            last
        });
        self.window |= u64::from_be_bytes(eight) >> self.count;
        let bytes = (63 - self.count as usize) / 8;
        let (taken, rest) = self.coded.split_at(bytes.min(self.coded.len()));
        self.count += u32::try_from(taken.len() * 8).unwrap_or_default();
        self.coded = rest;
    }

    fn skip(&mut self, length: u32) {
        self.window <<= length;
        self.count -= length;
    }

    /// Takes a symbol whose code is longer than a byte; `None` at the end.
    fn long(&mut self) -> Result<Option<u8>, HuffmanError> {
        // What is left is no symbol: it has to be a padding of less than a byte, all ones.
        if self.count < 8 && self.window | u64::MAX >> self.count == u64::MAX {
            return Ok(None);
        }
        let (symbol, length) = long_symbol(self.window);
        match u8::try_from(symbol) {
            Ok(byte) if length <= self.count => {
                self.skip(length);
                Ok(Some(byte))
            }
            _ => Err(HuffmanError::Broken),
        }
    }
}

/// The symbol whose code is at the top of `window`, and the length of the code; 0 if it is longer
/// than a byte.
fn short_symbol(window: u64) -> (u8, u32) {
    let top = usize::from(window.to_be_bytes()[0]);
    let (symbol, length) = SHORT.get(top).copied().unwrap_or_default();
    (symbol, u32::from(length))
}

/// As [`short_symbol`], for codes longer than a byte: the length whose codes have that value among
/// them. A short code, which is here because it is cut, has none.
fn long_symbol(window: u64) -> (u16, u32) {
    let top = u32::try_from(window >> 32).unwrap_or_default();
    for length in &LONG {
        if (length.start..length.end).contains(&top) {
            let at = (top - length.start) >> (32 - u32::from(length.bits));
            let symbol = SORTED.get(usize::from(length.first) + at as usize);
            return (symbol.copied().unwrap_or(EOS), u32::from(length.bits));
        }
    }
    (EOS, 30)
}

fn code(byte: u8) -> (u32, u8) {
    CODES.get(usize::from(byte)).copied().unwrap_or_default()
}

#[expect(clippy::cast_possible_truncation, reason = "the upper half is meant to go")]
const fn low_32(value: u64) -> u32 {
    value as u32
}

/// Code and length of each byte.
static CODES: [(u32, u8); 256] = {
    let mut codes = [(0, 0); 256];
    let (mut code, mut bits, mut at) = (0_u32, 0, 0);
    while at < SYMBOLS {
        let symbol = SORTED[at] as usize;
        code <<= LENGTHS[symbol] - bits;
        bits = LENGTHS[symbol];
        if symbol < 256 {
            codes[symbol] = (code, bits);
        }
        (code, at) = (code + 1, at + 1);
    }
    codes
};

/// The symbols in the order of their codes.
static SORTED: [u16; SYMBOLS] = sorted();

#[expect(clippy::cast_possible_truncation, reason = "257 symbols fit")]
const fn sorted() -> [u16; SYMBOLS] {
    let mut sorted = [0; SYMBOLS];
    let (mut at, mut bits) = (0, 0);
    while bits <= 30 {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] == bits {
                sorted[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        bits += 1;
    }
    sorted
}

/// For each byte: the symbol whose code it begins with, and that code's length; 0 where the code
/// is longer than the byte.
static SHORT: [(u8, u8); 256] = short();

#[expect(clippy::cast_possible_truncation, reason = "such symbols are below 256")]
const fn short() -> [(u8, u8); 256] {
    let mut table = [(0, 0); 256];
    let (mut filled, mut at) = (0_usize, 0);
    while at < SYMBOLS && LENGTHS[SORTED[at] as usize] <= 8 {
        let bits = LENGTHS[SORTED[at] as usize];
        let next = filled + (1 << (8 - bits));
        while filled < next {
            table[filled] = (SORTED[at] as u8, bits);
            filled += 1;
        }
        at += 1;
    }
    table
}

/// The codes of one length, as the first 32 bits of what they begin.
#[derive(Clone, Copy)]
struct Length {
    start: u32,
    /// The first value beyond.
    end: u32,
    /// Where its symbols stand in [`SORTED`].
    first: u16,
    bits: u8,
}

/// The lengths from 9 on that have codes, in order.
static LONG: [Length; LONG_LENGTHS] = {
    let mut long = [Length { start: 0, end: 0, first: 0, bits: 0 }; LONG_LENGTHS];
    let (mut at, mut row, mut next) = (0_u16, 0, 0_u32);
    while (at as usize) < SYMBOLS {
        let bits = LENGTHS[SORTED[at as usize] as usize];
        let (first, start) = (at, next);
        while (at as usize) < SYMBOLS && LENGTHS[SORTED[at as usize] as usize] == bits {
            // The very last code, the end of a string, ends where a u32 does.
            next = next.saturating_add(1 << (32 - bits));
            at += 1;
        }
        if bits > 8 {
            long[row] = Length { start, end: next, first, bits };
            row += 1;
        }
    }
    assert!(row == LONG_LENGTHS);
    long
};

/// As many symbols of at most a byte each as a filled window may have.
const SYMBOLS_A_FILL: usize = 8;

/// Lengths from 9 on that have codes.
const LONG_LENGTHS: usize = 17;

/// The bytes, and the end of a string.
const SYMBOLS: usize = 257;

/// The symbol that must not occur.
const EOS: u16 = 256;

/// The length of each symbol's code in bits, RFC 7541 appendix B.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(text: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(text, &mut out);
        assert_eq!(out.len(), encoded_bytes(text));
        out
    }

    fn decoded(coded: &[u8]) -> Result<Vec<u8>, HuffmanError> {
        let mut out = Vec::new();
        decode(coded, usize::MAX, &mut out).map(|()| out)
    }

    /// RFC 7541 sections C.4 and C.6.
    #[test]
    fn the_strings_of_the_rfc() {
        let strings: [(&str, &[u8]); 13] = [
            (
                "www.example.com",
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff],
            ),
            ("no-cache", &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]),
            ("custom-key", &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f]),
            ("custom-value", &[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf]),
            ("302", &[0x64, 0x02]),
            ("private", &[0xae, 0xc3, 0x77, 0x1a, 0x4b]),
            (
                "Mon, 21 Oct 2013 20:13:21 GMT",
                &[
                    0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04,
                    0x0b, 0x81, 0x66, 0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
                ],
            ),
            (
                "https://www.example.com",
                &[
                    0x9d, 0x29, 0xad, 0x17, 0x18, 0x63, 0xc7, 0x8f, 0x0b, 0x97, 0xc8, 0xe9, 0xae,
                    0x82, 0xae, 0x43, 0xd3,
                ],
            ),
            ("307", &[0x64, 0x0e, 0xff]),
            (
                "Mon, 21 Oct 2013 20:13:22 GMT",
                &[
                    0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04,
                    0x0b, 0x81, 0x66, 0xe0, 0x84, 0xa6, 0x2d, 0x1b, 0xff,
                ],
            ),
            ("gzip", &[0x9b, 0xd9, 0xab]),
            (
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
                &[
                    0x94, 0xe7, 0x82, 0x1d, 0xd7, 0xf2, 0xe6, 0xc7, 0xb3, 0x35, 0xdf, 0xdf, 0xcd,
                    0x5b, 0x39, 0x60, 0xd5, 0xaf, 0x27, 0x08, 0x7f, 0x36, 0x72, 0xc1, 0xab, 0x27,
                    0x0f, 0xb5, 0x29, 0x1f, 0x95, 0x87, 0x31, 0x60, 0x65, 0xc0, 0x03, 0xed, 0x4e,
                    0xe5, 0xb1, 0x06, 0x3d, 0x50, 0x07,
                ],
            ),
            ("", &[]),
        ];
        for (text, coded) in strings {
            assert_eq!(encoded(text.as_bytes()), coded, "{text}");
            assert_eq!(decoded(coded).unwrap(), text.as_bytes(), "{text}");
        }
    }

    #[test]
    fn every_symbol_alone_and_at_every_bit() {
        for symbol in 0..=u8::MAX {
            for before in 0..8 {
                // Codes of '0' have five bits, so the next one begins at each bit of a byte.
                let mut text = vec![b'0'; before];
                text.extend([symbol, b'x', symbol]);
                assert_eq!(decoded(&encoded(&text)).unwrap(), text);
            }
        }
    }

    #[test]
    fn what_is_no_padding_is_refused() {
        // 'a' is 00011; what follows has to be ones, fewer than eight.
        assert_eq!(decoded(&[0b0001_1111]).unwrap(), b"a");
        for broken in [
            &[0b0001_1110][..],
            &[0b0001_1111, 0xff],
            &[0xff],
            &[0xff, 0xff, 0xff, 0xff],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            // A code of ten bits that ends after nine.
            &[0b1111_1110],
        ] {
            assert_eq!(decoded(broken), Err(HuffmanError::Broken), "{broken:?}");
        }
    }

    #[test]
    fn the_limit_holds_while_decoding() {
        let coded = encoded(&[b'0'; 1000]);
        let mut out = b"before".to_vec();
        assert_eq!(decode(&coded, 1000, &mut out), Ok(()));
        out.truncate(6);
        assert_eq!(decode(&coded, 999, &mut out), Err(HuffmanError::TooLong));
        assert_eq!(out.len(), 6 + 999);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(text in prop::collection::vec(0_u8.., 0..200)) {
            prop_assert_eq!(decoded(&encoded(&text)).unwrap(), text);
        }

        #[test]
        fn whatever_decodes_is_the_only_code_of_its_text(
            coded in prop::collection::vec(0_u8.., 0..64),
        ) {
            if let Ok(text) = decoded(&coded) {
                prop_assert_eq!(encoded(&text), coded);
            }
        }
    }
}
