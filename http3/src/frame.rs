//! frame cuts a stream into frames as its bytes come (RFC 9114 section 7).
//!
//! ```text
//!   type (varint)   length (varint)   payload (length bytes)
//! ```
//!
//! In comes a slice of what a stream carried next, out come the headers of frames and pieces of
//! their payload, which are parts of that slice. Kept between calls: at most 16 bytes of a header
//! and two numbers. What a length announces is never allocated.

use crate::varint;

/// The frame types that mean something here.
pub(crate) mod kind {
    pub(crate) const DATA: u64 = 0x00;
    pub(crate) const HEADERS: u64 = 0x01;
    pub(crate) const CANCEL_PUSH: u64 = 0x03;
    pub(crate) const SETTINGS: u64 = 0x04;
    pub(crate) const PUSH_PROMISE: u64 = 0x05;
    pub(crate) const GOAWAY: u64 = 0x07;
    pub(crate) const MAX_PUSH_ID: u64 = 0x0d;
    /// For a request stream, RFC 9218 section 7.2.
    pub(crate) const PRIORITY_UPDATE: u64 = 0x0f_0700;
    /// For a push stream.
    pub(crate) const PRIORITY_UPDATE_PUSH: u64 = 0x0f_0701;
}

//= https://www.rfc-editor.org/rfc/rfc9114#section-7.2.8
//# These frame types MUST NOT be sent, and their receipt MUST be treated as a connection
//# error of type H3_FRAME_UNEXPECTED.
/// Whether a frame type is one of HTTP/2 that HTTP/3 does not have.
pub(crate) const fn is_of_http2(kind: u64) -> bool {
    matches!(kind, 0x02 | 0x06 | 0x08 | 0x09)
}

/// The first bytes of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: u64,
    /// Of the payload.
    pub(crate) length: u64,
    /// How many bytes the header itself took.
    pub(crate) header_bytes: usize,
}

impl FrameHeader {
    /// The header at the front of `bytes`, if it is whole.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (kind, kind_bytes) = varint::decode(bytes)?;
        let (length, length_bytes) = varint::decode(bytes.get(kind_bytes..)?)?;
        Some(Self { kind, length, header_bytes: kind_bytes + length_bytes })
    }
}

/// What comes next on a stream of frames.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Piece<'d> {
    /// A frame begins.
    Header(FrameHeader),
    /// The next bytes of its payload, never empty. `is_last` when the frame ends with them.
    Payload { kind: u64, bytes: &'d [u8], is_last: bool },
}

/// Where in its frames a stream is.
#[derive(Clone, Debug, Default)]
pub(crate) struct FrameReader {
    /// The beginning of a header that was cut off.
    partial: [u8; HEADER_BYTES_MAX],
    partial_bytes: usize,
    kind: u64,
    /// What is still to come of the payload.
    left: u64,
}

impl FrameReader {
    /// Takes the next piece from the front of `data`; `None` when `data` is used up.
    pub(crate) fn next<'d>(&mut self, data: &mut &'d [u8]) -> Option<Piece<'d>> {
        if data.is_empty() {
            return None;
        }
        if self.left > 0 {
            let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(data.len());
            let (bytes, rest) = data.split_at_checked(here)?;
            *data = rest;
            self.left -= bytes.len() as u64;
            return Some(Piece::Payload { kind: self.kind, bytes, is_last: self.left == 0 });
        }
        let header = if self.partial_bytes == 0 { self.whole(data) } else { None };
        let header = match header {
            Some(header) => header,
            None => self.in_pieces(data)?,
        };
        (self.kind, self.left) = (header.kind, header.length);
        Some(Piece::Header(header))
    }

    /// Whether the stream may end here: not inside a frame.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.left == 0 && self.partial_bytes == 0
    }

    fn whole(&self, data: &mut &[u8]) -> Option<FrameHeader> {
        let header = FrameHeader::parse(data)?;
        *data = data.get(header.header_bytes..)?;
        Some(header)
    }

    /// Collects a header byte by byte: it is rare that one is cut.
    fn in_pieces(&mut self, data: &mut &[u8]) -> Option<FrameHeader> {
        while let Some((byte, rest)) = data.split_first() {
            // Sixteen bytes are always a whole header, so there is room.
            *self.partial.get_mut(self.partial_bytes)? = *byte;
            self.partial_bytes += 1;
            *data = rest;
            if let Some(header) = FrameHeader::parse(self.partial.get(..self.partial_bytes)?) {
                self.partial_bytes = 0;
                return Some(header);
            }
        }
        None
    }
}

