//! error is why there is no run, or no result of one.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use quiclane::{RunError, StartError};

use super::{DATAGRAM_MAX, MIGRATE_EVERY_MIN, ROUND_MAX};
use crate::series::{INTERVAL_MIN, INTERVALS_MAX};

/// Why there is no run, or no result of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// Nowhere to connect to.
    #[error("no target to connect to: give at least one")]
    NoTarget,
    /// Nothing would ever be in flight.
    #[error("{connections} connections with {streams} streams each: both must be at least 1")]
    NothingInFlight {
        /// Connections asked for.
        connections: usize,
        /// Streams per connection asked for.
        streams: u32,
    },
    /// Zero requests or zero time.
    #[error("a run of no requests or no time: ask for at least one request or some time")]
    NoWork,
    /// A fixed number of requests cannot be warmed up for.
    #[error(
        "a warm-up of {warm_up:?} needs a run by duration, as its requests do not count: add a \
         duration (-d TIME, or Stop::Duration), or leave out the warm-up"
    )]
    WarmUpNeedsDuration {
        /// The warm-up asked for.
        warm_up: Duration,
    },
    /// There is nothing to ask for.
    #[error("no HTTP request to make: give Protocol::Http3 or Protocol::Hq at least one")]
    NoHttpRequest,
    /// Only `perf` has such a thing.
    #[error(
        "response sizes can be asked for with Protocol::Perf alone: use Workload::Http, or \
         Workload::Streams with Protocol::Echo and Protocol::Raw"
    )]
    SizesOverHttp,
    /// Datagrams that nobody can send.
    #[error(
        "datagrams have 8 to {DATAGRAM_MAX} bytes, a rate and a duration, and go to a server of \
         Protocol::Echo: give all of these"
    )]
    Datagrams,
    /// There is nothing to send.
    #[error(
        "Workload::Streams sends the body of Protocol::Echo or Protocol::Raw: give one of them"
    )]
    StreamsNeedBody,
    /// Connections that are held make no requests.
    #[error("idle connections make no requests: end the run by duration, or stop it")]
    IdleNeedsTime,
    /// There is nothing to send at a rate.
    #[error("a rate of requests needs a workload that makes them: leave LoadConfig::pace empty")]
    PaceNeedsRequests,
    /// Nothing is left for it.
    #[error(
        "a part of {connections} connections has none: ask for at least as many connections (-c), \
         and requests (-n), as there are parts"
    )]
    EmptyPart {
        /// Connections of the whole run.
        connections: usize,
    },
    /// An objective that no such run can keep.
    #[error("the objective {term} {why}")]
    Slo {
        /// Which one.
        term: String,
        /// Why, and what else there is.
        why: &'static str,
    },
    /// Too short to say anything.
    #[error("intervals of {interval:?} are too short: write at least {INTERVAL_MIN:?}")]
    IntervalTooShort {
        /// What was asked for.
        interval: Duration,
    },
    /// Too many to keep.
    #[error(
        "{count} intervals of {interval:?} are more than {INTERVALS_MAX}: write --interval \
         {remedy:?} or more, or a shorter run"
    )]
    Intervals {
        /// How many there would be.
        count: u64,
        /// What was asked for.
        interval: Duration,
        /// The shortest one that would do.
        remedy: Duration,
    },
    /// The mix would not be remembered.
    #[error(
        "the weights of the requests make a round of {round}, at most {ROUND_MAX}: give smaller \
         weights, or some with more in common"
    )]
    Weights {
        /// The sum of the weights, less what they have in common.
        round: u64,
    },
    /// Recorded requests beside something else that says when, or which.
    #[error(
        "recorded requests say when and which requests are sent: leave out rate and warm-up, ask \
         for no more requests than they are, and of those alone that the protocol has"
    )]
    Replay,
    /// An address that connections shall come from.
    #[error(
        "local address {address} cannot be bound: {source}; give one that this host has (`ip \
         addr`), or make it one (`ip addr add`, whole networks `ip route add local NET dev lo`)"
    )]
    LocalAddress {
        /// The address.
        address: IpAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// An address that cannot reach a target.
    #[error("local address {local} cannot reach {target}: use the same IP version")]
    LocalFamily {
        /// The first local address.
        local: IpAddr,
        /// A target.
        target: SocketAddr,
    },
    /// Keys that shall be updated and cannot.
    #[error(
        "keys are updated once in {} ms at most, or after requests, of connections that stay open",
        MIGRATE_EVERY_MIN.as_millis()
    )]
    KeyUpdates,
    /// Connections that shall move and cannot.
    #[error(
        "connections can move to another socket once in {} ms at most, if each has one of its own, \
         and not where handshakes are the work",
        MIGRATE_EVERY_MIN.as_millis()
    )]
    Migration,
    /// Each connection has a socket of its own.
    #[error(
        "{connections} connections need about {needed} open files, the limit is {limit}: raise it \
         with `ulimit -n {needed}` or ask for fewer connections"
    )]
    OpenFiles {
        /// Connections asked for.
        connections: usize,
        /// Sockets and the rest.
        needed: usize,
        /// RLIMIT_NOFILE.
        limit: usize,
    },
    /// The engine did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The engine failed in mid-run.
    #[error(transparent)]
    Run(#[from] RunError),
}

impl LoadError {
    /// Whether another configuration would have avoided it.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::NoTarget
            | Self::NothingInFlight { .. }
            | Self::NoWork
            | Self::WarmUpNeedsDuration { .. }
            | Self::NoHttpRequest
            | Self::SizesOverHttp
            | Self::Datagrams
            | Self::StreamsNeedBody
            | Self::IdleNeedsTime
            | Self::PaceNeedsRequests
            | Self::EmptyPart { .. }
            | Self::Slo { .. }
            | Self::IntervalTooShort { .. }
            | Self::Intervals { .. }
            | Self::Weights { .. }
            | Self::Replay
            | Self::LocalAddress { .. }
            | Self::LocalFamily { .. }
            | Self::KeyUpdates
            | Self::Migration
            | Self::OpenFiles { .. }
            | Self::Start(StartError::Config(_)) => true,
            Self::Start(_) | Self::Run(_) => false,
        }
    }
}
