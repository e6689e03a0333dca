//! wire says what the bytes mean: one reading of a QUIC datagram for every room that sees one.
//!
//! In come the bytes of one UDP payload and the table of epochs, out comes a [`Verdict`]: which
//! worker owns the packet, or why nobody wants it. The kernel programs, the workers and the tests
//! call the same functions, so they cannot disagree.
//!
//! Our connection IDs carry their own routing ([`Layout`]). `n` is the length of the server ID:
//!
//! ```text
//!   0        1          1+n      2+n     3+n             8+n              12+n
//!   +--------+----------+--------+-------+---------------+----------------+
//!   | config | server   | worker | epoch | unique        | check          |
//!   | length | 0..8     | 1      | 1     | 5             | 4              |
//!   +--------+----------+--------+-------+---------------+----------------+
//!
//!   first byte   config codepoint (3 bits: 0, or 7 without a server ID), length of the rest (5)
//!   worker       who owns the connection         epoch   low byte of the start that made the ID
//!   unique       never twice in one worker and epoch                    (most significant first)
//!   check        first 4 bytes of SipHash-2-4 of worker, epoch and unique, under the check key of
//!                the epoch, which is derived from the server ID too
//! ```
//!
//! And this is what [`classify`] makes of a datagram:
//!
//! ```text
//!   datagram
//!   |- short header: the CID at byte 1
//!   |  |- our shape, known epoch, check verifies
//!   |  |  |- epoch live ----------------------------- Live { worker }
//!   |  |  |- epoch draining ------------------------- Draining { epoch, worker }
//!   |  |  '- epoch retired -------------------------- Orphan { epoch, worker }
//!   |  '- anything else, or no such worker ---------- Junk(reason)
//!   '- long header: the DCID after its length
//!      |- < 28 B, version 0, v1 Retry, v1 Initial < 1200 B -- Junk(reason)
//!      |- ours and the check verifies
//!      |  |- epoch live ----------------------------- Live { worker }
//!      |  |- epoch draining ------------------------- Draining { epoch, worker }
//!      |  '- epoch retired -------------------------- as if not ours
//!      '- not ours
//!         |- v1 Initial or 0-RTT, DCID of 8 or more - Initial { spread }
//!         |- v1 Handshake --------------------------- Junk(reason)
//!         |- another version, 1200 B or more -------- OtherLong
//!         '- anything else -------------------------- Junk(reason)
//! ```
//!
//! ```
//! use quiclane_wire::{
//!     EpochEntry, EpochState, EpochTable, Key, Layout, Parts, ServerId, Verdict, classify,
//! };
//!
//! let layout = Layout::new(ServerId::EMPTY);
//! let [check_key, reset_root, spread_key] = [1, 2, 3].map(|byte| Key::from_bytes([byte; 16]));
//! let state = EpochState::Live;
//! let mut epochs = EpochTable::unknown();
//! epochs.set(7, EpochEntry { state, check_key, reset_root, workers: 4 });
//!
//! let cid = layout.encode(&check_key, Parts { worker: 3, epoch: 7, unique: 42 });
//! let datagram = [&[0x40], cid.as_slice(), &[0; 20]].concat();
//! let verdict = classify(&datagram[..], &layout, &spread_key, &epochs);
//! assert_eq!(verdict, Verdict::Live { worker: 3 });
//! ```
//!
//! Invariant: nothing here allocates, reads a clock, knows a socket or holds a table of
//! connections; every loop is bounded by the length of a connection ID or of its argument. No
//! input can make it panic. It compiles for `bpfel-unknown-none`, where memory is behind [`Bytes`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod bytes;
pub use bytes::Bytes;

mod header;
pub use header::{
    ConnectionId, Header, LONG_DATAGRAM_LEN_MIN, LongType, VERSION_1, long_type, peek,
};

mod siphash;
pub use siphash::{Key, siphash64, siphash128};

mod cid;
pub use cid::{
    Layout, Parts, SHORT_HEADER_CID_AT, ServerId, UniqueSequence, spread, worker_of_spread,
};

mod epoch;
pub use epoch::{EpochEntry, EpochState, EpochTable, Epochs};

mod words;

mod verdict;
pub use verdict::{
    BLOCKED_PORTS, INITIAL_DATAGRAM_LEN_MIN, INITIAL_DCID_LEN_MIN, Reason, SHORT_DATAGRAM_LEN_MIN,
    Verdict, classify, is_blocked_port,
};

mod frame;
pub use frame::{IpVersion, Located, Untouched, locate};

mod reset;
pub use reset::{
    RESET_LEN_MAX, RESET_LEN_MIN, TOKEN_LEN, TRIGGER_LEN_MIN, Unanswered, reset_len, token,
    token_words, worker_key, worker_key_words, write_reset,
};

#[cfg(feature = "fixtures")]
pub mod fixtures;
