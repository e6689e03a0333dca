//! client is the load generator on one worker: an app that keeps its connections busy.
//!
//! ```text
//! Connecting ─► Waiting (for the other workers) ─► Warming ─► Measuring ─► Over
//! ```
//!
//! The clock is read once per turn: a request that is started and one whose response arrives get
//! the time at which the worker woke up. A measured latency is thus never shorter than what the
//! network saw, and includes the time the worker itself took to get round to the request.

mod absence;
mod connect;
mod datagrams;
mod exchange;
mod flight;
mod intervals;
mod pace;
mod phase;
mod requests;
mod seats;
mod session;
mod upkeep;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use quiclane::{
    App, CloseReason, Conn, ConnId, ConnectionStats, Dir, Lane, StreamId, VarInt, clock,
};

use crate::config::{LoadConfig, Pace, Workload};
use crate::farewell::Farewell;
use crate::feed::Part;
use crate::gate::Gate;
use crate::live::Live;
use crate::partition::Partition;
use crate::random::Random;
use crate::schedule::Schedule;
use crate::series::Series;
use crate::tally::Tally;
use datagrams::Datagrams;
use exchange::loss_class;
pub(crate) use exchange::{Codes, Exchange, round};
use pace::{Pacer, nanos};
use phase::Phase;
use requests::{RequestId, Requests};
use seats::{Again, Opened, SeatState, Seats};
use upkeep::Rota;

/// What the workers of a run share.
#[derive(Debug)]
pub(crate) struct Job {
    /// What to do; checked.
    pub(crate) config: LoadConfig,
    /// By how many workers.
    pub(crate) workers: usize,
    /// Start and stop.
    pub(crate) gate: Gate,
    /// One for each worker.
    pub(crate) lives: Vec<Live>,
    /// Who wants to know intervals as they end, if somebody does.
    pub(crate) feed: Option<Sender<Part>>,
    /// The monotonic and the wall clock when the run was made, for the time of day of its numbers.
    pub(crate) made: (Instant, Duration),
    /// For the waits between attempts, and random arrivals.
    pub(crate) seed: u64,
}

impl Job {
    /// What `config` says, for so many workers.
    pub(crate) fn new(config: LoadConfig, workers: usize, seed: u64) -> Self {
        let lives = (0..workers).map(|_| Live::default()).collect();
        let made = (clock::now(), clock::unix_time());
        let not_before = config.start_at.map(|at| made.0 + at.saturating_sub(made.1));
        let gate = Gate::new(workers, not_before);
        Self { config, workers, gate, lives, feed: None, made, seed }
    }

    /// The time of day of an instant, in milliseconds since 1970.
    pub(crate) fn unix_ms(&self, at: Instant) -> u64 {
        let (instant, unix) = self.made;
        let unix = match at.checked_duration_since(instant) {
            Some(later) => unix + later,
            None => unix.saturating_sub(instant - at),
        };
        u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
    }

    /// When the work of `worker`, which has so many `connections`, is due.
    fn pacer(&self, worker: usize, connections: usize) -> Option<Pacer> {
        let (lane, lanes) = Partition::lane(self.config.partition, worker, self.workers);
        if let Some(replay) = &self.config.replay {
            let schedule = Schedule::replay(replay, lane, lanes);
            return Some(Pacer::new(schedule, connections));
        }
        let Pace { rate, arrivals } = self.config.work_pace().cloned()?;
        let rate = rate.after(self.config.warm_up);
        let schedule = Schedule::new(rate, arrivals, lane, lanes, self.seed);
        Some(Pacer::new(schedule, connections))
    }

    /// Which of the `connections` of `worker` has its turn when, once in `period`.
    fn rota(&self, period: Option<Duration>, worker: usize, connections: usize) -> Option<Rota> {
        let all = self.config.connections;
        Some(Rota::new(period?, connections, all, worker, self.workers))
    }

    /// The datagrams of a worker, where those are the work.
    fn datagrams(&self) -> Option<Datagrams> {
        let bytes = self.config.workload.datagram_size()?;
        Some(Datagrams::new(usize::try_from(bytes).unwrap_or(usize::MAX)))
    }

    /// When `worker` may open connections, where those are not the work.
    fn opening(&self, worker: usize) -> Option<Pacer> {
        let is_work = self.config.workload.is_handshakes();
        let Pace { rate, arrivals } = self.config.connect_pace.clone().filter(|_| !is_work)?;
        let (lane, lanes) = Partition::lane(self.config.partition, worker, self.workers);
        let schedule = Schedule::new(rate, arrivals, lane, lanes, !self.seed);
        Some(Pacer::new(schedule, 0))
    }
}

