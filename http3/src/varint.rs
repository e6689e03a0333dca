//! varint reads and writes the integers of QUIC: 1, 2, 4 or 8 bytes, the length in the first two
//! bits (RFC 9000 section 16).

/// The largest value.
pub(crate) const VARINT_MAX: u64 = (1 << 62) - 1;

/// The most bytes an integer takes.
pub(crate) const VARINT_BYTES_MAX: usize = 8;

/// The integer at the front of `bytes` and how many bytes it took; `None` if it is cut off.
pub(crate) fn decode(bytes: &[u8]) -> Option<(u64, usize)> {
    let first = *bytes.first()?;
    let value = match first >> 6 {
        0 => return Some((u64::from(first), 1)),
        1 => u64::from(u16::from_be_bytes(*bytes.first_chunk()?)) & 0x3fff,
        2 => u64::from(u32::from_be_bytes(*bytes.first_chunk()?)) & 0x3fff_ffff,
        _ => u64::from_be_bytes(*bytes.first_chunk()?) & VARINT_MAX,
    };
    Some((value, 1 << (first >> 6)))
}

/// How many bytes `value` takes in its shortest form.
pub(crate) const fn bytes_of(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Appends `value` in its shortest form. A value above [`VARINT_MAX`] is cut to it.
pub(crate) fn encode(value: u64, out: &mut Vec<u8>) {
    let (bytes, len) = to_bytes(value);
    out.extend_from_slice(bytes.get(..len).unwrap_or_default());
}

/// The shortest form of `value`, in the first bytes of the array.
pub(crate) fn to_bytes(value: u64) -> ([u8; VARINT_BYTES_MAX], usize) {
    let value = value.min(VARINT_MAX);
    let len = bytes_of(value);
    let marked = value | (u64::from(len.trailing_zeros()) << (len * 8 - 2));
    ((marked << (64 - len * 8)).to_be_bytes(), len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        encode(value, &mut out);
        out
    }

    /// RFC 9000 section A.1.
    #[test]
    fn the_examples_of_the_rfc() {
        let examples: [(&[u8], u64); 4] = [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ];
        for (bytes, value) in examples {
            assert_eq!(decode(bytes), Some((value, bytes.len())));
            assert_eq!(encoded(value), bytes);
        }
        assert_eq!(decode(&[0x40, 0x25]), Some((37, 2)), "a longer form than needed is legal");
    }

    #[test]
    fn edges_of_every_length() {
        for edge in [0, 63, 64, 16_383, 16_384, (1 << 30) - 1, 1 << 30, VARINT_MAX] {
            let bytes = encoded(edge);
            assert_eq!(bytes.len(), bytes_of(edge));
            assert_eq!(decode(&bytes).unwrap(), (edge, bytes.len()));
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), None);
            }
        }
        assert_eq!(encoded(u64::MAX), encoded(VARINT_MAX));
    }
}
