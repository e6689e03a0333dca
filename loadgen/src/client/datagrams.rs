//! datagrams sends unreliable datagrams (RFC 9221) by the schedule and sees which come back.
//!
//! ```text
//! number, 8 bytes big endian │ zeros          client ─► server ─► client, or nothing
//! ```
//! Which ones are awaited is remembered here, so that no server can make up any: what has no
//! number, or one that is not awaited, counts as nothing.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quiclane::{Conn, DatagramError, Lane};

use super::Client;
use super::pace::nanos;
use super::phase::Phase;
use super::seats::SeatState;

/// The datagrams of one worker.
#[derive(Debug)]
pub(super) struct Datagrams {
    bytes: usize,
    /// When those from `first` on were sent; `None`: back.
    awaited: VecDeque<Option<Instant>>,
    first: u64,
    /// Those before it were sent in the warm-up.
    counted_from: u64,
    /// How many are awaited.
    missing: usize,
    /// The seat that is next.
    turn: usize,
}

impl Datagrams {
    /// Datagrams of so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        let (awaited, missing) = (VecDeque::new(), 0);
        Self { bytes, awaited, first: 0, counted_from: 0, missing, turn: 0 }
    }

    /// The next one.
    fn payload(&self) -> Bytes {
        let number = self.first + self.awaited.len() as u64;
        let mut payload = BytesMut::zeroed(self.bytes.max(NUMBER_BYTES));
        payload[..NUMBER_BYTES].copy_from_slice(&number.to_be_bytes());
        payload.freeze()
    }

    /// The next one has left.
    fn sent(&mut self, now: Instant) {
        self.awaited.push_back(Some(now));
        self.missing += 1;
    }

    /// When a datagram that is back was sent, if it was awaited and counts.
    fn back(&mut self, payload: &[u8]) -> Option<Instant> {
        let number = u64::from_be_bytes(*payload.first_chunk()?);
        let place = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let sent = self.awaited.get_mut(place)?.take()?;
        self.missing -= 1;
        (number >= self.counted_from).then_some(sent)
    }

    /// Gives up those that were sent before `end`; says how many of them count.
    fn give_up(&mut self, end: Instant) -> u64 {
        let mut lost = 0;
        while let Some(front) = self.awaited.pop_front_if(|sent| sent.is_none_or(|at| at < end)) {
            if front.is_some() {
                self.missing -= 1;
                lost += u64::from(self.first >= self.counted_from);
            }
            self.first += 1;
        }
        lost
    }
}

