//! full checks sends that find a queue full: nothing is dropped, nothing spins, all arrives.
//!
//! On plain loopback no queue ever fills. So each test gives its thread a network namespace with a
//! rate limit on loopback, which needs root and `tc`; without them it says so and passes.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::thread;
use std::time::Duration;

use quiclane_datapath::{Datapath, Epoll, Socket, SocketOptions, Transmit, Uring, UringOptions};

fn epoll() -> Epoll {
    Epoll::new(256).expect("an epoll instance")
}

fn uring() -> Uring {
    Uring::new(&UringOptions::default()).expect("io_uring")
}

/// EAGAIN: 64 KiB of send buffer, 240 kB to send at 2 MB/s.
#[test]
fn epoll_waits_for_room_in_the_socket() {
    limited("limit 1mb", || all_arrive(&mut epoll(), false));
}

#[test]
fn uring_waits_for_room_in_the_socket() {
    limited("limit 1mb", || all_arrive(&mut uring(), false));
}

/// ENOBUFS: the device takes 20 kB and drops the rest, which a socket with IP_RECVERR is told.
#[test]
fn epoll_waits_for_room_in_the_device() {
    limited("limit 20kb", || all_arrive(&mut epoll(), true));
}

#[test]
fn uring_waits_for_room_in_the_device() {
    limited("limit 20kb", || all_arrive(&mut uring(), true));
}

fn all_arrive(datapath: &mut impl Datapath, tell: bool) {
    let options = SocketOptions { send_buffer_bytes: 32 << 10, ..SocketOptions::default() };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let client = Socket::bind(address, &options).expect("a socket");
    let server = Socket::bind(address, &options).expect("a socket");
    if tell {
        set(&client, libc::IPPROTO_IP, libc::IP_RECVERR);
    }
    let target = server.local_addr();
    let socket = datapath.adopt(client).expect("adopted");
    datapath.adopt(server).expect("adopted");
    for number in 0..200u8 {
        let mut slot = datapath.slot().expect("a slot");
        slot.payload.resize(1_200, number);
        let transmit = Transmit { socket, target, source: None, ecn: None, segment: None };
        datapath.send(slot, &transmit);
    }
    let mut seen = [0; 200];
    let mut waits = 0;
    while seen.iter().sum::<u32>() < 200 {
        waits += 1;
        assert!(waits < 2_000, "{} of 200 arrived", seen.iter().sum::<u32>());
        datapath.wait(Some(Duration::from_millis(500))).expect("a wait");
        datapath.receive(64, &mut |train| {
            train.datagrams().for_each(|datagram| seen[usize::from(datagram[0])] += 1);
        });
    }
    assert_eq!(seen, [1; 200]);
    let counters = datapath.counters();
    assert!(counters.send_blocked.value() > 0, "the limit was never reached");
    assert_eq!(counters.send_datagrams.value(), 200);
    assert_eq!(counters.send_errors.value(), 0);
    let slots = std::iter::from_fn(|| datapath.slot()).count();
    assert_eq!(slots, 256, "every slot is back");
}

/// Runs `test` behind a rate limit of 2 MB/s.
fn limited(queue: &str, test: impl FnOnce() + Send) {
    thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: no pointers are involved; it concerns this thread only.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                eprintln!("skipped: no network namespace without CAP_SYS_ADMIN");
                return;
            }
            let shape = format!("qdisc add dev lo root tbf rate 16mbit burst 8kb {queue}");
            if run("ip", "link set lo up mtu 1500") && run("tc", &shape) {
                test();
            } else {
                eprintln!("skipped: no `ip`, no `tc` or no tbf in this kernel");
            }
        });
    });
}

fn run(program: &str, arguments: &str) -> bool {
    let output = Command::new(program).args(arguments.split(' ')).output();
    output.is_ok_and(|output| output.status.success())
}

fn set(socket: &Socket, level: i32, name: i32) {
    let (value, bytes) = (1i32, 4);
    let (fd, value) = (socket.as_fd().as_raw_fd(), (&raw const value).cast());
    // SAFETY: `value` lives across the call and is 4 bytes long.
    let result = unsafe { libc::setsockopt(fd, level, name, value, bytes) };
    assert_eq!(result, 0);
}
