//! sim runs servers and clients in one thread under virtual time.
//!
//! The workers are the real ones; only their datapath, their clock and their randomness are
//! replaced. The network between them delays, loses, duplicates, reorders and corrupts datagrams,
//! moves clients to new addresses and refuses sends, all decided by a seed.
//!
//! Invariant: the same seed and the same program give the same trace, which
//! [`Simulation::trace_hash`] sums up: time, addresses, length and fate of every datagram. Contents
//! are left out, because TLS keys are random.

mod datapath;
use datapath::SimDatapath;

mod faults;
pub use faults::{Delivery, Faults};

mod network;
use network::Network;

mod random;

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quiclane_datapath::{Datapath, SocketOptions, WaitError};

use crate::app::App;
use crate::clock::{Clock, VirtualTime};
use crate::config::Config;
use crate::endpoint::Endpoint;
use crate::engine::WorkerInfo;
use crate::error::StartError;
use crate::identity::Identity;
use crate::metrics::{Metrics, WorkerSnapshot};
use crate::toss::Mailboxes;
use crate::transport::transport;
use crate::worker::{Control, Intake, Worker};

/// A world with its own time.
pub struct Simulation {
    time: VirtualTime,
    start: std::time::Instant,
    network: Rc<RefCell<Network>>,
    nodes: Vec<Node>,
    groups: Vec<Group>,
    seed: u64,
}

/// Names a server or a client of a simulation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct GroupId(usize);

struct Node {
    worker: Box<dyn Turn>,
    datapath: usize,
    running: bool,
}

struct Group {
    metrics: Arc<Metrics>,
    control: Control,
    nodes: std::ops::Range<usize>,
}

/// A worker without its type parameters.
trait Turn {
    fn turn(&mut self) -> Result<bool, WaitError>;
    fn timeout(&self) -> Option<Duration>;
}

impl<D: Datapath, A: App> Turn for Worker<D, A> {
    fn turn(&mut self) -> Result<bool, WaitError> {
        Self::turn(self)
    }

    fn timeout(&self) -> Option<Duration> {
        Self::timeout(self)
    }
}

impl Simulation {
    /// An empty world.
    #[must_use]
    pub fn new(seed: u64, faults: Faults) -> Self {
        let time = VirtualTime::new();
        let network = Rc::new(RefCell::new(Network::new(seed, faults, time.clone())));
        let start = time.now();
        Self { time, start, network, nodes: Vec::new(), groups: Vec::new(), seed }
    }

