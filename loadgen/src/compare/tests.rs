//! tests make runs whose truth is known, and count how often the verdict is wrong.

use super::*;
use crate::config::{LoadConfig, Stop, Workload};
use crate::packed::{Packed, new_histogram};
use crate::series::Interval;
use crate::tally::Tally;

/// Noise like that of real runs: each interval resembles the one before.
struct Noise {
    random: Random,
    rho: f64,
    deviation: f64,
    value: f64,
}

impl Noise {
    fn new(seed: u64, rho: f64, deviation: f64) -> Self {
        let mut random = Random::new(seed);
        let value = random.normal();
        Self { random, rho, deviation, value }
    }

    /// A factor around 1.
    fn next(&mut self) -> f64 {
        let news = self.random.normal() * (1.0 - self.rho * self.rho).sqrt();
        self.value = self.rho * self.value + news;
        (self.deviation * self.value).exp()
    }
}

/// Intervals in which so many requests were answered, and none of whose latencies are known.
fn rates(noise: &mut Noise, intervals: usize, rate: f64) -> Sample {
    let row = |_| Row { length_s: 1.0, ok: rate * noise.next(), ..Row::default() };
    Sample { rows: (0..intervals).map(row).collect() }
}

fn verdict_of(a: Sample, b: Sample, grid: &Grid, metric: &str) -> (Verdict, f64) {
    let (a, b) = ([a], [b]);
    let block = block_of(&a[0], grid).max(block_of(&b[0], grid));
    let sides = [Side { runs: &a, block }, Side { runs: &b, block }];
    let ratios = ratios(&sides, grid, 0.05);
    let ratio = ratios.into_iter().find(|ratio| ratio.metric == metric).unwrap();
    (ratio.verdict, ratio.ratio.unwrap())
}

/// A pair of runs: 20 to 60 intervals, that vary by 1 to 6 % and resemble their neighbours by 0 to
/// 0.6.
fn pair(seed: u64, ratio: f64) -> (Sample, Sample) {
    let mut random = Random::new(seed ^ 0x5eed_5eed);
    let intervals = 20 + random.below(41);
    let (rho, deviation) = (0.6 * random.unit(), 0.01 + 0.05 * random.unit());
    let run =
        |rate, number| rates(&mut Noise::new(seed * 2 + number, rho, deviation), intervals, rate);
    (run(50_000.0, 0), run(50_000.0 * ratio, 1))
}

#[test]
fn verdicts_on_a_thousand_pairs_are_seldom_wrong() {
    let grid = Grid::default();
    let mut counts = std::collections::BTreeMap::new();
    let truths = [1.0, 0.99, 1.01, 0.9, 1.1].into_iter().cycle();
    for (seed, ratio) in (0..1_000).zip(truths) {
        let (a, b) = pair(seed, ratio);
        let (verdict, _) = verdict_of(a, b, &grid, "requests_per_s");
        let name = format!("{ratio}: {verdict:?}");
        *counts.entry(name).or_insert(0) += 1;
    }
    let count = |name: &str| counts.get(name).copied().unwrap_or(0);
    let mut wrong = 0;
    for (ratio, wrong_ones) in [
        ("1", ["Better", "Worse"]),
        ("0.99", ["Better", "Worse"]),
        ("1.01", ["Better", "Worse"]),
        ("0.9", ["Better", "Equal"]),
        ("1.1", ["Worse", "Equal"]),
    ] {
        let of: i32 = wrong_ones.iter().map(|verdict| count(&format!("{ratio}: {verdict}"))).sum();
        assert!(of * 100 <= 200 * 7, "{ratio}: {of} of 200 are wrong: {counts:?}");
        wrong += of;
    }
    assert!(wrong * 100 <= 1_000 * 7, "{wrong} are wrong: {counts:?}");
    for (name, found) in [("0.9: Worse", 170), ("1.1: Better", 170), ("1: Equal", 120)] {
        assert!(count(name) >= found, "{name}: {counts:?}");
    }
}

