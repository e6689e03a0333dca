//! scenarios are single worlds, each for one promise.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use quiclane::metrics::WorkerSnapshot;
use quiclane::sim::{Delivery, Faults, GroupId, Simulation};
use quiclane::{Config, Limits, Retry, ServerConfig, Transport};

use crate::common::{initial, law_holds, total};
use crate::mirror::{Asker, Mirror, Outcome, Tls};

/// A server, and clients that come when they are told to.
struct Stage {
    sim: Simulation,
    server: GroupId,
    tls: Tls,
    hosts: u8,
}

fn address() -> SocketAddr {
    "10.0.0.1:443".parse().unwrap()
}

impl Stage {
    fn new(workers: usize, delivery: Delivery, faults: Faults, limits: Limits) -> Self {
        let tls = Tls::new();
        let mut sim = Simulation::new(1, faults);
        let server = Self::serve(&mut sim, &tls, workers, delivery, limits);
        Self { sim, server, tls, hosts: 0 }
    }

    fn serve(
        sim: &mut Simulation,
        tls: &Tls,
        workers: usize,
        delivery: Delivery,
        limits: Limits,
    ) -> GroupId {
        let server =
            ServerConfig { retry: Retry::Off, ..ServerConfig::new(address(), tls.server.clone()) };
        let config = Config { server: Some(server), workers, limits, ..Config::default() };
        sim.server(&config, delivery, |_| Mirror::default()).unwrap()
    }

    /// A client on a host of its own.
    fn client(&mut self, connections: usize, sizes: &[usize]) -> Rc<RefCell<Outcome>> {
        let outcome = Rc::new(RefCell::new(Outcome::default()));
        self.hosts += 1;
        let transport = Transport { idle_timeout: Duration::from_secs(20), ..Transport::default() };
        let config = Config { workers: 1, transport, ..Config::default() };
        let ip = IpAddr::from([10, 1, 0, self.hosts]);
        let make = |_| Asker::new(&self.tls.client, address(), connections, sizes, &outcome);
        self.sim.client(&config, ip, make).unwrap();
        outcome
    }

    fn run(&mut self, seconds: u64) {
        self.sim.run(Duration::from_secs(seconds), |_| false).unwrap();
    }

    fn snapshots(&self) -> Vec<WorkerSnapshot> {
        let snapshots = self.sim.snapshots(self.server);
        law_holds(&snapshots);
        snapshots
    }

    fn total(&self, field: impl Fn(&WorkerSnapshot) -> u64) -> u64 {
        total(&self.snapshots(), field)
    }
}

#[test]
fn a_handshake_ends_at_its_deadline() {
    let mut stage = Stage::new(1, Delivery::Hash, Faults::default(), Limits::default());
    stage.sim.inject("192.0.2.1:9999".parse().unwrap(), address(), &initial(1, "mirror"));
    stage.run(9);
    assert_eq!(stage.total(|s| s.half_open), 1);
    stage.run(2);
    assert_eq!(stage.total(|s| s.half_open), 0);
    assert_eq!(stage.total(|s| s.handshake_deadline), 1);
    stage.run(60);
    assert_eq!(stage.total(|s| s.open), 0, "its memory is free again");
    assert!(stage.sim.amplification() <= 3.0);
}

#[test]
fn half_open_handshakes_are_bounded() {
    let limits = Limits { half_open: 10, ..Limits::default() };
    let mut stage = Stage::new(1, Delivery::Hash, Faults::default(), limits);
    for n in 0..100 {
        let source = SocketAddr::from(([192, 0, 2, 1], 2_000 + n));
        stage.sim.inject(source, address(), &initial(u64::from(n), "mirror"));
    }
    stage.run(1);
    assert_eq!((stage.total(|s| s.accepted), stage.total(|s| s.ignored)), (10, 90));
    stage.run(20);
    let outcome = stage.client(1, &[1_000]);
    stage.run(5);
    assert_eq!(outcome.borrow().verified, 1, "after the flood everything works again");
}

