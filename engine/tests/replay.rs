//! replay sends packets of live connections again, from elsewhere and to every worker: no
//! connection is ended by it, whoever the kernel gives the packets to. The rungs with programs of
//! the kernel are in `namespaces`.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod common;

use std::net::UdpSocket;

use common::relay::{Watched, replay};
use common::{law_holds, perf_server, runtime};
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
        // The kernel's hash of enough sources reaches every worker.
        let sources: Vec<_> =
            (0..SOURCES).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let arrived = replay(&server, &watched, &sources).await;
        if steering == Steering::Hash {
            assert!(arrived.iter().all(|count| *count > 100), "all workers saw some: {arrived:?}");
        }
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
