//! signer remembers what answers are made of, so that it is not made anew for each of them.
//!
//! The key of a worker of a retired epoch takes a hash of its own, and every number of the kernel's
//! generator a call. Each core keeps the last key of each worker number, and numbers of its own.
//!
//! Invariant: a key is used under the reset root alone that it was made of.

use core::cell::UnsafeCell;

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use quiclane_wire::{Key, worker_key_words};

use crate::maps::SIGNERS;

/// The key of a worker of the epoch with this reset root, and fresh numbers.
#[inline(always)]
pub(crate) fn signer(root: &Key, worker: u8) -> Option<(Key, Noise)> {
    let signer = SIGNERS.get_ptr_mut(u32::from(worker))?.cast::<State>();
    // SAFETY: the map gave the pointer to this core's own value, and nothing preempts a program to
    // run another one on it.
    let state = unsafe { &mut *signer };
    if state.root != [root.k0, root.k1] {
        state.root = [root.k0, root.k1];
        state.key = worker_key_words(root, worker);
        state.noise = [random() << 32 | random(), random() << 32 | random()];
    }
    let [k0, k1] = state.key;
    let [seed, salt] = state.noise;
    // Linear congruential generators, whose steps nobody sees.
    let seed = seed.wrapping_mul(FACTORS[0]).wrapping_add(GOLDEN);
    let salt = salt.wrapping_mul(FACTORS[1]).wrapping_add(GOLDEN);
    state.noise = [seed, salt];
    Some((Key { k0, k1 }, Noise { seed, salt }))
}

#[inline(always)]
fn random() -> u64 {
    // SAFETY: the helper takes nothing and gives a number.
    u64::from(unsafe { bpf_get_prandom_u32() })
}

/// What a core remembers of a worker number.
#[repr(transparent)]
pub(crate) struct Signer(UnsafeCell<State>);

// SAFETY: each core has its own.
unsafe impl Sync for Signer {}

#[repr(C)]
struct State {
    root: [u64; 2],
    key: [u64; 2],
    noise: [u64; 2],
}

/// Numbers for the bytes of one answer.
pub(crate) struct Noise {
    seed: u64,
    salt: u64,
}

impl Noise {
    /// SplitMix64 of the seed, and something that its inverse does not tell: the bytes that were
    /// seen of an answer do not foretell the others.
    #[inline(always)]
    pub(crate) fn word(&self, index: u64) -> u64 {
        let word = self.seed.wrapping_add(index.wrapping_mul(GOLDEN));
        let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31 ^ self.salt
    }
}

/// 2^64 divided by the golden ratio: odd, and spreads what it is multiplied with.
pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// Of Knuth's MMIX, and of PCG: full periods with any odd increment.
const FACTORS: [u64; 2] = [0x5851_f42d_4c95_7f2d, 0xda94_2042_e4dd_58b5];
