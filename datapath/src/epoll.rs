//! epoll is the backend for every Linux: epoll with recvmmsg and sendmmsg.
//!
//! ```text
//! epoll_wait ─► ready (sockets, in turn) ─► recvmmsg into inbox ─► sink
//! send() ─► queue of its socket ─► active (sockets, in turn) ─► sendmmsg from outbox
//!             ▲                        │ EAGAIN: until EPOLLOUT   ENOBUFS: until the next wait
//!             └────────────────────────┘
//! ```
//!
//! Invariant: a turn costs as much as there are sockets with something to do, never as much as
//! there are sockets. Events are level-triggered, so a socket that was left with data in it, for
//! whatever reason, is reported again.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::arrival::Drops;
use crate::counters::Counters;
use crate::error::{SetupError, SocketError, WaitError};
use crate::flight::{Flights, Next};
use crate::gso::Gso;
use crate::outbox::{Outbox, Queue};
use crate::slab::Slab;
use crate::slot::SendSlot;
use crate::socket::Socket;
use crate::traffic::{SocketId, Train, Transmit};
use crate::wake::Waker;
use crate::{Datapath, sys};

mod inbox;
use inbox::{Inbox, Refused};

/// Sockets watched by epoll, read by recvmmsg and written by sendmmsg.
#[derive(Debug)]
pub struct Epoll {
    poll: OwnedFd,
    /// Whether epoll_pwait2 is there and allowed: waits in nanoseconds, not milliseconds.
    precise: bool,
    events: Vec<libc::epoll_event>,
    waker: Waker,
    counters: Arc<Counters>,
    sockets: Slab<Watched>,
    /// Sockets that may have datagrams.
    ready: VecDeque<u32>,
    /// Sockets that may send what they have queued.
    active: VecDeque<u32>,
    /// Sockets to try again at the next wait.
    later: Vec<u32>,
    /// Sockets whose peer does not listen.
    refused: VecDeque<SocketId>,
    flights: Flights,
    gso: Gso,
    inbox: Inbox,
    outbox: Outbox,
}

/// A socket and what it waits for.
#[derive(Debug)]
struct Watched {
    socket: Socket,
    gso: bool,
    /// It is in `ready`.
    readable: bool,
    drops: Drops,
    queue: Queue,
    sending: Sending,
    /// What epoll was asked for last.
    interest: u32,
    /// It sends what is queued and goes.
    closing: bool,
}

/// What the queue of a socket waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Sending {
    /// Nothing: it is empty.
    Idle,
    /// Its turn.
    Active,
    /// Room in the socket buffer.
    Writable,
    /// The next wait.
    Later,
}

