//! verdict says what an estimate means.

use serde::Serialize;

use super::Estimate;

/// What an arm is, beside the baseline.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The figure improves.
    Better,
    /// It gets worse.
    Worse,
    /// The whole interval is within the smallest effect that matters.
    Equivalent,
    /// These blocks cannot say.
    Inconclusive,
}

impl Verdict {
    /// `smallest`: the effect below which nobody would care. `floor`: what the baseline differs
    /// from itself by, given as many blocks. Both are log ratios. `sign` is that of what is better.
    pub(super) fn new(estimate: &Estimate, smallest: f64, floor: f64, sign: f64) -> Self {
        let Estimate { effect, low, high, .. } = *estimate;
        if low > -smallest && high < smallest {
            return Self::Equivalent;
        }
        if !estimate.excludes_zero() || effect.abs() < smallest.max(floor) {
            return Self::Inconclusive;
        }
        if effect * sign > 0.0 { Self::Better } else { Self::Worse }
    }

    /// Whether it claims a difference.
    #[must_use]
    pub const fn is_difference(self) -> bool {
        matches!(self, Self::Better | Self::Worse)
    }

    /// For people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Equivalent => "equivalent",
            Self::Inconclusive => "inconclusive",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_certain_and_large_enough() {
        let of = |effect, low, high, sign| {
            let estimate = Estimate { blocks: 8, effect, low, high, p: 0.01 };
            Verdict::new(&estimate, 0.02, 0.03, sign)
        };
        assert_eq!(of(0.05, 0.03, 0.07, 1.0), Verdict::Better);
        assert_eq!(of(-0.05, -0.07, -0.03, 1.0), Verdict::Worse);
        assert_eq!(of(-0.05, -0.07, -0.03, -1.0), Verdict::Better, "less latency");
        assert_eq!(of(0.001, -0.019, 0.019, 1.0), Verdict::Equivalent);
        assert_eq!(of(0.01, 0.005, 0.019, 1.0), Verdict::Equivalent, "certain, and too small");
        assert_eq!(of(0.025, 0.01, 0.04, 1.0), Verdict::Inconclusive, "below the noise floor");
        assert_eq!(of(0.05, -0.01, 0.11, 1.0), Verdict::Inconclusive);
        let infinite = (f64::NEG_INFINITY, f64::INFINITY);
        assert_eq!(of(0.5, infinite.0, infinite.1, 1.0), Verdict::Inconclusive);
    }
}
