//! tally is what one worker counted, and how the workers' counts become one.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::packed::new_histogram;
use crate::series::{Interval, add_intervals};

use crate::quic::{QuicCounts, StreamLimits};
use crate::upkeep::{DatagramCounts, Upkeep};

/// Requests or handshakes by outcome. Once a run is over, `started` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Begun, or in flight already when counting began.
    pub started: u64,
    /// Completed as they should.
    pub ok: u64,
    /// Failed, under any class.
    pub failed: u64,
    /// Still in flight when the run ended.
    pub cancelled: u64,
}

impl Counts {
    /// Counting begins with `in_flight` under way.
    pub(crate) fn carrying(in_flight: u64) -> Self {
        Self { started: in_flight, ..Self::default() }
    }

    /// Completed, well or badly.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.ok + self.failed
    }

    /// Whether every one that was started is accounted for.
    #[must_use]
    pub fn is_balanced(&self) -> bool {
        self.started == self.ok + self.failed + self.cancelled
    }

    pub(crate) fn add(&mut self, other: Self) {
        let Self { started, ok, failed, cancelled } = other;
        self.started += started;
        self.ok += ok;
        self.failed += failed;
        self.cancelled += cancelled;
    }
}

/// Requests that were sent as 0-RTT data, before the handshake was complete.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EarlyData {
    /// All of them, with those whose handshake was under way when counting began.
    pub sent: u64,
    /// Those of them that the server took. The others were sent again after the handshake, if they
    /// had not failed by then.
    pub accepted: u64,
}

/// How often something failed in one way.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClassCount {
    /// A short stable name, the key in the JSON report.
    pub class: &'static str,
    /// How often.
    pub count: u64,
    /// What exactly went wrong the first time, if there is more to say than the class.
    pub example: Option<String>,
}

/// Failures by class. There are few classes, so a list that is searched will do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Classes(Vec<ClassCount>);

impl Classes {
    /// Counts `count` failures; `example` is asked once per class.
    pub(crate) fn note(
        &mut self,
        class: &'static str,
        count: u64,
        example: impl FnOnce() -> Option<String>,
    ) {
        match self.0.iter_mut().find(|known| known.class == class) {
            Some(known) => known.count += count,
            None => self.0.push(ClassCount { class, count, example: example() }),
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for ClassCount { class, count, example } in &other.0 {
            self.note(class, *count, || example.clone());
        }
    }

    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|class| class.count).sum()
    }

    /// How many are of these classes.
    pub(crate) fn of(&self, classes: &[&str]) -> u64 {
        let counted = self.0.iter().filter(|known| classes.contains(&known.class));
        counted.map(|class| class.count).sum()
    }

    /// Most frequent first.
    pub(crate) fn sorted(mut self) -> Vec<ClassCount> {
        self.0.sort_by(|a, b| b.count.cmp(&a.count).then(a.class.cmp(b.class)));
        self.0
    }
}

/// Complete responses by status class.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Statuses([u64; STATUS_CLASSES.len()]);

impl Statuses {
    /// Counts one; 0, where there is no status, is none.
    pub(crate) fn note(&mut self, status: u16) {
        let last = self.0.len() - 1;
        if let Some(class) = usize::from(status / 100).checked_sub(2) {
            self.0[class.min(last)] += 1;
        }
    }

    fn merge(&mut self, other: &Self) {
        for (count, other) in self.0.iter_mut().zip(other.0) {
            *count += other;
        }
    }

    /// Each class with its count.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        STATUS_CLASSES.into_iter().zip(self.0)
    }
}

/// Of final responses. The last one is for 600 to 999, which RFC 9110 section 15 does not define.
const STATUS_CLASSES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "other"];

/// How a run ended, the better first.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Ending {
    /// Everything that was asked for was tried, or the time was over.
    #[default]
    Complete,
    /// Requests, or handshakes, were left to do, none was in flight, and for three connect timeouts
    /// nothing was answered. Some may have been started in that time, and failed.
    GaveUp,
    /// Somebody stopped it.
    Interrupted,
    /// No handshake was ever completed.
    NothingConnected,
}

