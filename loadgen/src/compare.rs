//! compare says whether one run, or group of runs, is better than another one, and how certain that
//! is.
//!
//! ```text
//! Report ─► Sample: intervals of the steady part ─► Side: what is drawn from
//!                                                     └─► 1,000 draws of B/A ─► Verdict
//! ```
//!
//! The rule errs on the side of saying nothing. With m the margin, 5 % unless chosen:
//!
//! * `equal`: the whole 95 % interval of B/A lies from 1 - m to 1 + m.
//! * `better`, `worse`: the interval excludes 1, and B/A itself is beyond the margin. Either alone
//!   would call many a difference that is none: the first one that of two runs of a quiet machine,
//!   the second one that of two runs of a noisy one.
//! * `inconclusive`: everything else.

mod bootstrap;
mod sample;
mod table;

use serde::Serialize;

use crate::random::Random;
use crate::report::{Report, SCHEMA};
use crate::setup::Unit;
use bootstrap::{Side, block_length, widening};
use sample::{Grid, Row, Sample};

/// B compared with A. Displayed, a table.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// Version of this schema.
    pub schema: u32,
    /// What counts as equal, as a share of 1.
    pub margin: f64,
    /// What was compared with.
    pub a: Compared,
    /// What was compared.
    pub b: Compared,
    /// Draws behind each interval.
    pub draws: usize,
    /// Each of the numbers.
    pub metrics: Vec<Ratio>,
    /// What makes the comparison doubtful.
    pub warnings: Vec<String>,
}

/// One side of a comparison.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct Compared {
    /// Runs in it.
    pub runs: usize,
    /// Intervals that were compared, or groups of neighbouring ones in long runs.
    pub intervals: usize,
    /// How many neighbours are drawn together.
    pub block_intervals: usize,
}

/// One number of both sides.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Ratio {
    /// Which one.
    pub metric: &'static str,
    /// That of A; `None` if it has none.
    pub a: Option<f64>,
    /// That of B.
    pub b: Option<f64>,
    /// B/A.
    pub ratio: Option<f64>,
    /// The ends of its 95 % interval.
    pub low: Option<f64>,
    /// The upper one.
    pub high: Option<f64>,
    /// What it means.
    pub verdict: Verdict,
    /// Why it is inconclusive, if not for the width of the interval.
    pub why: Option<String>,
}

/// What a ratio means.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// B is better than A.
    Better,
    /// B is worse than A.
    Worse,
    /// They differ by no more than the margin.
    Equal,
    /// These runs cannot say.
    Inconclusive,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    Rate,
    Quantile(f64),
    Errors,
}

impl Comparison {
    /// What counts as equal unless somebody says otherwise: 5 %.
    pub const MARGIN: f64 = 0.05;

    /// Compares `b` with `a`, neither of which is empty. What is drawn depends on nothing but the
    /// reports.
    #[must_use]
    pub fn new(a: &[Report], b: &[Report], margin: f64) -> Self {
        let all: Vec<&Report> = a.iter().chain(b).collect();
        let grid = Grid::new(&all);
        let samples = [a, b].map(|reports| {
            reports.iter().map(|report| Sample::new(report, &grid)).collect::<Vec<_>>()
        });
        let block = samples.iter().flatten().map(|run| block_of(run, &grid)).max().unwrap_or(1);
        let sides = [&samples[0], &samples[1]].map(|runs| Side { runs, block });
        let compared = |side: &Side<'_>| Compared {
            runs: side.runs.len(),
            intervals: side.rows(),
            block_intervals: block,
        };
        Self {
            schema: SCHEMA,
            margin,
            a: compared(&sides[0]),
            b: compared(&sides[1]),
            draws: DRAWS,
            metrics: ratios(&sides, &grid, margin),
            warnings: warnings(a, b),
        }
    }

    /// Whether a number is worse.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        self.metrics.iter().any(|ratio| ratio.verdict == Verdict::Worse)
    }
}

/// The longest block that one of the series of a run asks for.
fn block_of(run: &Sample, grid: &Grid) -> usize {
    let rates: Vec<f64> = run.rows.iter().map(|row| row.ok / row.length_s.max(1e-9)).collect();
    let median = |row: &Row| grid.quantile(&row.counts, total(row), 0.5).unwrap_or(0.0);
    let medians: Vec<f64> = run.rows.iter().map(median).collect();
    block_length(&rates).max(block_length(&medians))
}

