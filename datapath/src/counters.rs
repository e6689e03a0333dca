//! counters count; every drop, re-arm and fallback of a backend has a name here.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writer and any number of readers: an increment is a plain load and store,
/// never a locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker may call it.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Overwrites the value: for gauges. Only the owning worker may call it.
    #[inline]
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The value now.
    #[inline]
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[doc = $help:literal])* $name:ident),* $(,)?) => {
        /// What one datapath did since its start.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[doc = $help])* pub $name: Counter,)*
        }

        impl Counters {
            /// Name, help text and value of every counter, in declaration order.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
                [$((stringify!($name), concat!($($help),*), self.$name.value())),*].into_iter()
            }
        }
    };
}

counters! {
    /// Received messages: one GRO train each.
    recv_trains,
    /// Received datagrams.
    recv_datagrams,
    /// Received payload bytes.
    recv_bytes,
    /// Messages whose payload the buffer could not hold (MSG_TRUNC); dropped.
    recv_truncated,
    /// Messages whose control data the buffer could not hold (MSG_CTRUNC); dropped.
    recv_control_truncated,
    /// Datagrams the kernel dropped at our sockets: full receive buffer, bad checksum, or shorter
    /// than any QUIC packet. Learnt with the next datagram of the socket; a train counts as one.
    recv_dropped,
    /// Times a peer's host said that nothing listens there (ICMP port unreachable).
    recv_refused,
    /// Receive errors that were survived.
    recv_errors,
    /// Multishot receives re-armed because the buffer ring was empty (ENOBUFS).
    rearm_no_buffers,
    /// Multishot receives re-armed after an empty datagram.
    rearm_empty,
    /// Multishot receives re-armed after a completion-queue overflow or another successful end.
    rearm_ended,
    /// Multishot receives re-armed after a socket error.
    rearm_error,
    /// Completion queue overflows seen.
    cq_overflows,
    /// Sent messages: one GSO train each.
    send_trains,
    /// Sent datagrams.
    send_datagrams,
    /// Sent payload bytes.
    send_bytes,
    /// Sends delayed because the socket buffer was full (EAGAIN) or the queue too (ENOBUFS).
    send_blocked,
    /// Datagrams dropped because they exceed the path MTU (EMSGSIZE): normal for MTU probes.
    send_too_big,
    /// Datagrams dropped for any other send error.
    send_errors,
    /// Trains sent again as single datagrams because the route cannot do GSO.
    gso_fallbacks,
    /// Calls of `slot` that found all send slots in flight.
    slots_exhausted,
    /// Wake-ups by other threads.
    wakeups,
}
