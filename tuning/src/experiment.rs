//! experiment finds out what a setting is worth on this host, and how certain that is.
//!
//! ```text
//! Begin (seed, arms, budget) ─► schedule: the next block ─► Bench: four cells, ABBA or BAAB
//!        ▲                          ▲                             │
//!        └─ a file of JSONL ◄───────┴──────── record ◄── limits ◄─┘
//!                 └─► findings: estimate per arm ─► verdict
//! ```
//!
//! What comes next follows from the record alone, never from a clock or from memory: a run that was
//! interrupted goes on as if nothing had happened, and its file is the whole result.
//!
//! Pure but for the file of records: figures come from a [`Bench`], which the command line makes of
//! real servers and the tests of noise.

mod arm;
pub use arm::{Arm, Phase, Side, Workload};

mod estimate;
pub use estimate::Estimate;

mod findings;
pub use findings::{Calibration, Effect, Findings, Point};

mod fitness;

mod limits;
pub use limits::{Breach, Guard, Limits};

mod noise;

mod random;

mod readings;
pub use readings::{Counters, Machine, TICKS_PER_S};

mod record;
pub use record::{
    Begin, Block, Blocks, Cell, Log, RecordError, Records, Skipped, Step, Unfinished,
};

mod run;
pub use run::{Bench, Ended, Progress, RunError, Trouble, run};

mod schedule;

mod verdict;
pub use verdict::Verdict;

#[cfg(test)]
mod synthetic;
#[cfg(test)]
mod trials;
