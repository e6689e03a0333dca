//! random makes reproducible numbers: SipHash in counter mode.

use quiclane_wire::{Key, siphash64};

/// One stream of numbers.
pub(super) struct Random {
    key: Key,
    count: u64,
}

impl Random {
    /// The stream of `seed` for one purpose.
    pub(super) fn new(seed: u64, purpose: &str) -> Self {
        let k1 = siphash64(&Key { k0: seed, k1: 0 }, purpose.as_bytes());
        Self { key: Key { k0: seed, k1 }, count: 0 }
    }

    /// A number below `bound`, which must not be zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.count += 1;
        siphash64(&self.key, &self.count.to_le_bytes()) % bound.max(1)
    }
}
