//! flight is the life of a request: started on a stream, written, answered or given up.

use std::mem;
use std::num::NonZero;
use std::time::Instant;

use quiclane::{Conn, Dir, StreamId, VarInt};

use super::Client;
use super::exchange::{Exchange, Failure, Heard, Next};
use super::pace::{Pacer, nanos};
use super::requests::{Request, RequestId};
use super::seats::{Again, Seat, SeatState};

impl Client {
    /// Starts requests on an open connection until enough are in flight. In an open loop it only
    /// gets in line for those that are due.
    pub(super) fn fill(&mut self, conn: &mut Conn<'_>, seat: usize) {
        if !self.may_carry(conn, seat) {
            return;
        }
        self.unpark(conn, seat);
        if self.pacer.is_none() {
            while self.start_one(conn, seat) {}
        } else if self.has_room(seat) {
            self.offer_room(conn.now(), seat);
        }
        let Seat { state, streams, .. } = self.seats.seat_mut(seat);
        if *state == SeatState::Open(conn.id()) && streams.is_empty() {
            self.leave(conn, seat);
        }
    }

    /// Whether requests may be started on the connection of `seat`. Before the handshake is
    /// complete they may as 0-RTT data, and only once; without that nothing can be opened yet, and
    /// no limit of the server's is to blame.
    pub(super) fn may_carry(&mut self, conn: &Conn<'_>, seat: usize) -> bool {
        let Seat { state, carried, .. } = self.seats.seat_mut(seat);
        let is_open = *state == SeatState::Open(conn.id());
        let is_early = *carried == 0 && *state != SeatState::Vacant && conn.has_0rtt();
        self.exchange.is_some() && self.phase.offers_load() && (is_open || is_early)
    }

    /// Starts a request if one is left, and has room.
    pub(super) fn start_one(&mut self, conn: &mut Conn<'_>, seat: usize) -> bool {
        if self.left == Some(0) || !self.has_room(seat) {
            return false;
        }
        let Some(stream) = conn.open(Dir::Bi) else {
            self.tally.stream_limited += 1;
            let Seat { streams, held, .. } = self.seats.seat_mut(seat);
            held.begin(conn.now(), streams.len() as u64, &mut self.tally.stream_limits);
            return false;
        };
        self.seats.seat_mut(seat).held.end(conn.now(), &mut self.tally.stream_limits);
        let recorded = self.pacer.as_ref().and_then(Pacer::which);
        let which = recorded.or_else(|| self.exchange.as_mut().map(Exchange::next)).unwrap_or(0);
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        let now = conn.now();
        let due = self.take_due(now);
        self.tally.requests.started += 1;
        self.start(conn, seat, stream, which, (due, now));
        let carried = self.seats.seat_mut(seat).carried;
        self.update_keys_after(conn, carried);
        let seat = self.seats.seat_mut(seat);
        if seat.state != SeatState::Open(conn.id()) {
            seat.early += 1;
            self.tally.early_data.sent += 1;
        }
        true
    }

    pub(super) fn has_room(&mut self, seat: usize) -> bool {
        let Seat { streams, carried, session, .. } = self.seats.seat_mut(seat);
        streams.len() < self.job.config.streams as usize
            && *carried < carried_max(self.job.config.requests_per_connection)
            && session.as_ref().is_none_or(|session| !session.is_leaving)
    }

    /// Closes a connection without requests if it shall carry no more.
    fn leave(&mut self, conn: &mut Conn<'_>, seat: usize) {
        let Seat { carried, session, .. } = self.seats.seat_mut(seat);
        let again = match session {
            // A server that says GOAWAY at once is not hammered.
            Some(session) if session.is_leaving && !session.has_answered => Again::AfterAWait,
            Some(session) if session.is_leaving => Again::AtOnce,
            _ if *carried >= carried_max(self.job.config.requests_per_connection) => Again::AtOnce,
            _ => return,
        };
        self.seats.vacate(seat, again);
        conn.close(self.codes.done, "done");
    }