/// One worker's part of a run.
#[derive(Debug)]
pub(crate) struct Client {
    job: Arc<Job>,
    worker: usize,
    results: Sender<Tally>,
    /// `None`: handshakes are the workload, or connections that are only held.
    exchange: Option<Exchange>,
    codes: Codes,
    /// Requests, or handshakes, still to be started; `None`: no limit.
    left: Option<u64>,
    /// As many as this worker was given.
    quota: Option<u64>,
    /// When requests, or handshakes, are due; `None`: when others have ended.
    pacer: Option<Pacer>,
    /// When connections may be opened that are not the work; `None`: at any time.
    opening: Option<Pacer>,
    /// Where those are the work.
    datagrams: Option<Datagrams>,
    /// Whose turn it is to move to another socket; `None`: nobody's.
    migrations: Option<Rota>,
    /// Whose turn it is to take new keys; `None`: nobody's.
    key_updates: Option<Rota>,
    phase: Phase,
    seats: Seats,
    /// Handshakes that are complete, where those are the work.
    farewell: Farewell,
    requests: Requests,
    /// Open seats that may start requests, to be looked at in one of the next turns.
    to_fill: VecDeque<usize>,
    /// Requests that can write more, each at most once.
    to_write: VecDeque<RequestId>,
    /// Requests in flight that wait for a new connection.
    parked: u64,
    /// When, for the first time since the last answer, nothing was in flight though something was
    /// left to do. What was started since then, and failed, is no answer.
    dark_since: Option<Instant>,
    random: Random,
    tally: Tally,
    /// What `tally` counts, interval by interval.
    series: Series,
}

impl Client {
    /// The client of `worker`; it hands its tally to `results` when it is done.
    pub(crate) fn new(job: Arc<Job>, worker: usize, results: Sender<Tally>) -> Self {
        let share = job.config.share(worker, job.workers);
        Self {
            worker,
            results,
            exchange: Exchange::new(&job.config, worker),
            codes: Codes::of(&job.config.protocol),
            left: share.quota,
            quota: share.quota,
            pacer: job.pacer(worker, share.connections),
            opening: job.opening(worker),
            datagrams: job.datagrams(),
            migrations: job.rota(job.config.migrate_every, worker, share.connections),
            key_updates: job.rota(job.config.key_period(), worker, share.connections),
            phase: Phase::Connecting,
            seats: Seats::new(share.connections),
            farewell: Farewell::default(),
            requests: Requests::new(),
            to_fill: VecDeque::new(),
            to_write: VecDeque::new(),
            parked: 0,
            dark_since: None,
            random: Random::new(job.seed.wrapping_add(worker as u64)),
            tally: Tally::new(),
            series: Series::new(job.config.interval, job.config.is_open_loop()),
            job,
        }
    }

    /// The request in flight on `stream`, with its seat.
    fn find(&mut self, conn: &Conn<'_>, stream: StreamId) -> Option<(usize, RequestId)> {
        let seat = self.seats.of(conn.id())?;
        Some((seat, *self.seats.seat_mut(seat).streams.get(&stream)?))
    }

    /// Whether connections are the work itself, made one after another.
    fn makes_handshakes(&self) -> bool {
        self.job.config.workload.is_handshakes()
    }

    /// Whether a connection that ended, or never began, has a successor.
    fn again(&self) -> Again {
        let config = &self.job.config;
        match config.workload {
            Workload::Idle if !config.reconnect => Again::Never,
            // The schedule goes on whatever a server does, and keeps from hammering it.
            Workload::Handshakes if self.pacer.is_some() => Again::AtOnce,
            _ => Again::AfterAWait,
        }
    }

    /// Notes how long a handshake took that was due at `due` and began at `since`.
    fn note_handshake(&mut self, now: Instant, due: Instant, since: Instant) {
        let latency = nanos(now.saturating_duration_since(due));
        self.tally.latency.saturating_record(latency);
        let is_open = self.pacer.is_some();
        let service = is_open.then(|| nanos(now.saturating_duration_since(since)));
        if let Some(service) = service {
            self.tally.service.saturating_record(service);
        }
        self.series.record(latency, service);
    }

    /// Adds up what a connection counted.
    fn account(&mut self, stats: &ConnectionStats) {
        // Without an acknowledgement there is no round trip, but a guess.
        if self.tally.quic.note(stats) && stats.frame_rx.acks > 0 {
            self.tally.rtt.saturating_record(nanos(stats.path.rtt));
        }
    }

