//! pieces is a response that an exchange makes one piece after the other.
//!
//! Invariant: the exchange is asked only when everything before was written.

use std::fmt;
use std::time::Instant;

use bytes::Bytes;
use quiclane_http3::{Code, Connection as Core, DataHeader};

use super::body::Body;
use super::response::Head;
use super::service::{Exchange, Next};
use super::stream::Shared;
use crate::app::{Conn, StreamId, VarInt, WriteError};

/// A response on its way.
pub(super) struct Pieces {
    exchange: Box<dyn Exchange>,
    is_head: bool,
    stage: Stage,
    /// What is still to come of an announced length.
    left: Option<u64>,
    /// To be written: a frame or its header, and then content.
    front: Bytes,
    back: Bytes,
    /// What it took of the connection's room.
    reserved: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// Only interim responses were sent.
    Head,
    Content,
    /// Nothing comes after what is still to be written.
    Ended,
}

/// What follows from an exchange's answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Taken {
    On,
    Rest,
    RestUntil(Instant),
    Abort(Code),
}

impl Pieces {
    pub(super) fn new(exchange: Box<dyn Exchange>, is_head: bool) -> Self {
        Self {
            exchange,
            is_head,
            stage: Stage::Head,
            left: None,
            front: Bytes::new(),
            back: Bytes::new(),
            reserved: 0,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    pub(super) fn reserved(&self) -> usize {
        self.reserved
    }

    pub(super) fn ask(&mut self, body: &mut Body<'_>) -> Next {
        let next = self.exchange.next(body);
        self.reserved += body.asked.reserved;
        next
    }

    /// Puts an interim response out of turn.
    pub(super) fn interim(&mut self, frame: Bytes) {
        self.front = frame;
    }

    /// Writes what there is.
    pub(super) fn flush(
        &mut self,
        conn: &mut Conn<'_>,
        stream: StreamId,
        budget: &mut usize,
    ) -> Written {
        match write(conn, stream, &mut self.front, budget) {
            Written::All => write(conn, stream, &mut self.back, budget),
            other => other,
        }
    }

    /// Takes what the exchange said, if it may say that now.
    pub(super) fn take(
        &mut self,
        next: Next,
        stream: StreamId,
        core: &mut Core,
        shared: &mut Shared,
    ) -> Taken {
        let stream = stream.into();
        match (next, self.stage) {
            (Next::Wait, _) => return Taken::Rest,
            (Next::WaitUntil(at), _) => return Taken::RestUntil(at),
            (Next::Abort(code), _) => return Taken::Abort(code),
            (Next::Interim(head), Stage::Head)
                if head.is_interim() && core.respond(stream, head.prepared()).is_ok() =>
            {
                self.front = shared.scraps.copy(&[head.prepared().frame()]);
                shared.counters.responded(head.status());
            }
            (Next::Head(head), Stage::Head)
                if !head.is_interim() && core.respond(stream, head.prepared()).is_ok() =>
            {
                self.begin(&head, shared);
            }
            (Next::Whole(response), Stage::Head)
                if core.respond(stream, response.prepared()).is_ok() =>
            {
                shared.counters.responded(response.status());
                self.front = response.bytes(self.is_head);
                self.stage = Stage::Ended;
            }
            (Next::Data(bytes), Stage::Content) => return self.data(bytes, shared),
            (Next::Trailers(trailers), Stage::Content)
                if !self.is_short() && core.trailers(stream, &trailers).is_ok() =>
            {
                self.front = shared.scraps.copy(&[trailers.frame()]);
                self.stage = Stage::Ended;
            }
            (Next::End, Stage::Content) if !self.is_short() => self.stage = Stage::Ended,
            _ => return Taken::Abort(Code::InternalError),
        }
        Taken::On
    }

    fn begin(&mut self, head: &Head, shared: &mut Shared) {
        shared.counters.responded(head.status());
        self.front = shared.scraps.copy(&[head.prepared().frame()]);
        self.left = head.content_length();
        self.stage = if self.is_head || head.is_bare() { Stage::Ended } else { Stage::Content };
    }

    fn data(&mut self, bytes: Bytes, shared: &mut Shared) -> Taken {
        if let Some(left) = &mut self.left {
            match left.checked_sub(bytes.len() as u64) {
                Some(after) => *left = after,
                None => return Taken::Abort(Code::InternalError),
            }
        }
        let header = DataHeader::new(bytes.len() as u64);
        match bytes.len() {
            // A frame without content would only be a glitch.
            0 => {}
            // A small piece would keep a block of receive memory from being used again, if it is
            // a part of one.
            1..COPY_BELOW_BYTES => {
                self.front = shared.scraps.copy(&[header.as_bytes(), &bytes]);
            }
            _ => {
                self.front = shared.scraps.copy(&[header.as_bytes()]);
                self.back = bytes;
            }
        }
        Taken::On
    }

    /// Whether content is missing of an announced length.
    fn is_short(&self) -> bool {
        self.left.is_some_and(|left| left > 0)
    }
}

impl fmt::Debug for Pieces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pieces").field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// How far a write got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Written {
    All,
    /// Flow control is full.
    Blocked,
    /// The visit has moved enough.
    Spent,
    /// The client wants no more, by this code.
    Gone(VarInt),
}

/// Writes `bytes`, which keeps what could not be written.
pub(super) fn write(
    conn: &mut Conn<'_>,
    stream: StreamId,
    bytes: &mut Bytes,
    budget: &mut usize,
) -> Written {
    while !bytes.is_empty() {
        if *budget == 0 {
            return Written::Spent;
        }
        match conn.write(stream, bytes) {
            Ok(written) => *budget = budget.saturating_sub(written),
            Err(WriteError::Blocked) => return Written::Blocked,
            Err(WriteError::Stopped(code)) => return Written::Gone(code),
            Err(WriteError::Closed) => {
                return Written::Gone(VarInt::from_u32(Code::RequestCancelled.value()));
            }
        }
    }
    Written::All
}

/// Pieces below this are copied behind the header of their frame. A full datagram carries at least
/// 1,100 bytes of a stream, so a bulk transfer is not copied.
const COPY_BELOW_BYTES: usize = 1_024;
