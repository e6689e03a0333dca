//! reuse hands out memory that is written again once nobody holds a slice of it.
//!
//! A block that is still held when its owner wants to write again is replaced and waits here, to be
//! tried again in turn. What quinn-proto does with slices is its own business: it keeps received
//! data until it is read, and sent data until it is acknowledged.
//!
//! Invariant: a block that [`Blocks`] gives out has no slices.

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

/// Blocks of one size.
#[derive(Debug)]
pub(crate) struct Blocks {
    bytes: usize,
    /// Blocks of which slices were held when they were wanted, the oldest first.
    held: VecDeque<BytesMut>,
    held_max: usize,
}

impl Blocks {
    /// Blocks of `bytes` bytes each, of which at most [`HELD_BYTES_MAX`] are remembered while they
    /// are held.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { bytes, held: VecDeque::new(), held_max: HELD_BYTES_MAX / bytes }
    }

    /// A new one. It is shared from the start, so that its first slice does not allocate later.
    pub(crate) fn allocate(&self) -> BytesMut {
        let mut block = BytesMut::with_capacity(self.bytes);
        block.extend_from_slice(&[0]);
        drop(Bytes::from(block.split()));
        let reclaimed = block.try_reclaim(self.bytes);
        debug_assert!(reclaimed, "nobody else holds a new block");
        block
    }

    /// Makes all of `block`, which must be one of these and empty, free to be written. Returns
    /// whether it still is the same block: if slices of it are held, another takes its place.
    pub(crate) fn renew(&mut self, block: &mut BytesMut) -> bool {
        if block.try_reclaim(self.bytes) {
            return true;
        }
        // The oldest are the likeliest to be free again; a bounded look keeps this O(1).
        for _ in 0..self.held.len().min(LOOK_MAX) {
            let Some(mut candidate) = self.held.pop_front() else { break };
            if candidate.try_reclaim(self.bytes) {
                self.held.push_back(mem::replace(block, candidate));
                return false;
            }
            self.held.push_back(candidate);
        }
        let held = mem::replace(block, self.allocate());
        if self.held.len() < self.held_max {
            self.held.push_back(held);
        }
        // Else it is forgotten here and freed with its last slice.
        false
    }

    /// How many held blocks are remembered.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.held.len()
    }
}

/// Held blocks of one size that are remembered for another use.
pub(crate) const HELD_BYTES_MAX: usize = 4 << 20;
/// Held blocks looked at before a new one is allocated.
const LOOK_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_block_is_replaced_and_serves_again_when_it_is_free() {
        let mut blocks = Blocks::new(4_096);
        let mut block = blocks.allocate();
        assert!(blocks.renew(&mut block), "nobody holds it");
        block.extend_from_slice(b"kept");
        let (kept, home) = (block.split().freeze(), block.as_ptr());
        assert!(!blocks.renew(&mut block));
        assert_eq!((block.capacity(), blocks.remembered()), (4_096, 1));
        assert_eq!(&kept[..], b"kept");
        drop(kept);
        block.extend_from_slice(b"more");
        let _more = block.split();
        assert!(!blocks.renew(&mut block));
        assert_eq!((block.as_ptr() as usize + 4, blocks.remembered()), (home as usize, 1));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut blocks = Blocks::new(64 << 10);
        let mut block = blocks.allocate();
        let mut held = Vec::new();
        for _ in 0..1_000 {
            block.extend_from_slice(&[7; 100]);
            held.push(block.split());
            blocks.renew(&mut block);
        }
        assert_eq!(blocks.remembered(), HELD_BYTES_MAX / (64 << 10));
    }
}
