//! exchanges is a table of the exchanges that are not over, by stream. They come and go roughly in
//! order, so a sorted queue is small and quick.

use std::collections::VecDeque;

use super::STREAM_STEP;
use crate::exchange::Exchange;

#[derive(Debug, Default)]
pub(super) struct Exchanges {
    queue: VecDeque<(u64, Exchange)>,
    /// Where the one is that was found last: most calls are about it again.
    latest: usize,
}

impl Exchanges {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Where the exchange on `stream` is, until one is inserted or taken out.
    pub(super) fn find(&mut self, stream: u64) -> Option<usize> {
        let is_it = |(id, _): &(u64, Exchange)| *id == stream;
        if !self.queue.get(self.latest).is_some_and(is_it) {
            self.latest = self.search(stream).ok()?;
        }
        Some(self.latest)
    }

    pub(super) fn at(&mut self, at: usize) -> Option<&mut Exchange> {
        self.queue.get_mut(at).map(|(_, exchange)| exchange)
    }

    pub(super) fn get(&self, stream: u64) -> Option<&Exchange> {
        let at = self.search(stream).ok()?;
        self.queue.get(at).map(|(_, exchange)| exchange)
    }

    pub(super) fn get_mut(&mut self, stream: u64) -> Option<&mut Exchange> {
        self.find(stream).and_then(|at| self.at(at))
    }

    /// Does nothing if there is one on `stream`.
    pub(super) fn insert(&mut self, stream: u64, exchange: Exchange) {
        let Err(at) = self.search(stream) else { return };
        if at == self.queue.len() {
            self.queue.push_back((stream, exchange));
        } else {
            self.queue.insert(at, (stream, exchange));
        }
        self.latest = at;
    }

    /// Quickest at the ends.
    pub(super) fn take(&mut self, at: usize) -> Option<Exchange> {
        let taken = match at {
            0 => self.queue.pop_front(),
            _ if at + 1 == self.queue.len() => self.queue.pop_back(),
            _ => self.queue.remove(at),
        };
        taken.map(|(_, exchange)| exchange)
    }

    #[cfg(any(test, feature = "fuzz"))]
    pub(super) fn iter(&self) -> impl Iterator<Item = &(u64, Exchange)> {
        self.queue.iter()
    }

    /// Where it is, or would be.
    fn search(&self, stream: u64) -> Result<usize, usize> {
        let (Some((first, _)), Some((last, _))) = (self.queue.front(), self.queue.back()) else {
            return Err(0);
        };
        if stream > *last {
            return Err(self.queue.len());
        }
        // Where it is if all from the oldest on are still there; further back it cannot be.
        let guess = stream.saturating_sub(*first) / STREAM_STEP;
        let guess = usize::try_from(guess).unwrap_or(usize::MAX).min(self.queue.len() - 1);
        match self.queue.get(guess) {
            Some((id, _)) if *id == stream => Ok(guess),
            _ => self.queue.binary_search_by_key(&stream, |(id, _)| *id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Sending;
    use crate::prepared::Method;

    #[test]
    fn each_is_found_whatever_came_and_went_before() {
        let mut exchanges = Exchanges::default();
        let mut kept = std::collections::BTreeSet::new();
        // A generator of bits is all the randomness that this needs (Marsaglia's xorshift).
        let mut bits = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..20_000 {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            let stream = bits % 24 * STREAM_STEP;
            match exchanges.find(stream) {
                Some(at) if bits >> 60 < 6 => {
                    exchanges.take(at);
                    kept.remove(&stream);
                }
                _ => {
                    exchanges.insert(stream, Exchange::new(Sending::Head, Method::Other));
                    kept.insert(stream);
                }
            }
            assert!(exchanges.iter().map(|(stream, _)| *stream).eq(kept.iter().copied()));
            let other = (bits >> 32) % 24 * STREAM_STEP;
            assert_eq!(exchanges.find(other).is_some(), kept.contains(&other));
            assert_eq!(exchanges.get(other).is_some(), kept.contains(&other));
            if let Some(at) = exchanges.find(other) {
                assert_eq!(exchanges.queue.get(at).map(|(stream, _)| *stream), Some(other));
            }
        }
        assert!((1..24).contains(&kept.len()), "some are there and some are not");
    }
}
