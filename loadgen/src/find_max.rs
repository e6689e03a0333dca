//! find_max searches the highest rate at which a server keeps an objective.
//!
//! ```text
//! grow     first, x2, x2, ... until one breaks the objective (or halves, if the first does)
//! bisect   the geometric middle of met|broken until they are within the precision
//! confirm  the highest that met it, again; if it fails, a step of the precision lower, twice
//! ```
//! What a trial is, and what it is judged by, comes in as a function: nothing here knows the
//! network. A generator that is the bottleneck three times in a row ends the search: beyond its own
//! limit it could only measure itself.

use std::fmt;

use serde::Serialize;

use crate::text::rate as text_of;

/// What to search.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The rate of the first trial, requests a second.
    pub first: f64,
    /// How near the highest rate that meets the objective, and the lowest that breaks it, shall be:
    /// 0.05 ends the search when they differ by at most 5 %. A tenth of that costs three trials
    /// more, and asks for trials long enough to tell such rates apart.
    pub precision: f64,
    /// No rate below this is tried.
    pub rate_min: f64,
    /// No rate above this is tried.
    pub rate_max: f64,
    /// No more trials than this are made: a server whose answers depend on its mood has no highest
    /// rate.
    pub trials_max: usize,
}

impl Default for Search {
    fn default() -> Self {
        Self { first: 100.0, precision: 0.05, rate_min: 1.0, rate_max: 1e7, trials_max: 64 }
    }
}

/// What a trial showed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The objective was met.
    Met,
    /// It was not.
    Broken,
    /// The generator was the bottleneck: nobody knows.
    Invalid,
}

/// One trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Trial {
    /// Requests a second.
    pub rate: f64,
    /// What came of it.
    pub verdict: Outcome,
}

/// How a search ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Conclusion {
    /// There is a highest rate, and it met the objective twice in a row.
    Found,
    /// The generator was the bottleneck: the server may be capable of more.
    Generator,
    /// The highest rate that may be tried meets the objective.
    Unlimited,
    /// The lowest rate that may be tried breaks it.
    Nothing,
    /// The trials contradict one another.
    Undecided,
}

/// The result of a search.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Found {
    /// How it ended.
    pub conclusion: Conclusion,
    /// The highest rate that met the objective, of those that no lower one contradicts.
    pub met: Option<f64>,
    /// The lowest rate that broke it.
    pub broken: Option<f64>,
    /// All trials, in their order.
    pub trials: Vec<Trial>,
}

/// Searches by `trial`, which offers a rate and says what came of it.
///
/// # Errors
/// The first one of `trial`.
pub fn find_max<E>(
    search: &Search,
    trial: impl FnMut(f64) -> Result<Outcome, E>,
) -> Result<Found, E> {
    let mut course = Course { search, trial, trials: Vec::new(), met: None, broken: None };
    let conclusion = match course.bracket()? {
        Some(conclusion) => conclusion,
        None => course.narrow()?,
    };
    let Course { met, broken, trials, .. } = course;
    Ok(Found { conclusion, met, broken, trials })
}

/// A search under way.
struct Course<'s, F> {
    search: &'s Search,
    trial: F,
    trials: Vec<Trial>,
    met: Option<f64>,
    broken: Option<f64>,
}

