//! plain is a request and its response where a stream is all there is: bytes up, FIN, bytes down,
//! FIN.
//!
//! ```text
//! hq-interop   "GET /path\r\n" │ FIN       ─►  any bytes │ FIN
//! echo         body │ FIN                  ─►  as many bytes │ FIN
//! raw          body │ FIN                  ─►  any bytes │ FIN
//! ```

use bytes::Bytes;
use quiclane::{Conn, Read};

use super::order::Turns;
use super::{Failure, Heard, Outgoing};
use crate::client::requests::Request;
use crate::protocol::{Body, HqRequest};

/// The requests of one worker, with copies of its own.
#[derive(Debug)]
pub(crate) struct Plain {
    requests: Vec<Outgoing>,
    turns: Turns,
    /// Bytes of each response, where that is known.
    expected: Option<u64>,
}

impl Plain {
    /// Requests for files, taken in turn.
    pub(super) fn hq(requests: &[HqRequest], worker: usize) -> Self {
        let line = |request: &HqRequest| {
            let line = format!("GET {}\r\n", request.path());
            Outgoing::new(line.as_bytes(), Bytes::new(), 0)
        };
        let turns = Turns::new(requests.iter().map(HqRequest::weight), worker);
        Self { requests: requests.iter().map(line).collect(), turns, expected: None }
    }

    /// One body, of which as much is to come back if it is echoed.
    pub(super) fn body(body: &Body, is_echoed: bool) -> Self {
        let (bytes, zeros) = body.parts();
        let expected = is_echoed.then_some(bytes.len() as u64 + zeros);
        let requests = vec![Outgoing::new(&[], bytes, zeros)];
        Self { requests, turns: Turns::new([1].into_iter(), 0), expected }
    }

    pub(super) fn next(&mut self) -> usize {
        self.turns.next()
    }

    pub(super) fn begin(&self, which: usize) -> Outgoing {
        self.requests[which].clone()
    }

    /// Reads what there is of a response.
    pub(crate) fn read(&self, conn: &mut Conn<'_>, request: &mut Request) -> Heard {
        let received = &mut request.received;
        let outcome = conn.read(request.stream, usize::MAX, |chunk| {
            *received += chunk.len() as u64;
        });
        request.heard = request.received;
        if request.received > 0 || outcome == Ok(Read::Finished) {
            let now = conn.now();
            request.first.get_or_insert(now);
        }
        let [too_long, too_short] = match self.expected {
            Some(expected) => [request.received > expected, request.received < expected],
            None => [false; 2],
        };
        match outcome {
            _ if too_long => Heard::Failed(Failure::plain("long_response")),
            Ok(Read::Finished) if too_short => Heard::Failed(Failure::plain("short_response")),
            Ok(Read::Finished) => Heard::All,
            Ok(Read::Reset(code)) => Heard::Failed(Failure::by_server("reset", Some(code))),
            Ok(Read::Blocked | Read::More) | Err(_) => Heard::Part,
        }
    }
}
