//! report turns what was counted into the numbers people read; the README defines each.

mod datagrams;
pub use datagrams::DatagramReport;
mod histograms;
mod idle;
mod notes;
mod quic;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;
pub use histograms::Histograms;
pub use idle::IdleReport;
pub(crate) use notes::SATURATED;
use notes::{came_to_nothing, lags, notes};
pub use quic::{QuicReport, StreamLimitReport};
use serde::{Deserialize, Serialize};

use crate::config::{LoadConfig, Workload};
use crate::export;
use crate::page::{self, About};
use crate::protocol::Protocol;
use crate::read::{few_names, maybe_names};
use crate::series::Interval;
use crate::setup::{Setup, Unit};
use crate::slo::SloReport;
use crate::spectrum::Spectrum;
use crate::tally::{ClassCount, Counts, EarlyData, Ending, Span, Tally};
use crate::text;

/// The result of a run. Serialised, it is the `load` object of the JSON contract; displayed, a
/// text for people.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Version of this schema.
    pub schema: u32,
    /// Everything that was asked for was done and nothing failed.
    pub ok: bool,
    /// Length of the measured part, in seconds.
    pub duration_s: f64,
    /// Requests that ended: answered in full or failed.
    pub requests: u64,
    /// Requests answered in full, per second.
    pub requests_per_s: f64,
    /// Everything that failed.
    pub errors: ErrorReport,
    /// Handshakes completed.
    pub handshakes: u64,
    /// Handshakes completed per second of the time in which they were the work.
    pub handshakes_per_s: f64,
    /// Response bytes received.
    pub bytes_down: u64,
    /// Request payload bytes handed to QUIC.
    pub bytes_up: u64,
    /// Both directions' bytes, as gigabits (10^9) per second.
    pub gbit_s: f64,
    /// Connections that ended by a stateless reset.
    pub stateless_resets: u64,
    /// Handshakes that replaced a lost connection.
    pub reconnects: u64,
    /// Requests sent as 0-RTT data.
    pub early_data: EarlyData,
    /// How the run ended.
    pub ending: Ending,
    /// Requests and handshakes by outcome.
    pub counts: UnitCounts,
    /// From the first attempt to connect until all connections had been tried once, in seconds.
    pub connecting_s: f64,
    /// The busiest worker's share of time in which it had something to do, if known.
    pub busy: Option<f64>,
    /// What was asked for.
    pub setup: Setup,
    /// Complete responses by status class; with HTTP requests only.
    #[serde(default, deserialize_with = "maybe_names", skip_serializing_if = "Option::is_none")]
    pub status: Option<BTreeMap<String, u64>>,
    /// Time to the header section of the response (over HTTP/0.9 to its first bytes), from when the
    /// request was sent; with HTTP requests only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttfb_us: Option<LatencyReport>,
    /// Connections whose server said GOAWAY; with HTTP requests only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goaways: Option<u64>,
    /// Connections moved to another socket; where that was asked for only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migrations: Option<u64>,
    /// Key updates that were asked for; where there were to be some only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_updates: Option<u64>,
    /// Time to answer, from when it was meant to be sent.
    pub latency_us: LatencyReport,
    /// Time to answer, from when it was sent.
    pub service_us: LatencyReport,
    /// Time of each handshake that is in `handshakes`, from when it began.
    pub handshake_us: LatencyReport,
    /// What became of the schedule; in an open loop only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<ScheduleReport>,
    /// What the server's limit of streams held up; absent when it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_limit: Option<StreamLimitReport>,
    /// What QUIC went through; of nobody in reports of versions that did not count it.
    #[serde(default)]
    pub quic: QuicReport,
    /// What became of datagrams; absent with every other workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams: Option<DatagramReport>,
    /// The generator itself was at its limit.
    pub saturated: bool,
    /// How datagrams entered and left.
    pub io: String,
    /// The distributions behind the percentiles.
    pub histograms: Histograms,
    /// When the measured part began, in milliseconds since 1970 by this machine's clock.
    pub started_unix_ms: u64,
    /// Length of the intervals, in seconds.
    pub interval_s: f64,
    /// The measured part, interval by interval, without a gap.
    pub intervals: Vec<Interval>,
    /// What became of the objectives; absent where there are none.
    #[serde(skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub slo: Option<SloReport>,
    /// What became of connections that were only held; absent with every other workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<IdleReport>,
    /// More about the run; not part of the JSON.
    #[serde(skip)]
    pub detail: Detail,
}

