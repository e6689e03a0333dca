//! rates bounds the answers: once in a while for a connection, so many for a prefix and for all.
//!
//! Invariant: what is refused by a narrower limit costs nothing of a wider one, so one source
//! cannot use up what belongs to the others.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use quiclane_ebpf::{Bucket, Budget};
use quiclane_wire::{Key, TOKEN_LEN, Unanswered, siphash64};

use crate::config::Limits;

/// The budgets that all workers of a server share.
#[derive(Debug)]
pub(crate) struct Rates {
    all: Option<Budget>,
    of_prefix: Option<Budget>,
    bucket: Full,
    /// By hash. Prefixes that meet in one share its budget, so there are many, and nobody can
    /// choose whom to meet.
    prefixes: Box<[Full]>,
    key: Key,
    start: OnceLock<Instant>,
}

impl Rates {
    /// `key`: nobody outside may know where a prefix has its bucket.
    pub(crate) fn new(limits: &Limits, key: Key) -> Self {
        let budget = |per_second| (per_second > 0).then(|| Budget::new(per_second, per_second));
        Self {
            all: budget(limits.resets_per_s),
            of_prefix: budget(limits.prefix_resets_per_s),
            bucket: Full::default(),
            prefixes: (0..PREFIXES).map(|_| Full::default()).collect(),
            key,
            start: OnceLock::new(),
        }
    }

    /// How long it is since the first answer was asked for.
    pub(super) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.start.get_or_init(|| now))
    }

    /// Pays for an answer to `source`.
    pub(super) fn take(&self, source: IpAddr, now: Duration) -> Result<(), Unanswered> {
        let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let all = self.all.ok_or(Unanswered::ResetBudget)?;
        let of_prefix = self.of_prefix.ok_or(Unanswered::PrefixBudget)?;
        if !all.has_room(&self.bucket, now_ns) {
            return Err(Unanswered::ResetBudget);
        }
        if !of_prefix.take(&self.prefixes[self.index(source)], now_ns) {
            return Err(Unanswered::PrefixBudget);
        }
        if all.take(&self.bucket, now_ns) { Ok(()) } else { Err(Unanswered::ResetBudget) }
    }

    /// The place of the source's /24 or /56.
    #[expect(clippy::cast_possible_truncation, reason = "a remainder, and 56 bits")]
    fn index(&self, source: IpAddr) -> usize {
        let prefix = match source.to_canonical() {
            IpAddr::V4(address) => u64::from(address.to_bits() >> 8),
            IpAddr::V6(address) => (address.to_bits() >> 72) as u64 | 1 << 63,
        };
        (siphash64(&self.key, &prefix.to_le_bytes()) % PREFIXES as u64) as usize
    }
}

/// When a bucket is full again, in nanoseconds since the start.
#[derive(Debug, Default)]
struct Full(AtomicU64);

impl Bucket for Full {
    fn full_at(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn advance(&self, from: u64, to: u64) -> bool {
        self.0.compare_exchange_weak(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// Which connections one worker has answered lately.
#[derive(Debug)]
pub(super) struct Recent {
    /// By hash of address, port and token: the rest of the hash, and the time in milliseconds. The
    /// latest takes the place, so that a collision costs an answer too many and never one too few.
    answered: Box<[(u32, u32)]>,
    key: Key,
}

impl Recent {
    pub(super) fn new(key: Key) -> Self {
        Self { answered: vec![(0, 0); CONNECTIONS].into(), key }
    }

    /// What to [`remember`](Self::remember) of an answer, unless there was one just before.
    #[expect(clippy::cast_possible_truncation, reason = "times are compared modulo 49 days")]
    pub(super) fn check(
        &self,
        source: SocketAddr,
        token: &[u8; TOKEN_LEN],
        now: Duration,
    ) -> Result<Answered, Unanswered> {
        let mut input = [0; 16 + 2 + TOKEN_LEN];
        let address = match source.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        input[..16].copy_from_slice(&address.octets());
        input[16..18].copy_from_slice(&source.port().to_le_bytes());
        input[18..].copy_from_slice(token);
        let hash = siphash64(&self.key, &input);
        let (place, rest) = (hash as u32 as usize % CONNECTIONS, (hash >> 32) as u32);
        // From 1: a place with time 0 was never taken.
        let now_ms = (now.as_millis() as u32).wrapping_add(1).max(1);
        let (who, then_ms) = self.answered[place];
        if who == rest && then_ms != 0 && now_ms.wrapping_sub(then_ms) < REPEAT_MS {
            return Err(Unanswered::Repeated);
        }
        Ok(Answered { place, what: (rest, now_ms) })
    }

    /// Takes an answer down that is given.
    pub(super) fn remember(&mut self, answered: Answered) {
        let Answered { place, what } = answered;
        self.answered[place] = what;
    }
}

/// An answer that is due.
pub(super) struct Answered {
    place: usize,
    what: (u32, u32),
}

/// 128 KiB a server.
const PREFIXES: usize = 1 << 14;
/// 256 KiB a worker.
const CONNECTIONS: usize = 1 << 15;
/// A peer that did not get its answer asks again after some round trips; a loop of answers to
/// answers dies out.
const REPEAT_MS: u32 = 100;