/// Latencies in a row: as many as went well, unless a file contradicts itself.
fn total(row: &Row) -> f64 {
    row.counts.iter().sum()
}

/// Each metric of both sides.
fn ratios(sides: &[Side<'_>; 2], grid: &Grid, margin: f64) -> Vec<Ratio> {
    let sums = [&sides[0], &sides[1]].map(|side| {
        let mut sum = Row::empty(grid.len());
        for run in side.runs {
            sum.add(&run.total(grid.len()), 1.0);
        }
        sum
    });
    let draws = draws(sides, grid);
    let widening = widening([sides[0].pieces(), sides[1].pieces()]);
    let few = sides.iter().map(Side::rows).min().unwrap_or(0);
    let ratio = |(at, (name, metric)): (usize, &(&'static str, Metric))| {
        let [a, b] = [&sums[0], &sums[1]].map(|sum| metric.of(sum, grid));
        let mut found = Ratio {
            metric: name,
            a: metric.shown(&sums[0], a),
            b: metric.shown(&sums[1], b),
            ratio: None,
            low: None,
            high: None,
            verdict: Verdict::Inconclusive,
            why: None,
        };
        if *metric == Metric::Errors && sums.iter().all(|sum| sum.failed == 0.0 && sum.ok > 0.0) {
            return Ratio { ratio: Some(1.0), verdict: Verdict::Equal, ..found };
        }
        let Some(ratio) = a.zip(b).map(|(a, b)| b.ln() - a.ln()) else {
            found.why = Some("it was not measured on both sides".into());
            return found;
        };
        found.ratio = Some(ratio.exp());
        let changes: Vec<f64> = draws.iter().filter_map(|draw| draw[at]).collect();
        if changes.len() * 2 > DRAWS {
            let [low, high] = interval(changes, ratio, widening);
            (found.low, found.high) = (Some(low.exp()), Some(high.exp()));
            found.verdict = verdict(ratio, [low, high], margin, metric.is_better_higher());
        }
        found.why = reason(*metric, &sums, few);
        if found.why.is_some() {
            found.verdict = Verdict::Inconclusive;
        }
        found
    };
    METRICS.iter().enumerate().map(ratio).collect()
}

/// Why these runs can say nothing of `metric`, whatever they are drawn to.
fn reason(metric: Metric, sums: &[Row; 2], few: usize) -> Option<String> {
    if few < INTERVALS_MIN {
        return Some(format!(
            "{few} intervals are too few: at least {INTERVALS_MIN} are needed, so longer runs \
             (-d) or a shorter --interval"
        ));
    }
    let Metric::Quantile(quantile) = metric else { return None };
    let measured = sums.iter().map(total).fold(f64::INFINITY, f64::min);
    let beyond = measured * (1.0 - quantile);
    (beyond < BEYOND_MIN).then(|| {
        let needed = BEYOND_MIN / (1.0 - quantile);
        format!("{measured:.0} requests are too few: at least {needed:.0} are needed")
    })
}

/// Logarithms of B/A in each draw.
fn draws(sides: &[Side<'_>; 2], grid: &Grid) -> Vec<[Option<f64>; METRICS.len()]> {
    if sides.iter().any(|side| side.runs.iter().any(|run| run.rows.is_empty())) {
        return Vec::new();
    }
    let mut random = Random::new(SEED);
    let mut times = Vec::new();
    let mut sums = [Row::empty(grid.len()), Row::empty(grid.len())];
    let mut draw = || {
        for (side, sum) in sides.iter().zip(&mut sums) {
            sum.clear();
            side.draw(&mut random, &mut times, sum);
        }
        let change = |(_, metric): (&str, Metric)| {
            let [a, b] = [&sums[0], &sums[1]].map(|sum| metric.of(sum, grid));
            Some(b?.ln() - a?.ln())
        };
        METRICS.map(change)
    };
    (0..DRAWS).map(|_| draw()).collect()
}

/// The 95 % interval around `center`, from what was drawn.
fn interval(mut changes: Vec<f64>, center: f64, widening: f64) -> [f64; 2] {
    changes.sort_unstable_by(f64::total_cmp);
    let outside = changes.len() / 40;
    let [low, high] = [changes[outside], changes[changes.len() - 1 - outside]];
    [low, high].map(|end| center + widening * (end - center))
}

/// The rule. All but the margin are logarithms.
fn verdict(ratio: f64, [low, high]: [f64; 2], margin: f64, is_better_higher: bool) -> Verdict {
    let [least, most] = [1.0 - margin, 1.0 + margin].map(f64::ln);
    if least <= low && high <= most {
        return Verdict::Equal;
    }
    let is_higher = low > 0.0 && ratio >= most;
    let is_lower = high < 0.0 && ratio <= least;
    match (is_higher, is_lower) {
        (false, false) => Verdict::Inconclusive,
        (is_higher, _) if is_higher == is_better_higher => Verdict::Better,
        _ => Verdict::Worse,
    }
}

impl Metric {
    /// What the ratio is made of; more than 0.
    fn of(self, sum: &Row, grid: &Grid) -> Option<f64> {
        let value = match self {
            Self::Rate => sum.ok / sum.length_s,
            Self::Quantile(quantile) => grid.quantile(&sum.counts, total(sum), quantile)?,
            // Half a failure more on either side: a ratio of something to nothing is none.
            Self::Errors => (sum.failed + 0.5) / (sum.ok + sum.failed),
        };
        Some(value).filter(|value| value.is_finite() && *value > 0.0)
    }

    /// What is shown: microseconds, and the share that did fail.
    fn shown(self, sum: &Row, value: Option<f64>) -> Option<f64> {
        match self {
            Self::Rate => value,
            Self::Quantile(_) => value.map(|ns| (ns / 1e3).round()),
            Self::Errors => value.map(|_| sum.failed / (sum.ok + sum.failed)),
        }
    }

    fn is_better_higher(self) -> bool {
        self == Self::Rate
    }
}

/// What makes a comparison doubtful.
fn warnings(a: &[Report], b: &[Report]) -> Vec<String> {
    let mut warnings = Vec::new();
    for (side, reports) in [("A", a), ("B", b)] {
        for (number, report) in (1..).zip(reports) {
            let run =
                if reports.len() > 1 { format!("run {number} of {side}") } else { side.into() };
            if report.is_invalid() {
                warnings.push(format!("{run}: the generator was the bottleneck, it is INVALID"));
            } else if report.saturated {
                warnings.push(format!(
                    "{run}: the generator was at its limit: the server may be capable of more"
                ));
            }
            if report.ending != crate::tally::Ending::Complete {
                warnings.push(format!("{run}: the run did not come to its end"));
            }
            if report.setup.unit == Unit::Connections {
                warnings.push(format!("{run}: it only held connections"));
            }
        }
    }
    let Some((first, others)) = a.split_first() else { return warnings };
    let mut differences: Vec<String> =
        others
            .iter()
            .chain(b)
            .flat_map(|report| first.setup.differences(&report.setup))
            .chain(b.iter().filter(|of| of.interval_s != first.interval_s).map(|report| {
                format!("interval: {} s and {} s", first.interval_s, report.interval_s)
            }))
            .map(|difference| format!("the runs asked for different things: {difference}"))
            .collect();
    differences.sort_unstable();
    differences.dedup();
    warnings.extend(differences);
    warnings
}

const METRICS: [(&str, Metric); 5] = [
    ("requests_per_s", Metric::Rate),
    ("p50_us", Metric::Quantile(0.5)),
    ("p99_us", Metric::Quantile(0.99)),
    ("p999_us", Metric::Quantile(0.999)),
    ("errors_share", Metric::Errors),
];

/// 25 of them are beyond each end of an interval.
const DRAWS: usize = 1_000;

/// The same reports always get the same verdicts.
const SEED: u64 = 1;

/// Fewer intervals do not tell how much a run varies.
const INTERVALS_MIN: usize = 10;

/// Fewer requests beyond a percentile make it a matter of luck.
const BEYOND_MIN: f64 = 10.0;

#[cfg(test)]
mod tests;
