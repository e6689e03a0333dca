//! process starts and ends servers and generators, and slows a server down by a known share.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStderr, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use quiclane::clock::now;
use quiclane_tuning::experiment::{TICKS_PER_S, Trouble};
use rustix::process::{Pid, Signal, kill_process};

use super::super::cell;

/// A program of ours that runs; killed when dropped.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    log: Option<JoinHandle<String>>,
}

impl Process {
    /// Starts this very program with `arguments`, in the namespaces that `inside` holds.
    pub(super) fn start(inside: Option<u32>, arguments: &[String]) -> io::Result<Self> {
        Self::start_program(&std::env::current_exe()?.to_string_lossy(), inside, arguments)
    }

    /// Starts `program`.
    pub(super) fn start_program(
        program: &str,
        inside: Option<u32>,
        arguments: &[String],
    ) -> io::Result<Self> {
        let mut command = cell::command(inside, program, arguments)?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let log = child.stderr.take().map(|pipe| thread::spawn(|| tail(pipe)));
        Ok(Self { child, log })
    }

    /// The first line of its standard output; an error has what it said instead.
    pub(super) fn first_line(&mut self) -> Result<String, String> {
        let Some(stdout) = self.child.stdout.take() else { return Err("no output".into()) };
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            let read = BufReader::new(stdout).read_line(&mut line);
            // Nobody listens any more: patience was lost.
            let _ = sender.send(read.map(|_| line));
        });
        match receiver.recv_timeout(READY_MAX) {
            Ok(Ok(line)) if !line.is_empty() => Ok(line),
            Err(RecvTimeoutError::Timeout) => Err(format!("not ready within {READY_MAX:?}")),
            _ => Err(self.last_words()),
        }
    }

    /// Waits for its end; its standard output and its exit code.
    pub(super) fn finish(
        &mut self,
        signals: &Receiver<()>,
        patience: Duration,
    ) -> Result<(Vec<u8>, Option<i32>), Trouble> {
        let stdout = self.child.stdout.take();
        let reader = stdout.map(|mut pipe| {
            thread::spawn(move || {
                let mut bytes = Vec::new();
                let _ = pipe.by_ref().take(OUTPUT_MAX).read_to_end(&mut bytes);
                bytes
            })
        });
        let begun = now();
        let status = loop {
            let status = self.child.try_wait();
            if let Some(status) = status.map_err(|error| Trouble::Bench(error.to_string()))? {
                break status;
            }
            if signals.recv_timeout(POLL_INTERVAL) != Err(RecvTimeoutError::Timeout) {
                return Err(Trouble::Interrupted);
            }
            if now().saturating_duration_since(begun) > patience {
                return Err(Trouble::Arm(format!("the generator did not end in {patience:?}")));
            }
        };
        let bytes = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
        Ok((bytes, status.code()))
    }

    /// Its CPU time so far, seconds.
    pub(super) fn cpu_s(&self) -> Option<f64> {
        cpu_s(&format!("/proc/{}/stat", self.id()), [11, 12])
    }

    /// Ends it: a server may have something to take back.
    pub(super) fn stop(&mut self) {
        let _ = kill_process(self.pid(), Signal::CONT);
        let _ = kill_process(self.pid(), Signal::TERM);
        let begun = now();
        while now().saturating_duration_since(begun) < GRACE {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(POLL_INTERVAL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The end of what it said, once it is over.
    pub(super) fn last_words(&mut self) -> String {
        self.stop();
        let said = self.log.take().and_then(|log| log.join().ok()).unwrap_or_default();
        let lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
        let error = lines.clone().find_map(|line| line.strip_prefix("error: "));
        let last = error.or_else(|| lines.clone().next_back());
        last.unwrap_or("it ended and said nothing").to_owned()
    }

    /// The number of its process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The CPU time in these fields, counted behind the name, of a file like /proc/self/stat.
pub(super) fn cpu_s(path: &str, fields: [usize; 2]) -> Option<f64> {
    let text = std::fs::read_to_string(path).ok()?;
    let fields_of: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |at: usize| fields_of.get(at)?.parse::<u64>().ok();
    Some((ticks(fields[0])? + ticks(fields[1])?) as f64 / TICKS_PER_S)
}

/// Stops a process for a share of the time, until it is dropped.
#[derive(Debug)]
pub(super) struct Handicap {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Handicap {
    /// Of `server`: `share` of the time, in pieces of [`PERIOD`].
    pub(super) fn start(server: &Process, share: f64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let (flag, pid) = (Arc::clone(&over), server.pid());
        let thread = thread::spawn(move || {
            let begun = now();
            let mut stopped = Duration::ZERO;
            while !flag.load(Ordering::Relaxed) {
                thread::sleep(PERIOD.mul_f64(1.0 - share));
                // What came too late before is taken into account now.
                let due = (now().saturating_duration_since(begun) + PERIOD.mul_f64(share))
                    .mul_f64(share)
                    .saturating_sub(stopped);
                let since = now();
                if kill_process(pid, Signal::STOP).is_err() {
                    return;
                }
                thread::sleep(due);
                let _ = kill_process(pid, Signal::CONT);
                stopped += now().saturating_duration_since(since);
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Handicap {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It does not panic, and if it did, the server would be killed all the same.
            let _ = thread.join();
        }
    }
}

/// The last bytes of a pipe.
fn tail(pipe: ChildStderr) -> String {
    let mut bytes = Vec::new();
    let _ = pipe.take(OUTPUT_MAX).read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Short beside a probe timeout, and long beside the time that a signal takes.
const PERIOD: Duration = Duration::from_millis(50);

/// A server that needs longer to start is broken; 50 ms are common.
const READY_MAX: Duration = Duration::from_secs(10);

/// How long a server may take to end. It would wait a second for clients that are gone; what it
/// attached to interfaces goes with it in any case.
const GRACE: Duration = Duration::from_millis(100);

/// Long enough to cost nothing, short enough to cost no time.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// More than any report of ours.
const OUTPUT_MAX: u64 = 64 << 20;
