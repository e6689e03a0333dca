//! send hands slots to the kernel and learns which of them left.
//!
//! ```text
//! push ─► boarding ─► submit ─┬─ no completion ─► it left: the slot is free
//!           ▲                 ├─ EAGAIN ─► pushed again, to wait inside the kernel for room
//!           │                 └─ ENOBUFS ─► delayed until the retry timer
//!           └──────────────────────────────────┘
//! ```
//! A train that the route cannot carry leaves by sendmmsg instead, all of it in one call.
//!
//! UDP copies the payload while it sends. So a send that must not wait (MSG_DONTWAIT) is over when
//! `submit` returns, and with SKIP_SUCCESS only errors make completions: a slot is free again one
//! system call after it was queued, and no completion of a send ever cuts a wait short.
//!
//! Invariant: a slot has at most one entry with the kernel. Its header, name, control messages and
//! payload are not touched until that one was answered or is known to have left.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::types::Fd;
use io_uring::{opcode, squeue};

use super::driver::Driver;
use super::recv::Held;
use super::token::{Generation, Handle, Token};
use crate::counters::Counters;
use crate::flight::{Flights, Next};
use crate::gso::Gso;
use crate::outbox::{Outbox, Queue};
use crate::slab::Slab;
use crate::slot::SendSlot;
use crate::sys;
use crate::traffic::{SocketId, Transmit};

/// The part of a message that the kernel reads through pointers, beside the flight.
struct Head {
    header: libc::msghdr,
    part: libc::iovec,
    /// Tells the completions of successive entries of this slot apart.
    generation: Generation,
    attempt: Attempt,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Attempt {
    /// Nothing is with the kernel.
    None,
    /// It is over as soon as the kernel took it.
    Now,
    /// It is over with its completion.
    Patient,
}

/// A slot whose entry was pushed as number `entry`.
#[derive(Clone, Copy, Debug)]
struct Boarding {
    handle: Handle,
    entry: u64,
}

/// The sending half of the backend.
pub(super) struct Sender {
    pub(super) flights: Flights,
    heads: Box<[Box<Head>]>,
    boarding: VecDeque<Boarding>,
    /// Slots that wait for the retry timer.
    delayed: VecDeque<u32>,
    /// Sockets that learnt, when they were to send more, that nothing listens at their peer.
    pub(super) refused: VecDeque<SocketId>,
    /// For cut trains.
    outbox: Outbox,
}

/// What the sending half needs of the other rooms.
pub(super) struct Rooms<'r> {
    pub(super) sockets: &'r mut Slab<Held>,
    pub(super) driver: &'r mut Driver,
    pub(super) gso: &'r mut Gso,
    pub(super) counters: &'r Counters,
}

