//! matrix compares every combination of settings of the engine with the default one.
//!
//! The same blocks, statistics and records as `tune experiment`, whose report reads it.

use clap::{Args, ValueEnum};
use quiclane_tuning::experiment::{Arm, Skipped};

use crate::exit::{Exit, Failure};
use crate::flags::positive_usize;
use crate::options::{IoFlag, SteeringFlag};
use crate::serve::Switch;
use crate::tune::{Course, CourseArgs};

/// Compare combinations of engine, I/O, steering, workers, MTU, GSO and GRO with the default one
///
/// Each combination is measured in blocks of its own, ABBA or BAAB, against a server without any of
/// these flags. What does not start here is listed with the reason. `quiclane tune report` shows
/// the records.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MatrixArgs {
    /// Builds of quiclane that the server is of: `this`, or a program's path. The generator is this
    /// one [default: this]
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "resume",
          value_parser = engine)]
    engine: Vec<String>,

    /// How datagrams enter and leave
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', conflicts_with = "resume",
          default_values = ["uring", "epoll"])]
    io: Vec<IoFlag>,

    /// How packets find their worker [default: reuseport,cbpf,hash with several workers, which
    /// alone have something to steer]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', conflicts_with = "resume")]
    steering: Vec<SteeringFlag>,

    /// Worker threads of the server [default: 1, and one for each core this process may use]
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = positive_usize,
          conflicts_with = "resume")]
    workers: Vec<usize>,

    /// Largest UDP payloads, bytes [default: 1200,1472]
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "resume",
          value_parser = clap::value_parser!(u16).range(1_200..=65_527))]
    mtu: Vec<u16>,

    /// Datagrams of a train that the server sends; 1: no trains
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = ["1", "128"],
          conflicts_with = "resume",
          value_parser = clap::value_parser!(u8).range(1..=128))]
    gso_segments: Vec<u8>,

    /// Whether the server receives trains
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',', conflicts_with = "resume",
          default_values = ["on", "off"])]
    gro: Vec<Switch>,

    /// Only one value at a time: io, steering, workers, MTU, GSO and GRO for themselves, not their
    /// combinations
    #[arg(long, conflicts_with = "resume")]
    quick: bool,

    #[command(flatten)]
    course: CourseArgs,
}

/// One value of one setting.
#[derive(Clone)]
struct Value {
    /// As in `io=epoll`.
    name: String,
    /// The program of the server; `None`: this one.
    program: Option<String>,
    /// Of `quiclane serve`.
    flags: Vec<String>,
}

/// Runs the command.
pub(super) fn run(args: &MatrixArgs) -> Result<Exit, Failure> {
    if args.course.is_resumed() {
        return args.course.resume();
    }
    let course = Course::open(&args.course)?;
    let bench = course.bench()?;
    let combinations = args.combinations(course.cores());
    if combinations.len() > COMBINATIONS_MAX {
        return Err(Failure::Setting(format!(
            "{} combinations are more than {COMBINATIONS_MAX}: name fewer values, or give --quick",
            combinations.len()
        )));
    }
    let (mut arms, mut skipped) = (Vec::<Arm>::new(), Vec::new());
    for arm in combinations {
        let is_same = |of: &Arm| (&of.program, &of.serve) == (&arm.program, &arm.serve);
        if is_same(&Arm::baseline()) || arms.iter().any(is_same) {
            continue;
        }
        match bench.try_server(&arm) {
            Ok(()) => arms.push(arm),
            Err(why) => skipped.push(Skipped { name: arm.name, why }),
        }
    }
    course.begin("matrix", arms, skipped, bench)
}

impl MatrixArgs {
    /// Every combination, as an arm.
    fn combinations(&self, cores: usize) -> Vec<Arm> {
        let axes = self.axes(cores);
        let combinations: Vec<Vec<Value>> = match self.quick {
            true => one_at_a_time(axes),
            false => axes.into_iter().fold(vec![Vec::new()], |before, axis| {
                let with = |values: &Vec<Value>| -> Vec<Vec<Value>> {
                    let add = |value: &Value| [&values[..], std::slice::from_ref(value)].concat();
                    axis.iter().map(add).collect()
                };
                before.iter().flat_map(with).collect()
            }),
        };
        combinations.into_iter().filter(|values| is_sensible(values)).map(arm).collect()
    }

    fn axes(&self, cores: usize) -> Vec<Vec<Value>> {
        let flag = |name: &str, flag: &str, value: String| -> Value {
            let flags = vec![flag.to_owned(), value.clone()];
            Value { name: format!("{name}={value}"), program: None, flags }
        };
        let or = |given: &[usize], default: Vec<usize>| match given {
            [] => default,
            given => given.to_vec(),
        };
        let io = self.io.iter().map(|io| flag("io", "--io", name(io))).collect();
        let several = vec![1, cores.max(1)];
        let mut workers = or(&self.workers, several);
        workers.sort_unstable();
        workers.dedup();
        let is_several = workers.iter().any(|workers| *workers > 1);
        let steering = match &self.steering[..] {
            [] if is_several => STEERING.to_vec(),
            given => given.to_vec(),
        };
        let steering =
            steering.iter().map(|way| flag("steering", "--steering", name(way))).collect();
        let workers =
            workers.iter().map(|count| flag("workers", "--workers", count.to_string())).collect();
        let mtu = if self.mtu.is_empty() { &MTU[..] } else { &self.mtu };
        let mtu = mtu.iter().map(|bytes| flag("mtu", "--mtu-max", bytes.to_string())).collect();
        let gso = self.gso_segments.iter();
        let gso = gso.map(|count| flag("gso", "--gso-segments", count.to_string())).collect();
        let gro = self.gro.iter().map(|on| flag("gro", "--gro", name(on))).collect();
        let engine = |path: &String| {
            let program = Some(path.clone()).filter(|path| path != THIS);
            Value { name: format!("engine={path}"), program, flags: Vec::new() }
        };
        let engine = self.engine.iter().map(engine).collect();
        let axes: Vec<Vec<Value>> = vec![engine, io, steering, workers, mtu, gso, gro];
        axes.into_iter().filter(|axis| !axis.is_empty()).collect()
    }
}

