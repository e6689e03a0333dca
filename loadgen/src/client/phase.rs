//! phase is the work that spans connections: once per turn a client connects, starts, gives up
//! and ends what is due.

use std::mem;
use std::time::{Duration, Instant};

use quiclane::Lane;

use super::Client;
use super::exchange::Failure;
use super::pace::Pacer;
use super::seats::{Seat, SeatState};
use crate::config::Stop;
use crate::cpu::ThreadTime;
use crate::gate::{POLL, Signal};
use crate::live::Progress;
use crate::tally::{Ending, Span, Tally};

/// How far a worker has come.
#[derive(Clone, Copy, Debug)]
pub(super) enum Phase {
    /// The first attempt of each seat is under way.
    Connecting,
    /// Ready, until all workers are.
    Waiting,
    /// Load is offered, but not measured until the time it holds.
    Warming(Instant),
    /// Load is offered and measured.
    Measuring {
        /// When that began.
        from: Instant,
        /// When it ends; `None`: when the quota is used up.
        until: Option<Instant>,
        /// What the thread had used by then.
        thread: Option<ThreadTime>,
    },
    /// The tally is delivered.
    Over,
}

impl Phase {
    /// Whether requests may be started.
    pub(super) fn offers_load(self) -> bool {
        matches!(self, Self::Warming(_) | Self::Measuring { .. })
    }

    /// Whether nothing counts any more.
    pub(super) fn is_over(self) -> bool {
        matches!(self, Self::Over)
    }
}

impl Client {
    /// Everything that is due in this turn.
    pub(super) fn go_on(&mut self, lane: &mut Lane<'_>) {
        self.farewell.say(lane, self.codes.done);
        if self.phase.is_over() {
            return self.let_go(lane);
        }
        let is_stopped = self.job.gate.is_stopped();
        let now = lane.now();
        self.keep_series(now);
        let lost_some = self.seats.schedule(now, &mut self.random);
        let is_dark = match self.exchange {
            Some(_) => {
                let is_empty = self.requests.len() == self.parked;
                self.phase.offers_load() && is_empty && self.is_due(now)
            }
            None => self.makes_handshakes() && lost_some && self.seats.open() == 0,
        };
        if is_dark {
            self.dark_since.get_or_insert(now);
        } else if !self.is_due(now) {
            // Nothing is asked for, so nothing is missing.
            self.dark_since = None;
        }
        self.advance(lane, now);
        self.connect(lane, now);
        self.fill_some(lane);
        self.start_due(lane, now);
        self.send_datagrams(lane, now);
        self.keep_up(lane, now);
        self.write_some(lane);
        self.expire(lane, now);
        // Not before: what is due by now would count as not sent, as if there had been no room.
        if is_stopped && !self.phase.is_over() {
            self.conclude(lane, self.ending_when_stopped());
        }
        // Once it is over there is nothing more to show: the tally is gone.
        if !self.phase.is_over() {
            self.publish();
            lane.wake_at(self.next_turn(now));
        }
    }

    /// Moves on to the next phase when this one is complete.
    fn advance(&mut self, lane: &mut Lane<'_>, now: Instant) {
        match self.phase {
            Phase::Connecting => self.arrive(now),
            Phase::Waiting => match self.job.gate.signal() {
                Signal::Start(at) if at <= now => self.offer(at),
                Signal::Start(_) | Signal::Wait => {}
                Signal::Abandon => self.conclude(lane, Ending::NothingConnected),
            },
            Phase::Warming(until) if until <= now => self.measure(until),
            Phase::Measuring { until, .. } => {
                if let Some(ending) = self.ending(now, until) {
                    self.conclude(lane, ending);
                }
            }
            Phase::Warming(_) | Phase::Over => {}
        }
    }

    /// Waits for the other workers once all seats have tried to connect.
    fn arrive(&mut self, now: Instant) {
        let connects_first = !self.makes_handshakes();
        if connects_first && !self.seats.is_settled() && self.left != Some(0) {
            return;
        }
        if let Some(connecting) = &mut self.tally.connecting {
            connecting.to = now;
        }
        self.tally.connected_first = self.tally.handshakes.ok;
        self.job.gate.arrive(now, connects_first);
        self.phase = Phase::Waiting;
    }

    /// Begins to offer load.
    fn offer(&mut self, at: Instant) {
        if let Some(pacer) = &mut self.pacer {
            pacer.begin(at);
        }
        for rota in [&mut self.migrations, &mut self.key_updates].into_iter().flatten() {
            rota.begin(at);
        }
        self.to_fill.extend(0..self.seats.len());
        let warm_up = self.job.config.warm_up;
        if warm_up.is_zero() {
            self.measure(at);
        } else {
            self.phase = Phase::Warming(at + warm_up);
        }
    }

