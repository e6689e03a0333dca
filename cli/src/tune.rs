//! tune shows what this host can be tuned by, changes it, and puts it back.

mod attended;
mod cell;
mod experiment;
mod flags;
mod guard;
mod report;
mod text;

use std::fs;
use std::io;

use clap::{Args, Subcommand};
use quiclane::clock::unix_time;
use quiclane_tuning::{Lab, Plan, Session, TuneError};

use crate::exit::{Exit, Failure};
use crate::output;
use attended::Attended;
pub(crate) use experiment::{Course, CourseArgs};
use flags::{ApplyArgs, At, ExportArgs, PlanArgs, RevertArgs, ShowArgs, StatusArgs, WishArgs};

/// Show what this host can be tuned by, change it, and put it back
///
/// Without a command it is `tune show`. Only `apply` and `revert` change anything: `apply` writes
/// down what was there before it changes it, and `revert` puts that back, also after a crash.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub(crate) struct TuneArgs {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    show: ShowArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(ShowArgs),
    Plan(PlanArgs),
    Apply(ApplyArgs),
    Revert(RevertArgs),
    Status(StatusArgs),
    Export(ExportArgs),
    Experiment(Box<experiment::ExperimentArgs>),
    Report(report::ReportArgs),
    #[command(hide = true)]
    Cell(cell::CellArgs),
    #[command(hide = true)]
    Guard(guard::GuardArgs),
}

/// Runs the command.
pub(crate) fn run(args: &TuneArgs) -> Result<Exit, Failure> {
    match &args.command {
        None => show(&args.show),
        Some(Command::Show(args)) => show(args),
        Some(Command::Plan(args)) => plan(args),
        Some(Command::Apply(args)) => apply(args),
        Some(Command::Revert(args)) => revert(args),
        Some(Command::Status(args)) => status(args),
        Some(Command::Export(args)) => export(args),
        Some(Command::Experiment(args)) => experiment::run(args),
        Some(Command::Report(args)) => report::run(args),
        Some(Command::Cell(args)) => cell::run(args),
        Some(Command::Guard(args)) => guard::run(args),
    }
}

fn show(args: &ShowArgs) -> Result<Exit, Failure> {
    let picture = Lab::open(&args.at.interface)?.show(&args.journal.folder());
    match args.at.json {
        true => output::json(&picture)?,
        false => output::result(text::Show { picture: &picture, verbose: args.verbose })?,
    }
    Ok(Exit::Ok)
}

fn planned(wishes: &WishArgs, at: &At) -> Result<(Lab, Plan), Failure> {
    let lab = Lab::open(&at.interface)?;
    let plan = lab.plan(&wishes.wishes())?;
    Ok((lab, plan))
}

fn plan(args: &PlanArgs) -> Result<Exit, Failure> {
    let (lab, mut plan) = planned(&args.wishes, &args.at)?;
    plan.traps.splice(0..0, lab.journal_trap(&args.journal.folder()));
    match args.at.json {
        true => output::json(&plan)?,
        false => output::result(text::Planned(&plan))?,
    }
    Ok(Exit::Ok)
}

fn apply(args: &ApplyArgs) -> Result<Exit, Failure> {
    let (lab, plan) = planned(&args.wishes, &args.at)?;
    let folder = args.journal.folder();
    let session = Session { at_s: unix_time().as_secs(), keep: args.keep };
    if let Some((program, words)) = args.command.split_first() {
        let mut tried = lab.try_out(plan, &folder, &session, || guard::start(&folder))?;
        let (applied, while_runs) = (&tried.applied, Some(program.as_os_str()));
        output::log(text::Set { applied, folder: &folder, while_runs });
        let (all_set, misses) = (applied.ok, applied.misses());
        let run = || {
            let command = Attended::start(program, words)?;
            tried.runs(program.to_string_lossy().into_owned(), command.id());
            command.wait()
        };
        let status = (!misses).then(run);
        let undone = tried.revert()?;
        output::log(text::PutBack(&undone));
        let Some(status) = status else { return Ok(Exit::Failed) };
        let ended =
            status.map_err(|source| Failure::Command { program: program.clone(), source })?;
        return Ok(if all_set && undone.ok && ended.success() { Exit::Ok } else { Exit::Failed });
    }
    let applied = lab.apply(plan, &folder, &session, || guard::start(&folder))?;
    match args.at.json {
        true => output::json(&applied)?,
        false => {
            let (applied, while_runs) = (&applied, None);
            output::result(text::Set { applied, folder: &folder, while_runs })?;
        }
    }
    Ok(if applied.ok { Exit::Ok } else { Exit::Failed })
}

fn revert(args: &RevertArgs) -> Result<Exit, Failure> {
    let undone = Lab::open(&[])?.revert(&args.journal.folder(), args.give_up)?;
    match args.json {
        true => output::json(&undone)?,
        false => output::result(text::PutBack(&undone))?,
    }
    Ok(if undone.ok { Exit::Ok } else { Exit::Failed })
}

fn status(args: &StatusArgs) -> Result<Exit, Failure> {
    let standing = Lab::open(&[])?.status(&args.journal.folder())?;
    match args.json {
        true => output::json(&standing)?,
        false => output::result(text::Now(&standing))?,
    }
    Ok(Exit::Ok)
}

fn export(args: &ExportArgs) -> Result<Exit, Failure> {
    if args.dir.is_none() && args.format.len() > 1 {
        let given = format!("--format with {} readers", args.format.len());
        return Err(Failure::Incomplete { given, needed: "--dir DIR, a file for each" });
    }
    let (_, plan) = planned(&args.wishes, &args.at)?;
    let exports: Vec<_> = args.format.iter().map(|format| plan.export((*format).into())).collect();
    let mut written = Vec::new();
    for export in &exports {
        let Some(dir) = &args.dir else { continue };
        let path = dir.join(export.name);
        let wrote = fs::create_dir_all(dir).and_then(|()| fs::write(&path, &export.text));
        wrote.map_err(|source| Failure::File { flag: "--dir", path: path.clone(), source })?;
        written.push((path, export.install));
    }
    if args.at.json {
        output::json(&text::exported(&exports, &written))?;
    } else if written.is_empty() {
        for export in &exports {
            output::result(export.text.trim_end())?;
        }
    } else {
        for (path, install) in written {
            output::result(format_args!("{}: put it into {install}", path.display()))?;
        }
    }
    Ok(Exit::Ok)
}

/// What became of starting something.
type Started = io::Result<()>;

impl From<TuneError> for Failure {
    fn from(error: TuneError) -> Self {
        match error {
            TuneError::InPlace { since, .. } => {
                Self::InPlace { since: text::time(since), source: error }
            }
            error => Self::Tune(error),
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  quiclane tune
  quiclane tune plan --profile throughput
  sudo quiclane tune apply --profile latency --for 10m
  sudo quiclane tune apply --set threaded_napi=1 -- quiclane load https://HOST/ -d 10s
  sudo quiclane tune apply --interface eth0 --set gro=on --set rmem_max=16777216
  quiclane tune status
  sudo quiclane tune revert
  quiclane tune export --profile throughput --format sysctl";
