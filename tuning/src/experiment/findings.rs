//! findings are what a log says: what noise looks like, and of each arm the effect and the verdict.

use std::collections::BTreeMap;

use serde::Serialize;

use super::estimate::holm;
use super::schedule::CONFIRMED_MAX;
use super::{Begin, Block, Breach, Estimate, Guard, Limits, Log, Phase, Side, Verdict, Workload};

/// Everything that a log says.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Findings {
    /// Of each workload.
    pub calibrations: Vec<Calibration>,
    /// Of each arm and workload, the arms in their order.
    pub effects: Vec<Finding>,
    /// Of how many blocks each guard made void.
    pub void: BTreeMap<Guard, usize>,
    /// Differences that screening alone would call by chance, were no arm any different: one in
    /// twenty intervals misses.
    pub by_chance: f64,
}

/// The baseline against itself.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// In what.
    pub workload: Workload,
    /// What it seems to differ from itself by; `None`: no block was fit for use.
    pub estimate: Option<Estimate>,
    /// Standard deviation of a block's log ratio, from its quartiles.
    pub spread: f64,
    /// What the baseline differs from itself by with as many blocks as arms have: smaller effects
    /// are never claimed. A log ratio.
    pub floor: f64,
    /// The effect that is found in nine of ten cases with these blocks, a log ratio.
    pub tells: f64,
    /// Median figure of the baseline.
    pub figure: Option<f64>,
}

/// An arm in one workload.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Its number.
    pub arm: usize,
    /// Its name.
    pub name: String,
    /// In what.
    pub workload: Workload,
    /// What counts: of the confirmation if there was one, else of the screening.
    pub estimate: Option<Estimate>,
    /// Of the screening.
    pub screened: Option<Estimate>,
    /// Whether `estimate` is of fresh data.
    pub is_confirmed: bool,
    /// With Holm's adjustment over all that were confirmed in this workload.
    pub p_adjusted: Option<f64>,
    /// What it means.
    pub verdict: Verdict,
    /// What else to know of it.
    pub note: Option<String>,
    /// Every block, also the void ones.
    pub points: Vec<Point>,
    /// Median of the arm's figures.
    pub figure: Option<f64>,
}

/// A block.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// What for.
    pub phase: Phase,
    /// Its log ratio.
    pub ratio: f64,
    /// Why it does not count.
    pub breaches: Vec<Breach>,
}

impl Block {
    /// Its log ratio: (ln B1 + ln B2 - ln A1 - ln A2) / 2.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        let sign = |side: Side| if side == Side::B { 0.5 } else { -0.5 };
        self.cells.iter().map(|(side, cell)| sign(*side) * cell.figure.ln()).sum()
    }

    /// What was beyond its limit in any of its cells, the worst of each.
    #[must_use]
    pub fn breaches(&self, limits: &Limits) -> Vec<Breach> {
        let mut worst: BTreeMap<Guard, f64> = BTreeMap::new();
        for (_, cell) in &self.cells {
            for Breach { guard, found } in limits.breaches(&cell.readings, self.step.workload) {
                let most = worst.entry(guard).or_insert(found);
                *most = most.max(found);
            }
        }
        worst.into_iter().map(|(guard, found)| Breach { guard, found }).collect()
    }
}

impl Findings {
    /// Of everything in `log`.
    #[must_use]
    pub fn new(log: &Log) -> Self {
        let mut findings = Self::screened(log);
        for workload in &log.begin.workloads {
            findings.confirm(log, *workload);
        }
        findings
    }

    /// Without what was confirmed: what is chosen from.
    pub(super) fn screened(log: &Log) -> Self {
        let Begin { arms, workloads, limits, .. } = &log.begin;
        let calibrations: Vec<_> = workloads.iter().map(|of| Calibration::new(log, *of)).collect();
        let of = |arm: usize| calibrations.iter().map(move |calibration| (arm, calibration));
        let pairs = (1..arms.len()).flat_map(of);
        let effects: Vec<_> =
            pairs.map(|(arm, calibration)| Finding::new(log, arm, calibration)).collect();
        let mut void = BTreeMap::new();
        for breach in log.blocks.iter().flat_map(|block| block.breaches(limits)) {
            *void.entry(breach.guard).or_default() += 1;
        }
        let by_chance = effects.len() as f64 * 0.05;
        Self { calibrations, effects, void, by_chance }
    }

    /// Arms that are better in `workload`, the largest effect first.
    pub(super) fn better(&self, workload: Workload) -> Vec<usize> {
        let of =
            |finding: &&Finding| finding.workload == workload && finding.verdict == Verdict::Better;
        let mut better: Vec<(f64, usize)> = self
            .effects
            .iter()
            .filter(of)
            .filter_map(|finding| Some((finding.screened?.effect.abs(), finding.arm)))
            .collect();
        better.sort_by(|a, b| b.0.total_cmp(&a.0));
        better.truncate(CONFIRMED_MAX);
        better.into_iter().map(|(_, arm)| arm).collect()
    }

    fn calibration(&self, workload: Workload) -> Option<&Calibration> {
        self.calibrations.iter().find(|of| of.workload == workload)
    }

