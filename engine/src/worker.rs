//! worker is one core's loop; [`Worker::turn`] is the one place that sees every step of a packet.
//!
//! ```text
//! datapath ─► copy, route ─┬─ Live, Initial, OtherLong ─► endpoint ─► app ─► endpoint ─► datapath
//!      siblings' tosses ───┘  Orphan ─► reset    Sibling ─► toss    Draining, Junk ─► counter
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quiclane_datapath::{Datapath, Meta, SocketId, Train, WaitError};

use crate::app::{App, Lane, VarInt};
use crate::clock::Clock;
use crate::endpoint::{Endpoint, LINGER, Sent};
use crate::metrics::WorkerCounters;
use crate::pool::Pool;
use crate::route::{Route, Router};
use crate::toss::{Mailboxes, Tossed};

/// A worker: generic over how datagrams travel and over the protocol.
pub(crate) struct Worker<D, A> {
    datapath: D,
    app: A,
    clock: Clock,
    endpoint: Endpoint,
    intake: Intake,
    control: Control,
    phase: Phase,
    /// When the app wants its next turn.
    app_wake: Option<Instant>,
    busy: bool,
}

/// How datagrams come in and are told apart.
pub(crate) struct Intake {
    id: u8,
    router: Router,
    pool: Pool,
    mailboxes: Mailboxes,
    /// Sockets of the listen addresses, in their order.
    listeners: Vec<SocketId>,
    /// Datagrams of this turn that are ours.
    inbox: Vec<Arrival>,
    /// Siblings that got something in this turn.
    tossed_to: [u64; 4],
    counters: Arc<WorkerCounters>,
}

struct Arrival {
    bytes: BytesMut,
    meta: Meta,
    route: Route,
}

/// What reaches a worker from outside.
#[derive(Clone, Debug, Default)]
pub(crate) struct Control(Arc<ControlInner>);

#[derive(Debug, Default)]
struct ControlInner {
    stop: AtomicBool,
    drain: std::sync::Mutex<Duration>,
}

impl Control {
    /// Asks every worker that holds a clone to stop within `drain`. Asking again shortens it.
    pub(crate) fn stop(&self, drain: Duration) {
        if let Ok(mut current) = self.0.drain.lock() {
            let asked = self.0.stop.load(Ordering::Acquire);
            let drain = drain.min(DRAIN_MAX);
            *current = if asked { drain.min(*current) } else { drain };
        }
        self.0.stop.store(true, Ordering::Release);
    }

    fn stopping(&self) -> Option<Duration> {
        let drain = || self.0.drain.lock().map_or(Duration::ZERO, |drain| *drain);
        self.0.stop.load(Ordering::Acquire).then(drain)
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Running,
    /// Nothing new is accepted; open connections may finish.
    Draining {
        since: Instant,
    },
    /// Everything was closed; the last packets leave.
    Closing {
        until: Instant,
    },
    Stopped,
}

impl<D: Datapath, A: App> Worker<D, A> {
    pub(crate) fn new(
        datapath: D,
        app: A,
        clock: Clock,
        endpoint: Endpoint,
        intake: Intake,
        control: Control,
    ) -> Self {
        intake.mailboxes.register(intake.id, datapath.waker());
        let (phase, app_wake, busy) = (Phase::Running, None, true);
        Self { datapath, app, clock, endpoint, intake, control, phase, app_wake, busy }
    }

    /// One round of everything; false once the worker has stopped.
    ///
    /// # Errors
    /// When the datapath cannot go on.
    pub(crate) fn turn(&mut self) -> Result<bool, WaitError> {
        let timeout = self.timeout(); // nothing is done in reaction to one packet
        self.datapath.wait(timeout)?; //  that can be done once per turn
        let now = self.clock.now();
        self.busy = self.intake.receive(&mut self.datapath);
        self.busy |= self.intake.take_tossed();
        // Looked at once the packets are here: who comes because a sibling said that the server
        // goes away must not be taken in by a worker that has not heard of it yet.
        if self.control.stopping().is_some() {
            self.endpoint.stop_accepting();
        }
        for arrival in self.intake.inbox.drain(..) {
            let Arrival { bytes, meta, route } = arrival;
            if let Route::Orphan { epoch, worker } = route {
                self.endpoint.orphan(now, &meta, &bytes, epoch, worker, &mut self.datapath);
            } else {
                let ours = route == Route::Live;
                self.endpoint.datagram(now, &meta, ours, bytes, &mut self.datapath);
            }
        }
        self.intake.wake_siblings();
        while let Some(socket) = self.datapath.refused() {
            self.endpoint.refused(now, socket);
        }
        self.busy |= self.endpoint.expire(now);
        self.endpoint.close_left(now, &mut self.datapath);
        self.endpoint.serve(now, &mut self.app, &mut self.datapath);
        self.app_turn(now);
        // What the app's turn touched; if that brings it more to do, it has another turn at once.
        self.busy |= self.endpoint.serve(now, &mut self.app, &mut self.datapath);
        self.busy |= self.endpoint.transmit(now, &mut self.datapath) == Sent::More;
        self.busy |= self.endpoint.has_ready();
        self.intake.counters.turns.add(1);
        self.advance(now);
        Ok(self.phase != Phase::Stopped)
    }

