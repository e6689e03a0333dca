//! repeat makes a run several times (--repeat), or in turn with the same run against another server
//! (--versus), and says what came of all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use clap::Args;
use quiclane_loadgen::{Comparison, Ending, Load, Report, Side, Summary};
use serde::Serialize;

use super::hint::hint;
use super::series::SeriesOutput;
use super::{BOTTLENECK, LoadArgs, exit, reports, watch_and_write};
use crate::exit::{Exit, Failure};
use crate::flags::positive_usize;
use crate::output;
use crate::target::Url;

/// How often to make a run, and in turn with which other one.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Several runs")]
pub(super) struct RepeatOptions {
    /// Make the whole run N times, one after another, a line for each, and print median, min and
    /// max over them. Files of --series, --hlog, --hgrm and --report get .1, .2 and so on before
    /// their extension [default: 1; with --versus 3]
    #[arg(long, value_name = "N", value_parser = runs,
          conflicts_with_all = ["find_max", "partition", "start_at", "latency"])]
    repeat: Option<usize>,

    /// Compare another server with that of the first URL, as `load compare` does: the same runs of
    /// both, --repeat of each, in the order ABBA BAAB. All flags are for both. A verdict is no
    /// failure
    #[arg(long, value_name = "URL",
          conflicts_with_all = ["find_max", "partition", "start_at", "latency", "more",
                                "input_file", "replay"])]
    pub(super) versus: Option<Url>,
}

impl RepeatOptions {
    /// The flag that asks for several runs, if one does, as it would be written.
    pub(super) fn given(&self) -> Option<String> {
        let versus = self.versus.as_ref().map(|url| format!("--versus {url}"));
        versus.or_else(|| self.repeat.map(|runs| format!("--repeat {runs}")))
    }

    /// Runs of each server.
    fn runs(&self) -> usize {
        self.repeat.unwrap_or_else(|| if self.versus.is_some() { RUNS_VERSUS } else { 1 })
    }
}

/// A server, and the runs against it.
struct Target {
    args: LoadArgs,
    addresses: Vec<SocketAddr>,
    reports: Vec<Report>,
}

impl Target {
    fn new(args: LoadArgs) -> Result<Self, Failure> {
        let addresses = args.addresses()?;
        let config = args.config(addresses[0])?;
        Load::check(&config)?;
        args.warn_of_fewer(&config);
        Ok(Self { args, addresses, reports: Vec::new() })
    }

    /// Makes a run. Each has TLS sessions of its own, so that none profits from the one before.
    fn measure(
        &self,
        label: &Label,
        signals: &Receiver<()>,
        series: Option<&mut SeriesOutput>,
    ) -> Result<(Report, bool), Failure> {
        let config = self.args.config(self.addresses[0])?;
        let workload = config.workload;
        let load = Load::start(config)?;
        let mut meter = self.args.meter(workload, load.stop()).labelled(&label.to_string());
        watch_and_write(load, signals, &mut meter, series)
    }
}

/// Which run it is, for people. With --versus a run has its number among those of its side, too,
/// which is how the warnings of a comparison name it.
struct Label {
    number: usize,
    of: usize,
    side: Option<(Side, usize)>,
}

impl Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "run {} of {}", self.number, self.of)?;
        match self.side {
            Some((side, number)) => write!(f, " (run {number} of {})", name(side)),
            None => Ok(()),
        }
    }
}

/// What the runs that were made left.
#[derive(Default)]
struct Course {
    exits: Vec<Exit>,
    /// Names of the runs in which the generator was the bottleneck.
    invalid: Vec<String>,
    hints: BTreeSet<String>,
}

/// The JSON.
#[derive(Serialize)]
struct Repeated<'a> {
    schema: u32,
    runs: Vec<Run<'a>>,
    summary: BTreeMap<Side, Summary>,
    compare: Option<&'a Comparison>,
}

/// A run, in the order in which they were made.
#[derive(Serialize)]
struct Run<'a> {
    target: Side,
    url: String,
    report: &'a Report,
}

/// Makes all runs, and says what came of them.
pub(super) fn run(args: &LoadArgs, signals: &Receiver<()>) -> Result<Exit, Failure> {
    let options = &args.repeat;
    let mut targets = vec![Target::new(args.clone())?];
    if let Some(url) = &options.versus {
        targets.push(Target::new(LoadArgs { url: Some(url.clone()), ..args.clone() })?);
    }
    let order: Vec<Side> = match options.versus {
        Some(_) => Side::in_turn(options.runs()).collect(),
        None => vec![Side::A; options.runs()],
    };
    for number in 1..=order.len() {
        // The last one shall not be the first to find that it cannot be written.
        args.files.probe(number)?;
    }
    let mut course = Course::default();
    for (number, side) in (1..).zip(&order) {
        let target = &mut targets[*side as usize];
        let of_side = options.versus.as_ref().map(|_| (*side, target.reports.len() + 1));
        let label = Label { number, of: order.len(), side: of_side };
        if number > 1 && is_interrupted(signals) {
            output::log(format_args!("interrupted before {label}"));
            course.exits.push(Exit::Interrupted);
            break;
        }
        if !course.add(target, &label, signals)? {
            break;
        }
    }
    show(args, &order, &targets, &course)?;
    Ok(Exit::first_of(&course.exits))
}

