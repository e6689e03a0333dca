//! uring is the backend for current Linux: one io_uring per worker.
//!
//! ```text
//! wait ─► driver ──enter (submit, run, wait: one system call)──► kernel
//!            ▲                                                      │ completions
//!   recv ────┤ arm one multishot receive per socket                 ▼
//!   send ────┤ one entry per slot                    reap ─► recv: filled buffers ─► receive()
//!   waker ───┘ multishot poll of an eventfd               ─► send: free slots    ─► slot()
//! ```
//!
//! Invariant: every entry's memory outlives its last completion. Drop cancels everything, waits for
//! the last completions, and if the kernel will not give them keeps the memory for ever.
//!
//! # Minimum kernel version
//! Linux 6.1, for DEFER_TASKRUN.

use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{CancelBuilder, Fd, Timespec};
use io_uring::{cqueue, opcode};

use crate::counters::Counters;
use crate::error::{SetupError, SocketError, WaitError};
use crate::gso::Gso;
use crate::slab::Slab;
use crate::slot::SendSlot;
use crate::socket::Socket;
use crate::traffic::{SocketId, Train, Transmit};
use crate::wake::Waker;
use crate::{Datapath, sys};

mod buffers;
use buffers::{Buffers, GROUP};

mod driver;
use driver::{Driver, Patience, TAKE_MAX};

mod probe;

mod recv;
use recv::{Held, Receiver};

mod send;
use send::{Rooms, Sender};

mod token;
use token::{Generation, Token};

/// How large an io_uring datapath is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UringOptions {
    /// Trains that can be on their way out at once, 64 KiB of memory each once used. Default 256.
    /// They are reused last in, first out, so unused ones cost no memory and no cache.
    pub send_slots: usize,
    /// Buffers of 66 KiB that the kernel receives into, for all sockets together: the most trains
    /// that one wait can bring. A power of two, 1 to 32,768. Default 32, because buffers are used
    /// in turn and so every one of them passes through the cache. With 1 MiB of second-level cache
    /// a datagram in a full train costs 215 ns with 16 buffers, 230 with 32, 300 with 64 and 375
    /// with 256 (loopback, Linux 6.18). More helps thousands of sockets that receive at the same
    /// moment; fewer makes receives end with ENOBUFS and be armed again, which loses nothing but
    /// time: 1.5 µs per datagram with 10,000 such sockets and 32 buffers.
    pub recv_buffers: u16,
    /// When completions are made.
    pub mode: RingMode,
}

impl Default for UringOptions {
    fn default() -> Self {
        Self { send_slots: 256, recv_buffers: 32, mode: RingMode::Defer }
    }
}

/// When completions are made, always by the thread of the datapath. A thread of the kernel that
/// polls for submissions (SQPOLL) is no choice: on the core of a worker it halves the rate, and
/// what is handed over to it is not yet taken.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RingMode {
    /// When it asks for them (DEFER_TASKRUN, Linux 6.1): nothing interrupts it.
    #[default]
    Defer,
    /// At its next system call, whatever that is (COOP_TASKRUN, Linux 5.19).
    Coop,
}

/// Sockets served by an io_uring of this thread.
///
/// It is bound to the thread that made it:
///
/// ```compile_fail
/// fn move_away<T: Send>() {}
/// move_away::<quiclane_datapath::Uring>();
/// ```
#[derive(Debug)]
pub struct Uring {
    /// First, so that the kernel lets go of everything below before it is freed.
    driver: Driver,
    receiver: Receiver,
    sender: Sender,
    sockets: Slab<Held>,
    generation: Generation,
    gso: Gso,
    waker: Waker,
    counters: Arc<Counters>,
    retry: Box<Timespec>,
    retry_armed: bool,
    ending: bool,
}

impl Uring {
    /// Whether io_uring can be used here in this way. Ask it before starting workers, on any
    /// thread.
    ///
    /// # Errors
    /// Names what was refused and what an operator can do about it.
    pub fn probe(mode: RingMode) -> Result<(), SetupError> {
        probe::probe(mode)
    }

