//! seats are the connections a worker keeps: each has a place that is filled again when it is
//! lost, if it is meant to be.
//!
//! ```text
//! Vacant ─► Connecting ─► Open
//!    ▲          │           │
//!    └──────────┴───────────┘   after a wait, see `backoff`; or never
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::mem;
use std::time::{Duration, Instant};

use quiclane::{ConnId, StreamId};

use super::absence::Absence;
use super::exchange::Session;
use super::requests::RequestId;
use crate::backoff::delay;
use crate::quic::Held;
use crate::random::Random;

/// One place for a connection.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// What it is doing.
    pub(crate) state: SeatState,
    /// Attempts in a row that came to nothing.
    pub(crate) failures: u32,
    /// Since when its connection is open, or was when it was lost.
    opened_at: Option<Instant>,
    /// When the connection that the next one replaces was lost.
    lost_at: Option<Instant>,
    /// Whether its first attempt has ended, well or badly.
    settled: bool,
    /// Requests started on this connection.
    pub(crate) carried: u64,
    /// How many of them as 0-RTT data.
    pub(crate) early: u64,
    /// Its requests in flight.
    pub(crate) streams: HashMap<StreamId, RequestId, BuildHasherDefault<StreamHasher>>,
    /// Its requests that wait for the next connection, oldest first.
    pub(crate) parked: VecDeque<RequestId>,
    /// What the server's limit of streams holds up.
    pub(crate) held: Held,
    /// How often its connections have moved to another socket.
    pub(crate) moves: u64,
    /// Waits in line for a request that is due.
    pub(crate) is_free: bool,
    /// HTTP/3 on its connection, where that is spoken and has begun.
    pub(crate) session: Option<Box<Session>>,
}

impl Seat {
    /// Its connection, open or about to be.
    pub(crate) fn conn(&self) -> Option<ConnId> {
        match self.state {
            SeatState::Vacant => None,
            SeatState::Connecting { conn, .. } | SeatState::Open(conn) => Some(conn),
        }
    }
}

/// What a seat is doing.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum SeatState {
    /// Waits for its turn to connect.
    #[default]
    Vacant,
    /// Its handshake began at `since`.
    Connecting {
        /// When it was meant to begin.
        due: Instant,
        /// When `connect` was called.
        since: Instant,
        /// The connection.
        conn: ConnId,
    },
    /// Its connection can carry requests.
    Open(ConnId),
}

/// All seats of one worker.
#[derive(Debug)]
pub(crate) struct Seats {
    seats: Vec<Seat>,
    /// Whose connection is in which engine slot.
    by_slot: Vec<Option<(ConnId, usize)>>,
    /// To connect as soon as possible.
    ready: VecDeque<usize>,
    /// To connect later.
    waiting: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Vacated since the last [`schedule`](Self::schedule).
    lost: Vec<usize>,
    /// How long connections that had been open were missing.
    absence: Absence,
    connecting: usize,
    open: usize,
    /// Seats whose first attempt has not ended.
    unsettled: usize,
    /// Seats whose first attempt opened a connection.
    opened_first: u64,
}

impl Seats {
    /// `count` vacant seats, all ready to connect.
    pub(crate) fn new(count: usize) -> Self {
        Self {
            seats: (0..count).map(|_| Seat::default()).collect(),
            by_slot: Vec::new(),
            ready: (0..count).collect(),
            waiting: BinaryHeap::with_capacity(count),
            lost: Vec::with_capacity(count),
            absence: Absence::default(),
            connecting: 0,
            open: 0,
            unsettled: count,
            opened_first: 0,
        }
    }

    /// The seat `index`.
    pub(crate) fn seat_mut(&mut self, index: usize) -> &mut Seat {
        &mut self.seats[index]
    }