#[test]
fn intervals_hold_the_truth_about_as_often_as_they_say() {
    let mut missed = 0;
    for seed in 0..400 {
        let (a, b) = pair(seed, 1.0);
        let (a, b) = ([a], [b]);
        let grid = Grid::default();
        let block = block_of(&a[0], &grid).max(block_of(&b[0], &grid));
        let sides = [Side { runs: &a, block }, Side { runs: &b, block }];
        let ratio = ratios(&sides, &grid, 0.05).remove(0);
        let (low, high) = (ratio.low.unwrap(), ratio.high.unwrap());
        missed += u32::from(!(low..=high).contains(&1.0));
    }
    // 5 % are 20; short series that resemble themselves miss some more.
    assert!((4..=36).contains(&missed), "{missed} of 400");
}

/// A whole report: latencies spread around `us` by a factor of up to two, some failures.
fn report(seed: u64, intervals: u64, us: f64, failed: u64) -> Report {
    let mut noise = Noise::new(seed, 0.3, 0.02);
    let config = LoadConfig::new(Vec::new(), Workload::Download(1), Stop::Never);
    let mut tally = Tally::new();
    let mut interval = |at: u64| {
        let mut times = new_histogram();
        let center = us * noise.next();
        for step in 0..60_u32 {
            let slow = (f64::from(step) / 59.0).powi(8);
            let ns = 1_000.0 * center * (1.0 + f64::from(step) / 120.0 + slow);
            times.saturating_record_n(format!("{ns:.0}").parse().unwrap(), 40);
        }
        tally.latency.add(&times).unwrap();
        let ok = times.len();
        let (start_s, length_s, latency) = (at as f64, 1.0, Packed::new(&times));
        Interval { start_s, length_s, ok, failed, latency, ..Interval::default() }
    };
    tally.intervals = (0..intervals).map(&mut interval).collect();
    Report::new(&config, 1, "epoll".into(), &tally)
}

fn verdicts(comparison: &Comparison) -> Vec<(&str, Verdict)> {
    comparison.metrics.iter().map(|ratio| (ratio.metric, ratio.verdict)).collect()
}

#[test]
fn latencies_and_failures_are_judged_by_their_distributions() {
    let a = [report(1, 30, 1_000.0, 0)];
    let equal = Comparison::new(&a, &[report(2, 30, 1_000.0, 0)], 0.05);
    assert!(equal.metrics.iter().all(|ratio| ratio.verdict == Verdict::Equal), "{equal}");
    assert!(!equal.is_worse() && equal.warnings.is_empty(), "{equal}");
    let slower = Comparison::new(&a, &[report(3, 30, 1_100.0, 25)], 0.05);
    let expected = [
        ("requests_per_s", Verdict::Equal),
        ("p50_us", Verdict::Worse),
        ("p99_us", Verdict::Worse),
        ("p999_us", Verdict::Worse),
        ("errors_share", Verdict::Worse),
    ];
    assert_eq!(verdicts(&slower), expected, "{slower}");
    assert!(slower.is_worse());
    let p50 = &slower.metrics[1];
    assert!((p50.ratio.unwrap() - 1.1).abs() < 0.03, "{slower}");
    let faster = Comparison::new(&[report(3, 30, 1_100.0, 25)], &a, 0.05);
    assert_eq!(faster.metrics[1].verdict, Verdict::Better, "{faster}");
    assert_eq!(faster.metrics[4].verdict, Verdict::Better, "{faster}");
    // A wide margin makes them equal; the same files say the same.
    let wide = Comparison::new(&a, &[report(3, 30, 1_100.0, 0)], 0.3);
    assert_eq!(wide.metrics[1].verdict, Verdict::Equal, "{wide}");
    let again = Comparison::new(&a, &[report(3, 30, 1_100.0, 25)], 0.05);
    assert_eq!(again.to_string(), slower.to_string());
}