    /// A datapath for this thread.
    ///
    /// # Errors
    /// When the options are out of range or the kernel refuses, see [`probe`](Self::probe).
    pub fn new(options: &UringOptions) -> Result<Self, SetupError> {
        let UringOptions { send_slots, recv_buffers, .. } = *options;
        let send_slots = u32::try_from(send_slots.max(1)).unwrap_or(u32::MAX);
        let entries = send_slots.next_power_of_two().clamp(ENTRIES_MIN, ENTRIES_MAX);
        let busy = send_slots.saturating_add(recv_buffers.into()).saturating_mul(2);
        Self::with_completions(options, entries, busy.max(4 * entries).min(COMPLETIONS_MAX))
    }

    fn with_completions(
        options: &UringOptions,
        entries: u32,
        completions: u32,
    ) -> Result<Self, SetupError> {
        let UringOptions { send_slots, recv_buffers, mode } = *options;
        if !recv_buffers.is_power_of_two() {
            return Err(SetupError::RecvBuffers { given: recv_buffers });
        }
        let waker = Waker::new()?;
        let driver = Driver::open(entries, completions, mode)
            .map_err(|source| SetupError::uring("io_uring_setup", source))?;
        let mut buffers = Buffers::new(recv_buffers)
            .map_err(|source| SetupError::uring("allocating receive buffers", source))?;
        buffers
            .register(&driver.submitter())
            .map_err(|source| SetupError::uring("IORING_REGISTER_PBUF_RING", source))?;
        let mut uring = Self {
            driver,
            receiver: Receiver::new(buffers, recv_buffers),
            sender: Sender::new(u32::try_from(send_slots.max(1)).unwrap_or(u32::MAX)),
            sockets: Slab::new(),
            generation: Generation::default(),
            gso: Gso::new(),
            waker,
            counters: Arc::default(),
            retry: Box::new(Timespec::from(RETRY)),
            retry_armed: false,
            ending: false,
        };
        uring.arm_waker();
        Ok(uring)
    }

    /// The same with trains of at most `segments` datagrams; for before sockets are opened.
    #[must_use]
    pub fn with_segments(mut self, segments: usize) -> Self {
        self.gso.limit(segments);
        self
    }

    /// Watches the eventfd. Multishot polls are edge-triggered, so it is never read.
    fn arm_waker(&mut self) {
        let Some(event) = self.waker.event() else {
            return;
        };
        let readable = u32::from(libc::POLLIN.cast_unsigned());
        let entry = opcode::PollAdd::new(Fd(event.as_raw_fd()), readable).multi(true).build();
        // SAFETY: the entry points to nothing.
        unsafe { self.driver.push(entry.user_data(Token::Wake.encode())) };
    }

    /// Starts the timer for what nobody announces: room in a device queue, the end of an error.
    fn arm_retry(&mut self) {
        if self.retry_armed || !(self.sender.delays() || self.receiver.rests()) {
            return;
        }
        self.retry_armed = true;
        let entry = opcode::Timeout::new(&raw const *self.retry).build();
        // SAFETY: the time is boxed and never written again.
        unsafe { self.driver.push(entry.user_data(Token::Retry.encode())) };
    }

    /// Takes all completions.
    fn reap(&mut self) {
        let mut space = [const { MaybeUninit::uninit() }; TAKE_MAX];
        loop {
            let taken = self.driver.take(&mut space);
            for completion in taken {
                self.complete(completion);
            }
            if !taken.is_empty() {
                continue;
            }
            if !self.driver.overflowed() {
                break;
            }
            self.counters.cq_overflows.add(1);
            if self.driver.enter(Patience::Look).is_err() {
                return;
            }
        }
        let (sender, mut rooms) = self.sending();
        sender.land(&mut rooms);
    }

    fn complete(&mut self, completion: &cqueue::Entry) {
        let result = completion.result();
        let Self { driver, receiver, sockets, counters, .. } = self;
        match Token::decode(completion.user_data()) {
            Some(Token::Receive(handle)) => {
                receiver.complete(handle, completion, sockets, driver, counters);
                self.forget_if_released(handle.id);
            }
            Some(Token::Cancel(handle)) => receiver.cancelled(handle, result, sockets, driver),
            Some(Token::Send(handle)) => {
                let (sender, mut rooms) = self.sending();
                sender.complete(handle, result, &mut rooms);
            }
            Some(Token::Wake) if !cqueue::more(completion.flags()) && !self.ending => {
                self.arm_waker();
            }
            Some(Token::Retry) if !self.ending => {
                self.retry_armed = false;
                receiver.rouse(sockets, driver);
                let (sender, mut rooms) = self.sending();
                sender.retry(&mut rooms);
            }
            Some(Token::Wake | Token::Retry | Token::Shutdown) | None => {}
        }
    }

