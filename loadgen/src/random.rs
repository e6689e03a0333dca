//! random is a small source of randomness (splitmix64): good enough to spread requests and
//! attempts, and nothing else.

/// Numbers that look random, the same ones for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// A stream of its own for each seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next bytes.
    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(8) {
            let bits = self.bits().to_le_bytes();
            piece.copy_from_slice(&bits[..piece.len()]);
        }
    }

    /// The next number, from 0 to just under 1.
    pub(crate) fn unit(&mut self) -> f64 {
        // 53 bits, the precision of an f64.
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// The next whole number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below `end`")]
        let number = (self.unit() * end as f64) as usize;
        number.min(end - 1)
    }

    /// The next number with the normal distribution.
    #[cfg(test)]
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// The next number with an exponential distribution and a mean of 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        // 1 - unit: never 0, whose logarithm is none.
        -(1.0 - self.unit()).ln()
    }
}
