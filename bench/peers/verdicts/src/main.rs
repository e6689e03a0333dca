//! How often `quiclane load --versus` calls two equal servers different, and misses a slower one.
//!
//! ```text
//! each pair      two fresh servers on --server-core, the generator on --client-core:
//!                load A --versus B, --repeat runs of each in the order ABBA BAAB
//! same           B is what A is
//! slower         B computes longer before each answer, so that it does --slower % less a second
//! ```
//!
//! All compute for --compute nanoseconds before each answer: a server that does nothing would keep
//! the generator busier than itself, and then it is the generator that is compared. Which of the
//! two is started first changes from pair to pair. How much longer the slower one has to compute
//! follows from what the other does in one run, so the machine should be quiet.

mod server;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use ours::median;
use serde_json::Value;

use crate::server::Server;

/// Counts right and wrong verdicts of `load --versus` over real pairs of servers.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    mode: Option<Mode>,
    /// The `quiclane` binary, the generator.
    #[arg(long, required = true)]
    quiclane: Option<PathBuf>,
    /// Pairs of either kind.
    #[arg(long, default_value_t = 20)]
    pairs: usize,
    /// Runs of each server in a pair.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Length of a run, seconds.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// How long the servers compute before each answer, nanoseconds.
    #[arg(long, default_value_t = 5_000)]
    compute: u64,
    /// How much less the slower server does, per cent.
    #[arg(long, default_value_t = 10.0)]
    slower: f64,
    /// Core the servers are pinned to.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core the generator is pinned to.
    #[arg(long, default_value_t = 1)]
    client_core: usize,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// What the program starts itself.
    #[command(hide = true)]
    Serve {
        core: usize,
        /// Nanoseconds to compute before each answer.
        spin_ns: u64,
    },
}

impl Args {
    /// How long a server computes that is not slower.
    fn plain(&self) -> Duration {
        Duration::from_nanos(self.compute)
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = match args.mode {
        Some(Mode::Serve { core, spin_ns }) => server::serve(core, Duration::from_nanos(spin_ns)),
        None => run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table is this program's result")]
fn run(args: &Args) -> Result<()> {
    ensure!(args.pairs > 0 && args.repeat > 0, "--pairs and --repeat must be at least 1");
    let slower = args.slower / 100.0;
    ensure!(slower > 0.0 && slower < 1.0, "--slower {}: a share of 0 to 100 %", args.slower);
    println!("| pair | B | {} |\n|---|---|{}", METRICS.join(" | "), "---|".repeat(METRICS.len()));
    let mut same = Vec::new();
    let mut slow = Vec::new();
    for number in 1..=args.pairs {
        let equal = pair(args, number, Duration::ZERO)?;
        println!("| {number} | same | {} |", equal.cells());
        same.push(equal);
        let spin = Duration::from_secs_f64(slower / (1.0 - slower) / rate(args)?);
        let worse = pair(args, number, spin)?;
        println!("| {number} | {} ns slower | {} |", spin.as_nanos(), worse.cells());
        slow.push(worse);
    }
    let of = |pairs: &[Pair], is: fn(&Pair) -> bool| pairs.iter().filter(|pair| is(pair)).count();
    println!(
        "\nthe same server: {} of {} called different in any number, {} in the rate\n\
         slower by {} %: {} of {} missed by the rate, {} by every number; median ratio {:.3}",
        of(&same, |pair| pair.verdicts.iter().any(|verdict| is_different(verdict))),
        args.pairs,
        of(&same, |pair| is_different(&pair.verdicts[0])),
        args.slower,
        of(&slow, |pair| pair.verdicts[0] != "worse"),
        args.pairs,
        of(&slow, |pair| pair.verdicts.iter().all(|verdict| verdict != "worse")),
        median(slow.iter().map(|pair| pair.ratios[0]))
    );
    Ok(())
}

/// What `load --versus` said of two servers.
#[derive(Debug)]
struct Pair {
    /// B/A, of each of the numbers; 0 where there is none.
    ratios: Vec<f64>,
    verdicts: Vec<String>,
}

impl Pair {
    fn cells(&self) -> String {
        let cell = |(ratio, verdict): (&f64, &String)| format!("{ratio:.3} {verdict}");
        let cells: Vec<String> = self.ratios.iter().zip(&self.verdicts).map(cell).collect();
        cells.join(" | ")
    }
}

/// Compares a server with one that computes longer, by `spin`.
fn pair(args: &Args, number: usize, spin: Duration) -> Result<Pair> {
    let start = |longer| Server::start(args.server_core, args.plain() + longer);
    let (a, b);
    // A process may be faster for where it lies in memory: neither is always the first.
    if number.is_multiple_of(2) {
        (a, b) = (start(Duration::ZERO)?, start(spin)?);
    } else {
        b = start(spin)?;
        a = start(Duration::ZERO)?;
    }
    let repeat = args.repeat.to_string();
    let said = load(args, &a, &["--versus", &b.url, "--repeat", &repeat, "--warmup", "500ms"])?;
    let metrics = said["compare"]["metrics"].as_array().context("a report without comparison")?;
    let find = |name: &&str| metrics.iter().find(|metric| metric["metric"] == **name);
    let found: Option<Vec<&Value>> = METRICS.iter().map(find).collect();
    let found = found.context("a comparison without one of its numbers")?;
    let verdict = |metric: &&Value| metric["verdict"].as_str().unwrap_or_default().to_owned();
    Ok(Pair {
        ratios: found.iter().map(|metric| metric["ratio"].as_f64().unwrap_or(0.0)).collect(),
        verdicts: found.iter().map(verdict).collect(),
    })
}

/// Requests per second of the server that is not slower.
fn rate(args: &Args) -> Result<f64> {
    let server = Server::start(args.server_core, args.plain())?;
    let said = load(args, &server, &["--warmup", "500ms"])?;
    said["requests_per_s"].as_f64().filter(|rate| *rate > 0.0).context("nothing was answered")
}

/// Runs the generator, which reports as JSON.
fn load(args: &Args, server: &Server, flags: &[&str]) -> Result<Value> {
    let program = args.quiclane.as_ref().context("--quiclane is missing")?;
    let mut command = Command::new(program);
    command.args(["load", &server.url, "-k", "-q", "--json", "-c", "16", "-m", "8"]);
    command.args(["--workers", "1", "--cores", &args.client_core.to_string()]);
    command.args(["-d", &format!("{}s", args.seconds), "--interval", "100ms"]).args(flags);
    let output = command.output().with_context(|| format!("cannot start {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the generator failed: {}", said.trim());
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn is_different(verdict: &str) -> bool {
    verdict == "better" || verdict == "worse"
}

/// The numbers that are compared; `errors_share` is none where nothing fails.
const METRICS: [&str; 4] = ["requests_per_s", "p50_us", "p99_us", "p999_us"];
