//! findings are what a log says: what noise looks like, and of each arm the effect and the verdict.

use std::collections::BTreeMap;

use serde::Serialize;

use super::estimate::holm;
use super::fitness::Fitness;
use super::noise::{half_width, spread, told};
use super::schedule::CONFIRMED_MAX;
use super::{Begin, Block, Breach, Estimate, Guard, Log, Phase, Side, Verdict, Workload};

/// Everything that a log says.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Findings {
    /// Of each workload.
    pub calibrations: Vec<Calibration>,
    /// Of each arm and workload, the arms in their order.
    pub effects: Vec<Effect>,
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
    /// Standard deviation of a block's log ratio, from quartiles: the median of the baseline's and
    /// of all arms'.
    pub spread: f64,
    /// What the baseline differs from itself by with as many blocks as arms have: smaller effects
    /// are never claimed. A log ratio; infinite with too few blocks.
    pub floor: f64,
    /// The effect that is found in nine of ten cases with the blocks of the screening, a log ratio.
    pub tells: f64,
    /// Median figure of the baseline.
    pub figure: Option<f64>,
    /// Every block, also the void ones.
    pub points: Vec<Point>,
}

/// An arm in one workload.
#[derive(Clone, Debug, Serialize)]
pub struct Effect {
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
    /// Median of the arm's figures in the blocks that count.
    pub figure: Option<f64>,
    /// Guards that it breaks by itself.
    pub own: Vec<Guard>,
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

    /// Figures of one side.
    fn figures(&self, of: Side) -> impl Iterator<Item = f64> {
        let cells = self.cells.iter().filter(move |(side, _)| *side == of);
        cells.map(|(_, cell)| cell.figure)
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
        let fitness = Fitness::new(limits, log.blocks.iter());
        let calibration = |of: &Workload| Calibration::new(log, *of, &fitness);
        let calibrations: Vec<_> = workloads.iter().map(calibration).collect();
        let of = |arm: usize| calibrations.iter().map(move |calibration| (arm, calibration));
        let pairs = (1..arms.len()).flat_map(of);
        let effects: Vec<_> =
            pairs.map(|(arm, calibration)| Effect::new(log, arm, calibration, &fitness)).collect();
        let mut void = BTreeMap::new();
        for breach in log.blocks.iter().flat_map(|block| fitness.breaches(block)) {
            *void.entry(breach.guard).or_default() += 1;
        }
        let by_chance = effects.len() as f64 * 0.05;
        Self { calibrations, effects, void, by_chance }
    }

    /// Arms that are better in `workload`, the largest effect first.
    pub(super) fn better(&self, workload: Workload) -> Vec<usize> {
        let of =
            |finding: &&Effect| finding.workload == workload && finding.verdict == Verdict::Better;
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

    /// Judges what was measured again by that alone.
    fn confirm(&mut self, log: &Log, workload: Workload) {
        let better = self.better(workload);
        let Some(calibration) = self.calibrations.iter().find(|of| of.workload == workload) else {
            return;
        };
        let mut confirmed = Vec::new();
        for (at, finding) in self.effects.iter_mut().enumerate() {
            if finding.workload != workload || log.begin.blocks.confirm == 0 {
                continue;
            }
            if !better.contains(&finding.arm) {
                if finding.verdict == Verdict::Better {
                    finding.note("in the screening; only the best few are measured again".into());
                }
                continue;
            }
            let Some(estimate) = Estimate::new(&fit(&finding.points, Phase::Confirm)) else {
                finding.verdict = Verdict::Inconclusive;
                finding.note("better in the screening, and not measured again".into());
                continue;
            };
            finding.estimate = Some(estimate);
            finding.is_confirmed = true;
            finding.verdict = finding.judged(&estimate, calibration, log);
            confirmed.push((at, estimate.p));
        }
        let ps: Vec<f64> = confirmed.iter().map(|(_, p)| *p).collect();
        for ((at, _), p) in confirmed.iter().zip(holm(&ps)) {
            let finding = &mut self.effects[*at];
            finding.p_adjusted = Some(p);
            if finding.verdict.is_difference() && p > SIGNIFICANCE {
                finding.verdict = Verdict::Inconclusive;
                finding.note("it may be the luck of the best of several (Holm)".into());
            } else if !finding.verdict.is_difference() {
                finding.note("better in the screening, which did not hold".into());
            }
        }
    }
}

impl Calibration {
    fn new(log: &Log, workload: Workload, fitness: &Fitness<'_>) -> Self {
        let points = points(log, 0, workload, fitness);
        let ratios = fit(&points, Phase::Calibrate);
        let estimate = Estimate::new(&ratios);
        let mut calibration = Self {
            workload,
            estimate,
            spread: usual_spread(log, workload, fitness),
            floor: f64::INFINITY,
            tells: f64::INFINITY,
            figure: None,
            points,
        };
        let screened = log.begin.blocks.screen as usize;
        calibration.floor = calibration.floor_of(screened);
        if calibration.floor.is_finite() {
            // Beyond what it seems to differ from itself by as well.
            calibration.tells = (told(screened) * calibration.spread).max(calibration.floor);
        }
        let mine = log.blocks.iter().filter(|block| block.step.workload == workload);
        let fit = mine.filter(|block| fitness.breaches(block).is_empty());
        calibration.figure = median(fit.flat_map(|block| block.figures(Side::A)).collect());
        calibration
    }

