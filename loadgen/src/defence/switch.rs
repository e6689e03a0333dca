//! switch tells the threads of a test what part of it is under way.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use quiclane::clock;

/// What part of a test is under way; only ever moves on.
#[derive(Debug, Default)]
pub(super) struct Switch {
    /// When the abuse is over; `None`: it has not begun.
    end: OnceLock<Instant>,
    is_after: AtomicBool,
    is_closed: AtomicBool,
    is_interrupted: AtomicBool,
}

impl Switch {
    /// The abuse begins, and is over after `length`, whoever still waits for something then.
    pub(super) fn begin(&self, length: Duration) {
        let _ = self.end.set(clock::now() + length);
    }

    /// The part after the abuse begins.
    pub(super) fn follow(&self) {
        self.is_after.store(true, Relaxed);
    }

    /// Nothing is counted any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Relaxed);
    }

    /// When the abuse is over, at the latest; `None`: it has not begun.
    pub(super) fn end(&self) -> Option<Instant> {
        self.end.get().copied()
    }

    /// When the abuse was over, if it is.
    pub(super) fn over(&self, now: Instant) -> Option<Instant> {
        let end = self.end().filter(|end| *end <= now);
        end.or_else(|| (self.is_interrupted() || self.is_closed()).then_some(now))
    }

    /// Whether nothing is counted any more.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Relaxed)
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
        match self.end() {
            None => "before",
            Some(_) if self.is_after.load(Relaxed) => "after",
            Some(_) => "during",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abuse_is_over_by_the_clock_whoever_still_waits() {
        let (switch, length) = (Switch::default(), Duration::from_secs(60));
        let now = clock::now();
        assert_eq!((switch.phase(), switch.over(now)), ("before", None));
        switch.begin(length);
        let end = switch.end().unwrap();
        assert!(end >= now + length && end < now + 2 * length);
        assert_eq!((switch.phase(), switch.over(now)), ("during", None));
        // It ended when it should, however late somebody looks.
        assert_eq!(switch.over(end + length), Some(end));
        assert_eq!(switch.phase(), "during", "the probe still waits");
        switch.follow();
        assert_eq!(switch.phase(), "after");
    }

    #[test]
    fn nothing_comes_after_an_interruption() {
        let switch = Switch::default();
        switch.begin(Duration::from_secs(60));
        switch.interrupt();
        let now = clock::now();
        assert_eq!((switch.over(now), switch.phase()), (Some(now), "during"));
        switch.close();
        assert_eq!(switch.phase(), "during");
    }
}
