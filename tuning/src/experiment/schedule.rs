//! schedule says which block comes next; it follows from the log alone.
//!
//! ```text
//! calibrate   the baseline against itself
//! screen      round after round, each with every arm once, in an order of its own
//! confirm     the same with the best few
//! ```
//!
//! Rounds, so that whatever the host does at some hour falls on all arms alike, and so that all
//! have about as many blocks when the budget is used up. A void block is measured again at once.

use std::collections::BTreeSet;

use super::random::Random;
use super::record::{ARMS_MAX, CELLS};
use super::{Begin, Blocks, Estimate, Findings, Log, Phase, Side, Step, Unfinished, Workload};

impl Blocks {
    /// What `budget_s` has room for, with `arms` besides the baseline and blocks of `block_s`.
    ///
    /// # Errors
    /// Seconds that are needed at least.
    pub fn plan(arms: usize, workloads: usize, budget_s: f64, block_s: f64) -> Result<Self, f64> {
        let least = Self::least(arms);
        let needed = f64::from(least.sum(arms)) * workloads as f64 * block_s * MARGIN;
        if needed > budget_s || arms >= ARMS_MAX {
            return Err(needed);
        }
        let mut best = least;
        for blocks in least.screen..=BLOCKS_MAX {
            let confirm = if least.confirm == 0 { 0 } else { blocks.max(least.confirm) };
            let calibrate = blocks.clamp(least.calibrate, CALIBRATE_MAX);
            let next = Self { calibrate, screen: blocks, confirm };
            let takes = f64::from(next.sum(arms)) * workloads as f64 * block_s * MARGIN;
            if takes > budget_s {
                break;
            }
            best = next;
        }
        Ok(best)
    }

    /// With fewer there is no interval, or none that Holm's rule lets through.
    fn least(arms: usize) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "a small constant")]
        let least = Estimate::BLOCKS_MIN as u32;
        Self { calibrate: least, screen: least, confirm: if arms > 1 { CONFIRM_MIN } else { 0 } }
    }

    /// All of them, of one workload.
    #[must_use]
    pub fn sum(&self, arms: usize) -> u32 {
        let of = |arms: usize| u32::try_from(arms).unwrap_or(u32::MAX);
        let confirmed = of(arms.min(CONFIRMED_MAX));
        let screened = self.screen.saturating_mul(of(arms));
        self.calibrate
            .saturating_add(screened)
            .saturating_add(self.confirm.saturating_mul(confirmed))
    }

    pub(super) const fn of(&self, phase: Phase) -> u32 {
        match phase {
            Phase::Calibrate => self.calibrate,
            Phase::Screen => self.screen,
            Phase::Confirm => self.confirm,
        }
    }
}

impl Step {
    /// The sides of its cells: ABBA or BAAB, as a coin falls.
    pub(super) fn sides(&self, seed: u64) -> [Side; CELLS] {
        match Random::new(&self.words(seed)).next() & 1 {
            0 => [Side::A, Side::B, Side::B, Side::A],
            _ => [Side::B, Side::A, Side::A, Side::B],
        }
    }

    /// Another one for each of its cells.
    pub(super) fn seed(&self, seed: u64, place: u64) -> u64 {
        Random::new(&[&self.words(seed)[..], &[place]].concat()).next()
    }

    fn words(&self, seed: u64) -> [u64; 6] {
        let Self { phase, workload, arm, block, attempt } = *self;
        [seed, phase as u64, workload as u64, arm as u64, block.into(), attempt.into()]
    }
}

impl Log {
    /// The next block; `None`: nothing is left, or the budget is used up.
    pub(super) fn next(&self) -> Option<Step> {
        let spent = self.spent_s();
        if let Some(step) = self.retry(spent) {
            return Some(step);
        }
        for phase in [Phase::Calibrate, Phase::Screen, Phase::Confirm] {
            if spent >= self.begin.budget_s * share_until(phase, &self.begin) {
                continue;
            }
            if let Some(step) = self.next_of(phase) {
                return Some(step);
            }
        }
        None
    }

    /// Of a run that is not done, how many blocks there are, and how many there are to be: at most,
    /// as the budget may end it, and fewer may be worth to be confirmed. Void ones that are
    /// measured again count once.
    #[must_use]
    pub fn unfinished(&self) -> Option<Unfinished> {
        self.next()?;
        let Begin { blocks, arms, workloads, .. } = &self.begin;
        let asked = blocks.sum(arms.len() - 1) as usize * workloads.len();
        let first = self.blocks.iter().filter(|block| block.step.attempt == 0);
        Some(Unfinished { blocks: first.count(), of: asked })
    }

    /// How long everything took, seconds.
    #[must_use]
    pub fn spent_s(&self) -> f64 {
        let cells = self.blocks.iter().flat_map(|block| &block.cells);
        cells.map(|(_, cell)| cell.took_s).sum::<f64>() + self.lost_s
    }

