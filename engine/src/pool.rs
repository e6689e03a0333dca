//! pool gives received datagrams a home of their own without allocating for each.
//!
//! quinn-proto keeps slices of a datagram while its stream data is unread, and accounts for them
//! by the length of the datagram. So each datagram gets a slot hardly larger than itself: what a
//! peer can make us keep stays within twice what quinn-proto believes that it keeps.
//!
//! ```text
//! class 64     [slot][slot][slot]...   64, 96, 128, 192 and so on; the datagrams of a turn take
//! class 96     [slot][slot]...         slots in order, and the next turn starts at the front
//! ...                                  again: memory that is still in the cache
//! class 65,536 [slot]                  a slot that is still held is replaced and waits in `held`
//! ```
//!
//! Invariant: a slot is written only while no slice of it exists.

use bytes::BytesMut;

use crate::reuse::Blocks;

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
    blocks: Blocks,
    slots: Vec<BytesMut>,
    /// The slot that is next in this turn.
    next: usize,
}

impl Pool {
    pub(crate) fn new() -> Self {
        let class = |index| {
            let blocks = Blocks::new(slot_bytes(index));
            Class { blocks, slots: Vec::new(), next: 0 }
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
        let Class { blocks, slots, next } = &mut classes[class_of(datagram.len())];
        if *next == slots.len() {
            slots.push(blocks.allocate());
        } else if !blocks.renew(&mut slots[*next]) {
            *replaced += 1;
        }
        let slot = &mut slots[*next];
        *next += 1;
        slot.extend_from_slice(datagram);
        slot.split()
    }
}

/// Which class a datagram of `length` bytes goes to.
fn class_of(length: usize) -> usize {
    let power = length.next_power_of_two().max(SLOT_MIN);
    let index = 2 * (power.ilog2() - SLOT_MIN.ilog2()) as usize;
    // Three quarters of it are the class between, which is where full-size packets fit: 1,536.
    if index > 0 && length <= power / 4 * 3 { index - 1 } else { index }
}

/// The size of the slots of a class.
fn slot_bytes(index: usize) -> usize {
    let power = SLOT_MIN << index.div_ceil(2);
    if index % 2 == 1 { power / 4 * 3 } else { power }
}

/// An acknowledgement fits.
const SLOT_MIN: usize = 64;
/// From [`SLOT_MIN`] to 64 KiB, more than any UDP payload.
const CLASSES: usize = 21;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_hardly_larger_than_their_datagrams() {
        for length in 0..=65_535 {
            let slot = slot_bytes(class_of(length));
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
            class.slots.len() + class.blocks.remembered()
        };
        let (before, replaced) = (slots(&pool), pool.replaced);
        for _ in 0..1_000 {
            drop(round(&mut pool));
        }
        assert_eq!((slots(&pool), pool.replaced), (before, replaced), "freed slots serve again");
    }
}
