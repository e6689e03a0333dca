//! run measures block after block, until nothing is left to do or somebody interrupts it.

use super::{Arm, Block, Cell, Findings, Log, Phase, RecordError, Records, Side, Step, Workload};

/// Something that can be measured.
pub trait Bench {
    /// Measures one cell: `arm` in `workload`. `seed` is another one for each cell.
    ///
    /// # Errors
    /// Why there is no figure.
    fn measure(&mut self, arm: &Arm, workload: Workload, seed: u64) -> Result<Cell, Trouble>;

    /// Seconds since it was made: what fails takes time as well.
    fn elapsed_s(&self) -> f64;
}

/// Why a cell has no figure.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// This arm does not run here: the others may.
    Arm(String),
    /// Somebody wants an end of it.
    Interrupted,
    /// Nothing runs any more.
    Bench(String),
}

/// How it ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// Everything that the budget had room for was measured.
    Complete,
    /// Somebody interrupted it: it can be resumed.
    Interrupted,
}

/// Where a run is.
#[derive(Clone, Debug)]
pub struct Progress<'a> {
    /// The block that begins.
    pub step: Step,
    /// Its arm.
    pub arm: &'a Arm,
    /// Blocks of each arm in this phase.
    pub blocks: u32,
    /// Arms of this phase.
    pub arms: usize,
    /// Seconds of the budget that are left.
    pub left_s: f64,
    /// What was found in the block before, if it is void: in words.
    pub void: Option<String>,
}

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The file.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Nothing to compare with.
    #[error("the baseline does not run: {0}; what was measured so far is kept: --resume")]
    Baseline(String),
    /// Nothing at all.
    #[error("{0}; what was measured so far is kept: go on with --resume")]
    Bench(String),
}

/// Measures what `log` does not have yet, and writes it to `records`. `watch` is told before each
/// block.
///
/// # Errors
/// When the baseline does not run, or the file cannot be written.
pub fn run(
    log: &mut Log,
    records: &mut Records,
    bench: &mut impl Bench,
    mut watch: impl FnMut(&Progress<'_>),
) -> Result<Ended, RunError> {
    let (mut troubles, mut lost_s) = (0, 0.0);
    while let Some(step) = log.next() {
        watch(&progress(log, step));
        let began_s = bench.elapsed_s();
        match measure(log, step, bench) {
            Ok(mut block) => {
                // What the tries before took is part of what it took.
                block.cells[0].1.took_s += std::mem::take(&mut lost_s);
                records.block(&block)?;
                log.blocks.push(block);
                troubles = 0;
            }
            Err((_, Trouble::Interrupted)) => return Ok(Ended::Interrupted),
            Err((_, Trouble::Bench(why))) => return Err(RunError::Bench(why)),
            // A busy host starves a process now and then.
            Err((_, Trouble::Arm(_))) if troubles + 1 < TRIES => {
                troubles += 1;
                lost_s += bench.elapsed_s() - began_s;
            }
            Err((Side::A, Trouble::Arm(why))) => return Err(RunError::Baseline(why)),
            Err((Side::B, Trouble::Arm(why))) => {
                lost_s += bench.elapsed_s() - began_s;
                records.broken(step.arm, step.workload, &why, lost_s)?;
                log.broken.insert((step.arm, step.workload), why);
                log.lost_s += std::mem::take(&mut lost_s);
                troubles = 0;
            }
        }
    }
    Ok(Ended::Complete)
}

pub(super) fn measure(
    log: &Log,
    step: Step,
    bench: &mut impl Bench,
) -> Result<Block, (Side, Trouble)> {
    let mut cells = Vec::new();
    for (place, side) in (0..).zip(step.sides(log.begin.seed)) {
        let arm = match side {
            Side::A => &log.begin.arms[0],
            Side::B => &log.begin.arms[step.arm],
        };
        let seed = step.seed(log.begin.seed, place);
        // The baseline against itself has no other arm to be blamed.
        let blamed = if step.arm == 0 { Side::A } else { side };
        let cell = bench.measure(arm, step.workload, seed).map_err(|why| (blamed, why))?;
        if !(cell.figure > 0.0 && cell.figure.is_finite()) {
            let why = format!("{} in {}: nothing was done", arm.name, step.workload.name());
            return Err((blamed, Trouble::Arm(why)));
        }
        cells.push((side, cell));
    }
    Ok(Block { step, cells })
}

fn progress(log: &Log, step: Step) -> Progress<'_> {
    let begin = &log.begin;
    let blocks = begin.blocks;
    let (blocks, arms) = match step.phase {
        Phase::Calibrate => (blocks.calibrate, 1),
        Phase::Screen => (blocks.screen, begin.arms.len() - 1),
        Phase::Confirm => (blocks.confirm, Findings::screened(log).better(step.workload).len()),
    };
    let text = |breach: &super::Breach| {
        let limit = begin.limits.0.get(&breach.guard).copied().unwrap_or_default();
        let (name, found) = (breach.guard.name(), breach.guard.text(breach.found));
        format!("{name} {found} (limit {})", breach.guard.text(limit))
    };
    let words: Vec<String> = log.last_breaches().iter().map(text).collect();
    let void = (!words.is_empty()).then(|| words.join(", "));
    let left_s = (begin.budget_s - log.spent_s()).max(0.0);
    Progress { step, arm: &begin.arms[step.arm], blocks, arms, left_s, void }
}

/// So often in a row something has to go wrong before it is taken for broken.
const TRIES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::super::synthetic::{Noise, Synthetic, begin};
    use super::super::{Begin, Blocks};
    use super::*;

    #[test]
    fn what_fails_takes_its_time_from_the_budget() {
        // Each arm takes 3 s at least until it is known not to run.
        let blocks = Blocks { calibrate: 5, screen: 6, confirm: 0 };
        let mut begin = Begin { budget_s: 60.0, blocks, ..begin(40, &[Workload::Requests]) };
        begin.arms[1..].iter_mut().for_each(|arm| arm.about = "broken".into());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let mut records = Records::create(&path, &begin).unwrap();
        let (mut log, mut bench) = (Log::new(begin), Synthetic::new(Noise::default()));
        let ended = run(&mut log, &mut records, &mut bench, |_| {}).unwrap();
        let broken = log.broken.len();
        assert!(ended == Ended::Complete && (3..20).contains(&broken), "{broken} of 39");
        assert_eq!(log.spent_s(), bench.elapsed_s());
        assert_eq!(Log::read(&path).unwrap(), log);
    }
}