    /// Begins to measure.
    fn measure(&mut self, from: Instant) {
        // Connections that are only held count from the first one on.
        self.drop_backlog(from);
        self.count_datagrams();
        if !self.job.config.workload.is_idle() {
            let connecting = self.seats.connecting() as u64;
            let handshakes = self.makes_handshakes().then_some(connecting);
            self.tally.begin_measuring(self.requests.len(), handshakes, self.seats.early());
        }
        let until = match self.job.config.stop {
            Stop::Duration(duration) => Some(from + duration),
            Stop::Requests(_) | Stop::Never => None,
        };
        if let Some(pacer) = &mut self.pacer {
            pacer.end(until);
        }
        let before = self.totals(from);
        self.series.begin(from, until, before);
        self.phase = Phase::Measuring { from, until, thread: ThreadTime::read() };
    }

    /// How the run ends, if it does now.
    fn ending(&self, now: Instant, until: Option<Instant>) -> Option<Ending> {
        let awaits = self.awaits_datagrams(now) || self.awaits_answers(now);
        if until.is_some_and(|until| until <= now) && !awaits {
            return Some(Ending::Complete);
        }
        if self.job.config.workload.is_idle() {
            // Nothing left to hold is the end, too.
            return self.seats.are_deserted().then_some(Ending::Complete);
        }
        let counts =
            if self.exchange.is_some() { &self.tally.requests } else { &self.tally.handshakes };
        if self.quota.is_some_and(|quota| counts.ended() >= quota) {
            return Some(Ending::Complete);
        }
        let tried_all = self.tally.handshakes.failed >= self.seats.len() as u64;
        if self.exchange.is_none() && !self.job.gate.ever_connected() && tried_all {
            return Some(Ending::NothingConnected);
        }
        // A run by duration goes on: the server may be on its way back. And as long as a request
        // is in flight there may be an answer.
        let since = self.dark_since.filter(|_| self.requests.len() == self.parked)?;
        let by_number = self.quota.is_some();
        (by_number && now >= since + self.job.config.dark_max()).then_some(Ending::GaveUp)
    }

    /// What it means that somebody stopped the run.
    pub(super) fn ending_when_stopped(&self) -> Ending {
        match (self.job.config.stop, self.phase) {
            // Nothing else was to end it.
            (Stop::Never, Phase::Measuring { .. }) => Ending::Complete,
            _ => Ending::Interrupted,
        }
    }

    /// Starts requests on seats that wait for their first ones.
    fn fill_some(&mut self, lane: &mut Lane<'_>) {
        if !self.phase.offers_load() {
            return;
        }
        for _ in 0..FILLS_PER_TURN {
            let Some(seat) = self.to_fill.pop_front() else {
                return;
            };
            if let SeatState::Open(id) = self.seats.seat_mut(seat).state
                && let Some(mut conn) = lane.conn(id)
            {
                self.fill(&mut conn, seat);
            }
        }
    }

    /// Goes on with requests that can write more, each in its turn.
    fn write_some(&mut self, lane: &mut Lane<'_>) {
        for _ in 0..self.to_write.len().min(WRITES_PER_TURN) {
            let Some(id) = self.to_write.pop_front() else { return };
            let Some(request) = self.requests.get_mut(id) else { continue };
            request.queued = false;
            let seat = request.seat;
            if let Some(conn) = self.seats.seat_mut(seat).conn()
                && let Some(mut conn) = lane.conn(conn)
            {
                self.write(&mut conn, id);
                self.fill(&mut conn, seat);
            }
        }
    }

    /// Gives up requests that have taken too long.
    fn expire(&mut self, lane: &mut Lane<'_>, now: Instant) {
        let Some(timeout) = self.job.config.request_timeout else {
            return;
        };
        for _ in 0..EXPIRES_PER_TURN {
            let Some((id, request)) = self.requests.oldest() else {
                return;
            };
            if now < request.started + timeout {
                return;
            }
            let (seat, is_parked) = (request.seat, request.is_parked);
            let failure = Failure::plain("timeout");
            let conn = self.seats.seat_mut(seat).conn();
            match conn.and_then(|conn| lane.conn(conn)) {
                Some(mut conn) => {
                    self.give_up(&mut conn, id, failure);
                    self.fill(&mut conn, seat);
                }
                None if is_parked => drop(self.fail(id, failure)),
                None => return,
            }
        }
    }

    /// When there is something to do without any packet arriving.
    fn next_turn(&self, now: Instant) -> Instant {
        let mut next = now + INTERVAL_MAX;
        for at in [self.next_opening(now), self.next_upkeep()].into_iter().flatten() {
            next = next.min(at);
        }
        match self.phase {
            Phase::Waiting => {
                next = next.min(match self.job.gate.signal() {
                    Signal::Start(at) => at,
                    Signal::Wait | Signal::Abandon => now + POLL,
                });
            }
            Phase::Warming(until) => next = next.min(until),
            // If it is over, datagrams or answers are awaited.
            Phase::Measuring { until: Some(until), .. } if until > now => next = next.min(until),
            Phase::Connecting | Phase::Measuring { .. } | Phase::Over => {}
        }
        if !self.farewell.is_said() {
            next = now;
        }
        if !self.to_write.is_empty() || (self.phase.offers_load() && !self.to_fill.is_empty()) {
            next = now;
        }
        if self.phase.offers_load() && self.left != Some(0) && !self.awaits_datagrams(now) {
            let due = self.pacer.as_ref().and_then(Pacer::wake_at);
            next = due.map_or(next, |at| next.min(at));
        }
        if let Some(end) = self.series.next_end() {
            next = next.min(end);
        }
        match (self.job.config.request_timeout, self.requests.oldest()) {
            (Some(timeout), Some((_, oldest))) => next.min(oldest.started + timeout),
            _ => next,
        }
    }

