//! integer reads and writes the integers of QPACK: some bits of a first byte, then seven bits a
//! byte, the low ones first (RFC 7541 section 5.1, RFC 9204 section 4.1.1).

/// Why an integer could not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum IntegerError {
    CutOff,
    /// Above 62 bits, or padded beyond their bytes.
    TooLarge,
}

/// Takes an integer from the front of `input`; its first byte lends the low `bits` bits.
pub(crate) fn read(input: &mut &[u8], bits: u32) -> Result<u64, IntegerError> {
    let (first, mut rest) = input.split_first().ok_or(IntegerError::CutOff)?;
    let mask = u64::from(u8::MAX) >> (8 - bits);
    let mut value = u64::from(*first) & mask;
    if value == mask {
        let mut shift = 0;
        loop {
            let (byte, tail) = rest.split_first().ok_or(IntegerError::CutOff)?;
            rest = tail;
            //= https://www.rfc-editor.org/rfc/rfc9204#section-4.1.1
            //# QPACK implementations MUST be able to decode integers up to and
            //# including 62 bits long.
            if shift > SHIFT_MAX {
                return Err(IntegerError::TooLarge);
            }
            value += u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *input = rest;
    if value >= 1 << 62 { Err(IntegerError::TooLarge) } else { Ok(value) }
}

/// Appends `value`: the low `bits` bits of the first byte, whose other bits are `flags`, and more
/// bytes as needed.
pub(crate) fn write(value: usize, bits: u32, flags: u8, out: &mut Vec<u8>) {
    let mask = u8::MAX >> (8 - bits);
    match u8::try_from(value) {
        Ok(small) if small < mask => out.push(flags | small),
        _ => {
            out.push(flags | mask);
            let mut value = value - usize::from(mask);
            while value >= 0x80 {
                out.push(low_7(value) | 0x80);
                value >>= 7;
            }
            out.push(low_7(value));
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits fit")]
const fn low_7(value: usize) -> u8 {
    (value & 0x7f) as u8
}

/// Nine bytes after the first: 62 bits and no overflow of 64.
const SHIFT_MAX: u32 = 56;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: usize, bits: u32) -> Vec<u8> {
        let mut out = Vec::new();
        write(value, bits, 0, &mut out);
        out
    }

    /// RFC 7541 section C.1.
    #[test]
    fn the_examples_of_the_rfc() {
        assert_eq!(written(10, 5), [0b01010]);
        assert_eq!(written(1337, 5), [0b11111, 0b1001_1010, 0b0000_1010]);
        assert_eq!(written(42, 8), [0b0010_1010]);
        assert_eq!(read(&mut &[0b1110_1010][..], 5).unwrap(), 10);
        assert_eq!(read(&mut &[0b11111, 0b1001_1010, 0b0000_1010, 7][..], 5).unwrap(), 1337);
    }

    #[test]
    fn what_is_too_large_or_cut_off_is_refused() {
        let largest = [0xff, 0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f];
        assert_eq!(read(&mut &largest[..], 7), Ok((1 << 62) - 1));
        for cut in 0..largest.len() {
            assert_eq!(read(&mut &largest[..cut], 7), Err(IntegerError::CutOff));
        }
        let beyond = [0xff, 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x3f];
        assert_eq!(read(&mut &beyond[..], 7), Err(IntegerError::TooLarge));
        let padded = [[0xff].as_slice(), &[0x80; 10], &[0]].concat();
        assert_eq!(read(&mut &padded[..], 7), Err(IntegerError::TooLarge));
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(value in 0_usize..1 << 62, bits in 3_u32..=8) {
            let bytes = written(value, bits);
            let mut input = &bytes[..];
            prop_assert_eq!(read(&mut input, bits), Ok(value as u64));
            prop_assert!(input.is_empty());
        }
    }
}