/// Requests and handshakes by outcome.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct UnitCounts {
    /// Requests of the measured part.
    pub requests: Counts,
    /// Handshakes: of the measured part where they are the work, else of the whole run.
    pub handshakes: Counts,
}

/// Failures, all of them and by class.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[non_exhaustive]
pub struct ErrorReport {
    /// The sum of the classes.
    pub total: u64,
    /// How many of each class.
    #[serde(deserialize_with = "few_names")]
    pub by_class: BTreeMap<String, u64>,
}

/// A distribution of times in microseconds, each at most 0.1 % longer than it was. All zero when
/// nothing was measured.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LatencyReport {
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// 99.99th percentile.
    pub p9999: u64,
    /// 99.999th percentile.
    pub p99999: u64,
    /// The longest.
    pub max: u64,
}

impl LatencyReport {
    pub(crate) fn new(nanoseconds: &Histogram<u64>) -> Self {
        let us = |ns: u64| (ns + 500) / 1_000;
        // The histogram names the top of each bucket, of the longest time too: no time is shown
        // shorter than it was, and runs that are added up have the longest of theirs.
        let at = |quantile| us(nanoseconds.value_at_quantile(quantile));
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.999_9),
            p99999: at(0.999_99),
            max: us(nanoseconds.max()),
        }
    }
}

/// What became of a schedule.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct ScheduleReport {
    /// Requests that were due in the measured time.
    pub due: u64,
    /// The same per second: the rate that was asked for.
    pub due_per_s: f64,
    /// Those that were sent.
    pub sent: u64,
    /// The same per second.
    pub sent_per_s: f64,
    /// Those that were not. Who waited for a connection with room for longer than any answer took,
    /// and for more than a second, failed as `not_sent`; the others were cut off by the end.
    pub not_sent: u64,
    /// By how much requests left late though a connection had room: the generator's own doing.
    pub lag_us: LatencyReport,
}

impl ScheduleReport {
    fn new(tally: &Tally, seconds: f64) -> Self {
        let due = tally.sent + tally.unsent;
        Self {
            due,
            due_per_s: per_second(due, seconds),
            sent: tally.sent,
            sent_per_s: per_second(tally.sent, seconds),
            not_sent: tally.unsent,
            lag_us: LatencyReport::new(&tally.lag),
        }
    }
}

/// What the text report says beyond the JSON.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Detail {
    /// Failed requests, most frequent class first.
    pub request_errors: Vec<ClassCount>,
    /// Failed handshakes, most frequent class first.
    pub handshake_errors: Vec<ClassCount>,
    /// Connections lost with no request in flight, most frequent class first.
    pub idle_losses: Vec<ClassCount>,
    /// What could not be done to open connections, most frequent class first.
    pub upkeep_errors: Vec<ClassCount>,
    /// What a reader has to know to judge the numbers, one sentence each.
    pub notes: Vec<String>,
}