impl Sender {
    pub(super) fn new(slots: u32) -> Self {
        let head = || Head {
            header: sys::empty_header(),
            part: libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 },
            generation: Generation::default(),
            attempt: Attempt::None,
        };
        Self {
            flights: Flights::new(slots),
            heads: (0..slots).map(|_| Box::new(head())).collect(),
            boarding: VecDeque::with_capacity(slots as usize),
            delayed: VecDeque::with_capacity(slots as usize),
            refused: VecDeque::new(),
            outbox: Outbox::new(),
        }
    }

    /// Whether a slot waits for the retry timer.
    pub(super) fn delays(&self) -> bool {
        !self.delayed.is_empty()
    }

    /// Queues a slot.
    pub(super) fn send(&mut self, slot: SendSlot, transmit: &Transmit, rooms: &mut Rooms<'_>) {
        let Some((index, flight)) = self.flights.board(slot) else {
            return;
        };
        match rooms.sockets.get_mut(transmit.socket.0).filter(|held| !held.closing) {
            Some(held) => {
                let gso = held.gso.then_some(&*rooms.gso);
                flight.address(transmit, held.socket.family(), gso);
                held.sends += 1;
                self.dispatch(index, rooms);
            }
            None => {
                rooms.counters.send_errors.add(1);
                self.flights.free(index);
            }
        }
    }

    fn dispatch(&mut self, index: u32, rooms: &mut Rooms<'_>) {
        match self.flights.get_mut(index).is_some_and(|flight| flight.is_cut()) {
            true => self.send_cut(index, rooms),
            false => self.push(index, Attempt::Now, rooms),
        }
    }

    /// Sends what is left of a cut train.
    fn send_cut(&mut self, index: u32, rooms: &mut Rooms<'_>) {
        // What was queued before leaves before.
        rooms.driver.submit();
        let Some(flight) = self.flights.get_mut(index) else {
            return;
        };
        let id = flight.socket;
        let Some(held) = rooms.sockets.get_mut(id) else {
            return;
        };
        let before = held.gso;
        let mut queue = Queue::default();
        queue.push(index, &mut self.flights);
        let Held { socket, gso, .. } = held;
        let next = self.outbox.send(socket, &mut queue, gso, &mut self.flights, rooms.counters);
        if before && !held.gso && !held.closing {
            rooms.gso.refused();
        }
        match next {
            Next::Done | Next::More => self.done(id, rooms),
            Next::Writable => self.push(index, Attempt::Patient, rooms),
            Next::Later => self.delayed.push_back(index),
        }
    }

    /// Pushes the next message of a slot.
    fn push(&mut self, index: u32, attempt: Attempt, rooms: &mut Rooms<'_>) {
        let Some(flight) = self.flights.get_mut(index) else {
            return;
        };
        let Some(head) = self.heads.get_mut(index as usize) else {
            return;
        };
        let Some(held) = rooms.sockets.get(flight.socket) else {
            return;
        };
        let Head { header, part, generation, attempt: current } = &mut **head;
        flight.point(flight.message(0).unwrap_or_default(), header, part);
        *generation = generation.next();
        *current = attempt;
        let handle = Handle { id: index, generation: *generation };
        let fd = Fd(held.socket.as_fd().as_raw_fd());
        let (message, skip) = match attempt {
            Attempt::Now => (libc::MSG_DONTWAIT.cast_unsigned(), squeue::Flags::SKIP_SUCCESS),
            Attempt::None | Attempt::Patient => (0, squeue::Flags::empty()),
        };
        let entry = opcode::SendMsg::new(fd, header).flags(message).build();
        let entry = entry.user_data(Token::Send(handle).encode()).flags(skip);
        // SAFETY: header and part are boxed, the flight does not move, its payload is not touched
        // until it is settled, and the socket stays open while it counts a send.
        let entry = unsafe { rooms.driver.push(entry) };
        if attempt == Attempt::Now {
            self.boarding.push_back(Boarding { handle, entry });
        }
    }

    /// Takes a completion of a send: an error, or the end of a patient one.
    pub(super) fn complete(&mut self, handle: Handle, result: i32, rooms: &mut Rooms<'_>) {
        let head = self.heads.get_mut(handle.id as usize);
        let head = head.filter(|head| head.generation == handle.generation);
        let Some(head) = head.filter(|head| head.attempt != Attempt::None) else {
            return;
        };
        head.attempt = Attempt::None;
        let answer = if result < 0 { Err(-result) } else { Ok(()) };
        self.settle(handle.id, answer, rooms);
    }

    /// Frees the slots that left. Only right after all completions were taken: then what the
    /// kernel took and did not complain about has left.
    pub(super) fn land(&mut self, rooms: &mut Rooms<'_>) {
        let taken = rooms.driver.taken();
        while let Some(Boarding { handle, entry }) = self.boarding.front().copied() {
            if entry >= taken {
                return;
            }
            self.boarding.pop_front();
            let Some(head) = self.heads.get_mut(handle.id as usize) else {
                continue;
            };
            // An answered one is not on board any more, whether it was pushed again or not.
            if head.generation == handle.generation && head.attempt == Attempt::Now {
                head.attempt = Attempt::None;
                rooms.driver.silently_done();
                self.settle(handle.id, Ok(()), rooms);
            }
        }
    }

    /// Pushes again what found a queue full.
    pub(super) fn retry(&mut self, rooms: &mut Rooms<'_>) {
        for _ in 0..self.delayed.len() {
            let Some(index) = self.delayed.pop_front() else {
                return;
            };
            self.dispatch(index, rooms);
        }
    }

    fn settle(&mut self, index: u32, answer: Result<(), i32>, rooms: &mut Rooms<'_>) {
        let Some(flight) = self.flights.get_mut(index) else {
            return;
        };
        let id = flight.socket;
        let Some(held) = rooms.sockets.get_mut(id) else {
            return;
        };
        if answer == Err(libc::ECONNREFUSED) {
            // The news are told once: who receives will not hear of them.
            self.refused.push_back(SocketId(id));
        }
        let before = held.gso;
        let next = flight.settle(answer, &mut held.gso, rooms.counters);
        if before && !held.gso && !held.closing {
            rooms.gso.refused();
        }
        match next {
            Next::More => self.dispatch(index, rooms),
            Next::Writable => self.push(index, Attempt::Patient, rooms),
            Next::Later => self.delayed.push_back(index),
            Next::Done => {
                self.flights.free(index);
                self.done(id, rooms);
            }
        }
    }

    /// A slot of socket `id` is free again.
    fn done(&mut self, id: u32, rooms: &mut Rooms<'_>) {
        let Some(held) = rooms.sockets.get_mut(id) else {
            return;
        };
        held.sends -= 1;
        if held.released() {
            rooms.sockets.remove(id);
        }
    }

    /// Keeps what the kernel may still read.
    pub(super) fn leak(&mut self) {
        Box::leak(std::mem::take(&mut self.heads));
        self.flights.leak();
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { flights: _, heads, boarding, delayed, refused, outbox: _ } = self;
        formatter
            .debug_struct("Sender")
            .field("slots", &heads.len())
            .field("boarding", &boarding.len())
            .field("delayed", &delayed.len())
            .field("refused", &refused.len())
            .finish_non_exhaustive()
    }
}