    /// The last block once more, if it is void and its phase has time left: noise must not eat what
    /// the next phases need.
    fn retry(&self, spent: f64) -> Option<Step> {
        let last = self.blocks.last()?;
        let Step { phase, arm, workload, attempt, .. } = last.step;
        let is_broken = self.broken.contains_key(&(arm, workload));
        let is_void = !self.last_breaches().is_empty();
        let has_time = spent < self.begin.budget_s * share_until(phase, &self.begin);
        let again = is_void && !is_broken && attempt + 1 < ATTEMPTS && has_time;
        again.then_some(Step { attempt: attempt + 1, ..last.step })
    }

    fn next_of(&self, phase: Phase) -> Option<Step> {
        let done: BTreeSet<(usize, Workload, u32)> = self
            .blocks
            .iter()
            .filter(|block| block.step.phase == phase)
            .map(|block| (block.step.arm, block.step.workload, block.step.block))
            .collect();
        let pairs = self.pairs(phase);
        for block in 0..self.begin.blocks.of(phase) {
            let mut round = pairs.clone();
            Random::new(&[self.begin.seed, phase as u64, block.into()]).shuffle(&mut round);
            let is_open = |(arm, workload): &(usize, Workload)| {
                !done.contains(&(*arm, *workload, block))
                    && !self.broken.contains_key(&(*arm, *workload))
            };
            if let Some((arm, workload)) = round.into_iter().find(is_open) {
                return Some(Step { phase, workload, arm, block, attempt: 0 });
            }
        }
        None
    }

    /// What is measured in `phase`.
    fn pairs(&self, phase: Phase) -> Vec<(usize, Workload)> {
        let Begin { arms, workloads, .. } = &self.begin;
        let with = |arm: usize| workloads.iter().map(move |workload| (arm, *workload));
        match phase {
            Phase::Calibrate => with(0).collect(),
            Phase::Screen => (1..arms.len()).flat_map(with).collect(),
            Phase::Confirm => self.promising(),
        }
    }

    /// Those that the screening calls better, the largest effects of each workload first.
    fn promising(&self) -> Vec<(usize, Workload)> {
        let findings = Findings::screened(self);
        let of = |workload: &Workload| {
            let better = findings.better(*workload).into_iter();
            better.map(|arm| (arm, *workload)).collect::<Vec<_>>()
        };
        self.begin.workloads.iter().flat_map(of).collect()
    }
}

/// Until which share of the budget a phase may go on: the next ones have to have theirs.
fn share_until(phase: Phase, begin: &Begin) -> f64 {
    let blocks = begin.blocks;
    let sum = f64::from(blocks.sum(begin.arms.len() - 1).max(1));
    let confirmed = (begin.arms.len() - 1).min(CONFIRMED_MAX);
    let confirm = f64::from(blocks.confirm) * confirmed as f64 / sum;
    match phase {
        // A quarter more for void blocks: the arms are what it is all for.
        Phase::Calibrate => 1.25 * f64::from(blocks.calibrate) / sum,
        Phase::Screen => 1.0 - confirm,
        Phase::Confirm => 1.0,
    }
}

/// So many arms of each workload are confirmed: of the rest nobody needs to be sure.
pub(super) const CONFIRMED_MAX: usize = 3;

/// The best of three passes Holm's rule with 8 blocks of one sign: p = 2 / 256 < 5 % / 3.
const CONFIRM_MIN: u32 = 8;

/// Half of the width of 20 blocks would take 80.
pub(super) const BLOCKS_MAX: u32 = 40;

/// What noise looks like is known by then.
const CALIBRATE_MAX: u32 = 20;

/// How often a void block is measured in all.
pub(super) const ATTEMPTS: u32 = 3;

