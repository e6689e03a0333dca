//! requests holds what is in flight on one worker, and knows which request is the oldest.
//!
//! Slots are reused, so nothing is allocated per request once the table has grown to the number
//! in flight. All requests have the same time limit, so the oldest is always the next to expire:
//! a list in order of age replaces timers.

use std::time::Instant;

use quiclane::StreamId;

use super::exchange::Outgoing;

/// Names a request in flight; reused after it ended.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct RequestId(u32);

/// A request in flight.
#[derive(Debug)]
pub(crate) struct Request {
    /// Which seat's connection carries it.
    pub(crate) seat: usize,
    /// On which stream.
    pub(crate) stream: StreamId,
    /// Which of the run's requests it is.
    pub(crate) which: usize,
    /// When it was meant to be sent.
    pub(crate) due: Instant,
    /// When the stream was opened.
    pub(crate) started: Instant,
    /// When bytes of it last went either way.
    pub(crate) moved: Instant,
    /// What is still to be written.
    pub(crate) outgoing: Outgoing,
    /// Bytes of its stream so far.
    pub(crate) heard: u64,
    /// Content of the response so far, in bytes.
    pub(crate) received: u64,
    /// Status of the response; 0 before it came, and where there is none.
    pub(crate) status: u16,
    /// When it came.
    pub(crate) first: Option<Instant>,
    /// The response is complete, but our own half is not.
    pub(crate) answered: bool,
    /// Waits for its next visit, to write more.
    pub(crate) queued: bool,
    /// Was taken back and waits for a new connection.
    pub(crate) is_parked: bool,
}

/// All requests in flight on one worker.
#[derive(Debug)]
pub(crate) struct Requests {
    slots: Vec<Slot>,
    free: u32,
    oldest: u32,
    newest: u32,
    len: u64,
}

#[derive(Debug)]
struct Slot {
    request: Option<Request>,
    /// Towards `oldest`.
    older: u32,
    /// Towards `newest`; in a free slot, the next free one.
    newer: u32,
}

impl Requests {
    /// None in flight.
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: NONE, oldest: NONE, newest: NONE, len: 0 }
    }

    /// Takes `request` in as the newest; `None` when all names are taken.
    pub(crate) fn insert(&mut self, request: Request) -> Option<RequestId> {
        let slot = Slot { request: Some(request), older: self.newest, newer: NONE };
        let at = self.free;
        let at = if at == NONE {
            let at = u32::try_from(self.slots.len()).ok().filter(|&at| at != NONE)?;
            self.slots.push(slot);
            at
        } else {
            self.free = self.slots[at as usize].newer;
            self.slots[at as usize] = slot;
            at
        };
        match self.newest {
            NONE => self.oldest = at,
            newest => self.slots[newest as usize].newer = at,
        }
        self.newest = at;
        self.len += 1;
        Some(RequestId(at))
    }

    /// A request in flight.
    pub(crate) fn get_mut(&mut self, id: RequestId) -> Option<&mut Request> {
        self.slots.get_mut(id.0 as usize)?.request.as_mut()
    }

    /// Ends a request and gives it back.
    pub(crate) fn remove(&mut self, id: RequestId) -> Option<Request> {
        let slot = self.slots.get_mut(id.0 as usize)?;
        let request = slot.request.take()?;
        let (older, newer) = (slot.older, slot.newer);
        slot.newer = self.free;
        self.free = id.0;
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
        self.len -= 1;
        Some(request)
    }

    /// The one that has been in flight for the longest time.
    pub(crate) fn oldest(&self) -> Option<(RequestId, &Request)> {
        let request = self.slots.get(self.oldest as usize)?.request.as_ref()?;
        Some((RequestId(self.oldest), request))
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Request> {
        self.slots.iter().filter_map(|slot| slot.request.as_ref())
    }

    /// How many are in flight.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }
}

/// No slot.
const NONE: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use quiclane::VarInt;

    use super::super::exchange::Perf;
    use super::*;

    fn request(index: u32) -> Request {
        let now = quiclane::clock::now();
        Request {
            seat: 0,
            stream: stream(index),
            due: now,
            started: now,
            moved: now,
            which: 0,
            outgoing: Perf::new(0, 0).begin(),
            heard: 0,
            received: 0,
            status: 0,
            first: None,
            answered: false,
            queued: false,
            is_parked: false,
        }
    }

    /// Our bidirectional stream number `index` (RFC 9000 section 2.1).
    fn stream(index: u32) -> StreamId {
        VarInt::from_u32(index * 4).into()
    }

    #[test]
    fn the_oldest_comes_first_whatever_ends_in_between() {
        let mut requests = Requests::new();
        let ids: Vec<RequestId> =
            (0..5).map(|index| requests.insert(request(index)).unwrap()).collect();
        requests.remove(ids[0]).unwrap();
        requests.remove(ids[2]).unwrap();
        requests.remove(ids[4]).unwrap();
        assert_eq!(requests.oldest().unwrap().1.stream, stream(1));
        assert!(requests.insert(request(9)).is_some());
        assert_eq!(requests.len(), 3);
        assert_eq!(requests.iter().count(), 3);
        let mut order = Vec::new();
        while let Some((id, _)) = requests.oldest() {
            order.push(requests.remove(id).unwrap().stream);
        }
        assert_eq!(order, [stream(1), stream(3), stream(9)]);
        assert_eq!(requests.len(), 0);
    }

    #[test]
    fn slots_are_reused() {
        let mut requests = Requests::new();
        for round in 0..1_000 {
            let id = requests.insert(request(round)).unwrap();
            assert!(requests.get_mut(id).is_some());
            requests.remove(id).unwrap();
            assert!(requests.remove(id).is_none());
        }
        assert_eq!(requests.slots.len(), 1);
        assert_eq!((requests.oldest, requests.newest), (NONE, NONE));
    }
}
