//! timers knows which connection is due next.
//!
//! A binary heap with exactly one entry per armed connection: re-arming moves the entry, so
//! memory is bounded by the number of connections whatever a peer does to its timers.

use std::time::Instant;

/// The deadlines of all connections of a worker, by slot.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: Vec<Entry>,
    /// Position in the heap by slot, `ABSENT` when not armed.
    positions: Vec<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Instant,
    slot: u32,
}

impl Timers {
    /// When the earliest is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|entry| entry.at)
    }

    /// Takes out the earliest slot if it is due at `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let first = *self.heap.first()?;
        if first.at > now {
            return None;
        }
        self.set(first.slot, None);
        Some(first.slot)
    }

    /// Arms, moves or disarms (`None`) the deadline of `slot`.
    pub(crate) fn set(&mut self, slot: u32, at: Option<Instant>) {
        let index = slot as usize;
        if index >= self.positions.len() {
            if at.is_none() {
                return;
            }
            self.positions.resize(index + 1, ABSENT);
        }
        match (self.positions[index], at) {
            (ABSENT, None) => {}
            (ABSENT, Some(at)) => {
                self.heap.push(Entry { at, slot });
                self.sift_up(self.heap.len() - 1);
            }
            (position, Some(at)) => {
                let position = position as usize;
                let earlier = at < self.heap[position].at;
                self.heap[position].at = at;
                if earlier {
                    self.sift_up(position);
                } else {
                    self.sift_down(position);
                }
            }
            (position, None) => {
                let position = position as usize;
                self.positions[index] = ABSENT;
                let last = self.heap.len() - 1;
                self.heap.swap_remove(position);
                if position < last {
                    let moved = self.sift_up(position);
                    self.sift_down(moved);
                }
            }
        }
    }

    /// Moves an entry towards the front; returns where it came to rest.
    fn sift_up(&mut self, mut position: usize) -> usize {
        let entry = self.heap[position];
        while position > 0 {
            let parent = (position - 1) / 2;
            if self.heap[parent].at <= entry.at {
                break;
            }
            self.place(position, self.heap[parent]);
            position = parent;
        }
        self.place(position, entry);
        position
    }

    fn sift_down(&mut self, mut position: usize) {
        let entry = self.heap[position];
        loop {
            let mut child = 2 * position + 1;
            if child >= self.heap.len() {
                break;
            }
            if child + 1 < self.heap.len() && self.heap[child + 1].at < self.heap[child].at {
                child += 1;
            }
            if self.heap[child].at >= entry.at {
                break;
            }
            self.place(position, self.heap[child]);
            position = child;
        }
        self.place(position, entry);
    }

    #[expect(clippy::cast_possible_truncation, reason = "slots are u32, so there are no more")]
    fn place(&mut self, position: usize, entry: Entry) {
        self.heap[position] = entry;
        self.positions[entry.slot as usize] = position as u32;
    }
}

const ABSENT: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(
            steps in prop::collection::vec((0u32..40, prop::option::of(0u64..1000)), 1..400)
        ) {
            let start = crate::clock::now();
            let mut timers = Timers::default();
            let mut model: HashMap<u32, Instant> = HashMap::new();
            for (slot, at) in steps {
                let at = at.map(|ms| start + Duration::from_millis(ms));
                timers.set(slot, at);
                match at {
                    Some(at) => model.insert(slot, at),
                    None => model.remove(&slot),
                };
                prop_assert_eq!(timers.next(), model.values().min().copied());
                prop_assert_eq!(timers.heap.len(), model.len());
            }
            let half = start + Duration::from_millis(500);
            while let Some(slot) = timers.pop_due(half) {
                let at = model.remove(&slot);
                prop_assert!(at.is_some_and(|at| at <= half));
            }
            prop_assert!(model.values().all(|at| *at > half));
            prop_assert_eq!(timers.heap.len(), model.len());
        }
    }
}
