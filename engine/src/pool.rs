//! pool gives received datagrams a home of their own without allocating for each.
//!
//! quinn-proto keeps slices of a datagram while its stream data is unread, and accounts for them
//! by the length of the datagram. So each datagram gets a slot hardly larger than itself: what a
//! peer can make us keep stays within twice what quinn-proto believes that it keeps.
//!
//! ```text
//! class 64     [slot][slot][slot]...   sizes double; the datagrams of a turn take slots in order,
//! class 128    [slot][slot]...         and the next turn starts at the front again: memory that
//! ...                                  is still in the cache
//! class 65,536 [slot]                  a slot that is still held is replaced and waits in `held`
//! ```
//!
//! Invariant: a slot is written only while no slice of it exists.

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

/// Receive memory of one worker.
#[derive(Debug)]
pub(crate) struct Pool {
    classes: [Class; CLASSES],
    /// Slots whose turn came while they were held.
    pub(crate) replaced: u64,
}

/// The slots of one size.
#[derive(Debug)]
struct Class {
    bytes: usize,
    slots: Vec<BytesMut>,
    /// The slot that is next in this turn.
    next: usize,
    /// Slots that were held when their turn came, the oldest first.
    held: VecDeque<BytesMut>,
    held_max: usize,
}

impl Pool {
    pub(crate) fn new() -> Self {
        let class = |index| {
            let bytes = SLOT_MIN << index;
            let held_max = HELD_BYTES_MAX / bytes;
            Class { bytes, slots: Vec::new(), next: 0, held: VecDeque::new(), held_max }
        };
        Self { classes: std::array::from_fn(class), replaced: 0 }
    }

    /// Starts over at the first slots. Once per turn.
    pub(crate) fn rewind(&mut self) {
        for class in &mut self.classes {
            class.next = 0;
        }
    }

    /// A copy of `datagram` in memory of its own.
    pub(crate) fn copy(&mut self, datagram: &[u8]) -> BytesMut {
        let Self { classes, replaced } = self;
        let class = &mut classes[class_of(datagram.len())];
        if class.next == class.slots.len() {
            class.slots.push(new_slot(class.bytes));
        } else if !class.slots[class.next].try_reclaim(class.bytes) {
            *replaced += 1;
            class.replace_next();
        }
        let slot = &mut class.slots[class.next];
        class.next += 1;
        slot.extend_from_slice(datagram);
        slot.split()
    }
}

impl Class {
    /// Puts a free slot in the place of the next one, which is held.
    fn replace_next(&mut self) {
        // The oldest are the likeliest to be free again; a bounded look keeps this O(1).
        for _ in 0..self.held.len().min(LOOK_MAX) {
            let Some(mut candidate) = self.held.pop_front() else { break };
            let free = candidate.try_reclaim(self.bytes);
            let held =
                if free { mem::replace(&mut self.slots[self.next], candidate) } else { candidate };
            self.held.push_back(held);
            if free {
                return;
            }
        }
        let held = mem::replace(&mut self.slots[self.next], new_slot(self.bytes));
        if self.held.len() < self.held_max {
            self.held.push_back(held);
        }
        // Else it is forgotten here and freed with its last slice.
    }
}

/// Which class a datagram of `length` bytes goes to.
fn class_of(length: usize) -> usize {
    let slot = length.next_power_of_two().max(SLOT_MIN);
    (slot.ilog2() - SLOT_MIN.ilog2()) as usize
}

/// A slot that is shared from the start, so that the first slice of it does not allocate later.
fn new_slot(bytes: usize) -> BytesMut {
    let mut slot = BytesMut::with_capacity(bytes);
    slot.extend_from_slice(&[0]);
    drop(Bytes::from(slot.split()));
    let reclaimed = slot.try_reclaim(bytes);
    debug_assert!(reclaimed, "nobody else holds a new slot");
    slot
}

/// An acknowledgement fits.
const SLOT_MIN: usize = 64;
/// Powers of two from [`SLOT_MIN`] to 64 KiB, more than any UDP payload.
const CLASSES: usize = 11;
/// Held slots of one class that are remembered for reuse.
const HELD_BYTES_MAX: usize = 4 << 20;
/// Held slots looked at before a new one is allocated.
const LOOK_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_hardly_larger_than_their_datagrams() {
        let pool = Pool::new();
        for length in 0..=65_535 {
            let slot = pool.classes[class_of(length)].bytes;
            assert!(length <= slot && slot <= (2 * length).max(SLOT_MIN), "{length}: {slot}");
        }
    }

    #[test]
    fn slices_survive_and_memory_is_reused() {
        let mut pool = Pool::new();
        let first = pool.copy(&[1; 1000]).freeze();
        for round in 0..10_000u32 {
            pool.rewind();
            let bytes = [round.to_le_bytes()[0]; 1000];
            let copy = pool.copy(&bytes);
            assert_eq!(&copy[..], &bytes[..]);
        }
        assert_eq!(&first[..], &[1; 1000][..]);
        assert_eq!(pool.replaced, 1, "the slot of the first, and no other");
    }

    #[test]
    fn no_two_datagrams_share_memory() {
        let mut pool = Pool::new();
        let held: Vec<_> = (0..3_000u32)
            .map(|n| {
                if n % 100 == 0 {
                    pool.rewind();
                }
                pool.copy(&n.to_le_bytes().repeat(1 + n as usize % 500))
            })
            .collect();
        for (n, bytes) in held.iter().enumerate() {
            let expected = u32::try_from(n).unwrap().to_le_bytes();
            assert!(bytes.chunks(4).all(|word| word == expected));
        }
    }

    #[test]
    fn held_slots_are_replaced_counted_and_serve_again() {
        let mut pool = Pool::new();
        let round = |pool: &mut Pool| {
            pool.rewind();
            (0..100).map(|_| pool.copy(&[7; 1400]).freeze()).collect::<Vec<_>>()
        };
        let held: Vec<_> = (0..10).map(|_| round(&mut pool)).collect();
        assert_eq!(pool.replaced, 900);
        drop(held);
        let slots = |pool: &Pool| {
            let class = &pool.classes[class_of(1400)];
            class.slots.len() + class.held.len()
        };
        let (before, replaced) = (slots(&pool), pool.replaced);
        for _ in 0..1_000 {
            drop(round(&mut pool));
        }
        assert_eq!((slots(&pool), pool.replaced), (before, replaced), "freed slots serve again");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut pool = Pool::new();
        let mut held = Vec::new();
        for _ in 0..5_000 {
            pool.rewind();
            held.push(pool.copy(&[7; 1400]));
        }
        let class = &pool.classes[class_of(1400)];
        assert_eq!((class.slots.len(), class.held.len()), (1, HELD_BYTES_MAX / 2048));
    }
}