/// When something began and when it was over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Span {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

impl Span {
    /// The shortest span that holds both.
    fn hull(self, other: Self) -> Self {
        Self { from: self.from.min(other.from), to: self.to.max(other.to) }
    }

    /// Whether they have an instant in common.
    fn overlaps(self, other: Self) -> bool {
        self.from <= other.to && other.from <= self.to
    }

    /// The longer one.
    pub(crate) fn longer(self, other: Self) -> Self {
        if other.length() > self.length() { other } else { self }
    }

    /// From beginning to end.
    pub(crate) fn length(self) -> Duration {
        self.to.saturating_duration_since(self.from)
    }
}

/// What one worker counted, or several together.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// Requests since measuring began.
    pub(crate) requests: Counts,
    /// Handshakes: since measuring began where they are the workload, else since the run began.
    pub(crate) handshakes: Counts,
    /// Failed requests by class.
    pub(crate) request_errors: Classes,
    /// Failed handshakes by class.
    pub(crate) handshake_errors: Classes,
    /// Connections lost with no request in flight, by class.
    pub(crate) idle_losses: Classes,
    /// Nanoseconds to the end of each request, or handshake, that went well, from when it was
    /// meant to start.
    pub(crate) latency: Histogram<u64>,
    /// The same from when it started; only in an open loop, where the two differ.
    pub(crate) service: Histogram<u64>,
    /// Nanoseconds by which requests were late that nothing but the generator held up.
    pub(crate) lag: Histogram<u64>,
    /// The measured part, interval by interval.
    pub(crate) intervals: Vec<Interval>,
    /// Requests of the schedule that were sent.
    pub(crate) sent: u64,
    /// Those that were due and were not, by the end.
    pub(crate) unsent: u64,
    /// Nanoseconds from start to header section of each response over HTTP that went well.
    pub(crate) first_byte: Histogram<u64>,
    /// Complete responses over HTTP, by status.
    pub(crate) statuses: Statuses,
    /// Nanoseconds from the beginning to the end of each handshake in `handshakes.ok`.
    pub(crate) handshake_times: Histogram<u64>,
    /// Nanoseconds from the loss of a connection until its successor was open.
    pub(crate) outages: Histogram<u64>,
    /// Connections that the first attempts opened.
    pub(crate) opened_first: u64,
    /// Connections open when the run ended.
    pub(crate) held: u64,
    /// Connections lost and not back when the run ended, of those that should come back.
    pub(crate) missing: u64,
    /// The longest time for which connections were missing and after which all were back.
    pub(crate) absent: Option<Span>,
    /// Whether request payload was on its way when the run ended, with more to follow.
    pub(crate) uploading: bool,
    /// Response bytes since measuring began.
    pub(crate) bytes_down: u64,
    /// Request payload bytes since measuring began.
    pub(crate) bytes_up: u64,
    /// Connections that ended by a stateless reset.
    pub(crate) stateless_resets: u64,
    /// Handshakes that replaced a lost connection.
    pub(crate) reconnects: u64,
    /// Connections whose server said GOAWAY.
    pub(crate) goaways: u64,
    /// Requests sent as 0-RTT data, those with a handshake that ended since measuring began.
    pub(crate) early_data: EarlyData,
    /// Unreliable datagrams.
    pub(crate) datagrams: DatagramCounts,
    /// What connections counted.
    pub(crate) quic: QuicCounts,
    /// Nanoseconds of their round-trip times when they ended.
    pub(crate) rtt: Histogram<u64>,
    /// What the servers' limits of streams held up.
    pub(crate) stream_limits: StreamLimits,
    /// What was done to connections while they lived.
    pub(crate) upkeep: Upkeep,
    /// How often a request had to wait because the server's stream limit was reached.
    pub(crate) stream_limited: u64,
    /// Handshakes completed in the connect phase.
    pub(crate) connected_first: u64,
    /// The connect phase.
    pub(crate) connecting: Option<Span>,
    /// The measured part of the run.
    pub(crate) measured: Option<Span>,
    /// The busiest worker's share of the measured time in which it had something to do.
    pub(crate) busy: Option<f64>,
    /// How it ended.
    pub(crate) ending: Ending,
}

