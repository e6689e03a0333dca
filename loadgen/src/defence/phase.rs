//! phase is what an ordinary user saw in one part of a test.

use std::collections::BTreeMap;

use serde::Serialize;

use super::seen::{Crowd, Seen};
use crate::report::{LatencyReport, SATURATED};

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
    /// The probe was late by its own doing.
    pub saturated: bool,
}

impl PhaseReport {
    pub(super) fn new(Seen { users, newcomers }: &Seen) -> Self {
        let mut errors = users.report.errors.by_class.clone();
        for (class, count) in &newcomers.report.errors.by_class {
            *errors.entry(class.clone()).or_default() += count;
        }
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
            saturated: [users, newcomers].into_iter().any(is_late),
        }
    }

    /// Requests and handshakes that did not end.
    pub(super) fn unfinished(&self) -> u64 {
        self.requests_unfinished + self.handshakes_unfinished
    }
}

/// Whether the probe was late by its own doing, so that it cannot be said who kept users waiting.
fn is_late(Crowd { report, .. }: &Crowd) -> bool {
    let lag_us = report.schedule.map_or(0, |schedule| schedule.lag_us.p99);
    lag_us > LAG_MAX_US || report.busy.is_some_and(|busy| busy > SATURATED)
}

/// Half of what makes a server [slower](Calmness::Slower). Not the millisecond of a load: of a few
/// requests the 99th percentile is the longest, and one late turn on a busy host would spoil it.
const LAG_MAX_US: u64 = 5_000;
