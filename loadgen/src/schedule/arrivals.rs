//! arrivals says how requests are spread around their mean rate.

use crate::random::Random;

/// How requests are spread.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Arrivals {
    /// With equal gaps: the least that a server must bear at this rate.
    #[default]
    Constant,
    /// Each independent of all others, as users are who do not know of each other: exponential
    /// gaps.
    Poisson,
}

/// The places of one worker's requests among those of all workers: how many requests are due
/// before it, on average.
#[derive(Clone, Debug)]
pub(super) struct Places {
    arrivals: Arrivals,
    /// Requests of all workers in the time of one of ours.
    workers: f64,
    /// How many were given out.
    count: u64,
    worker: f64,
    random: Random,
    /// Where the next random one is.
    upcoming: f64,
}

impl Places {
    pub(super) fn new(arrivals: Arrivals, worker: usize, workers: usize, seed: u64) -> Self {
        // Steps of the same generator: far apart, so that no worker repeats another one.
        let random = Random::new(seed ^ (worker as u64 + 1) << 48);
        let (worker, workers) = (worker as f64, workers as f64);
        let mut places = Self { arrivals, workers, count: 0, worker, random, upcoming: 0.0 };
        places.upcoming = places.gap();
        places
    }

    /// Passes over those whose place is before `end`, and says how many they were.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "numbers of requests, which are not negative and far below 2^53"
    )]
    pub(super) fn skip_before(&mut self, end: f64) -> u64 {
        match self.arrivals {
            Arrivals::Constant => {
                // A place that is not before `end`: the first one to be given out next.
                let first = ((end - self.worker) / self.workers).ceil().max(0.0) as u64;
                let skipped = first.saturating_sub(self.count);
                self.count += skipped;
                skipped
            }
            Arrivals::Poisson => {
                let mean = (end - self.upcoming) / self.workers;
                if mean > SKIPPED_ONE_BY_ONE {
                    // Nobody tells their number from its mean; and what is left does not remember.
                    self.upcoming = end + self.gap();
                    return mean as u64 + 1;
                }
                let mut skipped = 0;
                while self.upcoming < end {
                    self.upcoming += self.gap();
                    skipped += 1;
                }
                skipped
            }
        }
    }

    /// The place of the next one.
    pub(super) fn next(&mut self) -> f64 {
        match self.arrivals {
            Arrivals::Constant => {
                // From the count, so that no error adds up.
                let place = self.count as f64 * self.workers + self.worker;
                self.count += 1;
                place
            }
            Arrivals::Poisson => {
                let place = self.upcoming;
                self.upcoming += self.gap();
                place
            }
        }
    }

    /// Between two of ours, on average.
    pub(super) fn step(&self) -> f64 {
        self.workers
    }

    /// Between two random ones.
    fn gap(&mut self) -> f64 {
        self.random.exponential() * self.workers
    }
}

/// More than that are not worth the time to draw each: their number is within 0.1 % of its mean.
const SKIPPED_ONE_BY_ONE: f64 = 1e6;