    fn sending(&mut self) -> (&mut Sender, Rooms<'_>) {
        let Self { driver, sender, sockets, gso, counters, .. } = self;
        (sender, Rooms { sockets, driver, gso, counters })
    }

    fn forget_if_released(&mut self, id: u32) {
        if self.sockets.get(id).is_some_and(Held::released) {
            self.sockets.remove(id);
        }
    }
}

impl Datapath for Uring {
    fn backend(&self) -> &'static str {
        "io_uring"
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), WaitError> {
        self.receiver.feed(&mut self.sockets, &mut self.driver);
        self.arm_retry();
        let look = timeout == Some(Duration::ZERO) || self.receiver.has_work();
        let patience = match look || !self.waker.doze() {
            true => Patience::Look,
            false => Patience::Wait(sys::finite(timeout)),
        };
        let entered = self.driver.enter(patience);
        if !look {
            self.waker.rise();
        }
        self.reap();
        if self.waker.take() {
            self.counters.wakeups.add(1);
        }
        entered.map_err(|source| WaitError::call("io_uring_enter", source))
    }

    fn receive(&mut self, trains_max: usize, sink: &mut dyn FnMut(Train<'_>)) -> usize {
        self.receiver.deliver(trains_max, &mut self.sockets, &self.counters, sink)
    }

    fn segments_max(&self, segment_bytes: usize) -> usize {
        self.gso.segments_max(segment_bytes)
    }

    fn slot(&mut self) -> Option<SendSlot> {
        if let Some(slot) = self.sender.flights.lend() {
            return Some(slot);
        }
        self.flush();
        let slot = self.sender.flights.lend();
        if slot.is_none() {
            self.counters.slots_exhausted.add(1);
        }
        slot
    }

    fn release(&mut self, slot: SendSlot) {
        self.sender.flights.release(slot);
    }

    fn send(&mut self, slot: SendSlot, transmit: &Transmit) {
        let (sender, mut rooms) = self.sending();
        sender.send(slot, transmit, &mut rooms);
    }

    fn flush(&mut self) {
        self.driver.submit();
        self.reap();
    }

    fn adopt(&mut self, socket: Socket) -> Result<SocketId, SocketError> {
        self.generation = self.generation.next();
        let held = Held::new(socket, self.generation, self.gso.opened());
        let id = match self.sockets.insert(held, SOCKETS_MAX) {
            Ok(id) => id,
            Err(held) => {
                self.gso.closed(held.gso);
                return Err(SocketError::TooMany { limit: SOCKETS_MAX });
            }
        };
        if let Some(held) = self.sockets.get_mut(id) {
            self.receiver.arm(held, id, &mut self.driver);
        }
        Ok(SocketId(id))
    }

    fn close(&mut self, socket: SocketId) {
        let Some(held) = self.sockets.get_mut(socket.0) else {
            return;
        };
        if held.closing {
            return;
        }
        held.closing = true;
        self.gso.closed(held.gso);
        self.receiver.cancel(held, socket.0, &mut self.driver);
        self.forget_if_released(socket.0);
    }

    fn refused(&mut self) -> Option<SocketId> {
        self.receiver.refused.pop_front().or_else(|| self.sender.refused.pop_front())
    }

    fn local_addr(&self, socket: SocketId) -> Option<SocketAddr> {
        let held = self.sockets.get(socket.0)?;
        (!held.closing).then(|| held.socket.local_addr())
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        self.flush();
        self.ending = true;
        let ids: Vec<_> = self.sockets.ids().collect();
        for id in ids {
            self.close(SocketId(id));
        }
        for _ in 0..SHUTDOWN_ATTEMPTS {
            if self.driver.outstanding() == 0 {
                // Whether it succeeds or not: nothing is left that could use a buffer.
                let _ = self.driver.submitter().unregister_buf_ring(GROUP);
                return;
            }
            let entry = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
            // SAFETY: the entry points to nothing.
            unsafe { self.driver.push(entry.user_data(Token::Shutdown.encode())) };
            if self.driver.enter(Patience::Wait(Some(SHUTDOWN_WAIT))).is_err() {
                break;
            }
            self.reap();
        }
        self.receiver.leak();
        self.sender.leak();
    }
}

