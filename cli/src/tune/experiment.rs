//! experiment measures what knobs are worth on this host; what it measures with is shared with
//! `bench matrix`.

mod bench;
mod course;
mod flags;
mod machine;
mod place;
mod process;
mod settings;
mod values;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use quiclane_tuning::Folder;
use quiclane_tuning::experiment::{Arm, Guard, Limits, Workload};

use super::flags::assignment;
use crate::exit::{Exit, Failure};
use crate::flags::{Cores, cores, positive_time};
pub(crate) use course::Course;
use place::Device;
use settings::Settings;

/// Measure what knobs are worth on this host, with the engine and the load generator
///
/// The baseline against itself first, then one knob at a time, in blocks of four cells in the order
/// ABBA or BAAB, then the best few again on fresh data. Each knob gets a verdict: better, worse,
/// equivalent or inconclusive. Whatever is set on the host is put back after each cell, also if the
/// command is killed. With root it measures in network namespaces of its own.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group(ArgGroup::new("what").args(["knob", "all", "handicap", "resume"]).required(true)
    .multiple(true)))]
pub(crate) struct ExperimentArgs {
    /// Measure this value of a knob, or several that are set together; may be repeated
    #[arg(long, value_name = "KNOB=VALUE[,...]", value_parser = set, conflicts_with = "all")]
    knob: Vec<Knobs>,

    /// Measure every candidate of every knob that acts here
    #[arg(long)]
    all: bool,

    /// Measure a server that is stopped for this share of the time: a difference whose size is
    /// known; 0% is the baseline once more
    #[arg(long, value_name = "PERCENT", value_parser = handicap)]
    handicap: Option<f64>,

    #[command(flatten)]
    course: CourseArgs,
}

/// How to measure, whatever is compared.
#[derive(Args, Debug)]
pub(crate) struct CourseArgs {
    /// What to measure; may be repeated, and shares the budget
    #[arg(long, value_enum, value_name = "NAME", default_values = ["requests"])]
    workload: Vec<WorkloadFlag>,

    /// How long all of it may take
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = positive_time)]
    budget: Duration,

    /// The smallest effect that matters: below it two values are equivalent
    #[arg(long, value_name = "PERCENT", default_value = "2%", value_parser = share)]
    smallest_effect: f64,

    /// The measured part of a cell [default: 2s, or less, down to 300ms, for a short budget]
    #[arg(long, value_name = "TIME", value_parser = cell)]
    cell: Option<Duration>,

    /// What orders are drawn from [default: the clock]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// What server and generator are joined by
    #[arg(long, value_enum, value_name = "NAME", default_value = "lo")]
    device: DeviceFlag,

    /// Cores of the server [default: the first one that this process may use]
    #[arg(long, value_name = "LIST", value_parser = cores)]
    server_cores: Option<Cores>,

    /// Cores of the generator [default: the last one]
    #[arg(long, value_name = "LIST", value_parser = cores)]
    load_cores: Option<Cores>,

    /// Another limit for what makes a block void; steal, others, softirq, drops, generator and
    /// errors are shares, backlog is packets a second, temperature degrees Celsius; may be repeated
    #[arg(long, value_name = "NAME=LIMIT", value_parser = guard)]
    guard: Vec<(Guard, f64)>,

    /// Folder of the journal in which the host's own values are kept
    #[arg(long, value_name = "DIR", default_value = Folder::DEFAULT)]
    journal: PathBuf,

    /// Write every measurement into this file [default: quiclane-experiment-TIME.jsonl]
    #[arg(short, long, value_name = "FILE", conflicts_with = "resume")]
    output: Option<PathBuf>,

    /// Go on with a run that was interrupted: what is in FILE is not measured again. Everything
    /// else is as it was asked for then
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "workload", "budget", "smallest_effect", "cell", "seed", "device", "server_cores",
        "load_cores", "guard",
    ])]
    resume: Option<PathBuf>,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,

    /// The result as JSON on stdout
    #[arg(long)]
    json: bool,
}

