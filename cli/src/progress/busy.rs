//! busy tells how much of the time each worker thread of this process has something to do.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use quiclane::clock;

/// What the scheduler had counted at the last look.
#[derive(Debug)]
pub(super) struct Busy {
    since: Instant,
    before: BTreeMap<usize, Duration>,
}

impl Busy {
    pub(super) fn new() -> Self {
        Self { since: clock::now(), before: times() }
    }

    /// The share of the time since the last look, by worker.
    pub(super) fn look(&mut self) -> Vec<f64> {
        let (now, times) = (clock::now(), times());
        let wall = now.saturating_duration_since(self.since).as_secs_f64().max(1e-9);
        let share = |(worker, time): (&usize, &Duration)| {
            let before = self.before.get(worker).copied().unwrap_or_default();
            (time.saturating_sub(before).as_secs_f64() / wall).min(1.0)
        };
        let shares = times.iter().map(share).collect();
        (self.since, self.before) = (now, times);
        shares
    }
}

/// How long each worker has run or waited for a core.
fn times() -> BTreeMap<usize, Duration> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return BTreeMap::new() };
    let time = |thread: fs::DirEntry| {
        let name = fs::read_to_string(thread.path().join("comm")).ok()?;
        let worker = name.trim().strip_prefix("quiclane-")?.parse().ok()?;
        let counted = fs::read_to_string(thread.path().join("schedstat")).ok()?;
        let fields = counted.split(' ').take(2).map(str::parse::<u64>);
        let ns = fields.sum::<Result<u64, _>>().ok()?;
        Some((worker, Duration::from_nanos(ns)))
    };
    threads.filter_map(|thread| time(thread.ok()?)).collect()
}
