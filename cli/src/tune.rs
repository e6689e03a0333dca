//! tune shows what this host can be tuned by, changes it, and puts it back.

mod guard;
mod text;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use quiclane::clock::unix_time;
use quiclane_tuning::{Folder, Format, Lab, Plan, Profile, Session, TuneError, Wishes};

use crate::exit::{Exit, Failure};
use crate::flags::positive_time;
use crate::output;

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
    #[command(hide = true)]
    Guard(guard::GuardArgs),
}

/// Show every knob with its value here, and what to know before anything is tuned
///
/// Reads only and needs no root. Every line names the file or the command that it comes from.
#[derive(Args, Debug)]
struct ShowArgs {
    #[command(flatten)]
    at: At,

    #[command(flatten)]
    journal: JournalArgs,

    /// Show of every knob what it does, its default and values worth trying, also of those that
    /// this host does not have
    #[arg(short, long, conflicts_with = "json")]
    verbose: bool,
}

/// Say what would change, why, and by which plain commands; change nothing
#[derive(Args, Debug)]
struct PlanArgs {
    #[command(flatten)]
    wishes: WishArgs,

    #[command(flatten)]
    at: At,
}

/// Do what `plan` says, and remember how it was
///
/// What cannot be set is said, and the rest is set; the exit code is then 1. If the command is
/// killed on the way, a guard process puts everything back at once.
#[derive(Args, Debug)]
struct ApplyArgs {
    #[command(flatten)]
    wishes: WishArgs,

    #[command(flatten)]
    at: At,

    #[command(flatten)]
    journal: JournalArgs,

    /// Put everything back after this time [default: it stays until `tune revert` or a reboot]
    #[arg(long = "for", value_name = "TIME", value_parser = whole_seconds)]
    keep: Option<Duration>,
}

/// Put back what `apply` has changed, last things first
///
/// What somebody else has changed since is left alone and said. After a reboot there is nothing to
/// put back: the journal is closed.
#[derive(Args, Debug)]
struct RevertArgs {
    #[command(flatten)]
    journal: JournalArgs,

    /// Forget also what could not be put back
    #[arg(long)]
    give_up: bool,

    /// The result as JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Say what is set, since when, by whom, and what somebody has changed since
#[derive(Args, Debug)]
struct StatusArgs {
    #[command(flatten)]
    journal: JournalArgs,

    /// The result as JSON on stdout
    #[arg(long)]
    json: bool,
}

/// Write what `plan` says as a file that another program applies at every boot
#[derive(Args, Debug)]
struct ExportArgs {
    #[command(flatten)]
    wishes: WishArgs,

    #[command(flatten)]
    at: At,

    /// Who is to read it; may be repeated with --dir
    #[arg(long, value_enum, value_name = "READER", required = true)]
    format: Vec<FormatFlag>,

    /// Write files into this folder [default: the text goes to stdout]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Where to look.
#[derive(Args, Debug)]
struct At {
    /// Interface to look at; may be repeated [default: every one that is up except lo]
    #[arg(long, value_name = "NAME")]
    interface: Vec<String>,

    /// The result as JSON on stdout
    #[arg(long)]
    json: bool,
}

/// What to set.
#[derive(Args, Debug)]
struct WishArgs {
    /// What to tune for
    #[arg(long, value_enum, value_name = "NAME")]
    profile: Option<ProfileFlag>,

    /// Set this knob, instead of what the profile says or beside it; may be repeated
    #[arg(long, value_name = "KNOB=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,

    /// Leave this knob of the profile alone; may be repeated
    #[arg(long, value_name = "KNOB")]
    skip: Vec<String>,

    /// Set also what takes a link down for a moment: rings, channels, the MTU
    #[arg(long)]
    allow_link_reset: bool,
}

/// Where it is remembered.
#[derive(Args, Debug)]
struct JournalArgs {
    /// Folder of the journal
    #[arg(long, value_name = "DIR", default_value = Folder::DEFAULT)]
    journal: PathBuf,
}

impl JournalArgs {
    fn folder(&self) -> Folder {
        Folder::new(&self.journal)
    }
}

impl WishArgs {
    fn wishes(&self) -> Wishes {
        Wishes {
            profile: self.profile.map(Into::into),
            set: self.set.clone(),
            skip: self.skip.clone(),
            link_reset: self.allow_link_reset,
        }
    }
}

/// --profile.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProfileFlag {
    /// Bytes a second of few connections
    Throughput,
    /// Time to the answer at moderate load
    Latency,
    /// Work that is still done when more comes than can be done
    Overload,
    /// What helps all of these and costs little
    Balanced,
}

impl From<ProfileFlag> for Profile {
    fn from(flag: ProfileFlag) -> Self {
        match flag {
            ProfileFlag::Throughput => Self::Throughput,
            ProfileFlag::Latency => Self::Latency,
            ProfileFlag::Overload => Self::Overload,
            ProfileFlag::Balanced => Self::Balanced,
        }
    }
}

/// --format.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatFlag {
    /// sysctl.d: the kernel's settings alone
    Sysctl,
    /// A rule of udev: files and features of interfaces
    Udev,
    /// A unit of systemd that runs the plain commands
    Systemd,
    /// A profile of TuneD
    Tuned,
}

impl From<FormatFlag> for Format {
    fn from(flag: FormatFlag) -> Self {
        match flag {
            FormatFlag::Sysctl => Self::Sysctl,
            FormatFlag::Udev => Self::Udev,
            FormatFlag::Systemd => Self::Systemd,
            FormatFlag::Tuned => Self::Tuned,
        }
    }
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
    let (_, plan) = planned(&args.wishes, &args.at)?;
    match args.at.json {
        true => output::json(&plan)?,
        false => output::result(text::Planned(&plan))?,
    }
    Ok(Exit::Ok)
}

fn apply(args: &ApplyArgs) -> Result<Exit, Failure> {
    let (lab, plan) = planned(&args.wishes, &args.at)?;
    let (traps, kept) = (plan.traps.clone(), plan.kept.clone());
    let folder = args.journal.folder();
    let session = Session { at_s: unix_time().as_secs(), keep: args.keep };
    let applied = lab.apply(plan, &folder, &session, || guard::start(&folder))?;
    match args.at.json {
        true => output::json(&applied)?,
        false => {
            let traps = &traps;
            output::result(text::Set { applied: &applied, kept: &kept, traps, folder: &folder })?;
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

/// The journal counts seconds.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    match positive_time(text)? {
        time if time.as_secs() == 0 || time.subsec_nanos() > 0 => {
            Err("must be whole seconds, as 30s or 10m".into())
        }
        time => Ok(time),
    }
}

fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((knob, value)) if !knob.is_empty() && !value.is_empty() => {
            Ok((knob.to_owned(), value.to_owned()))
        }
        _ => Err("write KNOB=VALUE, as gro=on".into()),
    }
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
  sudo quiclane tune apply --interface eth0 --set gro=on --set rmem_max=16777216
  quiclane tune status
  sudo quiclane tune revert
  quiclane tune export --profile throughput --format sysctl";
