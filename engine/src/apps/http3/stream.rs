//! stream is one request stream: first the request's head comes, then the response goes, and what
//! is left of the request is thrown away.
//!
//! ```text
//!   receiving   Head ─► Content ────────────────────────────► Over
//!                 │       └ pulled by the exchange, then discarded: 16 MiB, then STOP_SENDING
//!   sending     Awaited ─► Whole | Pieces ─► Over
//! ```
//!
//! The request that matters most, a GET in one packet, goes all the way in one visit.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quiclane_http3::{Code, Connection as Core, Event, Input, Prepared, Violation};

use super::alarms::Alarms;
use super::body::{Asked, Body, Intake, Trouble};
use super::counters::Counters;
use super::date::Dates;
use super::pieces::{Pieces, Taken, Written, write};
use super::request::Request;
use super::response::Response;
use super::service::{Reply, Service};
use crate::app::{Conn, StreamId, VarInt};
use crate::apps::scraps::Scraps;

mod patience;
pub(super) use patience::Flow;
use patience::Patience;

/// What the streams of a worker share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) scraps: Scraps,
    pub(super) alarms: Alarms,
    pub(super) dates: Dates,
    pub(super) counters: std::sync::Arc<Counters>,
    /// The interim response 100, if it could be made.
    pub(super) go_on: Option<Prepared>,
    /// How long a client that owes bytes, or takes none, is waited for.
    pub(super) request_timeout: Duration,
}

/// What a visit works with.
pub(super) struct Visit<'a, 'c> {
    pub(super) core: &'a mut Core,
    pub(super) conn: &'a mut Conn<'c>,
    pub(super) stream: StreamId,
    pub(super) shared: &'a mut Shared,
    /// What the connection may still keep for exchanges that collect.
    pub(super) room: &'a mut usize,
    pub(super) flow: &'a mut Flow,
}

/// How far a visit got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Nothing more before the next event.
    Blocked,
    More,
    /// Forget the stream.
    Over,
}

/// The state of a request stream.
#[derive(Debug)]
pub(super) struct Stream {
    receiving: Receiving,
    sending: Sending,
    intake: Intake,
    is_head: bool,
    /// Whether the client waits for status 100 before it sends content.
    expects_go_on: bool,
    discarded: usize,
    patience: Patience,
    /// When to visit it again: its exchange wants to go on, or the client was waited for too long.
    /// It may turn out to be too early, so that a stream that goes on need not set it each time.
    pub(super) alarm: Option<Instant>,
    /// Whether it is on the work list.
    pub(super) queued: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Receiving {
    Head,
    Content,
    Over,
}

#[derive(Debug)]
enum Sending {
    Awaited,
    Whole(Bytes),
    Pieces(Box<Pieces>),
    Over,
}

impl Stream {
    pub(super) fn new() -> Self {
        Self {
            receiving: Receiving::Head,
            sending: Sending::Awaited,
            intake: Intake::default(),
            is_head: false,
            expects_go_on: false,
            discarded: 0,
            patience: Patience::default(),
            alarm: None,
            queued: false,
        }
    }

    /// Does a piece of the work.
    pub(super) fn visit<S: Service>(
        &mut self,
        service: &mut S,
        at: &mut Visit<'_, '_>,
    ) -> Result<Step, Violation> {
        let mut step = Step::Blocked;
        if self.receiving == Receiving::Head {
            step = self.receive_head(service, at)?;
        }
        if step == Step::Blocked {
            step = self.send(at)?;
        }
        if self.receiving == Receiving::Content
            && matches!(self.sending, Sending::Over | Sending::Awaited)
        {
            self.discard(at)?;
        }
        self.keep_time(at)?;
        Ok(if self.is_over() { Step::Over } else { step })
    }

    /// The client wants no more of the response.
    pub(super) fn stopped(
        &mut self,
        code: VarInt,
        at: &mut Visit<'_, '_>,
    ) -> Result<Step, Violation> {
        // An error says that the response has ended already.
        let _ = at.conn.reset(at.stream, code);
        let outcome = at.core.stopped(at.stream.into());
        if !matches!(self.sending, Sending::Over) {
            at.shared.counters.cancelled.add(1);
            self.end_sending(at);
        }
        if self.receiving == Receiving::Head {
            self.abandon(Code::RequestCancelled, at);
        }
        outcome?;
        self.keep_time(at)?;
        Ok(if self.is_over() { Step::Over } else { Step::More })
    }

