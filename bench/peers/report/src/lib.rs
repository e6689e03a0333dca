//! What one run of the measuring client says about itself and about the server.
//!
//! The client prints a [`Report`] as one line of JSON; the runner reads it back. Every figure
//! covers the measured phase alone: from its first edge to its last, warm-up excluded.

use serde::{Deserialize, Serialize};

/// Version of the fields below; a reader that meets another one must refuse it.
pub const SCHEMA: u32 = 1;

/// One run of the client.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: u32,
    /// What was done: `download`, `upload`, `requests` or `handshakes`.
    pub mode: String,
    /// Work finished between the two edges: bytes (bulk) or operations.
    pub units: u64,
    /// Wall time between the two edges.
    pub seconds: f64,
    /// `units` over `seconds`: Gbit/s (payload bits, 10^9) or operations per second.
    pub rate: f64,
    /// `Gbit/s`, `requests/s` or `handshakes/s`.
    pub rate_unit: String,
    /// How long one operation took; bulk runs have only one operation and carry none.
    pub latency_us: Option<Latency>,
    /// CPU time the client spent, kernel work on its behalf included.
    pub client_cpu_s: f64,
    /// CPU time all threads of the server spent, kernel work on their behalf included.
    pub server_cpu_s: f64,
    /// `server_cpu_s` per unit of work, in `cpu_unit`.
    pub server_cpu_per_unit: f64,
    /// `s/GiB` (bulk) or `us/op`.
    pub cpu_unit: String,
    /// `client_cpu_s` over `seconds`. Above about 0.93 the client is the limit.
    pub client_util: f64,
    /// `server_cpu_s` over `seconds`: the cores' worth the server kept busy.
    pub server_util: f64,
    /// Packets the client sent and declared lost. Losses on the way back are not seen here.
    pub lost_packets: u64,
    /// Mean size of a datagram the client received, bytes of UDP payload.
    pub received_datagram_bytes: f64,
    /// Mean datagrams in one receive buffer: how well the server batches (GSO in, GRO out).
    pub received_datagrams_per_message: f64,
    /// Time something else spent on the server's core, over `seconds`. Absent when the server may
    /// run on more than one core.
    pub foreign_on_server_core: Option<f64>,
    /// The same for the client's core.
    pub foreign_on_client_core: Option<f64>,
}

/// Time from the moment an operation was due to the end of its answer, in microseconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl Report {
    /// The larger of the two foreign shares; zero when neither is known.
    pub fn foreign_max(&self) -> f64 {
        let server = self.foreign_on_server_core.unwrap_or(0.0);
        let client = self.foreign_on_client_core.unwrap_or(0.0);
        server.max(client)
    }
}
