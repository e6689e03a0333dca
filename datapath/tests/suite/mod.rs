//! suite is what every backend must do.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use quiclane_datapath::{Datapath, Meta, Socket, SocketId, SocketOptions, Transmit};

pub(crate) mod filters;
pub(crate) mod life;
pub(crate) mod limits;
pub(crate) mod traffic;
pub(crate) mod trains;

/// A received train, kept.
pub(crate) struct Got {
    pub(crate) bytes: Vec<u8>,
    pub(crate) meta: Meta,
    pub(crate) datagrams: Vec<Vec<u8>>,
}

pub(crate) fn open(datapath: &mut impl Datapath, address: &str) -> (SocketId, SocketAddr) {
    open_with(datapath, address, &SocketOptions::default())
}

pub(crate) fn open_with(
    datapath: &mut impl Datapath,
    address: &str,
    options: &SocketOptions,
) -> (SocketId, SocketAddr) {
    let socket = Socket::bind(address.parse().unwrap(), options).unwrap();
    let local = socket.local_addr();
    let id = datapath.adopt(socket).unwrap();
    assert_eq!(datapath.local_addr(id), Some(local));
    (id, local)
}

/// The loopback address of a wildcard's port.
pub(crate) fn at(ip: &str, wildcard: SocketAddr) -> SocketAddr {
    SocketAddr::new(ip.parse::<IpAddr>().unwrap(), wildcard.port())
}

pub(crate) fn to(socket: SocketId, target: SocketAddr) -> Transmit {
    Transmit { socket, target, source: None, ecn: None, segment: None }
}

pub(crate) fn send(datapath: &mut impl Datapath, transmit: &Transmit, payload: &[u8]) {
    let mut slot = datapath.slot().expect("a free slot");
    assert!(slot.payload.is_empty());
    slot.payload.extend_from_slice(payload);
    datapath.send(slot, transmit);
}

/// Receives until `datagrams` are there, or fails after two seconds.
pub(crate) fn collect(datapath: &mut impl Datapath, datagrams: usize) -> Vec<Got> {
    let start = now();
    let mut got = Vec::new();
    let mut count = 0;
    while count < datagrams {
        let late = start.elapsed() > Duration::from_secs(2);
        assert!(!late, "{count} of {datagrams} datagrams arrived");
        turn(datapath, Duration::from_millis(100), &mut |train| {
            count += train.datagrams.len();
            got.push(train);
        });
    }
    assert_eq!(count, datagrams);
    got
}

/// Whatever arrives within `quiet` without anything arriving.
pub(crate) fn drain(datapath: &mut impl Datapath, quiet: Duration) -> Vec<Got> {
    let mut got = Vec::new();
    while turn(datapath, quiet, &mut |train| got.push(train)) > 0 {}
    got
}

/// One wait and everything it brought.
pub(crate) fn turn(
    datapath: &mut impl Datapath,
    timeout: Duration,
    sink: &mut dyn FnMut(Got),
) -> usize {
    datapath.wait(Some(timeout)).unwrap();
    let mut total = 0;
    loop {
        let trains = datapath.receive(64, &mut |train| {
            let datagrams = train.datagrams().map(<[u8]>::to_vec).collect();
            sink(Got { bytes: train.bytes.to_vec(), meta: train.meta, datagrams });
        });
        total += trains;
        if trains < 64 {
            return total;
        }
        datapath.wait(Some(Duration::ZERO)).unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "tests measure real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
