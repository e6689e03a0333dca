//! clock tells the time; it is the only caller of `Instant::now`.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

/// Where a worker's time comes from.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// CLOCK_MONOTONIC.
    #[default]
    System,
    /// Time that a simulation moves.
    Virtual(VirtualTime),
}

impl Clock {
    /// The time now.
    #[inline]
    #[must_use]
    pub fn now(&self) -> Instant {
        match self {
            Self::System => now(),
            Self::Virtual(time) => time.now(),
        }
    }
}

/// A clock that moves only when told to.
#[derive(Clone, Debug)]
pub struct VirtualTime(Rc<Cell<Instant>>);

impl VirtualTime {
    /// A clock that stands at an arbitrary start.
    #[must_use]
    pub fn new() -> Self {
        Self(Rc::new(Cell::new(now())))
    }

    /// Where it stands.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.get()
    }

    /// Moves it forward to `instant`; it never goes back.
    pub fn advance_to(&self, instant: Instant) {
        self.0.set(self.0.get().max(instant));
    }
}

impl Default for VirtualTime {
    fn default() -> Self {
        Self::new()
    }
}

/// Monotonic time, for the threads that own no worker.
#[expect(clippy::disallowed_methods, reason = "the one door to the monotonic clock")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Time since the Unix epoch, for state files and file names.
#[expect(clippy::disallowed_methods, reason = "the one door to the wall clock")]
#[must_use]
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
