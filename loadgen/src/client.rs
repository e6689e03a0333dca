//! client is the load generator on one worker: an app that keeps its connections busy.
//!
//! ```text
//! Connecting ─► Waiting (for the other workers) ─► Warming ─► Measuring ─► Over
//! ```
//!
//! The clock is read once per turn: a request that is started and one whose response arrives get
//! the time at which the worker woke up. A measured latency is thus never shorter than what the
//! network saw, and includes the time the worker itself took to get round to the request.

mod absence;
mod exchange;
mod phase;
mod requests;
mod seats;

use std::collections::VecDeque;
use std::mem;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use quiclane::{App, CloseReason, Conn, ConnId, Dir, Lane, Read, StreamId, VarInt};

use crate::backoff::Jitter;
use crate::config::{LoadConfig, Workload};
use crate::gate::Gate;
use crate::live::Live;
use crate::tally::Tally;
use exchange::{Exchange, NO_ERROR, Next};
use phase::Phase;
use requests::{Request, RequestId, Requests};
use seats::{Again, Opened, Seat, SeatState, Seats};

/// What the workers of a run share.
#[derive(Debug)]
pub(crate) struct Job {
    /// What to do; checked.
    pub(crate) config: LoadConfig,
    /// By how many workers.
    pub(crate) workers: usize,
    /// Start and stop.
    pub(crate) gate: Gate,
    /// One for each worker.
    pub(crate) lives: Vec<Live>,
    /// For the waits between attempts.
    pub(crate) seed: u64,
}

/// One worker's part of a run.
#[derive(Debug)]
pub(crate) struct Client {
    job: Arc<Job>,
    worker: usize,
    results: Sender<Tally>,
    /// `None`: handshakes are the workload, or connections that are only held.
    exchange: Option<Exchange>,
    /// Requests, or handshakes, still to be started; `None`: no limit.
    left: Option<u64>,
    /// As many as this worker was given.
    quota: Option<u64>,
    phase: Phase,
    seats: Seats,
    requests: Requests,
    /// Open seats that may start requests, to be looked at in one of the next turns.
    to_fill: VecDeque<usize>,
    /// Requests that can write more, each at most once.
    to_write: VecDeque<RequestId>,
    /// Since when nothing is in flight, though something is left to do, and nothing is answered.
    dark_since: Option<Instant>,
    jitter: Jitter,
    tally: Tally,
}

impl Client {
    /// The client of `worker`; it hands its tally to `results` when it is done.
    pub(crate) fn new(job: Arc<Job>, worker: usize, results: Sender<Tally>) -> Self {
        let share = job.config.share(worker, job.workers);
        let exchange = job.config.workload.sizes().map(|(up, down)| Exchange::new(up, down));
        Self {
            worker,
            results,
            exchange,
            left: share.quota,
            quota: share.quota,
            phase: Phase::Connecting,
            seats: Seats::new(share.connections),
            requests: Requests::new(),
            to_fill: VecDeque::new(),
            to_write: VecDeque::new(),
            dark_since: None,
            jitter: Jitter::new(job.seed.wrapping_add(worker as u64)),
            tally: Tally::new(),
            job,
        }
    }

    /// Starts requests on an open connection until enough are in flight.
    fn fill(&mut self, conn: &mut Conn<'_>, seat: usize) {
        if self.exchange.is_none() {
            return;
        }
        let first_time = self.seats.seat_mut(seat).carried == 0;
        let is_open = matches!(self.seats.seat_mut(seat).state, SeatState::Open(_));
        // Before the handshake is complete, as 0-RTT data, only once.
        if !self.phase.offers_load() || !(is_open || first_time) {
            return;
        }
        let streams_max = self.job.config.streams as usize;
        let carried_max = self.job.config.requests_per_connection.map_or(u64::MAX, NonZero::get);
        while self.left != Some(0)
            && self.seats.seat_mut(seat).streams.len() < streams_max
            && self.seats.seat_mut(seat).carried < carried_max
        {
            let Some(stream) = conn.open(Dir::Bi) else {
                self.tally.stream_limited += 1;
                break;
            };
            self.start(conn, seat, stream, conn.now());
            if let Some(left) = &mut self.left {
                *left -= 1;
            }
            self.tally.requests.started += 1;
        }
        let Seat { carried, streams, .. } = self.seats.seat_mut(seat);
        if is_open && *carried >= carried_max && streams.is_empty() {
            self.seats.vacate(seat, Again::AtOnce);
            conn.close(NO_ERROR, "done");
        }
    }

