//! config is everything a user can choose about a run, as plain data.

mod check;
mod error;
pub use error::LoadError;

use std::num::NonZero;
use std::time::Duration;

use quiclane::{Io, StartError, Target, Transport};

use crate::local::LocalAddresses;
use crate::partition::{Partition, part};
use crate::protocol::Protocol;
use crate::schedule::{Arrivals, Rate, Replay};
use crate::slo::Slo;

/// What to ask for, of whom, how much and how long.
#[derive(Clone, Debug)]
pub struct LoadConfig {
    /// Where to connect to; connections are spread over several targets in turn.
    pub targets: Vec<Target>,
    /// What is spoken; default [`Protocol::Perf`]. The TLS of the targets has to offer it.
    pub protocol: Protocol,
    /// What each connection does.
    pub workload: Workload,
    /// Connections in all, spread over the workers. In [`Workload::Handshakes`] the handshakes
    /// in flight.
    pub connections: usize,
    /// Requests in flight on each connection, at most so many in an open loop. The
    /// server's stream limit may allow fewer.
    pub streams: u32,
    /// Requests after which a connection is closed and another one opened; `None`: never. Not
    /// with [`Workload::Handshakes`]. Targets that resume sessions send the first requests of
    /// later connections as 0-RTT data where they may.
    pub requests_per_connection: Option<NonZero<u64>>,
    /// Default no. With [`Workload::Idle`]: replaces connections that end, whatever ended them,
    /// and those that never began; all other workloads always do. With [`Workload::Http`]:
    /// requests that a server refuses with GOAWAY are sent again on the next connection, instead
    /// of failing as `going_away`. Others have no use for it.
    pub reconnect: bool,
    /// When requests are sent, whatever became of those before (an open loop); `None`: when one
    /// of those in flight has ended (a closed loop). Not with [`Workload::Handshakes`] and
    /// [`Workload::Idle`], which make none.
    pub pace: Option<Pace>,
    /// Requests at recorded times instead of at a rate, in an open loop as with `pace`. Not with
    /// `pace` and a warm-up; the run ends by duration, or by a number of requests that it has.
    pub replay: Option<Replay>,
    /// What the run has to keep; default nothing.
    pub slo: Option<Slo>,
    /// When handshakes begin. With [`Workload::Handshakes`] they are the work, and this is its open
    /// loop: a handshake is due by the schedule, whatever became of those before. With all other
    /// workloads the connections are opened, and opened again, no faster than this. `None`: as fast
    /// as handshakes end.
    pub connect_pace: Option<Pace>,
    /// When the run is over.
    pub stop: Stop,
    /// Load offered but not measured, between connecting and measuring. Only with
    /// [`Stop::Duration`].
    pub warm_up: Duration,
    /// How much longer than [`Stop::Duration`] the run waits for what was due by then and has not
    /// ended; default not at all: what is cut off is counted as cancelled. Nothing new is begun.
    pub linger: Duration,
    /// Which part of a run this is; default all of it. Connections, requests and rate are always
    /// those of the whole run.
    pub partition: Option<Partition>,
    /// When to offer load, since 1970 by the clock of this machine, so that several begin together;
    /// default as soon as all have connected. They have then been open for that long.
    pub start_at: Option<Duration>,
    /// Length of the intervals that the measured part is cut into; default 1 s, at least 10 ms. A
    /// shorter one shows shorter stalls, and takes a few hundred bytes to a few kilobytes of memory
    /// each; there are at most 100,000 of them.
    pub interval: Duration,
    /// Hand intervals out while the run lasts ([`Load::intervals`](crate::Load::intervals));
    /// default false, because what nobody takes is kept twice.
    pub live_intervals: bool,
    /// How long a handshake may take before it counts as failed.
    pub connect_timeout: Duration,
    /// How long a request may take from its first byte to the end of its response before it is
    /// cancelled and counts as failed; `None`: as long as the connection lives.
    pub request_timeout: Option<Duration>,
    /// Local addresses, which connections take in turn; `None`: that of the target. Of the IP
    /// version of the targets. A connection that is replaced comes from the same one again.
    pub locals: Option<LocalAddresses>,
    /// Default one for each connection.
    pub sockets: Sockets,
    /// Once in so much time, spread evenly over it, each open connection moves to a new socket,
    /// and to the next one of `locals`; `None`: never. At least [`MIGRATE_EVERY_MIN`], with a
    /// socket for each connection. Not with [`Workload::Handshakes`].
    pub migrate_every: Option<Duration>,
    /// How often each open connection takes new keys (RFC 9001 section 6); `None`: as often as TLS
    /// wants. Not with [`Workload::Handshakes`].
    pub key_updates: Option<KeyUpdates>,
    /// Threads; 0: one per allowed core. Never more than there are connections.
    pub workers: usize,
    /// Cores to pin the workers to, in worker order; empty: the engine chooses.
    pub cores: Vec<usize>,
    /// How datagrams enter and leave.
    pub io: Io,
    /// QUIC settings of each connection. The streams the peer may open are set to what the
    /// workload needs, whatever stands here.
    pub transport: Transport,
}