#[test]
fn too_little_is_inconclusive_and_says_so() {
    let few = Comparison::new(&[report(1, 10, 1_000.0, 0)], &[report(2, 60, 2_000.0, 9)], 0.05);
    assert!(few.metrics.iter().all(|of| of.verdict == Verdict::Inconclusive), "{few}");
    assert!(
        few.to_string().contains("9 intervals are too few: at least 10 are needed, so longer"),
        "{few}"
    );
    let nothing = [report(1, 0, 1.0, 0)];
    let nothing = Comparison::new(&nothing, &nothing, 0.05);
    assert!(nothing.metrics.iter().all(|of| of.verdict == Verdict::Inconclusive), "{nothing}");
    let mut thin = report(1, 30, 1_000.0, 0);
    for interval in &mut thin.intervals {
        let mut times = new_histogram();
        times.saturating_record_n(1_000_000, 100);
        (interval.latency, interval.ok) = (Packed::new(&times), 100);
    }
    let thin = [thin];
    let thin = Comparison::new(&thin, &thin, 0.05);
    assert_eq!(thin.metrics[3].verdict, Verdict::Inconclusive, "{thin}");
    assert!(thin.to_string().contains("2900 requests are too few: at least 10000"), "{thin}");
}

#[test]
fn groups_count_how_runs_differ() {
    let group =
        |center: [f64; 3], seed| [0, 1, 2].map(|at| report(seed + at as u64, 30, center[at], 0));
    let steady = group([1_000.0, 1_000.0, 1_001.0], 1);
    let restless = group([900.0, 1_000.0, 1_150.0], 11);
    let comparison = Comparison::new(&steady, &restless, 0.05);
    // Each run for itself is certain; together they say that they are not.
    assert_eq!(comparison.metrics[1].verdict, Verdict::Inconclusive, "{comparison}");
    let comparison = Comparison::new(&steady, &group([1_000.0, 1_002.0, 999.0], 21), 0.05);
    assert_eq!(comparison.metrics[1].verdict, Verdict::Equal, "{comparison}");
    assert_eq!((comparison.b.runs, comparison.b.intervals), (3, 87));
}

#[test]
fn what_makes_it_doubtful_is_said() {
    let mut other = report(2, 30, 1_000.0, 0);
    other.setup.connections = 7;
    other.saturated = true;
    other.ending = crate::tally::Ending::Interrupted;
    let comparison = Comparison::new(&[report(1, 30, 1_000.0, 0)], &[other], 0.05);
    let text = comparison.to_string();
    for words in [
        "warning: B: the generator was at its limit",
        "warning: B: the run did not come to its end",
        "different things: connections: 1 and 7",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let json = serde_json::to_value(&comparison).unwrap();
    assert_eq!(json["metrics"][0]["verdict"], "equal");
    assert_eq!(json["warnings"].as_array().unwrap().len(), 3, "{json}");
}

#[test]
fn the_rule_is_what_it_says() {
    let of = |ratio: f64, low: f64, high: f64| {
        [true, false].map(|higher| verdict(ratio.ln(), [low.ln(), high.ln()], 0.05, higher))
    };
    use Verdict::{Better, Equal, Inconclusive, Worse};
    for (ratio, low, high, expected) in [
        (1.0, 0.96, 1.04, [Equal; 2]),
        (0.97, 0.951, 0.99, [Equal; 2]),
        (0.97, 0.94, 0.99, [Inconclusive; 2]),
        (0.9, 0.85, 0.94, [Worse, Better]),
        (0.9, 0.8, 1.01, [Inconclusive; 2]),
        (1.2, 1.1, 1.3, [Better, Worse]),
        (1.04, 1.01, 1.06, [Inconclusive; 2]),
    ] {
        assert_eq!(of(ratio, low, high), expected, "{ratio}");
    }
}
