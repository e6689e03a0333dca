//! quiclane is a thread-per-core QUIC engine for Linux.
//!
//! Each worker owns a core, a socket of every listen address, an io_uring (or epoll), a
//! quinn-proto endpoint and an [`App`]. Packets find their worker by connection ID; one that lands
//! elsewhere is carried home, so connections survive NAT rebinding on every rung of the steering
//! ladder.
//!
//! ```text
//! NIC ─► kernel steering ─► datapath ─► route ─► endpoint ─► app ─► endpoint ─► datapath ─► NIC
//!        (a hint)           GRO trains    ├─ Sibling ─► that worker's route        GSO trains
//!                                         ├─ Orphan ─► reset ─► datapath
//!                                         └─ Junk ─► counter
//! ```
//!
//! Start with [`Engine::start`]; `examples/smallest.rs` is a server in under 40 lines.
#![forbid(unsafe_code)]

mod app;
pub use app::{
    App, CloseReason, Conn, ConnId, ConnectionStats, DatagramError, Dir, Lane, Origin, Read,
    StreamError, StreamId, VarInt, WriteError,
};

pub mod apps;

mod cid;

pub mod clock;
pub use clock::Clock;

mod config;
pub use config::{
    Budgets, Config, Congestion, Io, Limits, Retry, Ring, ServerConfig, Steering, Transport, Xdp,
};

pub use quiclane_datapath::RingMode;

mod congestion;

mod endpoint;

mod engine;
pub use engine::{Engine, Stopper, WorkerInfo};

mod epochs;

mod error;
pub use error::{
    ConfigError, ConnectError, RunError, StartError, StateError, SteerError, TlsError,
};

mod identity;

mod ip;

mod keeper;

mod keys;

mod limits;

mod listen;

pub mod metrics;
pub use metrics::Metrics;

mod notices;
pub use notices::Notice;

mod placement;
pub use placement::allowed as allowed_cores;

mod plan;
pub use plan::Plan;

mod pool;

mod privileges;

mod reset;

mod reuse;

mod route;

#[cfg(feature = "sim")]
pub mod sim;

mod state;
pub use state::rotate_keys;

mod steer;
pub use steer::{FrameCount, KernelCounts};

mod timers;

mod tls;
pub use tls::{ClientTls, Provider, Resume, ServerTls, Target, Trust};

mod toss;

mod transport;

mod worker;
