//! outgoing is what one request still has to write: a beginning that is the same for all requests
//! of a kind, then a body that was given, or zeros.

use bytes::Bytes;
use quiclane::{Conn, StreamId, VarInt, WriteError};

/// What one request still has to write. Taking one from its template copies and allocates nothing.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    chunk: Bytes,
    /// Payload after `chunk`.
    rest: Bytes,
    /// Zeros after that.
    zeros: u64,
    /// Bytes at the front that are no payload.
    overhead: usize,
    done: bool,
}

impl Outgoing {
    /// `overhead`, which is no payload, then `payload`, then `zeros`, then FIN.
    pub(super) fn new(overhead: &[u8], payload: Bytes, zeros: u64) -> Self {
        let with_head = payload.len().min(HEAD_PAYLOAD_MAX);
        let mut head = overhead.to_vec();
        head.extend_from_slice(payload.get(..with_head).unwrap_or_default());
        let room = (HEAD_PAYLOAD_MAX - with_head) as u64;
        let zeros_with_head = if with_head < payload.len() { 0 } else { zeros.min(room) };
        head.resize(head.len() + usize::try_from(zeros_with_head).unwrap_or_default(), 0);
        Self {
            chunk: head.into(),
            rest: payload.slice(with_head..),
            zeros: zeros - zeros_with_head,
            overhead: overhead.len(),
            done: false,
        }
    }

    /// Whether everything was written, the FIN included, or nothing more will be.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Nothing more will be written.
    pub(crate) fn abandon(&mut self) {
        self.done = true;
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
        if !self.rest.is_empty() {
            self.chunk = self.rest.split_to(self.rest.len().min(ZEROS.len()));
            return true;
        }
        let bytes = self.zeros.min(ZEROS.len() as u64);
        self.zeros -= bytes;
        self.chunk = Bytes::from_static(&ZEROS[..usize::try_from(bytes).unwrap_or_default()]);
        bytes > 0
    }

    /// The payload among `written` bytes: all but what stands before it.
    fn count(&mut self, written: usize) -> u64 {
        let overhead = written.min(self.overhead);
        self.overhead -= overhead;
        (written - overhead) as u64
    }
}

/// What a request needs after some of it was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// Nothing, until its stream is writable again or its response arrives.
    Wait,
    /// Another visit: more could be written at once.
    Again,
    /// The peer takes nothing more (STOP_SENDING), and maybe says why.
    Refused(Option<VarInt>),
}

/// Payload sent in one piece with what stands before it: small requests are one write.
const HEAD_PAYLOAD_MAX: usize = 4_096;

/// Payload written before the next request has its turn. Without a limit the request that is told
/// first that it may write takes the whole window, and that is always the youngest one.
const VISIT_BYTES: u64 = 256 << 10;

/// Payload: its content does not matter, and static bytes are never copied or counted.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_request_is_one_piece() {
        let outgoing = Outgoing::new(b"head", Bytes::from_static(b"body"), 2);
        assert_eq!(&outgoing.chunk[..], b"headbody\0\0");
        assert_eq!((outgoing.rest.len(), outgoing.zeros), (0, 0));
    }

    #[test]
    fn all_payload_is_written_in_order_and_only_payload_counted() {
        let sizes = [0, 1, HEAD_PAYLOAD_MAX, HEAD_PAYLOAD_MAX + 1, 1_000_000];
        for (given, zeros) in sizes.into_iter().flat_map(|a| sizes.map(|b| (a, b))) {
            let mut outgoing = Outgoing::new(b"overhead", vec![7; given].into(), zeros as u64);
            let (mut payload, mut written) = (0, Vec::new());
            while !outgoing.chunk.is_empty() || outgoing.refill() {
                // Flow control that lets five bytes through at a time, then the rest.
                for bytes in [5, usize::MAX] {
                    let bytes = bytes.min(outgoing.chunk.len());
                    written.extend_from_slice(&outgoing.chunk.split_to(bytes));
                    payload += outgoing.count(bytes);
                }
            }
            assert_eq!(payload, (given + zeros) as u64);
            let expected = [b"overhead".to_vec(), vec![7; given], vec![0; zeros]].concat();
            assert!(written == expected, "{given} {zeros}");
        }
    }
}
