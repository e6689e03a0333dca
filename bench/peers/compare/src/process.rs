//! Starts a server and a client, a core each, and reads what they print.
//!
//! A child inherits the cores of the thread that starts it, so a thread pins itself, spawns and
//! ends; nothing has to be asked of the programs.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use report::{Report, SCHEMA};

/// A running server; dropping it ends it.
pub(crate) struct Server {
    child: Child,
    /// Kept open: a server that prints more than its ready line must not die of it.
    _stdout: BufReader<ChildStdout>,
    log: PathBuf,
    address: SocketAddr,
    /// What the server says of itself after its address.
    pub(crate) about: String,
}

impl Server {
    /// Starts a server and waits until it is ready. What it logs goes to `log`.
    pub(crate) fn start(mut command: Command, core: usize, log: &Path) -> Result<Self> {
        let program = command.get_program().to_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(log)?);
        let mut child = spawn_on(core, &mut command)
            .with_context(|| format!("cannot start {}", program.display()))?;
        let ready = first_line(&mut child).and_then(|(line, stdout)| {
            let (address, about) =
                parse_ready(&line).with_context(|| format!("not a ready line: {line:?}"))?;
            Ok((address, about, stdout))
        });
        match ready {
            Ok((address, about, stdout)) => {
                Ok(Self { child, _stdout: stdout, log: log.to_owned(), address, about })
            }
            Err(error) => {
                end(&mut child);
                Err(error).with_context(|| format!("the server did not get ready{}", tail(log)))
            }
        }
    }

    /// Lets the client measure this server.
    pub(crate) fn measure(
        &mut self,
        client: &Path,
        args: &[String],
        core: usize,
    ) -> Result<Report> {
        let mut command = Command::new(client);
        command.arg("--connect").arg(self.address.to_string());
        command.arg("--server-pid").arg(self.child.id().to_string()).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = spawn_on(core, &mut command)
            .with_context(|| format!("cannot start {}", client.display()))?
            .wait_with_output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("the client failed: {}{}", said.trim(), tail(&self.log));
        }
        if let Some(status) = self.child.try_wait()? {
            bail!("the server ended within the run: {status}{}", tail(&self.log));
        }
        let report: Report = serde_json::from_slice(&output.stdout)
            .context("the client's report is not what this runner expects")?;
        ensure!(report.schema == SCHEMA, "report of schema {}, not {SCHEMA}", report.schema);
        Ok(report)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Asks politely first: a server may have kernel state to take back.
fn end(child: &mut Child) {
    let _ = kill_process(Pid::from_child(child), Signal::TERM);
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(POLL_INTERVAL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn spawn_on(core: usize, command: &mut Command) -> Result<Child> {
    ensure!(core < CpuSet::MAX_CPU, "core {core} is out of range");
    let mut cores = CpuSet::new();
    cores.set(core);
    let spawn = || -> Result<Child> {
        sched_setaffinity(None, &cores).with_context(|| format!("cannot pin to core {core}"))?;
        Ok(command.spawn()?)
    };
    thread::scope(|scope| scope.spawn(spawn).join())
        .map_err(|_| anyhow!("the spawning thread panicked"))?
}

fn first_line(child: &mut Child) -> Result<(String, BufReader<ChildStdout>)> {
    let stdout = child.stdout.take().context("stdout is not piped")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        let read = stdout.read_line(&mut line);
        // The receiver is gone when it lost its patience.
        let _ = sender.send(read.map(|_| (line, stdout)));
    });
    let (line, stdout) = receiver
        .recv_timeout(READY_MAX)
        .map_err(|_| anyhow!("no ready line within {READY_MAX:?}"))??;
    ensure!(!line.is_empty(), "it ended before its ready line");
    Ok((line, stdout))
}

/// `ready listen=ADDR[,ADDR] key=value...`: the first address, and the rest as it is.
fn parse_ready(line: &str) -> Option<(SocketAddr, String)> {
    let mut words = line.split_whitespace();
    if words.next()? != "ready" {
        return None;
    }
    let addresses = words.next()?.strip_prefix("listen=")?;
    let address = addresses.split(',').next()?.parse().ok()?;
    Some((address, words.collect::<Vec<_>>().join(" ")))
}

/// The end of a log, for an error message.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LOG_LINES)..];
    if last.is_empty() { String::new() } else { format!("; its log ends:\n{}", last.join("\n")) }
}

/// A server that needs longer to start than this is broken; 50 ms are common.
const READY_MAX: Duration = Duration::from_secs(10);

/// How long a server may take to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(3);

/// Short beside the runs, long enough to cost nothing.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Enough to see an error with its causes.
const LOG_LINES: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_line_of_either_server_is_understood() {
        let (address, about) =
            parse_ready("ready listen=127.0.0.1:4433,[::1]:4433 workers=1 io=uring\n").unwrap();
        assert_eq!(address, "127.0.0.1:4433".parse().unwrap());
        assert_eq!(about, "workers=1 io=uring");
        assert_eq!(parse_ready("ready listen=127.0.0.1:1").unwrap().1, "");
        assert!(parse_ready("listening on 127.0.0.1:1").is_none());
        assert!(parse_ready("ready listen=nowhere").is_none());
    }

    #[test]
    fn a_server_without_ready_line_is_an_error_with_its_log() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such file >&2; exit 1"]);
        let error = Server::start(command, 0, log.path()).err().unwrap();
        let text = format!("{error:#}");
        assert!(text.contains("no such file") && text.contains("before its ready line"), "{text}");
    }
}
