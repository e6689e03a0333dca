//! runs counts how often the kernel ran a program, and how long that took in all.
//!
//! Unlike the time of [`Steering::run`], which repeats one frame, this tells what frames cost that
//! a program changes, over any number of single runs.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use aya::sys::{Stats, enable_stats};

use crate::steering::program_error;
use crate::{Program, Steering, SteeringError};

/// While it lives, the kernel times the runs of every BPF program of the machine.
#[derive(Debug)]
pub struct RunTimes {
    _enabled: OwnedFd,
}

impl RunTimes {
    /// Has the kernel time them; each run takes some 20 ns longer then.
    ///
    /// # Errors
    /// When this process may not, or the kernel cannot.
    ///
    /// # Minimum kernel version
    /// 5.8.
    pub fn enable() -> io::Result<Self> {
        Ok(Self { _enabled: enable_stats(Stats::RunTime).map_err(|error| error.io_error)? })
    }
}

impl Steering {
    /// How often a program ran while [`RunTimes`] lived, and how long in all.
    ///
    /// # Errors
    /// When the program does not load.
    pub fn runs(&mut self, program: Program) -> Result<(u64, Duration), SteeringError> {
        let info = self.xdp(program)?.info().map_err(program_error(program))?;
        Ok((info.run_count(), info.run_time()))
    }
}
