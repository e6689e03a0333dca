//! probe is the ordinary users of a server: some who are there, and some who come.
//!
//! ```text
//! users      requests at a constant rate, on connections that were made before
//! newcomers  handshakes at a constant rate, each on a connection of its own
//! ```

use std::thread;
use std::time::Duration;

use super::DefenceConfig;
use super::seen::Seen;
use super::switch::Switch;
use crate::config::{LoadConfig, LoadError, Pace, Stop, Workload};
use crate::load::Load;
use crate::schedule::{Arrivals, Rate, Schedule};

/// Both sorts of users, at work.
pub(super) struct Probe {
    users: Load,
    newcomers: Load,
    /// How many requests, and handshakes, their time has room for.
    due: [u64; 2],
}

impl Probe {
    /// Starts them for `length`; returns when the users are connected and ask.
    pub(super) fn start(
        config: &DefenceConfig,
        length: Duration,
        switch: &Switch,
    ) -> Result<Self, LoadError> {
        let due =
            [users(config, length), newcomers(config, length)?].map(|load| due(&load, length));
        let users = Load::start(users(config, length))?;
        while users.progress().measuring == 0 && !users.is_finished() && !switch.is_interrupted() {
            thread::sleep(LOOK_EVERY);
        }
        let newcomers = newcomers(config, length).and_then(Load::start);
        let newcomers = newcomers.inspect_err(|_| users.stopper().stop())?;
        Ok(Self { users, newcomers, due })
    }

    /// Waits until their time is over and what was due in it has ended, for [`LINGER`] at most; or
    /// ends it when somebody wants no more.
    pub(super) fn watch(self, switch: &Switch) -> Result<Seen, LoadError> {
        while !self.users.is_finished() || !self.newcomers.is_finished() {
            if switch.is_interrupted() {
                self.stop();
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(Seen::new(self.users.join()?, self.newcomers.join()?, self.due))
    }

    /// Sends them home.
    pub(super) fn stop(&self) {
        self.users.stopper().stop();
        self.newcomers.stopper().stop();
    }
}

/// Whether `config` makes a probe of `length`.
pub(super) fn check(config: &DefenceConfig, length: Duration) -> Result<(), LoadError> {
    Load::check(&users(config, length))?;
    Load::check(&newcomers(config, length)?)
}

fn users(config: &DefenceConfig, length: Duration) -> LoadConfig {
    LoadConfig { stop: Stop::Duration(length), linger: LINGER, ..config.probe.clone() }
}

fn newcomers(config: &DefenceConfig, length: Duration) -> Result<LoadConfig, LoadError> {
    let rate = Rate::constant(NEWCOMERS_PER_S as f64).map_err(|_| LoadError::NoWork)?;
    Ok(LoadConfig {
        workload: Workload::Handshakes,
        pace: None,
        connect_pace: Some(Pace { rate, arrivals: Arrivals::Constant }),
        connections: NEWCOMERS_AT_ONCE,
        request_timeout: None,
        slo: None,
        ..users(config, length)
    })
}

/// How much is due in `length`.
fn due(load: &LoadConfig, length: Duration) -> u64 {
    load.work_pace().map_or(0, |Pace { rate, arrivals }| {
        Schedule::new(rate.clone(), *arrivals, 0, 1, 0).skip_before(length)
    })
}

/// Fifteen in three seconds, and far below what any server limits.
pub(super) const NEWCOMERS_PER_S: u64 = 5;

/// Those of ten seconds: a server that lets nobody in for that long holds none of them back.
const NEWCOMERS_AT_ONCE: usize = 50;

/// How long the probe waits for what was due in its time. Whoever hangs at its end would be
/// seen by nobody otherwise; and nobody waits for a page for longer without noticing.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// A hundredth of the shortest useful part of a test.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(5);
