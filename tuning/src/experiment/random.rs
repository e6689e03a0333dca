//! random is a small source of randomness (splitmix64), of our own because a file of records names
//! the seed: the same seed has to mean the same order in every version.

/// Numbers that look random, the same ones for the same seed.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// A stream of its own for each list of numbers.
    pub(super) fn new(seed: &[u64]) -> Self {
        let mut random = Self(0);
        for number in seed {
            random.0 = random.next() ^ number;
        }
        random
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Puts `items` into a random order (Fisher and Yates).
    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            let other = self.below(at + 1);
            items.swap(at, other);
        }
    }

    /// The next whole number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "below `end`")]
        let number = (self.next() % end as u64) as usize;
        number
    }
}

#[cfg(test)]
impl Random {
    /// The next number, from 0 to just under 1.
    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The next number with the normal distribution.
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_belongs_to_its_seed() {
        let order = |seed: &[u64]| {
            let mut items: Vec<u32> = (0..8).collect();
            Random::new(seed).shuffle(&mut items);
            items
        };
        // Files of records rely on it.
        assert_eq!(order(&[1, 2]), order(&[1, 2]));
        assert_ne!(order(&[1, 2]), order(&[2, 1]));
        let mut sorted = order(&[7]);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..8).collect::<Vec<_>>());
    }

    #[test]
    fn every_order_is_as_likely() {
        let mut first = [0_u32; 4];
        for seed in 0..4_000 {
            let mut items = [0_usize, 1, 2, 3];
            Random::new(&[seed]).shuffle(&mut items);
            first[items[0]] += 1;
        }
        assert!(first.iter().all(|count| (880..=1_120).contains(count)), "{first:?}");
    }
}