/// Each value by itself; ways of steering with the most workers, since one has nothing to steer.
fn one_at_a_time(axes: Vec<Vec<Value>>) -> Vec<Vec<Value>> {
    let values: Vec<Value> = axes.into_iter().flatten().collect();
    let count = |value: &&Value| value.name.strip_prefix("workers=")?.parse::<usize>().ok();
    let of_workers = values.iter().filter(|value| count(value).is_some());
    let most = of_workers.max_by_key(count).cloned();
    let with = |value: &Value| match &most {
        Some(workers) if value.name.starts_with("steering=") => {
            vec![workers.clone(), value.clone()]
        }
        _ => vec![value.clone()],
    };
    values.iter().map(with).collect()
}

/// A single worker has nothing to steer: any way is the same.
fn is_sensible(values: &[Value]) -> bool {
    let names = || values.iter().map(|value| value.name.as_str());
    let has = |name: &str| names().any(|of| of == name);
    let ways = names().any(|of| of.starts_with("steering=") && of != "steering=hash");
    !(has("workers=1") && ways)
}

fn arm(values: Vec<Value>) -> Arm {
    let name = values.iter().map(|value| value.name.clone()).collect::<Vec<_>>().join(" ");
    let program = values.iter().find_map(|value| value.program.clone());
    let serve = values.into_iter().flat_map(|value| value.flags).collect();
    Arm { name, program, serve, ..Arm::baseline() }
}

/// This program, or another one, by its full path: a cell might look for it elsewhere.
fn engine(text: &str) -> Result<String, String> {
    if text == THIS {
        return Ok(THIS.into());
    }
    let path = std::fs::canonicalize(text);
    let path = path.map_err(|error| format!("{error}: give `{THIS}` or a program's path"))?;
    let path = path.into_os_string().into_string();
    path.map_err(|_| "its path is no UTF-8: give it another name".into())
}

/// The value as the flag takes it.
fn name(value: &impl ValueEnum) -> String {
    let name = value.to_possible_value();
    name.map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// The program that measures.
const THIS: &str = "this";

/// What works without XDP on an interface.
const STEERING: [SteeringFlag; 3] =
    [SteeringFlag::Reuseport, SteeringFlag::Cbpf, SteeringFlag::Hash];

/// Every path carries the first, Ethernet with IPv4 the second.
const MTU: [u16; 2] = [1_200, 1_472];

/// More would take days.
const COMBINATIONS_MAX: usize = 200;

const EXAMPLES: &str = "\
Examples:
  quiclane bench matrix --quick --budget 20m -o matrix.jsonl
  quiclane bench matrix --io uring,epoll --workers 1,2 --mtu 1472 --steering hash --budget 30m
  quiclane bench matrix --gso-segments 1,10,128 --workers 1 --workload bulk --device veth
  quiclane bench matrix --engine this,./quiclane-before --io uring --workers 1 --gro on
  quiclane tune report matrix.jsonl -o matrix.html";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        matrix: MatrixArgs,
    }

    fn names(flags: &str) -> Vec<String> {
        let words = ["matrix"].into_iter().chain(flags.split_whitespace());
        let arms = Flags::parse_from(words).matrix.combinations(2);
        arms.into_iter().map(|arm| arm.name).collect()
    }

    #[test]
    fn combinations_are_all_that_make_sense() {
        let one = "--gso-segments 1 --gro on";
        let found =
            names(&format!("--io epoll --mtu 1200 --steering cbpf,hash --workers 1,2 {one}"));
        let of = |steering, workers| {
            format!("io=epoll steering={steering} workers={workers} mtu=1200 gso=1 gro=on")
        };
        assert_eq!(found, [of("cbpf", 2), of("hash", 1), of("hash", 2)]);
        // Two ways of I/O, three of steering with two workers and one with one, two sizes.
        assert_eq!(names(one).len(), 2 * (3 + 1) * 2);
        assert_eq!(names("").len(), 2 * (3 + 1) * 2 * 2 * 2);
    }

    #[test]
    fn engines_are_programs() {
        let flags = "matrix --quick --engine this,/bin/sh";
        let arms = Flags::parse_from(flags.split(' ')).matrix.combinations(1);
        let engines: Vec<_> = arms.iter().map(|arm| (&*arm.name, arm.program.clone())).collect();
        assert_eq!(engines[0], ("engine=this", None));
        let sh = std::fs::canonicalize("/bin/sh").unwrap().to_str().unwrap().to_owned();
        assert_eq!(engines[1], (&*format!("engine={sh}"), Some(sh)));
        let error = Flags::try_parse_from(["matrix", "--engine", "/no/such"]).unwrap_err();
        assert!(error.to_string().contains("give `this` or a program's path"), "{error}");
    }

    #[test]
    fn quick_is_one_value_at_a_time() {
        let found = names("--quick --workers 1,2 --steering hash");
        let expected = [
            "io=uring",
            "io=epoll",
            "workers=2 steering=hash",
            "workers=1",
            "workers=2",
            "mtu=1200",
            "mtu=1472",
            "gso=1",
            "gso=128",
            "gro=on",
            "gro=off",
        ];
        assert_eq!(found, expected);
    }
}
