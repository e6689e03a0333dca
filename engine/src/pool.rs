//! pool gives received datagrams a home of their own without allocating for each.
//!
//! quinn-proto keeps slices of a datagram while its stream data is unread. Datagrams are copied
//! into blocks; a block is reused as soon as nobody holds a slice of it, and replaced when
//! somebody does.
//!
//! ```text
//! block   [ datagram | datagram | datagram |        free         ]   copied here, sliced off
//! pinned  [ blocks whose slices are still held: tried again in turn ]
//! ```
//!
//! Invariant: a block is written only while no slice of it exists beyond the written part.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Receive memory of one worker.
#[derive(Debug)]
pub(crate) struct Pool {
    block: BytesMut,
    pinned: VecDeque<BytesMut>,
    /// Blocks allocated because all others were held.
    pub(crate) replaced: u64,
}

impl Pool {
    pub(crate) fn new() -> Self {
        let mut pinned = VecDeque::with_capacity(PINNED_MAX);
        // Two blocks from the start: one may be pinned by a sibling's mailbox in steady state.
        pinned.push_back(new_block());
        Self { block: new_block(), pinned, replaced: 0 }
    }

    /// Starts over at the front of the block when nothing of it is held: memory that is still in
    /// the cache. Once per turn.
    pub(crate) fn rewind(&mut self) {
        let _ = self.block.try_reclaim(BLOCK_BYTES);
    }

    /// A copy of `datagram` in memory of its own.
    pub(crate) fn copy(&mut self, datagram: &[u8]) -> BytesMut {
        if self.block.capacity() < datagram.len() {
            self.next_block();
        }
        self.block.extend_from_slice(datagram);
        self.block.split()
    }

    fn next_block(&mut self) {
        if self.block.try_reclaim(BLOCK_BYTES) {
            return;
        }
        // The oldest are the likeliest to be free again; a bounded look keeps this O(1).
        for _ in 0..self.pinned.len().min(LOOK_MAX) {
            let Some(mut candidate) = self.pinned.pop_front() else { break };
            if candidate.try_reclaim(BLOCK_BYTES) {
                self.pinned.push_back(std::mem::replace(&mut self.block, candidate));
                return;
            }
            self.pinned.push_back(candidate);
        }
        self.replaced += 1;
        let held = std::mem::replace(&mut self.block, new_block());
        if self.pinned.len() < PINNED_MAX {
            self.pinned.push_back(held);
        }
        // Else it is forgotten here and freed with its last slice.
    }
}

/// A block that is shared from the start, so that the first slice of it does not allocate later.
fn new_block() -> BytesMut {
    let mut block = BytesMut::with_capacity(BLOCK_BYTES);
    block.extend_from_slice(&[0]);
    drop(Bytes::from(block.split()));
    let reclaimed = block.try_reclaim(BLOCK_BYTES);
    debug_assert!(reclaimed, "nobody else holds a new block");
    block
}

/// A block holds one full GRO train and fits the second-level cache with room to spare.
const BLOCK_BYTES: usize = 128 << 10;
/// Held blocks that are remembered for reuse: 32 MiB a worker.
const PINNED_MAX: usize = 256;
/// Held blocks looked at before a new one is allocated.
const LOOK_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_survive_and_memory_is_reused() {
        let mut pool = Pool::new();
        let first = pool.copy(&[1; 1000]).freeze();
        for round in 0..10_000u32 {
            pool.rewind();
            let bytes = [round.to_le_bytes()[0]; 1400];
            let copy = pool.copy(&bytes);
            assert_eq!(&copy[..], &bytes[..]);
        }
        assert_eq!(&first[..], &[1; 1000][..]);
        assert_eq!(pool.replaced, 0, "one held block leaves the spare one to work with");
    }

    #[test]
    fn held_blocks_are_replaced_and_counted() {
        let mut pool = Pool::new();
        let held: Vec<_> = (0..1000).map(|_| pool.copy(&[7; 1400]).freeze()).collect();
        assert!(pool.replaced >= 9, "1.4 MB held needs 11 blocks, got {}", pool.replaced);
        let after = pool.replaced;
        drop(held);
        for _ in 0..10_000 {
            drop(pool.copy(&[7; 1400]));
        }
        assert_eq!(pool.replaced, after, "freed blocks serve again");
    }
}
