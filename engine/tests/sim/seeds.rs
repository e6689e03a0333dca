//! seeds runs thousands of seeded worlds: every transfer completes, every counter adds up, and the
//! same seed gives the same trace.
//!
//! `QUICLANE_SIM_SEEDS=1000` sets how many, `QUICLANE_SIM_SEED=7` runs one alone.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use quiclane::sim::{Delivery, Faults, GroupId, Simulation};
use quiclane::{Config, Retry, ServerConfig, Transport};

use crate::mirror::{Asker, Failure, Mirror, Outcome, Tls};

struct World {
    sim: Simulation,
    server: GroupId,
    clients: Vec<GroupId>,
    outcomes: Vec<Rc<RefCell<Outcome>>>,
    sizes: usize,
    connections: usize,
}

fn pick(seed: u64, purpose: u64, below: u64) -> usize {
    let key = quiclane_wire::Key { k0: seed, k1: purpose };
    usize::try_from(quiclane_wire::siphash64(&key, b"pick") % below).unwrap()
}

fn address() -> SocketAddr {
    "10.0.0.1:443".parse().unwrap()
}

fn world(seed: u64, tls: &Tls, faults: Faults) -> World {
    let mut sim = Simulation::new(seed, faults);
    let workers = 1 + pick(seed, 1, 5);
    let server = ServerConfig {
        retry: [Retry::Off, Retry::Auto, Retry::Always][pick(seed, 2, 3)],
        server_id: vec![9; pick(seed, 3, 9)],
        ..ServerConfig::new(address(), tls.server.clone())
    };
    let transport = Transport { idle_timeout: Duration::from_secs(60), ..Transport::default() };
    let config =
        Config { server: Some(server), workers, transport: transport.clone(), ..Config::default() };
    let delivery = [Delivery::WorkerByte, Delivery::Hash, Delivery::Anywhere][pick(seed, 4, 3)];
    let server = sim.server(&config, delivery, |_| Mirror::default()).unwrap();
    let sizes = [0, 1, 1_200, 5_000, 40_000 + pick(seed, 5, 100_000)];
    let connections = 1 + pick(seed, 6, 3);
    let (mut clients, mut outcomes) = (Vec::new(), Vec::new());
    for host in 0..=pick(seed, 7, 2) {
        let outcome = Rc::new(RefCell::new(Outcome::default()));
        // A client that only waits must speak now and then, or no server can learn where it moved.
        let keep_alive = Some(Duration::from_millis(250));
        let transport = Transport { keep_alive, ..transport.clone() };
        let config = Config { workers: 1, transport, ..Config::default() };
        let ip = IpAddr::from([10, 1, 0, u8::try_from(host).unwrap()]);
        let client = sim.client(&config, ip, |_| {
            Asker::new(&tls.client, address(), connections, &sizes, &outcome)
        });
        clients.push(client.unwrap());
        outcomes.push(outcome);
    }
    World { sim, server, clients, outcomes, sizes: sizes.len(), connections }
}

impl World {
    fn closed(&self) -> usize {
        self.outcomes.iter().map(|outcome| outcome.borrow().closed.len()).sum()
    }

    fn run(&mut self) {
        let all = self.connections * self.clients.len();
        let outcomes = self.outcomes.clone();
        let closed = move || outcomes.iter().map(|o| o.borrow().closed.len()).sum::<usize>();
        self.sim.run(Duration::from_secs(120), |_| closed() == all).unwrap();
        self.sim.run(Duration::from_secs(5), |_| false).unwrap();
    }

    /// Both sides of every law.
    fn check_laws(&self) {
        for group in self.clients.iter().chain([&self.server]) {
            let snapshots = self.sim.snapshots(*group);
            for snapshot in &snapshots {
                let (arrived, routed) = snapshot.law();
                assert_eq!(arrived, routed, "{snapshot:?}");
                assert_eq!(snapshot.open + snapshot.closed, snapshot.accepted + snapshot.opened);
            }
            let tossed: u64 = snapshots.iter().map(|s| s.sibling - s.toss_dropped).sum();
            let taken: u64 = snapshots.iter().map(|s| s.tossed_in).sum();
            assert_eq!(tossed, taken, "a toss was lost");
        }
    }
}

/// Connections of one or many worlds, and handshakes that failed honestly.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    connections: usize,
    /// Not complete by the deadline, because the client moved, somebody sent a copy of its first
    /// packet ahead of it, or a Retry was corrupted: quinn-proto's client then discards all others.
    disturbed: usize,
    /// Not complete by the deadline, because too much was lost.
    lost: usize,
    /// A Retry token was shown from an address that it was not made for.
    token: usize,
    /// The client moved before the server saw its Finished (RFC 9000 section 9).
    moved: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        let Self { connections, disturbed, lost, token, moved } = other;
        self.connections += connections;
        self.disturbed += disturbed;
        self.lost += lost;
        self.token += token;
        self.moved += moved;
    }
}

