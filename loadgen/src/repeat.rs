//! repeat is for several runs of one thing, or of two in turn: in which order they are made, and
//! what came of all of them.

use std::fmt;

use serde::Serialize;

use crate::report::{LatencyReport, Report};
use crate::setup::Unit;
use crate::slo::SloReport;
use crate::tally::Ending;
use crate::text::{nanoseconds, plural, rate};

/// Which of two servers a run is of.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The first one, which the other is compared with.
    A,
    /// The other one.
    B,
}

impl Side {
    /// The order in which to make `runs` runs of each side: ABBA BAAB BAAB ABBA and so on, the
    /// Thue-Morse sequence.
    ///
    /// A host warms up, a server's memory fills, a neighbour begins to work: runs drift. All of A
    /// before all of B would show that as a difference; so would ABAB, less of it, because each B
    /// comes after its A. In ABBA a steady drift falls on both alike, in ABBA BAAB one that bends
    /// does too, and each doubling takes care of one power of time more.
    pub fn in_turn(runs: usize) -> impl Iterator<Item = Self> {
        (0..runs).flat_map(|pair| match pair.count_ones() % 2 {
            0 => [Self::A, Self::B],
            _ => [Self::B, Self::A],
        })
    }
}

/// What came of several runs of one thing. Displayed, a table.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Summary {
    /// How many there were.
    pub runs: usize,
    /// What is counted.
    pub unit: Unit,
    /// Requests answered in full per second; handshakes where there are none, and datagrams that
    /// came back.
    pub rate: Spread,
    /// Of `latency_us`, microseconds, over the runs that measured any; `None`: none did.
    pub p50_us: Option<Spread>,
    /// The same of the 99th percentiles.
    pub p99_us: Option<Spread>,
    /// The same of the 99.9th percentiles.
    pub p999_us: Option<Spread>,
    /// Everything that failed.
    pub errors: Spread,
}

/// One number over several runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Spread {
    /// That of the run in the middle; of an even number the mean of the two there.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Summary {
    /// Sums `reports` up; `None` if there is none.
    #[must_use]
    pub fn new(reports: &[Report]) -> Option<Self> {
        let of = |number: fn(&Report) -> f64| Spread::new(reports.iter().map(number).collect());
        let times = || reports.iter().map(|report| &report.latency_us).filter(|of| of.max > 0);
        let time =
            |us: fn(&LatencyReport) -> u64| Spread::new(times().map(|t| us(t) as f64).collect());
        Some(Self {
            runs: reports.len(),
            unit: reports.first()?.setup.unit,
            rate: of(rate_of)?,
            p50_us: time(|times| times.p50),
            p99_us: time(|times| times.p99),
            p999_us: time(|times| times.p999),
            errors: of(|report| report.errors.total as f64)?,
        })
    }
}

impl Spread {
    fn new(mut values: Vec<f64>) -> Option<Self> {
        values.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let median = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median, min, max })
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, unit, rate: per_s, p50_us, p99_us, p999_us, errors } = *self;
        let runs = plural(runs as u64, "run");
        write!(f, "{runs:<16}{:>12}{:>12}{:>12}", "median", "min", "max")?;
        let mut line = |name: &str, spread: Option<Spread>, text: fn(f64) -> String| {
            let [median, min, max] = match spread {
                Some(Spread { median, min, max }) => [median, min, max].map(text),
                None => ["-"; 3].map(Into::into),
            };
            write!(f, "\n{name:<16}{median:>12}{min:>12}{max:>12}")
        };
        line(per_second(unit), Some(per_s), rate)?;
        line("p50", p50_us, time)?;
        line("p99", p99_us, time)?;
        line("p99.9", p999_us, time)?;
        line("errors", Some(errors), |count| format!("{count}"))
    }
}

impl Report {
    /// The run in a line: rate, percentiles, errors, and what speaks against it.
    #[must_use]
    pub fn line(&self) -> String {
        let LatencyReport { p50, p99, max, .. } = self.latency_us;
        let time = |us| if max == 0 { "-".into() } else { nanoseconds(us * 1_000) };
        let (p50, p99) = (time(p50), time(p99));
        let (per_s, unit) = (rate(rate_of(self)), per_second(self.setup.unit));
        let errors = plural(self.errors.total, "error");
        let mut line = format!("{per_s:>9} {unit}   p50 {p50:>8}   p99 {p99:>8}   {errors}");
        if self.is_invalid() {
            line.push_str("   INVALID");
        }
        match self.ending {
            Ending::Complete => {}
            Ending::GaveUp => line.push_str("   given up"),
            Ending::Interrupted => line.push_str("   interrupted"),
            Ending::NothingConnected => line.push_str("   nothing connected"),
        }
        for term in self.slo.iter().filter(|slo| SloReport::is_broken(slo)).flat_map(|s| &s.terms) {
            if term.kept == Some(false) {
                let (wanted, measured) = (&term.wanted, term.measured_text());
                line.push_str(&format!("   BROKEN {wanted} ({measured})"));
            }
        }
        line
    }
}

