//! rate is how many requests a second are asked for, at any time of a run.

use std::fmt;
use std::time::Duration;

/// A part of a run, in which the rate is constant or changes evenly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// How long it lasts; `None`: to the end of the run.
    pub length: Option<Duration>,
    /// Requests a second at its beginning.
    pub from: f64,
    /// Requests a second at its end.
    pub to: f64,
}

impl Stage {
    /// A stage of whole seconds.
    #[must_use]
    pub const fn new(seconds: u64, from: f64, to: f64) -> Self {
        Self { length: Some(Duration::from_secs(seconds)), from, to }
    }

    /// How many requests are due in it.
    fn count(&self) -> f64 {
        self.length.map_or(f64::INFINITY, |length| f64::midpoint(self.from, self.to) * secs(length))
    }

    /// After how many seconds `count` requests of it are due.
    fn time_of(&self, count: f64) -> f64 {
        if count <= 0.0 {
            // Also where the rate begins at 0, which the division below could not bear.
            return 0.0;
        }
        // The change of the rate in a second.
        let slope = self.length.map_or(0.0, |length| (self.to - self.from) / secs(length));
        // Of the two forms of the solution the one that loses no digits, and knows no slope of 0.
        let root = (self.from * self.from + 2.0 * slope * count).max(0.0).sqrt();
        2.0 * count / (self.from + root)
    }
}

/// Requests a second, over a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Rate(Vec<Stage>);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Stage { length, from, to }) in self.0.iter().enumerate() {
            write!(f, "{}{from}", if at == 0 { "" } else { ", " })?;
            if from != to {
                write!(f, ":{to}")?;
            }
            if let Some(length) = length {
                write!(f, " for {length:?}")?;
            }
        }
        Ok(())
    }
}

/// Why stages are no rate.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum RateError {
    /// Not a number of requests that can be sent.
    #[error("a rate of {0} requests a second: it must be at least 0 and at most {RATE_MAX}")]
    Rate(f64),
    /// A stage with no length, or one without end that is not the last, or that changes.
    #[error("stage {0} needs a length")]
    Length(usize),
    /// Nothing would ever be sent.
    #[error("the rate is 0 all the time: nothing would be sent")]
    Nothing,
}

impl Rate {
    /// The same rate all the time.
    ///
    /// # Errors
    /// When it is not positive, or beyond [`RATE_MAX`].
    pub fn constant(per_s: f64) -> Result<Self, RateError> {
        Self::staged(vec![Stage { length: None, from: per_s, to: per_s }])
    }

    /// One stage after another.
    ///
    /// # Errors
    /// When a rate is negative or beyond [`RATE_MAX`], when all are 0, and when a stage other than
    /// the last one, or one whose rate changes, has no length.
    pub fn staged(stages: Vec<Stage>) -> Result<Self, RateError> {
        for (number, stage) in (1..).zip(&stages) {
            for rate in [stage.from, stage.to] {
                if !(0.0..=RATE_MAX).contains(&rate) {
                    return Err(RateError::Rate(rate));
                }
            }
            let is_steady = stage.from == stage.to && number == stages.len();
            if stage.length.map_or(!is_steady, |length| length.is_zero()) {
                return Err(RateError::Length(number));
            }
        }
        if stages.iter().all(|stage| stage.from == 0.0 && stage.to == 0.0) {
            return Err(RateError::Nothing);
        }
        Ok(Self(stages))
    }

    /// How long all stages take; `None`: the last one has no end.
    #[must_use]
    pub fn length(&self) -> Option<Duration> {
        self.0.iter().map(|stage| stage.length).sum()
    }

    /// The same after `time` at its first rate.
    pub(crate) fn after(mut self, time: Duration) -> Self {
        if let Some(first) = self.0.first().filter(|_| !time.is_zero()) {
            let (length, from) = (Some(time), first.from);
            self.0.insert(0, Stage { length, from, to: from });
        }
        self
    }

