//! replay sends packets of live connections again, from elsewhere and to every worker: no
//! connection is ended by it, whoever the kernel gives the packets to.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use common::relay::Watched;
use common::{exchange, law_holds, perf_server, runtime, total, wait_until};
use quiclane::{Io, Steering};

fn replayed_packets_end_nothing(steering: Steering, io: Io) {
    let server = perf_server("127.0.0.1:0", WORKERS, |config| {
        config.io = io;
        config.server.as_mut().unwrap().steering = steering;
    });
    runtime().block_on(async {
        let mut watched = Vec::new();
        for _ in 0..CONNECTIONS {
            watched.push(Watched::connect(&server.certificate, server.address()).await);
        }
        // Acknowledgements of the last answers: then nothing is under way.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let received = |id: usize| server.snapshots()[id].received;
        let before: Vec<u64> = (0..WORKERS).map(received).collect();
        // The kernel's hash of enough sources reaches every worker.
        let sources: Vec<_> =
            (0..SOURCES).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for one in &watched {
            let packet = one.last_packet();
            assert!(packet.len() > 21, "a short header passed");
            for source in &sources {
                source.send_to(&packet, server.address()).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let sent = (CONNECTIONS * SOURCES) as u64;
        let arrived = || (0..WORKERS).map(|id| received(id) - before[id]).sum::<u64>();
        wait_until(|| arrived() >= sent).await;
        if steering == Steering::Hash {
            assert!((0..WORKERS).all(|id| received(id) > before[id] + 100), "all workers saw some");
        }
        assert_eq!(total(&server.snapshots(), |s| s.resets_sent), 0);
        for source in &sources {
            source.set_nonblocking(true).unwrap();
            assert!(source.recv(&mut [0; 2_000]).is_err(), "somebody was answered");
        }
        for one in &watched {
            exchange(&one.connection, 1_000, 1_000).await.unwrap();
            assert_eq!(one.connection.close_reason(), None);
        }
        assert_eq!(total(&server.snapshots(), |s| s.connected), CONNECTIONS as u64);
    });
    law_holds(&server.finish());
}

#[test]
fn replayed_packets_end_nothing_on_hash() {
    replayed_packets_end_nothing(Steering::Hash, Io::Epoll);
    replayed_packets_end_nothing(Steering::Hash, Io::Uring);
}

#[test]
fn replayed_packets_end_nothing_on_cbpf() {
    replayed_packets_end_nothing(Steering::Cbpf, Io::Uring);
}

const WORKERS: usize = 4;
const CONNECTIONS: usize = 100;
const SOURCES: usize = 64;