    /// Puts a request on a new stream.
    fn start(
        &mut self,
        conn: &mut Conn<'_>,
        seat: usize,
        stream: StreamId,
        which: usize,
        (due, started): (Instant, Instant),
    ) {
        let Some(exchange) = &self.exchange else {
            return;
        };
        let request = Request {
            seat,
            stream,
            which,
            due,
            started,
            moved: conn.now(),
            outgoing: exchange.begin(which),
            heard: 0,
            received: 0,
            status: 0,
            first: None,
            answered: false,
            queued: false,
            is_parked: false,
        };
        if let Some(id) = self.requests.insert(request) {
            self.carry(conn, seat, stream, id);
        }
    }

    /// Begins a request on `stream`.
    pub(super) fn carry(
        &mut self,
        conn: &mut Conn<'_>,
        seat: usize,
        stream: StreamId,
        id: RequestId,
    ) {
        let Some(request) = self.requests.get_mut(id) else { return };
        request.stream = stream;
        let seat = self.seats.seat_mut(seat);
        seat.streams.insert(stream, id);
        seat.carried += 1;
        if let (Some(Exchange::Http3(http)), Some(session)) = (&self.exchange, &mut seat.session)
            && let Err(failure) = session.begin(http, request.which, stream)
        {
            // No request will do better on this connection, nor soon on another one.
            (session.is_leaving, session.has_answered) = (true, false);
            return self.give_up(conn, id, failure);
        }
        self.write(conn, id);
    }

    /// The handshake is complete: what was sent as 0-RTT data was accepted or never happened.
    pub(super) fn settle_early_data(&mut self, conn: &mut Conn<'_>, seat: usize) {
        let early = mem::take(&mut self.seats.seat_mut(seat).early);
        if conn.accepted_0rtt() {
            self.tally.early_data.accepted += early;
            return;
        }
        self.seats.seat_mut(seat).session = None;
        self.begin_session(conn, seat);
        if early > 0 {
            self.send_again(conn, seat);
        }
    }

    /// Starts the requests of `seat` again, on streams of their own, as old as they were.
    fn send_again(&mut self, conn: &mut Conn<'_>, seat: usize) {
        self.seats.seat_mut(seat).carried = 0;
        let mut rejected: Vec<RequestId> =
            self.seats.seat_mut(seat).streams.drain().map(|(_, id)| id).collect();
        rejected.sort_unstable();
        for id in rejected {
            let Some(request) = self.requests.remove(id) else { continue };
            match conn.open(Dir::Bi) {
                Some(stream) => {
                    let times = (request.due, request.started);
                    self.start(conn, seat, stream, request.which, times);
                }
                None => {
                    // Fewer streams than last time, against RFC 9000 section 7.4.1.
                    self.tally.requests.failed += 1;
                    self.tally.request_errors.note("early_data_rejected", 1, || None);
                }
            }
        }
    }

    /// Writes a piece of what may be written of a request.
    pub(super) fn write(&mut self, conn: &mut Conn<'_>, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else { return };
        if request.outgoing.is_done() || request.is_parked {
            return;
        }
        let (payload, next) = request.outgoing.write(conn, request.stream);
        self.tally.bytes_up += payload;
        if payload > 0 {
            request.moved = conn.now();
        }
        if request.outgoing.is_done()
            && let Some(session) = &mut self.seats.seat_mut(request.seat).session
        {
            session.written(request.stream);
        }
        match next {
            Next::Wait => {}
            Next::Again => self.write_later(id),
            Next::Refused(code) => self.refused(conn, id, code),
        }
    }

    /// Puts a request on the list of those that can write more.
    pub(super) fn write_later(&mut self, id: RequestId) {
        if let Some(request) = self.requests.get_mut(id)
            && !mem::replace(&mut request.queued, true)
        {
            self.to_write.push_back(id);
        }
    }

    /// The server takes nothing more of a request (STOP_SENDING).
    pub(super) fn refused(&mut self, conn: &mut Conn<'_>, id: RequestId, code: Option<VarInt>) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let (seat, stream, answered) = (request.seat, request.stream, request.answered);
        let Some(session) = &mut self.seats.seat_mut(seat).session else {
            return self.give_up(conn, id, Failure::by_server("stopped", code));
        };
        //= https://www.rfc-editor.org/rfc/rfc9114#section-4.1
        //# Clients MUST NOT discard complete responses as a result of
        //# having their request terminated abruptly, though clients can always
        //# discard responses at their discretion for other reasons.
        // So it is the response that counts, and its absence is a timeout.
        request.outgoing.abandon();
        let _ = conn.reset(stream, code.unwrap_or(self.codes.cancelled));
        if let Err(violation) = session.stopped(stream) {
            return self.break_off(conn, seat, violation);
        }
        if answered {
            self.complete(conn.now(), id);
        }
    }

