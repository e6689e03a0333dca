//! Who used how much of which core between two edges of a run.
//!
//! CPU time is the run time in `/proc/PID/task/*/schedstat`, in nanoseconds. The kernel brings it
//! up to date at every tick and context switch, so an edge is off by one tick (1 to 4 ms) at most.
//! Work of the loopback device counts for the thread that sends.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Takes readings of this process, the server and their cores.
pub(crate) struct Gauge {
    server_pid: u32,
    server_core: Option<u32>,
    client_core: Option<u32>,
}

/// The counters at one edge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    at: Instant,
    client: Duration,
    server: Duration,
    server_core: Option<Duration>,
    client_core: Option<Duration>,
}

/// What lies between two readings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) wall_s: f64,
    pub(crate) client_s: f64,
    pub(crate) server_s: f64,
    /// Share of the server's core that neither process used; `None` without a core of its own.
    pub(crate) foreign_on_server_core: Option<f64>,
    pub(crate) foreign_on_client_core: Option<f64>,
}

impl Gauge {
    pub(crate) fn new(server_pid: u32) -> Result<Self> {
        let server_core = only_core(server_pid)?;
        let client_core = only_core(std::process::id())?;
        let shared = server_core == client_core;
        Ok(Self {
            server_pid,
            server_core: server_core.filter(|_| !shared),
            client_core: client_core.filter(|_| !shared),
        })
    }

    pub(crate) fn read(&self) -> Result<Reading> {
        Ok(Reading {
            at: Instant::now(),
            client: cpu_time(std::process::id())?,
            server: cpu_time(self.server_pid)?,
            server_core: self.server_core.map(core_time).transpose()?,
            client_core: self.client_core.map(core_time).transpose()?,
        })
    }
}

impl Reading {
    /// The difference to a later reading.
    pub(crate) fn until(self, later: Self) -> Usage {
        let wall_s = later.at.saturating_duration_since(self.at).as_secs_f64();
        let seconds = |from: Duration, to: Duration| to.saturating_sub(from).as_secs_f64();
        let server_s = seconds(self.server, later.server);
        let client_s = seconds(self.client, later.client);
        let foreign = |from: Option<Duration>, to: Option<Duration>, own_s: f64| {
            Some(((seconds(from?, to?) - own_s) / wall_s).max(0.0))
        };
        Usage {
            wall_s,
            client_s,
            server_s,
            foreign_on_server_core: foreign(self.server_core, later.server_core, server_s),
            foreign_on_client_core: foreign(self.client_core, later.client_core, client_s),
        }
    }
}

/// Run time of all threads of a process.
fn cpu_time(pid: u32) -> Result<Duration> {
    let tasks = format!("/proc/{pid}/task");
    let mut nanos = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("no process {pid} to measure"))? {
        let path = task?.path().join("schedstat");
        let text = read(&path)?;
        nanos += run_time(&text).with_context(|| format!("{} says {text:?}", path.display()))?;
    }
    if nanos == 0 {
        bail!("{tasks}/*/schedstat counts nothing; the kernel needs CONFIG_SCHED_INFO");
    }
    Ok(Duration::from_nanos(nanos))
}

/// First field of schedstat: nanoseconds on a CPU.
fn run_time(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// The core a process is pinned to, if it is exactly one.
fn only_core(pid: u32) -> Result<Option<u32>> {
    let path = format!("/proc/{pid}/status");
    let status = read(Path::new(&path))?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let allowed = allowed.with_context(|| format!("{path} has no Cpus_allowed_list"))?;
    Ok(allowed.trim().parse().ok())
}

/// Time a core did not idle, by `/proc/stat`.
fn core_time(core: u32) -> Result<Duration> {
    let stat = read(Path::new("/proc/stat"))?;
    let ticks = busy_ticks(&stat, core).with_context(|| format!("/proc/stat lacks cpu{core}"))?;
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1000 / ticks_per_second.max(1)))
}

/// user, nice, system, irq, softirq and steal; neither idle nor iowait. Stolen time is foreign too.
fn busy_ticks(stat: &str, core: u32) -> Option<u64> {
    let name = format!("cpu{core}");
    let line = stat.lines().find(|line| line.split_whitespace().next() == Some(&name))?;
    let fields = line.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0));
    let busy = fields.enumerate().filter(|(index, _)| [0, 1, 2, 5, 6, 7].contains(index));
    Some(busy.map(|(_, ticks): (usize, u64)| ticks).sum())
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_time_is_the_first_field() {
        assert_eq!(run_time("1234567 89 4\n"), Some(1_234_567));
        assert_eq!(run_time(""), None);
    }

    #[test]
    fn busy_counts_work_and_steal_but_not_idling() {
        let stat = "cpu  9 9 9 9 9 9 9 9 9 9\n\
                    cpu0 1 2 4 1000 1000 8 16 32 5 5\n\
                    cpu10 7 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(busy_ticks(stat, 0), Some(63));
        assert_eq!(busy_ticks(stat, 10), Some(7));
        assert_eq!(busy_ticks(stat, 1), None);
    }

    #[test]
    fn foreign_share_is_what_the_process_did_not_use() {
        let at = Instant::now();
        let reading = |at, seconds| Reading {
            at,
            client: Duration::from_secs(seconds),
            server: Duration::from_secs(seconds),
            server_core: Some(Duration::from_secs(seconds * 2)),
            client_core: None,
        };
        let usage = reading(at, 0).until(reading(at + Duration::from_secs(10), 4));
        assert_eq!(usage.foreign_on_server_core, Some(0.4));
        assert_eq!(usage.foreign_on_client_core, None);
        assert_eq!((usage.wall_s, usage.server_s), (10.0, 4.0));
    }

    #[test]
    fn a_process_can_be_measured() {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {}
        assert!(cpu_time(std::process::id()).unwrap() > Duration::ZERO);
    }
}
