//! reflect has two servers answer each other with stateless resets: each chain of answers ends.
//!
//! An answer has no connection ID, so a server takes a sibling's answer for junk. Only somebody
//! between them who makes an orphan's packet of each answer keeps a chain going: answers get
//! shorter, and if he pads them, the budget ends it.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

mod common;

use std::env;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use common::relay::server_with_orphans;
use common::{Served, law_holds, runtime, total, wait_until};
use quiclane::metrics::WorkerSnapshot;
use quiclane::{Config, Io, Steering, clock};
use quiclane_wire::{RESET_LEN_MAX, RESET_LEN_MIN};
use socket2::{Domain, Protocol, Socket, Type};

/// Two servers on addresses of their own, and packets of connections that each has forgotten.
struct Pair {
    servers: [Served; 2],
    orphans: [Vec<Vec<u8>>; 2],
    _states: [tempfile::TempDir; 2],
}

impl Pair {
    fn start(orphans: usize, change: impl Fn(&mut Config)) -> Self {
        let states = [0, 1].map(|_| tempfile::tempdir().unwrap());
        let [a, b] = [("127.0.0.1:0", 0), ("127.0.0.2:0", 1)].map(|(listen, which)| {
            server_with_orphans(listen, orphans, states[which].path(), |config| {
                config.server.as_mut().unwrap().steering = Steering::Hash;
                change(config);
            })
        });
        Self { servers: [a.0, b.0], orphans: [a.1, b.1], _states: states }
    }

    fn count(&self, which: usize, field: impl Fn(&WorkerSnapshot) -> u64) -> u64 {
        total(&self.servers[which].snapshots(), field)
    }

    fn finish(self) {
        for server in self.servers {
            law_holds(&server.finish());
        }
    }
}

/// A socket that sends UDP from any address; `None` for want of root.
fn spoofing() -> Option<Socket> {
    match Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(IPPROTO_RAW))) {
        Ok(socket) => Some(socket),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            assert!(env::var("CI").as_deref() != Ok("true"), "no root");
            println!("skipped: servers_do_not_answer_each_other: needs root for a raw socket");
            None
        }
    }
}

/// An IPv4 packet; its checksum and length are the kernel's to fill.
fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let octets = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) => ip.octets(),
        IpAddr::V6(_) => unreachable!("listens on IPv4"),
    };
    let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    packet.extend(octets(from));
    packet.extend(octets(to));
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    // No UDP checksum.
    packet.extend([0, 0]);
    packet.extend(payload);
    packet
}

fn servers_do_not_answer_each_other_by(io: Io, raw: &Socket) {
    let pair = Pair::start(20, |config| config.io = io);
    let addresses = [0, 1].map(|which| pair.servers[which].address());
    let received = [0, 1].map(|which| pair.count(which, |s| s.received));
    let mut sent = 0;
    for (which, orphans) in pair.orphans.iter().enumerate() {
        for orphan in orphans {
            // As large as a packet can be: the most that the length rule allows.
            let mut packet = orphan.clone();
            packet.resize(1_472, 0xab);
            let packet = datagram(addresses[1 - which], addresses[which], &packet);
            raw.send_to(&packet, &addresses[which].into()).unwrap();
        }
        sent = orphans.len() as u64;
    }
    let arrived = |which: usize| pair.count(which, |s| s.received) - received[which];
    runtime().block_on(wait_until(|| arrived(0) >= 2 * sent && arrived(1) >= 2 * sent));
    thread::sleep(Duration::from_millis(300));
    for which in [0, 1] {
        // One answer to each packet, one answer of the other, and nothing to that.
        assert_eq!(arrived(which), 2 * sent, "{io:?}");
        assert_eq!(pair.count(which, |s| s.orphan), sent, "{io:?}");
        assert_eq!(pair.count(which, |s| s.resets_sent), sent, "{io:?}");
        assert_eq!(pair.count(which, |s| s.junk), sent, "{io:?}");
    }
    pair.finish();
}

#[test]
fn servers_do_not_answer_each_other() {
    let Some(raw) = spoofing() else { return };
    servers_do_not_answer_each_other_by(Io::Epoll, &raw);
    servers_do_not_answer_each_other_by(Io::Uring, &raw);
}

/// Somebody who makes an orphan's packet of each answer, for one server after the other.
struct Mirror<'p> {
    pair: &'p Pair,
    sockets: Vec<UdpSocket>,
    hops: usize,
}

impl<'p> Mirror<'p> {
    fn new(pair: &'p Pair) -> Self {
        let sockets = (0..SOURCES).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let sockets: Vec<_> = sockets.collect();
        for socket in &sockets {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Self { pair, sockets, hops: 0 }
    }

    /// The length of the answer to a packet of `len` bytes. No connection and source is used twice,
    /// so that only lengths and budgets can end a chain.
    fn answer(&mut self, len: usize) -> Option<usize> {
        let (which, turn) = (self.hops % 2, self.hops / 2);
        let orphans = &self.pair.orphans[which];
        let socket = &self.sockets[turn / orphans.len()];
        let mut packet = orphans[turn % orphans.len()].clone();
        packet.resize(len, 0xab);
        self.hops += 1;
        socket.send_to(&packet, self.pair.servers[which].address()).unwrap();
        loop {
            match socket.recv(&mut [0; 2_000]) {
                Ok(len) => return Some(len),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                // A machine that is suspended interrupts calls with a time limit.
                Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}"),
            }
        }
    }
}

#[test]
fn a_chain_of_answers_ends_by_their_lengths() {
    let pair = Pair::start(5, |_| {});
    let mut mirror = Mirror::new(&pair);
    for start in [1_472, 100, 44, 30] {
        let (mut len, before) = (start, mirror.hops);
        while let Some(answer) = mirror.answer(len) {
            assert!(answer < len, "{answer} bytes to {len}");
            len = answer;
        }
        assert_eq!(len, RESET_LEN_MIN, "from {start}");
        let answers = mirror.hops - before - 1;
        assert!((1..=1 + RESET_LEN_MAX - RESET_LEN_MIN).contains(&answers), "{answers} answers");
    }
    pair.finish();
}

#[test]
fn a_chain_of_answers_ends_by_the_budget() {
    let pair = Pair::start(5, |config| config.limits.resets_per_s = 40);
    let mut mirror = Mirror::new(&pair);
    let start = clock::now();
    while mirror.answer(1_472).is_some() {}
    // 40 at once of each server, and 40 a second.
    let at_most = 2 * (41 + 40 * usize::try_from(start.elapsed().as_millis()).unwrap() / 1_000);
    let answers = mirror.hops - 1;
    assert!((80..=at_most).contains(&answers), "{answers} of at most {at_most}");
    let over = pair.servers.iter().map(|server| server.engine().metrics().text());
    let over: Vec<String> = over
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.contains("reset_budget") && !line.ends_with(" 0"))
        .collect();
    assert!(!over.is_empty(), "the budget ended it");
    pair.finish();
}

/// Packets whose IP header is the sender's.
const IPPROTO_RAW: i32 = 255;
/// With 5 connections: 100 packets to each server.
const SOURCES: usize = 20;
/// Longer than an answer takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(1);