impl LoadConfig {
    /// A run against `targets` with one connection and one stream per connection.
    #[must_use]
    pub fn new(targets: Vec<Target>, workload: Workload, stop: Stop) -> Self {
        Self {
            targets,
            protocol: Protocol::default(),
            workload,
            connections: 1,
            streams: 1,
            requests_per_connection: None,
            reconnect: false,
            pace: None,
            slo: None,
            replay: None,
            connect_pace: None,
            stop,
            warm_up: Duration::ZERO,
            linger: Duration::ZERO,
            partition: None,
            start_at: None,
            interval: Duration::from_secs(1),
            live_intervals: false,
            connect_timeout: Duration::from_secs(10),
            request_timeout: None,
            locals: None,
            sockets: Sockets::default(),
            migrate_every: None,
            key_updates: None,
            workers: 0,
            cores: Vec::new(),
            io: Io::Auto,
            transport: Transport::default(),
        }
    }

    /// What this generator has to do of the whole.
    pub(crate) fn own_part(self) -> Result<Self, LoadError> {
        let Some(part) = self.partition else { return Ok(self) };
        let of = |whole: usize| usize::try_from(part.share(whole as u64)).unwrap_or(usize::MAX);
        let connections = of(self.connections);
        let stop = match self.stop {
            Stop::Requests(requests) => Stop::Requests(part.share(requests)),
            stop => stop,
        };
        if connections == 0 || stop == Stop::Requests(0) {
            return Err(LoadError::EmptyPart { connections: self.connections });
        }
        Ok(Self { connections, stop, ..self })
    }

    pub(crate) fn check(&self, open_files_max: Option<usize>) -> Result<(), LoadError> {
        if self.targets.is_empty() {
            return Err(LoadError::NoTarget);
        }
        if self.connections == 0 || self.streams == 0 {
            return Err(LoadError::NothingInFlight {
                connections: self.connections,
                streams: self.streams,
            });
        }
        match self.stop {
            Stop::Requests(0) | Stop::Duration(Duration::ZERO) => return Err(LoadError::NoWork),
            Stop::Requests(_) if !self.warm_up.is_zero() => {
                return Err(LoadError::WarmUpNeedsDuration { warm_up: self.warm_up });
            }
            Stop::Requests(_) if self.workload.is_idle() => return Err(LoadError::IdleNeedsTime),
            Stop::Never if !self.warm_up.is_zero() => {
                return Err(LoadError::WarmUpNeedsDuration { warm_up: self.warm_up });
            }
            Stop::Requests(_) | Stop::Duration(_) | Stop::Never => {}
        }
        self.check_interval()?;
        self.transport.check().map_err(StartError::from)?;
        let is_http = self.workload == Workload::Http;
        match &self.protocol {
            Protocol::Http3(requests) if is_http && requests.is_empty() => {
                return Err(LoadError::NoHttpRequest);
            }
            Protocol::Hq(requests) if is_http && requests.is_empty() => {
                return Err(LoadError::NoHttpRequest);
            }
            Protocol::Perf | Protocol::Echo(_) | Protocol::Raw { .. } if is_http => {
                return Err(LoadError::NoHttpRequest);
            }
            Protocol::Perf => {}
            _ if self.workload.sizes().is_some() => return Err(LoadError::SizesOverHttp),
            Protocol::Http3(_) | Protocol::Hq(_) | Protocol::Echo(_) | Protocol::Raw { .. } => {}
        }
        let has_body = matches!(self.protocol, Protocol::Echo(_) | Protocol::Raw { .. });
        if self.workload == Workload::Streams && !has_body {
            return Err(LoadError::StreamsNeedBody);
        }
        if self.pace.is_some() && (self.workload.is_handshakes() || self.workload.is_idle()) {
            return Err(LoadError::PaceNeedsRequests);
        }
        self.check_datagrams()?;
        self.check_requests()?;
        self.check_sockets()?;
        let is_open = self.is_open_loop();
        let impossible = self.slo.as_ref().and_then(|slo| slo.impossible(is_http, is_open));
        if let Some((term, why)) = impossible {
            return Err(LoadError::Slo { term: term.to_owned(), why });
        }
        let needed = self.open_files_needed();
        match open_files_max {
            Some(limit) if needed > limit => {
                Err(LoadError::OpenFiles { connections: self.connections, needed, limit })
            }
            _ => Ok(()),
        }
    }

