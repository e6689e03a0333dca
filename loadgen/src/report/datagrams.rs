//! datagrams is what became of unreliable datagrams.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{LatencyReport, round};
use crate::tally::Tally;
use crate::text;
use crate::upkeep::DatagramCounts;

/// Datagrams of the measured part.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct DatagramReport {
    /// Those that were handed to QUIC.
    pub sent: u64,
    /// Those of them that came back.
    pub received: u64,
    /// Those of them that did not, within two seconds: `sent` - `received`.
    pub lost: u64,
    /// `lost` / `sent`.
    pub loss: f64,
    /// Those that were due and found the send buffer of their connection full.
    pub dropped: u64,
    /// From when they were sent until they were back.
    pub delay_us: LatencyReport,
}

impl DatagramReport {
    pub(super) fn new(tally: &Tally) -> Self {
        let DatagramCounts { sent, received, lost, dropped } = tally.datagrams;
        let delay_us = LatencyReport::new(&tally.service);
        Self { sent, received, lost, loss: share(lost, sent), dropped, delay_us }
    }

    /// Adds those of another generator; [`complete`](Self::complete) does the rest.
    pub(crate) fn add(&mut self, other: Self) {
        let Self { sent, received, lost, loss: _, dropped, delay_us: _ } = other;
        self.sent += sent;
        self.received += received;
        self.lost += lost;
        self.dropped += dropped;
    }

    /// Computes again what follows from sums.
    pub(crate) fn complete(&mut self, delay_us: LatencyReport) {
        self.loss = share(self.lost, self.sent);
        self.delay_us = delay_us;
    }
}

fn share(lost: u64, sent: u64) -> f64 {
    round(lost as f64 / sent.max(1) as f64, 6)
}

impl fmt::Display for DatagramReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [sent, received, lost, dropped] =
            [self.sent, self.received, self.lost, self.dropped].map(text::group);
        let share = self.loss * 100.0;
        write!(f, "{sent:>15} sent  {received:>13} back   {lost} lost ({share:.2} %)")?;
        if self.dropped > 0 { write!(f, ", {dropped} found no room here") } else { Ok(()) }
    }
}
