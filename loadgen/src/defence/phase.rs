//! phase is what an ordinary user saw in one part of a test.

use std::collections::BTreeMap;

use serde::Serialize;

use super::seen::Seen;
use crate::packed::Packed;
use crate::report::{LatencyReport, Report, SATURATED};

/// What an ordinary user saw in one part of the test.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct PhaseReport {
    /// Its length, in seconds.
    pub duration_s: f64,
    /// Requests answered in full.
    pub requests_ok: u64,
    /// Requests that failed.
    pub requests_failed: u64,
    /// Requests that were due in it and had not ended a second after it.
    pub requests_unfinished: u64,
    /// Time to answer, from when a request was due; of those that had not ended, a second.
    pub latency_us: LatencyReport,
    /// Handshakes of newcomers completed.
    pub handshakes_ok: u64,
    /// Handshakes of newcomers that failed.
    pub handshakes_failed: u64,
    /// Handshakes of newcomers that were due in it and had not ended a second after it.
    pub handshakes_unfinished: u64,
    /// Time to complete one, from when it was due; of those that had not ended, a second.
    pub handshake_us: LatencyReport,
    /// Everything that failed, by class.
    pub errors: BTreeMap<String, u64>,
    /// By how much requests and handshakes began late though they could have: the probe's own
    /// doing.
    pub lag_us: LatencyReport,
    /// The share of time in which the probe had something to do, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy: Option<f64>,
    /// The probe was late by its own doing.
    pub saturated: bool,
}

impl PhaseReport {
    pub(super) fn new(Seen { users, newcomers }: &Seen) -> Self {
        let mut errors = users.report.errors.by_class.clone();
        for (class, count) in &newcomers.report.errors.by_class {
            *errors.entry(class.clone()).or_default() += count;
        }
        let lag = lag_of(&users.report, &newcomers.report).histogram();
        let is_late = is_late(lag.count_between(LAG_MAX_NS + 1, u64::MAX), lag.len());
        let busy = [users, newcomers].into_iter().filter_map(|crowd| crowd.report.busy);
        let busy = busy.reduce(f64::max);
        Self {
            duration_s: users.report.duration_s.max(newcomers.report.duration_s),
            requests_ok: users.counts.ok,
            requests_failed: users.counts.failed,
            requests_unfinished: users.unfinished,
            latency_us: users.report.latency_us,
            handshakes_ok: newcomers.counts.ok,
            handshakes_failed: newcomers.counts.failed,
            handshakes_unfinished: newcomers.unfinished,
            handshake_us: newcomers.report.latency_us,
            errors,
            lag_us: LatencyReport::new(&lag),
            saturated: is_late || busy.is_some_and(|busy| busy > SATURATED),
            busy,
        }
    }

    /// Requests and handshakes that did not end.
    pub(super) fn unfinished(&self) -> u64 {
        self.requests_unfinished + self.handshakes_unfinished
    }
}

/// By how much either began late, in nanoseconds.
fn lag_of(users: &Report, newcomers: &Report) -> Packed {
    let mut lag = users.histograms.lag.clone().unwrap_or_default();
    if let Some(theirs) = &newcomers.histograms.lag {
        lag.add(theirs);
    }
    lag
}

/// Whether the probe was late by its own doing, so that it cannot be said who kept users waiting:
/// with so many of all. Once, on a busy host, is nothing.
fn is_late(late: u64, all: u64) -> bool {
    late > 1 && late as f64 > LATE_MAX * all as f64
}

/// Half of what makes a server [slower](super::Calmness::Slower).
const LAG_MAX_NS: u64 = 5_000_000;

/// The late ones of a busy host are single ones, and nine of ten times are still the server's.
const LATE_MAX: f64 = 0.05;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{LoadConfig, Pace, Stop, Workload};
    use crate::schedule::{Arrivals, Rate};
    use crate::tally::Tally;

    #[test]
    fn one_hiccup_does_not_make_a_probe_late() {
        assert!(!is_late(0, 0) && !is_late(1, 1) && !is_late(1, 15) && is_late(2, 15));
        assert!(!is_late(5, 100) && is_late(6, 100));
        assert!(!is_late(27, 550) && is_late(28, 550));
    }

    #[test]
    fn the_lag_of_either_counts() {
        let workload = Workload::Requests { request_size: 0, response_size: 1 };
        let mut config =
            LoadConfig::new(Vec::new(), workload, Stop::Duration(Duration::from_secs(2)));
        let rate = Rate::constant(50.0).unwrap();
        config.pace = Some(Pace { rate, arrivals: Arrivals::Constant });
        let of = |lag_ms: u64, times| {
            let mut tally = Tally::new();
            tally.lag.record_n(lag_ms * 1_000_000, times).unwrap();
            Report::new(&config, 1, String::new(), &tally)
        };
        for (newcomers_ms, saturated) in [(4, false), (6, true)] {
            let seen = Seen::new(of(1, 18), of(newcomers_ms, 2), [0; 2]);
            let phase = PhaseReport::new(&seen);
            assert_eq!(phase.saturated, saturated);
            assert!(phase.lag_us.p50 <= 1_001 && phase.lag_us.max >= 1_000 * newcomers_ms);
        }
    }
}
