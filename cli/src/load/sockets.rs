//! sockets is where connections come from, and how often that changes.

use std::time::Duration;

use clap::{Args, ValueEnum};
use quiclane_loadgen::{LocalAddresses, MIGRATE_EVERY_MIN, Sockets};

use crate::flags::time;

/// Where connections come from.
#[derive(Args, Debug)]
#[command(next_help_heading = "Sockets and addresses")]
pub(super) struct SocketOptions {
    /// Local addresses to send from, taken in turn by the connections: addresses and networks, with
    /// commas between them, for example 127.0.0.2,127.1.0.0/16 [default: any]
    #[arg(long, value_name = "LIST|CIDR")]
    pub(super) local_addr: Option<LocalAddresses>,

    /// From how many sockets connections send
    #[arg(long, value_enum, value_name = "HOW", default_value_t = SocketsFlag::PerConn)]
    sockets: SocketsFlag,

    /// Once in this time, spread evenly over it, each connection moves to a new local port, and to
    /// the next of several --local-addr; at least 100ms [default: never]
    #[arg(long, value_name = "TIME", value_parser = migrate_every, conflicts_with = "handshakes")]
    pub(super) migrate_every: Option<Duration>,
}

/// --sockets.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum SocketsFlag {
    /// One for each connection, as clients in the world have
    PerConn,
    /// One for each worker and local address: for more connections than files or ports allow
    PerCore,
}

impl SocketOptions {
    /// As the load generator wants them.
    pub(super) fn sockets(&self) -> Sockets {
        match self.sockets {
            SocketsFlag::PerConn => Sockets::PerConnection,
            SocketsFlag::PerCore => Sockets::PerWorker,
        }
    }

    /// --migrate-every beside shared sockets, as it would be written.
    pub(super) fn migrates_shared(&self) -> Option<String> {
        let every = self.migrate_every.filter(|_| self.sockets == SocketsFlag::PerCore)?;
        Some(format!("--migrate-every {}", humantime::format_duration(every)))
    }
}

fn migrate_every(text: &str) -> Result<Duration, String> {
    match time(text)? {
        every if every < MIGRATE_EVERY_MIN => Err("must be at least 100ms".into()),
        every => Ok(every),
    }
}
