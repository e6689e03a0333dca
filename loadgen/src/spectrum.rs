//! spectrum shows whole distributions as a table: a row for each percentile, a column for each kind
//! of time.

use std::fmt;

use hdrhistogram::Histogram;

use crate::report::Report;
use crate::text::{group, nanoseconds};

/// The distributions of a run, to be printed.
#[derive(Debug)]
pub struct Spectrum(Vec<(&'static str, Histogram<u64>)>);

impl Spectrum {
    pub(crate) fn new(report: &Report) -> Self {
        let histograms = &report.histograms;
        let is_open = report.schedule.is_some();
        let kinds = [
            ("latency", Some(&histograms.latency)),
            // In a closed loop it is the same.
            ("service", is_open.then_some(&histograms.service)),
            ("first byte", histograms.ttfb.as_ref()),
            ("handshake", Some(&histograms.handshake)),
            ("lag", histograms.lag.as_ref()),
        ];
        let kinds = kinds.into_iter().filter_map(|(name, packed)| Some((name, packed?)));
        Self(kinds.map(|(name, packed)| (name, packed.histogram())).collect())
    }
}

impl fmt::Display for Spectrum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<11}", "spectrum")?;
        for (name, _) in &self.0 {
            write!(f, "{name:>12}")?;
        }
        let mut row = |name: &str, cell: &dyn Fn(&Histogram<u64>) -> String| {
            write!(f, "\n  {name:<9}")?;
            self.0.iter().try_for_each(|(_, times)| {
                let cell = if times.is_empty() { "-".to_owned() } else { cell(times) };
                write!(f, "{cell:>12}")
            })
        };
        row("count", &|times| group(times.len()))?;
        row("mean", &|times| time(times.mean()))?;
        row("deviation", &|times| time(times.stdev()))?;
        row("min", &|times| time(times.min() as f64))?;
        for (name, quantile) in QUANTILES {
            let at = |times: &Histogram<u64>| times.value_at_quantile(quantile);
            row(name, &|times| time(at(times) as f64))?;
        }
        row("max", &|times| time(times.max() as f64))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most an hour")]
fn time(ns: f64) -> String {
    nanoseconds(ns as u64)
}

const QUANTILES: [(&str, f64); 10] = [
    ("p10", 0.1),
    ("p50", 0.5),
    ("p75", 0.75),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.5", 0.995),
    ("p99.9", 0.999),
    ("p99.99", 0.999_9),
    ("p99.999", 0.999_99),
];

#[cfg(test)]
mod tests {
    use crate::packed::new_histogram;

    use super::*;

    #[test]
    fn each_kind_has_a_column() {
        let mut times = new_histogram();
        for us in 1..=100 {
            times.saturating_record(us * 1_000);
        }
        let text = Spectrum(vec![("latency", times), ("handshake", new_histogram())]).to_string();
        let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["spectrum", "latency", "handshake"]);
        let row = |name: &str| lines.iter().find(|line| line[0] == name).unwrap()[1..].join(" ");
        assert_eq!(row("count"), "100 -");
        assert_eq!(row("p50"), "50 us -");
        assert_eq!(row("p99"), "99 us -");
        assert_eq!(row("max"), "100 us -");
    }
}
