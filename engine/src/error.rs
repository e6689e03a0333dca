//! error names everything that can go wrong before and after packets flow, with the remedy.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use quiclane_datapath::{SetupError, SocketError, WaitError};

/// A choice that cannot be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// More workers than the connection ID can name.
    #[error("{0} workers: at most 255, one byte of the connection ID names the worker")]
    TooManyWorkers(usize),
    /// `cores` and `workers` disagree.
    #[error("{cores} cores for {workers} workers: give one core for each worker, or none")]
    CoresMismatch {
        /// Cores given.
        cores: usize,
        /// Workers asked for.
        workers: usize,
    },
    /// A core this process may not use.
    #[error("core {core} is not among the cores this process may use ({allowed})")]
    CoreNotAllowed {
        /// The core asked for.
        core: usize,
        /// Those it may use.
        allowed: String,
    },
    /// A server without an address.
    #[error("no address to listen on: give at least one")]
    NoListen,
    /// More addresses than a tossed datagram can name.
    #[error("{0} addresses to listen on: at most 256; [::]:PORT takes all of this host at once")]
    TooManyListen(usize),
    /// The same packets would belong to two listeners.
    #[error("listening on {0} and on {1}: they overlap, leave one out")]
    ListenTwice(SocketAddr, SocketAddr),
    /// Too long a server ID.
    #[error("server ID of {0} bytes: at most 8")]
    ServerIdTooLong(usize),
    /// A transport or limit value out of range.
    #[error("{name} is {value}: {remedy}")]
    OutOfRange {
        /// The setting.
        name: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        remedy: &'static str,
    },
}

/// A way of steering that this host refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SteerError {
    /// The eBPF programs could not be set up.
    #[error("{}", .0.in_short())]
    Programs(#[from] quiclane_ebpf::SteeringError),
    /// XDP could not be attached.
    #[error(transparent)]
    Attach(#[from] quiclane_ebpf::AttachError),
    /// The kernel did not take the classic program.
    #[error("{0}")]
    Cbpf(#[source] SocketError),
    /// The interfaces could not be listed.
    #[error("listing the interfaces: {0}")]
    Interfaces(#[source] io::Error),
    /// XDP was asked for, and there is nothing to put it on.
    #[error("no interface for XDP: {0}")]
    NoInterface(String),
}

/// TLS material that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// QUIC requires ALPN (RFC 9001 section 8.1).
    #[error("no application protocol: QUIC requires at least one ALPN name")]
    NoAlpn,
    /// The provider cannot protect Initial packets.
    #[error("the crypto provider lacks TLS13_AES_128_GCM_SHA256, which QUIC Initial packets need")]
    NoInitialSuite,
    /// What rustls says.
    #[error("certificate or key: {error}{}", tls_remedy(.0), error = .0)]
    Rustls(rustls::Error),
}

/// What a person can do about a certificate or key that rustls refuses.
fn tls_remedy(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InconsistentKeys(_) => "; give the key that the certificate was made with",
        _ => "",
    }
}

/// A state directory that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A file operation failed.
    #[error("{action} {path}: {source}; {}", state_remedy(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Written by a program that lays it out differently.
    #[error(
        "{path} says version {found:?}, this program writes version 1: use another --state-dir"
    )]
    Version {
        /// The VERSION file.
        path: PathBuf,
        /// Its content.
        found: String,
    },
    /// A file does not hold what it should.
    #[error("{path} is damaged ({what}): restore it, or delete the directory to start afresh")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Others could read the master key.
    #[error(
        "{path} can be read by others (mode {mode:o}): chmod 600 it, and rotate the key if seen"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others could say what happened to epochs, or keep every start waiting.
    #[error("{path} can be {how} by others (mode {mode:o}): chmod {remedy} it")]
    Shared {
        /// The directory, or a file in it.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// What others can do.
        how: &'static str,
        /// The mode it should have.
        remedy: &'static str,
    },
    /// Somebody else's.
    #[error(
        "{0} is locked by another process, longer than any start takes: see which with fuser {0}, \
         and end it"
    )]
    Busy(PathBuf),
    /// An epoch whose connections nobody could end.
    #[error(
        "the master key that {0} names is not there: restore it (master, or master.N of the next \
         N), or remove {0}: its clients then wait for their idle timeout"
    )]
    Master(PathBuf),
    /// Seen by a server that runs.
    #[error(
        "{0} is not this process's any more, so the directory was removed or replaced; this \
         server goes on with the keys that it has: start it again soon"
    )]
    Replaced(PathBuf),
    /// There is nothing to change.
    #[error("no server has used {0} yet: give the --state-dir of one")]
    Unused(PathBuf),
    /// Root sees files of others only with the capabilities that it is about to give up.
    #[error(
        "{path} belongs to user {owner}: this server, which is root, gives its capabilities up at \
         the start, and could not read it from then on; chown -R 0 {}, start the server as user \
         {owner}, or give --keep-capabilities",
        directory.display()
    )]
    Owner {
        /// The state directory.
        directory: PathBuf,
        /// What belongs to somebody else: the directory or a file in it.
        path: PathBuf,
        /// The user's number.
        owner: u32,
    },
    /// Every epoch byte is live, draining or retired.
    #[error(
        "no free epoch byte in {0}: 256 starts within the time that retired epochs are kept \
         (--retired-for); wait for the oldest to expire, or keep them shorter"
    )]
    NoEpoch(PathBuf),
}

impl StateError {
    pub(crate) fn damaged(path: PathBuf, what: &str) -> Self {
        Self::Damaged { path, what: what.to_owned() }
    }
}

/// What a person can do about a state directory that refuses an operation.
fn state_remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "--state-dir must be a folder, not a file"
        }
        io::ErrorKind::PermissionDenied => {
            "let this user read and write the folder (chown), or give another --state-dir"
        }
        io::ErrorKind::ReadOnlyFilesystem => "give a --state-dir on a writable file system",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free space there",
        io::ErrorKind::Unsupported => "give a --state-dir on a local file system, which has locks",
        _ => "give a --state-dir that this user may read and write",
    }
}

/// Why an engine did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateError),
    /// A datapath.
    #[error(transparent)]
    Datapath(#[from] SetupError),
    /// A socket.
    #[error("listening on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: SocketError,
    },
    /// A rung of the steering ladder that was asked for by name.
    #[error(
        "steering: {0}; with --steering auto the server would take the next way that works here"
    )]
    Steer(#[from] SteerError),
    /// The capabilities of the process could not be given up.
    #[error("dropping capabilities: {0}")]
    Capabilities(String),
    /// Another process serves on the same address.
    #[error("{0} is already in use: stop the other server or choose another port")]
    InUse(SocketAddr),
    /// A thread.
    #[error("starting worker {worker}: {reason}")]
    Worker {
        /// Which.
        worker: usize,
        /// Why not.
        reason: String,
    },
}

/// Why a running engine ended in failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The datapath of a worker cannot go on.
    #[error("worker {worker}: {source}")]
    Wait {
        /// Which worker.
        worker: usize,
        /// Why.
        source: WaitError,
    },
    /// A worker panicked: a bug.
    #[error("worker {0} panicked: please report this with the log")]
    Panicked(usize),
}

/// Why no connection was started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// [`Limits::connections`](crate::Limits::connections) is reached.
    #[error("limit connections ({0} per worker) reached")]
    ConnectionLimit(usize),
    /// No socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The address or name cannot be used.
    #[error("{0}")]
    Target(String),
}