    /// Puts a request on a new stream.
    fn start(&mut self, conn: &mut Conn<'_>, seat: usize, stream: StreamId, started: Instant) {
        let Some(exchange) = &self.exchange else {
            return;
        };
        let request = Request {
            seat,
            stream,
            started,
            moved: conn.now(),
            outgoing: exchange.begin(),
            received: 0,
            answered: false,
            queued: false,
        };
        let Some(id) = self.requests.insert(request) else {
            return;
        };
        self.seats.seat_mut(seat).streams.insert(stream, id);
        self.seats.seat_mut(seat).carried += 1;
        self.write(conn, id);
    }

    /// The handshake is complete: what was sent as 0-RTT data was accepted or never happened.
    fn settle_early_data(&mut self, conn: &mut Conn<'_>, seat: usize) {
        let early = mem::take(&mut self.seats.seat_mut(seat).early);
        if conn.accepted_0rtt() {
            self.tally.early_data.accepted += early;
        } else if early > 0 {
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
                Some(stream) => self.start(conn, seat, stream, request.started),
                None => {
                    // Fewer streams than last time, against RFC 9000 section 7.4.1.
                    self.tally.requests.failed += 1;
                    self.tally.request_errors.note("early_data_rejected", 1, || None);
                }
            }
        }
    }

    /// Writes a piece of what may be written of a request.
    fn write(&mut self, conn: &mut Conn<'_>, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else { return };
        if request.outgoing.is_done() {
            return;
        }
        let (payload, next) = request.outgoing.write(conn, request.stream);
        self.tally.bytes_up += payload;
        if payload > 0 {
            request.moved = conn.now();
        }
        match next {
            Next::Wait => {}
            Next::Again => self.write_later(id),
            Next::Refused(code) => self.give_up(conn, id, "stopped", code),
        }
    }

    /// Puts a request on the list of those that can write more.
    fn write_later(&mut self, id: RequestId) {
        if let Some(request) = self.requests.get_mut(id)
            && !mem::replace(&mut request.queued, true)
        {
            self.to_write.push_back(id);
        }
    }

    /// Reads what there is of a response.
    fn read(&mut self, conn: &mut Conn<'_>, id: RequestId) {
        let expected = self.exchange.as_ref().map_or(0, |exchange| exchange.response_size);
        let Some(request) = self.requests.get_mut(id) else {
            return;
        };
        let before = request.received;
        let received = &mut request.received;
        let outcome = conn.read(request.stream, usize::MAX, |chunk| {
            *received += chunk.len() as u64;
        });
        self.tally.bytes_down += request.received - before;
        if request.received > before {
            request.moved = conn.now();
            self.dark_since = None;
        }
        if request.received > expected {
            return self.give_up(conn, id, "long_response", None);
        }
        match outcome {
            Ok(Read::Finished) if request.received < expected => {
                self.give_up(conn, id, "short_response", None);
            }
            // A server may answer before it has read everything: the request is over when both
            // halves are, see `finished`.
            Ok(Read::Finished) if !request.outgoing.is_done() => request.answered = true,
            Ok(Read::Finished) => self.succeed(conn.now(), id),
            Ok(Read::Reset(code)) => self.give_up(conn, id, "reset", Some(code)),
            Ok(Read::Blocked | Read::More) | Err(_) => {}
        }
    }

    /// The request was answered in full.
    fn succeed(&mut self, now: Instant, id: RequestId) {
        let Some(request) = self.release(id) else {
            return;
        };
        let latency = now.saturating_duration_since(request.started);
        self.tally.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        self.tally.requests.ok += 1;
        self.dark_since = None;
        self.seats.seat_mut(request.seat).failures = 0;
    }

    /// The request failed, maybe with a code of the server's; both halves of its stream are
    /// abandoned.
    fn give_up(
        &mut self,
        conn: &mut Conn<'_>,
        id: RequestId,
        class: &'static str,
        code: Option<VarInt>,
    ) {
        let Some(request) = self.release(id) else {
            return;
        };
        // Either half may be over already: then there is nothing to abandon.
        let _ = conn.reset(request.stream, NO_ERROR);
        let _ = conn.stop(request.stream, NO_ERROR);
        self.tally.requests.failed += 1;
        let example = || code.map(|code| format!("by the server, with code {code}"));
        self.tally.request_errors.note(class, 1, example);
    }

    fn release(&mut self, id: RequestId) -> Option<Request> {
        let request = self.requests.remove(id)?;
        self.seats.seat_mut(request.seat).streams.remove(&request.stream);
        Some(request)
    }

    /// The request in flight on `stream`, with its seat.
    fn find(&mut self, conn: &Conn<'_>, stream: StreamId) -> Option<(usize, RequestId)> {
        let seat = self.seats.of(conn.id())?;
        Some((seat, *self.seats.seat_mut(seat).streams.get(&stream)?))
    }

    /// Whether connections are the work itself, made one after another.
    fn makes_handshakes(&self) -> bool {
        self.job.config.workload.is_handshakes()
    }

    /// Whether a connection that ended, or never began, has a successor.
    fn again(&self) -> Again {
        let config = &self.job.config;
        match config.workload {
            Workload::Idle if !config.reconnect => Again::Never,
            _ => Again::AfterAWait,
        }
    }

    /// Notes how long a handshake took that began at `since`.
    fn note_handshake(&mut self, now: Instant, since: Instant) {
        let latency = now.saturating_duration_since(since);
        self.tally.latency.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// A connection is gone, and with it every request it carried.
    fn lose(&mut self, seat: usize, reason: &CloseReason) {
        let class = reason.class();
        let example = || Some(reason.to_string());
        let was_open = matches!(self.seats.seat_mut(seat).state, SeatState::Open(_));
        let carried = &mut self.seats.seat_mut(seat).streams;
        let failed = carried.len() as u64;
        if !was_open {
            self.tally.handshakes.failed += 1;
            self.tally.handshake_errors.note(class, 1, example);
        } else if failed == 0 {
            self.tally.idle_losses.note(class, 1, example);
        }
        if failed == 0 {
            return;
        }
        self.tally.request_errors.note(class, failed, example);
        self.tally.requests.failed += failed;
        for (_, id) in carried.drain() {
            self.requests.remove(id);
        }
    }
}

