//! seen is what the probe saw in one part of a test, and what it saw no end of.

use std::time::Duration;

use super::probe::LINGER;
use crate::packed::Packed;
use crate::report::{LatencyReport, Report};
use crate::tally::{ClassCount, Counts, Ending};

/// What both sorts of users saw.
pub(super) struct Seen {
    /// Those who were there.
    pub(super) users: Crowd,
    /// Those who came.
    pub(super) newcomers: Crowd,
}

/// What one sort of them saw.
pub(super) struct Crowd {
    /// Its times have a lower bound of what did not end.
    pub(super) report: Report,
    /// Requests, or handshakes.
    pub(super) counts: Counts,
    /// Those that were due and had neither ended nor failed when nobody waited any more.
    pub(super) unfinished: u64,
}

impl Seen {
    /// What `users` and `newcomers` say, who should have asked `due` times.
    pub(super) fn new(users: Report, newcomers: Report, due: [u64; 2]) -> Self {
        let (requests, handshakes) = (users.counts.requests, newcomers.counts.handshakes);
        Self {
            users: Crowd::new(users, requests, due[0]),
            newcomers: Crowd::new(newcomers, handshakes, due[1]),
        }
    }

    /// Handshakes that failed, of either.
    pub(super) fn handshake_errors(&self) -> Vec<ClassCount> {
        let of = |crowd: &Crowd| crowd.report.detail.handshake_errors.clone();
        [&self.users, &self.newcomers].into_iter().flat_map(of).collect()
    }

    /// What objectives are held against: the requests of those who were there, the handshakes of
    /// those who came, and what failed, or did not end, for either.
    pub(super) fn together(&self) -> Report {
        let Self { users, newcomers } = self;
        let mut all = users.report.clone();
        all.errors.total += newcomers.report.errors.total;
        all.errors.total += users.unfinished + newcomers.unfinished;
        all.handshakes = newcomers.report.handshakes;
        all.histograms.handshake = newcomers.report.histograms.latency.clone();
        all
    }
}

impl Crowd {
    fn new(mut report: Report, counts: Counts, planned: u64) -> Self {
        let counted = report.schedule.map_or(0, |schedule| schedule.due);
        // Where nobody answers a run is over before its schedule is.
        let is_deserted = report.ending == Ending::NothingConnected;
        let due = if is_deserted { planned.max(counted) } else { counted };
        let unfinished = due.saturating_sub(counts.ended());
        let of = |class| report.errors.by_class.get(class).copied().unwrap_or_default();
        let endless = unfinished + of("stalled") + of("not_sent");
        // Who was interrupted has not waited for so long.
        if report.ending == Ending::Complete && endless > 0 {
            let mut times = report.histograms.latency.histogram();
            times.saturating_record_n(nanos(LINGER), endless);
            report.latency_us = LatencyReport::new(&times);
            report.histograms.latency = Packed::new(&times);
        }
        Self { report, counts, unfinished }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadConfig, Pace, Stop, Workload};
    use crate::schedule::{Arrivals, Rate};
    use crate::tally::Tally;

    /// Of 100 that were due 90 were answered in a millisecond, 3 failed, and of the others some
    /// stood still.
    fn crowd(ending: Ending) -> Crowd {
        let workload = Workload::Requests { request_size: 0, response_size: 1 };
        let mut config =
            LoadConfig::new(Vec::new(), workload, Stop::Duration(Duration::from_secs(2)));
        let rate = Rate::constant(50.0).unwrap();
        config.pace = Some(Pace { rate, arrivals: Arrivals::Constant });
        let mut tally = Tally::new();
        tally.ending = ending;
        tally.sent = 100;
        tally.requests = Counts { started: 100, ok: 90, failed: 5, cancelled: 5 };
        tally.request_errors.note("reset", 3, || None);
        tally.request_errors.note("stalled", 2, || None);
        tally.latency.record_n(1_000_000, 90).unwrap();
        let report = Report::new(&config, 1, String::new(), &tally);
        let counts = report.counts.requests;
        Crowd::new(report, counts, 200)
    }

    #[test]
    fn what_did_not_end_counts_as_long_as_it_was_waited_for() {
        let Crowd { report, counts, unfinished } = crowd(Ending::Complete);
        assert_eq!((counts.ok, unfinished), (90, 5));
        // Seven of 97.
        assert_eq!(report.latency_us.p90, 1_000, "{report}");
        assert!(report.latency_us.p99 >= 1_000_000, "{report}");
        let times = report.histograms.latency.histogram();
        assert_eq!((times.len(), times.count_between(1_000_000_000, u64::MAX)), (97, 7));
        let interrupted = crowd(Ending::Interrupted);
        assert_eq!((interrupted.report.latency_us.p99, interrupted.unfinished), (1_000, 5));
    }

    #[test]
    fn what_was_due_counts_though_the_server_was_gone() {
        assert_eq!(crowd(Ending::NothingConnected).unfinished, 200 - 95);
    }

    #[test]
    fn objectives_know_of_what_did_not_end() {
        let of = || crowd(Ending::Complete);
        let all = Seen { users: of(), newcomers: of() }.together();
        assert_eq!(all.errors.total, 5 + 5 + 5 + 5);
        assert!(all.histograms.handshake.histogram().max() >= 1_000_000_000);
    }
}