    /// Below what effects of so many blocks are never claimed: without a calibration, none is.
    fn floor_of(&self, blocks: usize) -> f64 {
        match self.estimate {
            Some(estimate) if estimate.blocks >= Estimate::BLOCKS_MIN => {
                (half_width(blocks) * self.spread).max(estimate.effect.abs())
            }
            _ => f64::INFINITY,
        }
    }
}

impl Effect {
    fn new(log: &Log, arm: usize, calibration: &Calibration, fitness: &Fitness<'_>) -> Self {
        let workload = calibration.workload;
        let points = points(log, arm, workload, fitness);
        let screened = Estimate::new(&fit(&points, Phase::Screen));
        let mine = log.blocks.iter().filter(|b| (b.step.arm, b.step.workload) == (arm, workload));
        let counting = mine.filter(|block| fitness.breaches(block).is_empty());
        let figure = median(counting.flat_map(|block| block.figures(Side::B)).collect());
        let (own, words): (Vec<_>, Vec<_>) = fitness.own(arm, workload).into_iter().unzip();
        let mut finding = Self {
            arm,
            name: log.begin.arms[arm].name.clone(),
            workload,
            estimate: screened,
            screened,
            is_confirmed: false,
            p_adjusted: None,
            verdict: Verdict::Inconclusive,
            note: None,
            points,
            figure,
            own,
        };
        if let Some(estimate) = &screened {
            finding.verdict = finding.judged(estimate, calibration, log);
        }
        let used = finding.points.iter().filter(|point| point.breaches.is_empty()).count();
        match log.broken.get(&(arm, workload)) {
            Some(why) => finding.note(format!("does not run here: {why}")),
            None if finding.points.is_empty() => finding.note("not measured".into()),
            None if used < Estimate::BLOCKS_MIN => {
                let (all, least) = (finding.points.len(), Estimate::BLOCKS_MIN);
                finding.note(format!(
                    "{used} of {all} blocks were fit for use, at least {least} are needed"
                ));
            }
            None => {}
        }
        words.into_iter().for_each(|words| finding.note(words));
        finding
    }

    /// What an estimate means. Whoever breaks a guard by itself is not equal to one that does not,
    /// nor better, unless it is too fast for the generator.
    fn judged(&self, estimate: &Estimate, calibration: &Calibration, log: &Log) -> Verdict {
        let smallest = log.begin.smallest_effect.ln_1p();
        let floor = calibration.floor_of(estimate.blocks);
        let verdict = Verdict::new(estimate, smallest, floor, self.workload.sign());
        let is_at_most = |guards: &[Guard]| self.own.iter().all(|own| guards.contains(own));
        match verdict {
            Verdict::Equivalent if !is_at_most(&[]) => Verdict::Inconclusive,
            Verdict::Better if !is_at_most(&[Guard::Generator]) => Verdict::Inconclusive,
            verdict => verdict,
        }
    }

    /// Whether it is better, and needs not be measured again to be believed.
    #[must_use]
    pub fn is_better_for_sure(&self, begin: &Begin) -> bool {
        self.verdict == Verdict::Better && (self.is_confirmed || begin.blocks.confirm == 0)
    }

    fn note(&mut self, text: String) {
        self.note = Some(match self.note.take() {
            Some(before) => format!("{before}; {text}"),
            None => text,
        });
    }
}

/// What blocks vary by: the median of the baseline's and of all arms', since that of so few blocks
/// says little by itself.
fn usual_spread(log: &Log, workload: Workload, fitness: &Fitness<'_>) -> f64 {
    let of = |arm: usize| {
        let phase = if arm == 0 { Phase::Calibrate } else { Phase::Screen };
        let ratios = fit(&points(log, arm, workload, fitness), phase);
        (ratios.len() >= Estimate::BLOCKS_MIN).then(|| spread(&ratios))
    };
    median((0..log.begin.arms.len()).filter_map(of).collect()).unwrap_or(0.0)
}

fn points(log: &Log, arm: usize, workload: Workload, fitness: &Fitness<'_>) -> Vec<Point> {
    let mine = log.blocks.iter().filter(|b| (b.step.arm, b.step.workload) == (arm, workload));
    let point = |block: &Block| Point {
        phase: block.step.phase,
        ratio: block.ratio(),
        breaches: fitness.breaches(block),
    };
    mine.map(point).collect()
}

/// The log ratios of `phase` that count.
fn fit(points: &[Point], phase: Phase) -> Vec<f64> {
    let fit = points.iter().filter(|point| point.phase == phase && point.breaches.is_empty());
    fit.map(|point| point.ratio).collect()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    Some(f64::midpoint(values[last / 2], values[values.len() / 2]))
}

/// Holm's rule lets through what is rarer.
const SIGNIFICANCE: f64 = 0.05;
