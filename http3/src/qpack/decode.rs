//! decode makes a field section of its encoded bytes (RFC 9204 section 4.5).
//!
//! We announce a dynamic table of capacity 0, so every reference is to the static table and no
//! section ever waits for another stream. Limits hold while decoding: nothing grows beyond them.

use super::fields::{FIELD_OVERHEAD_BYTES, Fields, Text};
use super::huffman::{self, HuffmanError};
use super::integer::{self, IntegerError};
use super::static_table;
use crate::violation::Violation;

/// What a field section may have at most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SectionLimits {
    pub(crate) section_bytes_max: u64,
    pub(crate) fields_max: usize,
}

/// Decodes the section that `block` encodes into `fields`, which is emptied first.
///
/// # Errors
/// For what RFC 9204 forbids, and for a section beyond its limits. `fields` then holds a part of
/// the section, within the limits.
pub(crate) fn decode(
    block: &[u8],
    limits: SectionLimits,
    fields: &mut Fields,
) -> Result<(), Violation> {
    fields.clear();
    let mut input = block;
    prefix(&mut input)?;
    while let Some(first) = input.first() {
        if fields.len() == limits.fields_max {
            return Err(Violation::FieldsTooMany);
        }
        line(*first, &mut input, limits.section_bytes_max, fields)?;
        if fields.section_bytes() > limits.section_bytes_max {
            return Err(Violation::FieldSectionTooLarge);
        }
    }
    Ok(())
}

/// The insert count that the section requires, and its base.
fn prefix(input: &mut &[u8]) -> Result<(), Violation> {
    //= https://www.rfc-editor.org/rfc/rfc9204#section-4.5.1.1
    //# If the decoder encounters a value of EncodedInsertCount that could not
    //# have been produced by a conformant encoder, it MUST treat this as a
    //# connection error of type QPACK_DECOMPRESSION_FAILED.
    if read(input, 8)? != 0 {
        return Err(Violation::BlockDynamic);
    }
    let sign = input.first().is_some_and(|byte| byte & 0x80 != 0);
    read(input, 7)?;
    //= https://www.rfc-editor.org/rfc/rfc9204#section-4.5.1.2
    //# The value of Base MUST NOT be negative.
    if sign { Err(Violation::BlockBase) } else { Ok(()) }
}

/// One field line, by the pattern of its first byte.
fn line(
    first: u8,
    input: &mut &[u8],
    section_bytes_max: u64,
    fields: &mut Fields,
) -> Result<(), Violation> {
    let (name, value) = match first {
        0xc0.. => {
            let index = static_index(input, 6)?;
            (Text::of_static(index), Text::of_static(index))
        }
        0x50..0x60 | 0x70..0x80 => {
            let name = Text::of_static(static_index(input, 4)?);
            (name, string(input, 7, section_bytes_max, fields)?)
        }
        0x20..0x40 => {
            let name = string(input, 3, section_bytes_max, fields)?;
            (name, string(input, 7, section_bytes_max, fields)?)
        }
        // Indexed or named by the dynamic table, with or without post-base index.
        _ => return Err(Violation::BlockDynamic),
    };
    fields.push(name, value);
    Ok(())
}

fn static_index(input: &mut &[u8], bits: u32) -> Result<u32, Violation> {
    let index = read(input, bits)?;
    //= https://www.rfc-editor.org/rfc/rfc9204#section-3.1
    //# When the decoder encounters an invalid static table index in a field
    //# line representation, it MUST treat this as a connection error of type
    //# QPACK_DECOMPRESSION_FAILED.
    static_table::get(index).ok_or(Violation::BlockStaticIndex)?;
    u32::try_from(index).map_err(|_| Violation::BlockStaticIndex)
}

/// A string into the arena: its length has `bits` bits of the first byte, and the bit above them
/// says whether it is Huffman-encoded.
fn string(
    input: &mut &[u8],
    bits: u32,
    section_bytes_max: u64,
    fields: &mut Fields,
) -> Result<Text, Violation> {
    let is_huffman = input.first().is_some_and(|byte| byte >> bits & 1 == 1);
    let length = read(input, bits)?;
    let length = usize::try_from(length).map_err(|_| Violation::BlockTruncated)?;
    let (coded, rest) = input.split_at_checked(length).ok_or(Violation::BlockTruncated)?;
    *input = rest;
    // The other text of this field may be in the arena already: then this is too much by that,
    // and the sum is judged when the field is complete.
    let left = section_bytes_max.saturating_sub(fields.section_bytes() + FIELD_OVERHEAD_BYTES);
    let left = usize::try_from(left).unwrap_or(usize::MAX);
    let arena = fields.arena();
    let start = arena.len();
    if is_huffman {
        huffman::decode(coded, left, arena).map_err(|error| match error {
            HuffmanError::Broken => Violation::BlockHuffman,
            HuffmanError::TooLong => Violation::FieldSectionTooLarge,
        })?;
    } else if coded.len() <= left {
        arena.extend_from_slice(coded);
    } else {
        return Err(Violation::FieldSectionTooLarge);
    }
    Ok(Text::of_arena(start, arena.len()))
}

