//! The table of packets through the classic BPF program on real sockets.
//!
//! A short header whose worker byte names a worker must reach that worker's socket; everything
//! else goes where the kernel's hash says, and `route` has the last word on all of it.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod common;

use std::net::UdpSocket;

use common::{law_holds, perf_server, total};
use quiclane::{Io, Steering};
use quiclane_wire::SHORT_HEADER_CID_AT;
use quiclane_wire::fixtures::{fixtures, world};

const WORKERS: usize = 4;

fn steered(io: Io, server_id: &[u8], packets: &[Vec<u8>]) {
    let server = perf_server("127.0.0.1:0", WORKERS, |config| {
        config.io = io;
        let server = config.server.as_mut().unwrap();
        server.steering = Steering::Cbpf;
        server.server_id = server_id.to_vec();
    });
    let worker_at = SHORT_HEADER_CID_AT + 1 + server_id.len();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut expected = [0; WORKERS];
    let mut sent = 0;
    for bytes in packets {
        // The kernel's filter takes what is shorter than any QUIC packet.
        if bytes.len() < quiclane_wire::SHORT_DATAGRAM_LEN_MIN {
            continue;
        }
        socket.send_to(bytes, server.address()).unwrap();
        sent += 1;
        if bytes[0] & 0x80 == 0
            && let Some(count) = expected.get_mut(usize::from(bytes[worker_at]))
        {
            *count += 1;
        }
    }
    for _ in 0..500 {
        if total(&server.snapshots(), |s| s.received) == sent {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let snapshots = server.finish();
    law_holds(&snapshots);
    assert_eq!(total(&snapshots, |s| s.received), sent);
    assert!(expected.iter().sum::<u64>() >= 8, "the table steers: {expected:?}");
    // All long headers of one client hash to one worker: exactly one may have more.
    let more = snapshots.iter().zip(expected).filter(|(s, n)| s.received > *n).count();
    let less = snapshots.iter().zip(expected).filter(|(s, n)| s.received < *n).count();
    assert_eq!(less, 0, "{expected:?} {snapshots:?}");
    assert!(more <= 1, "{expected:?} {snapshots:?}");
}

#[test]
fn worker_bytes_choose_sockets() {
    let (layout, ..) = world();
    let server_id = layout.server_id();
    let packets: Vec<_> = fixtures().map(|f| f.bytes.as_slice().to_vec()).collect();
    for io in [Io::Epoll, Io::Uring] {
        steered(io, server_id.as_slice(), &packets);
    }
}

#[test]
fn whatever_the_server_id_is_long() {
    for length in [0, 1, 4, 8] {
        let packet = |worker: usize| {
            let mut packet = vec![0x40; 30];
            packet[SHORT_HEADER_CID_AT + 1 + length] = u8::try_from(worker).unwrap();
            packet
        };
        let packets: Vec<_> = (0..40).map(|n| packet(n % WORKERS)).collect();
        steered(Io::Auto, &vec![1; length], &packets);
    }
}
