//! course takes a comparison from its beginning to its result: where it is measured, how the budget
//! is divided, what is shown meanwhile.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use quiclane::clock::{now, unix_time};
use quiclane_tuning::experiment::{
    Arm, Begin, Blocks, Effect, Ended, Findings, Log, Machine, Progress, Records, Skipped, Trouble,
    run,
};

use super::bench::{Cores, RealBench, offered};
use super::machine::{differences, fingerprint, incomparable};
use super::place::{Device, Place};
use super::values::Host;
use super::{CourseArgs, DeviceFlag};
use crate::exit::{Exit, Failure};
use crate::tune::report;
use crate::{host, output, signals};

/// Where and how a comparison is measured.
pub(crate) struct Course<'a> {
    args: &'a CourseArgs,
    place: Place,
    device: &'static str,
    cores: Cores,
    signals: Receiver<()>,
}

impl<'a> Course<'a> {
    /// Makes the place.
    pub(crate) fn open(args: &'a CourseArgs) -> Result<Self, Failure> {
        let allowed = allowed_cores();
        let of = |given: &Option<crate::flags::Cores>, default: Option<&usize>| match given {
            Some(cores) => cores.0.clone(),
            None => default.copied().into_iter().collect(),
        };
        let server = of(&args.server_cores, allowed.first());
        let cores = Cores::new(server, of(&args.load_cores, allowed.last()), &allowed);
        Self::at(args, args.device, cores)
    }

    fn at(args: &'a CourseArgs, device: DeviceFlag, cores: Cores) -> Result<Self, Failure> {
        let signals = signals::listen()?;
        let place = Place::open(device.into()).map_err(Failure::Setting)?;
        let device = match Device::from(device) {
            Device::Lo => "lo",
            Device::Veth => "veth",
            Device::Host => "host",
        };
        Ok(Self { args, place, device, cores, signals })
    }

    /// How many cores this process may use.
    pub(crate) fn cores(&self) -> usize {
        allowed_cores().len()
    }