/// --knob; a type of its own, because clap takes a list for one that is repeated.
#[derive(Clone, Debug)]
struct Knobs(Vec<(String, String)>);

/// --workload.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum WorkloadFlag {
    /// Small requests in a closed loop: requests a second
    Requests,
    /// Long responses: Gbit/s
    Bulk,
    /// Full handshakes a second
    Handshakes,
    /// 1.5 times the rate that is possible: what is answered within 100 ms of being sent
    Overload,
    /// A tenth of the rate that is possible: the median of the latency
    Latency,
    /// The same rate: the 99th percentile of the latency
    Tail,
}

impl From<WorkloadFlag> for Workload {
    fn from(flag: WorkloadFlag) -> Self {
        match flag {
            WorkloadFlag::Requests => Self::Requests,
            WorkloadFlag::Bulk => Self::Bulk,
            WorkloadFlag::Handshakes => Self::Handshakes,
            WorkloadFlag::Overload => Self::Overload,
            WorkloadFlag::Latency => Self::Latency,
            WorkloadFlag::Tail => Self::Tail,
        }
    }
}

/// --device.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DeviceFlag {
    /// Loopback, with root that of a namespace of its own
    Lo,
    /// A veth pair between two namespaces; needs root
    Veth,
    /// Loopback of the host itself: its own values of every knob, and everybody else's packets
    Host,
}

impl From<DeviceFlag> for Device {
    fn from(flag: DeviceFlag) -> Self {
        match flag {
            DeviceFlag::Lo => Self::Lo,
            DeviceFlag::Veth => Self::Veth,
            DeviceFlag::Host => Self::Host,
        }
    }
}

impl CourseArgs {
    /// Whether it goes on with an earlier one.
    pub(crate) const fn is_resumed(&self) -> bool {
        self.resume.is_some()
    }

    /// Goes on with it.
    pub(crate) fn resume(&self) -> Result<Exit, Failure> {
        match &self.resume {
            Some(path) => course::resume(self, path),
            None => Err(Failure::Setting("--resume FILE is missing".into())),
        }
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.0.extend(self.guard.iter().copied());
        limits
    }

    fn workloads(&self) -> Vec<Workload> {
        let mut workloads: Vec<Workload> = Vec::new();
        for workload in self.workload.iter().copied().map(Workload::from) {
            if !workloads.contains(&workload) {
                workloads.push(workload);
            }
        }
        workloads
    }
}

/// Runs the command.
pub(super) fn run(args: &ExperimentArgs) -> Result<Exit, Failure> {
    if let Some(path) = &args.course.resume {
        let asked = args.all || !args.knob.is_empty() || args.handicap.is_some();
        if asked {
            return Err(Failure::WithoutEffect {
                flags: "--knob, --all, --handicap".into(),
                beside: format!("--resume {}", path.display()),
                why: "which goes on with what was asked for then",
                remedy: "begin another file",
            });
        }
        return args.course.resume();
    }
    let course = Course::open(&args.course)?;
    let bench = course.bench()?;
    let mut settings = match args.all {
        true => match Settings::all(&bench) {
            Ok(settings) => settings,
            Err(_) => return Ok(Exit::Interrupted),
        },
        false => {
            let sets: Vec<_> = args.knob.iter().map(|knobs| knobs.0.clone()).collect();
            Settings::asked(&sets, &bench).map_err(Failure::Setting)?
        }
    };
    settings.arms.extend(args.handicap.map(handicapped));
    course.begin("experiment", settings.arms, settings.skipped, bench)
}

fn handicapped(share: f64) -> Arm {
    let name = format!("handicap={}%", share * 100.0);
    let about = "the server is stopped for this share of the time".into();
    Arm { name, handicap: share, about, ..Arm::baseline() }
}

fn set(text: &str) -> Result<Knobs, String> {
    // Values of some knobs have commas: what has no = belongs to the value before.
    let mut parts: Vec<String> = Vec::new();
    for part in text.split(',') {
        match parts.last_mut().filter(|_| !part.contains('=')) {
            Some(last) => last.push_str(&format!(",{part}")),
            None => parts.push(part.to_owned()),
        }
    }
    parts.iter().map(|part| assignment(part)).collect::<Result<_, _>>().map(Knobs)
}