    /// A connection is gone, and with it every request it carried.
    fn lose(&mut self, seat: usize, class: &'static str, why: impl Fn() -> Option<String>) {
        let example = &why;
        let was_open = matches!(self.seats.seat_mut(seat).state, SeatState::Open(_));
        let carried = &mut self.seats.seat_mut(seat).streams;
        let failed = carried.len() as u64;
        if !was_open {
            self.tally.handshakes.failed += 1;
            self.tally.handshake_errors.note(class, 1, example);
        } else if failed == 0 {
            self.tally.idle_losses.note(class, 1, example);
        }
        if failed == 0 {
            return;
        }
        self.tally.request_errors.note(class, failed, example);
        self.tally.requests.failed += failed;
        for (_, id) in carried.drain() {
            self.requests.remove(id);
        }
    }
}

impl App for Client {
    fn connected(&mut self, conn: &mut Conn<'_>) {
        let Some(seat) = self.seats.of(conn.id()) else {
            return;
        };
        let now = conn.now();
        self.keep_series(now);
        let Some(Opened { due, since, lost_at }) = self.seats.opened(seat, now) else {
            return;
        };
        self.job.gate.note_connected();
        self.tally.handshakes.ok += 1;
        self.tally.handshake_times.saturating_record(nanos(now.saturating_duration_since(since)));
        if !self.makes_handshakes()
            && let Some(lost_at) = lost_at
        {
            self.tally.reconnects += 1;
            let outage = now.saturating_duration_since(lost_at);
            self.tally.outages.saturating_record(nanos(outage));
        }
        if self.exchange.is_some() {
            self.settle_early_data(conn, seat);
            self.begin_session(conn, seat);
            return self.fill(conn, seat);
        }
        if self.datagrams.is_some() {
            return;
        }
        self.note_handshake(now, due, since);
        if !self.makes_handshakes() {
            return self.begin_session(conn, seat);
        }
        self.dark_since = None;
        self.seats.seat_mut(seat).failures = 0;
        self.seats.vacate(seat, Again::AtOnce);
        self.farewell.note(conn.id());
    }

    fn opened(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        self.opened_by_server(conn, stream);
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        self.keep_series(conn.now());
        if let Some((seat, id)) = self.find(conn, stream) {
            self.read(conn, id);
            self.fill(conn, seat);
        } else if stream.dir() == Dir::Uni {
            self.listen(conn, stream);
        }
    }

    fn writable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        if let Some((_, id)) = self.find(conn, stream) {
            self.write_later(id);
        } else if stream.dir() == Dir::Uni {
            self.control(conn);
        }
    }

    fn finished(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        self.keep_series(conn.now());
        let Some((seat, id)) = self.find(conn, stream) else {
            return;
        };
        if self.requests.get_mut(id).is_some_and(|request| request.answered) {
            self.complete(conn.now(), id);
            self.fill(conn, seat);
        }
    }

    fn stopped(&mut self, conn: &mut Conn<'_>, stream: StreamId, code: VarInt) {
        self.keep_series(conn.now());
        let Some((seat, id)) = self.find(conn, stream) else {
            return self.control_stopped(conn, stream);
        };
        // Once all was written, it is the response that counts.
        if self.requests.get_mut(id).is_some_and(|request| !request.outgoing.is_done()) {
            self.refused(conn, id, Some(code));
            self.fill(conn, seat);
        }
    }

    fn available(&mut self, conn: &mut Conn<'_>, dir: Dir) {
        match (dir, self.seats.of(conn.id())) {
            (Dir::Uni, _) => self.control(conn),
            (Dir::Bi, Some(seat)) => self.fill(conn, seat),
            (Dir::Bi, None) => {}
        }
    }

    fn datagrams_received(&mut self, conn: &mut Conn<'_>) {
        self.take_datagrams(conn);
    }

    fn counted(&mut self, _id: ConnId, stats: &ConnectionStats) {
        if !self.phase.is_over() {
            self.account(stats);
        }
    }

    fn closed(&mut self, id: ConnId, reason: &CloseReason) {
        // After the end everything is closed by ourselves; and a connection without a seat has
        // done its work.
        let Some(seat) = self.seats.of(id).filter(|_| !self.phase.is_over()) else {
            return;
        };
        if *reason == CloseReason::StatelessReset {
            self.tally.stateless_resets += 1;
        }
        let class = loss_class(&self.job.config.protocol, reason);
        self.lose(seat, class, || Some(reason.to_string()));
        self.seats.vacate(seat, self.again());
    }

    fn turn(&mut self, lane: &mut Lane<'_>) {
        self.go_on(lane);
    }

    fn draining(&mut self, lane: &mut Lane<'_>, _deadline: Instant) {
        self.conclude(lane, self.ending_when_stopped());
    }
}