    /// Whose connection `id` is; `None` for one that has lost its seat.
    pub(crate) fn of(&self, id: ConnId) -> Option<usize> {
        match self.by_slot.get(id.slot()) {
            Some(&Some((owner, seat))) if owner == id => Some(seat),
            _ => None,
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.seats.len()
    }

    /// How many handshakes are under way.
    pub(crate) fn connecting(&self) -> usize {
        self.connecting
    }

    /// How many requests have left as 0-RTT data in handshakes that are under way.
    pub(crate) fn early(&self) -> u64 {
        let is_connecting = |seat: &&Seat| matches!(seat.state, SeatState::Connecting { .. });
        self.seats.iter().filter(is_connecting).map(|seat| seat.early).sum()
    }

    /// How many connections can carry requests.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// Whether no seat has a connection, or will have one.
    pub(crate) fn are_deserted(&self) -> bool {
        let none = self.open == 0 && self.connecting == 0;
        none && self.ready.is_empty() && self.waiting.is_empty() && self.lost.is_empty()
    }

    /// How many first attempts opened a connection.
    pub(crate) fn opened_first(&self) -> u64 {
        self.opened_first
    }

    /// How long connections that had been open were missing.
    pub(crate) fn absence(&self) -> &Absence {
        &self.absence
    }

    /// Whether the first attempt of every seat has ended, well or badly.
    pub(crate) fn is_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// The next seat that shall connect now.
    pub(crate) fn next_ready(&mut self, now: Instant) -> Option<usize> {
        if let Some(&Reverse((at, seat))) = self.waiting.peek()
            && at <= now
        {
            self.waiting.pop();
            self.ready.push_back(seat);
        }
        self.ready.pop_front()
    }

    /// Whether a seat can connect at once.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// When a seat shall connect: the past if one is ready.
    pub(crate) fn next_at(&self, now: Instant) -> Option<Instant> {
        if !self.ready.is_empty() {
            return Some(now);
        }
        self.waiting.peek().map(|&Reverse((at, _))| at)
    }

    /// `seat` began a handshake on `conn`, which was due at `due`.
    pub(crate) fn begin(&mut self, seat: usize, conn: ConnId, due: Instant, now: Instant) {
        if self.by_slot.len() <= conn.slot() {
            self.by_slot.resize(conn.slot() + 1, None);
        }
        self.by_slot[conn.slot()] = Some((conn, seat));
        self.seats[seat].state = SeatState::Connecting { due, since: now, conn };
        self.seats[seat].carried = 0;
        self.seats[seat].early = 0;
        self.seats[seat].session = None;
        self.seats[seat].held = Held::default();
        self.connecting += 1;
    }

    /// The handshake of `seat` is complete.
    pub(crate) fn opened(&mut self, seat: usize, now: Instant) -> Option<Opened> {
        let SeatState::Connecting { due, since, conn } = self.seats[seat].state else {
            return None;
        };
        self.opened_first += u64::from(!self.seats[seat].settled);
        self.settle(seat);
        self.seats[seat].state = SeatState::Open(conn);
        self.seats[seat].opened_at = Some(now);
        self.connecting -= 1;
        self.open += 1;
        let lost_at = self.seats[seat].lost_at.take();
        if lost_at.is_some() {
            self.absence.came_back(now);
        }
        Some(Opened { due, since, lost_at })
    }

    /// `seat` lost or gave up its connection.
    pub(crate) fn vacate(&mut self, seat: usize, again: Again) {
        match self.seats[seat].state {
            SeatState::Vacant => self.settle(seat),
            SeatState::Connecting { conn, .. } => {
                self.settle(seat);
                self.connecting -= 1;
                self.by_slot[conn.slot()] = None;
            }
            SeatState::Open(conn) => {
                self.open -= 1;
                self.by_slot[conn.slot()] = None;
            }
        }
        self.seats[seat].state = SeatState::Vacant;
        match again {
            Again::AtOnce => {
                self.seats[seat].opened_at = None;
                self.ready.push_back(seat);
            }
            Again::AfterAWait => self.lost.push(seat),
            Again::Never => {}
        }
    }

    /// Decides when the seats vacated since the last call connect again; says whether there were
    /// any.
    pub(crate) fn schedule(&mut self, now: Instant, jitter: &mut Random) -> bool {
        let any = !self.lost.is_empty();
        for seat in self.lost.drain(..) {
            let Seat { opened_at, lost_at, failures, .. } = &mut self.seats[seat];
            if let Some(opened_at) = opened_at.take() {
                if now.saturating_duration_since(opened_at) >= HELD_MIN {
                    *failures = 0;
                }
                *lost_at = Some(now);
                self.absence.went_missing(now);
            }
            *failures = failures.saturating_add(1);
            self.waiting.push(Reverse((now + delay(*failures, jitter), seat)));
        }
        any
    }

    /// The first attempt of `seat` has ended.
    fn settle(&mut self, seat: usize) {
        if !mem::replace(&mut self.seats[seat].settled, true) {
            self.unsettled -= 1;
        }
    }
}

/// When a vacated seat connects again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Again {
    /// All went well.
    AtOnce,
    /// Something failed: see [`backoff`](crate::backoff).
    AfterAWait,
    /// Lost connections are only counted.
    Never,
}

