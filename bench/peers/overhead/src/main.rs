//! What HTTP/3 costs beside perf: same server, client, sizes and numbers in flight.
//!
//! ```text
//! quiclane serve, one worker on --server-core
//! quiclane load, one worker on --client-core: perf, HTTP/3, HTTP/3, perf, perf, ...
//! ```
//!
//! perf asks with 8 bytes for 1 KiB, HTTP/3 with GET for `/bytes/1024`. The ratio is the median of
//! those within a pair, so that a machine that drifts drifts for both.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use ours::{Server, median};
use serde_json::Value;

/// Measures requests of 1 KiB over HTTP/3 beside the same over perf.
#[derive(Debug, Parser)]
struct Args {
    /// The `quiclane` binary: server and client.
    #[arg(long)]
    quiclane: PathBuf,
    /// Pairs of runs.
    #[arg(long, default_value_t = 7)]
    pairs: usize,
    /// Seconds measured in each run, after half a second that is not.
    #[arg(long, default_value_t = 3)]
    measure: u32,
    /// Connections.
    #[arg(short, long, default_value_t = 16)]
    connections: u32,
    /// Requests in flight on each.
    #[arg(short = 'm', long, default_value_t = 8)]
    streams: u32,
    /// Core the server is pinned to.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core the client is pinned to.
    #[arg(long, default_value_t = 1)]
    client_core: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Protocol {
    Perf,
    Http3,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is this program's result")]
fn run(args: &Args) -> Result<()> {
    ensure!(args.pairs > 0, "--pairs must be at least 1");
    let server = Server::start(&args.quiclane, args.server_core)?;
    let mut pairs = Vec::new();
    println!("| pair | perf, requests/s | HTTP/3, requests/s | HTTP/3 / perf |\n|---|---|---|---|");
    for pair in 0..args.pairs {
        // In turns, so that neither always comes first.
        let (perf, http3) = if pair % 2 == 0 {
            let perf = rate(args, &server.address, Protocol::Perf)?;
            (perf, rate(args, &server.address, Protocol::Http3)?)
        } else {
            let http3 = rate(args, &server.address, Protocol::Http3)?;
            (rate(args, &server.address, Protocol::Perf)?, http3)
        };
        println!("| {} | {perf:.0} | {http3:.0} | {:.3} |", pair + 1, http3 / perf);
        pairs.push((perf, http3));
    }
    let perf = median(pairs.iter().map(|(perf, _)| *perf));
    let http3 = median(pairs.iter().map(|(_, http3)| *http3));
    let ratio = median(pairs.iter().map(|(perf, http3)| http3 / perf));
    println!("| median | {perf:.0} | {http3:.0} | {ratio:.3} |");
    Ok(())
}

/// Requests per second of one run.
fn rate(args: &Args, address: &str, protocol: Protocol) -> Result<f64> {
    let mut command = Command::new(&args.quiclane);
    command.arg("load");
    match protocol {
        Protocol::Perf => command.args([&format!("quic://{address}"), "--perf"]),
        Protocol::Http3 => command.arg(format!("https://{address}/bytes/1024")),
    };
    command.args(["-k", "-q", "--json", "--workers", "1", "--warmup", "500ms"]);
    command.args(["--cores", &args.client_core.to_string(), "-d", &format!("{}s", args.measure)]);
    command.args(["-c", &args.connections.to_string(), "-m", &args.streams.to_string()]);
    let output = command.output().context("cannot start the client")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{protocol:?}: the client failed: {}", said.trim());
    let report: Value = serde_json::from_slice(&output.stdout)?;
    report["requests_per_s"].as_f64().context("a report without requests_per_s")
}
