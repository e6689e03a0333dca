//! synthetic is a host made of noise, in which effects are known.

use std::collections::BTreeMap;

use super::random::Random;
use super::run::measure;
use super::{Arm, Begin, Bench, Blocks, Cell, Guard, Limits, Log, Side, Trouble, Workload};

/// What cells are made of.
#[derive(Clone, Debug)]
pub(super) struct Noise {
    /// Of each arm, a log ratio.
    pub(super) effects: Vec<f64>,
    /// Standard deviation of a cell.
    pub(super) sigma: f64,
    /// What a cell resembles the one before by.
    pub(super) memory: f64,
    /// What a cell is slower than the one before.
    pub(super) drift: f64,
    /// How many cells have a quarter less, and why nobody knows.
    pub(super) outliers: f64,
    /// Of how many cells a neighbour steals the CPU.
    pub(super) stolen: f64,
}

impl Default for Noise {
    fn default() -> Self {
        let effects = Vec::new();
        Self { effects, sigma: 0.03, memory: 0.0, drift: 0.0, outliers: 0.0, stolen: 0.0 }
    }
}

/// A bench that measures noise.
#[derive(Debug)]
pub(super) struct Synthetic {
    noise: Noise,
    /// That of the cell before.
    last: f64,
    cells: u32,
    /// Interrupts after so many cells.
    pub(super) patience: Option<u32>,
}

impl Synthetic {
    pub(super) fn new(noise: Noise) -> Self {
        Self { noise, last: 0.0, cells: 0, patience: None }
    }
}

impl Bench for Synthetic {
    fn elapsed_s(&self) -> f64 {
        f64::from(self.cells)
    }

    fn measure(&mut self, arm: &Arm, workload: Workload, seed: u64) -> Result<Cell, Trouble> {
        if self.patience == Some(self.cells) {
            return Err(Trouble::Interrupted);
        }
        if arm.about == "broken" {
            self.cells += 1;
            return Err(Trouble::Arm("no such device".into()));
        }
        let Noise { sigma, memory, drift, outliers, stolen, .. } = self.noise;
        let mut random = Random::new(&[seed]);
        self.last = memory * self.last + (1.0 - memory * memory).sqrt() * random.normal();
        self.cells += 1;
        let number: usize = arm.name.parse().unwrap_or(0);
        let effect = self.noise.effects.get(number).copied().unwrap_or(0.0) * workload.sign();
        let outlier = if random.unit() < outliers { 0.25 } else { 0.0 };
        let drifted = drift * f64::from(self.cells);
        let steal = if random.unit() < stolen { 0.3 } else { 0.0 };
        let log = 11.0 + effect + sigma * self.last - drifted - outlier - steal;
        let readings = BTreeMap::from([(Guard::Steal, steal)]);
        Ok(Cell { figure: log.exp(), took_s: 1.0, readings, server_cpu_s: None })
    }
}

/// A beginning with `arms`, the baseline included, which have their numbers for names.
pub(super) fn begin(arms: usize, workloads: &[Workload]) -> Begin {
    let arm = |number: usize| Arm { name: number.to_string(), ..Arm::baseline() };
    let blocks = Blocks::plan(arms - 1, workloads.len(), 2_000.0, 4.0).unwrap();
    Begin {
        schema: Begin::VERSION,
        what: "experiment".into(),
        command: "quiclane tune experiment".into(),
        at_s: 1_700_000_000,
        seed: 1,
        budget_s: 1e9,
        cell_s: 1.0,
        smallest_effect: 0.02,
        blocks: Blocks { screen: blocks.screen.min(12), ..blocks },
        workloads: workloads.to_vec(),
        arms: std::iter::once(Arm::baseline()).chain((1..arms).map(arm)).collect(),
        skipped: Vec::new(),
        limits: Limits::default(),
        reached: None,
        device: "lo".into(),
        server_cores: vec![0],
        load_cores: vec![1],
        host: Vec::new(),
    }
}

/// All of it measured.
pub(super) fn completed(begin: Begin, noise: Noise) -> Log {
    let mut log = Log::new(begin);
    let mut bench = Synthetic::new(noise);
    while let Some(step) = log.next() {
        match measure(&log, step, &mut bench) {
            Ok(block) => log.blocks.push(block),
            Err((Side::B, Trouble::Arm(why))) => {
                log.broken.insert((step.arm, step.workload), why);
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    log
}