    /// How many requests are asked for in the first `time`.
    #[must_use]
    pub fn expected(&self, time: Duration) -> f64 {
        let (mut count, mut left) = (0.0, time);
        for stage in &self.0 {
            let spent = stage.length.map_or(left, |length| length.min(left));
            let end = match stage.length {
                Some(length) => stage.from + (stage.to - stage.from) * secs(spent) / secs(length),
                None => stage.to,
            };
            count += f64::midpoint(stage.from, end) * secs(spent);
            left -= spent;
        }
        count
    }

    /// When `count` requests are due; `None`: so many never are.
    pub(super) fn time_of(&self, count: f64) -> Option<Duration> {
        let (mut before, mut left) = (Duration::ZERO, count);
        for stage in &self.0 {
            let of_stage = stage.count();
            if left < of_stage {
                let time = Duration::try_from_secs_f64(stage.time_of(left)).ok()?;
                return before.checked_add(time);
            }
            left -= of_stage;
            before += stage.length?;
        }
        None
    }
}

fn secs(time: Duration) -> f64 {
    time.as_secs_f64()
}

/// The highest rate there is, requests a second: far beyond what one machine sends.
pub const RATE_MAX: f64 = 1e9;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_times_are_each_others_inverse() {
        let stages = vec![
            Stage::new(3, 0.0, 0.0),
            Stage::new(10, 0.0, 5_000.0),
            Stage::new(5, 5_000.0, 5_000.0),
            Stage::new(7, 5_000.0, 20.0),
            Stage { length: None, from: 20.0, to: 20.0 },
        ];
        let rate = Rate::staged(stages).unwrap();
        assert_eq!(rate.length(), None);
        let mut last = Duration::ZERO;
        for count in 0..70_000 {
            let count = f64::from(count) + 0.25;
            let time = rate.time_of(count).unwrap();
            let back = rate.expected(time);
            assert!((back - count).abs() < 1e-4, "{count} {time:?} {back}");
            assert!(time >= last, "{count}");
            last = time;
        }
        assert!(last > Duration::from_secs(25));
    }

    #[test]
    fn a_constant_rate_is_exact_for_long() {
        let rate = Rate::constant(3.0).unwrap();
        assert_eq!(rate.time_of(3e7), Some(Duration::from_secs(10_000_000)));
        assert_eq!(rate.expected(Duration::from_secs(10)), 30.0);
    }

    #[test]
    fn an_empty_stage_is_passed_over() {
        let rate = Rate::staged(vec![Stage::new(5, 0.0, 0.0), Stage::new(5, 10.0, 10.0)]).unwrap();
        assert_eq!(rate.time_of(0.0), Some(Duration::from_secs(5)));
        assert_eq!(rate.time_of(49.9), Some(Duration::from_millis(9_990)));
        assert_eq!(rate.time_of(50.0), None);
        assert_eq!(rate.length(), Some(Duration::from_secs(10)));
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        assert_eq!(Rate::constant(0.0), Err(RateError::Nothing));
        assert_eq!(Rate::constant(-1.0), Err(RateError::Rate(-1.0)));
        assert!(matches!(Rate::constant(f64::NAN), Err(RateError::Rate(_))));
        assert!(matches!(Rate::constant(f64::INFINITY), Err(RateError::Rate(_))));
        assert_eq!(Rate::staged(Vec::new()), Err(RateError::Nothing));
        let endless = Stage { length: None, from: 5.0, to: 5.0 };
        let ramp = Stage { to: 6.0, ..endless };
        assert_eq!(Rate::staged(vec![endless, endless]), Err(RateError::Length(1)));
        assert_eq!(Rate::staged(vec![ramp]), Err(RateError::Length(1)));
        assert_eq!(Rate::staged(vec![Stage::new(0, 1.0, 1.0)]), Err(RateError::Length(1)));
    }
}
