//! tests divide one run among generators, and add it up again.

use std::time::Duration;

use quiclane::clock;
use serde_json::Value;

use super::*;
use crate::config::{KeyUpdates, LoadConfig, Pace, Stop, Workload};
use crate::partition::Partition;
use crate::random::Random;
use crate::schedule::{Arrivals, Rate};
use crate::series::{Series, Totals};
use crate::tally::{Counts, Ending, Span, Tally};

/// One generator: what it counts, and its intervals.
struct Generator {
    tally: Tally,
    series: Series,
}

impl Generator {
    fn new(start: std::time::Instant) -> Self {
        let mut series = Series::new(Duration::from_millis(100), true);
        series.begin(start, None, Totals::default());
        Self { tally: Tally::new(), series }
    }

    fn totals(&self) -> Totals {
        let Counts { ok, failed, started, .. } = self.tally.requests;
        let (bytes_down, bytes_up) = (self.tally.bytes_down, self.tally.bytes_up);
        Totals { ok, failed, bytes_down, bytes_up, due: started, sent: started }
    }

    /// A request that ends `now`, or fails.
    fn request(&mut self, now: std::time::Instant, ns: u64) {
        while self.series.is_over(now).is_some() {
            let totals = self.totals();
            self.series.close(totals);
        }
        self.tally.requests.started += 1;
        self.tally.sent += 1;
        let quic = &mut self.tally.quic;
        quic.connections += 1;
        quic.sent_packets += ns % 7;
        quic.lost_packets += ns % 2;
        quic.congestion_events += ns % 4;
        // All alike: their mean is rounded in each part.
        quic.windows += 14_720;
        quic.sent_datagrams += 2 + ns % 5;
        quic.sends += 1 + ns % 2;
        self.tally.rtt.saturating_record(ns / 7);
        let limits = &mut self.tally.stream_limits;
        limits.limit = limits.limit.max(ns % 100);
        limits.connections += 1;
        limits.waited += Duration::from_micros(ns % 1_000);
        self.tally.upkeep.migrations += ns % 3;
        self.tally.upkeep.key_updates += ns % 5;
        if ns.is_multiple_of(97) {
            self.tally.requests.failed += 1;
            let class = if ns.is_multiple_of(2) { "reset" } else { "timeout" };
            return self.tally.request_errors.note(class, 1, || None);
        }
        self.tally.requests.ok += 1;
        self.tally.bytes_down += ns % 1_000;
        self.tally.bytes_up += 7;
        self.tally.latency.saturating_record(ns);
        self.tally.service.saturating_record(ns / 2);
        self.tally.lag.saturating_record(ns / 1_000);
        self.tally.handshake_times.saturating_record(ns * 3);
        self.tally.handshakes.started += 1;
        self.tally.handshakes.ok += 1;
        self.series.note_lag(ns / 1_000);
        self.series.record(ns, Some(ns / 2));
    }

    /// Its report, as it is read from a file.
    fn report(mut self, start: std::time::Instant, end: std::time::Instant) -> Report {
        let totals = self.totals();
        self.tally.intervals = self.series.finish(end, totals);
        self.tally.measured = Some(Span { from: start, to: end });
        let report = Report::new(&config(), 2, "epoll".into(), &self.tally);
        let report = Report { started_unix_ms: 1_700_000_000_000, ..report };
        Report::read(&serde_json::to_vec(&report).unwrap()[..]).unwrap()
    }
}

fn config() -> LoadConfig {
    let pace = Pace { rate: Rate::constant(5.0).unwrap(), arrivals: Arrivals::Constant };
    LoadConfig {
        pace: Some(pace),
        migrate_every: Some(Duration::from_secs(1)),
        key_updates: Some(KeyUpdates::Every(Duration::from_secs(1))),
        interval: Duration::from_millis(100),
        ..LoadConfig::new(Vec::new(), Workload::Download(1), Stop::Requests(10))
    }
}

