//! What happens to held connections when their server is killed and started again.
//!
//! ```text
//! quiclane load --idle N --reconnect opens N connections; at --kill-after SIGKILL; the server
//! starts again after --down; the load generator says when the last connection was back
//! ```
//!
//! The client is the same for all. quinn's row is the best it can do: the same reset key before and
//! after, which its own default, a random one, is not.

mod veth;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::{Parser, ValueEnum};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;

use veth::Veth;

/// Times how long connections are gone after their server was killed and started again.
#[derive(Debug, Parser)]
struct Args {
    /// The `quiclane` binary; also the client.
    #[arg(long)]
    quiclane: PathBuf,
    /// Servers, a row each. Those with XDP need root: they run in namespaces of their own.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "quinn,reuseport,cbpf")]
    servers: Vec<Who>,
    /// Connections held.
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Seconds from the client's start to the kill; all connections must be open by then.
    #[arg(long, default_value_t = 25)]
    kill_after: u64,
    /// Milliseconds from the kill to the next start.
    #[arg(long, default_value_t = 300)]
    down: u64,
    /// Seconds from the kill to the end of the run.
    #[arg(long, default_value_t = 45)]
    watch: u64,
    /// Core of the server.
    #[arg(long, default_value_t = 0)]
    server_core: usize,
    /// Core of the client.
    #[arg(long, default_value_t = 1)]
    client_core: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Who {
    /// Stock quinn with a reset key that persists.
    Quinn,
    /// Stock quinn as it comes, with a random key.
    QuinnDefault,
    /// Ours; the worker of the epoch's successor answers.
    Reuseport,
    /// Ours without any privilege.
    Cbpf,
    /// Ours; generic XDP on loopback answers.
    XdpGeneric,
    /// Ours over veth; native XDP filters, and the worker answers.
    Xdp,
}

struct Row {
    who: Who,
    report: Value,
    /// From the kill until the last connection was back.
    back_s: Option<f64>,
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

fn run(args: &Args) -> Result<()> {
    ensure!(!cfg!(debug_assertions), "figures of a debug build mean nothing; use --release");
    let scratch = tempfile::tempdir().context("no place for certificate and state")?;
    let names = vec!["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
    std::fs::write(scratch.path().join("cert.pem"), made.cert.pem())?;
    std::fs::write(scratch.path().join("key.pem"), made.signing_key.serialize_pem())?;
    let mut rows = Vec::new();
    for who in &args.servers {
        let row = restart(args, *who, scratch.path()).with_context(|| format!("{who:?}"))?;
        eprintln!("{}", line(args, &row));
        rows.push(row);
    }
    show(args, &rows);
    Ok(())
}

fn restart(args: &Args, who: Who, scratch: &Path) -> Result<Row> {
    let _veth = (who == Who::Xdp).then(Veth::new).transpose()?;
    let mut address = match who {
        Who::Xdp => Veth::address()?,
        _ => "127.0.0.1:0".parse()?,
    };
    let state = scratch.join(format!("{who:?}"));
    let start = |address| -> Result<Server> {
        Server::start(serve(args, who, scratch, &state, address)?, args.server_core)
    };
    let server = start(address)?;
    address = server.address;
    let started = Instant::now();
    let load = spawn_on(args.client_core, &mut load(args, who, address))?;
    thread::sleep(Duration::from_secs(args.kill_after));
    let killed_at = started.elapsed();
    drop(server);
    thread::sleep(Duration::from_millis(args.down));
    let _server = start(address)?;
    let output = load.wait_with_output()?;
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("the client failed: {}", String::from_utf8_lossy(&output.stderr).trim())
    })?;
    let idle = &report["idle"];
    let back = idle["lost_at_s"].as_f64().zip(idle["back_s"].as_f64());
    let back_s = back.map(|(lost_at, back)| lost_at + back - killed_at.as_secs_f64());
    Ok(Row { who, report, back_s })
}

/// The command of a server.
fn serve(
    args: &Args,
    who: Who,
    scratch: &Path,
    state: &Path,
    address: SocketAddr,
) -> Result<Command> {
    let mut command = match who {
        Who::Quinn | Who::QuinnDefault => {
            let here = std::env::current_exe()?;
            let program = here.with_file_name("quinn-server");
            ensure!(program.exists(), "{} is missing: cargo build --release", program.display());
            let mut command = Command::new(program);
            if who == Who::Quinn {
                command.args(["--reset-key", "00112233445566778899aabbccddeeff"]);
            }
            command
        }
        _ => {
            let mut command = match who {
                Who::Xdp => Veth::server(&args.quiclane),
                _ => Command::new(&args.quiclane),
            };
            let core = args.server_core.to_string();
            command.args(["serve", "-q", "--workers", "1", "--cores", &core, "--alpn", "perf"]);
            let steering = match who {
                Who::Xdp => "xdp",
                Who::XdpGeneric => "xdp-generic",
                Who::Cbpf => "cbpf",
                _ => "reuseport",
            };
            command.args(["--steering", steering]).arg("--state-dir").arg(state);
            if who == Who::XdpGeneric {
                command.args(["--interface", "lo"]);
            }
            command
        }
    };
    command.arg("--listen").arg(address.to_string());
    command.arg("--cert").arg(scratch.join("cert.pem")).arg("--key").arg(scratch.join("key.pem"));
    Ok(command)
}

fn load(args: &Args, who: Who, address: SocketAddr) -> Command {
    let mut command = match who {
        Who::Xdp => Veth::client(&args.quiclane),
        _ => Command::new(&args.quiclane),
    };
    let time = format!("{}s", args.kill_after + args.watch);
    command.arg("load").arg(format!("quic://{address}"));
    command.args(["--perf", "-k", "-q", "--json", "--reconnect", "--keep-alive", "500ms"]);
    command.args(["--workers", "1", "--idle", &args.connections.to_string(), "-d", &time]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server that is killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(mut command: Command, core: usize) -> Result<Self> {
        let mut child = spawn_on(core, command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        let stdout = child.stdout.take().context("stdout is not piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("listen="))
            .and_then(|addresses| addresses.split(',').next()?.parse().ok())
            .with_context(|| format!("not a ready line: {line:?}"));
        match address {
            Ok(address) => Ok(Self { child, address }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child inherits the cores of the thread that starts it.
fn spawn_on(core: usize, command: &mut Command) -> Result<Child> {
    ensure!(core < CpuSet::MAX_CPU, "core {core} is out of range");
    let mut cores = CpuSet::new();
    cores.set(core);
    let spawn = || -> Result<Child> {
        sched_setaffinity(None, &cores).with_context(|| format!("cannot pin to core {core}"))?;
        let program = command.get_program().to_owned();
        command.spawn().with_context(|| format!("cannot start {}", program.display()))
    };
    thread::scope(|scope| scope.spawn(spawn).join())
        .map_err(|_| anyhow!("the spawning thread panicked"))?
}

#[expect(clippy::print_stdout, reason = "the table is this program's result")]
fn show(args: &Args, rows: &[Row]) {
    println!("| server | opened cold | ended by a reset | by timeout | all back after the kill |");
    println!("|---|---|---|---|---|");
    for row in rows {
        println!("{}", line(args, row));
    }
}

fn line(args: &Args, row: &Row) -> String {
    let idle = &row.report["idle"];
    let lost = |class| idle["lost_by_class"][class].as_u64().unwrap_or(0);
    let timeouts = lost("idle_timeout");
    let back = match row.back_s {
        Some(seconds) => format!("{seconds:.1} s"),
        None => format!("not within {} s: {} of {}", args.watch, idle["held"], args.connections),
    };
    let name = row.who.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
    format!(
        "| {name} | {} in {:.1} s | {} | {timeouts} | {back} |",
        idle["opened"],
        idle["opening_s"].as_f64().unwrap_or(0.0),
        lost("stateless_reset"),
    )
}
