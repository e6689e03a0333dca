//! arm is what is compared: a way to start the server and the generator, and values of the host.

use serde::{Deserialize, Serialize};

/// What differs from the baseline. The baseline is an arm of which everything is empty.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// What people call it: `io=epoll`.
    pub name: String,
    /// The program of the server, another build of quiclane. Default: the one that measures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Flags of `quiclane serve`.
    pub serve: Vec<String>,
    /// Flags of `quiclane load`.
    pub load: Vec<String>,
    /// Knobs of the host with their values, set for each cell and put back after it.
    pub set: Vec<(String, String)>,
    /// The share of the time for which the server is stopped, from 0 to 1: a difference whose size
    /// is known.
    pub handicap: f64,
    /// What it does, for a reader.
    pub about: String,
}

impl Arm {
    /// What everything is compared with.
    #[must_use]
    pub fn baseline() -> Self {
        Self { name: "baseline".into(), ..Self::default() }
    }
}

/// What is measured; each cell has one figure of it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Workload {
    /// Requests of a few packets, answered in full a second.
    Requests,
    /// Long responses, Gbit/s of payload.
    Bulk,
    /// Full handshakes a second.
    Handshakes,
    /// Answered in time a second, of more requests than can be answered.
    Overload,
    /// Median of the latency at a low rate, microseconds.
    Latency,
    /// 99th percentile of the latency at the same rate, microseconds.
    Tail,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Requests, Self::Bulk, Self::Handshakes, Self::Overload, Self::Latency, Self::Tail];

    /// As `--workload` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Bulk => "bulk",
            Self::Handshakes => "handshakes",
            Self::Overload => "overload",
            Self::Latency => "latency",
            Self::Tail => "tail",
        }
    }

    /// The unit of its figure.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Requests => "requests/s",
            Self::Bulk => "Gbit/s",
            Self::Handshakes => "handshakes/s",
            Self::Overload => "requests/s in time",
            Self::Latency => "us (p50)",
            Self::Tail => "us (p99)",
        }
    }

    /// 1 if more is better, -1 if less is: effects are printed as they are, and judged by this.
    #[must_use]
    pub const fn sign(self) -> f64 {
        match self {
            Self::Latency | Self::Tail => -1.0,
            Self::Requests | Self::Bulk | Self::Handshakes | Self::Overload => 1.0,
        }
    }
}

/// What a block is measured for.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The baseline against itself: what noise looks like here.
    Calibrate,
    /// One arm at a time against the baseline.
    Screen,
    /// The best few again, so that luck in the screening is not taken for an effect.
    Confirm,
}

impl Phase {
    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calibrate => "calibrate",
            Self::Screen => "screen",
            Self::Confirm => "confirm",
        }
    }
}

/// Which of the two a cell is of.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The baseline.
    A,
    /// The arm.
    B,
}
