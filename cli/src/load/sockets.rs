//! sockets is where connections come from, and how often that changes.

use std::num::NonZero;
use std::time::Duration;

use clap::{Args, ValueEnum};
use quiclane_loadgen::{KeyUpdates, LocalAddresses, MIGRATE_EVERY_MIN, Sockets};

use crate::flags::{count, time};

/// Where connections come from.
#[derive(Args, Clone, Debug)]
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

/// Keys of open connections.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "QUIC")]
pub(super) struct KeyOptions {
    /// Update the keys of each connection (RFC 9001 section 6) once in this time, at least 100ms,
    /// or with a plain number after so many requests on it [default: as often as TLS wants]
    #[arg(long, value_name = "TIME|N", value_parser = key_updates, conflicts_with = "handshakes")]
    pub(super) key_update_every: Option<KeyUpdates>,
}

/// `10s`, or `1000` requests.
fn key_updates(text: &str) -> Result<KeyUpdates, String> {
    match count(text).ok().map(NonZero::new) {
        Some(Some(requests)) if !text.ends_with('m') => Ok(KeyUpdates::Requests(requests)),
        Some(None) => Err("must be at least 1".into()),
        _ => migrate_every(text).map(KeyUpdates::Every),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_updates_go_by_time_or_by_requests() {
        let requests = |number| Ok(KeyUpdates::Requests(NonZero::new(number).unwrap()));
        assert_eq!(key_updates("1000"), requests(1_000));
        assert_eq!(key_updates("10k"), requests(10_000));
        let every = |seconds| Ok(KeyUpdates::Every(Duration::from_secs(seconds)));
        assert_eq!(key_updates("10s"), every(10));
        assert_eq!(key_updates("2m"), every(120), "minutes, as everywhere in times");
        for wrong in ["", "0", "-1", "50ms", "x"] {
            assert!(key_updates(wrong).is_err(), "{wrong}");
        }
    }
}
