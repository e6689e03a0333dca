//! instructions reads the encoder and decoder streams of a peer (RFC 9204 sections 4.3 and 4.4).
//!
//! Our table has capacity 0 and our sections refer to no table. What a peer may then still say is
//! that the capacity is 0, and that it gave up a stream; everything else is an error.

use crate::violation::Violation;

/// Reads instructions of the peer's encoder and counts them.
pub(crate) fn of_encoder(data: &[u8]) -> Result<u32, Violation> {
    for byte in data {
        match byte {
            // Set Dynamic Table Capacity to 0.
            0x20 => {}
            //= https://www.rfc-editor.org/rfc/rfc9204#section-4.3.1
            //# The decoder MUST treat a new dynamic table capacity value that exceeds
            //# this limit as a connection error of type QPACK_ENCODER_STREAM_ERROR.
            0x21..0x40 => return Err(Violation::CapacityExceeded),
            //= https://www.rfc-editor.org/rfc/rfc9204#section-3.2.2
            //# It is an error if the encoder attempts to add an entry that is
            //# larger than the dynamic table capacity
            _ => return Err(Violation::InsertWithoutCapacity),
        }
    }
    Ok(u32::try_from(data.len()).unwrap_or(u32::MAX))
}

/// Reads the stream of the peer's decoder.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DecoderStream {
    /// How many bytes of the integer of a cancellation came; 0 between instructions.
    integer_bytes: u8,
}

impl DecoderStream {
    /// Reads instructions and counts those that ended.
    pub(crate) fn read(&mut self, data: &[u8]) -> Result<u32, Violation> {
        let mut instructions = 0;
        for byte in data {
            let ends = match (self.integer_bytes, *byte) {
                // Stream Cancellation: legal for any stream, of no meaning without a table.
                (0, 0x40..0x80) => byte & 0x3f != 0x3f,
                (0, 0x80..) => return Err(Violation::AcknowledgementUnasked),
                //= https://www.rfc-editor.org/rfc/rfc9204#section-4.4.3
                //# An encoder that receives an Increment field equal to zero, or one
                //# that increases the Known Received Count beyond what the encoder has
                //# sent, MUST treat this as a connection error of type
                //# QPACK_DECODER_STREAM_ERROR.
                (0, _) => return Err(Violation::IncrementUnasked),
                (INTEGER_BYTES_MAX.., _) => return Err(Violation::CancellationInteger),
                (_, byte) => byte & 0x80 == 0,
            };
            self.integer_bytes = if ends { 0 } else { self.integer_bytes + 1 };
            instructions += u32::from(ends);
        }
        Ok(instructions)
    }
}

/// Six bits in the first byte and seven in each of nine more hold 62 bits.
const INTEGER_BYTES_MAX: u8 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoder_may_say_that_the_capacity_is_nothing() {
        assert_eq!(of_encoder(&[0x20, 0x20]), Ok(2));
        for (byte, violation) in [
            (0x21, Violation::CapacityExceeded),
            (0x3f, Violation::CapacityExceeded),
            (0x00, Violation::InsertWithoutCapacity),
            (0x41, Violation::InsertWithoutCapacity),
            (0x80, Violation::InsertWithoutCapacity),
            (0xc0, Violation::InsertWithoutCapacity),
        ] {
            assert_eq!(of_encoder(&[0x20, byte]), Err(violation), "{byte:x}");
        }
    }

    #[test]
    fn a_decoder_may_give_up_streams() {
        let mut stream = DecoderStream::default();
        assert_eq!(stream.read(&[0x40, 0x7e, 0x7f]), Ok(2));
        assert_eq!(stream.read(&[0x80]), Ok(0));
        assert_eq!(stream.read(&[0x01, 0x44]), Ok(2));
        let longest = [&[0x7f][..], &[0xff; 8], &[0x01]].concat();
        assert_eq!(stream.read(&longest), Ok(1));
        let beyond = [&[0x7f][..], &[0xff; 9], &[0x01]].concat();
        assert_eq!(stream.read(&beyond), Err(Violation::CancellationInteger));
    }

    #[test]
    fn a_decoder_has_nothing_to_acknowledge() {
        for (byte, violation) in [
            (0x00, Violation::IncrementUnasked),
            (0x01, Violation::IncrementUnasked),
            (0x3f, Violation::IncrementUnasked),
            (0x80, Violation::AcknowledgementUnasked),
            (0xff, Violation::AcknowledgementUnasked),
        ] {
            assert_eq!(DecoderStream::default().read(&[0x44, byte]), Err(violation), "{byte:x}");
        }
    }
}
