//! report puts the runs of a demo together with what the server saw of them.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use quiclane::metrics::WorkerSnapshot;
use quiclane::{Engine, Plan};
use quiclane_loadgen::{Report, group};
use serde::Serialize;

/// The result of a demo; serialised, the `demo` object of the JSON contract.
#[derive(Debug, Serialize)]
pub(super) struct DemoReport {
    schema: u32,
    ok: bool,
    duration_s: f64,
    io: String,
    steering: String,
    workers: Vec<WorkerReport>,
    perf: Report,
    http3: Report,
    /// Requests per second over HTTP/3, by those over perf.
    http3_per_perf: f64,
    bulk: Report,
    handshakes: Report,
}

/// What one worker of the server saw.
#[derive(Debug, Serialize)]
pub(super) struct WorkerReport {
    id: usize,
    core: Option<usize>,
    /// Incoming connections whose handshake began here.
    connections: u64,
    /// Datagrams received on the worker's own sockets.
    datagrams: u64,
    /// Datagrams that belonged to another worker and were carried there.
    tossed: u64,
}

impl WorkerReport {
    /// One for each worker.
    pub(super) fn all(plan: &Plan, snapshots: &[WorkerSnapshot]) -> Vec<Self> {
        let cores = plan.cores().iter().copied().chain(std::iter::repeat(None));
        snapshots
            .iter()
            .zip(cores)
            .enumerate()
            .map(|(id, (snapshot, core))| Self {
                id,
                core,
                connections: snapshot.accepted,
                datagrams: snapshot.received,
                tossed: snapshot.sibling,
            })
            .collect()
    }
}

impl DemoReport {
    /// Of the four runs in their order.
    pub(super) fn new(
        plan: &Plan,
        workers: Vec<WorkerReport>,
        duration: Duration,
        [perf, http3, bulk, handshakes]: [Report; 4],
    ) -> Self {
        // Both rates are of runs that went well, or all is not well anyway.
        let ratio = http3.requests_per_s / perf.requests_per_s.max(f64::MIN_POSITIVE);
        Self {
            schema: 1,
            ok: perf.ok && http3.ok && bulk.ok && handshakes.ok,
            duration_s: rounded(duration.as_secs_f64()),
            io: plan.io().into(),
            steering: plan.steering().into(),
            workers,
            perf,
            http3,
            http3_per_perf: rounded(ratio),
            bulk,
            handshakes,
        }
    }

    /// Whether nothing failed.
    pub(super) fn is_ok(&self) -> bool {
        self.ok
    }
}

impl fmt::Display for DemoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "What the server's workers saw")?;
        writeln!(
            f,
            "{:>6} {:>6} {:>12} {:>14} {:>12}",
            "worker", "core", "connections", "datagrams", "tossed"
        )?;
        for WorkerReport { id, core, connections, datagrams, tossed } in &self.workers {
            let core = core.map_or_else(|| "any".into(), |core| core.to_string());
            let (connections, datagrams) = (group(*connections), group(*datagrams));
            let tossed = group(*tossed);
            writeln!(f, "{id:>6} {core:>6} {connections:>12} {datagrams:>14} {tossed:>12}")?;
        }
        let (perf, http3) = (self.perf.requests_per_s, self.http3.requests_per_s);
        let percent = self.http3_per_perf * 100.0;
        writeln!(f, "\nrequests/s of 1 KiB: perf {perf:.0}, HTTP/3 {http3:.0}: {percent:.0} %")?;
        let verdict = if self.ok { "nothing failed" } else { "something failed, see above" };
        writeln!(f, "demo: {verdict}, in {:.1} s", self.duration_s)?;
        write!(f, "{NEXT}")
    }
}

fn rounded(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

/// What is about to happen, and on what.
pub(super) fn introduction(engine: &Engine, address: SocketAddr) -> String {
    let plan = engine.plan();
    let mut text = format!(
        "A server with {} workers on {address} and a load generator with as many, in one process,\n\
         on the same cores.\nplan: io {}, {}; steering {}, {}",
        plan.workers(),
        plan.io(),
        match plan.io() {
            "io_uring" => "the best there is: one system call a turn",
            _ => "recvmmsg and sendmmsg, which every kernel has",
        },
        plan.steering(),
        match plan.steering() {
            _ if plan.workers() == 1 => "a single worker needs none",
            "xdp" | "xdp-generic" => "in front of the network stack, by connection ID",
            "reuseport" => "the best on loopback: the kernel verifies connection IDs",
            "cbpf" => "the best without privileges: the kernel reads connection IDs",
            _ => "by addresses and ports: workers carry strays to one another",
        },
    );
    for note in plan.notes() {
        text.push_str("\nwarning: ");
        text.push_str(note);
    }
    text
}

const NEXT: &str = "next: `quiclane serve`, and elsewhere \
                    `quiclane load https://localhost:4433/bytes/1024 -k`";