impl Tally {
    /// Nothing counted yet.
    pub(crate) fn new() -> Self {
        Self {
            requests: Counts::default(),
            handshakes: Counts::default(),
            request_errors: Classes::default(),
            handshake_errors: Classes::default(),
            idle_losses: Classes::default(),
            latency: new_histogram(),
            service: new_histogram(),
            lag: new_histogram(),
            intervals: Vec::new(),
            sent: 0,
            unsent: 0,
            first_byte: new_histogram(),
            statuses: Statuses::default(),
            handshake_times: new_histogram(),
            outages: new_histogram(),
            opened_first: 0,
            held: 0,
            missing: 0,
            absent: None,
            uploading: false,
            bytes_down: 0,
            bytes_up: 0,
            stateless_resets: 0,
            reconnects: 0,
            goaways: 0,
            early_data: EarlyData::default(),
            datagrams: DatagramCounts::default(),
            quic: QuicCounts::default(),
            rtt: new_histogram(),
            stream_limits: StreamLimits::default(),
            upkeep: Upkeep::default(),
            stream_limited: 0,
            connected_first: 0,
            connecting: None,
            measured: None,
            busy: None,
            ending: Ending::Complete,
        }
    }

    /// Forgets what happened before measuring began. `requests` and, where `handshakes` are the
    /// workload, they too are those in flight now, as are those of `early` data of which the server
    /// has not said yet whether it takes them.
    pub(crate) fn begin_measuring(&mut self, requests: u64, handshakes: Option<u64>, early: u64) {
        self.requests = Counts::carrying(requests);
        self.request_errors = Classes::default();
        if let Some(handshakes) = handshakes {
            self.handshakes = Counts::carrying(handshakes);
            self.handshake_errors = Classes::default();
            self.handshake_times.reset();
        }
        self.latency.reset();
        self.service.reset();
        self.lag.reset();
        (self.sent, self.unsent) = (0, 0);
        self.first_byte.reset();
        self.statuses = Statuses::default();
        self.datagrams = DatagramCounts::default();
        self.bytes_down = 0;
        self.bytes_up = 0;
        self.early_data = EarlyData { sent: early, accepted: 0 };
    }

    /// Adds another worker's counts.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.requests.add(other.requests);
        self.handshakes.add(other.handshakes);
        self.request_errors.merge(&other.request_errors);
        self.handshake_errors.merge(&other.handshake_errors);
        self.idle_losses.merge(&other.idle_losses);
        // Cannot fail: all have the bounds of new_histogram.
        let _ = self.latency.add(&other.latency);
        let _ = self.service.add(&other.service);
        let _ = self.lag.add(&other.lag);
        add_intervals(&mut self.intervals, &other.intervals);
        self.sent += other.sent;
        self.unsent += other.unsent;
        let _ = self.first_byte.add(&other.first_byte);
        let _ = self.handshake_times.add(&other.handshake_times);
        let _ = self.outages.add(&other.outages);
        self.statuses.merge(&other.statuses);
        self.goaways += other.goaways;
        self.opened_first += other.opened_first;
        self.held += other.held;
        self.missing += other.missing;
        self.absent = match (self.absent, other.absent) {
            // What hits all connections hits the workers at the same time, but not in one instant.
            (Some(a), Some(b)) if a.overlaps(b) => Some(a.hull(b)),
            (Some(a), Some(b)) => Some(a.longer(b)),
            (a, b) => a.or(b),
        };
        self.uploading |= other.uploading;
        self.bytes_down += other.bytes_down;
        self.bytes_up += other.bytes_up;
        self.stateless_resets += other.stateless_resets;
        self.reconnects += other.reconnects;
        self.early_data.sent += other.early_data.sent;
        self.early_data.accepted += other.early_data.accepted;
        self.datagrams.merge(other.datagrams);
        self.quic.merge(&other.quic);
        let _ = self.rtt.add(&other.rtt);
        self.stream_limits.merge(&other.stream_limits);
        self.upkeep.merge(&other.upkeep);
        self.stream_limited += other.stream_limited;
        self.connected_first += other.connected_first;
        self.connecting = hull(self.connecting, other.connecting);
        self.measured = hull(self.measured, other.measured);
        self.busy = match (self.busy, other.busy) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        self.ending = self.ending.max(other.ending);
    }
}

