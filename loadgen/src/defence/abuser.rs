//! abuser is the abuse on one worker: an app that uses connections in ways that nobody means well
//! by.
//!
//! ```text
//! due ──► churn: a handshake ─────────────────────────► complete: closed in the next turn
//!     └─► others: a stream on the next connection that allows one
//!           ├─► rapid-reset: reset and stopped in the next turn
//!           └─► slow-reader, stream-exhaustion: left lying
//! ```
//!
//! In the next turn, and not at once, so that what went before leaves first: for a server a
//! handshake is complete only with the client's last flight, and a request that never left is none.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quiclane::{
    App, CloseReason, Conn, ConnId, ConnectionStats, Dir, Lane, Read, StreamId, VarInt, WorkerInfo,
    clock,
};

use super::Kind;
use super::due::Due;
use super::report::{AbuseReport, ConnectionCounts, StreamCounts, seconds};
use super::seats::Seats;
use super::switch::Switch;
use crate::client::{Codes, Exchange};
use crate::config::LoadConfig;
use crate::farewell::Farewell;
use crate::protocol::Protocol;
use crate::schedule::Rate;

/// What the workers of a test share.
#[derive(Debug)]
pub(super) struct Task {
    /// Who is abused, and how many connections and streams there are.
    pub(super) config: LoadConfig,
    /// What is done.
    pub(super) kind: Kind,
    /// How often a second, by all workers together.
    pub(super) rate: Rate,
    /// When it is over.
    pub(super) switch: Arc<Switch>,
}

/// One worker's part of the abuse.
pub(super) struct Abuser {
    task: Arc<Task>,
    worker: WorkerInfo,
    results: Sender<AbuseReport>,
    /// `None`: it has not begun.
    due: Option<Due>,
    exchange: Option<Exchange>,
    codes: Codes,
    seats: Seats,
    /// Handshakes that are the work, under way.
    handshakes: HashSet<ConnId>,
    /// Handshakes that are complete.
    farewell: Farewell,
    /// Requests that were sent in the last turn.
    to_reset: Vec<(ConnId, StreamId)>,
    report: AbuseReport,
    connections: ConnectionCounts,
    streams: StreamCounts,
    is_over: bool,
}

impl Abuser {
    /// The abuse of one worker, who hands what it counted to `results`.
    pub(super) fn new(task: Arc<Task>, worker: WorkerInfo, results: Sender<AbuseReport>) -> Self {
        let connections = task.config.share(worker.id, worker.workers).connections;
        Self {
            worker,
            results,
            due: None,
            exchange: Exchange::new(&task.config, worker.id),
            codes: Codes::of(&task.config.protocol),
            seats: Seats::new(connections),
            handshakes: HashSet::new(),
            farewell: Farewell::default(),
            to_reset: Vec::new(),
            report: AbuseReport::default(),
            connections: ConnectionCounts::default(),
            streams: StreamCounts::default(),
            is_over: false,
            task,
        }
    }

    /// Whether handshakes are the work.
    fn churns(&self) -> bool {
        self.task.kind == Kind::Churn
    }

    /// Opens the connections that are missing.
    fn connect(&mut self, lane: &mut Lane<'_>, now: Instant) {
        for _ in 0..CONNECTS_PER_TURN {
            let Some(place) = self.seats.vacant(now) else { return };
            match self.begin(lane) {
                Some(id) => self.seats.take(place, id),
                None => self.seats.put_off(place, now),
            }
        }
    }

    /// Begins a handshake, if the host has a socket for it.
    fn begin(&mut self, lane: &mut Lane<'_>) -> Option<ConnId> {
        let target = self.task.config.targets.first()?;
        match lane.connect(target) {
            Ok(id) => {
                self.connections.tried += 1;
                Some(id)
            }
            Err(_) => {
                self.report.not_taken += 1;
                None
            }
        }
    }

    /// Does what is due, as much as fits a turn.
    fn act(&mut self, lane: &mut Lane<'_>, now: Instant) {
        for _ in 0..ACTS_PER_TURN {
            if !self.due.as_ref().is_some_and(|due| due.is_due(now)) {
                return;
            }
            let is_done = match self.task.kind {
                Kind::Churn => self.shake_hands(lane),
                _ => self.open_stream(lane),
            };
            let Some(due) = &mut self.due else { return };
            match is_done {
                true => {
                    due.take(now);
                    self.report.done += 1;
                }
                false => {
                    self.report.held_back += due.take_all(now);
                    return;
                }
            }
        }
    }

