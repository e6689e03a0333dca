//! live shows a run while it runs: counters that each worker stores once per turn.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How far a run has come: the sum over all workers at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// Connections whose handshake is complete and that are not closed.
    pub open: u64,
    /// Handshakes completed, since the run began.
    pub handshakes: u64,
    /// Handshakes failed, since the run began.
    pub handshakes_failed: u64,
    /// Requests answered in full, since measuring began.
    pub requests: u64,
    /// Requests failed, since measuring began.
    pub requests_failed: u64,
    /// Response bytes received, since measuring began.
    pub bytes_down: u64,
    /// Request payload bytes handed to QUIC, since measuring began.
    pub bytes_up: u64,
    /// Workers that are measuring or done.
    pub measuring: u64,
    /// Connections lost with no request in flight, since the run began.
    pub idle_losses: u64,
    /// Handshakes that replaced a lost connection, since the run began.
    pub reconnects: u64,
    /// The 99th percentile of the latency in the last interval, in nanoseconds: the longest of the
    /// workers'.
    pub p99_ns: u64,
}

/// One worker's counters. Only that worker stores them; anybody may read. On cache lines of its
/// own (two, because of the adjacent-line prefetcher), so that workers do not slow one another.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Live {
    open: AtomicU64,
    handshakes: AtomicU64,
    handshakes_failed: AtomicU64,
    requests: AtomicU64,
    requests_failed: AtomicU64,
    bytes_down: AtomicU64,
    bytes_up: AtomicU64,
    measuring: AtomicU64,
    idle_losses: AtomicU64,
    reconnects: AtomicU64,
    p99_ns: AtomicU64,
}

impl Live {
    /// Stores the worker's state.
    pub(crate) fn publish(&self, progress: &Progress) {
        let Progress {
            open,
            handshakes,
            handshakes_failed,
            requests,
            requests_failed,
            bytes_down,
            bytes_up,
            measuring,
            idle_losses,
            reconnects,
            p99_ns,
        } = *progress;
        self.open.store(open, Relaxed);
        self.handshakes.store(handshakes, Relaxed);
        self.handshakes_failed.store(handshakes_failed, Relaxed);
        self.requests.store(requests, Relaxed);
        self.requests_failed.store(requests_failed, Relaxed);
        self.bytes_down.store(bytes_down, Relaxed);
        self.bytes_up.store(bytes_up, Relaxed);
        self.measuring.store(measuring, Relaxed);
        self.idle_losses.store(idle_losses, Relaxed);
        self.reconnects.store(reconnects, Relaxed);
        self.p99_ns.store(p99_ns, Relaxed);
    }

    /// The sum over all workers.
    pub(crate) fn sum<'a>(workers: impl IntoIterator<Item = &'a Self>) -> Progress {
        workers.into_iter().fold(Progress::default(), |sum, live| Progress {
            open: sum.open + live.open.load(Relaxed),
            handshakes: sum.handshakes + live.handshakes.load(Relaxed),
            handshakes_failed: sum.handshakes_failed + live.handshakes_failed.load(Relaxed),
            requests: sum.requests + live.requests.load(Relaxed),
            requests_failed: sum.requests_failed + live.requests_failed.load(Relaxed),
            bytes_down: sum.bytes_down + live.bytes_down.load(Relaxed),
            bytes_up: sum.bytes_up + live.bytes_up.load(Relaxed),
            measuring: sum.measuring + live.measuring.load(Relaxed),
            idle_losses: sum.idle_losses + live.idle_losses.load(Relaxed),
            reconnects: sum.reconnects + live.reconnects.load(Relaxed),
            p99_ns: sum.p99_ns.max(live.p99_ns.load(Relaxed)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_the_sum_of_the_workers() {
        let workers = [Live::default(), Live::default()];
        workers[0].publish(&Progress { requests: 3, bytes_up: 1, ..Progress::default() });
        workers[1].publish(&Progress { requests: 4, open: 2, ..Progress::default() });
        let expected = Progress { requests: 7, bytes_up: 1, open: 2, ..Progress::default() };
        assert_eq!(Live::sum(&workers), expected);
    }
}
