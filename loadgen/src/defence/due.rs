//! due says when the next piece of abuse has its turn.

use std::time::Instant;

use crate::schedule::{Arrivals, Rate, Schedule};

/// One worker's part of the schedule.
#[derive(Debug)]
pub(super) struct Due {
    schedule: Schedule,
    start: Instant,
}

impl Due {
    /// The part of `worker` among `workers` of `rate`, from `start` on.
    pub(super) fn new(rate: &Rate, worker: usize, workers: usize, start: Instant) -> Self {
        let schedule = Schedule::new(rate.clone(), Arrivals::Constant, worker, workers, 0);
        Self { schedule, start }
    }

    /// When it began.
    pub(super) fn start(&self) -> Instant {
        self.start
    }

    /// Takes the next piece, if it is due.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.schedule.take(now.saturating_duration_since(self.start)).is_some()
    }

    /// Takes all that are due, and says how many there were.
    pub(super) fn take_all(&mut self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.start);
        let mut taken = self.schedule.skip_before(elapsed);
        while self.schedule.take(elapsed).is_some() {
            taken += 1;
        }
        taken
    }

    /// When the next piece is due.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.start.checked_add(self.schedule.peek()?)
    }

    /// Whether a piece is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.next_at().is_some_and(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn workers_share_a_rate_exactly() {
        let start = quiclane::clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut all = 0;
        for worker in 0..3 {
            let rate = Rate::constant(1_000.0).unwrap();
            let mut due = Due::new(&rate, worker, 3, start);
            assert!(due.take(at(100)) && due.is_due(at(100)));
            all += 1 + due.take_all(at(1_999));
            assert!(!due.is_due(at(1_999)) && due.next_at().unwrap() > at(1_999));
        }
        assert!((1_999..=2_001).contains(&all), "{all}");
    }
}