impl Report {
    pub(crate) fn new(config: &LoadConfig, workers: usize, io: String, tally: &Tally) -> Self {
        let seconds = tally.measured.map_or(Duration::ZERO, Span::length).as_secs_f64();
        // Whoever computes with what is written gets the same rates.
        let seconds = round(seconds, 6);
        let connecting = tally.connecting.map_or(Duration::ZERO, Span::length);
        let is_handshakes = config.workload.is_handshakes();
        let handshakes_per_s = if is_handshakes {
            per_second(tally.handshakes.ok, seconds)
        } else {
            per_second(tally.connected_first, connecting.as_secs_f64())
        };
        let latency = LatencyReport::new(&tally.latency);
        let errors = ErrorReport::new(tally);
        let complete = tally.ending == Ending::Complete;
        let something = tally.handshakes.ok > 0 && !came_to_nothing(config, tally);
        let is_http = config.workload == Workload::Http;
        let is_http3 = is_http && matches!(config.protocol, Protocol::Http3(_));
        // Who asks for connections to be replaced counts with losses; what matters is the end.
        let well = if config.workload.is_idle() && config.reconnect {
            tally.held == config.connections as u64
        } else {
            errors.total == 0
        };
        let report = Self {
            schema: SCHEMA,
            ok: complete && something && well,
            duration_s: seconds,
            requests: tally.requests.ended(),
            requests_per_s: per_second(tally.requests.ok, seconds),
            errors,
            handshakes: tally.handshakes.ok,
            handshakes_per_s,
            bytes_down: tally.bytes_down,
            bytes_up: tally.bytes_up,
            gbit_s: gigabits(tally.bytes_down + tally.bytes_up, seconds),
            stateless_resets: tally.stateless_resets,
            reconnects: tally.reconnects,
            early_data: tally.early_data,
            ending: tally.ending,
            counts: UnitCounts { requests: tally.requests, handshakes: tally.handshakes },
            connecting_s: round(connecting.as_secs_f64(), 6),
            busy: tally.busy.map(|busy| round(busy, 4)),
            setup: Setup::new(config, workers),
            status: is_http3.then(|| statuses(tally)),
            ttfb_us: is_http.then(|| LatencyReport::new(&tally.first_byte)),
            goaways: is_http3.then_some(tally.goaways),
            migrations: config.migrate_every.map(|_| tally.upkeep.migrations),
            key_updates: config.key_updates.map(|_| tally.upkeep.key_updates),
            latency_us: latency,
            service_us: match config.is_open_loop() {
                true => LatencyReport::new(&tally.service),
                // In a closed loop a request is sent when it is meant to be sent.
                false => latency,
            },
            handshake_us: LatencyReport::new(&tally.handshake_times),
            schedule: config.is_open_loop().then(|| ScheduleReport::new(tally, seconds)),
            stream_limit: StreamLimitReport::new(tally),
            quic: QuicReport::new(tally),
            datagrams: config.workload.datagram_size().map(|_| DatagramReport::new(tally)),
            saturated: tally.busy.is_some_and(|busy| busy > SATURATED) || lags(tally),
            io,
            histograms: Histograms::new(config, tally),
            started_unix_ms: 0,
            interval_s: config.interval.as_secs_f64(),
            intervals: tally.intervals.clone(),
            slo: None,
            idle: config.workload.is_idle().then(|| IdleReport::new(config, tally)),
            detail: Detail::new(config, tally),
        };
        let slo = config.slo.as_ref().map(|slo| slo.judge(&report));
        Self { slo, ..report }
    }
}

impl Report {
    /// What was asked for and went well: requests, or handshakes where there are none.
    pub(crate) fn units_ok(&self) -> u64 {
        match self.setup.unit {
            Unit::Requests => self.counts.requests.ok,
            Unit::Datagrams => self.datagrams.map_or(0, |datagrams| datagrams.received),
            Unit::Handshakes | Unit::Connections => self.counts.handshakes.ok,
        }
    }

    /// Whether the generator was the bottleneck of a run that was to tell how the server bears a
    /// rate: its times are the generator's as much as the server's.
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.saturated && self.schedule.is_some()
    }

    /// Writes each interval as a line of JSON.
    ///
    /// # Errors
    /// When `to` cannot be written.
    pub fn write_series(&self, to: &mut impl Write) -> io::Result<()> {
        self.intervals.iter().try_for_each(|interval| interval.write_line(to))
    }

    /// Writes an interval log of HdrHistogram.
    ///
    /// # Errors
    /// When `to` cannot be written.
    pub fn write_interval_log(&self, to: &mut impl Write) -> io::Result<()> {
        export::interval_log(self, to)
    }

    /// Writes the percentiles of the latency as HdrHistogram's `hgrm` text.
    ///
    /// # Errors
    /// When `to` cannot be written.
    pub fn write_percentiles(&self, to: &mut impl Write) -> io::Result<()> {
        export::percentiles(&self.histograms.latency.histogram(), to)
    }

    /// Writes the run as one self-contained page of HTML.
    ///
    /// # Errors
    /// When `to` cannot be written.
    pub fn write_page(&self, about: &About, to: &mut impl Write) -> io::Result<()> {
        page::write(self, about, to)
    }

    /// All distributions as a table.
    #[must_use]
    pub fn spectrum(&self) -> Spectrum {
        Spectrum::new(self)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::write(self, f)
    }
}

impl ErrorReport {
    fn new(tally: &Tally) -> Self {
        let mut all = tally.request_errors.clone();
        all.merge(&tally.handshake_errors);
        all.merge(&tally.idle_losses);
        all.merge(&tally.upkeep.errors);
        Self {
            total: all.total(),
            by_class: all
                .sorted()
                .into_iter()
                .map(|class| (class.class.to_owned(), class.count))
                .collect(),
        }
    }
}

impl Detail {
    fn new(config: &LoadConfig, tally: &Tally) -> Self {
        Self {
            request_errors: tally.request_errors.clone().sorted(),
            handshake_errors: tally.handshake_errors.clone().sorted(),
            idle_losses: tally.idle_losses.clone().sorted(),
            upkeep_errors: tally.upkeep.errors.clone().sorted(),
            notes: notes(config, tally),
        }
    }
}

