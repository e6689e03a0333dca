//! calmness says in a word what became of a server's users.

use std::fmt;

use serde::Serialize;

use super::phase::PhaseReport;

/// What became of a server's users while it was abused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Calmness {
    /// Nothing failed, and nothing was [slower](Self::Slower).
    Calm,
    /// Nothing failed, but the 99th percentile of requests, or of handshakes, was more than three
    /// times that before, and by more than 10 ms.
    Slower,
    /// Requests, handshakes or connections failed, or had not ended a second after the part.
    Failing,
    /// No request was answered.
    Down,
}

impl Calmness {
    /// What the two parts of a test say; `None`: nothing failed, and there are no times to compare,
    /// or they are not `reliable`. What failed did so whoever was late.
    pub(super) fn new(before: &PhaseReport, during: &PhaseReport, reliable: bool) -> Option<Self> {
        let reliable = reliable && !before.saturated && !during.saturated;
        Some(match during {
            during if during.requests_ok == 0 => Self::Down,
            during if !during.errors.is_empty() => Self::Failing,
            during if during.unfinished() > 0 => Self::Failing,
            _ if !reliable || before.unfinished() > 0 => return None,
            during if is_slower(before, during) => Self::Slower,
            _ => Self::Calm,
        })
    }
}

impl fmt::Display for Calmness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calm => "calm: no probe failed, and none was much slower than before",
            Self::Slower => "slower: no probe failed, but they waited longer than before",
            Self::Failing => "failing: probes failed",
            Self::Down => "down: no probe was answered",
        })
    }
}

/// Whether users had the same after as before.
pub(super) fn recovered(before: &PhaseReport, after: &PhaseReport) -> Option<bool> {
    Calmness::new(before, after, true).map(|verdict| verdict == Calmness::Calm)
}

/// Whether a part of the test was much slower than that before.
fn is_slower(before: &PhaseReport, then: &PhaseReport) -> bool {
    let times = [
        (before.latency_us.p99, then.latency_us.p99),
        (before.handshake_us.p99, then.handshake_us.p99),
    ];
    times.into_iter().any(|(before, then)| {
        then > before.saturating_mul(SLOWER_TIMES) && then > before.saturating_add(SLOWER_BY_US)
    })
}

/// Twice as slow is what any load on a shared core does to whoever comes beside it.
const SLOWER_TIMES: u64 = 3;

/// On loopback three times as slow is still less than a millisecond, which nobody notices.
const SLOWER_BY_US: u64 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(ok: u64, p99: u64, failed: u64) -> PhaseReport {
        let mut phase = PhaseReport { requests_ok: ok, ..PhaseReport::default() };
        phase.latency_us.p99 = p99;
        if failed > 0 {
            phase.errors.insert("timeout".into(), failed);
        }
        phase
    }

    #[test]
    fn the_worst_that_holds_is_said() {
        let before = phase(150, 4_000, 0);
        for (during, verdict, is_back) in [
            (phase(500, 4_000, 0), Calmness::Calm, true),
            (phase(500, 14_000, 0), Calmness::Calm, true),
            (phase(500, 14_001, 0), Calmness::Slower, false),
            (phase(500, 1_000, 1), Calmness::Failing, false),
            (phase(0, 0, 1), Calmness::Down, false),
            (phase(0, 0, 0), Calmness::Down, false),
        ] {
            assert_eq!(Calmness::new(&before, &during, true), Some(verdict), "{during:?}");
            assert_eq!(recovered(&before, &during), Some(is_back));
        }
        let slow = phase(150, 100_000, 0);
        assert_eq!(Calmness::new(&slow, &phase(1, 300_000, 0), true), Some(Calmness::Calm));
        assert_eq!(Calmness::new(&slow, &phase(1, 300_001, 0), true), Some(Calmness::Slower));
        for (p99, verdict) in [(10_000, Calmness::Calm), (10_001, Calmness::Slower)] {
            let mut during = phase(500, 4_000, 0);
            during.handshake_us.p99 = p99;
            assert_eq!(Calmness::new(&before, &during, true), Some(verdict));
        }
    }

    #[test]
    fn whoever_is_left_waiting_was_failed() {
        let before = phase(150, 4_000, 0);
        let calm = || phase(500, 4_000, 0);
        for hung in [
            PhaseReport { requests_unfinished: 1, ..calm() },
            PhaseReport { handshakes_unfinished: 1, ..calm() },
        ] {
            assert_eq!(Calmness::new(&before, &hung, true), Some(Calmness::Failing));
            // There is nothing to be calmer, or slower, than.
            assert_eq!(Calmness::new(&hung, &calm(), true), None);
            assert_eq!(recovered(&hung, &calm()), None);
            assert_eq!(Calmness::new(&hung, &phase(0, 0, 1), true), Some(Calmness::Down));
        }
    }

    #[test]
    fn a_late_generator_hides_no_failure() {
        let calm = || phase(500, 4_000, 0);
        let late = |phase| PhaseReport { saturated: true, ..phase };
        for (during, verdict) in [
            (phase(500, 4_000, 0), None),
            (phase(500, 90_000, 0), None),
            (phase(500, 4_000, 1), Some(Calmness::Failing)),
            (phase(0, 0, 1), Some(Calmness::Down)),
        ] {
            assert_eq!(Calmness::new(&calm(), &during, false), verdict);
            assert_eq!(Calmness::new(&late(calm()), &during, true), verdict);
            assert_eq!(Calmness::new(&calm(), &late(during), true), verdict);
        }
    }
}