fn hull(a: Option<Span>, b: Option<Span>) -> Option<Span> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.hull(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_balance() {
        let counts = Counts { started: 10, ok: 7, failed: 2, cancelled: 1 };
        assert!(counts.is_balanced());
        assert_eq!(counts.ended(), 9);
        assert!(!Counts { started: 1, ..Counts::default() }.is_balanced());
    }

    #[test]
    fn the_first_example_of_a_class_is_kept() {
        let mut classes = Classes::default();
        classes.note("tls", 1, || Some("unknown issuer".to_owned()));
        classes.note("tls", 2, || Some("something else".to_owned()));
        classes.note("reset", 9, || None);
        assert_eq!(classes.total(), 12);
        let sorted = classes.sorted();
        assert_eq!(sorted[0].class, "reset");
        assert_eq!(sorted[1].count, 3);
        assert_eq!(sorted[1].example.as_deref(), Some("unknown issuer"));
    }

    #[test]
    fn merging_adds_counts_and_keeps_the_worst_ending() {
        let now = quiclane::clock::now();
        let second = Duration::from_secs(1);
        let mut a = Tally::new();
        a.requests = Counts { started: 2, ok: 2, ..Counts::default() };
        a.latency.saturating_record(1_000);
        a.measured = Some(Span { from: now, to: now + second });
        let mut b = Tally::new();
        b.requests = Counts { started: 3, ok: 1, cancelled: 2, ..Counts::default() };
        b.latency.saturating_record(u64::MAX);
        b.measured = Some(Span { from: now + second, to: now + 2 * second });
        b.busy = Some(0.5);
        b.ending = Ending::Interrupted;
        a.merge(&b);
        assert_eq!(a.requests, Counts { started: 5, ok: 3, cancelled: 2, failed: 0 });
        assert_eq!(a.latency.len(), 2);
        assert_eq!(a.measured, Some(Span { from: now, to: now + 2 * second }));
        assert_eq!(a.busy, Some(0.5));
        assert_eq!(a.ending, Ending::Interrupted);
    }

    #[test]
    fn absences_of_one_cause_are_one() {
        let now = quiclane::clock::now();
        let absent = |from_ms, to_ms| {
            let at = |ms| now + Duration::from_millis(ms);
            let mut tally = Tally::new();
            tally.absent = Some(Span { from: at(from_ms), to: at(to_ms) });
            tally
        };
        let merged = |a: Tally, b: &Tally| {
            let mut a = a;
            a.merge(b);
            a.absent.unwrap().length().as_millis()
        };
        assert_eq!(merged(absent(0, 100), &absent(50, 120)), 120);
        assert_eq!(merged(absent(0, 100), &absent(900, 950)), 100);
        assert_eq!(merged(absent(900, 950), &absent(0, 100)), 100);
        assert_eq!(merged(Tally::new(), &absent(7, 9)), 2);
    }

    #[test]
    fn measuring_carries_what_is_in_flight() {
        let mut tally = Tally::new();
        tally.requests = Counts { started: 9, ok: 5, failed: 1, cancelled: 0 };
        tally.handshakes = Counts { started: 4, ok: 4, ..Counts::default() };
        tally.early_data = EarlyData { sent: 7, accepted: 5 };
        tally.begin_measuring(3, None, 2);
        assert_eq!(tally.requests, Counts::carrying(3));
        assert_eq!(tally.handshakes.ok, 4);
        assert_eq!(tally.early_data, EarlyData { sent: 2, accepted: 0 });
    }
}
