//! filters checks what the kernel drops, refuses, or steers by classic BPF.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use quiclane_datapath::{Datapath, FilterInstruction, Socket, SocketOptions};

use super::{collect, drain, open_with, send, to, turn};

pub(crate) fn a_classic_program_chooses_the_socket<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let options = SocketOptions { reuseport: true, ..SocketOptions::default() };
    let first = Socket::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
    let address = first.local_addr();
    // Load byte 0 of the payload, return it.
    let program = [
        FilterInstruction { code: 0x30, jump_true: 0, jump_false: 0, value: 0 },
        FilterInstruction { code: 0x16, jump_true: 0, jump_false: 0, value: 0 },
    ];
    let mut sockets = vec![first];
    sockets.extend((1..4).map(|_| Socket::bind(address, &options).unwrap()));
    sockets[0].attach_reuseport_cbpf(&program).unwrap();
    let ids: Vec<_> = sockets.into_iter().map(|socket| datapath.adopt(socket).unwrap()).collect();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..40u8 {
        peer.send_to(&[number % 4, number], address).unwrap();
    }
    let got = collect(datapath, 40);
    for train in got {
        for datagram in train.datagrams {
            assert_eq!(train.meta.socket, ids[usize::from(datagram[0])]);
        }
    }
}

pub(crate) fn short_datagrams_are_dropped<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let options = SocketOptions { drop_shorter_than: 21, ..SocketOptions::default() };
    let (_, address) = open_with(datapath, "[::1]:0", &options);
    let peer = UdpSocket::bind("[::1]:0").unwrap();
    for bytes in [0, 21, 20, 1, 22, 1_200, 20] {
        peer.send_to(&vec![7; bytes], address).unwrap();
    }
    let got = drain(datapath, Duration::from_millis(20));
    let lengths: Vec<_> = got.iter().flat_map(|train| &train.datagrams).map(Vec::len).collect();
    assert_eq!(lengths, [21, 22, 1_200]);
}

pub(crate) fn what_the_kernel_drops_is_counted<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let options = SocketOptions {
        recv_buffer_bytes: 16 << 10,
        drop_shorter_than: 21,
        ..SocketOptions::default()
    };
    let (_, address) = open_with(datapath, "127.0.0.1:0", &options);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sent = 0;
    // Nobody has waited yet, so nobody receives.
    for round in 1..=2 {
        for _ in 0..200 {
            peer.send_to(&[7; 1_000], address).unwrap();
            sent += 1;
        }
        let mut received = 0;
        let mut count = |got: Vec<super::Got>| {
            received += got.iter().map(|train| train.datagrams.len()).sum::<usize>();
        };
        count(drain(datapath, Duration::from_millis(20)));
        // The kernel tells it with the next one.
        peer.send_to(&[7; 1_000], address).unwrap();
        sent += 1;
        count(drain(datapath, Duration::from_millis(20)));
        let dropped = datapath.counters().recv_dropped.value();
        let all = datapath.counters().recv_datagrams.value();
        assert!(dropped > 0 && received > 0, "{dropped} dropped in round {round}");
        assert_eq!(all + dropped, sent, "round {round}");
    }
    let before = datapath.counters().recv_dropped.value();
    peer.send_to(&[7; 20], address).unwrap();
    peer.send_to(&[7; 21], address).unwrap();
    drain(datapath, Duration::from_millis(20));
    assert_eq!(datapath.counters().recv_dropped.value(), before + 1, "too short");
}

pub(crate) fn a_peer_that_does_not_listen_is_told_once_each_time<D: Datapath>(
    make: impl Fn() -> D,
) {
    let datapath = &mut make();
    for (ip, wildcard) in [("127.0.0.1", "0.0.0.0:0"), ("[::1]", "[::]:0"), ("127.0.0.1", "[::]:0")]
    {
        let peer = bind_apart(ip);
        let target = peer.local_addr().unwrap();
        let options = SocketOptions { peer: Some(target), ..SocketOptions::default() };
        let (with_peer, _) = open_with(datapath, wildcard, &options);
        let (without, _) = open_with(datapath, wildcard, &SocketOptions::default());
        let ask = |datapath: &mut D| {
            for socket in [with_peer, without] {
                send(datapath, &to(socket, target), b"first");
                send(datapath, &to(socket, target), b"second");
            }
            let mut told = Vec::new();
            for _ in 0..20 {
                turn(datapath, Duration::from_millis(5), &mut |_| {});
                told.extend(std::iter::from_fn(|| datapath.refused()));
            }
            told
        };
        assert_eq!(ask(datapath), [], "it listens");
        let mut buffer = [0; 100];
        let (_, from) = peer.recv_from(&mut buffer).unwrap();
        drop(peer);
        let told = ask(datapath);
        assert!(!told.is_empty() && told.iter().all(|socket| *socket == with_peer), "{told:?}");
        assert_eq!(datapath.counters().send_errors.value(), 0);
        assert_eq!(datapath.counters().recv_errors.value(), 0);
        // It is back, and the socket still receives.
        let peer = UdpSocket::bind(target).unwrap();
        peer.send_to(b"hello", from).unwrap();
        assert_eq!(collect(datapath, 1)[0].bytes, b"hello");
    }
}

/// A socket on a port that the kernel gives to nobody by itself, so that it is still free after the
/// socket is gone.
fn bind_apart(ip: &str) -> UdpSocket {
    static NEXT: AtomicU16 = AtomicU16::new(20_000);
    let bind = |_| {
        let port = NEXT.fetch_add(1, Ordering::Relaxed);
        UdpSocket::bind(format!("{ip}:{port}")).ok()
    };
    (0..1_000).find_map(bind).unwrap()
}