impl Tally {
    /// A handshake that fails in every tenth network, or for every tenth client, is no longer the
    /// networks' fault. Today 1.7 % fail, nearly all of them disturbed.
    fn check(&self) {
        let Self { connections, disturbed, lost, token, moved } = *self;
        for (failed, per_thousand) in [(disturbed, 40), (lost, 5), (token, 10), (moved, 5)] {
            assert!(1_000 * failed <= per_thousand * connections, "{self:?}");
        }
    }
}

impl World {
    /// Handshakes may fail, each for a reason that its own network and server confirm. Transfers
    /// may not.
    fn tally(&self, faults: &Faults) -> Tally {
        let happened = self.sim.faults();
        let seen =
            |fault| happened.iter().find(|(name, _)| *name == fault).map_or(0, |(_, count)| *count);
        let server = self.sim.snapshots(self.server);
        let retried = server.iter().any(|s| s.retries > 0);
        let disturbed = seen("rebind") + seen("spoof") > 0 || retried && seen("corrupt") > 0;
        let lossy = faults.loss + faults.corrupt + faults.late + faults.send_error >= LOSSY;
        let mut tally =
            Tally { connections: self.connections * self.clients.len(), ..Tally::default() };
        for outcome in &self.outcomes {
            let outcome = outcome.borrow();
            let Outcome { verified, closed, failures } = &*outcome;
            let complete = self.connections - failures.len();
            assert_eq!(*verified, complete * self.sizes, "{closed:?} {happened:?}");
            let ended = closed.iter().filter(|why| *why == "closed by us").count();
            assert_eq!(ended, complete, "{closed:?} {happened:?}");
            for failure in failures {
                let Failure { why, connected, verified } = failure;
                assert_eq!(*verified, 0, "a transfer began and failed: {failure:?} {happened:?}");
                let (count, possible) = match why.as_str() {
                    why if why.contains("its deadline") && disturbed => {
                        (&mut tally.disturbed, !connected)
                    }
                    why if why.contains("its deadline") => (&mut tally.lost, !connected && lossy),
                    why if why.contains("error 0xb") => (&mut tally.token, !connected && disturbed),
                    "idle timeout" => (&mut tally.moved, *connected && seen("rebind") > 0),
                    _ => panic!("{failure:?} {happened:?}"),
                };
                assert!(possible, "nothing in its network excuses {failure:?}: {happened:?}");
                *count += 1;
            }
        }
        let given_up: u64 = server.iter().map(|s| s.handshake_deadline).sum();
        assert!(tally.moved as u64 <= given_up, "the server knew a client that it lost");
        tally
    }
}

fn one(seed: u64, tls: &Tls) -> (u64, Tally) {
    let faults = Faults::from_seed(seed);
    let mut world = world(seed, tls, faults.clone());
    world.run();
    world.check_laws();
    let tally = world.tally(&faults);
    let amplification = world.sim.amplification();
    assert!(amplification <= 3.0, "{amplification} times to an address that nobody owns");
    assert_eq!(world.closed(), world.connections * world.clients.len(), "{:?}", world.sim.faults());
    (world.sim.trace_hash(), tally)
}

fn seeds() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|value: String| value.parse().ok());
    match number("QUICLANE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("QUICLANE_SIM_SEEDS").unwrap_or(200),
    }
}

#[test]
fn every_seed_completes() {
    let (tls, seeds) = (Tls::new(), seeds());
    let mut sum = Tally::default();
    for seed in seeds.clone() {
        let run = std::panic::AssertUnwindSafe(|| one(seed, &tls));
        match std::panic::catch_unwind(run) {
            Ok((_, tally)) => sum += tally,
            Err(panic) => {
                eprintln!(
                    "seed {seed} failed; replay: \
                     QUICLANE_SIM_SEED={seed} cargo test -p quiclane --test sim every_seed"
                );
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{sum:?}");
    // A share of few is nothing but chance.
    if seeds.count() >= 200 {
        sum.check();
    }
}

#[test]
fn same_seed_same_trace() {
    let tls = Tls::new();
    let hashes: Vec<_> = (0..20).map(|seed| one(seed, &tls).0).collect();
    for (seed, hash) in hashes.iter().enumerate() {
        assert_eq!(one(seed as u64, &tls).0, *hash, "seed {seed} has two traces");
    }
    let mut distinct = hashes.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), hashes.len(), "different seeds, different traces");
}

/// Faults per thousand datagrams from which on a handshake may need more than the ten seconds it
/// has: its packets are sent again after 1, 2 and 4 s.
const LOSSY: u64 = 50;