impl<E, F: FnMut(f64) -> Result<Outcome, E>> Course<'_, F> {
    /// Makes a trial and remembers it; `None` when there were enough. One in which the generator
    /// was the bottleneck is made again: a moment in which the machine did something else is not
    /// its limit.
    fn attempt(&mut self, rate: f64) -> Result<Option<Outcome>, E> {
        for _ in 1..INVALID_IN_A_ROW {
            let verdict = self.attempt_once(rate)?;
            if verdict != Some(Outcome::Invalid) {
                return Ok(verdict);
            }
        }
        self.attempt_once(rate)
    }

    fn attempt_once(&mut self, rate: f64) -> Result<Option<Outcome>, E> {
        if self.trials.len() >= self.search.trials_max {
            return Ok(None);
        }
        let verdict = (self.trial)(rate)?;
        self.trials.push(Trial { rate, verdict });
        match verdict {
            Outcome::Met => self.met = Some(rate),
            Outcome::Broken => {
                self.broken = Some(rate);
                // Who met more than that was lucky.
                self.met = self.met.filter(|met| *met < rate);
            }
            Outcome::Invalid => {}
        }
        Ok(Some(verdict))
    }

    /// Finds a rate that meets the objective and a higher one that breaks it.
    fn bracket(&mut self) -> Result<Option<Conclusion>, E> {
        let Search { first, rate_min, rate_max, .. } = *self.search;
        let mut rate = first.clamp(rate_min, rate_max);
        loop {
            match self.attempt(rate)? {
                None => return Ok(Some(Conclusion::Undecided)),
                Some(Outcome::Invalid) => return Ok(Some(Conclusion::Generator)),
                Some(Outcome::Met) if self.broken.is_some() => return Ok(None),
                Some(Outcome::Met) if rate >= rate_max => return Ok(Some(Conclusion::Unlimited)),
                Some(Outcome::Met) => rate = (rate * 2.0).min(rate_max),
                Some(Outcome::Broken) if self.met.is_some() => return Ok(None),
                Some(Outcome::Broken) if rate <= rate_min => return Ok(Some(Conclusion::Nothing)),
                Some(Outcome::Broken) => rate = (rate / 2.0).max(rate_min),
            }
        }
    }

    /// Brings the two together, and tries the lower one again.
    fn narrow(&mut self) -> Result<Conclusion, E> {
        let near = 1.0 + self.search.precision.max(PRECISION_MIN);
        while let (Some(met), Some(broken)) = (self.met, self.broken)
            && broken > met * near
        {
            match self.attempt((met * broken).sqrt())? {
                None => return Ok(Conclusion::Undecided),
                Some(Outcome::Invalid) => return Ok(Conclusion::Generator),
                Some(Outcome::Met | Outcome::Broken) => {}
            }
        }
        let (mut rate, mut in_a_row) = (self.met.unwrap_or(self.search.rate_min), 1);
        loop {
            match self.attempt(rate)? {
                None => return Ok(Conclusion::Undecided),
                Some(Outcome::Invalid) => return Ok(Conclusion::Generator),
                Some(Outcome::Met) => in_a_row += 1,
                Some(Outcome::Broken) if rate <= self.search.rate_min => {
                    return Ok(Conclusion::Nothing);
                }
                Some(Outcome::Broken) => {
                    (rate, in_a_row) = ((rate / near).max(self.search.rate_min), 0);
                }
            }
            if in_a_row >= CONFIRMED {
                return Ok(Conclusion::Found);
            }
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = |rate: Option<f64>| {
            rate.map_or_else(|| "no rate".into(), |rate| format!("{} requests/s", text_of(rate)))
        };
        let (met, broken) = (rate(self.met), rate(self.broken));
        match self.conclusion {
            Conclusion::Found => write!(
                f,
                "{met} meet the objective, {broken} do not ({} trials)",
                self.trials.len()
            ),
            Conclusion::Generator => write!(
                f,
                "the generator, not the server, was the bottleneck: {met} met the \
                 objective, and the server may be capable of more; give the generator more \
                 workers, or cores or a machine of its own"
            ),
            Conclusion::Unlimited => {
                write!(f, "{met} meet the objective, and no more may be tried")
            }
            Conclusion::Nothing => {
                write!(f, "{broken} break the objective, and no less may be tried")
            }
            Conclusion::Undecided => write!(
                f,
                "undecided after {} trials, which contradict one another ({met} met the \
                 objective): make trials longer, or the precision coarser",
                self.trials.len()
            ),
        }
    }
}

/// Trials of one rate in which the generator was the bottleneck, until that is its limit.
const INVALID_IN_A_ROW: u32 = 3;

/// Trials in a row that a rate has to meet the objective in, the one that found it included.
const CONFIRMED: u32 = 2;

