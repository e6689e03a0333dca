//! What a request costs the load generator: ours beside others, against the same server.
//!
//! ```text
//! quiclane serve, one worker on --server-core, all the time
//! each generator in turn on --client-core: the same number of requests of 1 KiB, closed loop
//! ```
//!
//! Processor time is the generator's own, kernel included, from its first instruction to its exit,
//! so that of the handshakes is in it. On loopback whoever sends also pays for half of the
//! receiver's kernel work.

mod generator;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use ours::{Server, median};

use crate::generator::{Generator, Protocol};

/// Measures the processor time of load generators per request of 1 KiB.
#[derive(Debug, Parser)]
struct Args {
    /// The `quiclane` binary: the server, and one of the generators.
    #[arg(long)]
    quiclane: PathBuf,
    /// An `oha` binary with HTTP/3 (`cargo install oha --features http3`), to be measured as well.
    #[arg(long)]
    oha: Option<PathBuf>,
    /// Rounds; in each, every generator runs once.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Requests in each run.
    #[arg(short = 'n', long, default_value_t = 300_000)]
    requests: u64,
    /// Connections.
    #[arg(short, long, default_value_t = 16)]
    connections: u32,
    /// Requests in flight on each.
    #[arg(short = 'm', long, default_value_t = 8)]
    streams: u32,
    /// Core the server is pinned to.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core the generators are pinned to.
    #[arg(long, default_value_t = 1)]
    client_core: usize,
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
    ensure!(args.rounds > 0 && args.requests > 0, "--rounds and --requests must be at least 1");
    let server = Server::start(&args.quiclane, args.server_core)?;
    let stock = std::env::current_exe()?.with_file_name("quinn-client");
    ensure!(stock.exists(), "no {}: build the workspace first", stock.display());
    println!(
        "| generator | protocol | CPU us/request median (min-max) | ours / it | \
         per-core / it |\n|---|---|---|---|---|"
    );
    for protocol in [Protocol::Perf, Protocol::Http3] {
        let ours = args.quiclane.clone();
        let mut generators = vec![
            Generator::Quiclane(ours.clone()),
            Generator::Shared(ours),
            Generator::Quinn(stock.clone()),
        ];
        if let (Some(oha), Protocol::Http3) = (&args.oha, protocol) {
            generators.push(Generator::Oha(oha.clone()));
        }
        let mut costs = vec![Vec::new(); generators.len()];
        for round in 0..args.rounds {
            // Each comes first in turn.
            for at in 0..generators.len() {
                let at = (at + round) % generators.len();
                costs[at].push(cost(args, &generators[at], protocol, &server.address)?);
            }
        }
        for (generator, own) in generators.iter().zip(&costs) {
            let [ratio, shared] = [0, 1]
                .map(|at| median(costs[at].iter().zip(own).map(|(ours, other)| ours / other)));
            let (low, high) = (own.iter().copied().fold(f64::MAX, f64::min), max(own));
            println!(
                "| {} | {} | {:.2} ({low:.2}-{high:.2}) | {ratio:.2} | {shared:.2} |",
                generator.name(),
                protocol.name(),
                median(own.iter().copied()),
            );
        }
    }
    Ok(())
}

/// Microseconds of processor time per request of one run.
fn cost(args: &Args, generator: &Generator, protocol: Protocol, address: &str) -> Result<f64> {
    let mut command = Command::new("taskset");
    command.args(["-c", &args.client_core.to_string()]);
    generator.arguments(&mut command, protocol, address, args);
    let before = children_ticks()?;
    let output = command.output().context("cannot start taskset (package util-linux)")?;
    let ticks = children_ticks()? - before;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", generator.name(), said.trim());
    let answered = generator.answered(&output.stdout).with_context(|| generator.name())?;
    ensure!(
        answered == args.requests,
        "{}: {answered} of {} requests were answered",
        generator.name(),
        args.requests
    );
    Ok(ticks as f64 * TICK_US / answered as f64)
}

/// Processor time of all children that have ended.
fn children_ticks() -> Result<u64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, in parentheses, may have spaces; the state is the first field behind it.
    let fields = stat.rsplit_once(')').context("/proc/self/stat without a name")?.1;
    let children = fields.split_whitespace().skip(CUTIME).take(2).map(str::parse::<u64>);
    Ok(children.sum::<Result<u64, _>>()?)
}

fn max(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

/// `cutime` counted from the state (proc_pid_stat(5)); `cstime` follows.
const CUTIME: usize = 13;

/// USER_HZ is 100 on every architecture that this runs on.
const TICK_US: f64 = 10_000.0;
