//! bootstrap says how certain a ratio of two runs is, from the runs themselves: it draws their
//! intervals again and again, and looks how much the ratio changes.
//!
//! Neighbouring intervals resemble each other (a garbage collection, a busy host), so what is drawn
//! are blocks of neighbours, from runs bent to a circle (Politis and Romano 1992); how long they
//! have to be the runs tell (Politis and White 2004). Few blocks make such an interval too short:
//! it is widened as Student's t is wider than the normal distribution, and by what the variance of
//! a mean of few is too small (Hesterberg 2015, "expanded percentile interval").

use super::sample::{Row, Sample};
use crate::random::Random;

/// What is drawn from: the runs of one side.
#[derive(Debug)]
pub(super) struct Side<'a> {
    pub(super) runs: &'a [Sample],
    /// Rows of each block.
    pub(super) block: usize,
}

impl Side<'_> {
    /// Rows in all.
    pub(super) fn rows(&self) -> usize {
        self.runs.iter().map(|run| run.rows.len()).sum()
    }

    /// Pieces that say something new each: blocks, or whole runs where these are drawn.
    pub(super) fn pieces(&self) -> f64 {
        if self.draws_runs() {
            return self.runs.len() as f64;
        }
        let blocks = |run: &Sample| run.rows.len() as f64 / self.block as f64;
        self.runs.iter().map(blocks).sum()
    }

    /// Runs of one thing differ by more than their intervals tell: from three of them on it is
    /// also they that are drawn.
    fn draws_runs(&self) -> bool {
        self.runs.len() >= RUNS_DRAWN_MIN
    }

    /// Adds one draw to `sum`.
    pub(super) fn draw(&self, random: &mut Random, times: &mut Vec<f64>, sum: &mut Row) {
        for at in 0..self.runs.len() {
            let at = if self.draws_runs() { random.below(self.runs.len()) } else { at };
            let rows = &self.runs[at].rows;
            times.clear();
            times.resize(rows.len(), 0.0);
            let mut left = rows.len();
            while left > 0 {
                let start = random.below(rows.len());
                for step in 0..self.block.min(left) {
                    times[(start + step) % rows.len()] += 1.0;
                }
                left -= self.block.min(left);
            }
            for (row, &times) in rows.iter().zip(times.iter()).filter(|(_, times)| **times > 0.0) {
                sum.add(row, times);
            }
        }
    }
}

/// How long blocks have to be so that what resembles its neighbours stays together: the rule of
/// Politis and White (2004, with the correction of 2009) for the circular bootstrap, at least the
/// cube root of the number of rows, because in short series resemblance is easily missed, and at
/// most a fourth of them.
pub(super) fn block_length(values: &[f64]) -> usize {
    let n = values.len();
    let most = (n / 4).max(1);
    let least = whole((n as f64).cbrt().ceil()).min(most);
    let mean = values.iter().sum::<f64>() / (n.max(1) as f64);
    let covariance = |lag: usize| {
        let pairs = values.iter().zip(values.iter().skip(lag));
        pairs.map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / n as f64
    };
    let variance = covariance(0);
    if n < 4 || variance <= f64::EPSILON * mean * mean {
        return least;
    }
    // The first lag from which on nothing is left but chance.
    let chance = 2.0 * ((n as f64).log10() / n as f64).sqrt();
    let looks = 5.max(whole((n as f64).log10().sqrt().ceil()));
    let lags = n / 2;
    let is_chance = |lag: usize| (covariance(lag) / variance).abs() < chance;
    let memory = (1..lags)
        .find(|&lag| (lag..(lag + looks).min(n)).all(is_chance))
        .map_or(lags, |lag| lag - 1);
    let window = (2 * memory.max(1)).min(n - 1);
    let (mut slope, mut level) = (0.0, variance);
    for lag in 1..=window {
        // The flat-top window of Politis and Romano (1995).
        let share = lag as f64 / window as f64;
        let weight = (2.0 * (1.0 - share)).clamp(0.0, 1.0);
        slope += 2.0 * weight * lag as f64 * covariance(lag);
        level += 2.0 * weight * covariance(lag);
    }
    if level <= 0.0 {
        return least;
    }
    let best = (1.5 * (slope / level).powi(2) * n as f64).cbrt();
    whole(best.ceil()).clamp(least, most)
}