    /// Measures there, unless what is set there will not stay.
    pub(crate) fn bench(&self) -> Result<RealBench<'_>, Failure> {
        let host = Host::new(&self.place, &self.args.journal);
        host.is_steady().map_err(Failure::Setting)?;
        Ok(RealBench {
            place: &self.place,
            host,
            cores: self.cores.clone(),
            cell: self.args.cell.unwrap_or(PROBE),
            reached: None,
            signals: &self.signals,
            machine: Machine::default(),
            limits: self.args.limits(),
            waited: Duration::ZERO,
            since: now(),
        })
    }

    /// Measures `arms` and says what they are worth.
    pub(crate) fn begin(
        &self,
        what: &str,
        arms: Vec<Arm>,
        skipped: Vec<Skipped>,
        mut bench: RealBench<'_>,
    ) -> Result<Exit, Failure> {
        if arms.is_empty() {
            let why = skipped.first().map(|of| format!("{}: {}", of.name, of.why));
            let why = why.unwrap_or_else(|| "name other values".into());
            return Err(Failure::Setting(format!("nothing to compare is left here: {why}")));
        }
        let at_s = unix_time().as_secs();
        let path = self.path(what, at_s)?;
        let workloads = self.args.workloads();
        let baseline = Arm::baseline();
        let probe = match bench.probe(&baseline) {
            Ok(probe) => probe,
            Err(Trouble::Interrupted) => {
                output::log("interrupted before the first block: there is nothing to resume");
                return Ok(Exit::Interrupted);
            }
            Err(Trouble::Arm(why) | Trouble::Bench(why)) => {
                return Err(Failure::Measuring(format!("the baseline does not run: {why}")));
            }
        };
        bench.reached = Some(probe.figure);
        let values = if arms.iter().any(|arm| !arm.set.is_empty()) { VALUES_S } else { 0.0 };
        // On a busy host the budget is used up earlier; that is no reason to refuse.
        let took_s = probe.took_s - bench.waited.as_secs_f64();
        let overhead_s = took_s - offered(bench.cell).as_secs_f64() + values;
        let (cell, blocks) = self.divide(arms.len(), workloads.len(), overhead_s)?;
        bench.cell = cell;
        let begin = Begin {
            schema: Begin::VERSION,
            what: what.into(),
            command: host::command(),
            at_s,
            seed: self.args.seed.unwrap_or(at_s),
            budget_s: self.args.budget.as_secs_f64(),
            cell_s: cell.as_secs_f64(),
            smallest_effect: self.args.smallest_effect,
            blocks,
            workloads,
            arms: std::iter::once(baseline).chain(arms).collect(),
            skipped,
            limits: self.args.limits(),
            reached: bench.reached,
            device: self.device.into(),
            server_cores: self.cores.server.clone(),
            load_cores: self.cores.generator.clone(),
            host: fingerprint(&self.place.about),
        };
        let records = Records::create(&path, &begin)?;
        self.go(Log::new(begin), records, bench, &path)
    }

    /// The file of records: what is wrong with it is said before anything is measured.
    fn path(&self, what: &str, at_s: u64) -> Result<PathBuf, Failure> {
        let usual = || PathBuf::from(format!("quiclane-{what}-{at_s}.jsonl"));
        let path = self.args.output.clone().unwrap_or_else(usual);
        Records::is_free(&path)?;
        Ok(path)
    }

    /// The length of cells and the number of blocks: what disturbs a host lasts for seconds, so
    /// that many short blocks tell more than few long ones.
    fn divide(
        &self,
        arms: usize,
        workloads: usize,
        overhead_s: f64,
    ) -> Result<(Duration, Blocks), Failure> {
        let budget_s = self.args.budget.as_secs_f64();
        let given = self.args.cell.map(|cell| vec![cell]);
        let mut needed_s = budget_s;
        let mut best = None;
        for cell in given.unwrap_or_else(|| CELLS.to_vec()) {
            let block_s = 4.0 * (offered(cell).as_secs_f64() + overhead_s.max(0.0));
            match Blocks::plan(arms, workloads, budget_s, block_s) {
                Ok(blocks) => best = Some((cell, blocks)),
                Err(needed) => needed_s = needed,
            }
            if best.is_some_and(|(_, blocks)| blocks.screen >= BLOCKS_GOOD) {
                break;
            }
        }
        if let Some(best) = best {
            return Ok(best);
        }
        let (budget, needed) = (duration(budget_s), duration(needed_s.ceil()));
        Err(Failure::Setting(format!(
            "--budget {budget} is too short for {arms} x {workloads} comparisons: give at least \
             --budget {needed}, a shorter --cell, or fewer of them"
        )))
    }

    fn go(
        &self,
        mut log: Log,
        mut records: Records,
        mut bench: RealBench<'_>,
        path: &Path,
    ) -> Result<Exit, Failure> {
        let mut show = Show::new(self.args.quiet, &log, &self.place.about);
        let ended = run(&mut log, &mut records, &mut bench, |progress| show.block(progress));
        show.end();
        let ended = ended?;
        let findings = Findings::new(&log);
        match self.args.json {
            true => output::json(&report::Json::new(&log, &findings))?,
            false => {
                output::result(report::Table { log: &log, findings: &findings, file: path })?;
            }
        }
        let path = path.display();
        match ended {
            Ended::Complete => {
                output::log(format_args!(
                    "records: {path}; a page: quiclane tune report {path} -o PAGE.html"
                ));
                output::warnings(unmeasured(&log, &findings).as_slice());
                match findings.effects.iter().any(|effect| effect.estimate.is_some()) {
                    true => Ok(Exit::Ok),
                    false => Ok(Exit::Invalid),
                }
            }
            Ended::Interrupted => {
                output::log(format_args!("interrupted: go on with --resume {path}"));
                Ok(Exit::Interrupted)
            }
        }
    }
}

/// Goes on with what `path` has.
pub(super) fn resume(args: &CourseArgs, path: &Path) -> Result<Exit, Failure> {
    let (log, records) = Records::resume(path)?;
    let begin = &log.begin;
    let device = match begin.device.as_str() {
        "veth" => DeviceFlag::Veth,
        "host" => DeviceFlag::Host,
        _ => DeviceFlag::Lo,
    };
    let (server, generator) = (begin.server_cores.clone(), begin.load_cores.clone());
    let cores = Cores::new(server, generator, &allowed_cores());
    let course = Course::at(args, device, cores)?;
    let here = fingerprint(&course.place.about);
    if let Some((name, then, now)) = differences(&begin.host, &here).first() {
        return Err(Failure::Setting(format!(
            "--resume {}: {name} was {then:?} and is {now:?}: {}",
            path.display(),
            incomparable(name)
        )));
    }
    let mut bench = course.bench()?;
    bench.cell = Duration::try_from_secs_f64(begin.cell_s).unwrap_or(CELLS[0]);
    bench.reached = begin.reached;
    bench.limits = begin.limits.clone();
    course.go(log, records, bench, path)
}

