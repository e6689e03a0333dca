//! encode writes field lines (RFC 9204 section 4.5): references to the static table, else literals,
//! with the Huffman code where it is shorter.
//!
//! Nothing refers to a dynamic table, so a section is the same bytes each time, on every
//! connection, and lines can be added behind others.

use super::fields::FIELD_OVERHEAD_BYTES;
use super::huffman;
use super::integer;
use super::static_table::{self, Found};

/// Appends what stands before the lines of a section: no insert is required, the base is 0.
pub(crate) fn begin(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0]);
}

/// Appends one field line and tells its size as limits count it. The name has to be in lower case.
pub(crate) fn line(name: &[u8], value: &[u8], out: &mut Vec<u8>) -> u64 {
    //= https://www.rfc-editor.org/rfc/rfc9204#section-7.1.3
    //# An encoder might also choose not to index values for fields that are
    //# considered to be highly valuable or sensitive to recovery, such as the
    //# Cookie or Authorization header fields.
    let never_indexed = |bit| if is_secret(name) { bit } else { 0 };
    match static_table::find(name, value) {
        Found::Field(index) => integer::write(index, 6, 0xc0, out),
        Found::Name(index) => {
            integer::write(index, 4, 0x50 | never_indexed(0x20), out);
            string(value, 7, 0, out);
        }
        Found::Nothing => {
            string(name, 3, 0x20 | never_indexed(0x10), out);
            string(value, 7, 0, out);
        }
    }
    (name.len() + value.len()) as u64 + FIELD_OVERHEAD_BYTES
}

/// A length with `bits` bits in a first byte, and the text.
fn string(text: &[u8], bits: u32, flags: u8, out: &mut Vec<u8>) {
    let coded_bytes = huffman::encoded_bytes(text);
    if coded_bytes < text.len() {
        integer::write(coded_bytes, bits, flags | 1 << bits, out);
        huffman::encode(text, out);
    } else {
        integer::write(text.len(), bits, flags, out);
        out.extend_from_slice(text);
    }
}

/// Whether an intermediary must not put the value into a table that others could probe.
fn is_secret(name: &[u8]) -> bool {
    matches!(name, b"authorization" | b"cookie" | b"proxy-authorization" | b"set-cookie")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::decode::{SectionLimits, decode};
    use super::super::fields::Fields;
    use super::*;

    fn encoded(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        begin(&mut out);
        for (name, value) in fields {
            line(name, value, &mut out);
        }
        out
    }

    #[test]
    fn the_shortest_form_is_chosen() {
        assert_eq!(encoded(&[(b":method", b"GET")]), [0, 0, 0xd1]);
        assert_eq!(encoded(&[(b"x-frame-options", b"sameorigin")]), [0, 0, 0xff, 98 - 63]);
        assert_eq!(encoded(&[(b":status", b"302")]), [0, 0, 0xff, 66 - 63]);
        assert_eq!(encoded(&[(b":status", b"307")]), [0, 0, 0x5f, 24 - 15, 3, b'3', b'0', b'7']);
        assert_eq!(encoded(&[(b"age", b"00000")]), [0, 0, 0x52, 0x84, 0, 0, 0, 0x7f]);
        assert_eq!(encoded(&[(b"a~", b"")]), [0, 0, 0x22, b'a', b'~', 0]);
    }

    #[test]
    fn secrets_are_never_to_be_indexed() {
        assert_eq!(encoded(&[(b"cookie", b"~")]), [0, 0, 0x75, 1, b'~']);
        let block = encoded(&[(b"proxy-authorization", b"~")]);
        assert_eq!(block[2] & 0xf0, 0x30);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            fields in prop::collection::vec(
                (prop::collection::vec(0_u8.., 0..40), prop::collection::vec(0_u8.., 0..200)),
                0..20,
            ),
        ) {
            let lines: Vec<_> = fields.iter().map(|(n, v)| (&n[..], &v[..])).collect();
            let limits = SectionLimits { section_bytes_max: u64::MAX, fields_max: usize::MAX };
            let mut decoded = Fields::default();
            decode(&encoded(&lines), limits, &mut decoded).unwrap();
            let read: Vec<_> = decoded.iter().map(|field| (field.name, field.value)).collect();
            prop_assert_eq!(read, lines);
        }
    }
}
