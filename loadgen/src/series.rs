//! series cuts the measured part into intervals of one length: what ended in each, and how long it
//! took.
//!
//! Each worker has a series of its own, cut at the same instants, because all agree on the start.
//! What is counted anyway is looked at when an interval ends; only the histograms are kept twice.
//! A closed interval is packed: its memory is what was recorded, not a table.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::packed::{Packed, Packer, new_histogram};
use crate::report::LatencyReport;

/// One interval of the measured part.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Interval {
    /// Its begin, in seconds since that of the measured part.
    pub start_s: f64,
    /// Its length in seconds; only the last one's differs.
    pub length_s: f64,
    /// Requests answered in full; handshakes completed where there are no requests.
    pub ok: u64,
    /// Those that failed.
    pub failed: u64,
    /// Response bytes received.
    pub bytes_down: u64,
    /// Request payload bytes handed to QUIC.
    pub bytes_up: u64,
    /// What the schedule said; in an open loop only.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub open: Option<OpenInterval>,
    /// Nanoseconds of the requests that went well and ended in it, from when they were meant to be
    /// sent.
    pub latency: Packed,
    /// The same from when they were sent; in an open loop only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Packed>,
}

/// What the schedule said of one interval.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct OpenInterval {
    /// Requests that were due in it.
    pub due: u64,
    /// Requests that were sent in it.
    pub sent: u64,
    /// The most that one of those was late by though a connection had room.
    pub lag_max_us: u64,
}

impl Interval {
    /// Adds what another worker did in the same interval.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self { start_s, length_s, ok, failed, bytes_down, bytes_up, open, latency, service } =
            other;
        self.start_s = *start_s;
        self.length_s = self.length_s.max(*length_s);
        self.ok += ok;
        self.failed += failed;
        self.bytes_down += bytes_down;
        self.bytes_up += bytes_up;
        if let Some(OpenInterval { due, sent, lag_max_us }) = open {
            let own = self.open.get_or_insert_default();
            own.due += due;
            own.sent += sent;
            own.lag_max_us = own.lag_max_us.max(*lag_max_us);
        }
        self.latency.add(latency);
        if let Some(service) = service {
            self.service.get_or_insert_default().add(service);
        }
    }

    /// Writes it as a line of JSON, with percentiles instead of whole distributions.
    ///
    /// # Errors
    /// When `to` cannot be written.
    pub fn write_line(&self, to: &mut impl Write) -> io::Result<()> {
        let Self { start_s, length_s, ok, failed, bytes_down, bytes_up, open, .. } = *self;
        let times = |packed: &Packed| LatencyReport::new(&packed.histogram());
        let (latency_us, service_us) = (times(&self.latency), self.service.as_ref().map(times));
        let line = Line {
            start_s,
            length_s,
            ok,
            failed,
            bytes_down,
            bytes_up,
            open,
            latency_us,
            service_us,
        };
        serde_json::to_writer(&mut *to, &line)?;
        to.write_all(b"\n")
    }
}

/// Adds another worker's intervals to those of the same time.
pub(crate) fn add_intervals(sum: &mut Vec<Interval>, other: &[Interval]) {
    for (at, interval) in other.iter().enumerate() {
        match sum.get_mut(at) {
            Some(own) => own.add(interval),
            None => sum.push(interval.clone()),
        }
    }
}

/// A line of a series: an interval, with percentiles instead of whole distributions.
#[derive(Debug, Serialize)]
struct Line {
    start_s: f64,
    length_s: f64,
    ok: u64,
    failed: u64,
    bytes_down: u64,
    bytes_up: u64,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    open: Option<OpenInterval>,
    latency_us: LatencyReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_us: Option<LatencyReport>,
}

/// What a worker has counted since measuring began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) ok: u64,
    pub(crate) failed: u64,
    pub(crate) bytes_down: u64,
    pub(crate) bytes_up: u64,
    pub(crate) due: u64,
    pub(crate) sent: u64,
}