impl Epoll {
    /// A datapath with `send_slots` slots, to be used on this thread.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new(send_slots: usize) -> Result<Self, SetupError> {
        let poll = sys::epoll().map_err(|source| SetupError::call("epoll_create1", source))?;
        let waker = Waker::new()?;
        if let Some(event) = waker.event() {
            let interest = (libc::EPOLLIN | libc::EPOLLET).cast_unsigned();
            sys::epoll_control(poll.as_fd(), libc::EPOLL_CTL_ADD, event, interest, WAKE)
                .map_err(|source| SetupError::call("epoll_ctl", source))?;
        }
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        let look = sys::epoll_wait_precise(poll.as_fd(), &mut events, Some(Duration::ZERO));
        let precise = look.is_ok();
        Ok(Self {
            poll,
            precise,
            events,
            waker,
            counters: Arc::default(),
            sockets: Slab::new(),
            ready: VecDeque::new(),
            active: VecDeque::new(),
            later: Vec::new(),
            refused: VecDeque::new(),
            flights: Flights::new(u32::try_from(send_slots.max(1)).unwrap_or(u32::MAX)),
            gso: Gso::new(),
            inbox: Inbox::new(),
            outbox: Outbox::new(),
        })
    }

    /// The same with trains of at most `segments` datagrams; for before sockets are opened.
    #[must_use]
    pub fn with_segments(mut self, segments: usize) -> Self {
        self.gso.limit(segments);
        self
    }

    /// One epoll_wait; remembers who may read or write.
    fn look(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let poll = self.poll.as_fd();
        let events = match self.precise {
            true => sys::epoll_wait_precise(poll, &mut self.events, timeout)?,
            false => sys::epoll_wait(poll, &mut self.events, timeout)?,
        };
        for event in events {
            let (what, id) = (event.events.cast_signed(), event.u64);
            let Ok(id) = u32::try_from(id) else { continue };
            let Some(watched) = self.sockets.get_mut(id) else {
                continue;
            };
            if what & !libc::EPOLLOUT != 0 && !watched.closing && !watched.readable {
                watched.readable = true;
                self.ready.push_back(id);
            }
            if what & !libc::EPOLLIN != 0 && watched.sending == Sending::Writable {
                watched.sending = Sending::Active;
                self.active.push_back(id);
            }
        }
        Ok(())
    }

    /// Sends as much of a socket's queue as the kernel takes.
    fn send_queued(&mut self, id: u32) {
        let Self { poll, sockets, later, flights, gso, outbox, counters, .. } = self;
        let Some(watched) = sockets.get_mut(id) else {
            return;
        };
        let Watched { socket, gso: train, queue, sending, interest, closing, .. } = watched;
        let before = *train;
        *sending = match outbox.send(socket, queue, train, flights, counters) {
            Next::Done | Next::More => Sending::Idle,
            Next::Writable => Sending::Writable,
            Next::Later => Sending::Later,
        };
        if before && !*train && !*closing {
            gso.refused();
        }
        // EPOLLOUT only while the socket is full: it would be reported at every wait.
        let wanted = wanted(*closing, *sending);
        if *interest != wanted {
            *interest = wanted;
            let (operation, fd) = (libc::EPOLL_CTL_MOD, socket.as_fd());
            let changed = sys::epoll_control(poll.as_fd(), operation, fd, wanted, id.into());
            if changed.is_err() && *sending == Sending::Writable {
                *sending = Sending::Later;
            }
        }
        if *sending == Sending::Later {
            later.push(id);
        }
        if *closing && *sending == Sending::Idle {
            sockets.remove(id);
        }
    }

    /// Sockets that found the device queue full get another chance.
    fn retry(&mut self) {
        for id in self.later.drain(..) {
            let Some(watched) = self.sockets.get_mut(id) else {
                continue;
            };
            if watched.sending == Sending::Later {
                watched.sending = Sending::Active;
                self.active.push_back(id);
            }
        }
    }
}

impl Datapath for Epoll {
    fn backend(&self) -> &'static str {
        "epoll"
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Result<(), WaitError> {
        self.retry();
        self.flush();
        let timeout = match sys::finite(timeout) {
            _ if !self.ready.is_empty() => Some(Duration::ZERO),
            timeout if self.later.is_empty() => timeout,
            timeout => Some(timeout.map_or(RETRY, |timeout| timeout.min(RETRY))),
        };
        let blocks = timeout != Some(Duration::ZERO);
        let result = match blocks {
            true if !self.waker.doze() => self.look(Some(Duration::ZERO)),
            _ => self.look(timeout),
        };
        if blocks {
            self.waker.rise();
        }
        if self.waker.take() {
            self.counters.wakeups.add(1);
        }
        match result {
            Err(source) if source.kind() != io::ErrorKind::Interrupted => {
                Err(WaitError::call("epoll_wait", source))
            }
            _ => Ok(()),
        }
    }