    /// One more handshake; false when as many as allowed are under way.
    fn shake_hands(&mut self, lane: &mut Lane<'_>) -> bool {
        if self.handshakes.len() >= self.seats.len() {
            return false;
        }
        let begun = self.begin(lane);
        self.handshakes.extend(begun);
        begun.is_some()
    }

    /// One more stream, on the next connection that allows one; false when none does.
    fn open_stream(&mut self, lane: &mut Lane<'_>) -> bool {
        for _ in 0..self.seats.len() {
            let Some((id, seat)) = self.seats.next() else { return false };
            let Some(mut conn) = lane.conn(id) else { continue };
            if seat.is_full() {
                if self.task.kind == Kind::RapidReset {
                    // Its successor goes on; what was left open on others is what they are for.
                    conn.close(self.codes.done, "done");
                }
                continue;
            }
            let opened = match self.task.kind {
                Kind::StreamExhaustion => {
                    let opened = seat.dirs().into_iter().find_map(|dir| {
                        let stream = conn.open(dir);
                        if stream.is_none() {
                            let control = u64::from(is_http3(&self.task.config) && dir == Dir::Uni);
                            self.streams.note_allowed(dir, seat.streams_of(dir) + control);
                        }
                        stream
                    });
                    if let Some(stream) = opened {
                        seat.leave_open(stream);
                        let _ = conn.write(stream, &mut first_byte(stream.dir()));
                    }
                    opened
                }
                Kind::SlowReader if seat.streams() >= u64::from(self.task.config.streams) => None,
                kind => conn.open(Dir::Bi).inspect(|stream| {
                    if let Some(exchange) = &mut self.exchange {
                        let which = exchange.next();
                        exchange.begin(which).write(&mut conn, *stream);
                    }
                    match kind {
                        Kind::RapidReset => self.to_reset.push((id, *stream)),
                        _ => seat.leave_open(*stream),
                    }
                }),
            };
            if opened.is_some() {
                seat.opened();
                self.streams.opened += 1;
                return true;
            }
        }
        false
    }

    /// Takes back what was done in the last turn, which is on its way by now.
    fn take_back(&mut self, lane: &mut Lane<'_>) {
        self.farewell.say(lane, self.codes.done);
        for (id, stream) in mem::take(&mut self.to_reset) {
            if let Some(mut conn) = lane.conn(id) {
                // Whatever is answered already has nothing left to take back.
                let _ = conn.reset(stream, self.codes.cancelled);
                let _ = conn.stop(stream, self.codes.cancelled);
            }
        }
    }

    /// The server has ended a stream; false if it was none that is left open.
    fn ended(&mut self, id: ConnId, stream: StreamId) -> bool {
        let was_open = self.seats.of(id).is_some_and(|seat| seat.ended(stream));
        self.streams.ended_by_server += u64::from(was_open);
        was_open
    }

    /// The same with all that it had to say.
    fn answered(&mut self, id: ConnId, stream: StreamId) {
        self.streams.answered += u64::from(self.ended(id, stream));
    }

    /// Takes what was left lying, to see where that is all there is: the server is done with a
    /// response that fits in the window.
    fn look_at_responses(&mut self, lane: &mut Lane<'_>) {
        let left: Vec<_> = self.seats.left_open().collect();
        for (id, stream) in left {
            let Some(mut conn) = lane.conn(id) else { continue };
            if matches!(conn.read(stream, usize::MAX, drop), Ok(Read::Finished)) {
                self.answered(id, stream);
            }
        }
    }

    /// Hands over what was counted, and lets the worker stop.
    fn conclude(&mut self, lane: &mut Lane<'_>, end: Instant) {
        self.is_over = true;
        let mut report = mem::take(&mut self.report);
        if let Some(due) = &mut self.due {
            report.due = report.done + report.held_back + due.take_all(end);
            report.duration_s = seconds(end.saturating_duration_since(due.start()));
        }
        if self.task.kind == Kind::SlowReader {
            self.look_at_responses(lane);
        }
        for (id, seat) in self.seats.iter() {
            self.connections.open_at_end += u64::from(seat.is_open());
            self.streams.open_at_end += seat.streams();
            if let Some(conn) = lane.conn(id) {
                report.note_traffic(&conn.stats());
            }
        }
        report.connections = Some(self.connections);
        report.streams = (!self.churns()).then_some(self.streams);
        // The receiver is gone only when nobody wants to know.
        let _ = self.results.send(report);
        lane.finish();
    }
}