    /// Its connection is over.
    pub(super) fn end(&mut self, id: crate::app::ConnId, stream: StreamId, alarms: &mut Alarms) {
        alarms.clear(&mut self.alarm, id, stream);
    }

    fn is_over(&self) -> bool {
        self.receiving == Receiving::Over && matches!(self.sending, Sending::Over)
    }

    fn receive_head<S: Service>(
        &mut self,
        service: &mut S,
        at: &mut Visit<'_, '_>,
    ) -> Result<Step, Violation> {
        let mut budget = VISIT_BYTES_MAX;
        while self.receiving == Receiving::Head {
            if self.intake.is_empty() && !self.intake.is_end {
                match self.intake.fill(at.conn, at.stream, HEAD_BYTES) {
                    Ok(0) if !self.intake.is_end => {
                        // Kept while a part of it comes: a head of a byte now and then has no end.
                        self.patience.owes(at.conn.now());
                        return Ok(Step::Blocked);
                    }
                    Ok(bytes) if budget >= bytes => budget -= bytes,
                    Ok(_) => return Ok(Step::More),
                    Err(trouble) => {
                        self.troubled(trouble, at)?;
                        return Ok(Step::Blocked);
                    }
                }
            }
            self.receive_chunk(service, at)?;
        }
        Ok(Step::Blocked)
    }

    /// Shows the core the next chunk, or the end, while the head is awaited.
    fn receive_chunk<S: Service>(
        &mut self,
        service: &mut S,
        at: &mut Visit<'_, '_>,
    ) -> Result<(), Violation> {
        let chunk = self.intake.take();
        let mut input = if chunk.is_empty() { Input::end() } else { Input::new(&chunk) };
        match at.core.recv(at.stream.into(), &mut input)? {
            Some(Event::Request(head)) => {
                self.receiving = Receiving::Content;
                self.patience.paid();
                self.intake.put_back(chunk.slice_ref(input.rest()));
                let is_complete = self.intake.is_empty() && self.intake.is_end;
                if is_complete && head.content_length().is_some_and(|length| length > 0) {
                    // The core will say so when it is shown the end.
                    return Ok(());
                }
                let request = Request::new(head, is_complete, at.conn, &at.shared.dates);
                self.is_head = request.is_head();
                self.expects_go_on = !is_complete
                    && request
                        .field(b"expect")
                        .is_some_and(|expected| expected.eq_ignore_ascii_case(b"100-continue"));
                let reply = service.request(&request);
                at.shared.counters.requests.add(1);
                self.begin(reply, at);
            }
            Some(Event::Refused { status }) => self.refuse(status, at),
            Some(Event::Failed(violation)) => self.fail(violation, at),
            Some(_) => {}
            // The end without an event: the core does not know the stream any more.
            None if chunk.is_empty() => self.abandon(Code::InternalError, at),
            None => {}
        }
        Ok(())
    }

    fn begin(&mut self, reply: Reply, at: &mut Visit<'_, '_>) {
        match reply {
            Reply::Whole(response) => self.respond(&response, at),
            Reply::Exchange(exchange) => {
                let pieces = Pieces::new(exchange, self.is_head);
                self.sending = Sending::Pieces(Box::new(pieces));
            }
        }
    }

    fn respond(&mut self, response: &Response, at: &mut Visit<'_, '_>) {
        // The client may have said that it takes no head of this size.
        if at.core.respond(at.stream.into(), response.prepared()).is_err() {
            at.shared.counters.aborted.add(1);
            return self.abandon(Code::InternalError, at);
        }
        at.shared.counters.responded(response.status());
        self.sending = Sending::Whole(response.bytes(self.is_head));
    }

    /// Answers what the core refuses: it reads no more of the stream.
    fn refuse(&mut self, status: u16, at: &mut Visit<'_, '_>) {
        let text = if status == 431 { "header section too large\n" } else { "not supported\n" };
        self.respond(&Response::text(status, text).into(), at);
        self.stop_reading(Code::NoError, at);
    }

