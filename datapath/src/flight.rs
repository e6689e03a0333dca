//! flight is a send slot on its way: addressed once, sent as a train or datagram by datagram.
//!
//! ```text
//!            lend            board            settle: Done
//! Free ───────────► Lent ───────────► Queued ──────────────► Free
//!   ▲                │ release           │ settle: More / Writable / Later
//!   └────────────────┘                   └──────► stays queued
//! ```
//!
//! Both backends send through here, so that what a kernel's answer means is decided in one place.

use std::ops::Range;

use crate::address::{Family, Name};
use crate::cmsg::{CONTROL_BYTES, Control};
use crate::counters::Counters;
use crate::gso::Gso;
use crate::slot::SendSlot;
use crate::sys;
use crate::traffic::Transmit;

/// How the payload leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Form {
    /// One datagram.
    Single,
    /// The kernel cuts it.
    Train,
    /// We cut it, because the route cannot do GSO.
    Cut,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Free,
    Lent,
    Queued,
}

/// What happens to a flight after the kernel's answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// All of it left or was dropped: the slot is free again.
    Done,
    /// There is more of it to send now.
    More,
    /// The socket buffer is full: send again when it is writable.
    Writable,
    /// The device queue is full, which nobody announces the end of: send again a little later.
    Later,
}

/// A slot with everything a message header points to. It does not move.
#[derive(Debug)]
pub(crate) struct Flight {
    payload: Vec<u8>,
    state: State,
    /// Id of the socket it leaves from.
    pub(crate) socket: u32,
    /// The flight behind it in the queue of its socket.
    pub(crate) next: Option<u32>,
    form: Form,
    /// Bytes per datagram.
    segment: usize,
    /// Bytes that are done with, when cut.
    cursor: usize,
    /// The train was refused; the answer to its first datagram tells whether GSO is to blame.
    suspect: bool,
    /// It was kept back once because of what the socket had to say about an earlier datagram.
    held_back: bool,
    label: Box<Label>,
}

/// What message headers point to, beside the payload. It is boxed, so that borrowing one flight
/// does not touch the labels of others that the kernel may be reading.
#[derive(Debug)]
struct Label {
    name: Name,
    name_bytes: u32,
    control: Control,
}

impl Flight {
    fn new() -> Self {
        Self {
            payload: Vec::with_capacity(SendSlot::CAPACITY),
            state: State::Free,
            socket: 0,
            next: None,
            form: Form::Single,
            segment: 0,
            cursor: 0,
            suspect: false,
            held_back: false,
            label: Box::new(Label { name: Name::EMPTY, name_bytes: 0, control: Control::EMPTY }),
        }
    }

    /// Writes addresses and control messages for a socket of `family`; without `gso` its route
    /// takes no trains.
    pub(crate) fn address(&mut self, transmit: &Transmit, family: Family, gso: Option<&Gso>) {
        let Transmit { socket, target, source, ecn, segment } = *transmit;
        let bytes = self.payload.len();
        let segment = segment.filter(|segment| (1..bytes).contains(segment));
        let train = segment.and_then(|segment| u16::try_from(segment).ok());
        self.socket = socket.0;
        self.next = None;
        self.cursor = 0;
        self.suspect = false;
        self.held_back = false;
        self.segment = segment.unwrap_or(bytes);
        self.form = match (segment, train) {
            (None, _) => Form::Single,
            (Some(segment), Some(_)) if gso.is_some_and(|gso| gso.fits(bytes, segment)) => {
                Form::Train
            }
            (Some(_), _) => Form::Cut,
        };
        let Label { name, name_bytes, control } = &mut *self.label;
        *name_bytes = name.encode(target, family);
        control.encode(target.ip(), source, ecn, train);
    }

    /// Whether it leaves as several messages.
    pub(crate) fn is_cut(&self) -> bool {
        self.form == Form::Cut
    }

    /// Bytes of the message that leaves `ahead` messages from now; `None` behind the last.
    pub(crate) fn message(&self, ahead: usize) -> Option<Range<usize>> {
        let bytes = self.payload.len();
        match self.form {
            Form::Single | Form::Train => (ahead == 0).then_some(0..bytes),
            Form::Cut => {
                let start = self.cursor + ahead * self.segment;
                (start < bytes).then(|| start..bytes.min(start + self.segment))
            }
        }
    }

    /// Points `header` and `part` at the message in `range`. Both are valid until the flight is
    /// borrowed mutably again.
    pub(crate) fn point(
        &mut self,
        range: Range<usize>,
        header: &mut libc::msghdr,
        part: &mut libc::iovec,
    ) {
        let payload = &mut self.payload[range];
        part.iov_base = payload.as_mut_ptr().cast();
        part.iov_len = payload.len();
        let Label { name, name_bytes, control } = &mut *self.label;
        let control = match self.form {
            Form::Train => control.train(),
            Form::Single | Form::Cut => control.single(),
        };
        *header = sys::empty_header();
        header.msg_name = name.bytes.as_mut_ptr().cast();
        header.msg_namelen = *name_bytes;
        header.msg_iov = part;
        header.msg_iovlen = 1;
        header.msg_controllen = control.len() as _;
        header.msg_control = control.as_mut_ptr().cast();
    }

