//! connect opens connections: as fast as handshakes end, or by a schedule.

use std::time::Instant;

use quiclane::{Lane, Origin};

use super::Client;
use crate::config::Sockets;
use crate::tally::Span;

impl Client {
    /// Starts the handshakes that are due.
    ///
    /// A connection inherits nothing of the one that it replaces: `Lane::connect_from` opens a
    /// socket, and so a path, of its own (unless they are shared), and makes a quinn-proto
    /// connection from a new `ClientConfig`, whose token store is empty (address tokens) and whose
    /// connection IDs are drawn anew. What arrives for the dead one has its `ConnId`, which
    /// `Seats::of` no longer knows. TLS session tickets are kept with the target, and only if
    /// `Resume` asks for it.
    pub(super) fn connect(&mut self, lane: &mut Lane<'_>, now: Instant) {
        if let Some(opening) = &mut self.opening {
            opening.begin(now);
        }
        for _ in 0..CONNECTS_PER_TURN {
            if !self.may_connect() || !self.may_open(now) {
                break;
            }
            let Some(seat) = self.seats.next_ready(now) else { break };
            let due = self.take_opening(now);
            if self.makes_handshakes()
                && let Some(left) = &mut self.left
            {
                *left -= 1;
            }
            self.tally.handshakes.started += 1;
            self.tally.connecting.get_or_insert(Span { from: now, to: now });
            let targets = &self.job.config.targets;
            let target = &targets[(seat * self.job.workers + self.worker) % targets.len()];
            let local = self.local(seat).or(target.local);
            let shared = self.job.config.sockets == Sockets::PerWorker;
            match lane.connect_from(target, &Origin { local, shared }) {
                Ok(id) => {
                    self.seats.begin(seat, id, due, now);
                    if let Some(mut conn) = lane.conn(id)
                        && conn.has_0rtt()
                    {
                        self.begin_session(&mut conn, seat);
                        self.fill(&mut conn, seat);
                    }
                }
                Err(error) => {
                    self.tally.handshakes.failed += 1;
                    let example = || Some(error.to_string());
                    self.tally.handshake_errors.note("connect_error", 1, example);
                    self.seats.vacate(seat, self.again());
                }
            }
        }
        self.settle_openings(now);
    }

    /// Whether one more handshake makes sense now.
    fn may_connect(&self) -> bool {
        if self.phase.is_over() {
            return false;
        }
        if self.left == Some(0) && self.parked == 0 {
            // All requests are under way or done, and so are all handshakes.
            return false;
        }
        if self.makes_handshakes() {
            return self.phase.offers_load();
        }
        self.opening.is_some() || self.seats.connecting() < HANDSHAKES_IN_FLIGHT_MAX
    }

    /// Whether the schedule of handshakes, if there is one, lets one begin.
    fn may_open(&self, now: Instant) -> bool {
        if self.makes_handshakes() {
            return self.is_due(now);
        }
        self.opening.as_ref().is_none_or(|opening| opening.is_due(now))
    }

    /// When the handshake that begins now was due.
    fn take_opening(&mut self, now: Instant) -> Instant {
        if self.makes_handshakes() {
            return self.take_due(now);
        }
        self.opening.as_mut().and_then(|opening| opening.take(now)).map_or(now, |(due, _)| due)
    }

    /// The turn has begun what it could.
    fn settle_openings(&mut self, now: Instant) {
        let is_ready = self.seats.has_ready();
        if let Some(pacer) =
            self.pacer.as_mut().filter(|_| self.job.config.workload.is_handshakes())
        {
            pacer.note_room(now, is_ready);
        }
        if let Some(opening) = self.opening.as_mut().filter(|_| !is_ready) {
            // What nobody wants now is not made up for later: it would come all at once.
            opening.skip_before(now);
        }
    }

    /// When to look at the handshakes again.
    pub(super) fn next_opening(&self, now: Instant) -> Option<Instant> {
        if !self.may_connect() {
            return None;
        }
        let ready = self.seats.next_at(now);
        let due = if self.makes_handshakes() { &self.pacer } else { &self.opening };
        match due {
            None => ready,
            Some(due) => Some(ready?.max(due.next_at()?)),
        }
    }
}

/// Handshakes started in one turn: each costs a key pair and a socket, together up to 0.3 ms,
/// and packets of the others wait meanwhile.
const CONNECTS_PER_TURN: usize = 16;

/// Handshakes a worker has under way while it fills its seats. More would only measure its own
/// queue, and push a server above its half-open limit (256 per worker for quiclane's own).
const HANDSHAKES_IN_FLIGHT_MAX: usize = 128;