    fn receive(&mut self, trains_max: usize, sink: &mut dyn FnMut(Train<'_>)) -> usize {
        let Self { sockets, ready, inbox, counters, refused, .. } = self;
        let mut handed = 0;
        while handed < trains_max {
            let Some(id) = ready.pop_front() else { break };
            let Some(watched) = sockets.get_mut(id).filter(|watched| watched.readable) else {
                continue;
            };
            let room = inbox::BATCH.min(trains_max - handed);
            let received = inbox.receive(watched, SocketId(id), room, counters, sink);
            let (messages, trains) = received.unwrap_or_else(|Refused| {
                refused.push_back(SocketId(id));
                // That was all it said: what waits behind is read in the next round.
                (room, 0)
            });
            handed += trains;
            // Fewer messages than asked for: the socket is empty, or epoll reports it again.
            watched.readable = messages == room;
            if watched.readable {
                ready.push_back(id);
            }
        }
        handed
    }

    fn segments_max(&self, segment_bytes: usize) -> usize {
        self.gso.segments_max(segment_bytes)
    }

    fn slot(&mut self) -> Option<SendSlot> {
        if let Some(slot) = self.flights.lend() {
            return Some(slot);
        }
        self.flush();
        let slot = self.flights.lend();
        if slot.is_none() {
            self.counters.slots_exhausted.add(1);
        }
        slot
    }

    fn release(&mut self, slot: SendSlot) {
        self.flights.release(slot);
    }

    fn send(&mut self, slot: SendSlot, transmit: &Transmit) {
        let Some((index, flight)) = self.flights.board(slot) else {
            return;
        };
        let id = transmit.socket.0;
        match self.sockets.get_mut(id).filter(|watched| !watched.closing) {
            Some(watched) => {
                let gso = watched.gso.then_some(&self.gso);
                flight.address(transmit, watched.socket.family(), gso);
                watched.queue.push(index, &mut self.flights);
                if watched.sending == Sending::Idle {
                    watched.sending = Sending::Active;
                    self.active.push_back(id);
                }
            }
            None => {
                self.counters.send_errors.add(1);
                self.flights.free(index);
            }
        }
    }

    fn flush(&mut self) {
        while let Some(id) = self.active.pop_front() {
            self.send_queued(id);
        }
    }

    fn adopt(&mut self, socket: Socket) -> Result<SocketId, SocketError> {
        let interest = wanted(false, Sending::Idle);
        let watched = Watched {
            socket,
            gso: false,
            readable: false,
            drops: Drops::default(),
            queue: Queue::default(),
            sending: Sending::Idle,
            interest,
            closing: false,
        };
        let id = self.sockets.insert(watched, SOCKETS_MAX);
        let id = id.map_err(|_| SocketError::TooMany { limit: SOCKETS_MAX })?;
        let Some(watched) = self.sockets.get_mut(id) else {
            return Err(SocketError::TooMany { limit: SOCKETS_MAX });
        };
        let (poll, fd) = (self.poll.as_fd(), watched.socket.as_fd());
        match sys::epoll_control(poll, libc::EPOLL_CTL_ADD, fd, interest, id.into()) {
            Ok(()) => {
                watched.gso = self.gso.opened();
                Ok(SocketId(id))
            }
            Err(source) => {
                self.sockets.remove(id);
                Err(SocketError::Watch { call: "epoll_ctl", source })
            }
        }
    }

    fn close(&mut self, socket: SocketId) {
        let Some(watched) = self.sockets.get_mut(socket.0) else {
            return;
        };
        if watched.closing {
            return;
        }
        watched.closing = true;
        watched.readable = false;
        self.gso.closed(watched.gso);
        // The last words, a CONNECTION_CLOSE for example, leave first.
        self.send_queued(socket.0);
    }

    fn refused(&mut self) -> Option<SocketId> {
        self.refused.pop_front()
    }

    fn local_addr(&self, socket: SocketId) -> Option<SocketAddr> {
        let watched = self.sockets.get(socket.0)?;
        (!watched.closing).then(|| watched.socket.local_addr())
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    fn waker(&self) -> Waker {
        self.waker.clone()
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        self.retry();
        self.flush();
    }
}

/// What to ask epoll for.
fn wanted(closing: bool, sending: Sending) -> u32 {
    let read = if closing { 0 } else { libc::EPOLLIN };
    let write = if sending == Sending::Writable { libc::EPOLLOUT } else { 0 };
    (read | write).cast_unsigned()
}

/// Epoll data of the eventfd; ids of sockets are below.
const WAKE: u64 = u64::MAX;

/// Sockets per datapath: ids are 24 bits in both backends.
const SOCKETS_MAX: u32 = 1 << 24;

/// Events per epoll_wait. The kernel goes round among the rest, so this bounds only how much is
/// learnt at once: 3 KiB of events that stay in the first-level cache.
const EVENTS_MAX: usize = 256;

/// How soon a full device queue (ENOBUFS) is tried again. Nobody announces when it has room, a
/// 10 Gbit/s device empties a queue of 1,000 full packets in about 1.2 ms.
const RETRY: Duration = Duration::from_millis(1);
