//! Packets of live connections, sent again from elsewhere: the programs give each to the worker
//! that owns its connection, whatever address it comes from. Answers are the workers' behind a veth
//! pair; whom XDP answers elsewhere is in the tests of the programs.

use std::net::SocketAddr;

use quiclane::{Io, Steering};

use crate::common::relay::{Watched, replay};
use crate::common::{law_holds, perf_server, runtime, total};
use crate::harness::{
    CLIENT_ADDRESSES, Link, PORT, SERVER_V4, SERVER_V6, client_address, counted, inside, selected,
};

fn replayed_packets_end_nothing(steering: Steering, io: Io, address: SocketAddr) {
    let link = Link::with_clients();
    let server = perf_server(&address.to_string(), WORKERS, |config| {
        config.io = io;
        let server = config.server.as_mut().unwrap();
        server.steering = steering;
        if steering == Steering::Xdp {
            server.xdp.interfaces = vec!["veth0".to_owned()];
        }
    });
    runtime().block_on(async {
        let mut watched = Vec::new();
        for _ in 0..CONNECTIONS {
            let back = link.client_socket(client_address(address.ip(), 0));
            watched.push(Watched::connect_from(back, &server.certificate, address).await);
        }
        // Other addresses than the connections have.
        let other = |n: u8| client_address(address.ip(), 1 + n % (CLIENT_ADDRESSES - 1));
        let sources: Vec<_> = (0..SOURCES).map(|n| link.client_socket(other(n))).collect();
        let of = |snapshots: &[_]| total(snapshots, |s| s.sibling);
        let (siblings, chosen) = (of(&server.snapshots()), selected(&server));
        let sent = CONNECTIONS as u64 * u64::from(SOURCES);
        let arrived = replay(&server, &watched, &sources).await;
        assert!(arrived.iter().all(|count| *count > 0), "each has connections: {arrived:?}");
        assert_eq!(of(&server.snapshots()), siblings, "each packet came to its owner");
        let chosen = selected(&server)["owners"] - chosen["owners"];
        assert!(chosen >= sent, "{chosen} of {sent}");
        if steering == Steering::Xdp {
            let frames = counted(&server);
            assert!(frames["live"] >= sent, "{frames:?}");
        }
    });
    law_holds(&server.finish());
}

#[test]
fn replayed_packets_end_nothing_on_reuseport() {
    inside("replay::replayed_packets_end_nothing_on_reuseport", || {
        replayed_packets_end_nothing(Steering::Reuseport, Io::Uring, (SERVER_V4, PORT).into());
    });
}

#[test]
fn replayed_packets_end_nothing_on_xdp() {
    inside("replay::replayed_packets_end_nothing_on_xdp", || {
        replayed_packets_end_nothing(Steering::Xdp, Io::Uring, (SERVER_V4, PORT).into());
    });
}

#[test]
fn replayed_packets_end_nothing_on_xdp_over_ipv6() {
    inside("replay::replayed_packets_end_nothing_on_xdp_over_ipv6", || {
        replayed_packets_end_nothing(Steering::Xdp, Io::Epoll, (SERVER_V6, PORT).into());
    });
}

const WORKERS: usize = 4;
const CONNECTIONS: usize = 100;
const SOURCES: u8 = 64;
