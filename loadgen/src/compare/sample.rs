//! sample is what a comparison takes from a run: its intervals, cleaned of what is not the steady
//! state, as rows of numbers that can be added up in any selection.

use std::collections::BTreeMap;

use crate::report::Report;
use crate::series::Interval;

/// One run.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// An interval each.
    pub(super) rows: Vec<Row>,
}

/// One interval, or some that follow one another.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) length_s: f64,
    pub(super) ok: f64,
    pub(super) failed: f64,
    /// How many latencies are in each bucket of the grid.
    pub(super) counts: Vec<f64>,
}

impl Row {
    /// With nothing in it.
    pub(super) fn empty(buckets: usize) -> Self {
        Self { counts: vec![0.0; buckets], ..Self::default() }
    }

    /// Adds another one `times` times.
    pub(super) fn add(&mut self, other: &Self, times: f64) {
        self.length_s += times * other.length_s;
        self.ok += times * other.ok;
        self.failed += times * other.failed;
        for (count, other) in self.counts.iter_mut().zip(&other.counts) {
            *count += times * other;
        }
    }

    /// Back to nothing.
    pub(super) fn clear(&mut self) {
        (self.length_s, self.ok, self.failed) = (0.0, 0.0, 0.0);
        self.counts.fill(0.0);
    }
}

/// The buckets that any run used, by their value in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Grid(Vec<u64>);

impl Grid {
    pub(super) fn new(reports: &[&Report]) -> Self {
        let mut values = BTreeMap::new();
        for report in reports {
            let times = report.histograms.latency.histogram();
            values.extend(times.iter_recorded().map(|step| (step.value_iterated_to(), ())));
            // A file may contradict itself.
            for interval in &report.intervals {
                let times = interval.latency.histogram();
                values.extend(times.iter_recorded().map(|step| (step.value_iterated_to(), ())));
            }
        }
        Self(values.into_keys().collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The value below which a share `quantile` of `counts` is; `None` if they are nothing.
    pub(super) fn quantile(&self, counts: &[f64], total: f64, quantile: f64) -> Option<f64> {
        let wanted = (total * quantile).ceil().max(1.0);
        let mut sum = 0.0;
        for (value, count) in self.0.iter().zip(counts) {
            sum += count;
            if sum >= wanted {
                return Some(*value as f64);
            }
        }
        None
    }

    fn row(&self, interval: &Interval) -> Row {
        let mut counts = vec![0.0; self.0.len()];
        for step in interval.latency.histogram().iter_recorded() {
            if let Ok(at) = self.0.binary_search(&step.value_iterated_to()) {
                counts[at] = step.count_at_value() as f64;
            }
        }
        let Interval { length_s, ok, failed, .. } = *interval;
        Row { length_s, ok: ok as f64, failed: failed as f64, counts }
    }
}

impl Sample {
    /// The steady part of a run.
    ///
    /// Without a warm-up the first interval is left out: congestion windows, caches and the
    /// server's own pools grow in it, so it is of another kind than the others, and one of few. So
    /// is a last one that is shorter than half of the others, whose noise is larger.
    pub(super) fn new(report: &Report, grid: &Grid) -> Self {
        let mut intervals = &report.intervals[..];
        if let [rest @ .., last] = intervals
            && last.length_s < report.interval_s / 2.0
        {
            intervals = rest;
        }
        if let [_, rest @ ..] = intervals
            && !report.setup.has_warm_up()
        {
            intervals = rest;
        }
        let joined = intervals.len().div_ceil(ROWS_MAX).max(1);
        let rows = intervals.chunks(joined).map(|intervals| {
            let mut sum = Row::empty(grid.len());
            for interval in intervals {
                sum.add(&grid.row(interval), 1.0);
            }
            sum
        });
        Self { rows: rows.collect() }
    }

    /// Everything together.
    pub(super) fn total(&self, buckets: usize) -> Row {
        let mut sum = Row::empty(buckets);
        for row in &self.rows {
            sum.add(row, 1.0);
        }
        sum
    }
}

/// More rows make nothing more certain: neighbours are joined.
const ROWS_MAX: usize = 240;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadConfig, Stop, Workload};
    use crate::packed::{Packed, new_histogram};
    use crate::tally::Tally;

    fn report(intervals: u64, last_s: f64, warm_up_s: u64) -> Report {
        let warm_up = std::time::Duration::from_secs(warm_up_s);
        let config = LoadConfig::new(Vec::new(), Workload::Download(1), Stop::Never);
        let mut tally = Tally::new();
        tally.intervals = (0..intervals)
            .map(|at| {
                let mut times = new_histogram();
                times.saturating_record_n(1_000 * (at + 1), at + 1);
                let length_s = if at + 1 == intervals { last_s } else { 1.0 };
                let latency = Packed::new(&times);
                let (start_s, ok) = (at as f64, at + 1);
                Interval { start_s, length_s, ok, latency, ..Interval::default() }
            })
            .collect();
        Report::new(&LoadConfig { warm_up, ..config }, 1, "epoll".into(), &tally)
    }

    #[test]
    fn what_is_not_the_steady_state_is_left_out() {
        for (last_s, warm_up_s, kept) in
            [(1.0, 0, 2..=12), (0.4, 0, 2..=11), (0.6, 0, 2..=12), (1.0, 5, 1..=12)]
        {
            let report = report(12, last_s, warm_up_s);
            let sample = Sample::new(&report, &Grid::new(&[&report]));
            let found: Vec<f64> = sample.rows.iter().map(|row| row.ok).collect();
            assert_eq!(found, kept.map(f64::from).collect::<Vec<_>>());
        }
    }

    #[test]
    fn quantiles_are_those_of_the_histogram() {
        let report = report(40, 1.0, 1);
        let grid = Grid::new(&[&report]);
        let total = Sample::new(&report, &grid).total(grid.len());
        let mut sum = new_histogram();
        for interval in &report.intervals {
            sum.add(interval.latency.histogram()).unwrap();
        }
        assert_eq!((grid.len(), total.ok), (40, 820.0));
        for quantile in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let found = grid.quantile(&total.counts, total.ok, quantile);
            assert_eq!(found, Some(sum.value_at_quantile(quantile) as f64), "{quantile}");
        }
        assert_eq!(grid.quantile(&vec![0.0; 40], 0.0, 0.5), None);
    }

    #[test]
    fn long_runs_have_joined_rows() {
        let report = report(1_000, 1.0, 1);
        let sample = Sample::new(&report, &Grid::new(&[&report]));
        assert_eq!((sample.rows.len(), sample.rows[0].ok), (200, 15.0));
    }
}
