//! bench measures a cell: a fresh server and a fresh generator, a core each, and what happened on
//! the host meanwhile.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use quiclane::clock::now;
use quiclane_tuning::experiment::{Arm, Bench, Cell, Guard, Limits, Machine, Trouble, Workload};
use serde_json::Value;

use super::flags;
use super::place::Place;
use super::process::{Handicap, Process, cpu_s};
use super::values::Host;
use super::watch::Watch;

/// Real servers and generators.
pub(crate) struct RealBench<'p> {
    pub(super) place: &'p Place,
    pub(super) host: Host<'p>,
    pub(super) cores: Cores,
    /// The measured part of a cell.
    pub(super) cell: Duration,
    /// What a closed loop reached, requests a second.
    pub(super) reached: Option<f64>,
    pub(super) signals: &'p Receiver<()>,
    pub(super) machine: Machine,
    /// What others may take of the host before a cell begins.
    pub(super) limits: Limits,
    /// How long the last cell waited for others.
    pub(super) waited: Duration,
    /// When it was made.
    pub(super) since: Instant,
}

/// Who runs where.
#[derive(Clone, Debug)]
pub(in crate::tune) struct Cores {
    pub(in crate::tune) server: Vec<usize>,
    pub(in crate::tune) generator: Vec<usize>,
    /// The server's, then those that nobody has, then the generator's: as more workers take them.
    pub(in crate::tune) in_turn: Vec<usize>,
}

impl Cores {
    pub(super) fn new(server: Vec<usize>, generator: Vec<usize>, allowed: &[usize]) -> Self {
        let free = allowed.iter().copied();
        let free = free.filter(|core| !server.contains(core) && !generator.contains(core));
        let mut in_turn = server.clone();
        in_turn.extend(free);
        in_turn.extend(generator.iter().filter(|core| !server.contains(core)));
        Self { server, generator, in_turn }
    }

    /// Cores for so many workers of a server, if there are enough.
    fn of_workers(&self, workers: usize) -> Option<&[usize]> {
        self.in_turn.get(..workers)
    }
}

impl Bench for RealBench<'_> {
    fn measure(&mut self, arm: &Arm, workload: Workload, _: u64) -> Result<Cell, Trouble> {
        self.go_on()?;
        let begun = now();
        self.wait_for_quiet()?;
        self.waited = now().saturating_duration_since(begun);
        if arm.set.is_empty() {
            return self.cell(arm, workload, begun);
        }
        let longest = self.patience().as_secs().saturating_add(VALUES_S);
        self.host.apply(&arm.set, longest).map_err(Trouble::Arm)?;
        let cell = self.cell(arm, workload, begun);
        self.host.revert(&arm.set).map_err(Trouble::Bench)?;
        cell
    }

    fn elapsed_s(&self) -> f64 {
        now().saturating_duration_since(self.since).as_secs_f64()
    }
}