/// One worker's series.
#[derive(Debug)]
pub(crate) struct Series {
    interval: Duration,
    /// Whether there is a schedule.
    is_open_loop: bool,
    /// Where the open interval ends, unless it is the last one; `None`: nothing is measured.
    end: Option<Instant>,
    /// When it began.
    start: Option<Instant>,
    /// Intervals that may still be opened behind it.
    left: u64,
    closed: Vec<Closed>,
    /// The histograms of all closed intervals, one after another.
    bytes: Vec<u8>,
    packer: Packer,
    /// What was counted when the open interval began.
    before: Totals,
    latency: Histogram<u64>,
    service: Histogram<u64>,
    lag_max_ns: u64,
    /// The 99th percentile of the latency of the last interval in which there was one.
    last_p99_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Closed {
    counts: Totals,
    lag_max_ns: u64,
    latency_bytes: usize,
    service_bytes: usize,
}

impl Closed {
    /// Bytes of its histograms.
    fn bytes(&self) -> usize {
        self.latency_bytes + self.service_bytes
    }
}

impl Series {
    /// Waits for [`begin`](Self::begin).
    pub(crate) fn new(interval: Duration, is_open_loop: bool) -> Self {
        Self {
            interval,
            is_open_loop,
            end: None,
            start: None,
            left: 0,
            closed: Vec::new(),
            bytes: Vec::new(),
            packer: Packer::new(),
            before: Totals::default(),
            latency: new_histogram(),
            service: new_histogram(),
            lag_max_ns: 0,
            last_p99_ns: 0,
        }
    }

    /// The first interval begins at `from`, when so much had been counted; the last one ends at
    /// `until`, or when the run does.
    pub(crate) fn begin(&mut self, from: Instant, until: Option<Instant>, before: Totals) {
        let intervals = until.map_or(INTERVALS_MAX, |until| {
            intervals(until.saturating_duration_since(from), self.interval)
        });
        self.left = intervals.clamp(1, INTERVALS_MAX) - 1;
        (self.start, self.end) = (Some(from), from.checked_add(self.interval));
        self.before = before;
        self.latency.reset();
        self.service.reset();
        self.lag_max_ns = 0;
    }

    /// When an interval is over, if one is by `now`: [`close`](Self::close) it.
    #[inline]
    pub(crate) fn is_over(&self, now: Instant) -> Option<Instant> {
        self.end.filter(|&end| end <= now && self.left > 0)
    }

    /// When the next one is over.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.end.filter(|_| self.left > 0)
    }

    /// A request went well.
    pub(crate) fn record(&mut self, latency_ns: u64, service_ns: Option<u64>) {
        self.latency.saturating_record(latency_ns);
        if let Some(ns) = service_ns {
            self.service.saturating_record(ns);
        }
    }

    /// A request left late by so much.
    pub(crate) fn note_lag(&mut self, ns: u64) {
        self.lag_max_ns = self.lag_max_ns.max(ns);
    }

    /// The open interval is over, and by then so much had been counted.
    pub(crate) fn close(&mut self, now: Totals) {
        if !self.latency.is_empty() {
            self.last_p99_ns = self.latency.value_at_quantile(0.99);
        }
        self.pack(now);
        self.left = self.left.saturating_sub(1);
        self.start = self.end;
        self.end = self.end.and_then(|end| end.checked_add(self.interval));
    }

    /// The 99th percentile of the latency, for who looks on.
    pub(crate) fn last_p99_ns(&self) -> u64 {
        self.last_p99_ns
    }

