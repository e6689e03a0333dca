//! body is the content of a request, pulled by the exchange that wants it.
//!
//! ```text
//!   QUIC stream ─► Intake (at most 16 KiB) ─► core ─► Content ─► exchange
//!        └ read only when the intake is empty and the exchange asks
//! ```

use std::collections::VecDeque;
use std::mem;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quiclane_http3::{Connection as Core, Event, Input, SavedRequest, Violation};

use super::date::{Date, Dates};
use super::request::Request;
use super::service::Content;
use crate::app::{Conn, Read, StreamId};

/// The content of a request, and what else an exchange may ask for. Lent for one call.
pub struct Body<'a> {
    pub(super) core: &'a mut Core,
    pub(super) conn: Conn<'a>,
    pub(super) stream: StreamId,
    pub(super) intake: &'a mut Intake,
    pub(super) dates: &'a Dates,
    /// Bytes that this visit may still move.
    pub(super) budget: &'a mut usize,
    /// Bytes that the connection may still keep for exchanges that collect.
    pub(super) room: &'a mut usize,
    pub(super) asked: Asked,
}

/// What a call found out besides its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    /// The exchange wanted content, and there was none yet.
    pub(super) in_vain: bool,
    /// Bytes of the stream were read.
    pub(super) came: bool,
    /// Content that was taken.
    pub(super) content_bytes: usize,
    /// There is more, but this visit has moved enough.
    pub(super) more: bool,
    /// Bytes that were taken of the connection's room.
    pub(super) reserved: usize,
    pub(super) trouble: Option<Trouble>,
}

/// Why nothing more comes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    /// The client gave up.
    Reset,
    /// The client broke a rule on this stream.
    Stream(Violation),
    /// The client broke a rule: the connection ends.
    Connection(Violation),
}

impl Body<'_> {
    /// What comes next. Whoever does not ask leaves content in QUIC's flow control.
    pub fn pull(&mut self) -> Content {
        if self.asked.trouble.is_some() {
            return Content::Wait;
        }
        if *self.budget == 0 {
            self.asked.more = true;
            return Content::Wait;
        }
        match self.take_next() {
            Ok(content) => {
                self.asked.in_vain |= matches!(content, Content::Wait);
                content
            }
            Err(trouble) => {
                self.asked.trouble = Some(trouble);
                Content::Wait
            }
        }
    }

    /// The time of this turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.conn.now()
    }

    /// The client's address now.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.conn.remote()
    }

    /// Smoothed round-trip time.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.conn.rtt()
    }

    /// What a `date` field has to say now.
    #[must_use]
    pub fn date(&self) -> Date {
        self.dates.at(self.conn.now())
    }

    /// The request of an exchange that saved its head and has collected its content.
    pub(super) fn request<'r>(&'r self, head: &'r SavedRequest, content: &'r [u8]) -> Request<'r> {
        Request::new(head.request(), true, &self.conn, self.dates).with_content(content)
    }

    /// Takes some of what the connection may keep; false if that is not left.
    pub(super) fn reserve(&mut self, bytes: usize) -> bool {
        match self.room.checked_sub(bytes) {
            Some(left) => {
                *self.room = left;
                self.asked.reserved += bytes;
                true
            }
            None => false,
        }
    }

    fn take_next(&mut self) -> Result<Content, Trouble> {
        while !self.intake.is_over {
            if self.intake.is_empty() && !self.intake.is_end {
                let bytes = self.intake.fill(&mut self.conn, self.stream, INTAKE_BYTES)?;
                if bytes == 0 && !self.intake.is_end {
                    return Ok(Content::Wait);
                }
                self.asked.came = true;
            }
            let chunk = self.intake.take();
            let mut input = if chunk.is_empty() { Input::end() } else { Input::new(&chunk) };
            let event = self.core.recv(self.stream.into(), &mut input);
            let (piece, content) = match event.map_err(Trouble::Connection)? {
                Some(Event::Data(piece)) => (piece, None),
                Some(Event::Trailers(fields)) => (&[][..], Some(Content::Trailers(fields.clone()))),
                Some(Event::Failed(violation)) => return Err(Trouble::Stream(violation)),
                Some(Event::Finished) => {
                    self.intake.is_over = true;
                    return Ok(Content::End);
                }
                // Bytes without meaning count as well, or a stream of them could go on for ever.
                _ => {
                    self.intake.is_over = chunk.is_empty();
                    *self.budget = self.budget.saturating_sub(chunk.len());
                    continue;
                }
            };
            let piece = chunk.slice_ref(piece);
            *self.budget = self.budget.saturating_sub(piece.len());
            self.asked.content_bytes += piece.len();
            self.intake.put_back(chunk.slice_ref(input.rest()));
            return Ok(content.unwrap_or(Content::Piece(piece)));
        }
        Ok(Content::End)
    }
}

/// What was read from a stream and not looked at yet. One chunk needs no queue.
#[derive(Debug, Default)]
pub(super) struct Intake {
    front: Bytes,
    rest: VecDeque<Bytes>,
    /// The stream ends after these.
    pub(super) is_end: bool,
    /// The core has said the last of it.
    pub(super) is_over: bool,
}

impl Intake {
    pub(super) fn is_empty(&self) -> bool {
        self.front.is_empty()
    }

    /// Reads what there is, about `bytes_max` bytes; returns how many.
    pub(super) fn fill(
        &mut self,
        conn: &mut Conn<'_>,
        stream: StreamId,
        bytes_max: usize,
    ) -> Result<usize, Trouble> {
        let mut bytes = 0;
        let outcome = conn.read(stream, bytes_max, |chunk| {
            bytes += chunk.len();
            self.push(chunk);
        });
        match outcome {
            Ok(Read::More | Read::Blocked) => Ok(bytes),
            Ok(Read::Finished) => {
                self.is_end = true;
                Ok(bytes)
            }
            Ok(Read::Reset(_)) | Err(_) => Err(Trouble::Reset),
        }
    }

    /// The first chunk; empty if there is none.
    pub(super) fn take(&mut self) -> Bytes {
        let next = self.rest.pop_front().unwrap_or_default();
        mem::replace(&mut self.front, next)
    }

    /// Puts back what was left of the first chunk.
    pub(super) fn put_back(&mut self, chunk: Bytes) {
        if chunk.is_empty() {
            return;
        }
        let second = mem::replace(&mut self.front, chunk);
        if !second.is_empty() {
            self.rest.push_front(second);
        }
    }

    fn push(&mut self, chunk: Bytes) {
        if self.front.is_empty() {
            self.front = chunk;
        } else {
            self.rest.push_back(chunk);
        }
    }
}

/// What is read at once, and thus what an exchange that does not go on holds. More saves calls,
/// less is less to hold for a client that makes a hundred exchanges wait.
const INTAKE_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_out_in_order_with_what_was_put_back() {
        let mut intake = Intake::default();
        assert!(intake.take().is_empty());
        for chunk in [&b"abc"[..], b"", b"de", b"f"] {
            intake.push(Bytes::from_static(chunk));
        }
        let first = intake.take();
        intake.put_back(first.slice(1..));
        let chunks: Vec<Bytes> = std::iter::from_fn(|| {
            let chunk = intake.take();
            (!chunk.is_empty()).then_some(chunk)
        })
        .collect();
        assert_eq!(chunks, ["bc", "de", "f"]);
        intake.put_back(Bytes::new());
        assert!(intake.is_empty());
    }
}
