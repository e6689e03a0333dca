//! The command line, plain data.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures our server beside stock QUIC servers, one core each, same client, same work.
#[derive(Debug, Parser)]
pub(crate) struct Args {
    /// The `quiclane` binary; without it only the other peers run.
    #[arg(long)]
    pub(crate) quiclane: Option<PathBuf>,
    /// I/O backends of quiclane, a row each.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "uring,epoll")]
    pub(crate) backends: Vec<Backend>,
    /// Cryptography of quinn, a row each. The first one is what all ratios refer to.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "aws-lc-rs")]
    pub(crate) providers: Vec<Provider>,
    /// Build the quinn server with mimalloc in place of the system's allocator.
    #[arg(long)]
    pub(crate) mimalloc: bool,
    /// Kinds of work, a table each (requests: two).
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "download,upload,requests,handshakes"
    )]
    pub(crate) modes: Vec<Mode>,
    /// Repetitions of everything; medians want at least three.
    #[arg(long, default_value_t = 3)]
    pub(crate) reps: usize,
    /// Bytes measured in download and upload, with suffix KiB, MiB or GiB.
    #[arg(long, default_value = "1GiB")]
    pub(crate) bulk: String,
    /// Bytes moved before them on the same connection.
    #[arg(long, default_value = "64MiB")]
    pub(crate) warm_up: String,
    /// Seconds measured in requests and handshakes.
    #[arg(long, default_value = "2")]
    pub(crate) measure: String,
    /// Seconds run before them.
    #[arg(long, default_value = "0.5")]
    pub(crate) settle: String,
    /// Core the servers are pinned to.
    #[arg(long, default_value_t = 0)]
    pub(crate) server_core: usize,
    /// Core the client is pinned to.
    #[arg(long, default_value_t = 1)]
    pub(crate) client_core: usize,
    /// A run in which something else used more than this share of either core is repeated, and in
    /// the end left out. 1 keeps everything, on a busy machine; trust no figure then.
    #[arg(long, default_value_t = 0.05)]
    pub(crate) foreign_max: f64,
    /// How often a disturbed run is tried before it is left out.
    #[arg(long, default_value_t = 3)]
    pub(crate) tries: usize,
    /// Seed of the order in which peers run; it is printed, so that a run can be repeated.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Write every single run to this file as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
}

/// How quiclane moves datagrams.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Backend {
    /// io_uring.
    Uring,
    /// epoll.
    Epoll,
}

/// Cryptography of the quinn server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Provider {
    /// quiclane's default.
    AwsLcRs,
    /// quinn's default.
    Ring,
}

/// A kind of work.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Mode {
    /// One connection, one long answer.
    Download,
    /// One connection, one long request.
    Upload,
    /// 1 KiB requests and answers over 10 connections.
    Requests,
    /// New connections.
    Handshakes,
}