/// Of what a run that is done says nothing at all, though it runs here.
fn unmeasured(log: &Log, findings: &Findings) -> Option<String> {
    let is_empty = |effect: &&Effect| {
        effect.estimate.is_none() && !log.broken.contains_key(&(effect.arm, effect.workload))
    };
    let name = |effect: &Effect| format!("{} ({})", effect.name, effect.workload.name());
    let names: Vec<String> = findings.effects.iter().filter(is_empty).map(name).collect();
    (!names.is_empty()).then(|| {
        let budget = duration(log.begin.budget_s);
        format!(
            "no block that is fit for use was measured of {}, and the budget of {budget} is used \
             up or every try was void: give a longer --budget, a quieter host, or other limits by \
             --guard",
            names.join(", ")
        )
    })
}

/// The cores that this process may use.
fn allowed_cores() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![0] };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// What is shown while it lasts.
struct Show {
    bar: Option<ProgressBar>,
    quiet: bool,
    names: Vec<String>,
}

impl Show {
    fn new(quiet: bool, log: &Log, place: &str) -> Self {
        let begin = &log.begin;
        let names = begin.arms.iter().map(|arm| arm.name.clone()).collect();
        if !quiet {
            let Blocks { calibrate, screen, confirm } = begin.blocks;
            output::log(format_args!(
                "settings: {}, and {} not measurable here; blocks: {} of calibration, {screen} of \
                 each{}; cells of {}; on {place}",
                begin.arms.len() - 1,
                begin.skipped.len(),
                calibrate,
                match confirm {
                    0 => String::new(),
                    confirm => format!(", {confirm} more of the best"),
                },
                duration(begin.cell_s)
            ));
        }
        let bar = (!quiet && io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg}");
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, quiet, names }
    }

    fn block(&mut self, progress: &Progress<'_>) {
        if self.quiet {
            return;
        }
        if let Some(void) = &progress.void {
            self.line(format!("void: {void}"));
        }
        let text = self.text(progress);
        match &self.bar {
            Some(bar) => bar.set_message(text),
            None => output::log(text),
        }
    }

    fn text(&self, progress: &Progress<'_>) -> String {
        let Progress { step, arm, blocks, arms, left_s, .. } = progress;
        let (phase, workload) = (step.phase.name(), step.workload.name());
        let number = self.names.iter().position(|name| *name == arm.name).unwrap_or(0);
        let which = match number {
            0 => arm.name.clone(),
            number => format!("{} (knob {number} of {})", arm.name, self.names.len() - 1),
        };
        let of = if *arms > 1 { format!(", {arms} in this phase") } else { String::new() };
        let again = if step.attempt > 0 { ", again" } else { "" };
        let left = duration(left_s.round());
        format!(
            "{phase}: {which}, {workload}, block {} of {blocks}{again}{of}; at most {left} left",
            step.block + 1
        )
    }

    fn line(&self, text: String) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => output::log(text),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Seconds for people.
pub(in crate::tune) fn duration(seconds: f64) -> String {
    let time = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    humantime::format_duration(Duration::from_millis(
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX),
    ))
    .to_string()
}

/// Lengths of cells, the best first.
const CELLS: [Duration; 4] = [
    Duration::from_secs(2),
    Duration::from_secs(1),
    Duration::from_millis(500),
    Duration::from_millis(300),
];

/// Long enough to know the rate that the others are set by.
const PROBE: Duration = Duration::from_millis(500);

/// With so many blocks longer cells are worth their time.
const BLOCKS_GOOD: u32 = 20;

/// Setting values of the host and putting them back, spread over the cells of a block, seconds.
const VALUES_S: f64 = 0.3;