    fn send(&mut self, at: &mut Visit<'_, '_>) -> Result<Step, Violation> {
        let mut budget = VISIT_BYTES_MAX;
        match &mut self.sending {
            Sending::Awaited | Sending::Over => Ok(Step::Blocked),
            Sending::Whole(rest) => {
                let written = write(at.conn, at.stream, rest, &mut budget);
                if budget < VISIT_BYTES_MAX {
                    self.patience.paid();
                }
                match written {
                    Written::All => self.finish(at),
                    Written::Blocked => self.patience.blocked(at.conn.now()),
                    Written::Spent => return Ok(Step::More),
                    Written::Gone(code) => return self.stopped(code, at),
                }
                Ok(Step::Blocked)
            }
            Sending::Pieces(_) => self.send_pieces(at, budget),
        }
    }

    fn send_pieces(
        &mut self,
        at: &mut Visit<'_, '_>,
        mut budget: usize,
    ) -> Result<Step, Violation> {
        loop {
            let Self { sending: Sending::Pieces(pieces), intake, .. } = self else {
                return Ok(Step::Blocked);
            };
            self.patience.holds = false;
            let before = budget;
            let written = pieces.flush(at.conn, at.stream, &mut budget);
            if budget < before {
                self.patience.paid();
            }
            match written {
                Written::All if pieces.is_ended() => {
                    self.finish(at);
                    return Ok(Step::Blocked);
                }
                Written::All if budget > 0 => {}
                Written::All | Written::Spent => return Ok(Step::More),
                Written::Blocked => {
                    self.patience.blocked(at.conn.now());
                    return Ok(Step::Blocked);
                }
                Written::Gone(code) => return self.stopped(code, at),
            }
            let mut body = Body {
                core: &mut *at.core,
                conn: Conn { inner: &mut *at.conn.inner, now: at.conn.now },
                stream: at.stream,
                intake,
                dates: &at.shared.dates,
                budget: &mut budget,
                room: &mut *at.room,
                asked: Asked::default(),
            };
            let next = pieces.ask(&mut body);
            let asked = body.asked;
            if let Some(trouble) = asked.trouble {
                self.troubled(trouble, at)?;
                return Ok(Step::Blocked);
            }
            budget = budget.saturating_sub(CALL_BYTES);
            at.flow.content_bytes += asked.content_bytes as u64;
            if asked.came || !asked.in_vain {
                self.patience.paid();
            }
            match pieces.take(next, at.stream, at.core, at.shared) {
                Taken::On => self.patience.paid(),
                Taken::Abort(code) => {
                    at.shared.counters.aborted.add(1);
                    self.abandon(code, at);
                    return Ok(Step::Blocked);
                }
                Taken::Rest if asked.more => return Ok(Step::More),
                Taken::Rest => {
                    if asked.in_vain {
                        self.patience.owes(at.conn.now());
                    }
                    if !self.rest(asked, at)? {
                        return Ok(Step::Blocked);
                    }
                }
                Taken::RestUntil(time) => {
                    let (id, stream) = (at.conn.id(), at.stream);
                    at.shared.alarms.set(&mut self.alarm, time, id, stream);
                    self.patience.paid();
                    if !self.rest(asked, at)? {
                        return Ok(if asked.more { Step::More } else { Step::Blocked });
                    }
                }
            }
        }
    }

    /// The exchange waits. Returns whether there is something to write nevertheless.
    fn rest(&mut self, asked: Asked, at: &mut Visit<'_, '_>) -> Result<bool, Violation> {
        let Sending::Pieces(pieces) = &mut self.sending else { return Ok(false) };
        if asked.in_vain && self.expects_go_on {
            //= https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
            //# a server [...] that receives a valid request with a 100-continue expectation
            //# and indicates a request message body will follow MUST send either
            //# an immediate response with a final status code [...] or [...] a 100
            //# (Continue) response to encourage the client to send the request content.
            self.expects_go_on = false;
            if let Some(go_on) = &at.shared.go_on
                && at.core.respond(at.stream.into(), go_on).is_ok()
            {
                pieces.interim(at.shared.scraps.copy(&[go_on.frame()]));
                at.shared.counters.responded(100);
                return Ok(true);
            }
        }
        if self.receiving == Receiving::Content && !asked.in_vain {
            if self.intake.is_empty() && !self.intake.is_end {
                // Nobody reads; still, it should be known whether the client gave up.
                if let Err(trouble) = self.intake.fill(at.conn, at.stream, 1) {
                    self.troubled(trouble, at)?;
                }
            }
            let is_on = matches!(self.sending, Sending::Pieces(_));
            self.patience.holds = is_on && !self.intake.is_empty();
        }
        Ok(false)
    }