    /// Shows how far the worker has come.
    fn publish(&self) {
        let measuring = matches!(self.phase, Phase::Measuring { .. } | Phase::Over);
        let Tally { requests, handshakes, bytes_down, bytes_up, .. } = &self.tally;
        let Tally { idle_losses, reconnects, .. } = &self.tally;
        self.job.lives[self.worker].publish(&Progress {
            open: self.seats.open() as u64,
            handshakes: handshakes.ok,
            handshakes_failed: handshakes.failed,
            requests: requests.ok + self.tally.datagrams.received,
            requests_failed: requests.failed,
            bytes_down: *bytes_down,
            bytes_up: *bytes_up,
            measuring: u64::from(measuring),
            idle_losses: idle_losses.total(),
            reconnects: *reconnects,
            p99_ns: self.series.last_p99_ns(),
        });
    }

    /// How long an answer took at most, and what is quick anyway.
    fn longest(&self) -> Duration {
        Duration::from_nanos(self.tally.latency.max()).max(STALLED_AFTER_MIN)
    }

    /// How many requests in flight have not moved for longer than any answer took: nobody can say
    /// that they were only cut off by the end of the run.
    fn stalled(&self, now: Instant, longest: Duration) -> u64 {
        let moved = self.requests.iter().map(|request| request.moved);
        moved.filter(|&moved| now.saturating_duration_since(moved) > longest).count() as u64
    }

    /// Delivers the tally and lets the worker stop.
    pub(super) fn conclude(&mut self, lane: &mut Lane<'_>, ending: Ending) {
        let now = lane.now();
        if let Phase::Warming(_) = self.phase {
            // Nothing was measured, so nothing may be reported.
            self.measure(now);
        }
        self.keep_series(now);
        // A turn that comes late is no longer run.
        let end = match self.phase {
            Phase::Measuring { until: Some(until), .. } => until.min(now),
            _ => now,
        };
        if let Phase::Measuring { from, thread, .. } = self.phase {
            let is_over = self.datagrams.is_some() || !self.job.config.linger.is_zero();
            self.tally.measured = Some(Span { from, to: if is_over { end } else { now } });
            self.tally.busy = ThreadTime::read()
                .zip(thread)
                .map(|(end, start)| end.busy_since(start, now.saturating_duration_since(from)));
        }
        self.count_lost_datagrams(now);
        let longest = self.longest();
        let stalled = self.stalled(now, longest);
        let is_unfinished = self.requests.iter().any(|request| !request.outgoing.is_done());
        self.tally.uploading = is_unfinished && self.tally.bytes_up > 0;
        self.tally.requests.cancelled = self.requests.len() - stalled;
        self.tally.handshakes.cancelled = self.seats.connecting() as u64;
        for seat in 0..self.seats.len() {
            let Seat { held, state, .. } = self.seats.seat_mut(seat);
            held.end(end, &mut self.tally.stream_limits);
            if let SeatState::Open(id) = *state
                && let Some(conn) = lane.conn(id)
            {
                self.account(&conn.stats());
            }
        }
        self.count_unsent(end, longest);
        self.tally.requests.failed += stalled;
        if stalled > 0 {
            self.tally.request_errors.note("stalled", stalled, || None);
        }
        self.tally.opened_first = self.seats.opened_first();
        self.tally.held = self.seats.open() as u64;
        self.tally.missing = self.seats.absence().missing();
        self.tally.absent = self.seats.absence().longest();
        self.tally.ending = ending;
        let totals = self.totals(end);
        self.tally.intervals = self.series.finish(now, totals);
        self.tell(|_| self.tally.intervals.last().cloned(), true);
        self.phase = Phase::Over;
        self.publish();
        // The receiver is gone only when nobody wants to know.
        let _ = self.results.send(mem::replace(&mut self.tally, Tally::new()));
        self.let_go(lane);
    }

    /// Lets the worker stop, once the last handshakes are complete for the server, too.
    fn let_go(&self, lane: &mut Lane<'_>) {
        match self.farewell.is_said() {
            true => lane.finish(),
            false => lane.wake_at(lane.now()),
        }
    }
}

/// Seats that get their first requests in one turn: up to 100 requests each.
const FILLS_PER_TURN: usize = 64;

/// Visits to requests that can write more, in one turn: at most 16 MiB, about a millisecond.
const WRITES_PER_TURN: usize = 64;

/// Requests given up in one turn.
const EXPIRES_PER_TURN: usize = 1_024;

/// A request that has moved within this time is not stalled, however quick the others were: lost
/// packets are sent again well within a second.
const STALLED_AFTER_MIN: Duration = Duration::from_secs(1);

/// The longest time between two looks at the stop flag.
const INTERVAL_MAX: Duration = Duration::from_millis(50);
