//! tables hold what an app remembers about connections and streams, and what it still has to do.
//!
//! All of them keep their memory: after warm-up a request allocates nothing here.

use std::collections::VecDeque;

use crate::app::{ConnId, Lane, StreamId};

/// State of a connection that is emptied and used again for the next one in its slot.
pub(super) trait Reuse: Default {
    fn clear(&mut self);
}

/// State by connection.
#[derive(Debug)]
pub(super) struct ConnTable<T> {
    slots: Vec<Option<Entry<T>>>,
}

#[derive(Debug)]
struct Entry<T> {
    id: ConnId,
    open: bool,
    state: T,
}

impl<T: Reuse> ConnTable<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new() }
    }

    /// The state of a connection, empty if it had none.
    pub(super) fn open(&mut self, id: ConnId) -> &mut T {
        if self.slots.len() <= id.slot() {
            self.slots.resize_with(id.slot() + 1, || None);
        }
        let fresh = || Entry { id, open: true, state: T::default() };
        let entry = self.slots[id.slot()].get_or_insert_with(fresh);
        if entry.id != id || !entry.open {
            entry.state.clear();
            (entry.id, entry.open) = (id, true);
        }
        &mut entry.state
    }

    /// The state of a connection that has some.
    pub(super) fn get(&mut self, id: ConnId) -> Option<&mut T> {
        let entry = self.slots.get_mut(id.slot())?.as_mut()?;
        (entry.open && entry.id == id).then_some(&mut entry.state)
    }

    /// The state of each connection that has some.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (ConnId, &mut T)> {
        let open = self.slots.iter_mut().flatten().filter(|entry| entry.open);
        open.map(|entry| (entry.id, &mut entry.state))
    }

    /// Forgets what a connection had, at once: it may hold files and unsent data.
    pub(super) fn close(&mut self, id: ConnId) {
        if let Some(entry) = self.slots.get_mut(id.slot()).and_then(Option::as_mut)
            && entry.id == id
        {
            entry.state.clear();
            entry.open = false;
        }
    }
}

/// State by stream, of one connection. Streams come and go roughly in order, so that a sorted
/// queue is both small and quick.
#[derive(Debug)]
pub(super) struct StreamTable<T> {
    streams: VecDeque<(StreamId, T)>,
}

impl<T> Default for StreamTable<T> {
    fn default() -> Self {
        Self { streams: VecDeque::new() }
    }
}

impl<T> StreamTable<T> {
    pub(super) fn insert(&mut self, stream: StreamId, state: T) {
        match self.find(stream) {
            Ok(at) => self.streams[at].1 = state,
            Err(at) if at == self.streams.len() => self.streams.push_back((stream, state)),
            Err(at) => self.streams.insert(at, (stream, state)),
        }
    }

    pub(super) fn get(&mut self, stream: StreamId) -> Option<&mut T> {
        let at = self.find(stream).ok()?;
        Some(&mut self.streams[at].1)
    }

    pub(super) fn remove(&mut self, stream: StreamId) -> Option<T> {
        let at = self.find(stream).ok()?;
        // At the ends nothing has to be moved.
        let removed = match at {
            0 => self.streams.pop_front(),
            _ if at + 1 == self.streams.len() => self.streams.pop_back(),
            _ => self.streams.remove(at),
        };
        Some(removed?.1)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (StreamId, &mut T)> {
        self.streams.iter_mut().map(|(stream, state)| (*stream, state))
    }

    pub(super) fn clear(&mut self) {
        self.streams.clear();
    }

    fn find(&self, stream: StreamId) -> Result<usize, usize> {
        // Usually the youngest, or the only one.
        match self.streams.back() {
            Some((last, _)) if *last == stream => Ok(self.streams.len() - 1),
            Some((last, _)) if *last < stream => Err(self.streams.len()),
            None => Err(0),
            _ => self.streams.binary_search_by_key(&stream, |(id, _)| *id),
        }
    }
}

/// Streams with work that is not blocked, served in turn so that all get the same share.
#[derive(Debug, Default)]
pub(super) struct WorkList {
    queue: VecDeque<(ConnId, StreamId)>,
}

impl WorkList {
    /// Puts a stream at the end. `queued` is the stream's own note that it is on the list, which
    /// keeps the list as short as the number of open streams.
    pub(super) fn push(&mut self, id: ConnId, stream: StreamId, queued: &mut bool) {
        if !*queued {
            *queued = true;
            self.queue.push_back((id, stream));
        }
    }

    /// How many visits this turn may pay.
    pub(super) fn visits(&self) -> usize {
        self.queue.len().min(VISITS_PER_TURN_MAX)
    }

    pub(super) fn pop(&mut self) -> Option<(ConnId, StreamId)> {
        self.queue.pop_front()
    }

    /// Ends a turn: asks for the next one at once if work is left.
    pub(super) fn rest(&self, lane: &mut Lane<'_>) {
        if !self.queue.is_empty() {
            lane.wake_at(lane.now());
        }
    }
}

/// Visits in one turn. A visit moves at most 256 KiB, so no app takes more than 16 MiB in or out
/// before the worker looks at other packets again; the windows of most connections end it sooner.
/// More makes handshakes and acknowledgements wait, less sends smaller batches.
const VISITS_PER_TURN_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::Dir;

    #[derive(Debug, Default)]
    struct State(Vec<u8>);

    impl Reuse for State {
        fn clear(&mut self) {
            self.0.clear();
        }
    }

    fn id(slot: u32, generation: u32) -> ConnId {
        ConnId { slot, generation }
    }

    fn stream(index: u64) -> StreamId {
        StreamId::new(quinn_proto::Side::Client, Dir::Bi, index)
    }

    #[test]
    fn a_slot_is_used_again_without_its_past() {
        let mut table = ConnTable::<State>::new();
        table.open(id(2, 0)).0.extend([1, 2, 3]);
        assert_eq!(table.get(id(2, 0)).map(|state| state.0.len()), Some(3));
        table.close(id(2, 0));
        assert!(table.get(id(2, 0)).is_none());
        let state = table.open(id(2, 1));
        assert!(state.0.is_empty() && state.0.capacity() >= 3);
        table.close(id(2, 0));
        assert!(table.get(id(2, 1)).is_some(), "the past does not close the present");
    }

    #[test]
    fn a_connection_seen_without_its_predecessor_closing_starts_empty() {
        let mut table = ConnTable::<State>::new();
        table.open(id(0, 0)).0.push(1);
        assert!(table.open(id(0, 1)).0.is_empty());
        assert!(table.get(id(0, 0)).is_none());
    }

    #[test]
    fn streams_are_found_in_any_order() {
        let mut table = StreamTable::default();
        for index in [4, 0, 9, 2, 7] {
            table.insert(stream(index), index);
        }
        assert_eq!(table.remove(stream(2)), Some(2));
        assert_eq!(table.remove(stream(2)), None);
        assert_eq!(table.get(stream(7)), Some(&mut 7));
        assert!(table.streams.iter().is_sorted_by_key(|(id, _)| *id));
    }

    #[test]
    fn the_work_list_is_fair_and_holds_a_stream_once() {
        let mut work = WorkList::default();
        let mut queued = [false; 2];
        for at in [0, 1, 0] {
            work.push(id(0, 0), stream(at), &mut queued[usize::from(at != 0)]);
        }
        assert_eq!(work.visits(), 2);
        assert_eq!(work.pop(), Some((id(0, 0), stream(0))));
        assert_eq!(work.pop(), Some((id(0, 0), stream(1))));
        assert_eq!(work.pop(), None);
    }
}
