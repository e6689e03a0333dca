//! The runner: every peer, every kind of work, interleaved and shuffled, medians in Markdown.
//!
//! ```text
//! for each repetition, each kind of work, each peer in a fresh random order:
//!     start the server on its core, let the client measure it from the other, end both
//! ```
//!
//! Exit codes: 0 all measured, 1 a run failed, 2 usage, 4 a peer has no undisturbed run somewhere.

mod args;
mod host;
mod peers;
mod process;
mod rows;
mod run;
mod tables;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use serde::Serialize;

use crate::args::Args;
use crate::host::Host;
use crate::peers::Peer;
use crate::rows::Work;
use crate::run::{Bench, Run};

fn main() -> ExitCode {
    match compare(&Args::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn compare(args: &Args) -> Result<ExitCode> {
    ensure!(!cfg!(debug_assertions), "figures of a debug build mean nothing; use --release");
    ensure!(args.server_core != args.client_core, "server and client need a core each");
    ensure!(args.reps > 0 && args.tries > 0, "--reps and --tries count from 1");
    let bin = programs(args)?;
    let peers = peers::peers(args, &bin);
    let works = rows::works(args);
    ensure!(!peers.is_empty() && !works.is_empty(), "nothing to measure");
    let scratch = tempfile::tempdir().context("no place for the certificate")?;
    let bench = Bench::new(args, &bin, scratch.path())?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    fastrand::seed(seed);
    let (runs, failures) = measure_all(&bench, &peers, &works);
    let host = Host::read();
    show(args, &host, seed, &peers, &works, &runs);
    for failure in &failures {
        eprintln!("failed: {failure}");
    }
    if let Some(path) = &args.json {
        let all = Json { schema: report::SCHEMA, host, seed, runs: &runs, failures: &failures };
        fs::write(path, serde_json::to_vec_pretty(&all)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if !failures.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    let clean = |peer: &Peer, work: &Work| {
        runs.iter().any(|run| run.peer == peer.name && run.work == work.name && !run.disturbed)
    };
    let complete = peers.iter().all(|peer| works.iter().all(|work| clean(peer, work)));
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INVALID) })
}

/// What `--json` writes.
#[derive(Serialize)]
struct Json<'a> {
    schema: u32,
    host: Host,
    seed: u64,
    runs: &'a [Run],
    failures: &'a [String],
}

/// Where client and servers are. Under `cargo run` they are built first, so that no figure comes
/// from a stale binary; started by hand, the runner takes what lies beside it.
fn programs(args: &Args) -> Result<PathBuf> {
    let runner = std::env::current_exe().context("where is this program?")?;
    let bin = runner.parent().context("where is this program?")?.to_owned();
    if let (Some(cargo), Some(package)) =
        (std::env::var_os("CARGO"), std::env::var_os("CARGO_MANIFEST_DIR"))
    {
        let mut build = Command::new(cargo);
        build.args(["build", "--release", "--locked", "--manifest-path"]);
        build.arg(Path::new(&package).join("Cargo.toml"));
        build.args(peers::BUILT_HERE.iter().flat_map(|package| ["--package", package]));
        if args.mimalloc {
            build.args(["--features", "quinn-server/mimalloc"]);
        }
        ensure!(build.status().context("cannot run cargo")?.success(), "cargo build failed");
    } else {
        ensure!(!args.mimalloc, "--mimalloc builds the server: it needs cargo run");
    }
    for program in peers::BUILT_HERE {
        let path = bin.join(program);
        ensure!(path.is_file(), "{} is missing; build it first", path.display());
    }
    Ok(bin)
}

fn measure_all(bench: &Bench<'_>, peers: &[Peer], works: &[Work]) -> (Vec<Run>, Vec<String>) {
    let reps = bench.args.reps;
    let total = reps * works.len() * peers.len();
    let (mut runs, mut failures) = (Vec::new(), Vec::new());
    for repetition in 1..=reps {
        for work in works {
            let mut order: Vec<&Peer> = peers.iter().collect();
            fastrand::shuffle(&mut order);
            for peer in order {
                let number = runs.len() + failures.len() + 1;
                let label = format!("[{number}/{total}] {} {}", work.name, peer.name);
                match bench.measure(peer, work, repetition) {
                    Ok(run) => {
                        eprintln!("{label}: {}", one_line(&run));
                        runs.push(run);
                    }
                    Err(error) => {
                        eprintln!("{label}: failed: {error:#}");
                        failures.push(format!("{} {}: {error:#}", work.name, peer.name));
                    }
                }
            }
        }
    }
    (runs, failures)
}

fn one_line(run: &Run) -> String {
    let report = &run.report;
    let left_out = if run.disturbed { ", left out: the machine was not quiet" } else { "" };
    format!(
        "{:.2} {}, server CPU {:.3} {}{left_out}",
        report.rate, report.rate_unit, report.server_cpu_per_unit, report.cpu_unit
    )
}

#[expect(clippy::print_stdout, reason = "the tables are this program's output")]
fn show(args: &Args, host: &Host, seed: u64, peers: &[Peer], works: &[Work], runs: &[Run]) {
    let names: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
    println!("{host}");
    println!(
        "Server on core {}, client on core {}, {} repetitions, random order (seed {seed}).\n",
        args.server_core, args.client_core, args.reps
    );
    for peer in &names {
        if let Some(run) = runs.iter().find(|run| run.peer == *peer) {
            println!("* {peer}: {}", run.about);
        }
    }
    for work in works {
        println!("\n{}", tables::table(&work.title, work.name, &names, runs).trim_end());
    }
    let left_out = runs.iter().filter(|run| run.disturbed).count();
    println!(
        "\nLeft out, because something else used more than {} % of a core: {left_out} of {} runs.",
        args.foreign_max * 100.0,
        runs.len()
    );
}

/// The measurement is invalid: at least one peer has no undisturbed run.
const EXIT_INVALID: u8 = 4;