/// By what the distance to the ends is widened: `pieces` of each side.
pub(super) fn widening(pieces: [f64; 2]) -> f64 {
    let freedom = (pieces[0] + pieces[1] - 2.0).max(1.0);
    let few = pieces.map(|pieces| 1.0 / (1.0 - 1.0 / pieces.max(1.5)));
    student(freedom) / NORMAL * few[0].max(few[1]).sqrt()
}

/// The 97.5 % point of Student's t: the expansion of Cornish and Fisher, good to 4 % from two
/// degrees of freedom on; below it is cut off at the value for two.
fn student(freedom: f64) -> f64 {
    let v = freedom.max(2.0);
    let z = NORMAL;
    let terms = [
        (z.powi(3) + z) / 4.0,
        (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0,
        (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0,
    ];
    z + terms[0] / v + terms[1] / v.powi(2) + terms[2] / v.powi(3)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
fn whole(number: f64) -> usize {
    number.max(0.0) as usize
}

/// Two runs say too little of how runs differ.
pub(super) const RUNS_DRAWN_MIN: usize = 3;

/// The 97.5 % point of the normal distribution.
const NORMAL: f64 = 1.959_964;

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that resemble their neighbours by `rho`.
    fn series(rho: f64, n: usize, seed: u64) -> Vec<f64> {
        let mut random = Random::new(seed);
        let mut value = 0.0;
        let mut next = || {
            value = rho * value + random.normal() * (1.0 - rho * rho).sqrt();
            100.0 + value
        };
        (0..n).map(|_| next()).collect()
    }

    #[test]
    fn blocks_are_longer_where_neighbours_resemble_each_other() {
        let mean =
            |rho| (0..50).map(|seed| block_length(&series(rho, 200, seed))).sum::<usize>() / 50;
        let (none, some, much) = (mean(0.0), mean(0.5), mean(0.85));
        assert!(none < some && some < much, "{none} {some} {much}");
        assert!((6..=8).contains(&none) && much > 15, "{none} {some} {much}");
        for few in 0..30 {
            assert!(block_length(&series(0.5, few, 1)) <= (few / 4).max(1), "{few}");
        }
        assert_eq!(block_length(&[5.0; 27]), 3, "nothing changes");
    }

    #[test]
    fn student_is_student() {
        for (freedom, expected) in [(2.0, 4.303), (5.0, 2.571), (10.0, 2.228), (60.0, 2.0)] {
            let found = student(freedom);
            assert!((found / expected - 1.0).abs() < 0.06, "{freedom}: {found}");
        }
        assert!(widening([3.0, 3.0]) > widening([10.0, 10.0]));
        assert!((widening([1e6, 1e6]) - 1.0).abs() < 0.001);
    }

    #[test]
    fn a_draw_is_as_long_as_the_runs() {
        let run = |ok: f64| Sample { rows: vec![Row { length_s: 1.0, ok, ..Row::default() }; 10] };
        let mut random = Random::new(1);
        for runs in [vec![run(1.0)], vec![run(1.0), run(2.0)], vec![run(1.0), run(2.0), run(3.0)]] {
            let side = Side { runs: &runs, block: 3 };
            let sums: Vec<f64> = (0..50)
                .map(|_| {
                    let mut sum = Row::empty(0);
                    side.draw(&mut random, &mut Vec::new(), &mut sum);
                    assert_eq!(sum.length_s, side.rows() as f64);
                    sum.ok
                })
                .collect();
            let differ = sums.iter().any(|sum| *sum != sums[0]);
            assert_eq!(differ, runs.len() >= 3, "{sums:?}");
        }
    }
}
