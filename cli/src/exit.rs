//! exit knows what the command ends with: codes, and the errors that lead to them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use quiclane::{RunError, StartError, TlsError};
use quiclane_loadgen::{DefenceError, HttpError, LoadError, MergeError, RateError, ReadError};
use quiclane_tuning::TuneError;
use quiclane_tuning::experiment::{RecordError, RunError as MeasureError};

use crate::certificate::CertificateError;
use crate::target::TargetError;

/// Exit codes that scripts can rely on. When several hold, the first of usage, interrupted,
/// invalid, broken, failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Everything asked for was done, and nothing failed.
    Ok = 0,
    /// Something failed.
    Failed = 1,
    /// The command line asks for something impossible.
    Usage = 2,
    /// A service level objective was broken.
    Broken = 3,
    /// The generator was the bottleneck, so that the measurement says little about the server, or
    /// nothing was measured.
    Invalid = 4,
    /// Stopped by a signal before it was done.
    Interrupted = 130,
}

impl Exit {
    /// The one of several that counts.
    pub(crate) fn first_of(exits: &[Self]) -> Self {
        let order =
            [Self::Usage, Self::Interrupted, Self::Invalid, Self::Broken, Self::Failed, Self::Ok];
        order.into_iter().find(|exit| exits.contains(exit)).unwrap_or(Self::Ok)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command cannot go on. Each message names the value and the remedy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A flag without the one it needs.
    #[error("{given} needs {needed}")]
    Incomplete {
        /// The flag, with its value.
        given: String,
        /// What to add.
        needed: &'static str,
    },
    /// Flags that do nothing beside another one.
    #[error(
        "{flags}: without effect with {beside}, {why}: leave out one or the other, or {remedy}"
    )]
    WithoutEffect {
        /// The flags, with their values.
        flags: String,
        /// The other one, with its value.
        beside: String,
        /// Why they do nothing.
        why: &'static str,
        /// What else there is.
        remedy: &'static str,
    },
    /// URLs that lead to more than one server.
    #[error(
        "{url} and {other} are not of one server: the URLs of a run have scheme, host and port in \
         common; run one command for each server"
    )]
    Origins {
        /// The first one.
        url: String,
        /// Another one.
        other: String,
    },
    /// Servers that cannot be asked alike.
    #[error(
        "--versus {other}: {url} has another scheme, and all flags are for both: give two URLs \
         with https://, or two with quic://"
    )]
    Schemes {
        /// The first one.
        url: String,
        /// The other one.
        other: String,
    },
    /// What cannot be asked for over HTTP.
    #[error(transparent)]
    Http(HttpError),
    /// The file of --body.
    #[error("--body @{path}: {source}; give a file that this user may read")]
    Body {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file of --body is not for memory.
    #[error("--body @{0}: more than 1 GiB; give a smaller file, or --body-size SIZE for zeros")]
    BodyTooLarge(PathBuf),
    /// A file to be written.
    #[error("{flag} {path}: {source}; give a file in a folder that this user may write")]
    File {
        /// Who asks for it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file that is no report.
    #[error("{path} {source}")]
    Report {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ReadError,
    },
    /// A start that was.
    #[error("--start-at is {0:.1} s ago: give a time when all generators are ready, or +5s")]
    Past(f64),
    /// A start that is a typing error.
    #[error("--start-at is more than 7 days ahead: give an earlier time")]
    Ahead,
    /// Reports that are no parts of one run.
    #[error(transparent)]
    Merge(#[from] MergeError),
    /// A file that could be opened, and not be written.
    #[error("{flag} {path}: {source}; see whether the disk is full")]
    Write {
        /// Who asks for it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of requests that cannot be read.
    #[error("{flag} {path}: {source}; give a file that this user may read")]
    ScriptFile {
        /// What names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A file of requests that says something else.
    #[error("{flag} {path}: {why}")]
    Script {
        /// What names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// The line, what is wrong with it, and the remedy.
        why: String,
    },
    /// Neither a DNS name nor an IP address.
    #[error("{0:?} cannot stand in a certificate: give --sni NAME, the server's name there")]
    ServerName(String),
    /// The folder of --root.
    #[error("--root {path}: {source}; give a folder that this user may read")]
    Root {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The folder of --root, which could be opened only as long as there were capabilities.
    #[error(
        "--root {path}: {source}, once the server has given its capabilities up; make it a folder \
         that its user may read without them, start as its owner, or give --keep-capabilities"
    )]
    RootBeyondReach {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The metrics address.
    #[error("--metrics {address}: {source}; choose another address or port")]
    Metrics {
        /// The address.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// Signals cannot be caught.
    #[error("catching signals: {0}")]
    Signals(std::io::Error),
    /// A report cannot be written.
    #[error("writing to stdout: {0}")]
    Output(std::io::Error),
    /// A certificate, key or root.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The server to load.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// TLS material that does not fit together.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The engine did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The engine failed.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The load generator.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A test of a server's defences.
    #[error(transparent)]
    Defence(DefenceError),
    /// No rate to send at.
    #[error(transparent)]
    Rate(#[from] RateError),
    /// A program that is to run meanwhile.
    #[error("{}: {source}; name a program in PATH, or the path of one", program.display())]
    Command {
        /// The program.
        program: OsString,
        /// Why it did not start.
        source: std::io::Error,
    },
    /// The host was not tuned.
    #[error(transparent)]
    Tune(TuneError),
    /// Something that cannot be measured here.
    #[error("{0}")]
    Setting(String),
    /// A measurement that cannot go on.
    #[error("{0}")]
    Measuring(String),
    /// The file of a measurement.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Another program could not be started.
    #[error("starting a program: {0}")]
    Cell(std::io::Error),
    /// It is already.
    #[error("{source} (since {since})")]
    InPlace {
        /// When it was.
        since: String,
        /// What is.
        source: TuneError,
    },
}

impl From<DefenceError> for Failure {
    fn from(error: DefenceError) -> Self {
        match error {
            DefenceError::Load(error) => Self::Load(error),
            error => Self::Defence(error),
        }
    }
}

impl From<MeasureError> for Failure {
    fn from(error: MeasureError) -> Self {
        match error {
            MeasureError::Record(error) => Self::Record(error),
            error => Self::Measuring(error.to_string()),
        }
    }
}

impl Failure {
    /// The exit code: 2 for what a different command line would have avoided.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Incomplete { .. }
            | Self::WithoutEffect { .. }
            | Self::Origins { .. }
            | Self::Schemes { .. }
            | Self::Http(_)
            | Self::Rate(_)
            | Self::Body { .. }
            | Self::BodyTooLarge(_)
            | Self::File { .. }
            | Self::Past(_)
            | Self::Ahead
            | Self::ScriptFile { .. }
            | Self::Script { .. }
            | Self::ServerName(_)
            | Self::Root { .. }
            | Self::RootBeyondReach { .. }
            | Self::Certificate(_)
            | Self::Tls(_)
            | Self::Defence(DefenceError::NotYours(_) | DefenceError::Rate(_))
            | Self::Start(StartError::Config(_))
            | Self::Setting(_)
            | Self::Tune(TuneError::Interface { .. } | TuneError::Wish(_)) => Exit::Usage,
            Self::Load(error) if error.is_usage() => Exit::Usage,
            Self::Target(error) if error.is_usage() => Exit::Usage,
            Self::Metrics { .. }
            | Self::Write { .. }
            | Self::Report { .. }
            | Self::Merge(_)
            | Self::Signals(_)
            | Self::Output(_)
            | Self::Target(_)
            | Self::Defence(_)
            | Self::Start(_)
            | Self::Run(_)
            | Self::Tune(_)
            | Self::Measuring(_)
            | Self::Record(_)
            | Self::Cell(_)
            | Self::InPlace { .. }
            | Self::Command { .. }
            | Self::Load(_) => Exit::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_command_line_would_have_avoided_is_usage() {
        for error in [LoadError::Replay, LoadError::Migration, LoadError::NoHttpRequest] {
            assert_eq!(Failure::Load(error).exit(), Exit::Usage);
        }
        let (local, target) = ([127, 0, 0, 1].into(), "[::1]:1".parse().unwrap());
        assert_eq!(Failure::Load(LoadError::LocalFamily { local, target }).exit(), Exit::Usage);
        let thread = StartError::Worker { worker: 1, reason: "no memory".into() };
        assert_eq!(Failure::Load(LoadError::Start(thread)).exit(), Exit::Failed);
    }

    #[test]
    fn of_several_codes_the_first_in_their_order_counts() {
        use Exit::{Broken, Failed, Interrupted, Invalid, Ok, Usage};
        assert_eq!(Exit::first_of(&[]), Ok);
        let mut codes = vec![Ok];
        for code in [Failed, Broken, Invalid, Interrupted, Usage] {
            codes.insert(codes.len() / 2, code);
            assert_eq!(Exit::first_of(&codes), code);
        }
    }
}