impl RealBench<'_> {
    /// # Errors
    /// When somebody wants an end of it.
    pub(super) fn go_on(&self) -> Result<(), Trouble> {
        match self.signals.try_recv() {
            Err(TryRecvError::Empty) => Ok(()),
            _ => Err(Trouble::Interrupted),
        }
    }

    /// Measures what all others are set by: the rate that a closed loop reaches.
    pub(super) fn probe(&mut self, baseline: &Arm) -> Result<Cell, Trouble> {
        let first = self.measure(baseline, Workload::Requests, 0);
        // The first run of a program is slow: it is read from the disk.
        match first {
            Err(Trouble::Interrupted | Trouble::Bench(_)) => first,
            Ok(_) | Err(Trouble::Arm(_)) => self.measure(baseline, Workload::Requests, 1),
        }
    }

    /// Waits while others keep the host busy, within limits: what is measured meanwhile is void
    /// anyway.
    fn wait_for_quiet(&self) -> Result<(), Trouble> {
        let begun = now();
        while now().saturating_duration_since(begun) < QUIET_WITHIN {
            let before = self.machine.look(&[]);
            if self.signals.recv_timeout(QUIET_LOOK) != Err(RecvTimeoutError::Timeout) {
                return Err(Trouble::Interrupted);
            }
            let mut readings = self.machine.look(&[]).since(&before, QUIET_LOOK.as_secs_f64(), 0.0);
            readings.retain(|guard, _| matches!(guard, Guard::Others | Guard::Steal));
            if self.limits.breaches(&readings, Workload::Requests).is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    fn cell(&self, arm: &Arm, workload: Workload, begun: Instant) -> Result<Cell, Trouble> {
        let broken = |why: String| Trouble::Arm(why);
        let (before, since, ours) = (self.machine.look(&self.place.witnesses()), now(), ours());
        let mut server = self.server(arm).map_err(broken)?;
        let ready = server.first_line().map_err(broken)?;
        let address = address(&ready).ok_or_else(|| broken(format!("not ready: {ready:?}")))?;
        let load = self.load_flags(arm, workload, &address)?;
        let mut generator = Process::start(self.place.generator_holder(), &load)
            .map_err(|error| Trouble::Bench(error.to_string()))?;
        let watch = Watch::start(server.id());
        let handicap = (arm.handicap > 0.0).then(|| Handicap::start(&server, arm.handicap));
        let (stdout, code) = generator.finish(self.signals, self.patience())?;
        drop(handicap);
        let workers = flags::number(&arm.serve, "--workers").unwrap_or(self.cores.server.len());
        let server_busy = watch.end(self.cell, workers);
        let server_cpu_s = server.cpu_s();
        server.stop();
        let after = self.machine.look(&self.place.witnesses());
        let seconds = now().saturating_duration_since(since).as_secs_f64();
        let report: Value = match serde_json::from_slice(&stdout) {
            Ok(report) => report,
            Err(_) if self.signals.try_recv() != Err(TryRecvError::Empty) => {
                return Err(Trouble::Interrupted);
            }
            Err(_) => {
                let code = code.map_or_else(|| "killed".into(), |code| format!("exit code {code}"));
                return Err(broken(format!("the generator: {} ({code})", generator.last_words())));
            }
        };
        let mut readings = after.since(&before, seconds, ours_since(ours));
        readings.extend(generator_readings(&report, workload, server_busy));
        let figure = figure(&report, workload).unwrap_or_default();
        if figure <= 0.0 {
            let (ending, errors) = (&report["ending"], &report["errors"]["by_class"]);
            return Err(broken(format!("nothing was done: ending {ending}, errors {errors}")));
        }
        let took_s = now().saturating_duration_since(begun).as_secs_f64();
        Ok(Cell { figure, took_s, readings, server_cpu_s })
    }

    /// Whether a server starts with the flags of `arm`: an error has its last words.
    pub(crate) fn try_server(&self, arm: &Arm) -> Result<(), String> {
        self.server(arm)?.first_line().map(drop)
    }

    fn server(&self, arm: &Arm) -> Result<Process, String> {
        let listen = format!("{}:0", self.place.address);
        let workers = flags::number(&arm.serve, "--workers").unwrap_or(self.cores.server.len());
        let mut defaults = vec![
            ("--listen", listen),
            ("--alpn", "perf".into()),
            ("--workers", workers.to_string()),
            ("--drain", "0".into()),
        ];
        if let Some(cores) = self.cores.of_workers(workers) {
            defaults.push(("--cores", flags::list(cores)));
        }
        let mut arguments = vec!["serve".to_owned(), "-q".into()];
        arguments.extend(flags::merged(&defaults, &arm.serve));
        let holder = self.place.server_holder();
        let started = match &arm.program {
            Some(program) => Process::start_program(program, holder, &arguments),
            None => Process::start(holder, &arguments),
        };
        started.map_err(|error| error.to_string())
    }

    fn load_flags(
        &self,
        arm: &Arm,
        workload: Workload,
        address: &str,
    ) -> Result<Vec<String>, Trouble> {
        let milliseconds = |time: Duration| format!("{}ms", time.as_millis());
        let workers = self.cores.generator.len().to_string();
        let mut defaults = vec![
            ("--threads", workers),
            ("--cores", flags::list(&self.cores.generator)),
            ("--duration", milliseconds(self.cell)),
            ("--warmup", milliseconds(warm_up(self.cell))),
        ];
        let reached = || {
            let none = || Trouble::Bench("the rate of a closed loop is not known".into());
            self.reached.ok_or_else(none)
        };
        let rate = |factor: f64, reached: f64| format!("{:.0}", (reached * factor).max(1.0));
        match workload {
            Workload::Requests => defaults.extend(CLOSED.map(owned)),
            Workload::Bulk => defaults.extend(BULK.map(owned)),
            Workload::Handshakes => defaults.push(("--connections", "16".into())),
            Workload::Overload => {
                defaults.extend(OPEN.map(owned));
                defaults.push(("--timeout", IN_TIME.into()));
                defaults.push(("--rate", rate(OVERLOAD_FACTOR, reached()?)));
            }
            Workload::Latency | Workload::Tail => {
                defaults.extend(OPEN.map(owned));
                defaults.push(("--rate", rate(LATENCY_FACTOR, reached()?)));
            }
        }
        let mut arguments: Vec<String> =
            ["load", &format!("quic://{address}"), "--perf", "-kk", "-q", "--json"]
                .map(str::to_owned)
                .into();
        if workload == Workload::Handshakes {
            arguments.push("--handshakes".into());
        }
        arguments.extend(flags::merged(&defaults, &arm.load));
        Ok(arguments)
    }

    /// How long a generator may take.
    fn patience(&self) -> Duration {
        offered(self.cell) + PATIENCE
    }
}

/// How long load is offered for a cell that measures for so long.
pub(super) fn offered(cell: Duration) -> Duration {
    cell + warm_up(cell)
}

fn warm_up(cell: Duration) -> Duration {
    (cell / 4).clamp(WARM_UP_MIN, WARM_UP_MAX)
}

fn owned((name, value): (&'static str, &str)) -> (&'static str, String) {
    (name, value.to_owned())
}

/// The first address of a ready line.
fn address(ready: &str) -> Option<String> {
    let value = ready.split_whitespace().find_map(|word| word.strip_prefix("listen="))?;
    value.split(',').next().map(str::to_owned)
}

/// The figure of a workload in a report.
fn figure(report: &Value, workload: Workload) -> Option<f64> {
    match workload {
        Workload::Requests | Workload::Overload => report["requests_per_s"].as_f64(),
        Workload::Bulk => report["gbit_s"].as_f64(),
        Workload::Handshakes => report["handshakes_per_s"].as_f64(),
        Workload::Latency => report["latency_us"]["p50"].as_f64(),
        Workload::Tail => report["latency_us"]["p99"].as_f64(),
    }
}

fn generator_readings(
    report: &Value,
    workload: Workload,
    server_busy: f64,
) -> BTreeMap<Guard, f64> {
    let busy = report["busy"].as_f64().unwrap_or_default();
    // Two that are busy all the time share the rate between them; but latency is from the moment
    // at which a request was due, and whoever sends it late adds to it.
    let is_rate = !matches!(workload, Workload::Latency | Workload::Tail);
    let is_the_server = is_rate && server_busy >= SERVER_BUSY;
    let is_saturated = report["saturated"] == true && !is_the_server;
    let errors = report["errors"]["total"].as_f64().unwrap_or_default();
    let units = report["requests"].as_f64().unwrap_or_default()
        + report["handshakes"].as_f64().unwrap_or_default();
    let share = if units + errors > 0.0 { errors / (units + errors) } else { 0.0 };
    // Beyond its own threshold the generator says so; below it, busy is no reason to doubt it.
    let busy = if is_saturated { 1.0 } else { busy.min(BUSY_MAX) };
    [(Guard::Generator, busy), (Guard::Errors, share)].into()
}

/// CPU time of this process and of all that it waited for, seconds.
fn ours() -> Option<f64> {
    let of = |fields| cpu_s("/proc/self/stat", fields);
    Some(of([11, 12])? + of([13, 14])?)
}

fn ours_since(before: Option<f64>) -> f64 {
    ours().zip(before).map_or(0.0, |(now, before)| now - before)
}

/// Requests of a few packets, so many that the server is never idle, and such that they cost it
/// more than the generator: it is the server that is measured.
const CLOSED: [(&str, &str); 3] =
    [("--connections", "64"), ("--streams", "8"), ("--response-size", "8k")];

/// Long responses, few of them.
const BULK: [(&str, &str); 3] =
    [("--connections", "4"), ("--streams", "2"), ("--response-size", "1m")];

/// Requests that are sent when they are due.
const OPEN: [(&str, &str); 2] = [("--connections", "64"), ("--response-size", "8k")];

/// What is answered later was answered in vain.
const IN_TIME: &str = "100ms";

/// More than a closed loop reaches, and no more than the generator can offer.
const OVERLOAD_FACTOR: f64 = 1.5;

/// So much less that requests come one by one: queues are short, trains are rare, and what is seen
/// is what a request takes.
const LATENCY_FACTOR: f64 = 0.1;

/// Below the limit of the guard.
const BUSY_MAX: f64 = 0.98;

/// A server with no more than that to spare is the bottleneck.
const SERVER_BUSY: f64 = 0.9;

/// Connections are open and congestion windows wide by then.
const WARM_UP_MIN: Duration = Duration::from_millis(100);
const WARM_UP_MAX: Duration = Duration::from_secs(1);

/// Beyond its duration a generator needs a moment to open and to close.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a cell waits for a quiet host, and how long it looks whether it is.
const QUIET_WITHIN: Duration = Duration::from_secs(5);
const QUIET_LOOK: Duration = Duration::from_millis(100);

/// For starting a server while values of the host are set, seconds.
const VALUES_S: u64 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_a_report() {
        let report = serde_json::json!({
            "requests_per_s": 5.0, "gbit_s": 2.0, "handshakes_per_s": 7.0,
            "latency_us": {"p50": 40, "p99": 900}, "busy": 1.0, "saturated": false,
            "requests": 90, "handshakes": 0, "errors": {"total": 10},
        });
        let figures = Workload::ALL.map(|workload| figure(&report, workload));
        assert_eq!(figures, [5.0, 2.0, 7.0, 5.0, 40.0, 900.0].map(Some));
        let readings = generator_readings(&report, Workload::Requests, 0.5);
        assert_eq!(readings, [(Guard::Generator, BUSY_MAX), (Guard::Errors, 0.1)].into());
        let saturated = serde_json::json!({"saturated": true});
        let of = |workload, server| generator_readings(&saturated, workload, server);
        for (workload, server, expected) in [
            (Workload::Requests, 0.8, 1.0),
            (Workload::Requests, 0.95, 0.0),
            (Workload::Tail, 0.95, 1.0),
        ] {
            assert_eq!(of(workload, server)[&Guard::Generator], expected, "{workload:?} {server}");
        }
        assert_eq!(figure(&saturated, Workload::Bulk), None);
    }

    #[test]
    fn the_address_is_that_of_the_ready_line() {
        let line = "ready listen=127.0.0.1:5,[::1]:5 workers=1\n";
        assert_eq!(address(line).as_deref(), Some("127.0.0.1:5"));
        assert_eq!(address("listening"), None);
    }

    #[test]
    fn more_workers_take_the_cores_of_the_generator_last() {
        let cores = Cores::new(vec![2], vec![0], &[0, 1, 2]);
        let of = |workers| cores.of_workers(workers).map(flags::list);
        assert_eq!((of(1).as_deref(), of(3).as_deref()), (Some("2"), Some("2,1,0")));
        assert_eq!(of(4), None, "then nobody is pinned");
    }

    #[test]
    fn cpu_time_counts_up() {
        assert!(ours().is_some_and(|seconds| seconds >= 0.0));
        assert!(ours_since(Some(0.0)) >= 0.0 && ours_since(None) == 0.0);
    }
}
