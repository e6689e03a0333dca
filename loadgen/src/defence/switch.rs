//! switch tells the threads of a test what part of it is under way.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

/// What part of a test is under way; only ever moves on.
#[derive(Debug, Default)]
pub(super) struct Switch {
    phase: AtomicU8,
    is_interrupted: AtomicBool,
}

impl Switch {
    /// The abuse begins.
    pub(super) fn begin(&self) {
        self.phase.store(DURING, Relaxed);
    }

    /// The abuse is over; what comes back is still counted.
    pub(super) fn end(&self) {
        self.phase.store(AFTER, Relaxed);
    }

    /// Nothing is counted any more.
    pub(super) fn close(&self) {
        self.phase.store(CLOSED, Relaxed);
    }

    /// Whether the abuse is over.
    pub(super) fn is_over(&self) -> bool {
        self.phase.load(Relaxed) >= AFTER
    }

    /// Whether nothing is counted any more.
    pub(super) fn is_closed(&self) -> bool {
        self.phase.load(Relaxed) >= CLOSED
    }

    /// Somebody wants no more.
    pub(super) fn interrupt(&self) {
        self.is_interrupted.store(true, Relaxed);
    }

    /// Whether somebody wants no more.
    pub(super) fn is_interrupted(&self) -> bool {
        self.is_interrupted.load(Relaxed)
    }

    /// For people.
    pub(super) fn phase(&self) -> &'static str {
        match self.phase.load(Relaxed) {
            BEFORE => "before",
            DURING => "during",
            _ => "after",
        }
    }
}

const BEFORE: u8 = 0;
const DURING: u8 = 1;
const AFTER: u8 = 2;
const CLOSED: u8 = 3;
