//! flags is what the commands of `tune` take, and what that means to the library.

use std::ffi::OsString;
use std::path::{self, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use quiclane_tuning::{Folder, Format, Profile, Wishes};

use crate::flags::positive_time;

/// Show every knob with its value here, and what to know before anything is tuned
///
/// Reads only and needs no root. Every line names the file or the command that it comes from.
#[derive(Args, Debug)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    pub(super) at: At,

    #[command(flatten)]
    pub(super) journal: JournalArgs,

    /// Show of every knob what it does, its default and values worth trying, also of those that
    /// this host does not have
    #[arg(short, long, conflicts_with = "json")]
    pub(super) verbose: bool,
}

/// Say what would change, why, and by which plain commands; change nothing
#[derive(Args, Debug)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) wishes: WishArgs,

    #[command(flatten)]
    pub(super) at: At,

    #[command(flatten)]
    pub(super) journal: JournalArgs,
}

/// Do what `plan` says, and remember how it was
///
/// What cannot be set is said, and the rest is set; the exit code is 1 if the kernel refused some
/// of it, or something that --set names is not as asked for. With `-- COMMAND` it is set while that
/// runs, or not at all: without all of --set the command is not run. The exit code is 1 too if the
/// command fails. If the command is
/// killed on the way, a guard process puts everything back at once.
#[derive(Args, Debug)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    pub(super) wishes: WishArgs,

    #[command(flatten)]
    pub(super) at: At,

    #[command(flatten)]
    pub(super) journal: JournalArgs,

    /// Put everything back after this time [default: it stays until `tune revert` or a reboot]
    #[arg(long = "for", value_name = "TIME", value_parser = whole_seconds)]
    pub(super) keep: Option<Duration>,

    /// Set it for as long as this command runs, and put it back then
    #[arg(last = true, value_name = "COMMAND", conflicts_with_all = ["keep", "json"])]
    pub(super) command: Vec<OsString>,
}

/// Put back what `apply` has changed, last things first
///
/// What somebody else has changed since is left alone and said. After a reboot there is nothing to
/// put back: the journal is closed.
#[derive(Args, Debug)]
pub(super) struct RevertArgs {
    #[command(flatten)]
    pub(super) journal: JournalArgs,

    /// Forget also what could not be put back
    #[arg(long)]
    pub(super) give_up: bool,

    /// The result as JSON on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// Say what is set, since when, by whom, and what somebody has changed since
#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    pub(super) journal: JournalArgs,

    /// The result as JSON on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// Write what `plan` says as a file that another program applies at every boot
#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    #[command(flatten)]
    pub(super) wishes: WishArgs,

    #[command(flatten)]
    pub(super) at: At,

    /// Who is to read it; may be repeated with --dir
    #[arg(long, value_enum, value_name = "READER", required = true)]
    pub(super) format: Vec<FormatFlag>,

    /// Write files into this folder [default: the text goes to stdout]
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
}

/// Where to look.
#[derive(Args, Debug)]
pub(super) struct At {
    /// Interface to look at; may be repeated [default: every one that is up except lo]
    #[arg(long, value_name = "NAME")]
    pub(super) interface: Vec<String>,

    /// The result as JSON on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// What to set.
#[derive(Args, Debug)]
pub(super) struct WishArgs {
    /// What to tune for
    #[arg(long, value_enum, value_name = "NAME")]
    pub(super) profile: Option<ProfileFlag>,

    /// Set this knob, instead of what the profile says or beside it; may be repeated
    #[arg(long, value_name = "KNOB=VALUE", value_parser = assignment)]
    pub(super) set: Vec<(String, String)>,

    /// Leave this knob of the profile alone; may be repeated
    #[arg(long, value_name = "KNOB")]
    pub(super) skip: Vec<String>,

    /// Set also what takes a link down for a moment: rings, channels, the MTU
    #[arg(long)]
    pub(super) allow_link_reset: bool,
}

/// Where it is remembered.
#[derive(Args, Debug)]
pub(super) struct JournalArgs {
    /// Folder of the journal
    #[arg(long, value_name = "DIR", default_value = Folder::DEFAULT)]
    pub(super) journal: PathBuf,
}

impl JournalArgs {
    pub(super) fn folder(&self) -> Folder {
        // The guard works elsewhere, and the hints that are printed are for any shell.
        Folder::new(path::absolute(&self.journal).unwrap_or_else(|_| self.journal.clone()))
    }
}

impl WishArgs {
    pub(super) fn wishes(&self) -> Wishes {
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
pub(super) enum ProfileFlag {
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
pub(super) enum FormatFlag {
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

/// The journal counts seconds.
fn whole_seconds(text: &str) -> Result<Duration, String> {
    match positive_time(text)? {
        time if time.as_secs() == 0 || time.subsec_nanos() > 0 => {
            Err("must be whole seconds, as 30s or 10m".into())
        }
        time => Ok(time),
    }
}

pub(super) fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((knob, value)) if !knob.is_empty() && !value.is_empty() => {
            Ok((knob.to_owned(), value.to_owned()))
        }
        _ => Err("write KNOB=VALUE, as gro=on".into()),
    }
}
