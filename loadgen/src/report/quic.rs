//! quic is what QUIC went through under the load.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{LatencyReport, round};
use crate::tally::Tally;
use crate::text;

/// What connections counted, those of the warm-up and of handshakes that failed included.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[non_exhaustive]
pub struct QuicReport {
    /// Connections that heard from their server: those that the other numbers are of.
    pub connections: u64,
    /// Their smoothed round-trip times when they, or the run, ended.
    pub rtt_us: LatencyReport,
    /// Packets sent.
    pub sent_packets: u64,
    /// Those of them that were found to be lost.
    pub lost_packets: u64,
    /// How often a congestion controller took losses, or marks, for congestion.
    pub congestion_events: u64,
    /// The mean of their congestion windows when they, or the run, ended, in bytes.
    pub window_bytes: u64,
    /// Datagrams sent.
    pub sent_datagrams: u64,
    /// Sends that carried them.
    pub sends: u64,
    /// Datagrams a send (GSO), on average.
    pub datagrams_per_send: f64,
}

impl QuicReport {
    pub(super) fn new(tally: &Tally) -> Self {
        let counts = &tally.quic;
        Self {
            connections: counts.connections,
            rtt_us: LatencyReport::new(&tally.rtt),
            sent_packets: counts.sent_packets,
            lost_packets: counts.lost_packets,
            congestion_events: counts.congestion_events,
            window_bytes: mean(counts.windows.into(), counts.connections),
            sent_datagrams: counts.sent_datagrams,
            sends: counts.sends,
            datagrams_per_send: per_send(counts.sent_datagrams, counts.sends),
        }
    }

    /// Adds those of another generator; the round-trip times follow from their distributions.
    pub(crate) fn add(&mut self, other: &Self) {
        let Self {
            connections,
            rtt_us: _,
            sent_packets,
            lost_packets,
            congestion_events,
            window_bytes,
            sent_datagrams,
            sends,
            datagrams_per_send: _,
        } = *other;
        let windows = |mean: u64, count: u64| u128::from(mean) * u128::from(count);
        let sum = windows(self.window_bytes, self.connections) + windows(window_bytes, connections);
        self.connections += connections;
        self.window_bytes = mean(sum, self.connections);
        self.sent_packets += sent_packets;
        self.lost_packets += lost_packets;
        self.congestion_events += congestion_events;
        self.sent_datagrams += sent_datagrams;
        self.sends += sends;
        self.datagrams_per_send = per_send(self.sent_datagrams, self.sends);
    }
}

impl fmt::Display for QuicReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = self.lost_packets as f64 / self.sent_packets.max(1) as f64 * 100.0;
        write!(
            f,
            "{:>15} packets sent, {} lost ({share:.2} %)   {} congestion events   window {}   \
             {} datagrams a send",
            text::group(self.sent_packets),
            text::group(self.lost_packets),
            text::group(self.congestion_events),
            text::size(self.window_bytes),
            self.datagrams_per_send,
        )
    }
}

/// A mean window, less than what no report counts to: one may be as good as none.
fn mean(sum: u128, count: u64) -> u64 {
    let mean = sum.checked_div(count.into()).unwrap_or_default();
    u64::try_from(mean).unwrap_or(u64::MAX).min(WINDOW_MAX)
}

fn per_send(datagrams: u64, sends: u64) -> f64 {
    if sends == 0 { 0.0 } else { round(datagrams as f64 / sends as f64, 2) }
}

/// A petabyte: what is written has to be read again.
const WINDOW_MAX: u64 = 1 << 50;

/// What the servers' limits of streams held up, in the whole run.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StreamLimitReport {
    /// The most requests that were in flight on a connection when it had no stream for another.
    pub limit: u64,
    /// Connections that had none at least once.
    pub connections: u64,
    /// For how long requests could have been started there, all these connections together, in
    /// seconds.
    pub waited_s: f64,
}

impl StreamLimitReport {
    pub(super) fn new(tally: &Tally) -> Option<Self> {
        let limits = &tally.stream_limits;
        (limits.connections > 0).then(|| Self {
            limit: limits.limit,
            connections: limits.connections,
            waited_s: round(limits.waited.as_secs_f64(), 6),
        })
    }

    /// Adds those of another generator.
    pub(crate) fn add(&mut self, other: Self) {
        let Self { limit, connections, waited_s } = other;
        self.limit = self.limit.max(limit);
        self.connections += connections;
        self.waited_s = round(self.waited_s + waited_s, 6);
    }
}

impl fmt::Display for StreamLimitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, connections, waited_s } = *self;
        let who = text::plural(connections, "connection");
        write!(f, "peer's stream limit {limit} reached: {who} waited {waited_s:.1} s in all")
    }
}