/// What was done per second.
fn rate_of(report: &Report) -> f64 {
    match report.setup.unit {
        Unit::Requests => report.requests_per_s,
        Unit::Handshakes | Unit::Connections => report.handshakes_per_s,
        Unit::Datagrams if report.duration_s > 0.0 => report.units_ok() as f64 / report.duration_s,
        Unit::Datagrams => 0.0,
    }
}

/// What a rate is of.
fn per_second(unit: Unit) -> &'static str {
    match unit {
        Unit::Requests => "requests/s",
        Unit::Handshakes | Unit::Connections => "handshakes/s",
        Unit::Datagrams => "datagrams/s",
    }
}

/// Microseconds, for people.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most an hour")]
fn time(us: f64) -> String {
    nanoseconds((us * 1e3) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadConfig, Stop, Workload};
    use crate::tally::Tally;

    fn order(runs: usize) -> String {
        Side::in_turn(runs).map(|side| if side == Side::A { 'A' } else { 'B' }).collect()
    }

    #[test]
    fn runs_come_in_blocks_that_mirror_each_other() {
        assert_eq!(order(0), "");
        assert_eq!(order(1), "AB");
        assert_eq!(order(3), "ABBABA");
        assert_eq!(order(8), "ABBABAABBAABABBA");
        for runs in 1..50 {
            let order = order(runs);
            let of = |side| order.matches(side).count();
            assert_eq!((of('A'), of('B')), (runs, runs), "{order}");
        }
    }

    /// What drifts with time, or with its square, adds up to the same on both sides.
    #[test]
    fn drift_falls_on_both_sides_alike() {
        let sum = |runs, side, power| {
            let times = (0_i64..).zip(Side::in_turn(runs)).filter(move |(_, of)| *of == side);
            times.map(|(time, _)| time.pow(power)).sum::<i64>()
        };
        for (runs, powers) in [(2, 1), (4, 2), (6, 1), (8, 3), (12, 2), (16, 4)] {
            for power in 0..=powers {
                assert_eq!(sum(runs, Side::A, power), sum(runs, Side::B, power), "{runs} {power}");
            }
        }
        assert_ne!(sum(1, Side::A, 1), sum(1, Side::B, 1), "a pair alone mirrors nothing");
    }

    fn report(requests_per_s: f64, p50: u64, errors: u64) -> Report {
        let stop = Stop::Requests(1);
        let config = LoadConfig::new(Vec::new(), Workload::Download(1), stop);
        let mut report = Report::new(&config, 1, String::new(), &Tally::new());
        report.ending = Ending::Complete;
        report.requests_per_s = requests_per_s;
        (report.latency_us.p50, report.latency_us.p99) = (p50, p50 * 2);
        (report.latency_us.p999, report.latency_us.max) = (p50 * 3, p50 * 4);
        report.errors.total = errors;
        report
    }

    #[test]
    fn a_summary_has_the_middle_and_both_ends() {
        assert!(Summary::new(&[]).is_none());
        let mut reports =
            vec![report(300.0, 1_500, 0), report(100.0, 500, 7), report(200.0, 900, 0)];
        let summary = Summary::new(&reports).unwrap();
        let spread = |median, min, max| Spread { median, min, max };
        assert_eq!((summary.runs, summary.rate), (3, spread(200.0, 100.0, 300.0)));
        assert_eq!(summary.p50_us, Some(spread(900.0, 500.0, 1_500.0)));
        assert_eq!(summary.p99_us, Some(spread(1_800.0, 1_000.0, 3_000.0)));
        assert_eq!(summary.p999_us, Some(spread(2_700.0, 1_500.0, 4_500.0)));
        assert_eq!(summary.errors, spread(0.0, 0.0, 7.0));
        let text = summary.to_string();
        for words in ["3 runs ", "median", "requests/s", "900 us", "1.50 ms", "p99.9", "errors"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        // A run that measured no times has a rate and errors all the same.
        reports.push(report(0.0, 0, 2));
        let summary = Summary::new(&reports).unwrap();
        assert_eq!(summary.rate, spread(150.0, 0.0, 300.0));
        assert_eq!(summary.errors, spread(1.0, 0.0, 7.0));
        assert_eq!(summary.p50_us, Some(spread(900.0, 500.0, 1_500.0)));
        assert!(
            Summary::new(&reports[3..])
                .unwrap()
                .to_string()
                .contains("p50                        -")
        );
    }

    #[test]
    fn a_line_says_what_speaks_against_the_run() {
        let mut of = report(12_345.6, 1_234, 1);
        assert_eq!(of.line(), "   12,346 requests/s   p50  1.23 ms   p99  2.47 ms   1 error");
        of.slo = Some("errors<1,rate>=0".parse::<crate::slo::Slo>().unwrap().judge(&of));
        assert!(of.line().ends_with("BROKEN errors<1 (1)   BROKEN rate>=0 (nothing)"), "{of:?}");
        (of.slo, of.ending) = (None, Ending::NothingConnected);
        assert!(of.line().ends_with("1 error   nothing connected"));
        (of.setup.unit, of.latency_us.max) = (Unit::Handshakes, 0);
        assert!(of.line().contains(" 0.0 handshakes/s   p50        -   p99        -   1 error"));
    }
}