/// For void blocks, and for cells that take longer than expected.
const MARGIN: f64 = 1.1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::synthetic::{Noise, begin, completed};

    #[test]
    fn a_budget_is_divided() {
        assert_eq!(Blocks::plan(1, 1, 10.0, 1.0).unwrap_err(), 12.0 * MARGIN);
        let of = |arms, budget_s| Blocks::plan(arms, 1, budget_s, 1.0).unwrap();
        assert_eq!(of(1, 14.0), Blocks { calibrate: 6, screen: 6, confirm: 0 });
        assert_eq!(of(1, 1e6), Blocks { calibrate: CALIBRATE_MAX, screen: BLOCKS_MAX, confirm: 0 });
        let ten = of(10, 120.0);
        assert_eq!(ten, Blocks { calibrate: 7, screen: 7, confirm: 8 });
        for budget in [60.0, 200.0, 700.0] {
            let blocks = of(3, budget);
            assert!(f64::from(blocks.sum(3)) * MARGIN <= budget, "{blocks:?}");
        }
        assert!(Blocks::plan(ARMS_MAX, 1, f64::MAX, 1e-9).is_err());
    }

    #[test]
    fn a_run_is_unfinished_until_nothing_is_left_to_do() {
        let mut begin = begin(2, &[Workload::Requests]);
        begin.blocks = Blocks { calibrate: 6, screen: 6, confirm: 0 };
        let mut log = completed(begin, Noise { stolen: 0.1, ..Noise::default() });
        assert!(log.blocks.len() > 12, "some were measured again");
        assert_eq!(log.unfinished(), None);
        let last = log.blocks.iter().rposition(|block| block.step.attempt == 0).unwrap();
        log.blocks.truncate(last);
        assert_eq!(log.unfinished(), Some(Unfinished { blocks: 11, of: 12 }));
        // What the budget has no room for will not come.
        log.begin.budget_s = 1.0;
        assert_eq!(log.unfinished(), None);
    }

    #[test]
    fn coins_fall_both_ways() {
        let step = |block| Step {
            phase: Phase::Screen,
            workload: Workload::Bulk,
            arm: 3,
            block,
            attempt: 0,
        };
        let first: Vec<Side> = (0..400).map(|block| step(block).sides(1)[0]).collect();
        let heads = first.iter().filter(|side| **side == Side::A).count();
        assert!((150..250).contains(&heads), "{heads}");
        for block in 0..20 {
            let sides = step(block).sides(1);
            assert_eq!((sides[0], sides[1]), (sides[3], sides[2]));
            assert_ne!(sides[0], sides[1]);
        }
    }

    #[test]
    fn rounds_have_every_arm_once_in_an_order_of_their_own() {
        let log = completed(begin(5, &[Workload::Requests, Workload::Bulk]), Noise::default());
        let screened: Vec<_> =
            log.blocks.iter().filter(|block| block.step.phase == Phase::Screen).collect();
        let rounds: Vec<Vec<(usize, Workload)>> = screened
            .chunks(8)
            .map(|round| round.iter().map(|b| (b.step.arm, b.step.workload)).collect())
            .collect();
        for round in &rounds {
            assert_eq!(round.iter().collect::<BTreeSet<_>>().len(), 8, "{round:?}");
        }
        assert_ne!(rounds[0], rounds[1]);
        assert_eq!(u32::try_from(rounds.len()), Ok(log.begin.blocks.screen));
    }

    #[test]
    fn the_best_few_are_confirmed() {
        let effects = vec![0.0, 0.2, 0.0, 0.1, 0.3, 0.4, -0.2];
        let noise = Noise { effects, ..Noise::default() };
        let log = completed(begin(7, &[Workload::Requests]), noise);
        let confirmed: BTreeSet<usize> = log
            .blocks
            .iter()
            .filter(|block| block.step.phase == Phase::Confirm)
            .map(|block| block.step.arm)
            .collect();
        assert_eq!(confirmed, [1, 4, 5].into());
    }

    #[test]
    fn void_calibration_leaves_time_for_the_arms() {
        let mut begin = begin(2, &[Workload::Requests]);
        begin.budget_s = f64::from(begin.blocks.sum(1)) * 4.0;
        let log = completed(begin, Noise { stolen: 0.5, ..Noise::default() });
        let count = |phase| log.blocks.iter().filter(|block| block.step.phase == phase).count();
        let screened = count(Phase::Screen);
        assert!(screened >= 6, "{screened} of {}", log.blocks.len());
    }

    #[test]
    fn no_block_is_measured_again_at_the_cost_of_the_next_phase() {
        // Cells take four times as long as planned, and each is void: three blocks in all.
        let mut begin = begin(2, &[Workload::Requests]);
        begin.blocks = Blocks { calibrate: 6, screen: 6, confirm: 0 };
        begin.budget_s = 12.0;
        let log = completed(begin, Noise { stolen: 1.0, ..Noise::default() });
        let phases: Vec<Phase> = log.blocks.iter().map(|block| block.step.phase).collect();
        assert_eq!(phases, [Phase::Calibrate, Phase::Calibrate, Phase::Screen]);
    }

    #[test]
    fn a_used_up_budget_ends_it_and_every_phase_has_its_share() {
        let mut begin = begin(4, &[Workload::Requests]);
        // Cells take 1 s: with this budget three of four blocks.
        begin.budget_s = f64::from(begin.blocks.sum(3)) * 4.0 * 0.75;
        let effects = vec![0.0, 0.2, 0.2, 0.2];
        let log = completed(begin, Noise { effects, ..Noise::default() });
        assert!(log.spent_s() >= log.begin.budget_s);
        assert!(log.spent_s() < log.begin.budget_s + 4.1, "{}", log.spent_s());
        let count = |phase| log.blocks.iter().filter(|block| block.step.phase == phase).count();
        assert!(count(Phase::Screen) >= 3 * 6 && count(Phase::Confirm) >= 3 * 8);
    }
}
