//! outbox writes the queue of one socket, many messages per call.

use std::os::fd::AsFd;

use crate::counters::Counters;
use crate::flight::{Flights, Next};
use crate::socket::Socket;
use crate::sys;

/// Messages per sendmmsg. A call costs up to 1 µs and each message more than that again, so 32 make
/// the call cheap; more would only make the headers, 64 bytes each, leave the first-level cache.
const BATCH: usize = 32;

/// Slots that leave from one socket, in order.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    head: Option<u32>,
    tail: Option<u32>,
}

impl Queue {
    /// Appends a slot.
    pub(crate) fn push(&mut self, index: u32, flights: &mut Flights) {
        let tail = self.tail.replace(index).and_then(|tail| flights.get_mut(tail));
        match tail {
            Some(tail) => tail.next = Some(index),
            None => self.head = Some(index),
        }
    }

    /// Takes off the first slot and frees it.
    fn pop(&mut self, flights: &mut Flights) {
        let Some(index) = self.head else { return };
        self.head = flights.get_mut(index).and_then(|flight| flight.next.take());
        if self.head.is_none() {
            self.tail = None;
        }
        flights.free(index);
    }
}

/// Headers for one batch.
pub(crate) struct Outbox {
    headers: Box<[libc::mmsghdr; BATCH]>,
    parts: Box<[libc::iovec; BATCH]>,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        let header = libc::mmsghdr { msg_hdr: sys::empty_header(), msg_len: 0 };
        let part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self { headers: Box::new([header; BATCH]), parts: Box::new([part; BATCH]) }
    }

    /// Sends until the queue is empty (`Done`) or the kernel takes no more.
    pub(crate) fn send(
        &mut self,
        socket: &Socket,
        queue: &mut Queue,
        gso: &mut bool,
        flights: &mut Flights,
        counters: &Counters,
    ) -> Next {
        while queue.head.is_some() {
            let count = self.gather(queue, flights);
            // SAFETY: `gather` just pointed `count` headers at parts, names, control messages and
            // payloads of flights in the queue, and nothing touched those since.
            let sent = unsafe { sys::sendmmsg(socket.as_fd(), &mut self.headers[..count]) };
            let (sent, error) = match sent {
                Ok(sent) => (sent, None),
                // Only the first message can fail here: what follows a success fails next time.
                Err(error) => (0, Some(error.raw_os_error().unwrap_or(libc::EIO))),
            };
            let answers = std::iter::repeat_n(Ok(()), sent).chain(error.map(Err));
            for answer in answers {
                let Some(flight) = queue.head.and_then(|head| flights.get_mut(head)) else {
                    break;
                };
                let next = flight.settle(answer, gso, counters);
                match next {
                    Next::Done => queue.pop(flights),
                    Next::More => {}
                    Next::Writable | Next::Later => return next,
                }
            }
        }
        Next::Done
    }

    /// Points headers at the first messages in the queue and returns how many.
    fn gather(&mut self, queue: &Queue, flights: &mut Flights) -> usize {
        let mut count = 0;
        let mut at = queue.head;
        while let Some(flight) = at.and_then(|index| flights.get_mut(index)) {
            let mut ahead = 0;
            while let Some(range) = flight.message(ahead) {
                if count == BATCH {
                    return count;
                }
                let header = &mut self.headers[count].msg_hdr;
                flight.point(range, header, &mut self.parts[count]);
                (count, ahead) = (count + 1, ahead + 1);
            }
            at = flight.next;
        }
        count
    }
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Outbox").finish_non_exhaustive()
    }
}
