//! recv keeps one multishot receive armed per socket and queues what it brings.
//!
//! ```text
//!        arm                 completion without MORE
//! Off ────────► Armed ──┬─ empty datagram, overflow ──► armed again at once
//!   ▲                   ├─ ENOBUFS ──► Starved ──► armed again when buffers are back
//!   └── closing ────────┴─ error ────► Resting ──► armed again after RETRY
//! ```
//!
//! Invariant: every completion without MORE ends the receive, a successful one as well, so each is
//! answered here, with a counter for its cause. A socket is closed only after that completion: an
//! armed receive would keep the port bound.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::types::{Fd, RecvMsgOut};
use io_uring::{cqueue, opcode};

use super::buffers::{Buffers, GROUP};
use super::driver::Driver;
use super::token::{Generation, Handle, Token};
use crate::address::NAME_BYTES;
use crate::arrival::{self, Drops, Message};
use crate::cmsg::CONTROL_BYTES;
use crate::counters::Counters;
use crate::slab::Slab;
use crate::socket::Socket;
use crate::sys;
use crate::traffic::{SocketId, Train};

/// Bytes before the payload: io_uring_recvmsg_out, the name and the control messages.
pub(super) const HEADER_BYTES: usize = 16 + NAME_BYTES + CONTROL_BYTES;

/// What the receive of a socket does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Arm {
    Off,
    Armed,
    Starved,
    Resting,
}

/// A socket and what the kernel holds of it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) socket: Socket,
    generation: Generation,
    arm: Arm,
    /// It received something since it was armed.
    fed: bool,
    drops: Drops,
    pub(super) gso: bool,
    /// Slots on their way.
    pub(super) sends: u32,
    pub(super) closing: bool,
}

impl Held {
    pub(super) fn new(socket: Socket, generation: Generation, gso: bool) -> Self {
        let (arm, drops) = (Arm::Off, Drops::default());
        Self { socket, generation, arm, fed: false, drops, gso, sends: 0, closing: false }
    }

    /// Whether nothing in flight uses it.
    pub(super) fn released(&self) -> bool {
        self.closing && self.arm != Arm::Armed && self.sends == 0
    }
}

/// A filled buffer that the sink has not seen.
#[derive(Clone, Copy, Debug)]
struct Filled {
    handle: Handle,
    buffer: u16,
    bytes: usize,
}

/// The receiving half of the backend.
pub(super) struct Receiver {
    buffers: Buffers,
    /// The kernel takes from it only how much name and control space to reserve.
    header: Box<libc::msghdr>,
    filled: VecDeque<Filled>,
    starved: VecDeque<Handle>,
    resting: Vec<Handle>,
    /// Sockets whose peer does not listen.
    pub(super) refused: VecDeque<SocketId>,
}

impl Receiver {
    pub(super) fn new(buffers: Buffers, count: u16) -> Self {
        let mut header = Box::new(sys::empty_header());
        header.msg_namelen = NAME_SPACE;
        header.msg_controllen = CONTROL_BYTES as _;
        let filled = VecDeque::with_capacity(count.into());
        let (starved, resting, refused) = (VecDeque::new(), Vec::new(), VecDeque::new());
        Self { buffers, header, filled, starved, resting, refused }
    }

    /// Whether there is something to do that no completion will announce.
    pub(super) fn has_work(&self) -> bool {
        !self.filled.is_empty() || !self.starved.is_empty()
    }

    /// Whether a receive waits for the retry timer.
    pub(super) fn rests(&self) -> bool {
        !self.resting.is_empty()
    }

    /// Starts receiving.
    pub(super) fn arm(&mut self, held: &mut Held, id: u32, driver: &mut Driver) {
        let handle = Handle { id, generation: held.generation };
        held.fed = false;
        if self.buffers.available() == 0 {
            // The kernel would answer ENOBUFS even if there is nothing to receive.
            self.starve(held, handle);
            return;
        }
        let fd = Fd(held.socket.as_fd().as_raw_fd());
        let entry = opcode::RecvMsgMulti::new(fd, &raw const *self.header, GROUP).build();
        held.arm = Arm::Armed;
        // SAFETY: the header is boxed and never written again; the buffers outlive the rings.
        unsafe { driver.push(entry.user_data(Token::Receive(handle).encode())) };
    }

    /// Arms again what was starved, as many as there are buffers: more would only starve again.
    pub(super) fn feed(&mut self, sockets: &mut Slab<Held>, driver: &mut Driver) {
        for _ in 0..self.buffers.available() {
            let Some(handle) = self.starved.pop_front() else {
                return;
            };
            self.arm_again(handle, Arm::Starved, sockets, driver);
        }
    }

    /// Arms again what failed.
    pub(super) fn rouse(&mut self, sockets: &mut Slab<Held>, driver: &mut Driver) {
        while let Some(handle) = self.resting.pop() {
            self.arm_again(handle, Arm::Resting, sockets, driver);
        }
    }

    fn arm_again(
        &mut self,
        handle: Handle,
        from: Arm,
        sockets: &mut Slab<Held>,
        driver: &mut Driver,
    ) {
        let held = sockets.get_mut(handle.id);
        let held = held.filter(|held| held.generation == handle.generation && held.arm == from);
        if let Some(held) = held.filter(|held| !held.closing) {
            self.arm(held, handle.id, driver);
        }
    }