    /// How often connections take new keys, if that goes by time.
    pub(crate) fn key_period(&self) -> Option<Duration> {
        match self.key_updates? {
            KeyUpdates::Every(period) => Some(period),
            KeyUpdates::Requests(_) => None,
        }
    }

    /// Whether work is done by a schedule, whatever became of what was done before.
    pub(crate) fn is_open_loop(&self) -> bool {
        self.work_pace().is_some() || self.replay.is_some()
    }

    /// The rate of the work itself, if it has one.
    pub(crate) fn work_pace(&self) -> Option<&Pace> {
        if self.workload.is_handshakes() { self.connect_pace.as_ref() } else { self.pace.as_ref() }
    }

    /// Files that are open at once with `connections`: each has a socket of its own.
    #[must_use]
    pub const fn open_files(connections: usize) -> usize {
        connections.saturating_add(OPEN_FILES_BESIDE_CONNECTIONS)
    }

    /// How long a run by number goes on while nothing is answered, and nothing is in flight at the
    /// end of that time.
    pub(crate) fn dark_max(&self) -> Duration {
        self.connect_timeout * DARK_CONNECT_TIMEOUTS
    }

    /// What worker `worker` of `workers` has to do. The shares of all workers add up exactly.
    pub(crate) fn share(&self, worker: usize, workers: usize) -> Share {
        let connections = part(self.connections as u64, worker as u64, workers as u64);
        Share {
            connections: usize::try_from(connections).unwrap_or(usize::MAX),
            quota: match self.stop {
                Stop::Requests(requests) => Some(part(requests, worker as u64, workers as u64)),
                Stop::Duration(_) | Stop::Never => None,
            },
        }
    }
}

/// What each connection does. Those with sizes are for [`Protocol::Perf`]: a request is one
/// bidirectional stream with the response size in 8 bytes, payload, FIN; its response is that many
/// bytes, FIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Workload {
    /// Requests of one size with responses of one size.
    Requests {
        /// Payload bytes after the 8 bytes that name the response size.
        request_size: u64,
        /// Bytes the server must send back.
        response_size: u64,
    },
    /// Streams that only bring this many bytes down.
    Download(u64),
    /// Streams that only take this many bytes up.
    Upload(u64),
    /// The requests of [`Protocol::Http3`] or [`Protocol::Hq`], in turn.
    Http,
    /// The body of [`Protocol::Echo`] or [`Protocol::Raw`] on each stream.
    Streams,
    /// Unreliable datagrams (RFC 9221), which [`Protocol::Echo`] sends back: at the rate of
    /// [`LoadConfig::pace`], on the open connections in turn. Those that are not back after two
    /// seconds are lost; the run waits for the last ones so long.
    Datagrams {
        /// Bytes of each, at least 8.
        size: u64,
    },
    /// Connect, close, connect again.
    Handshakes,
    /// Open the connections and hold them without any request.
    Idle,
}

impl Workload {
    /// Payload bytes up and down of one request; `None` where they are not the workload's.
    #[must_use]
    pub fn sizes(&self) -> Option<(u64, u64)> {
        match *self {
            Self::Requests { request_size, response_size } => Some((request_size, response_size)),
            Self::Download(size) => Some((0, size)),
            Self::Upload(size) => Some((size, 0)),
            Self::Http | Self::Streams | Self::Datagrams { .. } | Self::Handshakes | Self::Idle => {
                None
            }
        }
    }

    /// Bytes of a datagram, where those are the work.
    #[must_use]
    pub fn datagram_size(&self) -> Option<u64> {
        match *self {
            Self::Datagrams { size } => Some(size),
            _ => None,
        }
    }

    /// Whether connections are the work itself.
    #[must_use]
    pub fn is_handshakes(&self) -> bool {
        matches!(self, Self::Handshakes)
    }

    /// Whether connections are only held.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }
}

/// When requests are sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Pace {
    /// How many a second, all workers together.
    pub rate: Rate,
    /// How they are spread.
    pub arrivals: Arrivals,
}

/// From how many sockets connections send.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Sockets {
    /// One for each connection, as clients in the world have: the server's kernel spreads them over
    /// its queues and sockets. Default.
    #[default]
    PerConnection,
    /// One for each worker and local address: fewer files, ports and memory of the kernel, but the
    /// server sees as many flows as there are workers.
    PerWorker,
}

/// How often a connection takes new keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyUpdates {
    /// Once in so much time, the connections at equal distances over it; at least
    /// [`MIGRATE_EVERY_MIN`].
    Every(Duration),
    /// After so many requests were started on it.
    Requests(NonZero<u64>),
}