/// A share: `5%`, or `0.05`.
fn percent(text: &str) -> Option<f64> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    Some(share).filter(|share| share.is_finite())
}

fn share(text: &str) -> Result<f64, String> {
    percent(text)
        .filter(|share| *share > 0.0 && *share <= 0.5)
        .ok_or_else(|| "write a share of more than 0% to 50%, as 2%".into())
}

fn handicap(text: &str) -> Result<f64, String> {
    percent(text)
        .filter(|share| (0.0..=0.5).contains(share))
        .ok_or_else(|| "write a share from 0% to 50%, as 5%".into())
}

fn guard(text: &str) -> Result<(Guard, f64), String> {
    let names = || Guard::ALL.map(Guard::name).join(", ");
    let (name, limit) = text
        .split_once('=')
        .ok_or_else(|| format!("write NAME=LIMIT, as steal=5%: {}", names()))?;
    let guard = Guard::ALL.into_iter().find(|guard| guard.name() == name);
    let guard = guard.ok_or_else(|| format!("{name:?} is none of {}", names()))?;
    let limit = percent(limit).filter(|limit| *limit >= 0.0);
    let limit = limit.ok_or_else(|| format!("{name}: write a limit as 5%, 0.05 or 100"))?;
    Ok((guard, limit))
}

fn cell(text: &str) -> Result<Duration, String> {
    match positive_time(text)? {
        time if (CELL_MIN..=CELL_MAX).contains(&time) => Ok(time),
        _ => Err("must be 100ms to 10m".into()),
    }
}

/// Shorter ones measure how connections begin.
const CELL_MIN: Duration = Duration::from_millis(100);

/// The host is another one by then.
const CELL_MAX: Duration = Duration::from_secs(600);

const EXAMPLES: &str = "\
Examples:
  quiclane tune experiment --knob io=epoll --knob socket_buffer=16m
  sudo quiclane tune experiment --device veth --knob gro=on --workload bulk --budget 15m
  sudo quiclane tune experiment --all --budget 3h -o host.jsonl
  sudo quiclane tune experiment --resume host.jsonl
  quiclane tune experiment --handicap 5% --budget 5m
  quiclane tune report host.jsonl -o host.html";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knobs_are_set_together_and_values_may_have_commas() {
        let of = |text: &str| set(text).map(|knobs| knobs.0.len());
        assert_eq!((of("io=epoll"), of("io=epoll,gro=on")), (Ok(1), Ok(2)));
        assert_eq!(set("rps_cpus=0,1,gro=on").unwrap().0[0].1, "0,1");
        for wrong in ["", "io", "=x", "io="] {
            assert!(set(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_are_percent_or_numbers() {
        assert_eq!((share("2%"), share("0.5")), (Ok(0.02), Ok(0.5)));
        assert_eq!((handicap("0%"), handicap("5%")), (Ok(0.0), Ok(0.05)));
        for wrong in ["", "%", "x", "-1%", "51%", "nan", "inf"] {
            assert!(share(wrong).is_err() && handicap(wrong).is_err(), "{wrong}");
        }
        assert!(share("0%").is_err());
    }

    #[test]
    fn guards_have_names_and_limits() {
        assert_eq!(guard("steal=5%"), Ok((Guard::Steal, 0.05)));
        assert_eq!(guard("backlog=100"), Ok((Guard::Backlog, 100.0)));
        for (wrong, words) in
            [("steal", "NAME=LIMIT"), ("x=1", "none of steal"), ("steal=-1", "5%")]
        {
            assert!(guard(wrong).unwrap_err().contains(words), "{wrong}");
        }
    }

    #[test]
    fn cells_are_neither_too_short_nor_too_long() {
        assert!(cell("100ms").is_ok() && cell("99ms").is_err() && cell("11m").is_err());
    }
}
