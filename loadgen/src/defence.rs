//! defence abuses a server of one's own, within limits, and watches what its ordinary users see.
//!
//! ```text
//! probe  ── before ──┬── during ──┬── after ──►   an ordinary user, on connections of its own
//! abuse              └────────────┘               one kind of it, at a rate
//! ```
//!
//! What goes out comes from this host's own addresses, at a rate with a limit, and only to loopback
//! unless somebody says that the server is theirs.
//!
//! Invariant: everything that was due is done, or held back by the server, or counted as not kept
//! up with.

mod abuse;
mod abuser;
mod calmness;
mod conduct;
mod due;
mod ending;
mod heard;
mod initials;
mod junk;
mod phase;
mod placement;
mod probe;
mod report;
mod seats;
mod seen;
mod sender;
mod switch;
mod text;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use calmness::Calmness;
pub use ending::DefenceEnding;
pub use phase::PhaseReport;
pub use report::{
    AbuseReport, CloseCount, CloseLayer, ConnectionCounts, DatagramAnswers, DefenceReport,
    ProbeReport, StreamCounts, Traffic,
};
use serde::Serialize;

use crate::config::{LoadConfig, LoadError, Stop};
use crate::load::Load;
use switch::Switch;

/// What is done to the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// First Initials with a whole ClientHello, each of a connection of its own, never continued.
    InitialFlood,
    /// Handshakes up to the server's flight (a Retry is followed), then silence.
    HandshakeAbandon,
    /// Complete handshakes, closed at once.
    Churn,
    /// Requests that are sent, and reset and stopped right after.
    RapidReset,
    /// Requests whose responses are left lying.
    SlowReader,
    /// As many streams as the server allows, each with one byte and no end.
    StreamExhaustion,
    /// Datagrams that are no QUIC, or only look like it.
    Junk,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::InitialFlood,
        Self::HandshakeAbandon,
        Self::Churn,
        Self::RapidReset,
        Self::SlowReader,
        Self::StreamExhaustion,
        Self::Junk,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InitialFlood => "initial-flood",
            Self::HandshakeAbandon => "handshake-abandon",
            Self::Churn => "churn",
            Self::RapidReset => "rapid-reset",
            Self::SlowReader => "slow-reader",
            Self::StreamExhaustion => "stream-exhaustion",
            Self::Junk => "junk",
        }
    }

    /// What the rate counts.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::InitialFlood => "Initials",
            Self::HandshakeAbandon | Self::Churn => "handshakes",
            Self::RapidReset | Self::SlowReader => "requests",
            Self::StreamExhaustion => "streams",
            Self::Junk => "datagrams",
        }
    }

    /// Whether it needs no connection, only datagrams, which come from one thread.
    #[must_use]
    pub const fn is_datagrams(self) -> bool {
        matches!(self, Self::InitialFlood | Self::HandshakeAbandon | Self::Junk)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What to do, to whom, and who watches.
#[derive(Clone, Debug)]
pub struct DefenceConfig {
    /// What is done.
    pub kind: Kind,
    /// How often a second, of the kind's unit; 1 to [`DEFENCE_RATE_MAX`].
    pub rate: u64,
    /// How long it is done.
    pub length: Duration,
    /// How long the probe watches before, and after.
    pub calm: Duration,
    /// Somebody has said that the server is theirs. Without that only loopback addresses are
    /// targets.
    pub is_own: bool,
    /// Who is abused: target, protocol with its requests, connections, streams, workers and
    /// transport. Its pace and end are those above. Without cores it keeps off that of the probe.
    pub abuse: LoadConfig,
    /// What ordinary users ask for, with a pace. Its end is that of each part of the test; its
    /// objectives are held against the time of the abuse.
    pub probe: LoadConfig,
}

impl DefenceConfig {
    /// Whether it can be started, as far as that is known before.
    ///
    /// # Errors
    /// When it asks for what is impossible, or not allowed.
    pub fn check(&self) -> Result<(), DefenceError> {
        let targets = self.abuse.targets.iter().chain(&self.probe.targets);
        let foreign = targets
            .map(|target| target.address)
            .find(|address| !address.ip().to_canonical().is_loopback());
        if let Some(address) = foreign.filter(|_| !self.is_own) {
            return Err(DefenceError::NotYours(address));
        }
        if !(1..=DEFENCE_RATE_MAX).contains(&self.rate) {
            return Err(DefenceError::Rate(self.rate));
        }
        Load::check(&LoadConfig { stop: Stop::Duration(self.length), ..self.abuse.clone() })?;
        [self.length, self.calm].into_iter().try_for_each(|length| probe::check(self, length))?;
        Ok(())
    }
}

/// Why there is no test, or no result of one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefenceError {
    /// A server that may be somebody else's.
    #[error(
        "{0} is not a loopback address, and nobody said that what listens there is theirs: test \
         your own server only, and say so with --i-own-this-target"
    )]
    NotYours(SocketAddr),
    /// Too fast, or not at all.
    #[error("a rate of {0} a second: give 1 to {DEFENCE_RATE_MAX}")]
    Rate(u64),
    /// A socket for datagrams.
    #[error("no socket to send to {address} from: {source}; see whether there is a route to it")]
    Socket {
        /// Where to.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A thread.
    #[error("no thread could be started: {0}; raise `ulimit -u`")]
    Thread(io::Error),
    /// The test itself failed.
    #[error("a thread of the test panicked: its other output says why")]
    Panicked,
    /// The probe, or the connections of the abuse.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// A test under way.
#[derive(Debug)]
pub struct Defence {
    switch: Arc<Switch>,
    thread: JoinHandle<Result<DefenceReport, DefenceError>>,
}

impl Defence {
    /// Starts a test.
    ///
    /// # Errors
    /// When `config` asks for what is impossible, or not allowed.
    pub fn start(config: DefenceConfig) -> Result<Self, DefenceError> {
        config.check()?;
        let switch = Arc::new(Switch::default());
        let shared = Arc::clone(&switch);
        let thread = thread::Builder::new()
            .name("quiclane-defence".into())
            .spawn(move || conduct::conduct(config, &shared))
            .map_err(DefenceError::Thread)?;
        Ok(Self { switch, thread })
    }

    /// Which part of the test is under way.
    #[must_use]
    pub fn phase(&self) -> &'static str {
        self.switch.phase()
    }

    /// Ends it early; the report says what was seen until then.
    pub fn stop(&self) {
        self.switch.interrupt();
    }

    /// Whether [`join`](Self::join) would return at once.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end and reports.
    ///
    /// # Errors
    /// When a part of the test could not go on.
    pub fn join(self) -> Result<DefenceReport, DefenceError> {
        self.thread.join().unwrap_or(Err(DefenceError::Panicked))
    }
}

/// The highest rate. A server's limits show far below it: ours asks for a proof of address at some
/// hundred Initials. More would only fill the link: 100,000 datagrams of 1,200 bytes a second are a
/// gigabit.
pub const DEFENCE_RATE_MAX: u64 = 100_000;