    /// Takes the kernel's answer to the first message: success or an errno. `gso` is switched off
    /// when the route turns out not to do it.
    pub(crate) fn settle(
        &mut self,
        answer: Result<(), i32>,
        gso: &mut bool,
        counters: &Counters,
    ) -> Next {
        let range = self.message(0).unwrap_or_default();
        let datagrams = match self.form {
            Form::Train => range.len().div_ceil(self.segment),
            Form::Single | Form::Cut => 1,
        } as u64;
        let suspect = std::mem::take(&mut self.suspect);
        match answer {
            Ok(()) => {
                counters.send_trains.add(1);
                counters.send_datagrams.add(datagrams);
                counters.send_bytes.add(range.len() as u64);
                *gso &= !suspect;
            }
            Err(libc::EINTR) => {
                self.suspect = suspect;
                return Next::More;
            }
            // News of an earlier datagram, which nothing listens for: this one was not tried.
            Err(libc::ECONNREFUSED) if !std::mem::replace(&mut self.held_back, true) => {
                self.suspect = suspect;
                counters.recv_refused.add(1);
                return Next::More;
            }
            Err(errno @ (libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM)) => {
                self.suspect = suspect;
                counters.send_blocked.add(1);
                return if errno == libc::EAGAIN { Next::Writable } else { Next::Later };
            }
            // Kernels differ in which of the two a train gets that its route cannot carry. Some
            // also say EINVAL when the path MTU shrank: then single datagrams fail as well, and
            // GSO is not to blame.
            Err(libc::EIO | libc::EINVAL) if self.form == Form::Train => {
                counters.gso_fallbacks.add(1);
                self.form = Form::Cut;
                self.suspect = true;
                return Next::More;
            }
            Err(libc::EMSGSIZE) => counters.send_too_big.add(datagrams),
            Err(_) => counters.send_errors.add(datagrams),
        }
        self.advance(range.end)
    }

    fn advance(&mut self, end: usize) -> Next {
        self.cursor = end;
        if self.form == Form::Cut && end < self.payload.len() { Next::More } else { Next::Done }
    }
}

/// All send slots of one datapath.
#[derive(Debug)]
pub(crate) struct Flights {
    flights: Box<[Flight]>,
    /// Last in, first out: the slot that is still in the cache leaves next.
    free: Vec<u32>,
}

impl Flights {
    pub(crate) fn new(slots: u32) -> Self {
        Self { flights: (0..slots).map(|_| Flight::new()).collect(), free: (0..slots).collect() }
    }

    pub(crate) fn lend(&mut self) -> Option<SendSlot> {
        let index = self.free.pop()?;
        let flight = &mut self.flights[index as usize];
        flight.state = State::Lent;
        let mut payload = std::mem::take(&mut flight.payload);
        payload.clear();
        Some(SendSlot::with(index, payload))
    }

    /// Takes a lent slot to be sent; `None` when it is not one of ours that is lent.
    pub(crate) fn board(&mut self, slot: SendSlot) -> Option<(u32, &mut Flight)> {
        let (index, payload) = slot.into_parts();
        let flight = self.flights.get_mut(index as usize)?;
        if flight.state != State::Lent {
            return None;
        }
        flight.state = State::Queued;
        flight.payload = payload;
        Some((index, flight))
    }

    /// Takes back a lent slot that is not sent.
    pub(crate) fn release(&mut self, slot: SendSlot) {
        if let Some((index, _)) = self.board(slot) {
            self.free(index);
        }
    }

    /// The slot's payload left or is not wanted.
    pub(crate) fn free(&mut self, index: u32) {
        let Some(flight) = self.flights.get_mut(index as usize) else {
            return;
        };
        debug_assert_eq!(flight.state, State::Queued);
        flight.state = State::Free;
        flight.payload.clear();
        // Only after its user exchanged or shrank the vector.
        flight.payload.reserve(SendSlot::CAPACITY);
        self.free.push(index);
    }

    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut Flight> {
        self.flights.get_mut(index as usize)
    }

    /// Never frees the payloads: the kernel may still read them.
    pub(crate) fn leak(&mut self) {
        Box::leak(std::mem::take(&mut self.flights));
    }
}