/// A run of a second and a bit, recorded whole and by three generators, each of which has a part.
fn whole_and_parts() -> (Report, Vec<Report>) {
    let start = clock::now();
    let (mut random, mut now) = (Random::new(9), start);
    let mut whole = Generator::new(start);
    let mut parts = [0, 1, 2].map(|_| Generator::new(start));
    for _ in 0..5_000 {
        now += Duration::from_nanos(1 + random.below(500_000) as u64);
        let size = 1 << (1 + random.below(30));
        let ns = 1 + random.below(size) as u64;
        whole.request(now, ns);
        parts[random.below(3)].request(now, ns);
    }
    (whole.report(start, now), parts.map(|part| part.report(start, now)).into())
}

/// Without what says how many generators there were.
fn numbers(report: &Report) -> Value {
    let mut value = serde_json::to_value(report).unwrap();
    value.as_object_mut().unwrap().retain(|name, _| name != "setup" && name != "handshakes_per_s");
    value
}

#[test]
fn the_parts_of_a_run_are_the_run() {
    let (whole, parts) = whole_and_parts();
    assert!(whole.intervals.len() > 10 && whole.errors.by_class.len() == 2, "{whole}");
    let merged = Report::merge(parts.clone(), None).unwrap();
    assert_eq!(numbers(&merged), numbers(&whole));
    assert_eq!((merged.setup.connections, merged.setup.workers), (3, 6));
    assert!(whole.quic.rtt_us.p99 > 0 && whole.stream_limit.is_some(), "{whole}");
    assert!(whole.migrations > parts[0].migrations, "{whole}");
    assert!(whole.key_updates > parts[0].key_updates, "{whole}");
    assert!(merged.detail.notes.is_empty(), "{merged}");
    // In any order, and in steps: what was merged can be read, and merged.
    let two = Report::merge(parts[1..].to_vec(), None).unwrap();
    let two = Report::read(&serde_json::to_vec(&two).unwrap()[..]).unwrap();
    let steps = Report::merge(vec![two, parts[0].clone()], None).unwrap();
    assert_eq!(numbers(&steps), numbers(&whole));
    let text = merged.to_string();
    for words in ["6 workers", "failed:\n", "reset", "service"] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn one_that_began_later_is_put_where_it_was() {
    let (whole, parts) = whole_and_parts();
    let mut late = parts[1].clone();
    late.started_unix_ms += 310;
    let (first, second) = (&parts[0].intervals, &parts[1].intervals);
    let merged = Report::merge(vec![late.clone(), parts[0].clone()], None).unwrap();
    assert_eq!(merged.started_unix_ms, whole.started_unix_ms);
    assert_eq!(merged.intervals.len(), first.len() + 3);
    let ok = |at: usize| merged.intervals[at].ok;
    assert_eq!((ok(2), ok(3)), (first[2].ok, first[3].ok + second[0].ok));
    assert_eq!(ok(merged.intervals.len() - 1), second.last().unwrap().ok);
    assert!((merged.duration_s - late.duration_s - 0.31).abs() < 1e-6, "{merged}");
    assert!(merged.requests_per_s < parts[0].requests_per_s * 2.0);
    assert!(merged.to_string().contains("under way together for"), "{merged}");
    let again = Report::read(&serde_json::to_vec(&merged).unwrap()[..]).unwrap();
    assert_eq!(again.intervals, merged.intervals);
}

#[test]
fn what_is_no_part_of_the_same_run_is_refused() {
    let (_, parts) = whole_and_parts();
    type Change = fn(&mut Report);
    let cases: [(Change, &str); 6] = [
        (|of| of.setup.workload = "other".into(), "workload: perf download, 1 B per stream and"),
        (|of| of.setup.unit = Unit::Handshakes, "workload"),
        (|of| of.interval_s = 0.2, "intervals of 0.1 s and 0.2 s"),
        (|of| drop(of.setup.settings.remove("rate")), "rate: 5 and none"),
        (|of| of.status = Some(BTreeMap::new()), "only one of them has statuses"),
        (|of| of.started_unix_ms += 10_000_000, "report 2 begins 10000 s after"),
    ];
    for (change, words) in cases {
        let mut other = parts[1].clone();
        change(&mut other);
        let error = Report::merge(vec![parts[0].clone(), other], None).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
    let twice = vec![parts[1].clone(), parts[0].clone(), parts[1].clone()];
    let error = Report::merge(twice, None).unwrap_err();
    assert_eq!(error, MergeError::Twice { first: 1, number: 3 });
    assert_eq!(Report::merge(Vec::new(), None).unwrap_err(), MergeError::Nothing);
}

#[test]
fn the_worst_part_decides_and_objectives_are_those_of_the_sum() {
    let (_, mut parts) = whole_and_parts();
    parts[1].ok = true;
    (parts[2].saturated, parts[2].ending) = (true, Ending::GaveUp);
    parts[0].busy = Some(0.3);
    let slo = "errors<5%,rate>1,not_sent<1".parse().unwrap();
    let merged = Report::merge(parts.clone(), Some(&slo)).unwrap();
    assert!(!merged.ok && merged.is_invalid() && merged.ending == Ending::GaveUp, "{merged}");
    assert!(merged.to_string().contains("1 of 3 generators were at their limits"), "{merged}");
    assert_eq!((merged.busy, merged.slo.unwrap().kept), (Some(0.3), Some(true)));
    parts[1].ending = Ending::Interrupted;
    let merged = Report::merge(parts, Some(&slo)).unwrap();
    assert_eq!(merged.slo.unwrap().kept, None);
}

#[test]
fn held_connections_are_all_back_when_those_of_each_part_are() {
    let idle = |lost, back_s| IdleReport {
        connections: 5,
        opened: 5,
        opening_s: 0.5,
        held: 5 - lost,
        lost,
        lost_by_class: [("reset".to_owned(), lost)].into(),
        back_s,
        lost_at_s: back_s,
        outage_us: LatencyReport::default(),
    };
    for (a, b, expected) in [
        (idle(0, None), idle(2, Some(3.0)), Some(3.0)),
        (idle(1, Some(4.0)), idle(2, Some(3.0)), Some(4.0)),
        (idle(1, None), idle(2, Some(3.0)), None),
        (idle(1, Some(4.0)), idle(2, None), None),
        (idle(0, None), idle(0, None), None),
    ] {
        let lost = a.lost + b.lost;
        let mut sum = a;
        add_idle(&mut sum, b);
        assert_eq!((sum.connections, sum.held, sum.lost), (10, 10 - lost, lost));
        assert_eq!((sum.back_s, sum.lost_by_class["reset"]), (expected, lost));
    }
}

#[test]
fn parts_are_there_once_and_missing_ones_are_said() {
    let (_, reports) = whole_and_parts();
    let part = |of: usize, index: u64, parts: u64| {
        let mut report = reports[of].clone();
        report.setup.partition = Some(Parts::new(Partition::new(index, parts).unwrap()));
        report
    };
    let merged = Report::merge(vec![part(0, 3, 4), part(1, 1, 4)], None).unwrap();
    let parts = merged.setup.partition.as_ref().unwrap();
    assert_eq!((parts.of, &parts.parts[..]), (4, &[1, 3][..]));
    assert!(merged.to_string().contains("of 4 parts of the run these are missing: 2, 4"));
    let all = Report::merge(vec![part(0, 2, 2), part(1, 1, 2)], None).unwrap();
    assert!(all.detail.notes.is_empty(), "{all}");
    for (other, words) in [
        (part(1, 3, 4), "part 3 of 4 is there twice"),
        (part(1, 1, 2), "part 1 of 2 is one of another number of parts"),
        // The same one in a sum.
        (merged, "part 3 of 4 is there twice"),
    ] {
        let error = Report::merge(vec![part(0, 3, 4), other], None).unwrap_err().to_string();
        assert!(error.contains(words), "{words}: {error}");
    }
}