    /// Reads what there is of a response.
    pub(super) fn read(&mut self, conn: &mut Conn<'_>, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        let (heard, received) = (request.heard, request.received);
        let outcome = match (&mut self.seats.seat_mut(request.seat).session, &self.exchange) {
            (Some(session), _) => session.read(conn, request),
            (None, Some(Exchange::Perf(perf))) => perf.read(conn, request),
            (None, Some(Exchange::Plain(plain))) => plain.read(conn, request),
            (None, _) => return,
        };
        self.tally.bytes_down += request.received - received;
        if request.heard > heard {
            request.moved = conn.now();
            self.dark_since = None;
        }
        match outcome {
            Heard::Part => {}
            // A server may answer before it has read everything: the request is over when both
            // halves are, see `finished`.
            Heard::All if !request.outgoing.is_done() => request.answered = true,
            Heard::All => self.complete(conn.now(), id),
            Heard::Failed(failure) => self.give_up(conn, id, failure),
            Heard::Broken(violation) => {
                let seat = request.seat;
                self.break_off(conn, seat, violation);
            }
        }
    }

    /// The request was answered in full, which may mean that it was refused.
    pub(super) fn complete(&mut self, now: Instant, id: RequestId) {
        let Some(request) = self.release(id) else {
            return;
        };
        self.dark_since = None;
        self.seats.seat_mut(request.seat).failures = 0;
        self.tally.statuses.note(request.status);
        if let Some(failure) = Failure::status(request.status) {
            self.tally.requests.failed += 1;
            return self.tally.request_errors.note(failure.class, 1, || failure.example());
        }
        self.tally.requests.ok += 1;
        let since = |at: Instant, to: Instant| nanos(to.saturating_duration_since(at));
        let latency = since(request.due, now);
        let service = self.pacer.is_some().then(|| since(request.started, now));
        self.tally.latency.saturating_record(latency);
        if let Some(service) = service {
            self.tally.service.saturating_record(service);
        }
        self.series.record(latency, service);
        if let Some(first) = request.first {
            self.tally.first_byte.saturating_record(since(request.started, first));
        }
    }

    /// The request failed; both halves of its stream are abandoned.
    pub(super) fn give_up(&mut self, conn: &mut Conn<'_>, id: RequestId, failure: Failure) {
        if let Some(Request { seat, stream, is_parked: false, .. }) = self.fail(id, failure) {
            let code = failure.code().unwrap_or(self.codes.cancelled);
            self.abandon(conn, seat, stream, code);
        }
    }

    /// The request failed.
    pub(super) fn fail(&mut self, id: RequestId, failure: Failure) -> Option<Request> {
        let request = self.release(id)?;
        self.tally.requests.failed += 1;
        self.tally.request_errors.note(failure.class, 1, || failure.example());
        Some(request)
    }

    /// Gives up both halves of a stream.
    pub(super) fn abandon(
        &mut self,
        conn: &mut Conn<'_>,
        seat: usize,
        stream: StreamId,
        code: VarInt,
    ) {
        // Either half may be over already: then there is nothing to abandon.
        let _ = conn.reset(stream, code);
        let _ = conn.stop(stream, code);
        if let Some(session) = &mut self.seats.seat_mut(seat).session {
            session.abandoned(stream);
        }
    }

    fn release(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(id)?;
        let seat = self.seats.seat_mut(request.seat);
        if request.is_parked {
            self.parked -= 1;
            seat.parked.retain(|parked| *parked != id);
        } else {
            seat.streams.remove(&request.stream);
        }
        Some(request)
    }
}

fn carried_max(requests_per_connection: Option<NonZero<u64>>) -> u64 {
    requests_per_connection.map_or(u64::MAX, NonZero::get)
}
