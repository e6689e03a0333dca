//! order mixes requests by their weights: each as often as its weight says in every round, and as
//! evenly spread as whole numbers allow.

/// Whose turn it is, on one worker.
#[derive(Debug)]
pub(super) struct Turns {
    order: Vec<u32>,
    next: usize,
}

impl Turns {
    /// The turns of requests with these weights, the first one of `worker` being another one than
    /// its neighbour's.
    pub(super) fn new(weights: impl Iterator<Item = u32>, worker: usize) -> Self {
        let order = order(&weights.collect::<Vec<u32>>());
        Self { next: worker.checked_rem(order.len()).unwrap_or_default(), order }
    }

    /// Which request the next one is.
    pub(super) fn next(&mut self) -> usize {
        let turn = self.next;
        self.next = if turn + 1 < self.order.len() { turn + 1 } else { 0 };
        self.order[turn] as usize
    }
}

/// The round of requests with these weights, by their places: request `i` is in it `weights[i]`
/// times, less what all weights have in common. Among `n` places its k-th turn is the one nearest
/// to `n * (k + 1/2) / weights[i]`; who comes first in the list wins a tie.
fn order(weights: &[u32]) -> Vec<u32> {
    let common = weights.iter().copied().fold(0, divisor).max(1);
    let mut turns = Vec::new();
    for (which, weight) in (0..).zip(weights) {
        let weight = u64::from(weight / common);
        turns.extend((0..weight).map(|turn| (((2 * turn + 1) << SHIFT) / weight, which)));
    }
    turns.sort_unstable();
    turns.into_iter().map(|(_, which)| which).collect()
}

/// The length of the round.
pub(crate) fn round(weights: impl Iterator<Item = u32> + Clone) -> u64 {
    let common = weights.clone().fold(0, divisor).max(1);
    weights.map(|weight| u64::from(weight / common)).sum()
}

/// The greatest common divisor.
fn divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// Turns are compared as fractions of so many bits; twice a weight of 32 bits is to fit beside.
const SHIFT: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_weights_take_turns() {
        assert_eq!(order(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(order(&[7, 7]), [0, 1]);
        assert_eq!(order(&[3]), [0]);
    }

    #[test]
    fn weights_are_exact_and_spread_evenly() {
        assert_eq!(order(&[2, 1]), [0, 1, 0]);
        assert_eq!(order(&[10, 20]), [1, 0, 1]);
        for weights in [vec![70, 20, 10], vec![1, 999], vec![5, 3, 2, 1, 1], vec![13, 17, 19]] {
            let order = order(&weights);
            let sum: u32 = weights.iter().sum();
            let all = round(weights.iter().copied());
            assert_eq!(order.len() as u64, all);
            for (which, weight) in (0..).zip(&weights) {
                // In any first part of the round each has had its share, give or take one turn.
                let mut had = 0.0_f64;
                for (place, turn) in (1_u32..).zip(&order) {
                    had += f64::from(u8::from(*turn == which));
                    let share = f64::from(place) * f64::from(*weight) / f64::from(sum);
                    assert!((had - share).abs() <= 1.5, "{weights:?} {which} {place} {had}");
                }
                let per_round = f64::from(*weight) / f64::from(sum) * all as f64;
                assert!((had - per_round).abs() < 1e-9, "{weights:?} {which}");
            }
        }
    }
}
