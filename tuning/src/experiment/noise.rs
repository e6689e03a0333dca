//! noise says what a block varies by, and so which effects a number of blocks can show.

use super::Estimate;

/// The standard deviation that a normal distribution with the same quartiles has: outliers, which
/// the estimate does not mind either, do not count.
pub(super) fn spread(ratios: &[f64]) -> f64 {
    let mut sorted = ratios.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (sorted.len().max(1) - 1) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
        let (low, rest) = (place as usize, place.fract());
        let value = |at: usize| sorted.get(at).or_else(|| sorted.last()).copied().unwrap_or(0.0);
        value(low) + rest * (value(low + 1) - value(low))
    };
    // Quartiles of few numbers lie closer together than those of what they were drawn from.
    let few = 1.0 - FEW / (ratios.len() as f64).max(2.0);
    (at(0.75) - at(0.25)) / QUARTILES / few
}

/// Half of the width that the 95 % interval of so many blocks has, in standard deviations of a
/// block.
pub(super) fn half_width(blocks: usize) -> f64 {
    ends(blocks, &[INTERVAL])
}

/// The effect that nine of ten intervals tell from none, in standard deviations of a block.
pub(super) fn told(blocks: usize) -> f64 {
    // The width is not always the usual one, the less so the fewer blocks there are.
    ends(blocks, &[INTERVAL, NINE_OF_TEN]) * (1.0 + WIDTH_VARIES / blocks as f64)
}

fn ends(blocks: usize, quantiles: &[f64]) -> f64 {
    if blocks < Estimate::BLOCKS_MIN {
        return f64::INFINITY;
    }
    let freedom = (blocks - 1) as f64;
    let sum: f64 = quantiles.iter().map(|z| student(*z, freedom)).sum();
    sum * RANKS / (blocks as f64).sqrt()
}

/// The quantile of Student's distribution where the normal one has `z` (Cornish and Fisher).
fn student(z: f64, freedom: f64) -> f64 {
    let (cube, fifth) = (z.powi(3), z.powi(5));
    let first = (cube + z) / (4.0 * freedom);
    z + first + (5.0 * fifth + 16.0 * cube + 3.0 * z) / (96.0 * freedom * freedom)
}

/// Between the quartiles of a normal distribution, in standard deviations.
const QUARTILES: f64 = 1.349;

/// By what share of 1/n the distance of the quartiles of n numbers falls short.
const FEW: f64 = 1.27;

/// How much wider an interval of ranks is than one of normal distributions: (pi / 3)^(1/2).
const RANKS: f64 = 1.023;

/// What the trials below need for nine of ten.
const WIDTH_VARIES: f64 = 0.6;

/// Where the normal distribution leaves 2.5 % out.
const INTERVAL: f64 = 1.960;

/// Where it leaves 10 % out.
const NINE_OF_TEN: f64 = 1.282;

#[cfg(test)]
mod tests {
    use super::super::random::Random;
    use super::*;

    #[test]
    fn quantiles_are_students() {
        for (z, freedom, expected) in [
            (INTERVAL, 5.0, 2.571),
            (INTERVAL, 7.0, 2.365),
            (INTERVAL, 19.0, 2.093),
            (NINE_OF_TEN, 5.0, 1.476),
        ] {
            let found = student(z, freedom);
            assert!((found / expected - 1.0).abs() < 0.01, "{z} {freedom}: {found}");
        }
        assert_eq!(half_width(Estimate::BLOCKS_MIN - 1), f64::INFINITY);
    }

    /// Draws of so many blocks that vary by 1 around `effect`.
    fn draws(blocks: usize, effect: f64) -> impl Iterator<Item = Vec<f64>> {
        (0..4_000).map(move |number| {
            let mut random = Random::new(&[number, blocks as u64]);
            (0..blocks).map(|_| effect + random.normal()).collect()
        })
    }

    #[test]
    fn few_blocks_vary_as_many_do() {
        for blocks in [6, 8, 12, 20] {
            let mean = draws(blocks, 0.0).map(|draw| spread(&draw)).sum::<f64>() / 4_000.0;
            assert!((0.95..=1.05).contains(&mean), "{blocks} blocks: {mean}");
        }
        assert_eq!((spread(&[]), spread(&[0.3])), (0.0, 0.0));
    }

    #[test]
    fn what_is_told_is_told_in_nine_of_ten_cases() {
        for blocks in [6, 8, 12, 20] {
            let estimates = || draws(blocks, told(blocks)).filter_map(|draw| Estimate::new(&draw));
            let half = estimates().map(|of| of.half_width()).sum::<f64>() / 4_000.0;
            let expected = half_width(blocks);
            assert!((half / expected - 1.0).abs() < 0.06, "{blocks}: {half} for {expected}");
            let claimed = |of: &Estimate| of.low > 0.0 && of.effect >= half_width(blocks);
            let found = estimates().filter(claimed).count();
            assert!((3_520..=3_720).contains(&found), "{blocks} blocks: {found} of 4,000");
        }
    }
}
