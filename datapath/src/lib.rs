//! datapath moves datagrams between the kernel and us.
//!
//! Two backends carry the same trait: io_uring ([`Uring`]) and epoll with
//! recvmmsg/sendmmsg ([`Epoll`]). The engine's simulator is a third. Nothing here knows QUIC.
//!
//! ```text
//! kernel ──recv──► buffer (ours, lent) ──► Train { bytes, meta } ──► sink   buffer goes back
//! engine ──slot()──► SendSlot { payload } ──send()──► kernel ──it left──► slot is free again
//! ```
//!
//! Invariant: a received buffer is only lent while the sink runs, and a send slot belongs to
//! exactly one of {free list, caller, kernel}. Nothing is allocated after set-up.
//!
//! This is the only crate with unsafe code beside `ebpf`, whose unsafe is for the kernel's memory.

mod address;

mod arrival;

mod cmsg;

mod counters;
pub use counters::{Counter, Counters};

mod epoll;
pub use epoll::Epoll;

mod error;
pub use error::{SetupError, SocketError, WaitError};

mod flight;

mod gso;

mod outbox;

mod slab;

mod slot;
pub use slot::SendSlot;

mod socket;
pub use socket::{FilterInstruction, Socket, SocketOptions};

mod sys;

mod traffic;
pub use traffic::{Ecn, Meta, SocketId, Train, Transmit};

mod uring;
pub use uring::{RingMode, Uring, UringOptions};

mod wake;
pub use wake::Waker;

use std::net::SocketAddr;
use std::time::Duration;

/// How datagrams enter and leave one worker.
///
/// Addresses above this trait are canonical: an IPv4 peer is an IPv4 address whatever the family
/// of the socket; the backend maps them for dual-stack sockets.
pub trait Datapath {
    /// Which backend this is, for people: `io_uring`, `epoll` or `sim`.
    fn backend(&self) -> &'static str;

    /// Sends what was queued, then waits until a datagram, a completion or a wake-up arrives, or
    /// `timeout` is over (`None`: no limit, zero: only look).
    ///
    /// # Errors
    /// Only what the worker cannot survive; everything else is handled inside and counted.
    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), WaitError>;

    /// Hands at most `trains_max` received trains to `sink` and returns how many. When it returns
    /// `trains_max` there may be more, and the next `wait` must be called with a zero timeout.
    fn receive(&mut self, trains_max: usize, sink: &mut dyn FnMut(Train<'_>)) -> usize;

    /// The most segments of `segment_bytes` that one send may carry: 1 without GSO.
    fn segments_max(&self, segment_bytes: usize) -> usize;

    /// A free slot with an empty payload, or `None` while all are in flight.
    fn slot(&mut self) -> Option<SendSlot>;

    /// Takes back a slot that is not needed after all.
    fn release(&mut self, slot: SendSlot);

    /// Queues the slot's payload; it leaves with the next [`flush`](Self::flush) or
    /// [`wait`](Self::wait), or at once.
    fn send(&mut self, slot: SendSlot, transmit: &Transmit);

    /// Hands everything queued to the kernel now.
    fn flush(&mut self);

    /// Takes over a bound socket and starts receiving from it.
    ///
    /// # Errors
    /// When the kernel refuses to watch it.
    fn adopt(&mut self, socket: Socket) -> Result<SocketId, SocketError>;

    /// Binds a socket to `local` and takes it over.
    ///
    /// # Errors
    /// When it cannot be bound or watched.
    fn open(
        &mut self,
        local: SocketAddr,
        options: &SocketOptions,
    ) -> Result<SocketId, SocketError> {
        self.adopt(Socket::bind(local, options)?)
    }

    /// Stops receiving and closes the socket once nothing in flight uses it.
    fn close(&mut self, socket: SocketId);

    /// A socket with a [`peer`](SocketOptions::peer) whose host said that nothing listens there,
    /// once each time. Anybody on the path can forge that, so it proves nothing about a peer that
    /// has ever answered.
    fn refused(&mut self) -> Option<SocketId> {
        None
    }

    /// The local address of an open socket.
    fn local_addr(&self, socket: SocketId) -> Option<SocketAddr>;

    /// Datagrams and bytes, re-arms, drops and fallbacks since the start.
    fn counters(&self) -> &std::sync::Arc<Counters>;

    /// Wakes this worker out of [`wait`](Self::wait) from any thread.
    fn waker(&self) -> Waker;
}