/// When a run is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// After exactly this many requests in all; handshakes in [`Workload::Handshakes`].
    Requests(u64),
    /// After this long, counted from the start of measuring.
    Duration(Duration),
    /// When somebody stops it.
    Never,
}

/// What one worker has to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Share {
    /// Connections it keeps.
    pub(crate) connections: usize,
    /// Requests (or handshakes) it starts in all; `None`: until the time is over.
    pub(crate) quota: Option<u64>,
}

/// The sockets that connections left stay open for a second: at ten a second each holds eleven.
pub const MIGRATE_EVERY_MIN: Duration = Duration::from_millis(100);

/// The payload of the largest UDP datagram over IPv6; paths take far less.
const DATAGRAM_MAX: u64 = 65_527;

/// Requests of a mix before it repeats itself: 4 MB a worker.
const ROUND_MAX: u64 = 1_000_000;

/// Long enough for a server to restart.
const DARK_CONNECT_TIMEOUTS: u32 = 3;

/// Rings, logs, libraries: what the process opens beside its connections, generously.
const OPEN_FILES_BESIDE_CONNECTIONS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Body, HttpRequest};

    fn config(stop: Stop) -> LoadConfig {
        LoadConfig::new(Vec::new(), Workload::Handshakes, stop)
    }

    #[test]
    fn shares_add_up_exactly() {
        for requests in [1, 2, 9, 10, 1_000_003] {
            for workers in [1, 2, 3, 7, 255] {
                let config = LoadConfig { connections: 300, ..config(Stop::Requests(requests)) };
                let shares: Vec<Share> =
                    (0..workers).map(|worker| config.share(worker, workers)).collect();
                assert_eq!(shares.iter().filter_map(|share| share.quota).sum::<u64>(), requests);
                assert_eq!(shares.iter().map(|share| share.connections).sum::<usize>(), 300);
            }
        }
    }

    #[test]
    fn by_duration_there_is_no_quota() {
        assert_eq!(config(Stop::Duration(Duration::from_secs(1))).share(0, 2).quota, None);
    }

    #[test]
    fn without_a_target_there_is_no_run() {
        assert!(matches!(config(Stop::Requests(1)).check(None), Err(LoadError::NoTarget)));
    }

    #[test]
    fn a_warm_up_without_a_duration_is_refused_with_what_to_add() {
        let warm_up = Duration::from_millis(1_500);
        for stop in [Stop::Requests(1), Stop::Never] {
            let config = LoadConfig { warm_up, ..LoadConfig::new(targets(), REQUESTS, stop) };
            let error = config.check(None).unwrap_err().to_string();
            for words in ["1.5s", "-d TIME", "leave out the warm-up"] {
                assert!(error.contains(words), "{words}: {error}");
            }
        }
    }

    const REQUESTS: Workload = Workload::Requests { request_size: 0, response_size: 0 };

    fn targets() -> Vec<Target> {
        let tls = quiclane::ClientTls::new(
            quiclane::Provider::default(),
            quiclane::Trust::Insecure,
            Vec::new(),
            quiclane::Resume::Off,
        );
        let (address, server_name) = (([127, 0, 0, 1], 1).into(), "localhost".into());
        vec![Target { address, server_name, tls: tls.unwrap(), local: None }]
    }

    #[test]
    fn sizes_follow_the_workload() {
        assert_eq!(Workload::Download(7).sizes(), Some((0, 7)));
        assert_eq!(Workload::Upload(7).sizes(), Some((7, 0)));
        assert_eq!(Workload::Handshakes.sizes(), None);
        assert_eq!(Workload::Idle.sizes(), None);
    }

    #[test]
    fn protocol_and_workload_have_to_fit() {
        let check = |protocol, workload| {
            let config = LoadConfig::new(targets(), workload, Stop::Requests(1));
            LoadConfig { protocol, ..config }.check(None)
        };
        let get = || HttpRequest::new("GET", "localhost", "/", Body::None).unwrap();
        let (none, one) = (|| Protocol::Http3(Vec::new()), || Protocol::Http3(vec![get()]));
        for protocol in [Protocol::Perf, none()] {
            let error = check(protocol, Workload::Http).unwrap_err();
            assert!(matches!(error, LoadError::NoHttpRequest), "{error}");
        }
        let error = check(one(), Workload::Download(1)).unwrap_err();
        assert!(matches!(error, LoadError::SizesOverHttp), "{error}");
        assert!(check(one(), Workload::Http).is_ok());
        assert!(check(none(), Workload::Handshakes).is_ok());
    }
}
