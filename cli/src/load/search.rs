//! search looks for the highest rate at which a server keeps the objectives (--find-max).

use std::net::SocketAddr;
use std::sync::mpsc::Receiver;

use clap::Args;
use quiclane_loadgen::{
    Arrivals, Conclusion, Ending, Found, Load, Outcome, Pace, Rate, Report, Search, SloReport,
    find_max, group,
};
use serde::Serialize;

use super::{LoadArgs, exit, watch};
use crate::exit::{Exit, Failure};
use crate::flags::positive;
use crate::output;

/// How to search.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Search")]
pub(super) struct SearchOptions {
    /// Search the highest -R at which all objectives of --slo are kept, in runs of -d each: the
    /// rate doubles until one is broken, and is then narrowed down and tried once more. Exit code
    /// 0 if there is one, 3 if the lowest rate breaks them, 4 if the generator could send no more
    #[arg(long, requires = "slo",
          conflicts_with_all = ["rate", "stages", "replay", "datagrams", "requests", "handshakes",
                                "idle", "connect_rate", "partition", "start_at", "series", "hlog",
                                "hgrm", "report", "latency"])]
    pub(super) find_max: bool,

    /// How near the highest rate that keeps the objectives shall be to one that breaks them
    #[arg(long, value_name = "PERCENT", default_value = "5%", requires = "find_max",
          value_parser = precision)]
    precision: f64,

    /// The first rate to try, requests a second
    #[arg(long, value_name = "N", default_value = "100", requires = "find_max",
          value_parser = first_rate)]
    first_rate: u64,
}

impl SearchOptions {
    /// The schedule of the first trial, if there is a search.
    pub(super) fn first(&self, arrivals: Arrivals) -> Result<Option<Pace>, Failure> {
        let pace = |rate| Ok(Pace { rate: Rate::constant(rate)?, arrivals });
        self.find_max.then(|| pace(self.first_rate as f64)).transpose()
    }
}

/// Why a search has no result.
enum Halt {
    Failure(Failure),
    /// A run that came to no end of its own, and what it measured until then.
    Ended(Box<Report>),
}

impl<E: Into<Failure>> From<E> for Halt {
    fn from(failure: E) -> Self {
        Self::Failure(failure.into())
    }
}

/// The JSON.
#[derive(Serialize)]
struct Searched<'a> {
    schema: u32,
    #[serde(flatten)]
    found: &'a Found,
    /// Of the last run that kept the objectives.
    report: Option<&'a Report>,
}

/// Searches, and says what it found.
pub(super) fn run(
    args: &LoadArgs,
    address: SocketAddr,
    signals: &Receiver<()>,
) -> Result<Exit, Failure> {
    let first = args.search.first_rate as f64;
    let search = Search { first, precision: args.search.precision, ..Search::default() };
    let mut best: Option<Report> = None;
    let found = find_max(&search, |rate| {
        let mut config = args.config(address)?;
        config.pace = Some(Pace { rate: Rate::constant(rate)?, arrivals: args.pace.arrivals() });
        let mut meter = args.meter(config.workload, config.stop);
        let report = watch(Load::start(config)?, signals, &mut meter)?;
        if matches!(report.ending, Ending::Interrupted | Ending::NothingConnected) {
            return Err(Halt::Ended(Box::new(report)));
        }
        let is_kept = report.slo.as_ref().is_some_and(|slo: &SloReport| slo.kept == Some(true));
        let (outcome, word) = match (report.is_invalid(), is_kept) {
            (true, _) => (Outcome::Invalid, "the generator was the bottleneck"),
            (false, true) => (Outcome::Met, "kept"),
            (false, false) => (Outcome::Broken, "broken"),
        };
        if !args.quiet {
            output::log(format_args!("{} requests/s: {word}", group(rounded(rate))));
        }
        if outcome == Outcome::Met {
            best = Some(report);
        }
        Ok(outcome)
    });
    let found = match found {
        Ok(found) => found,
        Err(Halt::Failure(failure)) => return Err(failure),
        Err(Halt::Ended(report)) => {
            output::log(format_args!("{report}"));
            return Ok(exit(&report));
        }
    };
    if args.json {
        output::json(&Searched { schema: 1, found: &found, report: best.as_ref() })?;
    } else {
        let report = best.map(|report| format!("\n{report}")).unwrap_or_default();
        output::result(format_args!("{found}{report}"))?;
    }
    Ok(match found.conclusion {
        Conclusion::Found | Conclusion::Unlimited => Exit::Ok,
        Conclusion::Generator => Exit::Invalid,
        Conclusion::Nothing => Exit::Broken,
        Conclusion::Undecided => Exit::Failed,
    })
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 10^7")]
fn rounded(rate: f64) -> u64 {
    rate.round() as u64
}

/// The first rate: one that may be tried.
fn first_rate(text: &str) -> Result<u64, String> {
    let rate = positive(text)?;
    match rate as f64 <= Search::default().rate_max {
        true => Ok(rate),
        false => Err("at most 10m requests a second are tried".into()),
    }
}

fn precision(text: &str) -> Result<f64, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.trim().parse::<f64>().ok());
    match percent {
        Some(percent) if (0.1..=50.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("write 0.1% to 50%".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_rate_is_one_that_may_be_tried() {
        assert_eq!(first_rate("10m"), Ok(10_000_000));
        assert!(first_rate("10000001").unwrap_err().contains("at most 10m"));
        assert!(first_rate("0").is_err());
    }

    #[test]
    fn a_precision_is_a_share_of_a_rate() {
        assert!((precision("5%").unwrap() - 0.05).abs() < 1e-12);
        for wrong in ["5", "0%", "51%", "-1%", "%", "NaN%"] {
            assert!(precision(wrong).unwrap_err().contains("0.1% to 50%"), "{wrong}");
        }
    }
}
