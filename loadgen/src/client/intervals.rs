//! intervals closes the intervals of the measured part when they are over.

use std::time::Instant;

use super::Client;
use crate::feed::Part;
use crate::series::{Interval, Series, Totals};

impl Client {
    /// Closes the intervals that are over at `now`. Called before anything that happens at `now` is
    /// counted, so that it is counted where it belongs.
    #[inline]
    pub(super) fn keep_series(&mut self, now: Instant) {
        while let Some(end) = self.series.is_over(now) {
            let totals = self.totals(end);
            self.series.close(totals);
            self.tell(|series| series.last_closed(), false);
        }
    }

    /// Tells who looks on of an interval.
    pub(super) fn tell(&self, interval: impl FnOnce(&Series) -> Option<Interval>, is_over: bool) {
        if let Some(feed) = &self.job.feed {
            let part = Part { worker: self.worker, interval: interval(&self.series), is_over };
            // The receiver is gone only when nobody wants to know.
            let _ = feed.send(part);
        }
    }

    /// What has been counted, and was due before `end`.
    pub(super) fn totals(&mut self, end: Instant) -> Totals {
        let makes_requests = self.exchange.is_some();
        let tally = &self.tally;
        let units = if makes_requests { tally.requests } else { tally.handshakes };
        let (ok, failed) = match self.datagrams {
            Some(_) => (tally.datagrams.received, 0),
            None => (units.ok, units.failed),
        };
        let due = self.pacer.as_mut().map_or(0, |pacer| pacer.count_due(end));
        Totals {
            ok,
            failed,
            bytes_down: tally.bytes_down,
            bytes_up: tally.bytes_up,
            // A run by number ends before its schedule does.
            due: self.quota.map_or(due, |quota| due.min(quota)),
            sent: tally.sent,
        }
    }
}
