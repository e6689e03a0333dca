//! budgets are the flags for first flights in XDP.

use clap::Args;
use quiclane::Budgets;

use super::watch::Topic;
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

    /// Each budget, by the reason of what it dropped in the metrics.
    pub(crate) fn topics(&self) -> Vec<Topic> {
        let Self { max_initials_per_prefix, max_initials, max_proven_initials, .. } = self;
        vec![
            Topic::new(
                "prefix_budget",
                "first datagrams of one source prefix",
                format!("--max-initials-per-prefix {max_initials_per_prefix}"),
            ),
            Topic::new(
                "initial_budget",
                "first datagrams of all sources",
                format!("--max-initials {max_initials}"),
            ),
            Topic::new(
                "proven_budget",
                "Initials with a connection ID of ours",
                format!("--max-proven-initials {max_proven_initials}"),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

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
        let topics = format!("{:?}", flags(all).unwrap().topics());
        for given in ["-per-prefix 1\"", "--max-initials 2000\"", "-proven-initials unlimited\""] {
            assert!(topics.contains(given), "{given}: {topics}");
        }
        for wrong in ["--max-initials 0", "--prefix-v4 33", "--prefix-v6 65"] {
            let (flag, value) = wrong.split_once(' ').unwrap();
            let error = flags(wrong).unwrap_err().to_string();
            assert!(error.contains(flag) && error.contains(value), "{wrong}: {error}");
        }
    }
}
