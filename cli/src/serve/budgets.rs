//! budgets are the flags for first flights in XDP, and the warning that one of them is used up.

use std::time::{Duration, Instant};

use clap::Args;
use quiclane::{Budgets, FrameCount};

use crate::flags::{Rate, rate};

/// What XDP lets through.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Budgets of first flights, with --steering xdp and xdp-generic")]
pub(crate) struct BudgetOptions {
    /// First datagrams a second, and as many at once, from one source prefix: Initials, 0-RTT and
    /// other versions of clients without a connection ID of ours; unlimited = no limit
    #[arg(long, value_name = "RATE", default_value = "20k", value_parser = rate)]
    max_initials_per_prefix: Rate,

    /// The same from all sources together
    #[arg(long, value_name = "RATE", default_value = "200k", value_parser = rate)]
    max_initials: Rate,

    /// Initials a second of clients that have a connection ID of ours, after a Retry or our first
    /// answer
    #[arg(long, value_name = "RATE", default_value = "200k", value_parser = rate)]
    max_proven_initials: Rate,

    /// Leading bits of an IPv4 address that make a source prefix, 0 to 32; 0: all are one
    #[arg(long, value_name = "BITS", default_value_t = Budgets::default().prefix_bits_v4,
          value_parser = clap::value_parser!(u8).range(0..=32))]
    prefix_v4: u8,

    /// The same of an IPv6 address, 0 to 64
    #[arg(long, value_name = "BITS", default_value_t = Budgets::default().prefix_bits_v6,
          value_parser = clap::value_parser!(u8).range(0..=64))]
    prefix_v6: u8,
}

impl BudgetOptions {
    /// As the engine wants them.
    pub(crate) fn budgets(&self) -> Budgets {
        Budgets {
            prefix_initials_per_s: self.max_initials_per_prefix.0,
            initials_per_s: self.max_initials.0,
            proven_initials_per_s: self.max_proven_initials.0,
            prefix_bits_v4: self.prefix_v4,
            prefix_bits_v6: self.prefix_v6,
        }
    }

    /// Each budget: the reason of what it dropped in the metrics, what that is, and its flag.
    fn each(&self) -> [(&'static str, &'static str, String); 3] {
        let Self { max_initials_per_prefix, max_initials, max_proven_initials, .. } = self;
        [
            (
                "prefix_budget",
                "first datagrams of one source prefix",
                format!("--max-initials-per-prefix {max_initials_per_prefix}"),
            ),
            (
                "initial_budget",
                "first datagrams of all sources",
                format!("--max-initials {max_initials}"),
            ),
            (
                "proven_budget",
                "Initials with a connection ID of ours",
                format!("--max-proven-initials {max_proven_initials}"),
            ),
        ]
    }
}

/// Looks at the counts of the kernel now and then, and says what the budgets cost.
#[derive(Debug)]
pub(crate) struct Watch {
    budgets: BudgetOptions,
    look_at: Instant,
    /// Until then nothing is said.
    quiet_until: Instant,
    /// What was dropped when it was last said.
    said: [u64; 3],
}

impl Watch {
    pub(crate) fn new(budgets: BudgetOptions, now: Instant) -> Self {
        Self { budgets, look_at: now, quiet_until: now, said: [0; 3] }
    }

    /// A line for the log, if it is time to look and a budget has dropped something since the last
    /// one. `frames` asks for the counts of XDP by reason.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        frames: impl FnOnce() -> Vec<FrameCount>,
    ) -> Option<String> {
        if now < self.look_at.max(self.quiet_until) {
            return None;
        }
        self.look_at = now + LOOK_INTERVAL;
        let frames = frames();
        let mut reached = Vec::new();
        for ((reason, what, flag), said) in self.budgets.each().into_iter().zip(&mut self.said) {
            let count = frames.iter().find(|one| one.reason == reason).map_or(0, |one| one.count);
            if count > *said {
                reached.push(format!("{} {what} ({flag})", count - *said));
                *said = count;
            }
        }
        if reached.is_empty() {
            return None;
        }
        self.quiet_until = now + QUIET;
        Some(format!(
            "over budget, dropped in XDP: {}; raise it if they are of honest clients",
            reached.join(", ")
        ))
    }
}

/// Some 50 reads of a few microseconds in all, and soon enough for somebody who watches the log.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A flood must not fill the log as well.
const QUIET: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use clap::Parser;
    use quiclane::clock;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        budgets: BudgetOptions,
    }

    fn flags(words: &str) -> Result<BudgetOptions, clap::Error> {
        let words = ["serve"].into_iter().chain(words.split_whitespace());
        Flags::try_parse_from(words).map(|flags| flags.budgets)
    }

    #[test]
    fn the_defaults_are_those_of_the_engine() {
        assert_eq!(flags("").unwrap().budgets(), Budgets::default());
    }

    #[test]
    fn every_budget_has_its_flag() {
        let all = "--max-initials-per-prefix 1 --max-initials 2k --max-proven-initials unlimited \
                   --prefix-v4 32 --prefix-v6 0";
        let expected = Budgets {
            prefix_initials_per_s: Some(1),
            initials_per_s: Some(2_000),
            proven_initials_per_s: None,
            prefix_bits_v4: 32,
            prefix_bits_v6: 0,
        };
        assert_eq!(flags(all).unwrap().budgets(), expected);
        for wrong in ["--max-initials 0", "--prefix-v4 33", "--prefix-v6 65"] {
            let (flag, value) = wrong.split_once(' ').unwrap();
            let error = flags(wrong).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains(value), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_flood_is_said_once_a_minute_with_the_setting() {
        let start = clock::now();
        let mut watch = Watch::new(flags("--max-initials-per-prefix 5").unwrap(), start);
        let mut look = |after: u64, prefix: u64, proven: u64| {
            let dropped = |reason, count| FrameCount { reason, action: "dropped", count };
            let frames =
                || vec![dropped("prefix_budget", prefix), dropped("proven_budget", proven)];
            watch.look(start + Duration::from_secs(after), frames)
        };
        assert_eq!(look(0, 0, 0), None);
        let first = look(1, 7, 0).unwrap();
        let words = "7 first datagrams of one source prefix (--max-initials-per-prefix 5)";
        assert!(first.contains(words), "{first}");
        assert_eq!(look(2, 90, 0), None, "a minute of quiet");
        let second = look(61, 100, 3).unwrap();
        assert!(second.contains(" 93 first"), "{second}");
        assert!(second.contains("3 Initials with a connection ID of ours"), "{second}");
        assert_eq!(look(200, 100, 3), None, "nothing new");
    }

    #[test]
    fn the_kernel_is_asked_once_a_second() {
        let start = clock::now();
        let mut watch = Watch::new(flags("").unwrap(), start);
        let mut asked = 0;
        for turn in 0..100 {
            watch.look(start + Duration::from_millis(50) * turn, || {
                asked += 1;
                Vec::new()
            });
        }
        assert_eq!(asked, 5);
    }
}
