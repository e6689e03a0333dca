//! uring checks what only io_uring can get wrong: receives that end and have to be armed again.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::Duration;

use quiclane_datapath::{Datapath, RingMode, Socket, SocketOptions, Transmit, Uring, UringOptions};

fn uring(recv_buffers: u16) -> Uring {
    let options = UringOptions { send_slots: 8, recv_buffers, ..UringOptions::default() };
    Uring::new(&options).expect("io_uring")
}

fn bind() -> Socket {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Socket::bind(address, &SocketOptions::default()).expect("a socket")
}

/// Receives until a few waits brought nothing. One may well: it ends with any completion.
fn drain(uring: &mut Uring) -> Vec<Vec<u8>> {
    let mut received = Vec::new();
    let mut quiet = 0;
    while quiet < 4 {
        uring.wait(Some(Duration::from_millis(5))).expect("a wait");
        let trains = uring.receive(64, &mut |train| received.push(train.bytes.to_vec()));
        quiet = if trains == 0 { quiet + 1 } else { 0 };
    }
    received
}

/// Names and values of the counters that are not zero, but those of plain traffic.
fn causes(uring: &Uring) -> Vec<(&'static str, u64)> {
    let traffic = |name: &str| name.starts_with("recv_") || name.starts_with("send_");
    let counted = uring.counters().each().map(|(name, _, value)| (name, value));
    counted.filter(|(name, value)| *value > 0 && !traffic(name)).collect()
}

#[test]
fn an_empty_datagram_arms_again_once() {
    let mut uring = uring(32);
    let socket = bind();
    let target = socket.local_addr();
    uring.adopt(socket).unwrap();
    uring.flush();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for payload in [&b"one"[..], b"", b"two", b"", b"three"] {
        peer.send_to(payload, target).unwrap();
    }
    assert_eq!(drain(&mut uring), [&b"one"[..], b"", b"two", b"", b"three"]);
    assert_eq!(causes(&uring), [("rearm_empty", 2)]);
}

#[test]
fn dry_buffers_arm_again_when_they_are_back() {
    let mut uring = uring(4);
    let socket = bind();
    let target = socket.local_addr();
    uring.adopt(socket).unwrap();
    uring.flush();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..10u8 {
        peer.send_to(&[number], target).unwrap();
    }
    let sent: Vec<_> = (0..10u8).map(|number| vec![number]).collect();
    assert_eq!(drain(&mut uring), sent);
    // 4, 4 and 2 datagrams, and twice the next one found no buffer.
    assert_eq!(causes(&uring), [("rearm_no_buffers", 2)]);
}

#[test]
fn a_socket_error_arms_again_after_a_rest() {
    let mut uring = uring(32);
    let socket = bind();
    let (target, level) = (socket.local_addr(), libc::IPPROTO_IP);
    let (fd, value) = (socket.as_fd().as_raw_fd(), 1i32);
    let value = (&raw const value).cast();
    // SAFETY: `value` lives across the call and is 4 bytes long.
    let result = unsafe { libc::setsockopt(fd, level, libc::IP_RECVERR, value, 4) };
    assert_eq!(result, 0);
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let socket = uring.adopt(socket).unwrap();
    let mut slot = uring.slot().unwrap();
    slot.payload.push(0);
    let transmit = Transmit { socket, target: closed, source: None, ecn: None, segment: None };
    uring.send(slot, &transmit);
    assert_eq!(drain(&mut uring).len(), 0);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.send_to(b"good", target).unwrap();
    assert_eq!(drain(&mut uring), [b"good"]);
    assert_eq!(causes(&uring), [("rearm_error", 1)]);
    let counters = uring.counters();
    assert_eq!((counters.recv_refused.value(), counters.recv_errors.value()), (1, 0));
}

#[test]
fn options_out_of_range_are_named() {
    for recv_buffers in [0, 3, 33, 40_000] {
        let options = UringOptions { recv_buffers, ..UringOptions::default() };
        let text = Uring::new(&options).unwrap_err().to_string();
        assert!(text.starts_with(&format!("{recv_buffers} receive buffers")), "{text}");
    }
    // One of each is enough to work.
    let mut uring =
        Uring::new(&UringOptions { send_slots: 0, recv_buffers: 1, ..UringOptions::default() })
            .unwrap();
    assert!(uring.slot().is_some());
}

#[test]
fn probing_works_from_any_thread_at_any_time() {
    let _running = uring(4);
    Uring::probe(RingMode::Defer).unwrap();
    thread::spawn(|| Uring::probe(RingMode::Defer).unwrap()).join().unwrap();
}