fn read(input: &mut &[u8], bits: u32) -> Result<u64, Violation> {
    integer::read(input, bits).map_err(|error| match error {
        IntegerError::CutOff => Violation::BlockTruncated,
        IntegerError::TooLarge => Violation::BlockInteger,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: SectionLimits = SectionLimits { section_bytes_max: 1000, fields_max: 10 };

    fn decoded(block: &[u8]) -> Result<Vec<(String, String)>, Violation> {
        let mut fields = Fields::default();
        let outcome = decode(block, LIMITS, &mut fields);
        assert!(fields.section_bytes() <= 2 * LIMITS.section_bytes_max);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        outcome.map(|()| fields.iter().map(|f| (text(f.name), text(f.value))).collect())
    }

    /// RFC 9204 section B.1.
    #[test]
    fn a_literal_field_line_with_a_name_reference() {
        let block = [&[0x00, 0x00, 0x51, 0x0b][..], b"/index.html"].concat();
        assert_eq!(decoded(&block).unwrap(), [(":path".into(), "/index.html".into())]);
    }

    #[test]
    fn every_form_of_a_field_line() {
        let field = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        for (block, fields) in [
            (&[0, 0, 0xc0 | 17][..], field(":method", "GET")),
            (&[0, 0, 0xff, 98 - 63], field("x-frame-options", "sameorigin")),
            // An insert count of 0 allows any base above it.
            (&[0, 0x7f, 0x80, 0x01, 0xd1], field(":method", "GET")),
            // Name reference with a literal value, plain and Huffman, and never to be indexed.
            (&[0, 0, 0x5f, 80, 1, b'x'], field("user-agent", "x")),
            (&[0, 0, 0x7f, 80, 0x82, 0x64, 0x02], field("user-agent", "302")),
            // Literal name.
            (&[0, 0, 0x21, b'a', 0], field("a", "")),
            (&[0, 0, 0x3a, 0x64, 0x02, 0x82, 0x64, 0x02], field("302", "302")),
            (
                &[0, 0, 0x27, 0x00, b'1', b'2', b'3', b'4', b'5', b'6', b'7', 0],
                field("1234567", ""),
            ),
            (&[0, 0], Vec::new()),
        ] {
            assert_eq!(decoded(block).unwrap(), fields, "{block:x?}");
        }
    }

    #[test]
    fn what_no_encoder_may_send() {
        use Violation as V;
        for (block, violation) in [
            (&[][..], V::BlockTruncated),
            (&[0], V::BlockTruncated),
            (&[1, 0], V::BlockDynamic),
            (&[0xff, 0x00, 0], V::BlockDynamic),
            (&[0, 0x80], V::BlockBase),
            (&[0, 0xff, 0x00], V::BlockBase),
            // Static index 99 and far beyond; as a name too.
            (&[0, 0, 0xff, 99 - 63], V::BlockStaticIndex),
            (&[0, 0, 0xff, 0xff, 0xff, 0xff, 0x7f], V::BlockStaticIndex),
            (&[0, 0, 0x5f, 99 - 15, 0], V::BlockStaticIndex),
            // Dynamic table: indexed, named, post-base indexed, post-base named.
            (&[0, 0, 0x80], V::BlockDynamic),
            (&[0, 0, 0x40, 0], V::BlockDynamic),
            (&[0, 0, 0x60, 0], V::BlockDynamic),
            (&[0, 0, 0x10], V::BlockDynamic),
            (&[0, 0, 0x00, 0], V::BlockDynamic),
            // Cut off in each place.
            (&[0, 0, 0xff], V::BlockTruncated),
            (&[0, 0, 0x51], V::BlockTruncated),
            (&[0, 0, 0x51, 2, b'/'], V::BlockTruncated),
            (&[0, 0, 0x23, b'a'], V::BlockTruncated),
            (&[0, 0, 0x21, b'a'], V::BlockTruncated),
            // Announces 2^61 bytes.
            (
                &[0, 0, 0x51, 0x7f, 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x1f],
                V::BlockTruncated,
            ),
            (
                &[0, 0, 0x51, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
                V::BlockInteger,
            ),
            (&[0, 0, 0x51, 0x81, 0x00], V::BlockHuffman),
        ] {
            assert_eq!(decoded(block), Err(violation), "{block:x?}");
        }
    }

    #[test]
    fn limits_hold_while_decoding() {
        let block = |fields: usize| [vec![0, 0], vec![0xd1; fields]].concat();
        assert_eq!(decoded(&block(10)).unwrap().len(), 10);
        assert_eq!(decoded(&block(11)), Err(Violation::FieldsTooMany));
        // name 4 + value 964 + 32 = 1000
        let mut long = [&[0, 0, 0x52 | 0x04][..], &[0x7f, 0xc5, 0x06], &[b'0'; 964]].concat();
        assert_eq!(decoded(&long).unwrap().len(), 1, "{long:x?}");
        (long[3], long[4]) = (0x7f, 0xc6);
        long.push(b'0');
        assert_eq!(decoded(&long), Err(Violation::FieldSectionTooLarge));
    }
}
