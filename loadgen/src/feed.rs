//! feed hands intervals out while a run lasts, each as soon as all workers have closed it.
//!
//! ```text
//! Series of each worker ─► Part, in order ─► Feed: the sum, once nobody can add to it ─► take
//! ```

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, Sender};

use crate::series::Interval;

/// What a worker has to say.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) worker: usize,
    /// Its next interval; `None`: it measured nothing.
    pub(crate) interval: Option<Interval>,
    /// Whether it has said everything.
    pub(crate) is_over: bool,
}

/// Where the parts come together.
#[derive(Debug)]
pub(crate) struct Feed {
    parts: Receiver<Part>,
    workers: Vec<Worker>,
    /// Intervals that were handed out.
    taken: usize,
    /// Those after them, as far as they have come.
    sums: VecDeque<Interval>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Worker {
    /// Intervals that it has told of.
    intervals: usize,
    is_over: bool,
}

impl Feed {
    /// A feed of so many workers, and what they tell it by.
    pub(crate) fn new(workers: usize) -> (Sender<Part>, Self) {
        let (sender, parts) = mpsc::channel();
        let workers = vec![Worker::default(); workers];
        (sender, Self { parts, workers, taken: 0, sums: VecDeque::new() })
    }

    /// The intervals that have become complete since the last call, in their order.
    pub(crate) fn take(&mut self) -> Vec<Interval> {
        for Part { worker, interval, is_over } in self.parts.try_iter() {
            let worker = &mut self.workers[worker];
            worker.is_over |= is_over;
            if let Some(interval) = interval {
                // None is handed out that a worker may still tell of.
                let at = worker.intervals - self.taken;
                worker.intervals += 1;
                match self.sums.get_mut(at) {
                    Some(sum) => sum.add(&interval),
                    None => self.sums.push_back(interval),
                }
            }
        }
        let waited_for = self.workers.iter().filter(|worker| !worker.is_over);
        let complete = waited_for.map(|worker| worker.intervals - self.taken).min();
        let complete = complete.unwrap_or(self.sums.len());
        self.taken += complete;
        self.sums.drain(..complete).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(worker: usize, ok: Option<u64>, is_over: bool) -> Part {
        let interval = ok.map(|ok| Interval { ok, ..Interval::default() });
        Part { worker, interval, is_over }
    }

    #[test]
    fn an_interval_is_handed_out_when_all_have_closed_it() {
        let (sender, mut feed) = Feed::new(2);
        let mut after = |parts: Vec<Part>| {
            parts.into_iter().for_each(|part| sender.send(part).unwrap());
            feed.take().iter().map(|of| of.ok).collect::<Vec<u64>>()
        };
        assert!(after(vec![]).is_empty());
        assert!(after(vec![part(0, Some(1), false), part(0, Some(2), false)]).is_empty());
        assert_eq!(after(vec![part(1, Some(10), false)]), [11]);
        assert_eq!(after(vec![part(1, Some(20), false), part(1, Some(30), false)]), [22]);
        // Who is done is not waited for: its last interval is complete when the others say so.
        assert_eq!(after(vec![part(0, Some(3), true)]), [33]);
        assert_eq!(after(vec![part(1, Some(40), false)]), [40]);
        assert_eq!(after(vec![part(1, Some(50), true)]), [50]);
        assert!(after(vec![]).is_empty());
    }

    #[test]
    fn who_ends_first_may_have_told_of_the_most() {
        let (sender, mut feed) = Feed::new(2);
        for part in [part(0, Some(1), false), part(0, Some(2), true)] {
            sender.send(part).unwrap();
        }
        assert!(feed.take().is_empty());
        sender.send(part(1, None, true)).unwrap();
        assert_eq!(feed.take().iter().map(|of| of.ok).collect::<Vec<_>>(), [1, 2]);
    }
}
