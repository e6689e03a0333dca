//! fitness says which blocks do not count.
//!
//! What the host does (steal, other processes, heat) makes a block void, whichever side it fell on.
//! So does everything else that a guard watches, unless it is the setting that does it: then it is
//! beyond its limit in most cells of the arm and in hardly one of the baseline, and is part of the
//! result. Too small a buffer drops, and slow sending keeps the generator busy.

use std::collections::BTreeMap;

use super::{Block, Breach, Guard, Limits, Log, Side, Workload};

/// What arms do by themselves.
#[derive(Debug)]
pub(super) struct Fitness<'l> {
    limits: &'l Limits,
    tallies: BTreeMap<(usize, Workload), Tally>,
}

/// The cells of an arm.
#[derive(Debug, Default)]
struct Tally {
    /// All cells: of the baseline, of the arm.
    cells: [usize; 2],
    /// Those beyond a limit, and the worst of the arm.
    beyond: BTreeMap<Guard, ([usize; 2], f64)>,
}

impl<'l> Fitness<'l> {
    pub(super) fn new(limits: &'l Limits, blocks: impl Iterator<Item = &'l Block>) -> Self {
        let mut tallies: BTreeMap<_, Tally> = BTreeMap::new();
        // The baseline against itself has nothing of its own.
        for Block { step, cells } in blocks.filter(|block| block.step.arm > 0) {
            let tally = tallies.entry((step.arm, step.workload)).or_default();
            for (side, cell) in cells {
                let side = usize::from(*side == Side::B);
                tally.cells[side] += 1;
                for Breach { guard, found } in limits.breaches(&cell.readings, step.workload) {
                    let (counts, worst) = tally.beyond.entry(guard).or_default();
                    counts[side] += 1;
                    *worst = if side == 1 { worst.max(found) } else { *worst };
                }
            }
        }
        Self { limits, tallies }
    }

    /// Why `block` does not count: the worst of each guard in its cells.
    pub(super) fn breaches(&self, Block { step, cells }: &Block) -> Vec<Breach> {
        let tally = self.tallies.get(&(step.arm, step.workload));
        let mut worst: BTreeMap<Guard, f64> = BTreeMap::new();
        for (side, cell) in cells {
            for Breach { guard, found } in self.limits.breaches(&cell.readings, step.workload) {
                let is_own = *side == Side::B && tally.is_some_and(|tally| tally.owns(guard));
                if !is_own {
                    let most = worst.entry(guard).or_insert(found);
                    *most = most.max(found);
                }
            }
        }
        worst.into_iter().map(|(guard, found)| Breach { guard, found }).collect()
    }

    /// Guards that an arm breaks by itself, and that in words.
    pub(super) fn own(&self, arm: usize, workload: Workload) -> Vec<(Guard, String)> {
        let Some(tally) = self.tallies.get(&(arm, workload)) else { return Vec::new() };
        let own = tally.beyond.iter().filter(|(guard, _)| tally.owns(**guard));
        let text = |(guard, (counts, worst)): (&Guard, &([usize; 2], f64))| {
            let limit = self.limits.0.get(guard).copied().unwrap_or_default();
            let (name, worst, limit) = (guard.name(), guard.text(*worst), guard.text(limit));
            let (beyond, cells) = (counts[1], tally.cells[1]);
            let words = format!("with it {name} is beyond {limit} ({beyond} of {cells} cells)");
            let words =
                if *guard == Guard::Generator { words } else { format!("{words}: {worst}") };
            (*guard, words)
        };
        own.map(text).collect()
    }
}

impl Tally {
    fn owns(&self, guard: Guard) -> bool {
        let [base, arm] = self.beyond.get(&guard).map_or([0; 2], |(counts, _)| *counts);
        let is_its_doing = arm * 2 > self.cells[1] && base * 10 <= self.cells[0];
        !guard.is_of_the_host() && self.cells[1] >= CELLS_MIN && is_its_doing
    }
}

impl Log {
    /// Why the last block does not count.
    pub(super) fn last_breaches(&self) -> Vec<Breach> {
        let Some(last) = self.blocks.last() else { return Vec::new() };
        let key = (last.step.arm, last.step.workload);
        let mine = self.blocks.iter().filter(|of| (of.step.arm, of.step.workload) == key);
        Fitness::new(&self.begin.limits, mine).breaches(last)
    }
}

/// Two blocks: what happens in one may be an accident.
const CELLS_MIN: usize = 4;

#[cfg(test)]
mod tests {
    use super::super::{Cell, Phase, Step};
    use super::*;

    /// Blocks whose baseline and arm have these readings.
    fn blocks(readings: &[(f64, f64)], guard: Guard) -> Vec<Block> {
        let cell = |side, reading: f64| {
            let readings = [(guard, reading)].into();
            (side, Cell { figure: 1.0, readings, ..Cell::default() })
        };
        let of = |(block, (a, b)): (u32, &(f64, f64))| {
            let (phase, workload) = (Phase::Screen, Workload::Requests);
            let step = Step { phase, workload, arm: 1, block, attempt: 0 };
            let cells = vec![cell(Side::A, *a), cell(Side::B, *b), cell(Side::B, *b)];
            Block { step, cells: [cells, vec![cell(Side::A, *a)]].concat() }
        };
        (0..).zip(readings).map(of).collect()
    }

    fn void(readings: &[(f64, f64)], guard: Guard) -> Vec<bool> {
        let (limits, blocks) = (Limits::default(), blocks(readings, guard));
        let fitness = Fitness::new(&limits, blocks.iter());
        blocks.iter().map(|block| !fitness.breaches(block).is_empty()).collect()
    }

    #[test]
    fn what_a_setting_does_itself_counts() {
        let always = [(0.0, 1.0); 3];
        assert_eq!(void(&always, Guard::Drops), [false; 3]);
        assert_eq!(void(&always, Guard::Steal), [true; 3], "no setting does that");
        assert_eq!(void(&always[..1], Guard::Drops), [true], "it may be an accident");
        assert_eq!(void(&[(1.0, 1.0); 3], Guard::Drops), [true; 3], "the baseline does it too");
        let seldom = [(0.0, 1.0), (0.0, 0.0), (0.0, 0.0)];
        assert_eq!(void(&seldom, Guard::Drops), [true, false, false]);
        let cured = [(1.0, 0.0); 3];
        assert_eq!(void(&cured, Guard::Drops), [true; 3], "of a baseline that is not fit");
    }

    #[test]
    fn what_a_setting_does_is_said() {
        let (limits, blocks) = (Limits::default(), blocks(&[(0.0, 0.25); 3], Guard::Errors));
        let fitness = Fitness::new(&limits, blocks.iter());
        let own = fitness.own(1, Workload::Requests);
        let words = "with it errors is beyond 0.1 % (6 of 6 cells): 25.0 %";
        assert_eq!(own, [(Guard::Errors, words.to_owned())]);
        assert!(fitness.own(1, Workload::Bulk).is_empty());
    }
}
