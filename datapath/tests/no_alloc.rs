//! no_alloc proves that nothing is allocated per datagram, by counting what the allocator is asked.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use quiclane_datapath::{
    Datapath, Ecn, Epoll, Socket, SocketOptions, Transmit, Uring, UringOptions,
};

struct Counting;

thread_local! {
    /// Per thread, so that tests that run at the same time do not count each other.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Single datagrams, trains, cut trains, empty datagrams and dry buffers, back and forth.
fn exercise(datapath: &mut impl Datapath) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let bind = || Socket::bind(address, &SocketOptions::default()).expect("a socket");
    let (first, second) = (bind(), bind());
    let target = second.local_addr();
    let source = Some(target.ip());
    let socket = datapath.adopt(first).expect("adopted");
    datapath.adopt(second).expect("adopted");
    let mut before = 0;
    for round in 0..300 {
        if round == 100 {
            before = ALLOCATIONS.with(Cell::get);
        }
        for (bytes, segment) in [(1_200, None), (6_000, Some(1_200)), (2_000, Some(10)), (0, None)]
        {
            let mut slot = datapath.slot().expect("a slot");
            slot.payload.resize(bytes, 1);
            let ecn = Some(Ecn::Ect0);
            datapath.send(slot, &Transmit { socket, target, source, ecn, segment });
        }
        let mut received = 0;
        let mut waits = 0;
        while received < 1 + 5 + 200 + 1 {
            datapath.wait(Some(Duration::from_millis(50))).expect("a wait");
            datapath.receive(64, &mut |train| received += train.datagrams().count());
            waits += 1;
            assert!(waits < 1_000, "{received} datagrams arrived");
        }
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0);
}

#[test]
fn epoll_allocates_nothing_per_datagram() {
    exercise(&mut Epoll::new(16).unwrap());
}

#[test]
fn uring_allocates_nothing_per_datagram() {
    let options = UringOptions { send_slots: 16, recv_buffers: 8, ..UringOptions::default() };
    exercise(&mut Uring::new(&options).unwrap());
}
