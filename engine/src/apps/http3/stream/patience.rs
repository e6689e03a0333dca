//! patience has an end: a client that owes bytes of a request, or takes nothing of a response, is
//! not waited for without end.
//!
//! ```text
//!   head       owed from the first visit until it is complete
//!   content    owed while the exchange asks for it in vain, or while it is thrown away; from the
//!              last byte on
//!   response   to be taken while QUIC accepts none of it; from the last byte on
//! ```
//!
//! A stream that waits for others of its connection gets another period: while the connection
//! moves [`MOVED_BYTES_PER_S`], in whichever direction; and, if it owes, while an exchange leaves
//! content unread, because that may fill the connection's receive window. A response gets
//! [`EXCUSES_MAX`] of them: what takes nothing for longer is kept from moving by its client.
//!
//! A request that comes at once and a response that is accepted at once owe nothing when their
//! visit ends, so they set no alarm.

use std::time::{Duration, Instant};

use quiclane_http3::{Code, Violation};

use super::{Receiving, Sending, Stream, Visit};
use crate::app::Conn;

/// How the streams of a connection get on together.
#[derive(Debug, Default)]
pub(in super::super) struct Flow {
    /// Content of requests that was read, in bytes.
    pub(super) content_bytes: u64,
    /// Exchanges that leave content unread that has come.
    holding: u32,
    /// When the last of them ceased to.
    held_until: Option<Instant>,
}

impl Flow {
    /// Bytes that the connection has moved for its client. Asked for only when a client owes.
    ///
    /// Of responses it is what was sent: QUIC accepts as much at once as the client gave credit
    /// for, which on a slow path takes minutes to arrive.
    fn moved(&self, conn: &Conn<'_>) -> u64 {
        let stats = conn.stats();
        let others = stats.udp_tx.datagrams.saturating_mul(SMALL_DATAGRAM_BYTES)
            + stats.path.sent_plpmtud_probes.saturating_mul(PROBE_BYTES);
        self.content_bytes + stats.udp_tx.bytes.saturating_sub(others)
    }
}

/// What a stream's client is waited for.
#[derive(Debug, Default)]
pub(super) struct Patience {
    debt: Option<Debt>,
    /// What the connection had moved when the client began to owe, or was excused last.
    moved: Option<u64>,
    /// How many more periods it has got since then.
    excuses: u32,
    /// Whether the exchange leaves content unread that has come, by its own choice.
    pub(super) holds: bool,
    /// Whether the connection knows of that.
    is_known: bool,
}

/// What there is nothing to do before, and since when.
#[derive(Clone, Copy, Debug)]
enum Debt {
    /// The client sends more.
    Request(Instant),
    /// The client takes more.
    Response(Instant),
}

impl Patience {
    /// The client did what it had to.
    pub(super) fn paid(&mut self) {
        self.debt = None;
        self.excuses = 0;
    }

    /// The client has to send more.
    pub(super) fn owes(&mut self, now: Instant) {
        if !matches!(self.debt, Some(Debt::Request(_))) {
            self.debt = Some(Debt::Request(now));
        }
    }

    /// The client has to take more.
    pub(super) fn blocked(&mut self, now: Instant) {
        if !matches!(self.debt, Some(Debt::Response(_))) {
            self.debt = Some(Debt::Response(now));
            self.excuses = 0;
        }
    }

    /// Tells the connection whether the exchange leaves content unread.
    fn tell(&mut self, flow: &mut Flow, now: Instant) {
        match (self.holds, self.is_known) {
            (true, false) => flow.holding += 1,
            (false, true) => {
                flow.holding = flow.holding.saturating_sub(1);
                flow.held_until = Some(now);
            }
            _ => return,
        }
        self.is_known = self.holds;
    }
}

impl Stream {
    /// Gives up a stream whose client is waited for too long, or sees to it that this is noticed.
    pub(super) fn keep_time(&mut self, at: &mut Visit<'_, '_>) -> Result<(), Violation> {
        let now = at.conn.now();
        self.patience.tell(at.flow, now);
        let period = at.shared.request_timeout;
        if let Some(since) = self.owes_since(at)
            && let Some(mut due) = since.checked_add(period)
        {
            if now >= due && self.is_excused(at) {
                let debt = self.patience.debt.take();
                self.patience.debt = debt.map(|debt| debt.anew(now));
                self.patience.moved = None;
                self.patience.excuses += 1;
                due = now.checked_add(period).unwrap_or(due);
            }
            if now >= due {
                self.give_up(at)?;
            } else {
                self.patience.moved.get_or_insert_with(|| at.flow.moved(at.conn));
                if self.alarm.is_none_or(|alarm| alarm > due) {
                    at.shared.alarms.set(&mut self.alarm, due, at.conn.id(), at.stream);
                }
            }
        }
        if self.is_over() {
            at.shared.alarms.clear(&mut self.alarm, at.conn.id(), at.stream);
        }
        Ok(())
    }

