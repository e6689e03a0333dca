//! scraps gives small pieces of received data a home of their own without allocating for each.
//!
//! Pieces are copied into a block, one behind the other, and handed out together. A block is used
//! again as soon as nobody holds a slice of it: quinn-proto does until the peer acknowledged it.
//!
//! Blocks are small, because one slice that a slow peer never acknowledges keeps a whole one.
//!
//! Invariant: a block is written only while no slice of it exists beyond the written part.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::reuse::Blocks;

/// Memory for the small pieces of all streams of a worker.
#[derive(Debug)]
pub(super) struct Scraps {
    /// Holds what was pushed and not sealed yet at its front.
    block: BytesMut,
    blocks: Blocks,
}

impl Scraps {
    pub(super) fn new() -> Self {
        let blocks = Blocks::new(BLOCK_BYTES);
        Self { block: blocks.allocate(), blocks }
    }

    /// Copies `piece`, which must be no longer than a block, behind the ones before. What does not
    /// fit into the same block any more goes to `out`.
    pub(super) fn push(&mut self, piece: &[u8], out: &mut VecDeque<Bytes>) {
        if self.block.capacity() - self.block.len() < piece.len() {
            self.seal(out);
            self.blocks.renew(&mut self.block);
        }
        self.block.extend_from_slice(piece);
    }

    /// A copy of `parts`, one behind the other, in a block unless they are longer than one.
    /// Nothing may wait to be sealed.
    pub(super) fn copy(&mut self, parts: &[&[u8]]) -> Bytes {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes > BLOCK_BYTES || !self.block.is_empty() {
            return parts.concat().into();
        }
        if self.block.capacity() < bytes {
            self.blocks.renew(&mut self.block);
        }
        parts.iter().for_each(|part| self.block.extend_from_slice(part));
        self.block.split().freeze()
    }

    /// Hands out what was pushed, as one slice.
    pub(super) fn seal(&mut self, out: &mut VecDeque<Bytes>) {
        if !self.block.is_empty() {
            out.push_back(self.block.split().freeze());
        }
    }
}

/// Four of the largest pieces, which are below 1 KiB. More makes a slice that is held for long
/// dearer, less wastes more of a block's end.
const BLOCK_BYTES: usize = 4 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined_within_a_block() {
        let (mut scraps, mut out) = (Scraps::new(), VecDeque::new());
        for n in 0..10u8 {
            scraps.push(&[n; 1_000], &mut out);
        }
        scraps.seal(&mut out);
        scraps.seal(&mut out);
        let lengths: Vec<_> = out.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [4_000, 4_000, 2_000]);
        let bytes: Vec<u8> = out.iter().flatten().copied().collect();
        let expected: Vec<u8> = (0..10u8).flat_map(|n| [n; 1_000]).collect();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn copies_share_blocks_unless_they_are_long() {
        let mut scraps = Scraps::new();
        let copies: Vec<Bytes> = (0..100u8).map(|n| scraps.copy(&[&[n; 60], &[n; 40]])).collect();
        for (n, copy) in (0..100u8).zip(&copies) {
            assert_eq!(copy[..], [n; 100]);
        }
        assert_eq!(scraps.copy(&[&[7; BLOCK_BYTES + 1]]).len(), BLOCK_BYTES + 1);
        let blocks = scraps.blocks.remembered();
        assert!((1..=4).contains(&blocks), "{blocks} blocks for 10 kB");
    }

    #[test]
    fn what_is_held_survives_and_freed_blocks_serve_again() {
        let (mut scraps, mut held) = (Scraps::new(), VecDeque::new());
        scraps.push(&[7; 1_000], &mut held);
        scraps.seal(&mut held);
        let mut window = VecDeque::new();
        for n in 0..10_000u32 {
            scraps.push(&n.to_le_bytes().repeat(100), &mut window);
            scraps.seal(&mut window);
            if window.len() > 50 {
                let oldest = window.pop_front().unwrap();
                assert_eq!(oldest, (n - 50).to_le_bytes().repeat(100));
            }
        }
        assert_eq!(held, [&[7; 1_000][..]]);
        let blocks = scraps.blocks.remembered();
        assert!(blocks <= 8, "{blocks} blocks for 20 kB");
    }
}
