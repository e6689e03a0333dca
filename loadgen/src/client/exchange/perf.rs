//! perf is a request and its response in the `perf` protocol.
//!
//! ```text
//! client ─► response size, 8 bytes big endian │ request payload, any bytes │ FIN
//! server ─► as many bytes as were asked for │ FIN
//! ```
//! (draft-banks-quic-performance-00 section 2; the size is neither a varint nor counted in it.)

use bytes::Bytes;
use quiclane::{Conn, Read};

use super::{Failure, Heard, Outgoing};
use crate::client::requests::Request;

/// The same for every request of a run.
#[derive(Debug)]
pub(crate) struct Perf {
    template: Outgoing,
    /// Bytes to expect.
    response_size: u64,
}

impl Perf {
    /// Requests with `request_size` bytes of payload for `response_size` bytes.
    pub(crate) fn new(request_size: u64, response_size: u64) -> Self {
        let head = response_size.to_be_bytes();
        Self { template: Outgoing::new(&head, Bytes::new(), request_size), response_size }
    }

    /// What a new request has to write.
    pub(crate) fn begin(&self) -> Outgoing {
        self.template.clone()
    }

    /// Reads what there is of a response.
    pub(crate) fn read(&self, conn: &mut Conn<'_>, request: &mut Request) -> Heard {
        let received = &mut request.received;
        let outcome = conn.read(request.stream, usize::MAX, |chunk| {
            *received += chunk.len() as u64;
        });
        request.heard = request.received;
        if request.received > self.response_size {
            return Heard::Failed(Failure::plain("long_response"));
        }
        match outcome {
            Ok(Read::Finished) if request.received < self.response_size => {
                Heard::Failed(Failure::plain("short_response"))
            }
            Ok(Read::Finished) => Heard::All,
            Ok(Read::Reset(code)) => Heard::Failed(Failure::by_server("reset", Some(code))),
            Ok(Read::Blocked | Read::More) | Err(_) => Heard::Part,
        }
    }
}