/// Entries of the submission queue. A full queue costs a system call, an entry 64 bytes: with one
/// entry per slot it never fills by sending, above 4,096 it would leave the second-level cache.
const ENTRIES_MIN: u32 = 64;
const ENTRIES_MAX: u32 = 4096;

/// The kernel's own limit.
const COMPLETIONS_MAX: u32 = 65_536;

/// Sockets per datapath, the same for both backends.
const SOCKETS_MAX: u32 = 1 << 24;

/// How soon a full device queue (ENOBUFS) and a failed receive are tried again. Nobody announces
/// when they are over; a 10 Gbit/s device empties a queue of 1,000 full packets in about 1.2 ms.
const RETRY: Duration = Duration::from_millis(1);

/// A cancelled receive ends within microseconds; after this many waits something is very wrong.
const SHUTDOWN_ATTEMPTS: u32 = 64;
const SHUTDOWN_WAIT: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::SocketOptions;

    /// 40 datagrams, room for 16 completions: the kernel ends the receive, with success.
    #[test]
    fn a_full_completion_queue_loses_nothing() {
        let options = UringOptions { send_slots: 4, recv_buffers: 64, ..UringOptions::default() };
        let mut uring = Uring::with_completions(&options, 8, 16).unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let socket = Socket::bind(address, &SocketOptions::default()).unwrap();
        let target = socket.local_addr();
        uring.adopt(socket).unwrap();
        uring.flush();
        let peer = UdpSocket::bind(address).unwrap();
        for round in 1..=3 {
            for number in 0..40u8 {
                peer.send_to(&[number], target).unwrap();
            }
            let mut received = Vec::new();
            while received.len() < 40 {
                uring.wait(Some(Duration::from_millis(200))).unwrap();
                let trains = uring.receive(64, &mut |train| received.push(train.bytes[0]));
                assert!(trains > 0, "{} of 40 arrived", received.len());
            }
            assert_eq!(received, (0..40).collect::<Vec<_>>());
            assert!(uring.counters.cq_overflows.value() >= round);
            assert!(uring.counters.rearm_ended.value() >= round);
        }
    }

    /// More entries than the submission queue holds, most of them refused, and hardly any room
    /// for the answers.
    #[test]
    fn refused_sends_are_counted_once_even_when_the_completion_queue_is_full() {
        for mode in [RingMode::Defer, RingMode::Coop] {
            refused_sends_are_counted_once(mode);
        }
    }

    fn refused_sends_are_counted_once(mode: RingMode) {
        let options = UringOptions { send_slots: 200, recv_buffers: 4, mode };
        let mut uring = Uring::with_completions(&options, 8, 16).unwrap();
        let address = "127.0.0.1:0".parse().unwrap();
        let socket = Socket::bind(address, &SocketOptions::default()).unwrap();
        let target = socket.local_addr();
        let socket = uring.adopt(socket).unwrap();
        for number in 0..200u32 {
            let mut slot = uring.slot().unwrap();
            slot.payload.resize(if number % 10 == 0 { 1 } else { 65_530 }, 0);
            uring.send(slot, &Transmit { socket, target, source: None, ecn: None, segment: None });
        }
        uring.flush();
        assert_eq!(uring.counters.send_too_big.value(), 180, "{mode:?}");
        assert_eq!(uring.counters.send_datagrams.value(), 20, "{mode:?}");
        let slots: Vec<_> = std::iter::from_fn(|| uring.slot()).collect();
        assert_eq!(slots.len(), 200, "{mode:?}");
        slots.into_iter().for_each(|slot| uring.release(slot));
        let outstanding = uring.driver.outstanding();
        assert!(outstanding <= 2, "{mode:?}: the receive and the waker, not {outstanding}");
    }
}
