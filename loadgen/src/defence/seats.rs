//! seats are the connections that abuse keeps open, and the streams that it leaves open on them.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use quiclane::{ConnId, Dir, StreamId};

/// As many connections as were asked for, or what will become one.
#[derive(Debug)]
pub(super) struct Seats {
    seats: Vec<Seat>,
    /// Who sits where.
    places: HashMap<ConnId, usize>,
    /// Whose turn it is.
    turn: usize,
}

/// A connection.
#[derive(Debug, Default)]
pub(super) struct Seat {
    id: Option<ConnId>,
    is_open: bool,
    /// When another connection may be tried; `None`: at once.
    not_before: Option<Instant>,
    /// The streams that are left open.
    streams: HashSet<StreamId>,
    /// How many of them are unidirectional.
    uni: u64,
    is_uni_next: bool,
    /// How many streams it has had.
    opened: u64,
}

impl Seats {
    /// Empty ones.
    pub(super) fn new(seats: usize) -> Self {
        let seats = (0..seats).map(|_| Seat::default()).collect();
        Self { seats, places: HashMap::new(), turn: 0 }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.seats.len()
    }

    /// A place for a new connection, if there is one.
    pub(super) fn vacant(&self, now: Instant) -> Option<usize> {
        let is_ready = |seat: &Seat| seat.not_before.is_none_or(|at| at <= now);
        self.seats.iter().position(|seat| seat.id.is_none() && is_ready(seat))
    }

    /// A connection was tried for the place.
    pub(super) fn take(&mut self, place: usize, id: ConnId) {
        self.seats[place] = Seat { id: Some(id), ..Seat::default() };
        self.places.insert(id, place);
    }

    /// No connection could be tried.
    pub(super) fn put_off(&mut self, place: usize, now: Instant) {
        self.seats[place] = Seat { not_before: Some(now + AGAIN_AFTER), ..Seat::default() };
    }

    /// The seat of a connection.
    pub(super) fn of(&mut self, id: ConnId) -> Option<&mut Seat> {
        self.seats.get_mut(*self.places.get(&id)?)
    }

    /// The connection is gone; returns what it was.
    pub(super) fn vacate(&mut self, id: ConnId, now: Instant) -> Option<Seat> {
        let place = self.places.remove(&id)?;
        let fresh = Seat { not_before: Some(now + AGAIN_AFTER), ..Seat::default() };
        Some(std::mem::replace(&mut self.seats[place], fresh))
    }

    /// The next open connection in turn, if there is one.
    pub(super) fn next(&mut self) -> Option<(ConnId, &mut Seat)> {
        let seats = self.seats.len();
        let at =
            (0..seats).map(|step| (self.turn + step) % seats).find(|at| self.seats[*at].is_open)?;
        self.turn = (at + 1) % seats;
        let seat = &mut self.seats[at];
        Some((seat.id?, seat))
    }

    /// The streams that are left open, with their connections.
    pub(super) fn left_open(&self) -> impl Iterator<Item = (ConnId, StreamId)> {
        self.iter().flat_map(|(id, seat)| seat.streams.iter().map(move |stream| (id, *stream)))
    }

    /// All connections, open or not yet.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ConnId, &Seat)> {
        self.seats.iter().filter_map(|seat| Some((seat.id?, seat)))
    }
}

impl Seat {
    /// The handshake is complete.
    pub(super) fn open(&mut self) {
        self.is_open = true;
    }

    /// Whether the handshake is complete.
    pub(super) fn is_open(&self) -> bool {
        self.is_open
    }

    /// A stream was opened.
    pub(super) fn opened(&mut self) {
        self.opened += 1;
    }

    /// Whether it has had as many streams as we keep track of.
    pub(super) fn is_full(&self) -> bool {
        self.opened >= STREAMS_MAX
    }

    /// A stream is left open.
    pub(super) fn leave_open(&mut self, stream: StreamId) {
        if self.streams.insert(stream) && stream.dir() == Dir::Uni {
            self.uni += 1;
        }
    }

    /// The server has ended a stream; false if it was none that is left open.
    pub(super) fn ended(&mut self, stream: StreamId) -> bool {
        let was_open = self.streams.remove(&stream);
        self.uni -= u64::from(was_open && stream.dir() == Dir::Uni);
        was_open
    }

    /// Which direction the next stream has, in turn, and which one if there is none.
    pub(super) fn dirs(&mut self) -> [Dir; 2] {
        self.is_uni_next = !self.is_uni_next;
        match self.is_uni_next {
            true => [Dir::Bi, Dir::Uni],
            false => [Dir::Uni, Dir::Bi],
        }
    }

    /// How many streams are left open.
    pub(super) fn streams(&self) -> u64 {
        self.streams.len() as u64
    }

    /// How many of one direction.
    pub(super) fn streams_of(&self, dir: Dir) -> u64 {
        match dir {
            Dir::Uni => self.uni,
            Dir::Bi => self.streams() - self.uni,
        }
    }
}

/// A server may allow 2^60 streams, and never acknowledge one: each costs us some hundred bytes.
const STREAMS_MAX: u64 = 100_000;

/// A server that closes what abuses it meets the next attempt a little later, as it would from
/// somebody who means it.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use quiclane::VarInt;

    use super::*;

    fn stream(number: u32) -> StreamId {
        StreamId::from(VarInt::from_u32(number))
    }

    #[test]
    fn streams_are_counted_once_and_by_direction() {
        let mut seat = Seat::default();
        // The last two bits are those of direction and side (RFC 9000 section 2.1).
        for number in [0, 0, 4, 2, 6, 6] {
            seat.leave_open(stream(number));
        }
        assert_eq!(
            (seat.streams(), seat.streams_of(Dir::Bi), seat.streams_of(Dir::Uni)),
            (4, 2, 2)
        );
        assert!(seat.ended(stream(6)) && !seat.ended(stream(6)) && !seat.ended(stream(8)));
        assert_eq!((seat.streams_of(Dir::Bi), seat.streams_of(Dir::Uni)), (2, 1));
    }

    #[test]
    fn directions_take_turns() {
        let mut seat = Seat::default();
        let first: Vec<Dir> = (0..4).map(|_| seat.dirs()[0]).collect();
        assert_eq!(first, [Dir::Bi, Dir::Uni, Dir::Bi, Dir::Uni]);
    }

    #[test]
    fn a_seat_has_no_more_streams_than_we_keep_track_of() {
        let mut seat = Seat::default();
        (1..STREAMS_MAX).for_each(|_| seat.opened());
        assert!(!seat.is_full());
        seat.opened();
        assert!(seat.is_full());
    }

    #[test]
    fn who_could_not_be_tried_is_tried_again_later() {
        let (mut seats, now) = (Seats::new(2), quiclane::clock::now());
        assert_eq!(seats.vacant(now), Some(0));
        seats.put_off(0, now);
        assert_eq!(seats.vacant(now), Some(1));
        seats.put_off(1, now);
        assert_eq!((seats.vacant(now), seats.vacant(now + AGAIN_AFTER)), (None, Some(0)));
        assert!(seats.next().is_none() && seats.iter().count() == 0);
    }
}