    /// How long the next wait may last.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        if self.busy || !self.intake.mailboxes.is_empty(self.intake.id) {
            return Some(Duration::ZERO);
        }
        let phase = match self.phase {
            Phase::Draining { since } => Some(since + self.control.stopping().unwrap_or_default()),
            Phase::Closing { until } => Some(until),
            Phase::Running | Phase::Stopped => None,
        };
        let deadlines = [self.endpoint.next_deadline(), self.app_wake, phase];
        let next = deadlines.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(self.clock.now()))
    }

    fn app_stops(&mut self, now: Instant) {
        let (endpoint, datapath) = (&mut self.endpoint, &mut self.datapath);
        let worker = self.intake.id;
        self.app.stopping(&mut Lane {
            endpoint,
            datapath,
            now,
            worker,
            wake_at: None,
            finished: false,
        });
    }

    fn app_turn(&mut self, now: Instant) {
        let mut lane = Lane {
            endpoint: &mut self.endpoint,
            datapath: &mut self.datapath,
            now,
            worker: self.intake.id,
            wake_at: None,
            finished: false,
        };
        if self.phase == Phase::Running
            && let Some(drain) = self.control.stopping()
        {
            self.phase = Phase::Draining { since: now };
            self.app.draining(&mut lane, now + drain);
        }
        self.app.turn(&mut lane);
        self.app_wake = lane.wake_at;
        if lane.finished && self.phase == Phase::Running {
            self.phase = Phase::Draining { since: now };
            self.control_finished(now);
        }
    }

    /// The app has nothing left to do: what is still open is closed at once.
    fn control_finished(&mut self, now: Instant) {
        self.endpoint.stop_accepting();
        self.endpoint.close_all(now, VarInt::from_u32(0), "finished");
        self.phase = Phase::Closing { until: now + LINGER };
        self.busy = true;
    }

    /// Moves a stopping worker on.
    fn advance(&mut self, now: Instant) {
        match self.phase {
            Phase::Running | Phase::Stopped => {}
            Phase::Draining { since } => {
                let deadline = since + self.control.stopping().unwrap_or_default();
                if self.endpoint.active() == 0 || now >= deadline {
                    self.app_stops(now);
                    self.endpoint.close_all(now, VarInt::from_u32(0), "server stopping");
                    self.phase = Phase::Closing { until: now + LINGER };
                    self.busy = true;
                }
            }
            Phase::Closing { until } => {
                // Closes go out with the next transmit; connections then only linger.
                if now >= until || !self.endpoint.has_peers() {
                    self.datapath.flush();
                    self.phase = Phase::Stopped;
                }
            }
        }
    }
}

impl Intake {
    pub(crate) fn new(
        id: u8,
        router: Router,
        mailboxes: Mailboxes,
        listeners: Vec<SocketId>,
        counters: Arc<WorkerCounters>,
    ) -> Self {
        Self {
            id,
            router,
            pool: Pool::new(),
            mailboxes,
            listeners,
            inbox: Vec::with_capacity(TRAINS_PER_TURN * DATAGRAMS_PER_TRAIN),
            tossed_to: [0; 4],
            counters,
        }
    }

    /// Copies and routes what arrived; true if there may be more at once.
    fn receive(&mut self, datapath: &mut impl Datapath) -> bool {
        self.pool.rewind();
        self.router.renew();
        let trains = datapath.receive(TRAINS_PER_TURN, &mut |train| self.train(&train));
        self.counters.pool_replaced.set(self.pool.replaced);
        trains == TRAINS_PER_TURN
    }

