//! partition divides a run among generators: each has a part of the connections, of the requests
//! and of the schedule, and the parts are the whole.

use serde::{Deserialize, Serialize};

/// One generator's part of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Partition {
    index: u64,
    of: u64,
}

impl Partition {
    /// Part `index`, counted from 1, of `of`; `None` if there is no such part, or there are more
    /// than [`PARTS_MAX`].
    #[must_use]
    pub fn new(index: u64, of: u64) -> Option<Self> {
        (1..=PARTS_MAX).contains(&of).then_some(())?;
        (1..=of).contains(&index).then_some(Self { index, of })
    }

    /// Its share of `whole`; the first parts take the remainder.
    pub(crate) fn share(self, whole: u64) -> u64 {
        part(whole, self.index - 1, self.of)
    }

    /// Which lane of a schedule is that of one of its workers, and every how many requests there is
    /// one of that lane. The workers of other parts may be more or fewer.
    pub(crate) fn lane(part: Option<Self>, worker: usize, workers: usize) -> (usize, usize) {
        let Some(Self { index, of }) = part else { return (worker, workers) };
        // Both are small.
        let [first, step] = [index - 1, of].map(|number| usize::try_from(number).unwrap_or(0));
        (first + step * worker, step * workers)
    }
}

/// The share of `whole` that falls to one of `parts`; the first ones take the remainder.
pub(crate) fn part(whole: u64, index: u64, parts: u64) -> u64 {
    whole / parts + u64::from(index < whole % parts)
}

/// Which parts of a run a report has.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Parts {
    /// How many there are.
    pub of: u64,
    /// Which of them, from 1.
    pub parts: Vec<u64>,
}

impl Parts {
    pub(crate) fn new(Partition { index, of }: Partition) -> Self {
        Self { of, parts: vec![index] }
    }

    /// Those that are not there.
    pub(crate) fn missing(&self) -> Vec<u64> {
        (1..=self.of.min(PARTS_MAX)).filter(|part| !self.parts.contains(part)).collect()
    }
}

/// As many as a schedule has random numbers of their own for.
pub const PARTS_MAX: u64 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_whole() {
        for of in [1, 2, 3, 7, 255] {
            for whole in [0, 1, 2, 9, 10, 1_000_003] {
                let shares = (1..=of).map(|index| Partition::new(index, of).unwrap().share(whole));
                assert_eq!(shares.sum::<u64>(), whole);
            }
        }
        for (index, of) in [(0, 1), (2, 1), (1, 0), (1, 256)] {
            assert_eq!(Partition::new(index, of), None);
        }
    }

    #[test]
    fn lanes_are_the_schedule_whatever_the_workers_are() {
        // A machine of one worker, one of three and one of two.
        let mut places: Vec<usize> = (1..)
            .zip([1, 3, 2])
            .flat_map(|(index, workers)| {
                let part = Partition::new(index, 3);
                (0..workers).map(move |worker| Partition::lane(part, worker, workers))
            })
            .flat_map(|(lane, lanes)| (lane..180).step_by(lanes))
            .collect();
        places.sort_unstable();
        assert_eq!(places, (0..180).collect::<Vec<_>>());
        assert_eq!(Partition::lane(None, 1, 2), (1, 2));
    }

    #[test]
    fn missing_parts_are_known() {
        let parts = Parts { of: 4, parts: vec![2, 4] };
        assert_eq!(parts.missing(), [1, 3]);
    }
}
