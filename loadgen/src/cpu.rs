//! cpu measures how busy a worker thread was: the sign of a generator at its limit.

use std::fs;
use std::time::Duration;

/// What the scheduler has counted for a thread since it began.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct ThreadTime {
    /// Running on a core.
    pub(crate) running: Duration,
    /// Ready to run, but waiting for a core that did something else.
    pub(crate) waiting: Duration,
}

impl ThreadTime {
    /// For the calling thread; `None` where the kernel does not tell.
    pub(crate) fn read() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/thread-self/schedstat").ok()?)
    }

    fn parse(schedstat: &str) -> Option<Self> {
        let mut fields = schedstat.split_ascii_whitespace().map(str::parse::<u64>);
        let running = fields.next()?.ok()?;
        let waiting = fields.next()?.ok()?;
        // A kernel without scheduler statistics shows zeros.
        (running > 0).then(|| Self {
            running: Duration::from_nanos(running),
            waiting: Duration::from_nanos(waiting),
        })
    }

    /// The share of `wall` in which the thread ran or could have run, from `earlier` until now.
    /// 1.0 means that it never had nothing to do.
    pub(crate) fn busy_since(self, earlier: Self, wall: Duration) -> f64 {
        if wall.is_zero() {
            return 0.0;
        }
        let busy = self.running.saturating_sub(earlier.running)
            + self.waiting.saturating_sub(earlier.waiting);
        (busy.as_secs_f64() / wall.as_secs_f64()).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedstat_is_understood() {
        let time = ThreadTime::parse("1500 500 3\n").unwrap();
        assert_eq!(time.running, Duration::from_nanos(1_500));
        assert_eq!(time.waiting, Duration::from_nanos(500));
        assert_eq!(ThreadTime::parse("0 0 0\n"), None);
        assert_eq!(ThreadTime::parse(""), None);
    }

    #[test]
    fn busy_counts_running_and_waiting() {
        let ms = Duration::from_millis;
        let later = ThreadTime { running: ms(500), waiting: ms(250) };
        let busy = later.busy_since(ThreadTime::default(), ms(1_000));
        assert!((busy - 0.75).abs() < 1e-9);
        assert!(later.busy_since(later, Duration::ZERO).abs() < 1e-9);
    }
}
