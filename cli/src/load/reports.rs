//! reports are what `load compare` and `load merge` read.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, ValueEnum};
use quiclane_loadgen::{Comparison, Report, Slo};

use crate::exit::{Exit, Failure};
use crate::output;

use super::files::Output;

/// Compare two runs, or two groups of them, and say how certain the difference is
///
/// Reads reports of `quiclane load --json`. Requests per second, latencies and errors of B by those
/// of A, each with a 95 % interval, from a bootstrap over the intervals of the runs. Better and
/// worse are said of a ratio beyond the margin whose interval excludes 1, equal of an interval
/// within the margin. More in loadgen/README.md.
#[derive(Args, Clone, Debug)]
#[command(after_help = COMPARE_EXAMPLES)]
#[command(group(ArgGroup::new("what").args(["files", "a"]).required(true)))]
pub(super) struct CompareArgs {
    /// The report of A and that of B, which is compared with it
    #[arg(value_name = "A.json B.json", num_args = 2, conflicts_with = "b")]
    files: Vec<PathBuf>,

    /// Reports of A, several runs of one thing: from three of them on it counts how runs differ
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "b")]
    a: Vec<PathBuf>,

    /// Reports of B
    #[arg(long, value_name = "FILE", num_args = 1.., requires = "a")]
    b: Vec<PathBuf>,

    /// What counts as equal
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = margin)]
    margin: f64,

    /// The result as JSON on stdout
    #[arg(long)]
    json: bool,

    /// Which verdict on any number gives exit code 3 [default: none]
    #[arg(long, value_enum, value_name = "VERDICT")]
    fail_on: Option<FailOn>,
}

/// --fail-on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum FailOn {
    /// B is worse than A
    Worse,
}

/// Runs `load compare`.
pub(super) fn compare(args: &CompareArgs) -> Result<Exit, Failure> {
    let (a, b) = match &args.files[..] {
        [a, b] => (read_all(std::slice::from_ref(a))?, read_all(std::slice::from_ref(b))?),
        _ => (read_all(&args.a)?, read_all(&args.b)?),
    };
    let comparison = Comparison::new(&a, &b, args.margin);
    if args.json {
        output::json(&comparison)?;
        log_warnings(&comparison);
    } else {
        output::result(&comparison)?;
    }
    let fails = args.fail_on == Some(FailOn::Worse) && comparison.is_worse();
    Ok(if fails { Exit::Broken } else { Exit::Ok })
}

/// What makes a comparison doubtful, where stdout is for JSON.
pub(super) fn log_warnings(comparison: &Comparison) {
    for warning in &comparison.warnings {
        output::log(format_args!("warning: {warning}"));
    }
}

/// Add up the reports of several generators that loaded one server at the same time
///
/// Reads reports of `quiclane load --json`, made with --partition I/N and --start-at on each
/// machine. Counts and distributions are added, intervals by the clocks of the machines;
/// percentiles are those of the sum. The result is a report that compare and merge take.
#[derive(Args, Clone, Debug)]
#[command(after_help = MERGE_EXAMPLES)]
pub(super) struct MergeArgs {
    /// The reports
    #[arg(value_name = "REPORT.json", required = true)]
    files: Vec<PathBuf>,

    /// Write the sum there, and its text to stdout [default: the sum to stdout]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// What the sum has to keep, as with load
    #[arg(long, value_name = "OBJECTIVES")]
    slo: Option<Slo>,
}

/// Runs `load merge`.
pub(super) fn merge(args: &MergeArgs) -> Result<Exit, Failure> {
    let merged = Report::merge(read_all(&args.files)?, args.slo.as_ref())?;
    match &args.output {
        Some(path) => {
            Output::open("--output", path)?.write(|file| {
                serde_json::to_writer_pretty(&mut *file, &merged)?;
                file.write_all(b"\n")
            })?;
            output::result(format_args!("{}{merged}", super::verdict(&merged)))?;
        }
        None => {
            output::json(&merged)?;
            for note in &merged.detail.notes {
                output::log(format_args!("note: {note}"));
            }
        }
    }
    // The parts have told how they ended; whether the sum keeps what was promised is told here.
    Ok(if args.slo.is_some() { super::exit(&merged) } else { Exit::Ok })
}

/// Reads reports.
fn read_all(paths: &[PathBuf]) -> Result<Vec<Report>, Failure> {
    paths.iter().map(|path| read(path)).collect()
}

fn read(path: &Path) -> Result<Report, Failure> {
    let report = File::open(path).map_err(Into::into).and_then(Report::read);
    report.map_err(|source| Failure::Report { path: path.into(), source })
}

/// `5%`, `2.5%`.
fn margin(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>();
    match percent {
        Ok(percent) if percent > 0.0 && percent <= 50.0 => Ok(percent / 100.0),
        _ => Err("write per cent, more than 0% and at most 50%, for example 5%".into()),
    }
}

const COMPARE_EXAMPLES: &str = "\
Examples:
  quiclane load https://localhost:4433/ -k -d 1m --json > before.json
  quiclane load compare before.json after.json
  quiclane load compare --a before-*.json --b after-*.json --margin 2% --fail-on worse

Exit codes: 0 whatever the verdicts are, 1 a file is no report, 2 usage, 3 worse, with --fail-on.";

const MERGE_EXAMPLES: &str = "\
Examples:
  quiclane load merge part-*.json -o all.json
  quiclane load merge part-*.json -o all.json --slo 'p99<250ms,errors<1%'

Exit codes: 0 ok, 1 a file is no report or none of the same run, 2 usage. With --slo those of a run:
1 something failed, 3 broken, 4 a generator was the bottleneck, 130 a part was interrupted.";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        compare: CompareArgs,
    }

    #[test]
    fn the_margin_is_that_of_versus_unless_it_is_given() {
        let flags = Flags::try_parse_from(["compare", "a", "b"]).unwrap();
        assert_eq!(flags.compare.margin, Comparison::MARGIN);
    }

    #[test]
    fn margins_are_per_cent() {
        assert_eq!(margin("5%"), Ok(0.05));
        assert_eq!(margin("2.5"), Ok(0.025));
        for wrong in ["", "%", "0%", "-1%", "51%", "nan%", "inf%", "x"] {
            assert!(margin(wrong).is_err(), "{wrong}");
        }
    }
}
