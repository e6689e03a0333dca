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
    /// That of the last random one.
    last: f64,
}

impl Places {
    pub(super) fn new(arrivals: Arrivals, worker: usize, workers: usize, seed: u64) -> Self {
        // Steps of the same generator: far apart, so that no worker repeats another one.
        let random = Random::new(seed ^ (worker as u64 + 1) << 48);
        let (worker, workers) = (worker as f64, workers as f64);
        Self { arrivals, workers, count: 0, worker, random, last: 0.0 }
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
                self.last += self.random.exponential() * self.workers;
                self.last
            }
        }
    }
}