/// Responses by class; `other` only if there were any.
fn statuses(tally: &Tally) -> BTreeMap<String, u64> {
    let known = |(class, count): &(&str, u64)| *class != "other" || *count > 0;
    let known = tally.statuses.iter().filter(known);
    known.map(|(class, count)| (class.to_owned(), count)).collect()
}

/// Of the JSON.
pub(crate) const SCHEMA: u32 = 1;

fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

pub(crate) fn per_second(count: u64, seconds: f64) -> f64 {
    round(rate(count, seconds), 1)
}

/// 10^9 bits a second.
pub(crate) fn gigabits(bytes: u64, seconds: f64) -> f64 {
    round(rate(bytes, seconds) * 8.0 / 1e9, 6)
}

/// Digits that mean nothing only make numbers hard to read.
pub(crate) fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use quiclane::clock;

    use super::*;
    use crate::config::Stop;
    use crate::packed::new_histogram;
    use crate::protocol::{Body, HttpRequest, Protocol};
    use crate::random::Random;

    fn config(workload: Workload) -> LoadConfig {
        LoadConfig::new(Vec::new(), workload, Stop::Requests(10))
    }

    #[test]
    fn times_are_never_shorter_than_they_were_and_little_longer() {
        let mut random = Random::new(5);
        for _ in 0..2_000 {
            let mut histogram = new_histogram();
            // Up to 37 minutes.
            let mut sorted = [(); 9].map(|()| {
                let end = 1 << random.below(42);
                random.below(end) as u64
            });
            sorted.sort_unstable();
            sorted.iter().for_each(|ns| histogram.saturating_record(*ns));
            for (quantile, truth) in [(0.5, sorted[4]), (1.0, sorted[8])] {
                let shown = histogram.value_at_quantile(quantile);
                assert!(shown >= truth && shown - truth <= truth / 1_000, "{shown} {truth}");
            }
            let report = LatencyReport::new(&histogram);
            let max = histogram.max();
            assert_eq!((report.max, report.p99999), ((max + 500) / 1_000, report.max));
            assert!(max >= sorted[8] && max - sorted[8] <= sorted[8] / 1_000, "{max} {sorted:?}");
        }
    }

    fn tally() -> Tally {
        let from = clock::now();
        let mut tally = Tally::new();
        tally.requests = Counts { started: 10, ok: 8, failed: 2, cancelled: 0 };
        tally.handshakes = Counts { started: 2, ok: 2, ..Counts::default() };
        tally.connected_first = 2;
        tally.request_errors.note("reset", 2, || None);
        tally.idle_losses.note("idle_timeout", 1, || None);
        for us in [100, 200, 300, 400] {
            tally.latency.saturating_record(us * 1_000);
        }
        tally.bytes_down = 1_000_000_000;
        tally.measured = Some(Span { from, to: from + Duration::from_secs(2) });
        tally.connecting = Some(Span { from, to: from + Duration::from_millis(500) });
        tally
    }

    #[test]
    fn numbers_follow_their_definitions() {
        let config = config(Workload::Download(1));
        let report = Report::new(&config, 1, "epoll".into(), &tally());
        assert!(!report.ok);
        assert_eq!(report.requests, 10);
        assert!((report.requests_per_s - 4.0).abs() < 1e-9);
        assert!((report.handshakes_per_s - 4.0).abs() < 1e-9);
        assert!((report.gbit_s - 4.0).abs() < 1e-9);
        assert_eq!(report.errors.total, 3);
        assert_eq!(report.errors.by_class["reset"], 2);
        assert_eq!(report.latency_us.max, 400);
        assert_eq!(report.latency_us, report.service_us);
        assert!(!report.saturated);
    }

    #[test]
    fn json_has_exactly_the_fields_of_the_contract() {
        let config = config(Workload::Download(1));
        let report = Report::new(&config, 1, "epoll".into(), &tally());
        let json = serde_json::to_value(report).unwrap();
        let fields: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
        let mut contract = [
            "schema",
            "ok",
            "duration_s",
            "early_data",
            "requests",
            "requests_per_s",
            "errors",
            "handshakes",
            "handshakes_per_s",
            "bytes_down",
            "bytes_up",
            "gbit_s",
            "stateless_resets",
            "reconnects",
            "latency_us",
            "service_us",
            "saturated",
            "quic",
            "io",
            "ending",
            "counts",
            "connecting_s",
            "busy",
            "setup",
            "handshake_us",
            "histograms",
            "started_unix_ms",
            "interval_s",
            "intervals",
        ];
        contract.sort_unstable();
        assert_eq!(fields, contract);
        assert_eq!(json["errors"]["by_class"]["idle_timeout"], 1);
        for times in ["latency_us", "service_us", "handshake_us"] {
            for field in ["p50", "p90", "p99", "p999", "p9999", "p99999", "max"] {
                assert!(json[times][field].is_u64(), "{times} {field}");
            }
        }
    }

    #[test]
    fn over_http_there_is_more() {
        let request = HttpRequest::new("PUT", "a", "/", Body::Zeros(2_048)).unwrap();
        let protocol = Protocol::Http3(vec![request.clone(), request]);
        let config = LoadConfig { protocol, ..config(Workload::Http) };
        let mut tally = tally();
        for status in [200, 204, 302, 404] {
            tally.statuses.note(status);
        }
        tally.first_byte.saturating_record(50_000);
        tally.goaways = 3;
        let report = Report::new(&config, 1, "epoll".into(), &tally);
        let json = serde_json::to_value(&report).unwrap();
        let expected = serde_json::json!({ "2xx": 2, "3xx": 1, "4xx": 1, "5xx": 0 });
        assert_eq!(json["status"], expected);
        assert_eq!(
            (json["ttfb_us"]["max"].as_u64(), json["goaways"].as_u64()),
            (Some(50), Some(3))
        );
        let text = report.to_string();
        for words in ["HTTP/3 PUT, 2 KiB up, 2 URLs in turn", "2xx 2   3xx 1   4xx 1", "3 ended by"]
        {
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn nothing_measured_is_no_success_and_no_division_by_zero() {
        let config = config(Workload::Handshakes);
        let mut tally = Tally::new();
        tally.ending = Ending::NothingConnected;
        tally.handshake_errors.note("handshake_timeout", 1, || None);
        let report = Report::new(&config, 1, "epoll".into(), &tally);
        assert!(!report.ok);
        assert!(report.requests_per_s.abs() < 1e-9 && report.gbit_s.abs() < 1e-9);
        assert_eq!(report.latency_us, LatencyReport::default());
        assert!(report.to_string().contains("no connection"));
    }

    #[test]
    fn a_run_whose_requests_came_to_nothing_is_no_success() {
        let stop = Stop::Duration(Duration::from_millis(700));
        let report = |workload, change: fn(&mut Tally)| {
            let mut tally = Tally::new();
            tally.handshakes = Counts { started: 2, ok: 2, ..Counts::default() };
            tally.requests = Counts { started: 4, cancelled: 4, ..Counts::default() };
            change(&mut tally);
            let config = LoadConfig { stop, ..config(workload) };
            Report::new(&config, 1, "epoll".into(), &tally)
        };
        // Body bytes that were handed to QUIC are no sign of the server.
        let nothing = report(Workload::Http, |tally| tally.bytes_up = 7);
        let [note] = &nothing.detail.notes[..] else { panic!("{nothing}") };
        assert!(!nothing.ok && nothing.errors.total == 0, "{nothing}");
        assert!(note.contains("no request was answered") && note.contains("4 in flight"), "{note}");
        for something in [
            report(Workload::Http, |tally| tally.requests.ok = 1),
            report(Workload::Download(1 << 30), |tally| tally.bytes_down = 1),
            report(Workload::Upload(1 << 30), |tally| tally.uploading = true),
            report(Workload::Handshakes, |_| {}),
        ] {
            assert!(something.ok && something.detail.notes.is_empty(), "{something}");
        }
    }

    #[test]
    fn who_gives_up_says_what_was_missing() {
        let mut tally = tally();
        tally.ending = Ending::GaveUp;
        for (workload, rest) in
            [(Workload::Http, "0 requests not started"), (Workload::Handshakes, "8 handshakes")]
        {
            let report = Report::new(&config(workload), 1, "epoll".into(), &tally);
            let [note, ..] = &report.detail.notes[..] else { panic!("{report}") };
            // All ten requests were started, and failed or not: that none could be is not said.
            assert!(note.contains("nothing was answered for 30 s"), "{note}");
            assert!(note.contains(rest) && !note.contains("could be started"), "{note}");
        }
    }

    #[test]
    fn a_busy_generator_is_saturated() {
        let mut tally = tally();
        tally.busy = Some(0.99);
        let report = Report::new(&config(Workload::Upload(1)), 1, "epoll".into(), &tally);
        assert!(report.saturated);
        assert!(report.detail.notes.iter().any(|note| note.contains("99 %")));
    }
}