    fn pack(&mut self, now: Totals) {
        let Totals { ok, failed, bytes_down, bytes_up, due, sent } = self.before;
        let counts = Totals {
            ok: now.ok.saturating_sub(ok),
            failed: now.failed.saturating_sub(failed),
            bytes_down: now.bytes_down.saturating_sub(bytes_down),
            bytes_up: now.bytes_up.saturating_sub(bytes_up),
            due: now.due.saturating_sub(due),
            sent: now.sent.saturating_sub(sent),
        };
        self.before = now;
        let mut pack = |histogram: &mut Histogram<u64>| {
            let bytes = self.packer.pack(histogram, &mut self.bytes);
            if bytes > 0 {
                histogram.reset();
            }
            bytes
        };
        let (latency_bytes, service_bytes) = (pack(&mut self.latency), pack(&mut self.service));
        let lag_max_ns = std::mem::take(&mut self.lag_max_ns);
        self.closed.push(Closed { counts, lag_max_ns, latency_bytes, service_bytes });
    }

    /// All intervals, the last of which ends at `end`, when so much had been counted.
    pub(crate) fn finish(&mut self, end: Instant, now: Totals) -> Vec<Interval> {
        let Some(start) = self.start.take() else { return Vec::new() };
        self.pack(now);
        self.end = None;
        let last = self.closed.len() - 1;
        let mut bytes = &self.bytes[..];
        let intervals = (0..).zip(&self.closed).map(|(at, closed)| {
            let (packed, rest) = bytes.split_at(closed.bytes());
            bytes = rest;
            let length =
                if at < last { self.interval } else { end.saturating_duration_since(start) };
            self.unpack(at, closed, packed, length)
        });
        let intervals = intervals.collect();
        self.closed.clear();
        self.bytes.clear();
        intervals
    }

    /// The interval that was closed last.
    pub(crate) fn last_closed(&self) -> Option<Interval> {
        let closed = self.closed.last()?;
        let packed = &self.bytes[self.bytes.len() - closed.bytes()..];
        Some(self.unpack(self.closed.len() - 1, closed, packed, self.interval))
    }

    /// The interval `at`, whose histograms are `packed`.
    fn unpack(&self, at: usize, closed: &Closed, packed: &[u8], length: Duration) -> Interval {
        let Closed { counts, lag_max_ns, latency_bytes, service_bytes: _ } = *closed;
        let Totals { ok, failed, bytes_down, bytes_up, due, sent } = counts;
        let (latency, service) = packed.split_at(latency_bytes);
        let lag_max_us = lag_max_ns / 1_000;
        Interval {
            start_s: micros(at as f64 * self.interval.as_secs_f64()),
            length_s: micros(length.as_secs_f64()),
            ok,
            failed,
            bytes_down,
            bytes_up,
            open: self.is_open_loop.then_some(OpenInterval { due, sent, lag_max_us }),
            latency: Packed::from_packed(latency),
            service: self.is_open_loop.then(|| Packed::from_packed(service)),
        }
    }
}

/// How many intervals a run of this length has.
pub(crate) fn intervals(length: Duration, interval: Duration) -> u64 {
    let intervals = length.as_nanos().div_ceil(interval.as_nanos().max(1));
    u64::try_from(intervals).unwrap_or(u64::MAX)
}

/// Seconds to the microsecond.
fn micros(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}

/// More than a day of seconds. A run without an end that lasts longer puts the rest into the last
/// one.
pub(crate) const INTERVALS_MAX: u64 = 100_000;

