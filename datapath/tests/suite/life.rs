//! life checks waiting, waking, opening and closing.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use quiclane_datapath::{Datapath, Socket, SocketOptions};

use super::{collect, drain, now, open, send, to};

pub(crate) fn a_wait_ends_in_time<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let (_, _) = open(datapath, "127.0.0.1:0");
    // The fastest of many: a busy machine delays some waits, a wrong timer delays all.
    let mut fastest = |timeout| {
        let one = |_| {
            let start = now();
            datapath.wait(Some(timeout)).unwrap();
            start.elapsed()
        };
        (0..100).map(one).min().unwrap()
    };
    assert!(fastest(Duration::ZERO) < Duration::from_millis(1));
    // Timers are finer than a millisecond.
    assert!(fastest(Duration::from_micros(200)) < Duration::from_millis(1));
    let start = now();
    datapath.wait(Some(Duration::from_millis(30))).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(29), "{:?}", start.elapsed());
}

pub(crate) fn a_wake_up_ends_a_wait<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let waker = datapath.waker();
    // Before the wait.
    waker.wake();
    waker.wake();
    datapath.wait(None).unwrap();
    assert_eq!(datapath.counters().wakeups.value(), 1);
    // During the wait, many times.
    for round in 2..12 {
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(2));
                waker.wake();
            });
            while datapath.counters().wakeups.value() < round {
                datapath.wait(None).unwrap();
            }
        });
    }
    // A timeout that is longer than any clock.
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(5));
            waker.wake();
        });
        let start = now();
        while datapath.counters().wakeups.value() < 12 {
            datapath.wait(Some(Duration::MAX)).unwrap();
        }
        assert!(start.elapsed() >= Duration::from_millis(3));
    });
    // And the next wait is not cut short for ever.
    let start = now();
    while start.elapsed() < Duration::from_millis(20) {
        datapath.wait(Some(Duration::from_millis(20))).unwrap();
    }
    assert_eq!(datapath.counters().wakeups.value(), 12);
}

pub(crate) fn no_wake_up_is_lost<D: Datapath>(make: impl Fn() -> D) {
    const WORK: u32 = 5_000;
    let datapath = &mut make();
    let waker = datapath.waker();
    let (work, done) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..WORK {
                work.fetch_add(1, Ordering::Relaxed);
                waker.wake();
                // A lost wake-up would hang here; let the worker fall asleep now and then.
                while round % 2 == 0 && done.load(Ordering::Relaxed) <= round {
                    thread::yield_now();
                }
            }
        });
        while done.load(Ordering::Relaxed) < WORK {
            datapath.wait(None).unwrap();
            done.store(work.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    });
    assert!(datapath.counters().wakeups.value() >= u64::from(WORK / 2));
}

pub(crate) fn a_port_is_free_after_close<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let (mut id, address) = open(datapath, "127.0.0.1:0");
    for _ in 0..100 {
        datapath.close(id);
        datapath.close(id);
        assert_eq!(datapath.local_addr(id), None);
        let start = now();
        let socket = loop {
            match Socket::bind(address, &SocketOptions::default()) {
                Ok(socket) => break socket,
                Err(error) => assert!(start.elapsed() < Duration::from_secs(1), "{error}"),
            }
            datapath.wait(Some(Duration::ZERO)).unwrap();
        };
        id = datapath.adopt(socket).unwrap();
    }
    send(datapath, &to(id, address), b"to itself");
    assert_eq!(collect(datapath, 1)[0].bytes, b"to itself");
}

pub(crate) fn a_port_is_free_after_drop<D: Datapath>(make: impl Fn() -> D) {
    let mut address = "127.0.0.1:0".to_owned();
    for _ in 0..100 {
        let mut datapath = make();
        let (id, local) = open(&mut datapath, &address);
        address = local.to_string();
        send(&mut datapath, &to(id, local), b"never read");
        datapath.wait(Some(Duration::ZERO)).unwrap();
        send(&mut datapath, &to(id, local), b"never sent");
    }
}

pub(crate) fn last_words_leave_before_a_socket_closes<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    for _ in 0..10 {
        let (id, _) = open(datapath, "127.0.0.1:0");
        send(datapath, &to(id, peer.local_addr().unwrap()), b"goodbye");
        datapath.close(id);
        datapath.flush();
        let mut bytes = [0; 16];
        assert_eq!(peer.recv(&mut bytes).unwrap(), 7);
    }
}

pub(crate) fn nothing_is_delivered_after_close<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (id, address) = open(datapath, "127.0.0.1:0");
    for _ in 0..10 {
        peer.send_to(b"late", address).unwrap();
    }
    datapath.wait(Some(Duration::from_millis(50))).unwrap();
    assert_eq!(datapath.receive(1, &mut |_| ()), 1);
    datapath.close(id);
    assert!(drain(datapath, Duration::from_millis(5)).is_empty());
}

pub(crate) fn closing_and_opening_with_traffic<D: Datapath>(make: impl Fn() -> D) {
    let datapath = &mut make();
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut open_sockets: Vec<_> = (0..8).map(|_| open(datapath, "127.0.0.1:0")).collect();
    for round in 0..200usize {
        for (_, address) in &open_sockets {
            peer.send_to(&address.port().to_be_bytes(), address).unwrap();
        }
        let (old, _) = open_sockets.remove(round % 8);
        datapath.close(old);
        open_sockets.push(open(datapath, "127.0.0.1:0"));
        datapath.wait(Some(Duration::ZERO)).unwrap();
        datapath.receive(16, &mut |train| {
            let here = open_sockets.iter().find(|(id, _)| *id == train.meta.socket);
            let (_, address) = here.expect("an open socket");
            for datagram in train.datagrams() {
                assert_eq!(datagram, address.port().to_be_bytes(), "meant for this very socket");
            }
        });
    }
}