impl App for Abuser {
    fn connected(&mut self, conn: &mut Conn<'_>) {
        self.connections.opened += 1;
        if self.churns() {
            self.handshakes.remove(&conn.id());
            return self.farewell.note(conn.id());
        }
        if let Some(seat) = self.seats.of(conn.id()) {
            seat.open();
        }
        if is_http3(&self.task.config)
            && let Some(stream) = conn.open(Dir::Uni)
        {
            let _ = conn.write(stream, &mut Bytes::from_static(CONTROL));
        }
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let is_left_lying = self.task.kind == Kind::SlowReader && stream.dir() == Dir::Bi;
        let bytes_max = if is_left_lying { 1 } else { usize::MAX };
        let read = conn.read(stream, bytes_max, drop);
        match read {
            Ok(Read::Finished) => self.answered(conn.id(), stream),
            Ok(Read::Reset(_)) => {
                self.ended(conn.id(), stream);
            }
            _ => {}
        }
    }

    fn stopped(&mut self, conn: &mut Conn<'_>, stream: StreamId, code: VarInt) {
        //= https://www.rfc-editor.org/rfc/rfc9000#section-3.5
        //# An endpoint that receives a STOP_SENDING frame MUST send a RESET_STREAM frame if the
        //# stream is in the "Ready" or "Send" state.
        let _ = conn.reset(stream, code);
        self.ended(conn.id(), stream);
    }

    fn counted(&mut self, _id: ConnId, stats: &ConnectionStats) {
        if !self.is_over {
            self.report.note_traffic(stats);
        }
    }

    fn closed(&mut self, id: ConnId, reason: &CloseReason) {
        if self.is_over {
            return;
        }
        let seat = self.seats.vacate(id, clock::now());
        let was_open = seat.as_ref().is_some_and(|seat| seat.is_open());
        // A handshake that is the work and complete was closed by us, with its handshake forgotten.
        let was_handshake = self.handshakes.remove(&id) || (seat.is_some() && !was_open);
        if was_handshake {
            match reason {
                CloseReason::PeerTransport { code: REFUSED, .. } => self.connections.refused += 1,
                _ => self.connections.failed += 1,
            }
        }
        self.report.note_end(reason);
    }

    fn turn(&mut self, lane: &mut Lane<'_>) {
        let now = lane.now();
        if self.is_over {
            return;
        }
        let (rate, worker) = (&self.task.rate, &self.worker);
        self.due.get_or_insert_with(|| Due::new(rate, worker.id, worker.workers, now));
        self.take_back(lane);
        if let Some(end) = self.task.switch.over(now) {
            return self.conclude(lane, end);
        }
        if !self.churns() {
            self.connect(lane, now);
        }
        self.act(lane, now);
        let due = self.due.as_ref().and_then(Due::next_at);
        let is_idle = self.farewell.is_said() && self.to_reset.is_empty();
        let next = if is_idle { now + LOOK_EVERY } else { now };
        let soon = [due, self.task.switch.end()].into_iter().flatten().min();
        lane.wake_at(soon.map_or(next, |at| next.min(at)));
    }
}

impl StreamCounts {
    /// So many streams were open when the server allowed no more.
    fn note_allowed(&mut self, dir: Dir, streams: u64) {
        let most = match dir {
            Dir::Bi => &mut self.allowed_bidi,
            Dir::Uni => &mut self.allowed_uni,
        };
        *most = streams.max(*most);
    }
}

fn is_http3(config: &LoadConfig) -> bool {
    matches!(config.protocol, Protocol::Http3(_))
}

/// The beginning of something that never comes: in HTTP/3 of a HEADERS frame, and of a stream type
/// of two bytes.
fn first_byte(dir: Dir) -> Bytes {
    Bytes::from_static(match dir {
        Dir::Bi => &[0x01],
        Dir::Uni => &[0x40],
    })
}

/// An HTTP/3 control stream with empty SETTINGS (RFC 9114 section 6.2.1): a server may wait for it.
const CONTROL: &[u8] = &[0x00, 0x04, 0x00];

/// CONNECTION_REFUSED (RFC 9000 section 20.1).
const REFUSED: u64 = 2;

/// A millisecond of handshakes or so: what comes back has its turn in between.
const CONNECTS_PER_TURN: usize = 32;

/// The same of streams.
const ACTS_PER_TURN: usize = 256;

/// The longest time between two looks at the switch.
const LOOK_EVERY: Duration = Duration::from_millis(10);