impl Client {
    /// From now on datagrams count.
    pub(super) fn count_datagrams(&mut self) {
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.counted_from = datagrams.first + datagrams.awaited.len() as u64;
        }
    }

    /// Whether no more are sent, but some may come back.
    pub(super) fn awaits_datagrams(&self, now: Instant) -> bool {
        let Phase::Measuring { until: Some(until), .. } = self.phase else { return false };
        let is_missing = self.datagrams.as_ref().is_some_and(|datagrams| datagrams.missing > 0);
        is_missing && until <= now && now < until + PATIENCE
    }

    /// Sends the datagrams that are due, on the open connections in turn.
    pub(super) fn send_datagrams(&mut self, lane: &mut Lane<'_>, now: Instant) {
        let Some(datagrams) = &mut self.datagrams else { return };
        if let Some(early) = now.checked_sub(PATIENCE) {
            self.tally.datagrams.lost += datagrams.give_up(early);
        }
        let has_room = self.phase.offers_load() && self.seats.open() > 0;
        if let Some(pacer) = &mut self.pacer {
            pacer.note_room(now, has_room);
        }
        if let Phase::Measuring { until: Some(until), .. } = self.phase
            && until <= now
        {
            return;
        }
        for _ in 0..SENDS_PER_TURN {
            if !has_room || !self.is_due(now) {
                return;
            }
            let Some(id) = self.next_open() else { return };
            let Some(mut conn) = lane.conn(id) else { return };
            self.take_due(now);
            self.send_datagram(&mut conn, now);
        }
    }

    /// The connection whose turn it is.
    fn next_open(&mut self) -> Option<quiclane::ConnId> {
        let datagrams = self.datagrams.as_mut()?;
        for _ in 0..self.seats.len() {
            let seat = datagrams.turn;
            datagrams.turn = if seat + 1 < self.seats.len() { seat + 1 } else { 0 };
            if let SeatState::Open(id) = self.seats.seat_mut(seat).state {
                return Some(id);
            }
        }
        None
    }

    fn send_datagram(&mut self, conn: &mut Conn<'_>, now: Instant) {
        let Some(datagrams) = &mut self.datagrams else { return };
        let payload = datagrams.payload();
        let bytes = payload.len() as u64;
        let class = match conn.send_datagram(payload) {
            Ok(()) => {
                datagrams.sent(now);
                self.tally.datagrams.sent += 1;
                self.tally.bytes_up += bytes;
                return;
            }
            Err(DatagramError::Blocked(_)) => {
                self.tally.datagrams.dropped += 1;
                return;
            }
            Err(DatagramError::TooLarge) => "datagram_too_large",
            Err(_) => "datagrams_unsupported",
        };
        let most = conn.datagram_bytes_max().map(|most| format!("at most {most} bytes fit"));
        self.tally.upkeep.errors.note(class, 1, || most);
    }

    /// Takes the datagrams that came back.
    pub(super) fn take_datagrams(&mut self, conn: &mut Conn<'_>) {
        let now = conn.now();
        self.keep_series(now);
        while let Some(payload) = conn.recv_datagram() {
            let Some(datagrams) = &mut self.datagrams else { continue };
            if let Some(sent) = datagrams.back(&payload) {
                self.tally.datagrams.received += 1;
                self.tally.bytes_down += payload.len() as u64;
                let delay = nanos(now.saturating_duration_since(sent));
                self.tally.latency.saturating_record(delay);
                self.tally.service.saturating_record(delay);
                self.series.record(delay, Some(delay));
            }
        }
    }

    /// Those that are not back now never will be.
    pub(super) fn count_lost_datagrams(&mut self, now: Instant) {
        if let Some(datagrams) = &mut self.datagrams {
            self.tally.datagrams.lost += datagrams.give_up(now + PATIENCE);
        }
    }
}

/// What says which datagram it is.
const NUMBER_BYTES: usize = 8;

/// Who is not back by then is lost: whatever datagrams are used for, it is too late.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Datagrams sent in one turn: what comes back waits meanwhile.
const SENDS_PER_TURN: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_awaited_comes_back_once_or_is_lost() {
        let start = quiclane::clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut datagrams = Datagrams::new(20);
        let payloads: Vec<Bytes> = (0..5)
            .map(|ms| {
                let payload = datagrams.payload();
                datagrams.sent(at(ms));
                payload
            })
            .collect();
        assert!(payloads.iter().all(|payload| payload.len() == 20));
        assert_eq!(datagrams.back(&payloads[3]), Some(at(3)));
        assert_eq!(datagrams.back(&payloads[3]), None, "twice");
        assert_eq!(datagrams.back(&[0; 7]), None, "too short");
        assert_eq!(datagrams.back(&[0xff; 20]), None, "never sent");
        assert_eq!(datagrams.give_up(at(2)), 2);
        assert_eq!(datagrams.back(&payloads[1]), None, "too late");
        assert_eq!(datagrams.back(&payloads[2]), Some(at(2)));
        assert_eq!((datagrams.missing, datagrams.give_up(at(100))), (1, 1));
        assert_eq!((datagrams.missing, datagrams.first, datagrams.awaited.len()), (0, 5, 0));
    }

    #[test]
    fn the_warm_up_does_not_count() {
        let start = quiclane::clock::now();
        let mut datagrams = Datagrams::new(0);
        let early = datagrams.payload();
        datagrams.sent(start);
        datagrams.sent(start);
        datagrams.counted_from = 2;
        datagrams.sent(start);
        assert_eq!(datagrams.back(&early), None);
        assert_eq!(datagrams.give_up(start + PATIENCE), 1);
    }
}
