//! pace starts requests when the schedule says so: the open loop.
//!
//! ```text
//! due, and a connection has room ──► sent at once: what is late is the generator's own lag
//! due, and none has room         ──► waits for the first one that does: that is in the latency
//! ```
//!
//! Nothing is queued: requests leave in the order in which they are due, so the schedule itself
//! knows those that wait. However long a server stalls, no memory grows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use quiclane::Lane;

use super::Client;
use super::seats::SeatState;
use crate::schedule::Schedule;

/// When one worker's requests are due, and who can take them.
#[derive(Debug)]
pub(super) struct Pacer {
    schedule: Schedule,
    /// When the run began; `None`: it has not.
    start: Option<Instant>,
    /// Seats that can take a request, each once, in turn.
    free: VecDeque<usize>,
}

impl Pacer {
    /// Waits for [`begin`](Self::begin).
    pub(super) fn new(schedule: Schedule, seats: usize) -> Self {
        Self { schedule, start: None, free: VecDeque::with_capacity(seats) }
    }

    /// The schedule begins at `at`.
    pub(super) fn begin(&mut self, at: Instant) {
        self.start = Some(at);
    }

    /// When the next request is due; `None`: never.
    fn next_at(&self) -> Option<Instant> {
        self.start?.checked_add(self.schedule.peek()?)
    }

    /// Whether a request waits.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next_at().is_some_and(|at| at <= now)
    }

    /// The next request that is due, and when it was.
    pub(super) fn take(&mut self, now: Instant) -> Option<Instant> {
        let start = self.start?;
        let due = self.schedule.take(now.saturating_duration_since(start))?;
        Some(start + due)
    }

    /// When to look again: as soon as something is due, if somebody can take it.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.next_at().filter(|_| !self.free.is_empty())
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
        self.tally.due += 1;
        self.tally.sent += 1;
        pacer.take(now).unwrap_or(now)
    }

    /// `seat` can take a request.
    pub(super) fn offer_room(&mut self, seat: usize) {
        if let Some(pacer) = &mut self.pacer
            && !std::mem::replace(&mut self.seats.seat_mut(seat).is_free, true)
        {
            pacer.free.push_back(seat);
        }
    }

    /// Starts the requests that are due, each on the next connection that has room.
    pub(super) fn start_due(&mut self, lane: &mut Lane<'_>, now: Instant) {
        if !self.phase.offers_load() {
            return;
        }
        for _ in 0..STARTS_PER_TURN {
            let Some(pacer) = self.pacer.as_mut().filter(|pacer| pacer.is_due(now)) else { return };
            let due = pacer.next_at();
            let Some(seat) = pacer.free.pop_front() else { return };
            self.seats.seat_mut(seat).is_free = false;
            if let SeatState::Open(id) = self.seats.seat_mut(seat).state
                && let Some(mut conn) = lane.conn(id)
                && self.start_some(&mut conn, seat, 1) == 1
                && let Some(due) = due
            {
                self.tally.lag.saturating_record(nanos(now.saturating_duration_since(due)));
            }
        }
    }

    /// Counts what was due before the end and never left.
    pub(super) fn count_unsent(&mut self, end: Instant) {
        let Some(pacer) = &mut self.pacer else { return };
        let end = end - Duration::from_nanos(1);
        let mut unsent = 0;
        while self.left != Some(0) && pacer.take(end).is_some() {
            unsent += 1;
            if let Some(left) = &mut self.left {
                *left -= 1;
            }
        }
        if unsent == 0 {
            return;
        }
        self.tally.requests.started += unsent;
        self.tally.due += unsent;
        if pacer.free.is_empty() {
            self.tally.unsent = unsent;
            self.tally.requests.failed += unsent;
            self.tally.request_errors.note(NOT_SENT, unsent, || {
                Some("no connection had room for it before the run ended".into())
            });
        } else {
            // They would have left in the turn that the end came before.
            self.tally.requests.cancelled += unsent;
        }
    }
}

/// As the histograms want it.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The error class of a request that was due and never left.
const NOT_SENT: &str = "not_sent";

/// Requests started in one turn: packets of the others wait meanwhile, and a generator that was
/// held up must not send everything at once before it reads again.
const STARTS_PER_TURN: usize = 256;
