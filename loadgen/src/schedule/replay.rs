//! replay is requests at recorded times.

use std::sync::Arc;
use std::time::Duration;

/// Requests at recorded times, in their order. Clones share them.
#[derive(Clone, Debug)]
pub struct Replay(Arc<[Entry]>);

/// One request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Entry {
    /// Nanoseconds from the start.
    at_ns: u64,
    /// Which of the run's requests it is.
    which: u32,
}

/// Why there is nothing to replay.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// No request at all.
    #[error("nothing to replay: give at least one time")]
    Nothing,
    /// More than fit the memory of a generator.
    #[error("{0} requests to replay, at most {REPLAY_MAX}: replay them in parts")]
    TooMany(usize),
    /// A time before the one ahead of it.
    #[error("time {0} is before the one ahead of it: sort them")]
    Order(usize),
}

impl Replay {
    /// Requests at `times`, counted from the start of the run, each with its place among the
    /// requests of the run; 0 where there is only one kind.
    ///
    /// # Errors
    /// When there are none or more than [`REPLAY_MAX`], and when a time is before the one ahead.
    pub fn new(times: impl IntoIterator<Item = (Duration, u32)>) -> Result<Self, ReplayError> {
        let entry = |(at, which): (Duration, u32)| Entry {
            at_ns: u64::try_from(at.as_nanos()).unwrap_or(u64::MAX),
            which,
        };
        let entries: Vec<Entry> = times.into_iter().map(entry).collect();
        if entries.is_empty() {
            return Err(ReplayError::Nothing);
        }
        if entries.len() > REPLAY_MAX {
            return Err(ReplayError::TooMany(entries.len()));
        }
        let unsorted = entries.windows(2).position(|pair| pair[1].at_ns < pair[0].at_ns);
        match unsorted {
            Some(before) => Err(ReplayError::Order(before + 2)),
            None => Ok(Self(entries.into())),
        }
    }

    /// How many requests there are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// When the last one is due.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.0.last().map_or(Duration::ZERO, |last| Duration::from_nanos(last.at_ns))
    }

    /// The largest place that one of them has among the requests of the run.
    pub(crate) fn which_max(&self) -> u32 {
        self.0.iter().map(|entry| entry.which).max().unwrap_or_default()
    }
}

/// One worker's part of a replay: every n-th request.
#[derive(Clone, Debug)]
pub(super) struct Part {
    entries: Arc<[Entry]>,
    at: usize,
    workers: usize,
}

impl Part {
    pub(super) fn new(replay: &Replay, worker: usize, workers: usize) -> Self {
        Self { entries: Arc::clone(&replay.0), at: worker, workers }
    }

    /// When the next request is due.
    pub(super) fn peek(&self) -> Option<Duration> {
        self.entries.get(self.at).map(|entry| Duration::from_nanos(entry.at_ns))
    }

    /// Which request that is.
    pub(super) fn which(&self) -> Option<usize> {
        self.entries.get(self.at).map(|entry| entry.which as usize)
    }

    pub(super) fn advance(&mut self) {
        self.at += self.workers;
    }

    /// Passes over those that are due before `end`, and says how many they were.
    pub(super) fn skip_before(&mut self, end: Duration) -> u64 {
        let rest = self.entries.get(self.at..).unwrap_or_default();
        let due = rest.partition_point(|entry| u128::from(entry.at_ns) < end.as_nanos());
        let skipped = due.div_ceil(self.workers);
        self.at += skipped * self.workers;
        skipped as u64
    }
}

/// Requests of a replay: 160 MB.
pub const REPLAY_MAX: usize = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(times: &[u64]) -> Result<Replay, ReplayError> {
        Replay::new((0..).zip(times).map(|(which, at)| (Duration::from_millis(*at), which)))
    }

    #[test]
    fn workers_share_the_requests_one_by_one() {
        let replay = ms(&[0, 0, 5, 7, 7, 7, 9]).unwrap();
        assert_eq!((replay.len(), replay.length()), (7, Duration::from_millis(9)));
        assert_eq!(replay.which_max(), 6);
        let mut seen = Vec::new();
        for worker in 0..3 {
            let mut part = Part::new(&replay, worker, 3);
            while let Some((at, which)) = part.peek().zip(part.which()) {
                seen.push((which, at.as_millis()));
                part.advance();
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, [(0, 0), (1, 0), (2, 5), (3, 7), (4, 7), (5, 7), (6, 9)]);
    }

    #[test]
    fn skipping_is_taking() {
        let replay = ms(&[0, 0, 5, 7, 7, 7, 9]).unwrap();
        for (worker, end_ms) in (0..4).flat_map(|worker| (0..12).map(move |end| (worker, end))) {
            let end = Duration::from_millis(end_ms);
            let mut skips = Part::new(&replay, worker, 4);
            let (mut takes, mut taken) = (skips.clone(), 0);
            while takes.peek().is_some_and(|at| at < end) {
                takes.advance();
                taken += 1;
            }
            assert_eq!(skips.skip_before(end), taken, "{worker} {end_ms}");
            assert_eq!(skips.peek(), takes.peek(), "{worker} {end_ms}");
        }
    }

    #[test]
    fn what_cannot_be_replayed_is_named() {
        assert_eq!(ms(&[]).unwrap_err(), ReplayError::Nothing);
        assert_eq!(ms(&[0, 3, 2, 1]).unwrap_err(), ReplayError::Order(3));
        let many = (0..=REPLAY_MAX).map(|_| (Duration::ZERO, 0));
        let text = Replay::new(many).unwrap_err().to_string();
        assert!(text.contains("10000001") && text.contains("in parts"), "{text}");
    }
}