    /// A socket that goes away empty is the first to be fed: otherwise a flooded one would eat all
    /// buffers again before it.
    fn starve(&mut self, held: &mut Held, handle: Handle) {
        held.arm = Arm::Starved;
        match held.fed {
            true => self.starved.push_back(handle),
            false => self.starved.push_front(handle),
        }
    }

    /// Asks the kernel to end the receive of a socket.
    pub(super) fn cancel(&mut self, held: &mut Held, id: u32, driver: &mut Driver) {
        if held.arm != Arm::Armed {
            held.arm = Arm::Off;
            return;
        }
        let handle = Handle { id, generation: held.generation };
        let entry = opcode::AsyncCancel::new(Token::Receive(handle).encode()).build();
        // SAFETY: the entry points to nothing.
        unsafe { driver.push(entry.user_data(Token::Cancel(handle).encode())) };
    }

    /// The kernel answered `cancel`. A receive that was between two datagrams is not found.
    pub(super) fn cancelled(
        &mut self,
        handle: Handle,
        result: i32,
        sockets: &mut Slab<Held>,
        driver: &mut Driver,
    ) {
        let held = sockets.get_mut(handle.id);
        let held = held.filter(|held| held.generation == handle.generation && held.closing);
        if let Some(held) = held.filter(|held| result < 0 && held.arm == Arm::Armed) {
            self.cancel(held, handle.id, driver);
        }
    }

    /// Takes a completion of a receive.
    pub(super) fn complete(
        &mut self,
        handle: Handle,
        completion: &cqueue::Entry,
        sockets: &mut Slab<Held>,
        driver: &mut Driver,
        counters: &Counters,
    ) {
        let (result, flags) = (completion.result(), completion.flags());
        let bytes = usize::try_from(result).unwrap_or(0);
        if let Some(buffer) = cqueue::buffer_select(flags) {
            self.buffers.arrived();
            self.filled.push_back(Filled { handle, buffer, bytes });
        }
        let held = sockets.get_mut(handle.id).filter(|held| held.generation == handle.generation);
        let Some(held) = held else { return };
        held.fed |= result >= 0;
        if cqueue::more(flags) {
            return;
        }
        held.arm = Arm::Off;
        if held.closing {
            return;
        }
        match result {
            0.. if bytes <= HEADER_BYTES => {
                counters.rearm_empty.add(1);
                self.arm(held, handle.id, driver);
            }
            0.. => {
                counters.rearm_ended.add(1);
                self.arm(held, handle.id, driver);
            }
            NO_BUFFERS => {
                counters.rearm_no_buffers.add(1);
                self.starve(held, handle);
            }
            _ => {
                if result == REFUSED {
                    counters.recv_refused.add(1);
                    self.refused.push_back(SocketId(handle.id));
                } else {
                    counters.recv_errors.add(1);
                }
                counters.rearm_error.add(1);
                held.arm = Arm::Resting;
                self.resting.push(handle);
            }
        }
    }

    /// Hands at most `trains_max` trains to `sink`.
    pub(super) fn deliver(
        &mut self,
        trains_max: usize,
        sockets: &mut Slab<Held>,
        counters: &Counters,
        sink: &mut dyn FnMut(Train<'_>),
    ) -> usize {
        let mut handed = 0;
        let mut returned = false;
        while handed < trains_max {
            let Some(Filled { handle, buffer, bytes }) = self.filled.pop_front() else {
                break;
            };
            let held = sockets.get_mut(handle.id);
            let open = |held: &&mut Held| held.generation == handle.generation && !held.closing;
            if let Some(Held { drops, .. }) = held.filter(open) {
                let bytes = self.buffers.bytes(buffer, bytes);
                let lent = lend(SocketId(handle.id), bytes, &self.header, drops, counters, sink);
                handed += usize::from(lent);
            }
            self.buffers.give_back(buffer);
            returned = true;
        }
        if returned {
            self.buffers.commit();
        }
        handed
    }

    /// Keeps what the kernel may still write to.
    pub(super) fn leak(&mut self) {
        self.buffers.leak();
    }
}

/// Reads what the kernel wrote into a buffer; says whether the sink got it.
fn lend(
    socket: SocketId,
    bytes: &[u8],
    header: &libc::msghdr,
    drops: &mut Drops,
    counters: &Counters,
    sink: &mut dyn FnMut(Train<'_>),
) -> bool {
    let Ok(out) = RecvMsgOut::parse(bytes, header) else {
        counters.recv_errors.add(1);
        return false;
    };
    let (name, control, payload) = (out.name_data(), out.control_data(), out.payload_data());
    let message = Message { flags: out.flags(), name, control, payload };
    let train = arrival::train(socket, &message, drops, counters);
    train.map(sink).is_some()
}

const NO_BUFFERS: i32 = -libc::ENOBUFS;
const REFUSED: i32 = -libc::ECONNREFUSED;
const NAME_SPACE: u32 = 28;
const _: () = assert!(NAME_SPACE as usize == NAME_BYTES);

impl std::fmt::Debug for Receiver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { buffers, header: _, filled, starved, resting, refused } = self;
        formatter
            .debug_struct("Receiver")
            .field("buffers", buffers)
            .field("filled", &filled.len())
            .field("starved", &starved.len())
            .field("resting", &resting.len())
            .field("refused", &refused.len())
            .finish_non_exhaustive()
    }
}
