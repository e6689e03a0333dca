//! exchange is what one request writes and what it expects, in the `perf` protocol.
//!
//! ```text
//! client ─► response size, 8 bytes big endian │ request payload, any bytes │ FIN
//! server ─► as many bytes as were asked for │ FIN
//! ```
//! (draft-banks-quic-performance-00 section 2; the size is neither a varint nor counted in it.)

use bytes::Bytes;
use quiclane::{Conn, StreamId, VarInt, WriteError};

/// The same for every request of a run.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    /// The response size and as much payload as fits.
    head: Bytes,
    /// Payload beyond `head`.
    rest: u64,
    /// Bytes to expect.
    pub(crate) response_size: u64,
}

impl Exchange {
    /// Requests with `request_size` bytes of payload for `response_size` bytes.
    pub(crate) fn new(request_size: u64, response_size: u64) -> Self {
        let with_head = request_size.min(HEAD_PAYLOAD_MAX);
        let mut head = response_size.to_be_bytes().to_vec();
        head.resize(SIZE_BYTES + usize::try_from(with_head).unwrap_or_default(), 0);
        Self { head: head.into(), rest: request_size - with_head, response_size }
    }

    /// What a new request has to write. Copies and allocates nothing.
    pub(crate) fn begin(&self) -> Outgoing {
        Outgoing { chunk: self.head.clone(), rest: self.rest, size_left: SIZE_BYTES, done: false }
    }
}

/// What one request still has to write.
#[derive(Debug)]
pub(crate) struct Outgoing {
    chunk: Bytes,
    rest: u64,
    size_left: usize,
    done: bool,
}

impl Outgoing {
    /// Whether everything was written, the FIN included.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Writes what flow control allows, about [`VISIT_BYTES`] at most; says how many bytes of
    /// payload that were and what comes next.
    pub(crate) fn write(&mut self, conn: &mut Conn<'_>, stream: StreamId) -> (u64, Next) {
        let mut payload = 0;
        while !self.done {
            if payload >= VISIT_BYTES {
                return (payload, Next::Again);
            }
            if self.chunk.is_empty() && !self.refill() {
                if conn.finish(stream).is_err() {
                    return (payload, Next::Refused(None));
                }
                self.done = true;
                break;
            }
            match conn.write(stream, &mut self.chunk) {
                Ok(written) => payload += self.count(written),
                Err(WriteError::Blocked) => break,
                Err(WriteError::Stopped(code)) => return (payload, Next::Refused(Some(code))),
                Err(_) => return (payload, Next::Refused(None)),
            }
        }
        (payload, Next::Wait)
    }

    /// Takes the next piece of payload; false when there is none.
    fn refill(&mut self) -> bool {
        let bytes = self.rest.min(ZEROS.len() as u64);
        self.rest -= bytes;
        self.chunk = Bytes::from_static(&ZEROS[..usize::try_from(bytes).unwrap_or_default()]);
        bytes > 0
    }

    /// The payload among `written` bytes: all but the response size at the front.
    fn count(&mut self, written: usize) -> u64 {
        let size = written.min(self.size_left);
        self.size_left -= size;
        (written - size) as u64
    }
}

/// What a request needs after some of it was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// Nothing, until its stream is writable again or its response arrives.
    Wait,
    /// Another visit: more could be written at once.
    Again,
    /// To be given up: the peer takes nothing more (STOP_SENDING), and maybe says why.
    Refused(Option<VarInt>),
}

/// Application error code for streams given up and connections closed: the draft names none.
pub(crate) const NO_ERROR: VarInt = VarInt::from_u32(0);

/// The response size at the front of each request.
const SIZE_BYTES: usize = 8;

/// Payload sent in one piece with the response size: small requests are one write.
const HEAD_PAYLOAD_MAX: u64 = 4_096;

/// Payload written before the next request has its turn. Without a limit the request that is told
/// first that it may write takes the whole window, and that is always the youngest one.
const VISIT_BYTES: u64 = 256 << 10;

/// Payload: its content does not matter, and static bytes are never copied or counted.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_names_the_response_size() {
        let exchange = Exchange::new(3, 0x0102);
        assert_eq!(&exchange.head[..], [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0]);
        assert_eq!(exchange.rest, 0);
    }

    #[test]
    fn all_payload_is_written_and_only_payload_counted() {
        for size in [0, 1, HEAD_PAYLOAD_MAX, HEAD_PAYLOAD_MAX + 1, 1_000_000] {
            let mut outgoing = Exchange::new(size, 0).begin();
            let mut payload = 0;
            loop {
                if outgoing.chunk.is_empty() && !outgoing.refill() {
                    break;
                }
                // Flow control that lets five bytes through at a time, then the rest.
                for bytes in [5.min(outgoing.chunk.len()), usize::MAX] {
                    let bytes = bytes.min(outgoing.chunk.len());
                    drop(outgoing.chunk.split_to(bytes));
                    payload += outgoing.count(bytes);
                }
            }
            assert_eq!(payload, size);
        }
    }
}