/// A search for less would not end before its trials are used up.
const PRECISION_MIN: f64 = 0.001;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// A server that keeps up to `capacity`, a generator that keeps up to `limit`.
    fn server(capacity: f64, limit: f64) -> impl FnMut(f64) -> Result<Outcome, ()> {
        move |rate| {
            Ok(match rate {
                rate if rate > limit => Outcome::Invalid,
                rate if rate > capacity => Outcome::Broken,
                _ => Outcome::Met,
            })
        }
    }

    #[test]
    fn the_capacity_is_found_within_the_precision_and_tried_again() {
        for capacity in [1.0, 1.7, 99.0, 100.0, 101.0, 12_345.0, 9.9e6] {
            for precision in [0.2, 0.05, 0.01] {
                let search = Search { precision, ..Search::default() };
                let found = find_max(&search, server(capacity, f64::MAX)).unwrap();
                assert_eq!(found.conclusion, Conclusion::Found, "{capacity} {found}");
                let (met, broken) = (found.met.unwrap(), found.broken.unwrap());
                assert!(met <= capacity && capacity < broken, "{capacity} {found}");
                assert!(broken <= met * (1.0 + precision) * 1.000_001, "{capacity} {found}");
                let [.., last] = &found.trials[..] else { panic!("{found}") };
                assert_eq!(*last, Trial { rate: met, verdict: Outcome::Met });
                assert!(found.trials.len() <= 32, "{capacity} {}", found.trials.len());
            }
        }
    }

    #[test]
    fn a_generator_at_its_limit_ends_the_search() {
        let found = find_max(&Search::default(), server(1e6, 5_000.0)).unwrap();
        assert_eq!((found.conclusion, found.met), (Conclusion::Generator, Some(3_200.0)));
        assert_eq!(found.trials.iter().filter(|t| t.verdict == Outcome::Invalid).count(), 3);
        assert!(found.to_string().contains("the generator, not the server"), "{found}");
    }

    #[test]
    fn who_has_no_limit_or_keeps_nothing_is_told_so() {
        let search = Search { rate_max: 1_000.0, ..Search::default() };
        let found = find_max(&search, server(f64::MAX, f64::MAX)).unwrap();
        assert_eq!((found.conclusion, found.met), (Conclusion::Unlimited, Some(1_000.0)));
        let found = find_max(&search, server(0.5, f64::MAX)).unwrap();
        assert_eq!((found.conclusion, found.broken), (Conclusion::Nothing, Some(1.0)));
        assert_eq!(found.met, None);
    }

    /// Near its capacity a server breaks the objective now and then, and keeps it now and then.
    #[test]
    fn noise_moves_the_result_little_and_never_hangs() {
        let search = Search::default();
        let mut off = 0;
        for seed in 0..300 {
            let mut random = Random::new(seed);
            let noisy = |rate: f64| {
                let capacity = 20_000.0 * (0.96 + 0.08 * random.unit());
                Ok::<_, ()>(if rate > capacity { Outcome::Broken } else { Outcome::Met })
            };
            let found = find_max(&search, noisy).unwrap();
            assert_eq!(found.conclusion, Conclusion::Found, "{seed} {found}");
            let met = found.met.unwrap();
            assert!((17_000.0..=20_900.0).contains(&met), "{seed} {found}");
            off += u32::from(!(18_000.0..=20_800.0).contains(&met));
        }
        assert!(off <= 15, "{off} of 300 are off by more than the noise and two steps");
    }

    #[test]
    fn a_server_without_a_highest_rate_is_not_searched_for_ever() {
        // No rate meets the objective twice.
        let (mut calls, mut last) = (0, 0.0);
        let moody = |rate: f64| {
            calls += 1;
            let again = std::mem::replace(&mut last, rate) == rate;
            Ok::<_, ()>(if again || rate > 1e3 { Outcome::Broken } else { Outcome::Met })
        };
        let search = Search { rate_min: 1e-300, ..Search::default() };
        let found = find_max(&search, moody).unwrap();
        assert_eq!((found.conclusion, calls), (Conclusion::Undecided, 64), "{found}");
    }

    #[test]
    fn an_error_of_a_trial_is_handed_on() {
        let mut calls = 0;
        let fails = |_| {
            calls += 1;
            if calls == 3 { Err("gone") } else { Ok(Outcome::Met) }
        };
        assert_eq!(find_max(&Search::default(), fails).unwrap_err(), "gone");
    }
}
