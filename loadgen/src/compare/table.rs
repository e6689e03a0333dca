//! table shows a comparison to people.

use std::fmt;
use std::time::Duration;

use super::bootstrap::RUNS_DRAWN_MIN as RUNS;
use super::{Compared, Comparison, Ratio, Verdict};
use crate::text::nanoseconds;

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |Compared { runs, intervals, .. }: Compared| {
            let runs = if runs == 1 { String::new() } else { format!("{runs} runs, ") };
            format!("{runs}{intervals} intervals")
        };
        let (a, b, block) = (side(self.a), side(self.b), self.a.block_intervals);
        let margin = self.margin * 100.0;
        writeln!(f, "A: {a}   B: {b}   in blocks of {block}, {} draws", self.draws)?;
        write!(
            f,
            "{:<16}{:>12}{:>12}{:>9}  {:<19}verdict (equal: within {margin} %)",
            "", "A", "B", "B/A", "95 % interval"
        )?;
        for ratio in &self.metrics {
            write!(f, "\n{}", Line(ratio))?;
        }
        if self.a.runs.min(self.b.runs) < RUNS {
            let why = "how much runs of one thing differ is not counted";
            write!(f, "\nnote: {why}: give {RUNS} runs a side (--a, --b, or --repeat) to be sure")?;
        }
        for warning in &self.warnings {
            write!(f, "\nwarning: {warning}")?;
        }
        Ok(())
    }
}

struct Line<'a>(&'a Ratio);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ratio { metric, a, b, ratio, low, high, verdict, why } = self.0;
        let (name, unit) = match *metric {
            "requests_per_s" => ("requests/s", Unit::PerSecond),
            "p50_us" => ("p50", Unit::Time),
            "p99_us" => ("p99", Unit::Time),
            "p999_us" => ("p99.9", Unit::Time),
            _ => ("errors", Unit::Share),
        };
        let [a, b] = [a, b].map(|value| value.map_or_else(|| "-".into(), |value| unit.text(value)));
        let ratio = ratio.map_or_else(|| "-".into(), |ratio| format!("{ratio:.3}"));
        let interval = low
            .zip(*high)
            .map_or_else(|| "-".into(), |(low, high)| format!("{low:.3} to {high:.3}"));
        let verdict = match verdict {
            Verdict::Better => "better",
            Verdict::Worse => "WORSE",
            Verdict::Equal => "equal",
            Verdict::Inconclusive => "inconclusive",
        };
        write!(f, "{name:<16}{a:>12}{b:>12}{ratio:>9}  {interval:<19}{verdict}")?;
        match why {
            Some(why) => write!(f, " ({why})"),
            None => Ok(()),
        }
    }
}

enum Unit {
    PerSecond,
    Time,
    Share,
}

impl Unit {
    fn text(&self, value: f64) -> String {
        match self {
            Self::PerSecond => format!("{value:.1}"),
            Self::Time => {
                let time = Duration::try_from_secs_f64(value / 1e6).unwrap_or_default();
                nanoseconds(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
            }
            Self::Share => format!("{:.3} %", value * 100.0),
        }
    }
}
