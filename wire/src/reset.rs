//! reset answers for connections that no process knows any more: token, length and bytes of a
//! stateless reset (RFC 9000 section 10.3).
//!
//! In come the connection ID of an [`crate::Verdict::Orphan`] and the length of its datagram, out
//! comes a datagram that ends the connection at the peer. One token function serves the kernel
//! program, the workers and the endpoint that announces the tokens.
//!
//! Invariant: a token is signed with the key of one worker of one epoch, so that a worker which is
//! shown a sibling's connection ID can only make a useless one. Never done here: deciding whether
//! an answer is due, and limiting how many.

use crate::Bytes;
use crate::cid::{Layout, SHORT_HEADER_CID_AT};
use crate::siphash::{Key, siphash128, siphash128_words};
use crate::words::Words;

/// The length of a stateless reset token.
pub const TOKEN_LEN: usize = 16;

/// The shortest stateless reset: five bytes and the token.
//= https://www.rfc-editor.org/rfc/rfc9000#section-10.3
//# For the Stateless Reset to appear as a valid
//# QUIC packet, the Unpredictable Bits field needs to include at least 38 bits of
//# data (or 5 bytes, less the two fixed bits).
pub const RESET_LEN_MIN: usize = 5 + TOKEN_LEN;

/// The longest stateless reset we send: 58 bytes.
///
/// Large enough to vary over 16 lengths that no observer can tell from small packets, small enough
/// that the kernel program writes and sums it in place and that it earns nothing as amplification.
pub const RESET_LEN_MAX: usize = RESET_LEN_VARIED + VARIATION_MASK;

/// The shortest datagram that is answered with a stateless reset.
pub const TRIGGER_LEN_MIN: usize = RESET_LEN_MIN + 1;

/// Why a packet of a connection that nobody knows gets no answer: one list for kernel and workers,
/// each a metric label.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Unanswered {
    /// Too short for an answer that is shorter still.
    TooShort,
    /// The same connection had an answer just before.
    Repeated,
    /// The source prefix has had its share.
    PrefixBudget,
    /// All sources together have.
    ResetBudget,
}

impl Unanswered {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 4] =
        [Self::TooShort, Self::Repeated, Self::PrefixBudget, Self::ResetBudget];

    /// The name of this reason as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TooShort => "too_short",
            Self::Repeated => "repeated",
            Self::PrefixBudget => "prefix_budget",
            Self::ResetBudget => "reset_budget",
        }
    }
}

/// The key that signs the reset tokens of one worker of the epoch with this reset root.
#[inline]
pub fn worker_key(reset_root: &Key, worker: u8) -> Key {
    Key::from_bytes(siphash128(reset_root, &[worker]))
}

/// The stateless reset token of a connection ID under the key of the worker that it names.
//= https://www.rfc-editor.org/rfc/rfc9000#section-10.3.2
//# A single static key can be used across all connections to the same endpoint by
//# generating the proof using a pseudorandom function that takes a static key and
//# the connection ID chosen by the endpoint (see Section 5.1) as input.
#[inline]
pub fn token(worker_key: &Key, cid: &[u8]) -> [u8; TOKEN_LEN] {
    siphash128(worker_key, cid)
}

/// [`worker_key`], the kernel program's form: two little-endian words.
#[inline]
pub fn worker_key_words(reset_root: &Key, worker: u8) -> [u64; 2] {
    siphash128_words(reset_root, [u64::from(worker), 0, 0], 1)
}

/// The token of the connection that a short header of this layout belonged to, under the key of its
/// worker: two little-endian words. `None` if there is no connection ID.
///
/// The kernel program's form of [`token`].
#[inline]
pub fn token_words<B: Bytes + ?Sized>(
    datagram: &B,
    layout: &Layout,
    worker_key: &Key,
) -> Option<[u64; 2]> {
    let cid = Words::read(datagram, SHORT_HEADER_CID_AT, layout.cid_len())?;
    Some(siphash128_words(worker_key, cid.words(), cid.len()))
}

/// How long the reset for a datagram of `trigger_len` bytes is; `None` if it gets no answer.
///
/// `entropy` is any random number; it varies the length of the answers to larger datagrams, from
/// 43 to [`RESET_LEN_MAX`] bytes.
#[inline]
pub fn reset_len(trigger_len: usize, entropy: u64) -> Option<usize> {
    if trigger_len < TRIGGER_LEN_MIN {
        return None;
    }
    //= https://www.rfc-editor.org/rfc/rfc9000#section-10.3.3
    //# An endpoint MUST ensure that every Stateless Reset that it sends is smaller than
    //# the packet that triggered it, unless it maintains state sufficient to prevent
    //# looping.
    let longest = trigger_len - 1;
    //= https://www.rfc-editor.org/rfc/rfc9000#section-10.3
    //# An endpoint that
    //# sends a Stateless Reset in response to a packet that is 43 bytes or shorter
    //# SHOULD send a Stateless Reset that is one byte shorter than the packet it
    //# responds to.
    //
    // The varied length is never below 43, so up to there `longest` is the smaller one.
    let [variation, ..] = entropy.to_le_bytes();
    let varied = RESET_LEN_VARIED + (usize::from(variation) & VARIATION_MASK);
    Some(varied.min(longest))
}

/// Writes a stateless reset of `len` bytes to the front of `out`.
///
/// Every byte of it but the token is drawn from `random`. False, and nothing written, if `len` is
/// under [`RESET_LEN_MIN`] or over the length of `out`.
#[inline]
pub fn write_reset(
    out: &mut [u8],
    len: usize,
    token: &[u8; TOKEN_LEN],
    random: &mut impl FnMut() -> u64,
) -> bool {
    if len < RESET_LEN_MIN {
        return false;
    }
    let Some((unpredictable, last)) =
        out.get_mut(..len).and_then(|reset| reset.split_last_chunk_mut())
    else {
        return false;
    };
    *last = *token;
    for chunk in unpredictable.chunks_mut(8) {
        for (byte, noise) in chunk.iter_mut().zip(random().to_le_bytes()) {
            *byte = noise;
        }
    }
    //= https://www.rfc-editor.org/rfc/rfc9000#section-10.3
    //# Endpoints MUST send Stateless Resets formatted as a packet with a short header.
    if let Some(first) = unpredictable.first_mut() {
        *first = FIXED_BITS | (*first & UNPREDICTABLE_BITS);
    }
    true
}

/// The shortest reset for a datagram of 44 bytes or more.
//= https://www.rfc-editor.org/rfc/rfc9000#section-10.3.3
//# A Stateless Reset that is smaller than 41 bytes might be identifiable as a
//# Stateless Reset by an observer, depending upon the length of the peer's
//# connection IDs.
const RESET_LEN_VARIED: usize = 43;
/// Four bits of length: a power of two less one, so that no remainder is computed.
const VARIATION_MASK: usize = 15;
/// The two highest bits of the first byte: short header, fixed bit set.
const FIXED_BITS: u8 = 0b0100_0000;
const UNPREDICTABLE_BITS: u8 = 0b0011_1111;

const _: () = assert!(VARIATION_MASK.count_ones() == VARIATION_MASK.trailing_ones());
const _: () = assert!(RESET_LEN_MAX <= 64);
