//! gate makes the workers of a run start measuring in one instant, and stops them all.
//!
//! ```text
//! each worker: connect ─► arrive ─► wait ─┬─► Start(at): the last one to arrive opened the gate
//!                                         └─► Abandon: all arrived, and nobody has a connection
//! ```

use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{AcqRel, Acquire, Release},
};
use std::time::{Duration, Instant};

/// Shared by the workers of one run.
#[derive(Debug)]
pub(crate) struct Gate {
    workers: usize,
    arrived: AtomicUsize,
    connected: AtomicBool,
    /// The earliest start.
    not_before: Option<Instant>,
    start: OnceLock<Instant>,
    abandoned: AtomicBool,
    stopped: AtomicBool,
}

impl Gate {
    /// A closed gate for `workers`, which stays closed until `not_before`.
    pub(crate) fn new(workers: usize, not_before: Option<Instant>) -> Self {
        Self {
            not_before,
            workers,
            arrived: AtomicUsize::new(0),
            connected: AtomicBool::new(false),
            start: OnceLock::new(),
            abandoned: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    /// A handshake of some worker is complete: the server is there.
    pub(crate) fn note_connected(&self) {
        // Read first: the flag stays in every core's cache, shared, for the rest of the run.
        if !self.connected.load(Acquire) {
            self.connected.store(true, Release);
        }
    }

    /// Whether any worker ever had a connection.
    pub(crate) fn ever_connected(&self) -> bool {
        self.connected.load(Acquire)
    }

    /// A worker is ready; to be called once by each. The last one decides what happens, and asks
    /// for a connection to be there if `connection_needed`.
    pub(crate) fn arrive(&self, now: Instant, connection_needed: bool) {
        if self.arrived.fetch_add(1, AcqRel) + 1 < self.workers {
            return;
        }
        if connection_needed && !self.ever_connected() {
            self.abandoned.store(true, Release);
        } else {
            let soon = now + START_DELAY;
            let _ = self.start.set(self.not_before.map_or(soon, |at| at.max(soon)));
        }
    }

    /// What a waiting worker has to do.
    pub(crate) fn signal(&self) -> Signal {
        if self.abandoned.load(Acquire) {
            return Signal::Abandon;
        }
        self.start.get().map_or(Signal::Wait, |&at| Signal::Start(at))
    }

    /// How much later than at `not_before` the run began.
    pub(crate) fn late_by(&self) -> Option<Duration> {
        self.start.get()?.checked_duration_since(self.not_before?)
    }

    /// Ends the run early.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Release);
    }

    /// Whether the run shall end early.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Acquire)
    }
}

/// What the gate tells a worker.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Signal {
    /// Not everybody is ready.
    Wait,
    /// The run begins at this instant.
    Start(Instant),
    /// Nobody could connect.
    Abandon,
}

/// From the last arrival to the start: longer than the [`POLL`] of those that wait.
const START_DELAY: Duration = Duration::from_millis(2);

/// How often a waiting worker looks at the gate.
pub(crate) const POLL: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_arrival_opens_the_gate() {
        let now = quiclane::clock::now();
        let gate = Gate::new(2, None);
        gate.note_connected();
        gate.arrive(now, true);
        assert_eq!(gate.signal(), Signal::Wait);
        gate.arrive(now, true);
        assert_eq!(gate.signal(), Signal::Start(now + START_DELAY));
    }

    #[test]
    fn without_any_connection_the_run_is_abandoned() {
        let now = quiclane::clock::now();
        let gate = Gate::new(1, None);
        gate.arrive(now, true);
        assert_eq!(gate.signal(), Signal::Abandon);

        let gate = Gate::new(1, None);
        gate.arrive(now, false);
        assert!(matches!(gate.signal(), Signal::Start(_)));
    }

    #[test]
    fn a_gate_with_a_time_opens_then_and_says_how_late_it_was() {
        let now = quiclane::clock::now();
        let later = now + Duration::from_secs(7);
        let gate = Gate::new(1, Some(later));
        gate.arrive(now, false);
        assert_eq!(gate.signal(), Signal::Start(later));
        assert_eq!(gate.late_by(), Some(Duration::ZERO));
        let gate = Gate::new(1, Some(now));
        gate.arrive(later, false);
        assert_eq!(gate.signal(), Signal::Start(later + START_DELAY));
        assert_eq!(gate.late_by(), Some(Duration::from_secs(7) + START_DELAY));
        assert_eq!(Gate::new(1, None).late_by(), None);
    }
}