impl Course {
    /// Makes another run; false when it shall be the last one.
    fn add(
        &mut self,
        target: &mut Target,
        label: &Label,
        signals: &Receiver<()>,
    ) -> Result<bool, Failure> {
        let args = &target.args;
        let mut files = args.files.open(Some(label.number))?;
        let (report, is_asked_to_end) = target.measure(label, signals, files.series.as_mut())?;
        let ended = exit(&report);
        self.exits.push(ended);
        if ended == Exit::Interrupted {
            output::log(format_args!("interrupted: {label} is left out"));
            return Ok(false);
        }
        let line = format!("{label}   {}", report.line());
        match args.json {
            false => output::result(line)?,
            true if args.quiet => {}
            true => output::log(line),
        }
        for note in &report.detail.notes {
            output::log(format_args!("note: {label}: {note}"));
        }
        files.write(&report, &args.title())?;
        if let Some(hint) = hint(&report, args, &target.addresses)
            && self.hints.insert(hint.clone())
        {
            output::log(format_args!("hint: {hint}"));
        }
        if ended == Exit::Invalid {
            self.invalid.push(label.to_string());
        }
        let ending = report.ending;
        target.reports.push(report);
        if is_asked_to_end {
            output::log(format_args!("interrupted after {label}"));
            self.exits.push(Exit::Interrupted);
            return Ok(false);
        }
        if ending == Ending::NothingConnected && label.number < label.of {
            // To find out again that nobody is there would only take time.
            output::log("the runs that are left are not made");
            return Ok(false);
        }
        Ok(true)
    }
}

/// Shows what there is of all runs.
fn show(
    args: &LoadArgs,
    order: &[Side],
    targets: &[Target],
    course: &Course,
) -> Result<(), Failure> {
    let sides = || [Side::A, Side::B].into_iter().zip(targets);
    let comparison = match targets {
        [a, b] if !a.reports.is_empty() && !b.reports.is_empty() => {
            Some(Comparison::new(&a.reports, &b.reports, Comparison::MARGIN))
        }
        _ => None,
    };
    let invalid = match &course.invalid[..] {
        [] => None,
        labels => Some(format!("INVALID: {}: {BOTTLENECK}", labels.join(", "))),
    };
    let of = |(side, target): (Side, &Target)| Some((side, Summary::new(&target.reports)?));
    let summary: BTreeMap<Side, Summary> = sides().filter_map(of).collect();
    if args.json {
        let runs = runs_in(order, targets);
        output::json(&Repeated { schema: 1, runs, summary, compare: comparison.as_ref() })?;
        invalid.iter().for_each(output::log);
        comparison.iter().for_each(reports::log_warnings);
        return Ok(());
    }
    let mut text: Vec<String> = invalid.into_iter().collect();
    for (side, target) in sides() {
        let Some(summary) = summary.get(&side) else { continue };
        let name = if targets.len() > 1 { format!("{}: ", name(side)) } else { String::new() };
        let (title, address) = (target.args.title(), target.addresses[0]);
        text.push(format!("{name}{title} ({address})\n{summary}"));
    }
    text.extend(comparison.iter().map(Comparison::to_string));
    match text.is_empty() {
        true => Ok(()),
        false => output::result(format_args!("\n{}", text.join("\n\n"))),
    }
}

/// The runs as they were made.
fn runs_in<'a>(order: &[Side], targets: &'a [Target]) -> Vec<Run<'a>> {
    let mut left: Vec<_> = targets.iter().map(|target| target.reports.iter()).collect();
    let run = |side: &Side| {
        let url = targets[*side as usize].args.title();
        Some(Run { target: *side, url, report: left[*side as usize].next()? })
    };
    order.iter().map_while(run).collect()
}

/// Waits until the next run may begin; true if a signal came first.
fn is_interrupted(signals: &Receiver<()>) -> bool {
    !matches!(signals.recv_timeout(PAUSE), Err(RecvTimeoutError::Timeout))
}

fn name(side: Side) -> &'static str {
    match side {
        Side::A => "A",
        Side::B => "B",
    }
}

/// A number of runs.
fn runs(text: &str) -> Result<usize, String> {
    match positive_usize(text)? {
        runs if runs <= RUNS_MAX => Ok(runs),
        _ => Err(format!("must be at most {RUNS_MAX}: all reports are kept until the end")),
    }
}

/// The reports of so many runs of a minute are some hundred megabytes.
const RUNS_MAX: usize = 1_000;

/// From so many on a side a comparison counts how much runs of one thing differ.
const RUNS_VERSUS: usize = 3;

/// Between two runs. The connections of the first one drain on the server for three probe timeouts
/// (RFC 9000 section 10.2), which is that long on a path with a round trip of 100 ms.
const PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_have_a_limit() {
        assert_eq!((runs("1"), runs("1k")), (Ok(1), Ok(1_000)));
        for wrong in ["0", "1001", "-1", "x"] {
            assert!(runs(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn runs_are_named_as_in_the_warnings_of_a_comparison() {
        let label = Label { number: 4, of: 6, side: Some((Side::A, 2)) };
        assert_eq!(label.to_string(), "run 4 of 6 (run 2 of A)");
        let label = Label { number: 4, of: 6, side: None };
        assert_eq!(label.to_string(), "run 4 of 6");
    }
}
