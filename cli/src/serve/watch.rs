//! watch looks at counts now and then, and says which limits were reached.

use std::time::{Duration, Instant};

/// A limit of the operator's choice.
#[derive(Debug)]
pub(crate) struct Topic {
    /// What counts what it cost.
    name: &'static str,
    /// What that is.
    what: &'static str,
    /// Its flag and value.
    flag: String,
    /// The count when it was last said.
    said: u64,
}

impl Topic {
    /// A limit that `name` counts.
    pub(crate) fn new(name: &'static str, what: &'static str, flag: String) -> Self {
        Self { name, what, flag, said: 0 }
    }
}

/// Says what a group of limits cost, in one line.
#[derive(Debug)]
pub(crate) struct Watch {
    topics: Vec<Topic>,
    /// What became of what was over a limit.
    outcome: &'static str,
    /// What an operator may do.
    advice: &'static str,
    look_at: Instant,
    /// Until then nothing is said.
    quiet_until: Instant,
}

impl Watch {
    pub(crate) fn new(
        topics: Vec<Topic>,
        outcome: &'static str,
        advice: &'static str,
        now: Instant,
    ) -> Self {
        Self { topics, outcome, advice, look_at: now, quiet_until: now }
    }

    /// A line for the log, if it is time to look and a limit was reached since the last one.
    /// `counts` asks for the counts by name.
    pub(crate) fn look(
        &mut self,
        now: Instant,
        counts: impl FnOnce() -> Vec<(&'static str, u64)>,
    ) -> Option<String> {
        if now < self.look_at.max(self.quiet_until) {
            return None;
        }
        self.look_at = now + LOOK_INTERVAL;
        let counts = counts();
        let mut reached = Vec::new();
        for Topic { name, what, flag, said } in &mut self.topics {
            let count = counts.iter().filter(|(one, _)| one == name).map(|(_, count)| count).sum();
            if count > *said {
                reached.push(format!("{} {what} ({flag})", count - *said));
                *said = count;
            }
        }
        if reached.is_empty() {
            return None;
        }
        self.quiet_until = now + QUIET;
        Some(format!("{}: {}; {}", self.outcome, reached.join(", "), self.advice))
    }
}

/// Some 50 reads of a few microseconds in all, and soon enough for somebody who watches the log.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A flood must not fill the log as well.
const QUIET: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use quiclane::clock;

    use super::*;

    #[test]
    fn a_flood_is_said_once_a_minute_with_the_setting() {
        let start = clock::now();
        let topics = vec![
            Topic::new("prefix_budget", "first datagrams", "--max-initials-per-prefix 5".into()),
            Topic::new("proven_budget", "Initials of ours", "--max-proven-initials 1".into()),
        ];
        let mut watch = Watch::new(topics, "over budget", "raise it", start);
        let mut look = |after: u64, prefix: u64, proven: u64| {
            // Two places may count the same.
            let counts =
                || vec![("prefix_budget", prefix), ("proven_budget", proven), ("proven_budget", 0)];
            watch.look(start + Duration::from_secs(after), counts)
        };
        assert_eq!(look(0, 0, 0), None);
        let first = look(1, 7, 0).unwrap();
        let words = "over budget: 7 first datagrams (--max-initials-per-prefix 5); raise it";
        assert_eq!(first, words);
        assert_eq!(look(2, 90, 0), None, "a minute of quiet");
        let second = look(61, 100, 3).unwrap();
        assert!(second.contains(" 93 first datagrams"), "{second}");
        assert!(second.contains("3 Initials of ours"), "{second}");
        assert_eq!(look(200, 100, 3), None, "nothing new");
    }

    #[test]
    fn the_counts_are_asked_for_once_a_second() {
        let start = clock::now();
        let mut watch = Watch::new(Vec::new(), "", "", start);
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