    /// Judges what was measured again by that alone.
    fn confirm(&mut self, log: &Log, workload: Workload) {
        let better = self.better(workload);
        let floor = self.calibration(workload).map_or(0.0, |of| of.floor);
        let smallest = log.begin.smallest_effect.ln_1p();
        let mut confirmed = Vec::new();
        for (at, finding) in self.effects.iter_mut().enumerate() {
            let is_mine = finding.workload == workload && better.contains(&finding.arm);
            if !is_mine || log.begin.blocks.confirm == 0 {
                continue;
            }
            let Some(estimate) = Estimate::new(&finding.ratios(Phase::Confirm)) else {
                finding.verdict = Verdict::Inconclusive;
                finding.note = Some("better in the screening, and not measured again".into());
                continue;
            };
            finding.estimate = Some(estimate);
            finding.is_confirmed = true;
            finding.verdict = Verdict::new(&estimate, smallest, floor, workload.sign());
            confirmed.push((at, estimate.p));
        }
        let ps: Vec<f64> = confirmed.iter().map(|(_, p)| *p).collect();
        for ((at, _), p) in confirmed.iter().zip(holm(&ps)) {
            let finding = &mut self.effects[*at];
            finding.p_adjusted = Some(p);
            if finding.verdict.is_difference() && p > SIGNIFICANCE {
                finding.verdict = Verdict::Inconclusive;
                finding.note = Some("it may be the luck of the best of several (Holm)".into());
            } else if !finding.verdict.is_difference() {
                finding.note = Some("better in the screening, which did not hold".into());
            }
        }
    }
}

impl Calibration {
    fn new(log: &Log, workload: Workload) -> Self {
        let blocks = || log.blocks.iter().filter(move |b| b.step.workload == workload);
        let points = points(log, 0, workload);
        let ratios = fit(&points, Phase::Calibrate);
        let estimate = Estimate::new(&ratios);
        let spread = spread(&ratios);
        let Begin { blocks: planned, arms, .. } = &log.begin;
        let counts = f64::from(if arms.len() > 2 { planned.confirm } else { planned.screen });
        let usual = spread / counts.max(1.0).sqrt();
        let seen = estimate.map_or(0.0, |of| of.effect.abs());
        let figures = blocks().flat_map(|block| &block.cells);
        let figures = figures.filter(|(side, _)| *side == Side::A).map(|(_, cell)| cell.figure);
        Self {
            workload,
            estimate,
            spread,
            floor: (INTERVAL * usual).max(seen),
            tells: (INTERVAL + NINE_OF_TEN) * usual,
            figure: median(figures.collect()),
        }
    }
}

impl Finding {
    fn new(log: &Log, arm: usize, calibration: &Calibration) -> Self {
        let workload = calibration.workload;
        let points = points(log, arm, workload);
        let screened = Estimate::new(&fit(&points, Phase::Screen));
        let smallest = log.begin.smallest_effect.ln_1p();
        let judge = |estimate: &Estimate| {
            Verdict::new(estimate, smallest, calibration.floor, workload.sign())
        };
        let blocks = log
            .blocks
            .iter()
            .filter(|block| (block.step.arm, block.step.workload) == (arm, workload) && arm != 0);
        let figures = blocks.flat_map(|block| &block.cells);
        let figures = figures.filter(|(side, _)| *side == Side::B).map(|(_, cell)| cell.figure);
        let used = points.iter().filter(|point| point.breaches.is_empty()).count();
        let note = match (log.broken.get(&(arm, workload)), &screened) {
            (Some(why), _) => Some(format!("does not run here: {why}")),
            (None, None) if points.is_empty() => Some("not measured yet".into()),
            _ if used < Estimate::BLOCKS_MIN => {
                let all = points.len();
                let least = Estimate::BLOCKS_MIN;
                Some(format!(
                    "{used} of {all} blocks were fit for use, at least {least} are needed"
                ))
            }
            _ => None,
        };
        Self {
            arm,
            name: log.begin.arms[arm].name.clone(),
            workload,
            estimate: screened,
            screened,
            is_confirmed: false,
            p_adjusted: None,
            verdict: screened.as_ref().map_or(Verdict::Inconclusive, judge),
            note,
            points,
            figure: median(figures.collect()),
        }
    }

    fn ratios(&self, phase: Phase) -> Vec<f64> {
        fit(&self.points, phase)
    }
}

fn points(log: &Log, arm: usize, workload: Workload) -> Vec<Point> {
    let mine = log.blocks.iter().filter(|b| (b.step.arm, b.step.workload) == (arm, workload));
    let point = |block: &Block| Point {
        phase: block.step.phase,
        ratio: block.ratio(),
        breaches: block.breaches(&log.begin.limits),
    };
    mine.map(point).collect()
}

/// The log ratios of `phase` that count.
fn fit(points: &[Point], phase: Phase) -> Vec<f64> {
    let fit = points.iter().filter(|point| point.phase == phase && point.breaches.is_empty());
    fit.map(|point| point.ratio).collect()
}

/// The standard deviation that a normal distribution with the same quartiles has: outliers, which
/// the estimate does not mind either, do not count.
fn spread(ratios: &[f64]) -> f64 {
    let mut sorted = ratios.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (sorted.len().max(1) - 1) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let (low, rest) = (place as usize, place.fract());
        let value = |at: usize| sorted.get(at).or_else(|| sorted.last()).copied().unwrap_or(0.0);
        value(low) + rest * (value(low + 1) - value(low))
    };
    (at(0.75) - at(0.25)) / 1.349
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some(f64::midpoint(values[last / 2], values[values.len() / 2]))
}

/// Holm's rule lets through what is rarer.
const SIGNIFICANCE: f64 = 0.05;

/// Half of a 95 % interval in standard errors, with the few blocks that there are.
const INTERVAL: f64 = 2.2;

/// Beyond the interval, for nine of ten.
const NINE_OF_TEN: f64 = 1.3;