    /// Reads what nobody wants, so that a client that has not sent all of its request need not
    /// learn of it. One that goes on is asked to stop.
    fn discard(&mut self, at: &mut Visit<'_, '_>) -> Result<(), Violation> {
        while self.receiving == Receiving::Content {
            if self.intake.is_over {
                self.receiving = Receiving::Over;
                break;
            }
            if self.intake.is_empty() && !self.intake.is_end {
                match self.intake.fill(at.conn, at.stream, HEAD_BYTES) {
                    Ok(0) if !self.intake.is_end => {
                        self.patience.owes(at.conn.now());
                        return Ok(());
                    }
                    Ok(bytes) => {
                        self.discarded += bytes;
                        at.flow.content_bytes += bytes as u64;
                        self.patience.paid();
                    }
                    Err(trouble) => return self.troubled(trouble, at),
                }
            }
            let chunk = self.intake.take();
            let mut input = if chunk.is_empty() { Input::end() } else { Input::new(&chunk) };
            match at.core.recv(at.stream.into(), &mut input)? {
                Some(Event::Finished) => self.receiving = Receiving::Over,
                Some(Event::Failed(violation)) => self.fail(violation, at),
                None if chunk.is_empty() => self.receiving = Receiving::Over,
                _ => self.intake.put_back(chunk.slice_ref(input.rest())),
            }
            if self.receiving == Receiving::Content && self.discarded > DISCARD_BYTES_MAX {
                self.stop_reading(Code::NoError, at);
            }
        }
        Ok(())
    }

    fn troubled(&mut self, trouble: Trouble, at: &mut Visit<'_, '_>) -> Result<(), Violation> {
        match trouble {
            Trouble::Connection(violation) => Err(violation),
            Trouble::Stream(violation) => {
                self.fail(violation, at);
                Ok(())
            }
            Trouble::Reset => {
                let outcome = at.core.reset(at.stream.into());
                if !matches!(self.sending, Sending::Over) {
                    at.shared.counters.cancelled.add(1);
                }
                self.abandon(Code::RequestCancelled, at);
                outcome
            }
        }
    }

    /// The client broke a rule on this stream; the core has forgotten it.
    fn fail(&mut self, violation: Violation, at: &mut Visit<'_, '_>) {
        self.abandon(violation.code(), at);
    }

    /// Gives up what is left of both directions.
    fn abandon(&mut self, code: Code, at: &mut Visit<'_, '_>) {
        let number = VarInt::from_u32(code.value());
        if !matches!(self.sending, Sending::Over) {
            // Errors say that a side is over already.
            let _ = at.conn.reset(at.stream, number);
            self.end_sending(at);
        }
        if self.receiving != Receiving::Over {
            let _ = at.conn.stop(at.stream, number);
            self.receiving = Receiving::Over;
        }
        at.core.abandoned(at.stream.into());
    }

    fn stop_reading(&mut self, code: Code, at: &mut Visit<'_, '_>) {
        let _ = at.conn.stop(at.stream, VarInt::from_u32(code.value()));
        at.core.ignored(at.stream.into());
        self.receiving = Receiving::Over;
    }

    /// The response is written.
    fn finish(&mut self, at: &mut Visit<'_, '_>) {
        // Fails only if the client stopped the stream, which `stopped` hears too.
        let _ = at.conn.finish(at.stream);
        at.core.finished(at.stream.into());
        self.end_sending(at);
    }

    fn end_sending(&mut self, at: &mut Visit<'_, '_>) {
        if let Sending::Pieces(pieces) = &self.sending {
            *at.room += pieces.reserved();
            at.shared.alarms.clear(&mut self.alarm, at.conn.id(), at.stream);
        }
        self.patience.holds = false;
        self.sending = Sending::Over;
    }
}

/// What is read and written at most in one visit, four full GSO trains. More lets a bulk stream
/// delay the small ones, less costs more visits.
const VISIT_BYTES_MAX: usize = 256 << 10;

/// What is read at once while a head is awaited, or content thrown away.
const HEAD_BYTES: usize = 16 << 10;

/// What a call of an exchange costs even if it moves nothing.
const CALL_BYTES: usize = 64;

/// Content that is thrown away before the client is asked to stop. Below, most requests end by
/// themselves; and browsers look at an answer only when they have sent everything: Chromium that is
/// asked to stop, even with H3_NO_ERROR, never does. Throwing away costs us less than sending them.
const DISCARD_BYTES_MAX: usize = 16 << 20;
