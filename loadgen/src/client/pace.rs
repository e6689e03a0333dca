//! pace starts requests, or handshakes, when the schedule says so: the open loop.
//!
//! ```text
//! due, and a connection has room ──► sent at once: what is late is the generator's own lag
//! due, and none has room         ──► waits for the first one that does: that is in the latency
//! ```
//!
//! Nothing is queued: requests leave in the order in which they are due, so the schedule itself
//! knows those that wait. However long a server stalls, no memory grows.

use std::collections::VecDeque;
use std::mem;
use std::time::{Duration, Instant};

use quiclane::Lane;

use super::Client;
use super::phase::Phase;
use crate::schedule::Schedule;

/// When one worker's requests are due, and who can take them.
#[derive(Debug)]
pub(super) struct Pacer {
    schedule: Schedule,
    /// The same schedule, of which as much is gone as was counted.
    uncounted: Schedule,
    /// How many of it were due before the last interval's end.
    counted: u64,
    /// When the run began; `None`: it has not.
    start: Option<Instant>,
    /// Nothing is due from then on; `None`: not known yet, or never.
    end: Option<Instant>,
    /// Seats that can take a request, each once, in turn.
    free: VecDeque<usize>,
    /// Since when there is one.
    free_since: Option<Instant>,
}

impl Pacer {
    /// Waits for [`begin`](Self::begin).
    pub(super) fn new(schedule: Schedule, seats: usize) -> Self {
        let free = VecDeque::with_capacity(seats);
        let uncounted = schedule.clone();
        Self { schedule, uncounted, counted: 0, start: None, end: None, free, free_since: None }
    }

    /// The schedule begins at `at`, if it has not begun.
    pub(super) fn begin(&mut self, at: Instant) {
        self.start.get_or_insert(at);
    }

    /// Nothing is due from `end` on.
    pub(super) fn end(&mut self, end: Option<Instant>) {
        self.end = end;
    }

    /// When the next request is due; `None`: never.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let at = self.start?.checked_add(self.schedule.peek()?)?;
        self.end.is_none_or(|end| at < end).then_some(at)
    }

    /// Which request the next one is; `None`: any.
    pub(super) fn which(&self) -> Option<usize> {
        self.schedule.which()
    }

    /// Whether a request waits.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next_at().is_some_and(|at| at <= now)
    }

    /// The next request that is due: when it was, and since when it could have left.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Instant, Instant)> {
        let start = self.start.filter(|_| self.is_due(now))?;
        let due = start + self.schedule.take(now.saturating_duration_since(start))?;
        Some((due, self.free_since.map_or(now, |since| due.max(since))))
    }

    /// How many requests are due before `end`, of those that are left, and without them.
    pub(super) fn skip_before(&mut self, end: Instant) -> u64 {
        self.start
            .map_or(0, |start| self.schedule.skip_before(end.saturating_duration_since(start)))
    }

    /// How many requests of the measured part are due before `end`, later at each call.
    pub(super) fn count_due(&mut self, end: Instant) -> u64 {
        if let Some(start) = self.start {
            self.counted += self.uncounted.skip_before(end.saturating_duration_since(start));
        }
        self.counted
    }

    fn push(&mut self, now: Instant, seat: usize) {
        self.free.push_back(seat);
        self.free_since.get_or_insert(now);
    }

    /// The turn is over. Only now: a seat that takes a request and has room for another one was
    /// free all the time.
    fn settle(&mut self) {
        if self.free.is_empty() {
            self.free_since = None;
        }
    }

    /// The same where those who can take something are not in `free`.
    pub(super) fn note_room(&mut self, now: Instant, is_there: bool) {
        let since = self.free_since.unwrap_or(now);
        self.free_since = is_there.then_some(since);
    }

    /// When to look again: as soon as something is due, if somebody can take it.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.next_at().filter(|_| self.free_since.is_some())
    }
}

