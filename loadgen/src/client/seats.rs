//! seats are the connections a worker keeps: each has a place that is filled again when it is
//! lost.
//!
//! ```text
//! Vacant ─► Connecting ─► Open
//!    ▲          │           │
//!    └──────────┴───────────┘   after a wait, see `backoff`
//! ```

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::mem;
use std::time::Instant;

use quiclane::{ConnId, StreamId};

use super::requests::RequestId;
use crate::backoff::{Jitter, delay};

/// One place for a connection.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// What it is doing.
    pub(crate) state: SeatState,
    /// Attempts in a row that came to nothing.
    pub(crate) failures: u32,
    /// Whether its last connection was open when it was lost.
    pub(crate) was_open: bool,
    /// Whether its first attempt has ended, well or badly.
    settled: bool,
    /// Requests started on this connection.
    pub(crate) carried: u64,
    /// How many of them as 0-RTT data.
    pub(crate) early: u64,
    /// Its requests in flight.
    pub(crate) streams: HashMap<StreamId, RequestId, BuildHasherDefault<StreamHasher>>,
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
    connecting: usize,
    open: usize,
    /// Seats whose first attempt has not ended.
    unsettled: usize,
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
            connecting: 0,
            open: 0,
            unsettled: count,
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

    /// How many connections can carry requests.
    pub(crate) fn open(&self) -> usize {
        self.open
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

    /// When a seat shall connect: the past if one is ready.
    pub(crate) fn next_at(&self, now: Instant) -> Option<Instant> {
        if !self.ready.is_empty() {
            return Some(now);
        }
        self.waiting.peek().map(|&Reverse((at, _))| at)
    }

    /// `seat` began a handshake on `conn`.
    pub(crate) fn begin(&mut self, seat: usize, conn: ConnId, now: Instant) {
        if self.by_slot.len() <= conn.slot() {
            self.by_slot.resize(conn.slot() + 1, None);
        }
        self.by_slot[conn.slot()] = Some((conn, seat));
        self.seats[seat].state = SeatState::Connecting { since: now, conn };
        self.seats[seat].carried = 0;
        self.seats[seat].early = 0;
        self.connecting += 1;
    }

    /// The handshake of `seat` is complete. Gives back when it began.
    pub(crate) fn opened(&mut self, seat: usize) -> Option<Instant> {
        let SeatState::Connecting { since, conn } = self.seats[seat].state else {
            return None;
        };
        self.settle(seat);
        self.seats[seat].state = SeatState::Open(conn);
        self.seats[seat].was_open = true;
        self.connecting -= 1;
        self.open += 1;
        Some(since)
    }

    /// `seat` lost or gave up its connection and shall connect again.
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
                self.seats[seat].was_open = false;
                self.ready.push_back(seat);
            }
            Again::AfterAWait => self.lost.push(seat),
        }
    }

    /// Decides when the seats vacated since the last call connect again; says whether there were
    /// any.
    pub(crate) fn schedule(&mut self, now: Instant, jitter: &mut Jitter) -> bool {
        let any = !self.lost.is_empty();
        for seat in self.lost.drain(..) {
            let failures = &mut self.seats[seat].failures;
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quiclane::clock;

    use super::*;

    #[test]
    fn a_seat_that_failed_waits_and_one_that_did_well_does_not() {
        let (now, mut jitter) = (clock::now(), Jitter::new(1));
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
        let (now, mut jitter) = (clock::now(), Jitter::new(1));
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