/// A handshake that is complete.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Opened {
    /// When it was meant to begin.
    pub(crate) due: Instant,
    /// When it began.
    pub(crate) since: Instant,
    /// When the connection that this one replaces was lost, if it does.
    pub(crate) lost_at: Option<Instant>,
}

/// Spreads stream IDs, which are small and consecutive, over a hash table with one
/// multiplication. They are our own, so nobody can choose them to collide.
#[derive(Debug, Default)]
pub(crate) struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        // 2^64 divided by the golden ratio (Knuth, TAOCP 6.4); the halves are swapped because
        // the table takes its index from the low bits and its tag from the high ones.
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

/// A connection that has lived this long, as long as the longest wait, was no failed attempt:
/// when it is lost the waits start afresh. A server that accepts and closes is not hammered.
const HELD_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use quiclane::clock;

    use super::*;

    #[test]
    fn a_seat_that_failed_waits_and_one_that_did_well_does_not() {
        let (now, mut jitter) = (clock::now(), Random::new(1));
        let mut seats = Seats::new(2);
        assert_eq!((seats.next_ready(now), seats.next_ready(now)), (Some(0), Some(1)));
        assert_eq!((seats.next_ready(now), seats.next_at(now)), (None, None));
        assert!(!seats.is_settled());
        seats.vacate(0, Again::AfterAWait);
        seats.vacate(1, Again::AtOnce);
        assert!(seats.is_settled());
        assert!(seats.schedule(now, &mut jitter));
        assert!(!seats.schedule(now, &mut jitter));
        assert_eq!(seats.next_at(now), Some(now));
        assert_eq!((seats.next_ready(now), seats.next_ready(now)), (Some(1), None));
        let again = seats.next_at(now).unwrap();
        assert!(again > now && again <= now + Duration::from_millis(10));
        assert_eq!(seats.next_ready(again), Some(0));
    }

    #[test]
    fn waits_grow_with_failures_in_a_row() {
        let (now, mut jitter) = (clock::now(), Random::new(1));
        let mut seats = Seats::new(1);
        assert!(seats.next_ready(now).is_some());
        for _ in 0..20 {
            seats.vacate(0, Again::AfterAWait);
            seats.schedule(now, &mut jitter);
            assert!(seats.next_ready(now + Duration::from_secs(1)).is_some());
        }
        seats.vacate(0, Again::AfterAWait);
        seats.schedule(now, &mut jitter);
        assert!(seats.next_at(now).unwrap() >= now + Duration::from_millis(500));
    }

    #[test]
    fn a_connection_that_was_held_for_long_was_no_failure() {
        let (mut now, mut jitter) = (clock::now(), Random::new(1));
        let mut seats = Seats::new(1);
        let mut wait_after = |held: Duration| {
            let seat = seats.next_ready(now).unwrap();
            seats.seats[seat].opened_at = Some(now);
            now += held;
            seats.vacate(seat, Again::AfterAWait);
            seats.schedule(now, &mut jitter);
            let at = seats.next_at(now).unwrap();
            let wait = at - now;
            now = at;
            wait
        };
        for _ in 0..10 {
            wait_after(Duration::from_millis(1));
        }
        assert!(wait_after(Duration::from_millis(1)) >= Duration::from_millis(500));
        assert!(wait_after(HELD_MIN) <= Duration::from_millis(10));
    }

    #[test]
    fn seats_that_stay_empty_are_deserted() {
        let (now, mut jitter) = (clock::now(), Random::new(1));
        let mut seats = Seats::new(2);
        assert!(seats.next_ready(now).is_some() && seats.next_ready(now).is_some());
        seats.vacate(0, Again::Never);
        seats.vacate(1, Again::AfterAWait);
        assert!(!seats.are_deserted());
        seats.schedule(now, &mut jitter);
        assert!(!seats.are_deserted());
        assert!(seats.next_ready(now + Duration::from_secs(1)).is_some());
        seats.vacate(1, Again::Never);
        seats.schedule(now, &mut jitter);
        assert!(seats.are_deserted() && seats.is_settled());
    }

    #[test]
    fn stream_ids_spread_over_a_table() {
        let hash = |stream: u64| {
            let mut hasher = StreamHasher::default();
            hasher.write_u64(stream);
            hasher.finish()
        };
        let mut used = [0; 128];
        for index in 0..128 {
            used[usize::try_from(hash(index * 4) % 128).unwrap()] += 1;
        }
        assert!(used.iter().all(|&count| count <= 6), "{used:?}");
    }
}
