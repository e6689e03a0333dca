//! limits checks what happens when buffers, slots or turns run out.

use std::net::UdpSocket;
use std::time::Duration;

use quiclane_datapath::{Datapath, SocketOptions, Transmit};

use super::{collect, drain, open, open_with, send, to, turn};

pub(crate) fn a_burst_larger_than_all_buffers_arrives<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let (_, server_addr) = open(datapath, "127.0.0.1:0");
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for round in 0..3u8 {
        for number in 0..200u8 {
            peer.send_to(&[round, number], server_addr).unwrap();
        }
        let got = collect(datapath, 200);
        let datagrams: Vec<_> = got.into_iter().flat_map(|train| train.datagrams).collect();
        let sent: Vec<_> = (0..200u8).map(|number| vec![round, number]).collect();
        assert_eq!(datagrams, sent, "in order and complete");
    }
}

pub(crate) fn trains_max_is_kept<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let options = SocketOptions { gro: false, ..SocketOptions::default() };
    let (_, server_addr) = open_with(datapath, "127.0.0.1:0", &options);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..20u8 {
        peer.send_to(&[number], server_addr).unwrap();
    }
    let mut received = Vec::new();
    for trains_max in [0, 1, 3, 1, 7, 6, 2, 9].into_iter().cycle().take(100) {
        datapath.wait(Some(Duration::ZERO)).unwrap();
        let before = received.len();
        let trains = datapath.receive(trains_max, &mut |train| received.push(train.bytes[0]));
        assert_eq!(trains, received.len() - before);
        assert!(trains <= trains_max);
    }
    assert_eq!(received, (0..20).collect::<Vec<_>>());
}

pub(crate) fn a_flooded_socket_does_not_starve_another<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let options = SocketOptions { gro: false, ..SocketOptions::default() };
    let (flooded, flooded_addr) = open_with(datapath, "127.0.0.1:0", &options);
    let (quiet, quiet_addr) = open_with(datapath, "127.0.0.1:0", &options);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut quiet_count = 0;
    for _ in 0..100 {
        for _ in 0..60 {
            peer.send_to(&[0; 100], flooded_addr).unwrap();
        }
        peer.send_to(b"quiet", quiet_addr).unwrap();
        datapath.wait(Some(Duration::ZERO)).unwrap();
        datapath.receive(16, &mut |train| quiet_count += u32::from(train.meta.socket == quiet));
    }
    assert!(quiet_count >= 90, "{quiet_count} of 100 turns reached the quiet socket");
    datapath.close(flooded);
}

pub(crate) fn slots_run_out_and_come_back<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let mut slots: Vec<_> = std::iter::from_fn(|| datapath.slot()).collect();
    assert!(slots.len() >= 32);
    assert_eq!(datapath.counters().slots_exhausted.value(), 1);
    assert!(slots.iter().all(|slot| slot.payload.capacity() >= 65_536));
    datapath.release(slots.pop().unwrap());
    slots.push(datapath.slot().unwrap());
    assert!(datapath.slot().is_none());
    assert_eq!(datapath.counters().slots_exhausted.value(), 2);
    let all = slots.len();
    for slot in slots {
        datapath.release(slot);
    }
    assert_eq!(std::iter::from_fn(|| datapath.slot()).count(), all);
}

pub(crate) fn more_sends_than_slots<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let (client, _) = open(datapath, "127.0.0.1:0");
    let (_, server_addr) = open(datapath, "127.0.0.1:0");
    let mut received = Vec::new();
    for number in 0..1_000u16 {
        // Without a wait in between: a full house flushes itself.
        send(datapath, &to(client, server_addr), &number.to_be_bytes());
        if number % 100 == 99 {
            let got = collect(datapath, 100);
            received.extend(got.into_iter().flat_map(|train| train.datagrams));
        }
    }
    let sent: Vec<_> = (0..1_000u16).map(|number| number.to_be_bytes().to_vec()).collect();
    assert_eq!(received, sent, "in order and complete");
    assert_eq!(datapath.counters().slots_exhausted.value(), 0);
}

pub(crate) fn what_cannot_be_sent_is_counted<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let (client, client_addr) = open(datapath, "127.0.0.1:0");
    // Larger than IPv4 can carry.
    send(datapath, &to(client, client_addr), &[0; 65_508]);
    // Another address family.
    send(datapath, &to(client, "[::1]:9".parse().unwrap()), b"x");
    // An address that is not ours.
    let source = Some("192.0.2.1".parse().unwrap());
    send(datapath, &Transmit { source, ..to(client, client_addr) }, b"x");
    send(datapath, &to(client, client_addr), b"good");
    assert_eq!(collect(datapath, 1)[0].bytes, b"good");
    // A socket that is closed.
    datapath.close(client);
    send(datapath, &to(client, client_addr), b"x");
    drain(datapath, Duration::from_millis(5));
    let counters = datapath.counters();
    assert_eq!(counters.send_too_big.value(), 1);
    assert_eq!(counters.send_errors.value(), 3);
    assert_eq!(counters.send_datagrams.value(), 1);
    // Every slot is back.
    let slots: Vec<_> = std::iter::from_fn(|| datapath.slot()).collect();
    assert!(slots.len() >= 32);
}

pub(crate) fn two_thousand_sockets<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let options = SocketOptions { recv_buffer_bytes: 16 << 10, ..SocketOptions::default() };
    let sockets: Vec<_> =
        (0..2_000).map(|_| open_with(datapath, "127.0.0.1:0", &options)).collect();
    datapath.flush();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for round in 0..2u8 {
        for (_, address) in &sockets {
            peer.send_to(&[round], address).unwrap();
        }
        let mut reached: Vec<_> =
            collect(datapath, sockets.len()).iter().map(|train| train.meta.socket.0).collect();
        reached.sort_unstable();
        let mut all: Vec<_> = sockets.iter().map(|(id, _)| id.0).collect();
        all.sort_unstable();
        assert_eq!(reached, all);
    }
    for (id, _) in sockets {
        datapath.close(id);
    }
    turn(datapath, Duration::ZERO, &mut |_| panic!("nothing was sent"));
}