/// Shorter ones would show turns of the generator, not the server.
pub(crate) const INTERVAL_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use quiclane::clock;

    use super::*;

    fn totals(ok: u64) -> Totals {
        Totals { ok, bytes_down: 10 * ok, due: ok + 1, ..Totals::default() }
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_stall_leaves_empty_intervals_and_the_last_one_says_how_long_it_was() {
        let start = clock::now();
        let mut series = Series::new(ms(100), true);
        series.record(1, None);
        series.begin(start, None, totals(5));
        series.record(1_000, Some(500));
        assert_eq!(series.is_over(start + ms(99)), None);
        let mut closed = Vec::new();
        let mut told = Vec::new();
        while let Some(end) = series.is_over(start + ms(320)) {
            closed.push(end - start);
            series.close(totals(6));
            told.extend(series.last_closed());
        }
        assert_eq!(closed, [ms(100), ms(200), ms(300)]);
        series.record(9_000, None);
        series.note_lag(7_000);
        let intervals = series.finish(start + ms(350), totals(9));
        let counts: Vec<_> = intervals.iter().map(|of| (of.ok, of.bytes_down)).collect();
        assert_eq!(counts, [(1, 10), (0, 0), (0, 0), (3, 30)]);
        let lengths: Vec<_> = intervals.iter().map(|of| (of.start_s, of.length_s)).collect();
        assert_eq!(lengths, [(0.0, 0.1), (0.1, 0.1), (0.2, 0.1), (0.3, 0.05)]);
        assert_eq!(told, intervals[..3], "what is told at once is what comes at the end");
        let recorded: Vec<_> = intervals.iter().map(|of| of.latency.histogram().len()).collect();
        assert_eq!(recorded, [1, 0, 0, 1]);
        assert_eq!(intervals[0].service.as_ref().unwrap().histogram().max(), 500);
        assert_eq!(intervals[3].open, Some(OpenInterval { due: 3, sent: 0, lag_max_us: 7 }));
    }

    #[test]
    fn a_run_of_known_length_has_no_interval_behind_its_end() {
        let start = clock::now();
        let mut series = Series::new(ms(100), false);
        series.begin(start, Some(start + ms(250)), Totals::default());
        // Nobody looked for a second.
        while series.is_over(start + ms(1_000)).is_some() {
            series.close(totals(1));
        }
        let intervals = series.finish(start + ms(251), totals(2));
        assert_eq!(intervals.len(), 3);
        assert_eq!(intervals[2].length_s, 0.051);
        assert_eq!((intervals[2].open, &intervals[2].service), (None, &None));
    }

    #[test]
    fn there_are_never_more_than_the_most() {
        let start = clock::now();
        let mut series = Series::new(ms(10), false);
        series.begin(start, None, Totals::default());
        let mut count = 1;
        while series.is_over(start + Duration::from_secs(100_000)).is_some() {
            series.close(Totals::default());
            count += 1;
        }
        assert_eq!((count, series.next_end()), (INTERVALS_MAX, None));
    }

    #[test]
    fn a_run_that_never_measured_has_none() {
        let mut series = Series::new(ms(10), false);
        assert!(series.finish(clock::now(), Totals::default()).is_empty());
    }

    #[test]
    fn workers_add_up_interval_by_interval() {
        let interval = |ok, length_s| Interval {
            ok,
            length_s,
            open: Some(OpenInterval { due: ok, sent: ok, lag_max_us: ok }),
            ..Interval::default()
        };
        let mut sum = vec![interval(1, 1.0), interval(2, 0.5)];
        add_intervals(&mut sum, &[interval(10, 1.0), interval(20, 1.0), interval(30, 0.1)]);
        let found: Vec<_> = sum.iter().map(|of| (of.ok, of.length_s)).collect();
        assert_eq!(found, [(11, 1.0), (22, 1.0), (30, 0.1)]);
        assert_eq!(sum[1].open, Some(OpenInterval { due: 22, sent: 22, lag_max_us: 20 }));
    }

    #[test]
    fn lines_are_json_with_units() {
        let mut histogram = new_histogram();
        histogram.saturating_record(5_000);
        let latency = Packed::new(&histogram);
        let interval = Interval { ok: 1, latency, ..Interval::default() };
        let mut lines = Vec::new();
        for interval in [interval.clone(), interval] {
            interval.write_line(&mut lines).unwrap();
        }
        let lines = String::from_utf8(lines).unwrap();
        for line in lines.lines() {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                (line["ok"].as_u64(), line["latency_us"]["max"].as_u64()),
                (Some(1), Some(5))
            );
            assert!(line.get("due").is_none() && line.get("service_us").is_none(), "{line}");
        }
        assert_eq!(lines.lines().count(), 2);
    }
}
