//! budget takes first flights out of the buckets: of their prefix, and of everybody's.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ptr;

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use quiclane_ebpf::{Bucket, INITIAL_BUCKET, PROVEN_BUCKET, SettingsValue};
use quiclane_wire::{IpVersion, Located, Reason};

use crate::maps::{self, BUCKETS, PREFIXES};
use crate::memory::Frame;

/// Pays for a datagram whose client knows no connection ID of ours.
///
/// The bucket of all is looked at first: once it is empty, a flood from invented addresses costs
/// no entry of the table of prefixes. It is paid last, so that one prefix cannot empty it with
/// packets that are dropped anyway.
#[inline(always)]
pub(crate) fn take_initial<F: Frame>(
    frame: F,
    located: &Located,
    settings: &SettingsValue,
) -> Result<(), Reason> {
    let (all, prefixes) = (settings.initial_budget, settings.prefix_budget);
    if all.is_unlimited() && prefixes.is_unlimited() {
        return Ok(());
    }
    let now = now();
    let shared = maps::entry(&BUCKETS, INITIAL_BUCKET).ok_or(Reason::InitialBudget)?;
    if !all.is_unlimited() && !all.has_room(shared, now) {
        return Err(Reason::InitialBudget);
    }
    if !prefixes.is_unlimited() {
        let key = prefix(frame, located, settings).ok_or(Reason::PrefixBudget)?;
        // SAFETY: an entry that is evicted under our hands is another prefix's bucket, and taking
        // from that is harmless.
        let taken = match unsafe { PREFIXES.get(&key) } {
            Some(bucket) => prefixes.take(bucket, now),
            None => {
                let first = Shared::new(now.wrapping_add(prefixes.interval_ns));
                // When it fails, another core was faster or the table is full: let it pass.
                let _ = PREFIXES.insert(&key, &first, 0);
                true
            }
        };
        if !taken {
            return Err(Reason::PrefixBudget);
        }
    }
    if all.is_unlimited() || all.take(shared, now) { Ok(()) } else { Err(Reason::InitialBudget) }
}

/// Pays for an Initial with a connection ID of ours: after a Retry or our first flight.
#[inline(always)]
pub(crate) fn take_proven(settings: &SettingsValue) -> Result<(), Reason> {
    let budget = settings.proven_budget;
    if budget.is_unlimited() {
        return Ok(());
    }
    let bucket = maps::entry(&BUCKETS, PROVEN_BUCKET).ok_or(Reason::ProvenBudget)?;
    if budget.take(bucket, now()) { Ok(()) } else { Err(Reason::ProvenBudget) }
}

/// The source prefix as a number. IPv4 has the low half to itself: no IPv6 source starts with 32
/// zero bits.
#[inline(always)]
pub(crate) fn prefix<F: Frame>(
    frame: F,
    located: &Located,
    settings: &SettingsValue,
) -> Option<u64> {
    match located.ip {
        IpVersion::V4 => {
            let address = u32::from_be_bytes(frame.read(located.source_at)?);
            Some(u64::from(address & settings.prefix_mask_v4))
        }
        IpVersion::V6 => {
            let high = u64::from_be_bytes(frame.read(located.source_at)?);
            Some(high & settings.prefix_mask_v6)
        }
    }
}

/// A bucket in a map.
#[repr(transparent)]
pub(crate) struct Shared(UnsafeCell<u64>);

// SAFETY: it is only read whole and replaced by one atomic instruction.
unsafe impl Sync for Shared {}

impl Shared {
    /// Full since ever.
    pub(crate) const FULL: Self = Self::new(0);

    #[inline(always)]
    const fn new(full_at: u64) -> Self {
        Self(UnsafeCell::new(full_at))
    }
}

impl Bucket for Shared {
    #[inline(always)]
    fn full_at(&self) -> u64 {
        // SAFETY: the map keeps the value alive, and it is read in one piece.
        unsafe { ptr::read_volatile(self.0.get()) }
    }

    /// The compiler offers no compare-and-swap for this target; the machine has one.
    #[inline(always)]
    fn advance(&self, from: u64, to: u64) -> bool {
        let mut found = from;
        // SAFETY: an atomic instruction on eight aligned bytes that the map keeps alive.
        unsafe {
            asm!(
                "r0 = cmpxchg_64(r1 + 0, r0, r2)",
                inout("r0") found,
                in("r1") self.0.get(),
                in("r2") to,
                options(nostack),
            );
        }
        found == from
    }
}

/// Nanoseconds since boot, in steps of one timer tick.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper takes nothing and reads a clock.
    unsafe { bpf_ktime_get_coarse_ns() }
}
