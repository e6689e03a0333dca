//! backoff says how long to wait before the next attempt, so that a dead server meets no storm.

use std::time::Duration;

use crate::random::Random;

/// How long to wait after `failures` attempts in a row that led to nothing: doubling from
/// [`FIRST`] to [`LONGEST`], of which the second half is random, so that connections lost in one
/// instant do not come back in one instant.
pub(crate) fn delay(failures: u32, jitter: &mut Random) -> Duration {
    let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
    let whole = FIRST.saturating_mul(1 << doublings).min(LONGEST);
    let half = whole / 2;
    half + half.mul_f64(jitter.unit())
}

/// The first wait: as long as a few round trips in a data centre; a server that closed one
/// connection for a reason of its own is asked again almost at once.
const FIRST: Duration = Duration::from_millis(10);

/// The longest wait: a restarted server is found again within a second.
const LONGEST: Duration = Duration::from_secs(1);

/// 10 ms doubled seven times exceeds [`LONGEST`].
const DOUBLINGS_MAX: u32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound() {
        let mut jitter = Random::new(7);
        for failures in 0..100 {
            let wait = delay(failures, &mut jitter);
            assert!(wait >= FIRST / 2 && wait <= LONGEST, "{failures}: {wait:?}");
        }
        assert!(delay(1, &mut jitter) <= FIRST);
        assert!(delay(50, &mut jitter) >= LONGEST / 2);
    }

    #[test]
    fn seeds_differ_and_repeat() {
        let waits = |seed| {
            let mut jitter = Random::new(seed);
            (0..8).map(|_| delay(5, &mut jitter)).collect::<Vec<_>>()
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