    /// Since when the client could have gone on and did not.
    fn owes_since(&self, at: &Visit<'_, '_>) -> Option<Instant> {
        match self.patience.debt? {
            Debt::Request(_) if self.receiving == Receiving::Over => None,
            Debt::Request(since) => Some(at.flow.held_until.map_or(since, |held| held.max(since))),
            Debt::Response(_) if matches!(self.sending, Sending::Over) => None,
            Debt::Response(since) => Some(since),
        }
    }

    /// Whether the client may have had no way to go on with this stream.
    fn is_excused(&self, at: &Visit<'_, '_>) -> bool {
        let is_request = matches!(self.patience.debt, Some(Debt::Request(_)));
        if !is_request && self.patience.excuses >= EXCUSES_MAX {
            return false;
        }
        // Credit for a response has its way whatever the receive window is.
        let is_held = at.flow.holding > 0 && is_request;
        let moved = at.flow.moved(at.conn);
        let before = self.patience.moved.unwrap_or(moved);
        is_held || moved.saturating_sub(before) >= moved_bytes_min(at.shared.request_timeout)
    }

    /// The client did not go on.
    fn give_up(&mut self, at: &mut Visit<'_, '_>) -> Result<(), Violation> {
        let counters = &at.shared.counters;
        let code = match self.patience.debt {
            //= https://www.rfc-editor.org/rfc/rfc9114#section-4.1.1
            //# When a server abandons a response after partial processing, it SHOULD
            //# abort its response stream with the error code H3_REQUEST_CANCELLED.
            Some(Debt::Response(_)) => {
                counters.stalled_responses.add(1);
                Code::RequestCancelled
            }
            //= https://www.rfc-editor.org/rfc/rfc9114#section-4.1
            //# If a client-initiated stream terminates without enough of the HTTP
            //# message to provide a complete response, the server SHOULD abort its
            //# response stream with the error code H3_REQUEST_INCOMPLETE.
            _ => {
                counters.stalled.add(1);
                Code::RequestIncomplete
            }
        };
        if matches!(self.sending, Sending::Over) {
            self.stop_reading(Code::NoError, at);
            return Ok(());
        }
        let outcome = at.core.stalled(at.stream.into());
        self.abandon(code, at);
        self.patience.tell(at.flow, at.conn.now());
        outcome
    }
}

impl Debt {
    fn anew(self, now: Instant) -> Self {
        match self {
            Self::Request(_) => Self::Request(now),
            Self::Response(_) => Self::Response(now),
        }
    }
}

/// What a connection has to move in this time so that none of its streams is given up.
fn moved_bytes_min(period: Duration) -> u64 {
    let millis = u64::try_from(period.as_millis()).unwrap_or(u64::MAX);
    (millis.saturating_mul(MOVED_BYTES_PER_S) / 1_000).max(1)
}

/// What a connection moves at least, on average, whose streams wait for each other. More gives up
/// what slow paths still bring to its end; less lets a client hold a hundred streams for less.
const MOVED_BYTES_PER_S: u64 = 1_024;

/// How often a response waits for others: ten minutes if a request may take one. Those of a
/// connection share what it can send, so that each takes a little in far less.
const EXCUSES_MAX: u32 = 10;

/// A datagram that carries nothing but acknowledgements is no longer.
const SMALL_DATAGRAM_BYTES: u64 = 80;

/// A packet that looks for the path's MTU, as long as Ethernet takes.
const PROBE_BYTES: u64 = 1_500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kibibyte_a_second_has_to_move() {
        let of = |millis| moved_bytes_min(Duration::from_millis(millis));
        assert_eq!([of(60_000), of(1_500), of(0)], [61_440, 1_536, 1]);
        assert_eq!(moved_bytes_min(Duration::MAX), u64::MAX / 1_000);
    }
}