/// The header of a DATA frame, to be written before `length` bytes of content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DataHeader {
    bytes: [u8; Self::BYTES_MAX],
    len: usize,
}

impl DataHeader {
    /// The most bytes a header takes.
    pub const BYTES_MAX: usize = 1 + varint::VARINT_BYTES_MAX;

    /// The header of a frame with `length` bytes of payload.
    #[must_use]
    pub fn new(length: u64) -> Self {
        let (varint, len) = varint::to_bytes(length);
        let mut bytes = [0; Self::BYTES_MAX];
        // The type of DATA is 0.
        for (to, from) in bytes.iter_mut().skip(1).zip(varint) {
            *to = from;
        }
        Self { bytes, len: 1 + len }
    }

    /// The bytes to write.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Type and length, each a varint.
pub(crate) const HEADER_BYTES_MAX: usize = 2 * varint::VARINT_BYTES_MAX;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        varint::encode(kind, &mut out);
        varint::encode(payload.len() as u64, &mut out);
        out.extend_from_slice(payload);
        out
    }

    /// Frames as (type, payload), whatever the pieces.
    fn read(chunks: &[&[u8]]) -> (Vec<(u64, Vec<u8>)>, bool) {
        let mut reader = FrameReader::default();
        let mut frames: Vec<(u64, Vec<u8>)> = Vec::new();
        for chunk in chunks {
            let mut data = *chunk;
            while let Some(piece) = reader.next(&mut data) {
                match piece {
                    Piece::Header(header) => frames.push((header.kind, Vec::new())),
                    Piece::Payload { kind, bytes, is_last } => {
                        let (last_kind, payload) = frames.last_mut().unwrap();
                        assert_eq!(kind, *last_kind);
                        assert!(!bytes.is_empty());
                        payload.extend_from_slice(bytes);
                        assert_eq!(is_last, reader.is_between_frames());
                    }
                }
            }
            assert!(data.is_empty());
        }
        (frames, reader.is_between_frames())
    }

    #[test]
    fn a_gibibyte_that_is_only_announced_takes_no_memory() {
        let mut reader = FrameReader::default();
        let mut data: &[u8] = &[0x01, 0xc0, 0, 0, 0, 0x40, 0, 0, 0, 9, 9];
        let header = FrameHeader { kind: 1, length: 1 << 30, header_bytes: 9 };
        assert_eq!(reader.next(&mut data), Some(Piece::Header(header)));
        let bytes = &[9, 9][..];
        assert_eq!(reader.next(&mut data), Some(Piece::Payload { kind: 1, bytes, is_last: false }));
        assert_eq!(reader.next(&mut data), None);
        assert!(!reader.is_between_frames());
    }

    #[test]
    fn data_headers_are_what_the_reader_reads() {
        for length in [0, 1, 63, 64, 16_383, 16_384, 1 << 30, varint::VARINT_MAX] {
            let header = DataHeader::new(length);
            let mut data = header.as_bytes();
            let header_bytes = data.len();
            let expected = FrameHeader { kind: kind::DATA, length, header_bytes };
            let piece = FrameReader::default().next(&mut data);
            assert_eq!(piece, Some(Piece::Header(expected)));
        }
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            frames in prop::collection::vec(
                (0..varint::VARINT_MAX, prop::collection::vec(0_u8.., 0..20)),
                1..5,
            ),
        ) {
            let bytes: Vec<u8> =
                frames.iter().flat_map(|(kind, payload)| frame(*kind, payload)).collect();
            let whole = read(&[&bytes]);
            prop_assert_eq!(&whole, &(frames, true));
            for cut in 0..bytes.len() {
                prop_assert_eq!(&read(&[&bytes[..cut], &bytes[cut..]]), &whole);
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(&read(&single), &whole);
        }

        #[test]
        fn whatever_comes_is_read_to_its_end(bytes in prop::collection::vec(0_u8.., 0..200)) {
            read(&[&bytes]);
        }
    }
}
