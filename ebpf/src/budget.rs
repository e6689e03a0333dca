//! budget is a token bucket in one number, so that cores can share it without a lock.
//!
//! The number is the time at which the bucket will be full again (the generic cell rate algorithm,
//! ITU-T I.371). A packet moves it one interval ahead; a packet that would move it further than the
//! burst is over budget.

/// A number that cores share: when the bucket is full again, in nanoseconds since boot.
pub trait Bucket {
    /// When it is full again.
    fn full_at(&self) -> u64;

    /// Replaces `from` with `to`; false: another core has replaced it first.
    fn advance(&self, from: u64, to: u64) -> bool;
}

/// How many packets may come, in the long run and at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(C)]
pub struct Budget {
    /// Nanoseconds from packet to packet; 0: no limit.
    pub interval_ns: u64,
    /// How far ahead of time packets may come, in nanoseconds.
    pub burst_ns: u64,
}

impl Budget {
    /// No limit.
    pub const UNLIMITED: Self = Self { interval_ns: 0, burst_ns: 0 };

    /// At most `per_second` packets a second, and `burst` at once after a pause.
    ///
    /// The programs' clock moves in timer ticks of up to 10 ms, so a `burst` under a hundredth of
    /// `per_second` is rounded up to it. No packets at all is no budget: 0 counts as 1.
    pub const fn new(per_second: u32, burst: u32) -> Self {
        let per_second = if per_second == 0 { 1 } else { per_second };
        let interval_ns = 1_000_000_000 / per_second as u64;
        let interval_ns = if interval_ns == 0 { 1 } else { interval_ns };
        let burst_ns = (burst.saturating_sub(1) as u64).saturating_mul(interval_ns);
        let burst_ns = if burst_ns < TICK_NS { TICK_NS } else { burst_ns };
        Self { interval_ns, burst_ns }
    }

    /// Whether there is no limit.
    #[inline]
    pub const fn is_unlimited(&self) -> bool {
        self.interval_ns == 0
    }

    /// Whether a packet would be within the budget now.
    #[inline]
    pub fn has_room(&self, bucket: &impl Bucket, now_ns: u64) -> bool {
        bucket.full_at().saturating_sub(now_ns) <= self.burst_ns
    }

    /// Takes a packet out of the bucket; false: it is over budget and nothing was taken.
    #[inline]
    pub fn take(&self, bucket: &impl Bucket, now_ns: u64) -> bool {
        for _ in 0..ATTEMPTS_MAX {
            let full_at = bucket.full_at();
            let from = if full_at > now_ns { full_at } else { now_ns };
            if from - now_ns > self.burst_ns {
                return false;
            }
            if bucket.advance(full_at, from.wrapping_add(self.interval_ns)) {
                return true;
            }
        }
        // Other cores were faster every time. They have paid; this one rides along.
        true
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::UNLIMITED
    }
}

/// A tick of the slowest timer that kernels are built with (CONFIG_HZ=100).
const TICK_NS: u64 = 10_000_000;
/// A second core that takes in the same few nanoseconds is rare, a third one rarer.
const ATTEMPTS_MAX: usize = 2;

const _: () = assert!(size_of::<Budget>() == 16);

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    impl Bucket for AtomicU64 {
        fn full_at(&self) -> u64 {
            self.load(Ordering::Relaxed)
        }

        fn advance(&self, from: u64, to: u64) -> bool {
            self.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        }
    }

    fn taken(budget: &Budget, bucket: &impl Bucket, now_ns: u64, packets: u32) -> u32 {
        (0..packets).map(|_| u32::from(budget.take(bucket, now_ns))).sum()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let budget = Budget::new(1_000, 50);
        let bucket = AtomicU64::new(0);
        let mut now = 5_000_000_000;
        assert_eq!(taken(&budget, &bucket, now, 1_000), 50);
        assert!(!budget.has_room(&bucket, now));
        for _ in 0..10 {
            now += 10_000_000;
            assert_eq!(taken(&budget, &bucket, now, 1_000), 10);
        }
        now += 3_600_000_000_000;
        assert!(budget.has_room(&bucket, now));
        assert_eq!(taken(&budget, &bucket, now, 1_000), 50);
    }

    #[test]
    fn a_coarse_clock_costs_no_packets() {
        let budget = Budget::new(100_000, 1);
        let bucket = AtomicU64::new(0);
        let per_second: u32 =
            (0..100).map(|tick| taken(&budget, &bucket, tick * TICK_NS, 5_000)).sum();
        assert!((99_000..=102_000).contains(&per_second), "{per_second}");
    }

    #[test]
    fn extremes_are_harmless() {
        let bucket = AtomicU64::new(u64::MAX);
        assert!(!Budget::new(0, 0).take(&bucket, 0));
        let bucket = AtomicU64::new(0);
        assert!(Budget::new(u32::MAX, u32::MAX).take(&bucket, u64::MAX));
        assert!(Budget::UNLIMITED.is_unlimited());
        assert!(!Budget::new(u32::MAX, 0).is_unlimited());
    }

    #[test]
    fn cores_share_a_bucket() {
        let budget = Budget::new(1_000, 1_000);
        let bucket = AtomicU64::new(0);
        let taken: u32 = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| taken(&budget, &bucket, 1, 2_000))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((1_000..1_200).contains(&taken), "{taken}");
    }
}
