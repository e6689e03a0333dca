//! trains checks what leaves as one and what arrives as one.

use std::os::fd::{AsFd, AsRawFd};

use quiclane_datapath::{Datapath, Ecn, Socket, SocketOptions, Transmit};

use super::{collect, open, open_with, send, to};

/// `segments` datagrams of `bytes`, each full of its own number; the last one is `last` long.
fn train(segments: usize, bytes: usize, last: usize) -> Vec<u8> {
    let mut payload = Vec::new();
    for (number, fill) in (1..=segments).zip((0..=255).cycle()) {
        let bytes = if number == segments { last } else { bytes };
        payload.extend(std::iter::repeat_n::<u8>(fill, bytes));
    }
    payload
}

/// Sends a train and checks that its datagrams arrive in order; returns the number of trains.
fn travels<D: Datapath>(
    datapath: &mut D,
    transmit: &Transmit,
    (segments, bytes, last): (usize, usize, usize),
) -> usize {
    let payload = train(segments, bytes, last);
    send(datapath, &Transmit { segment: Some(bytes), ..*transmit }, &payload);
    let got = collect(datapath, segments);
    let datagrams: Vec<_> = got.iter().flat_map(|train| &train.datagrams).collect();
    let sent: Vec<_> = payload.chunks(bytes).collect();
    assert_eq!(datagrams, sent);
    assert!(got.iter().all(|train| train.meta.ecn == transmit.ecn));
    got.len()
}

pub(crate) fn a_train_arrives_as_its_datagrams<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    assert!(datapath.segments_max(1_200) >= 50, "no GSO on this kernel");
    for (client, server) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0")] {
        let (client, _) = open(datapath, client);
        let (_, server_addr) = open(datapath, server);
        let transmit = Transmit { ecn: Some(Ecn::Ce), ..to(client, server_addr) };
        assert_eq!(travels(datapath, &transmit, (50, 1_200, 700)), 1);
        assert_eq!(travels(datapath, &transmit, (2, 1_200, 1)), 1);
        assert_eq!(travels(datapath, &transmit, (1, 1_200, 1_200)), 1);
    }
    let counters = datapath.counters();
    assert_eq!(counters.send_trains.value(), 6);
    assert_eq!(counters.send_datagrams.value(), 106);
    assert_eq!(counters.recv_trains.value(), 6);
    assert_eq!(counters.recv_datagrams.value(), 106);
    assert_eq!(counters.send_bytes.value(), counters.recv_bytes.value());
    assert_eq!(counters.gso_fallbacks.value(), 0);
}

pub(crate) fn a_train_of_64_kib_arrives_whole<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let (client, _) = open(datapath, "127.0.0.1:0");
    let (_, server_addr) = open(datapath, "127.0.0.1:0");
    let segments = datapath.segments_max(1_200);
    let transmit = to(client, server_addr);
    assert_eq!(travels(datapath, &transmit, (segments, 1_200, 1_200)), 1);
    travels(datapath, &transmit, (13, 5_000, 5_000));
    assert_eq!(datapath.counters().recv_truncated.value(), 0);
    assert_eq!(datapath.counters().recv_control_truncated.value(), 0);
}

pub(crate) fn without_gro_every_datagram_is_a_train<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let (client, _) = open(datapath, "127.0.0.1:0");
    let options = SocketOptions { gro: false, ..SocketOptions::default() };
    let (_, server_addr) = open_with(datapath, "127.0.0.1:0", &options);
    assert_eq!(travels(datapath, &to(client, server_addr), (20, 1_200, 5)), 20);
}

/// A socket that asks for no checksum cannot send trains: the kernel answers EINVAL, like routes
/// without checksum offload do.
pub(crate) fn a_route_without_gso_gets_single_datagrams<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let socket = Socket::bind("127.0.0.1:0".parse().unwrap(), &SocketOptions::default()).unwrap();
    without_checksum(&socket);
    let client = datapath.adopt(socket).unwrap();
    let options = SocketOptions { gro: false, ..SocketOptions::default() };
    let (server, server_addr) = open_with(datapath, "127.0.0.1:0", &options);
    let transmit = to(client, server_addr);
    travels(datapath, &transmit, (40, 1_000, 1));
    assert_eq!(datapath.counters().gso_fallbacks.value(), 1);
    // The other socket can still do it, so callers keep making trains: we cut them.
    assert!(datapath.segments_max(1_000) > 1);
    travels(datapath, &transmit, (40, 1_000, 1_000));
    let counters = datapath.counters();
    assert_eq!(counters.gso_fallbacks.value(), 1);
    assert_eq!(counters.send_trains.value(), 80);
    assert_eq!(counters.send_datagrams.value(), 80);
    assert_eq!(counters.send_errors.value(), 0);
    datapath.close(server);
    assert_eq!(datapath.segments_max(1_000), 1, "no open socket can do GSO");
}

pub(crate) fn too_many_segments_are_cut_by_us<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let (client, _) = open(datapath, "127.0.0.1:0");
    let options = SocketOptions { gro: false, ..SocketOptions::default() };
    let (_, server_addr) = open_with(datapath, "127.0.0.1:0", &options);
    travels(datapath, &to(client, server_addr), (300, 10, 3));
    assert_eq!(datapath.counters().gso_fallbacks.value(), 0);
    assert!(datapath.segments_max(10) > 1);
}

fn without_checksum(socket: &Socket) {
    let (value, bytes) = (1i32, 4);
    let (fd, level) = (socket.as_fd().as_raw_fd(), libc::SOL_SOCKET);
    let value = (&raw const value).cast();
    // SAFETY: `value` lives across the call and is 4 bytes long.
    let result = unsafe { libc::setsockopt(fd, level, libc::SO_NO_CHECK, value, bytes) };
    assert_eq!(result, 0);
}