    fn train(&mut self, train: &Train<'_>) {
        let port = train.meta.source.port();
        let mut last: Option<(&[u8], Route)> = None;
        for datagram in train.datagrams() {
            self.counters.received.add(1);
            // The same connection ID as just before in this train leads to the same place: most
            // trains belong to one connection, and comparing is cheaper than verifying.
            let route = match (self.router.short_cid(datagram), last) {
                (Some(cid), Some((before, route))) if cid == before => route,
                (cid, _) => {
                    let route = self.router.of(datagram, port);
                    last = cid.map(|cid| (cid, route));
                    route
                }
            };
            match route {
                Route::Sibling(owner) => {
                    self.counters.sibling.add(1);
                    self.toss(owner, datagram, &train.meta);
                }
                route => {
                    if self.count(route) {
                        let bytes = self.pool.copy(datagram);
                        self.inbox.push(Arrival { bytes, meta: train.meta, route });
                    }
                }
            }
        }
    }

    fn toss(&mut self, owner: u8, datagram: &[u8], meta: &Meta) {
        let listener = self.listeners.iter().position(|socket| *socket == meta.socket);
        let Some(listener) = listener.and_then(|index| u8::try_from(index).ok()) else {
            return self.counters.toss_dropped.add(1);
        };
        let tossed = Tossed { bytes: self.pool.copy(datagram), meta: *meta, listener };
        if self.mailboxes.toss(owner, tossed) {
            self.tossed_to[usize::from(owner / 64)] |= 1 << (owner % 64);
        } else {
            self.counters.toss_dropped.add(1);
        }
    }

    /// Takes strays that siblings brought; true if there may be more at once.
    fn take_tossed(&mut self) -> bool {
        for _ in 0..TOSSED_PER_TURN {
            let Some(Tossed { bytes, mut meta, listener }) = self.mailboxes.take(self.id) else {
                return false;
            };
            self.counters.tossed_in.add(1);
            let Some(socket) = self.listeners.get(usize::from(listener)) else {
                self.counters.junk.add(quiclane_wire::Reason::UnroutableWorker);
                continue;
            };
            meta.socket = *socket;
            match self.router.of(&bytes, meta.source.port()) {
                // Two workers that disagree about an owner would toss for ever.
                Route::Sibling(_) => {
                    self.counters.junk.add(quiclane_wire::Reason::UnroutableWorker);
                }
                route => {
                    if self.count(route) {
                        self.inbox.push(Arrival { bytes, meta, route });
                    }
                }
            }
        }
        true
    }

    /// Counts a datagram by its route; true if the endpoint wants it.
    fn count(&self, route: Route) -> bool {
        let (counter, wanted) = match route {
            Route::Live => (&self.counters.live, true),
            Route::Initial => (&self.counters.initial, true),
            Route::OtherLong => (&self.counters.other_long, true),
            Route::Draining => (&self.counters.draining, false),
            Route::Orphan { .. } => (&self.counters.orphan, true),
            Route::Sibling(_) => (&self.counters.sibling, false),
            Route::Junk(reason) => {
                self.counters.junk.add(reason);
                return false;
            }
        };
        counter.add(1);
        wanted
    }

    fn wake_siblings(&mut self) {
        for (word, bits) in self.tossed_to.iter_mut().enumerate() {
            while *bits != 0 {
                let bit = bits.trailing_zeros();
                *bits &= *bits - 1;
                if let Ok(worker) = u8::try_from(word * 64 + bit as usize) {
                    self.mailboxes.wake(worker);
                }
            }
        }
    }
}

/// Far from where clocks overflow.
const DRAIN_MAX: Duration = Duration::from_secs(365 * 86_400);
/// Received trains handled before anything is sent. With 16 or more a server does the TLS work of
/// a whole burst of handshakes before the first answer leaves, and runs in lockstep with its
/// client; 4 gave 30 % more handshakes per second.
const TRAINS_PER_TURN: usize = 4;
/// Tossed datagrams handled per turn: as many as two full trains.
const TOSSED_PER_TURN: usize = 128;
/// The kernel's limit of segments in a train.
const DATAGRAMS_PER_TRAIN: usize = 128;
