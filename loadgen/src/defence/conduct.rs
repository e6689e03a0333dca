//! conduct takes a test through its three parts.

use std::sync::Arc;
use std::thread;

use quiclane::clock;

use super::abuse::Abuse;
use super::ending::DefenceEnding;
use super::placement::place;
use super::probe::{LOOK_EVERY, Probe};
use super::report::DefenceReport;
use super::switch::Switch;
use super::{DefenceConfig, DefenceError};
use crate::config::LoadError;

/// The whole test.
pub(super) fn conduct(
    mut config: DefenceConfig,
    switch: &Arc<Switch>,
) -> Result<DefenceReport, DefenceError> {
    let allowed = quiclane::allowed_cores();
    let (abuse, probe) = place(&config.abuse.cores, config.abuse.workers, &allowed);
    config.abuse.cores = abuse;
    config.probe.cores = probe.into_iter().collect();
    let config = &config;
    let target = config.abuse.targets.first().ok_or(LoadError::NoTarget)?;

    let before = Probe::start(config, config.calm, switch)?.watch(switch)?;
    let mut report = DefenceReport::new(config, target.address, &before);
    report.ending = DefenceEnding::of(&before, switch.is_interrupted());
    if report.ending != DefenceEnding::Complete {
        return Ok(report);
    }

    // Its users have connected when the server is still calm, as those who were there before.
    let probe = Probe::start(config, config.length, switch)?;
    switch.begin(config.length);
    let abuse = Abuse::start(config, target, switch).inspect_err(|_| probe.stop())?;
    let during = probe.watch(switch);
    // A server that is gone ends the probe earlier.
    while during.is_ok() && switch.over(clock::now()).is_none() {
        thread::sleep(LOOK_EVERY);
    }
    let after = (!switch.is_interrupted()).then(|| {
        switch.follow();
        Probe::start(config, config.calm, switch)?.watch(switch)
    });
    // Whatever became of the probe, no thread is left behind.
    switch.close();
    let abuse = abuse.join()?;

    report.during(config, &during?);
    if let Some(after) = after.transpose()? {
        report.after(&after);
    }
    if switch.is_interrupted() {
        report.ending = DefenceEnding::Interrupted;
    }
    report.conclude(config, abuse);
    Ok(report)
}