impl App for Client {
    fn connected(&mut self, conn: &mut Conn<'_>) {
        let Some(seat) = self.seats.of(conn.id()) else {
            return;
        };
        let now = conn.now();
        let Some(Opened { since, lost_at }) = self.seats.opened(seat, now) else {
            return;
        };
        self.job.gate.note_connected();
        self.tally.handshakes.ok += 1;
        if !self.makes_handshakes()
            && let Some(lost_at) = lost_at
        {
            self.tally.reconnects += 1;
            let outage = now.saturating_duration_since(lost_at).as_nanos();
            self.tally.outages.saturating_record(u64::try_from(outage).unwrap_or(u64::MAX));
        }
        if self.exchange.is_some() {
            self.settle_early_data(conn, seat);
            return self.fill(conn, seat);
        }
        self.note_handshake(now, since);
        if !self.makes_handshakes() {
            return;
        }
        self.dark_since = None;
        self.seats.seat_mut(seat).failures = 0;
        self.seats.vacate(seat, Again::AtOnce);
        conn.close(NO_ERROR, "done");
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        if let Some((seat, id)) = self.find(conn, stream) {
            self.read(conn, id);
            self.fill(conn, seat);
        }
    }

    fn writable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        if let Some((_, id)) = self.find(conn, stream) {
            self.write_later(id);
        }
    }

    fn finished(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let Some((seat, id)) = self.find(conn, stream) else {
            return;
        };
        if self.requests.get_mut(id).is_some_and(|request| request.answered) {
            self.succeed(conn.now(), id);
            self.fill(conn, seat);
        }
    }

    fn stopped(&mut self, conn: &mut Conn<'_>, stream: StreamId, code: VarInt) {
        let Some((seat, id)) = self.find(conn, stream) else {
            return;
        };
        // Once all was written, it is the response that counts.
        if self.requests.get_mut(id).is_some_and(|request| !request.outgoing.is_done()) {
            self.give_up(conn, id, "stopped", Some(code));
            self.fill(conn, seat);
        }
    }

    fn available(&mut self, conn: &mut Conn<'_>, _dir: Dir) {
        if let Some(seat) = self.seats.of(conn.id()) {
            self.fill(conn, seat);
        }
    }

    fn closed(&mut self, id: ConnId, reason: &CloseReason) {
        // After the end everything is closed by ourselves; and a connection without a seat has
        // done its work.
        let Some(seat) = self.seats.of(id).filter(|_| !self.phase.is_over()) else {
            return;
        };
        if *reason == CloseReason::StatelessReset {
            self.tally.stateless_resets += 1;
        }
        self.lose(seat, reason);
        self.seats.vacate(seat, self.again());
    }

    fn turn(&mut self, lane: &mut Lane<'_>) {
        self.go_on(lane);
    }

    fn draining(&mut self, lane: &mut Lane<'_>, _deadline: Instant) {
        self.conclude(lane, self.ending_when_stopped());
    }
}
