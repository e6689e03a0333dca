//! table shows findings on a terminal.

use std::fmt::{self, Display};
use std::path::Path;

use quiclane_tuning::experiment::{Calibration, Effect, Estimate, Findings, Log, Unfinished};

use super::advice::Advice;
use super::{figure, percent};
use crate::host::quoted;

/// The result of an experiment, in words and columns.
pub(crate) struct Table<'l> {
    pub(crate) log: &'l Log,
    pub(crate) findings: &'l Findings,
    /// The file of records.
    pub(crate) file: &'l Path,
}

impl Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { log, findings, file } = self;
        let width = log.begin.arms.iter().map(|arm| arm.name.len()).max().unwrap_or(0).clamp(8, 60);
        for calibration in &findings.calibrations {
            let workload = calibration.workload;
            writeln!(f, "{} ({})", workload.name(), workload.unit())?;
            writeln!(f, "  {}", noise(calibration))?;
            writeln!(
                f,
                "  {:<width$}  {:>9}  {:>21}  {:>6}  verdict",
                "", "effect", "95 % interval", "blocks"
            )?;
            for effect in sorted(findings, calibration) {
                writeln!(f, "  {}", line(effect, width))?;
            }
            writeln!(f)?;
        }
        for (guard, blocks) in &findings.void {
            let limit = log.begin.limits.0.get(guard).copied().unwrap_or_default();
            let (name, limit) = (guard.name(), guard.text(limit));
            writeln!(f, "{blocks} blocks were void: {name} above {limit}")?;
        }
        if findings.by_chance >= 0.5 {
            let (count, chance) = (findings.effects.len(), findings.by_chance);
            writeln!(
                f,
                "of {count} comparisons {chance:.1} intervals miss by chance; only what is marked \
                         confirmed was measured again"
            )?;
        }
        if !log.begin.skipped.is_empty() {
            writeln!(f, "not measurable here:")?;
            for skipped in &log.begin.skipped {
                writeln!(f, "  {:<width$}  {}", skipped.name, skipped.why)?;
            }
        }
        if let Some(words) = unfinished(log, file) {
            writeln!(f, "{words}")?;
        }
        write!(f, "{}", advice(log, findings))
    }
}

/// How far a run is that is not done, and how it goes on; all that is said of it may change.
pub(super) fn unfinished(log: &Log, file: &Path) -> Option<String> {
    let Unfinished { blocks, of } = log.unfinished()?;
    let most = if log.begin.blocks.confirm > 0 { "at most " } else { "" };
    let command = if log.begin.what == "matrix" { "bench matrix" } else { "tune experiment" };
    let file = file.to_string_lossy();
    let file = quoted(&file);
    Some(format!(
        "unfinished: {blocks} of {most}{of} blocks; unless it is running, go on with `quiclane \
         {command} --resume {file}`"
    ))
}

/// What noise looks like here.
pub(super) fn noise(calibration: &Calibration) -> String {
    let figure = calibration.figure.map_or_else(|| "nothing".into(), figure);
    let unit = calibration.workload.unit();
    match &calibration.estimate {
        Some(estimate) if calibration.floor.is_finite() => {
            let itself = match estimate.excludes_zero() {
                true => {
                    ", which one calibration in twenty does by chance; if it does again, the \
                         place is not quiet enough"
                }
                false => "",
            };
            format!(
                "baseline {figure} {unit}; against itself {} [{}, {}]{itself}; a block varies by \
                 {:.1} %: {:.1} % or more is found in 9 of 10 cases, less than {:.1} % is never \
                 claimed",
                percent(estimate.effect),
                percent(estimate.low),
                percent(estimate.high),
                calibration.spread * 100.0,
                calibration.tells.exp_m1() * 100.0,
                calibration.floor.exp_m1() * 100.0,
            )
        }
        _ => format!(
            "the baseline against itself: {} blocks were fit for use, fewer than {}, so nothing is \
             claimed",
            calibration.estimate.map_or(0, |estimate| estimate.blocks),
            Estimate::BLOCKS_MIN
        ),
    }
}

/// The effects of a workload, the best first.
pub(super) fn sorted<'f>(findings: &'f Findings, of: &Calibration) -> Vec<&'f Effect> {
    let mut effects: Vec<&Effect> =
        findings.effects.iter().filter(|effect| effect.workload == of.workload).collect();
    let key = |effect: &Effect| {
        effect.estimate.map_or(f64::NEG_INFINITY, |found| found.effect * of.workload.sign())
    };
    effects.sort_by(|a, b| key(b).total_cmp(&key(a)));
    effects
}

/// The verdict with what has to be said beside it.
pub(super) fn verdict(effect: &Effect) -> String {
    let mut text = effect.verdict.name().to_owned();
    if effect.is_confirmed && effect.verdict.is_difference() {
        text.push_str(", confirmed");
    }
    if let Some(note) = &effect.note {
        text.push_str(": ");
        text.push_str(note);
    }
    text
}

fn line(effect: &Effect, width: usize) -> String {
    let (name, verdict) = (&effect.name, verdict(effect));
    match &effect.estimate {
        None => format!("{name:<width$}  {:>9}  {:>21}  {:>6}  {verdict}", "-", "-", 0),
        Some(found) => {
            let interval = format!("[{}, {}]", percent(found.low), percent(found.high));
            let (effect, blocks) = (percent(found.effect), found.blocks);
            format!("{name:<width$}  {effect:>9}  {interval:>21}  {blocks:>6}  {verdict}")
        }
    }
}

/// What is better, as commands; nothing is better than a wrong advice.
fn advice(log: &Log, findings: &Findings) -> String {
    let Advice { apply, undo } = Advice::new(log, findings);
    if apply.is_empty() {
        return "nothing here is better than the baseline: there is nothing to apply".into();
    }
    format!(
        "to apply what is better:\n  {}\nto undo it:\n  {}",
        apply.join("\n  "),
        undo.join("\n  ")
    )
}