#[test]
fn connections_beyond_the_limit_are_told_so() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let mut stage = Stage::new(1, Delivery::Hash, Faults::default(), limits);
    let outcome = stage.client(5, &[500_000]);
    stage.run(30);
    let outcome = outcome.borrow();
    let refused = outcome.closed.iter().filter(|why| why.contains("error 0x2")).count();
    assert_eq!((outcome.verified, refused), (2, 3), "{:?}", outcome.closed);
    assert_eq!(stage.total(|s| s.connection_limit), 3);
}

#[test]
fn a_graceful_stop_lets_transfers_finish() {
    let slow = Faults { delay: Duration::from_millis(50), ..Faults::default() };
    let mut stage = Stage::new(3, Delivery::WorkerByte, slow, Limits::default());
    let early = stage.client(4, &[300_000]);
    stage.sim.run(Duration::from_millis(250), |_| false).unwrap();
    assert_eq!(early.borrow().verified, 0, "still under way");
    stage.sim.stop(stage.server, Duration::from_secs(60));
    stage.sim.run(Duration::from_millis(10), |_| false).unwrap();
    let late = stage.client(2, &[10]);
    stage.run(30);
    assert_eq!(early.borrow().verified, 4);
    // Refused while it drains, unanswered once it is gone.
    let refused = |why: &String| why.contains("error 0x2") || why.contains("its deadline");
    assert!(late.borrow().closed.iter().all(refused), "{:?}", late.borrow().closed);
    assert_eq!(late.borrow().verified, 0);
    assert!(stage.sim.is_finished(stage.server));
}

#[test]
fn a_stop_without_patience_closes_with_a_code() {
    let slow = Faults { delay: Duration::from_millis(50), ..Faults::default() };
    let mut stage = Stage::new(2, Delivery::WorkerByte, slow, Limits::default());
    let outcome = stage.client(3, &[300_000]);
    stage.sim.run(Duration::from_millis(250), |_| false).unwrap();
    stage.sim.stop(stage.server, Duration::ZERO);
    stage.run(2);
    assert!(stage.sim.is_finished(stage.server));
    let outcome = outcome.borrow();
    assert_eq!(outcome.closed.len(), 3, "{:?}", outcome.closed);
    let told = |why: &String| why.contains("application with code 0: server stopping");
    assert!(outcome.closed.iter().all(told), "{:?}", outcome.closed);
}

#[test]
fn a_full_mailbox_drops_and_quic_recovers() {
    let limits = Limits { toss_mailbox: 1, ..Limits::default() };
    let mut stage = Stage::new(4, Delivery::Anywhere, Faults::default(), limits);
    let outcome = stage.client(3, &[200_000]);
    stage.run(60);
    assert_eq!(outcome.borrow().verified, 3);
    assert!(stage.total(|s| s.toss_dropped) > 0);
}

#[test]
fn a_killed_server_is_not_mistaken_for_its_successor() {
    let mut stage = Stage::new(2, Delivery::WorkerByte, Faults::default(), Limits::default());
    let slow = stage.client(2, &[5_000_000]);
    stage.sim.run(Duration::from_millis(20), |_| false).unwrap();
    stage.sim.kill(stage.server);
    // Without a state directory the successor has other keys: it cannot know the old packets.
    let tls = &stage.tls;
    let limits = Limits::default();
    stage.server = Stage::serve(&mut stage.sim, tls, 2, Delivery::WorkerByte, limits);
    stage.run(60);
    let slow = slow.borrow();
    assert_eq!((slow.verified, slow.closed.len()), (0, 2), "{:?}", slow.closed);
    assert!(slow.closed.iter().all(|why| why == "idle timeout"), "{:?}", slow.closed);
    assert_eq!(stage.total(|s| s.resets_sent), 0);
}