const _: () = assert!(CONTROL_BYTES.is_multiple_of(8));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::SocketId;

    const TRANSMIT: fn(Option<usize>) -> Transmit = |segment| Transmit {
        socket: SocketId(0),
        target: "127.0.0.1:9".parse().unwrap(),
        source: None,
        ecn: None,
        segment,
    };

    fn boarded(flights: &mut Flights, bytes: usize, segment: Option<usize>, gso: bool) -> u32 {
        let mut slot = flights.lend().unwrap();
        slot.payload.resize(bytes, 7);
        let (index, flight) = flights.board(slot).unwrap();
        let limits = Gso::with_segments(128);
        flight.address(&TRANSMIT(segment), Family::V4, gso.then_some(&limits));
        index
    }

    fn messages(flight: &Flight) -> Vec<usize> {
        (0..).map_while(|ahead| flight.message(ahead)).map(|range| range.len()).collect()
    }

    #[test]
    fn a_payload_leaves_as_one_datagram_a_train_or_in_pieces() {
        let mut flights = Flights::new(1);
        for (bytes, segment, gso, expected) in [
            (0, None, true, vec![0]),
            (1_200, None, true, vec![1_200]),
            (1_200, Some(1_200), true, vec![1_200]),
            (3_000, Some(1_200), true, vec![3_000]),
            (3_000, Some(1_200), false, vec![1_200, 1_200, 600]),
            (3_000, Some(0), false, vec![3_000]),
            (129, Some(1), true, vec![1; 129]),
        ] {
            let index = boarded(&mut flights, bytes, segment, gso);
            assert_eq!(messages(flights.get_mut(index).unwrap()), expected);
            flights.free(index);
        }
    }

    #[test]
    fn a_refused_train_is_sent_again_in_pieces_and_gso_goes_off_once_one_left() {
        let (counters, mut gso) = (Counters::default(), true);
        let mut flights = Flights::new(1);
        let index = boarded(&mut flights, 2_500, Some(1_000), true);
        let flight = flights.get_mut(index).unwrap();
        assert_eq!(flight.settle(Err(libc::EIO), &mut gso, &counters), Next::More);
        assert!(gso);
        assert_eq!(flight.settle(Err(libc::EAGAIN), &mut gso, &counters), Next::Writable);
        assert_eq!(flight.settle(Ok(()), &mut gso, &counters), Next::More);
        assert!(!gso);
        assert_eq!(flight.settle(Ok(()), &mut gso, &counters), Next::More);
        assert_eq!(flight.settle(Ok(()), &mut gso, &counters), Next::Done);
        assert_eq!(counters.gso_fallbacks.value(), 1);
        assert_eq!(counters.send_datagrams.value(), 3);
        assert_eq!(counters.send_bytes.value(), 2_500);
        assert_eq!(counters.send_blocked.value(), 1);
    }

    #[test]
    fn a_train_above_the_path_mtu_does_not_cost_gso() {
        let (counters, mut gso) = (Counters::default(), true);
        let mut flights = Flights::new(1);
        let index = boarded(&mut flights, 2_000, Some(1_000), true);
        let flight = flights.get_mut(index).unwrap();
        assert_eq!(flight.settle(Err(libc::EINVAL), &mut gso, &counters), Next::More);
        assert_eq!(flight.settle(Err(libc::EMSGSIZE), &mut gso, &counters), Next::More);
        assert_eq!(flight.settle(Err(libc::EMSGSIZE), &mut gso, &counters), Next::Done);
        assert!(gso);
        assert_eq!(counters.send_too_big.value(), 2);
    }

    #[test]
    fn every_other_error_drops_and_counts_datagrams() {
        let (counters, mut gso) = (Counters::default(), true);
        let mut flights = Flights::new(1);
        for errno in [libc::EPERM, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::EFAULT] {
            let index = boarded(&mut flights, 2_500, Some(1_000), true);
            let flight = flights.get_mut(index).unwrap();
            assert_eq!(flight.settle(Err(errno), &mut gso, &counters), Next::Done);
            flights.free(index);
        }
        assert_eq!(counters.send_errors.value(), 12);
        let index = boarded(&mut flights, 10, None, true);
        let flight = flights.get_mut(index).unwrap();
        assert_eq!(flight.settle(Err(libc::ENOBUFS), &mut gso, &counters), Next::Later);
        assert_eq!(counters.send_blocked.value(), 1);
    }

    #[test]
    fn news_of_an_earlier_datagram_does_not_cost_this_one() {
        let (counters, mut gso) = (Counters::default(), true);
        let mut flights = Flights::new(1);
        let index = boarded(&mut flights, 2_500, Some(1_000), true);
        let flight = flights.get_mut(index).unwrap();
        assert_eq!(flight.settle(Err(libc::ECONNREFUSED), &mut gso, &counters), Next::More);
        assert_eq!(counters.send_errors.value(), 0);
        assert_eq!(flight.settle(Err(libc::ECONNREFUSED), &mut gso, &counters), Next::Done);
        assert_eq!((counters.recv_refused.value(), counters.send_errors.value()), (1, 3));
    }

    #[test]
    fn only_a_lent_slot_of_ours_can_board() {
        let mut flights = Flights::new(2);
        assert!(flights.board(SendSlot::new(0)).is_none());
        assert!(flights.board(SendSlot::new(9)).is_none());
        let index = boarded(&mut flights, 1, None, true);
        assert!(flights.board(SendSlot::new(index)).is_none());
        flights.free(index);
        assert_eq!(flights.lend().unwrap().index(), index);
    }
}
