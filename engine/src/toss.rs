//! toss carries datagrams that reached the wrong worker to the one that owns them.
//!
//! One bounded mailbox a worker. A full mailbox drops, as a full socket buffer does: QUIC
//! retransmits. A tossed datagram is never tossed again.

use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use crossbeam::queue::ArrayQueue;
use quiclane_datapath::{Meta, Waker};

/// A datagram on its way home.
#[derive(Debug)]
pub(crate) struct Tossed {
    /// The payload, in memory of the worker that received it.
    pub(crate) bytes: BytesMut,
    /// Where it came from; `meta.socket` names a socket of the worker that received it.
    pub(crate) meta: Meta,
    /// Which of the listen addresses it arrived on: the answer leaves from the same.
    pub(crate) listener: u8,
}

/// The mailboxes of all workers, shared by all.
#[derive(Clone, Debug)]
pub(crate) struct Mailboxes(Arc<[Mailbox]>);

#[derive(Debug)]
struct Mailbox {
    queue: ArrayQueue<Tossed>,
    waker: OnceLock<Waker>,
}

impl Mailboxes {
    pub(crate) fn new(workers: usize, capacity: usize) -> Self {
        let mailbox =
            || Mailbox { queue: ArrayQueue::new(capacity.max(1)), waker: OnceLock::new() };
        Self((0..workers).map(|_| mailbox()).collect())
    }

    /// Says how to wake `worker`; once, by the worker itself.
    pub(crate) fn register(&self, worker: u8, waker: Waker) {
        if let Some(mailbox) = self.0.get(usize::from(worker)) {
            // A second registration would be the same worker starting twice: the first one stays.
            let _ = mailbox.waker.set(waker);
        }
    }

    /// Puts a datagram into `worker`'s mailbox; false when it is full or there is no such worker.
    pub(crate) fn toss(&self, worker: u8, tossed: Tossed) -> bool {
        self.0.get(usize::from(worker)).is_some_and(|mailbox| mailbox.queue.push(tossed).is_ok())
    }

    /// Wakes `worker`: once per turn after tossing, not once per datagram.
    pub(crate) fn wake(&self, worker: u8) {
        if let Some(waker) = self.0.get(usize::from(worker)).and_then(|m| m.waker.get()) {
            waker.wake();
        }
    }

    /// Wakes every worker that has registered.
    pub(crate) fn wake_all(&self) {
        self.0.iter().filter_map(|mailbox| mailbox.waker.get()).for_each(Waker::wake);
    }

    /// Takes the next datagram out of `worker`'s mailbox.
    pub(crate) fn take(&self, worker: u8) -> Option<Tossed> {
        self.0.get(usize::from(worker)).and_then(|mailbox| mailbox.queue.pop())
    }

    /// Whether `worker`'s mailbox holds nothing.
    pub(crate) fn is_empty(&self, worker: u8) -> bool {
        self.0.get(usize::from(worker)).is_none_or(|mailbox| mailbox.queue.is_empty())
    }
}