impl Client {
    /// Whether a request shall be started now: always, in a closed loop.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.pacer.as_ref().is_none_or(|pacer| pacer.is_due(now))
    }

    /// When the request that is started now was due.
    pub(super) fn take_due(&mut self, now: Instant) -> Instant {
        let Some(pacer) = &mut self.pacer else { return now };
        let (due, possible) = pacer.take(now).unwrap_or((now, now));
        self.tally.sent += 1;
        let lag = nanos(now.saturating_duration_since(possible));
        self.tally.lag.saturating_record(lag);
        self.series.note_lag(lag);
        due
    }

    /// `seat` can take a request.
    pub(super) fn offer_room(&mut self, now: Instant, seat: usize) {
        if let Some(pacer) = &mut self.pacer
            && !mem::replace(&mut self.seats.seat_mut(seat).is_free, true)
        {
            pacer.push(now, seat);
        }
    }

    /// Starts the requests that are due, each on the next connection that has room.
    pub(super) fn start_due(&mut self, lane: &mut Lane<'_>, now: Instant) {
        if !self.phase.offers_load() || self.exchange.is_none() {
            return;
        }
        for _ in 0..STARTS_PER_TURN {
            let Some(pacer) = self.pacer.as_mut().filter(|pacer| pacer.is_due(now)) else { break };
            let Some(seat) = pacer.free.pop_front() else { break };
            let seat_of = self.seats.seat_mut(seat);
            seat_of.is_free = false;
            if let Some(id) = seat_of.conn()
                && let Some(mut conn) = lane.conn(id)
                && self.may_carry(&conn, seat)
                && self.start_one(&mut conn, seat)
                && self.has_room(seat)
            {
                self.offer_room(now, seat);
            }
        }
        if let Some(pacer) = &mut self.pacer {
            pacer.settle();
        }
    }

    /// Whether nothing more becomes due, but some of what was has not ended and is waited for.
    pub(super) fn awaits_answers(&self, now: Instant) -> bool {
        let Phase::Measuring { until: Some(until), .. } = self.phase else { return false };
        let is_waiting = until <= now && now < until + self.job.config.linger;
        let in_flight = match self.makes_handshakes() {
            true => self.seats.connecting() as u64,
            false => self.requests.len(),
        };
        is_waiting && (in_flight > 0 || self.is_due(now))
    }

    /// What still waits when the warm-up ends belongs to the warm-up, and is not sent.
    pub(super) fn drop_backlog(&mut self, from: Instant) {
        if let Some(pacer) = &mut self.pacer {
            // A run by number has no warm-up, so nothing is taken from what is left to do.
            pacer.skip_before(from);
            pacer.count_due(from);
            pacer.counted = 0;
        }
    }

    /// Counts what was due before the end and never left. `longest`: who waited for longer was not
    /// only cut off by the end.
    pub(super) fn count_unsent(&mut self, end: Instant, longest: Duration) {
        let Some(pacer) = &mut self.pacer else { return };
        let had_room = pacer.free_since.is_some();
        let waited = end.checked_sub(longest).map_or(0, |before| pacer.skip_before(before));
        let all = waited + pacer.skip_before(end);
        let unsent = self.left.map_or(all, |left| all.min(left));
        let failed = if had_room { 0 } else { waited.min(unsent) };
        self.tally.unsent = unsent;
        if self.datagrams.is_some() {
            return;
        }
        let (counts, errors, why) = if self.makes_handshakes() {
            let why = "as many handshakes as allowed were under way until the run ended";
            (&mut self.tally.handshakes, &mut self.tally.handshake_errors, why)
        } else {
            let why = "no connection had room for it before the run ended";
            (&mut self.tally.requests, &mut self.tally.request_errors, why)
        };
        counts.started += unsent;
        counts.failed += failed;
        counts.cancelled += unsent - failed;
        if failed > 0 {
            errors.note(NOT_SENT, failed, || Some(why.into()));
        }
    }
}

/// As the histograms want it.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The error class of a request, or handshake, that was due and never left.
const NOT_SENT: &str = "not_sent";

/// Requests started in one turn: packets of the others wait meanwhile, and a generator that was
/// held up must not send everything at once before it reads again.
const STARTS_PER_TURN: usize = 256;
