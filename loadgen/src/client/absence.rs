//! absence measures how long connections were missing: from the loss of the first one to the moment
//! at which all are back.

use std::time::Instant;

use crate::tally::Span;

/// What is missing now, and what was.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Absence {
    missing: u64,
    since: Option<Instant>,
    longest: Option<Span>,
}

impl Absence {
    /// A connection that had been open was lost.
    pub(crate) fn went_missing(&mut self, now: Instant) {
        self.missing += 1;
        self.since.get_or_insert(now);
    }

    /// One that was missing is re-established.
    pub(crate) fn came_back(&mut self, now: Instant) {
        self.missing -= 1;
        if self.missing > 0 {
            return;
        }
        if let Some(from) = self.since.take() {
            let span = Span { from, to: now };
            self.longest = Some(self.longest.map_or(span, |longest| longest.longer(span)));
        }
    }

    /// Connections that were lost and are not back.
    pub(crate) fn missing(&self) -> u64 {
        self.missing
    }

    /// The longest time for which some were missing and after which all were back.
    pub(crate) fn longest(&self) -> Option<Span> {
        self.longest
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use quiclane::clock;

    use super::*;

    #[test]
    fn an_absence_lasts_from_the_first_loss_to_the_last_return() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut absence = Absence::default();
        absence.went_missing(at(10));
        absence.went_missing(at(20));
        absence.came_back(at(30));
        absence.went_missing(at(40));
        assert_eq!((absence.missing(), absence.longest()), (2, None));
        absence.came_back(at(50));
        absence.came_back(at(110));
        assert_eq!((absence.missing(), absence.longest()), (0, Some(span(at(10), at(110)))));
        absence.went_missing(at(200));
        absence.came_back(at(201));
        assert_eq!(absence.longest(), Some(span(at(10), at(110))), "a shorter one");
    }

    fn span(from: Instant, to: Instant) -> Span {
        Span { from, to }
    }
}