    /// Adds a server: `config.server` must be set, `config.workers` at least 1. Its workers share
    /// each listen address like a reuseport group; `delivery` chooses among them.
    ///
    /// # Errors
    /// As [`Engine::start`](crate::Engine::start).
    pub fn server<A: App + 'static>(
        &mut self,
        config: &Config,
        delivery: Delivery,
        make: impl Fn(WorkerInfo) -> A,
    ) -> Result<GroupId, StartError> {
        let Some(server) = &config.server else {
            return Err(crate::error::ConfigError::NoListen.into());
        };
        let config = Config { seed: Some(self.group_seed()), ..config.clone() };
        let identity = Identity::server(server, &config, config.workers)?;
        self.network.borrow_mut().add_listeners(&server.listen, delivery, identity.layout);
        self.group(&config, &identity, &server.listen, IpAddr::from([127, 0, 0, 1]), make)
    }

    /// Adds a client on a host of its own with the address `ip`.
    ///
    /// # Errors
    /// As [`Engine::start`](crate::Engine::start).
    pub fn client<A: App + 'static>(
        &mut self,
        config: &Config,
        ip: IpAddr,
        make: impl Fn(WorkerInfo) -> A,
    ) -> Result<GroupId, StartError> {
        let config = Config { seed: Some(self.group_seed()), ..config.clone() };
        let identity = Identity::client(config.seed);
        self.group(&config, &identity, &[], ip, make)
    }

    /// Moves every client behind `ip` to a new address and port, as a NAT does: what is sent to
    /// the old one is lost.
    pub fn rebind(&mut self, ip: IpAddr) {
        self.network.borrow_mut().rebind(ip);
    }

    /// Stops a group like [`Engine::stop`](crate::Engine::stop).
    pub fn stop(&mut self, group: GroupId, drain: Duration) {
        self.groups[group.0].control.stop(drain);
        for node in self.groups[group.0].nodes.clone() {
            self.network.borrow().wake(self.nodes[node].datapath);
        }
    }

    /// Ends a group at once, as `kill -9` does: nothing is sent, its sockets are gone.
    pub fn kill(&mut self, group: GroupId) {
        for node in self.groups[group.0].nodes.clone() {
            self.nodes[node].running = false;
            self.network.borrow_mut().remove_datapath(self.nodes[node].datapath);
        }
    }

    /// Sends a datagram from `source` to `target`, as anybody on the network can.
    pub fn inject(&mut self, source: SocketAddr, target: SocketAddr, bytes: &[u8]) {
        self.network.borrow_mut().inject(source, target, bytes);
    }

    /// Lets the world go on until `done` says so or `limit` of virtual time is over; true if
    /// `done` did. It is asked after every step.
    ///
    /// # Errors
    /// What a worker's turn returns; the simulated datapath itself never fails.
    pub fn run(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool, WaitError> {
        let end = self.time.now() + limit;
        loop {
            if done(self) {
                return Ok(true);
            }
            if self.step()? {
                continue;
            }
            let now = self.time.now();
            let mut next = self.network.borrow().next_event();
            for node in self.nodes.iter().filter(|node| node.running) {
                let deadline = node.worker.timeout().map(|timeout| now + timeout);
                next = [next, deadline].into_iter().flatten().min();
            }
            match next {
                Some(next) if next <= end => self.time.advance_to(next),
                _ => {
                    self.time.advance_to(end);
                    return Ok(done(self));
                }
            }
        }
    }

    /// Virtual time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.time.now() - self.start
    }

    /// Sums up everything that was ever on the network.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.network.borrow().trace_hash()
    }

    /// Every fault that was injected so far, by name.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, u64)> {
        self.network.borrow().fault_counts()
    }

    /// The largest ratio of bytes sent to an address that nobody owns to bytes that came from it.
    #[must_use]
    pub fn amplification(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
        let ratio = |(_, from, to): (SocketAddr, u64, u64)| to as f64 / from.max(1) as f64;
        self.network.borrow().spoofed().map(ratio).fold(0.0, f64::max)
    }

    /// The counters of a group's workers.
    #[must_use]
    pub fn snapshots(&self, group: GroupId) -> Vec<WorkerSnapshot> {
        self.groups[group.0].metrics.snapshots()
    }

    /// Whether every worker of a group has stopped.
    #[must_use]
    pub fn is_finished(&self, group: GroupId) -> bool {
        self.groups[group.0].nodes.clone().all(|node| !self.nodes[node].running)
    }

    /// Another one for each group, or two servers would have the same keys.
    fn group_seed(&self) -> u64 {
        self.seed ^ (self.groups.len() as u64).rotate_left(32)
    }

    /// Runs every worker that has something to do now; false if none had.
    fn step(&mut self) -> Result<bool, WaitError> {
        self.network.borrow_mut().deliver();
        let mut worked = false;
        for node in self.nodes.iter_mut().filter(|node| node.running) {
            let woken = self.network.borrow().has_input(node.datapath);
            if woken || node.worker.timeout() == Some(Duration::ZERO) {
                worked = true;
                node.running = node.worker.turn()?;
            }
        }
        Ok(worked)
    }

    fn group<A: App + 'static>(
        &mut self,
        config: &Config,
        identity: &Identity,
        listen: &[SocketAddr],
        host: IpAddr,
        make: impl Fn(WorkerInfo) -> A,
    ) -> Result<GroupId, StartError> {
        let workers = u8::try_from(config.workers.max(1)).unwrap_or(u8::MAX);
        let transport = transport(&config.transport)?;
        let metrics = Arc::new(Metrics::new(usize::from(workers), Vec::new(), None));
        let mailboxes = Mailboxes::new(usize::from(workers), config.limits.toss_mailbox);
        let control = Control::default();
        let first = self.nodes.len();
        for id in 0..workers {
            let slots = config.limits.send_slots;
            let mut datapath = SimDatapath::new(Rc::clone(&self.network), host, slots);
            let mut listeners = Vec::new();
            for address in listen {
                let socket = datapath
                    .open(*address, &SocketOptions { reuseport: true, ..SocketOptions::default() })
                    .map_err(|source| StartError::Listen { address: *address, source })?;
                listeners.push(socket);
            }
            let index = usize::from(id);
            let counters = metrics.worker(index);
            metrics.register_datapath(index, Arc::clone(datapath.counters()));
            let endpoint = Endpoint::new(
                identity.settings(id, &transport, &config.limits),
                Arc::clone(&counters),
            );
            let router = identity.router(id, workers);
            let intake = Intake::new(id, router, mailboxes.clone(), listeners, counters);
            let info = WorkerInfo { id: index, workers: usize::from(workers), core: None };
            let clock = Clock::Virtual(self.time.clone());
            let handle = datapath.index();
            let app = make(info);
            let worker = Worker::new(datapath, app, clock, endpoint, intake, control.clone());
            self.nodes.push(Node { worker: Box::new(worker), datapath: handle, running: true });
        }
        self.groups.push(Group { metrics, control, nodes: first..self.nodes.len() });
        Ok(GroupId(self.groups.len() - 1))
    }
}
