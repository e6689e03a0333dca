//! quic counts what QUIC itself went through: packets, losses, round trips, and limits of streams.

use std::time::{Duration, Instant};

use quiclane::ConnectionStats;

/// What connections counted, each when it ended or when the run did.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct QuicCounts {
    /// Connections that heard from their server.
    pub(crate) connections: u64,
    pub(crate) sent_packets: u64,
    pub(crate) lost_packets: u64,
    pub(crate) congestion_events: u64,
    /// The sum of their last congestion windows.
    pub(crate) windows: u64,
    pub(crate) sent_datagrams: u64,
    /// Sends that carried them.
    pub(crate) sends: u64,
}

impl QuicCounts {
    /// Adds a connection; false for one that never heard from its server, of which nothing is
    /// known.
    pub(crate) fn note(&mut self, stats: &ConnectionStats) -> bool {
        if stats.udp_rx.datagrams == 0 {
            return false;
        }
        self.merge(&Self {
            connections: 1,
            sent_packets: stats.path.sent_packets,
            lost_packets: stats.path.lost_packets,
            congestion_events: stats.path.congestion_events,
            windows: stats.path.cwnd,
            sent_datagrams: stats.udp_tx.datagrams,
            sends: stats.udp_tx.ios,
        });
        true
    }

    /// Adds other connections.
    pub(crate) fn merge(&mut self, other: &Self) {
        let Self { connections, sent_packets, lost_packets, congestion_events, .. } = *other;
        self.connections += connections;
        self.sent_packets += sent_packets;
        self.lost_packets += lost_packets;
        self.congestion_events += congestion_events;
        // A window may be as good as none.
        self.windows = self.windows.saturating_add(other.windows);
        self.sent_datagrams += other.sent_datagrams;
        self.sends += other.sends;
    }
}

/// What the servers' limits of streams held up.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct StreamLimits {
    /// The most requests in flight on a connection that found no room for another one.
    pub(crate) limit: u64,
    /// Connections that found none at least once.
    pub(crate) connections: u64,
    /// For how long, all of them together.
    pub(crate) waited: Duration,
}

impl StreamLimits {
    /// Adds another worker's.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.limit = self.limit.max(other.limit);
        self.connections += other.connections;
        self.waited += other.waited;
    }
}

/// One connection's part in [`StreamLimits`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Held {
    /// Since when a request waits for a stream.
    since: Option<Instant>,
    /// Whether one ever did.
    ever: bool,
}

impl Held {
    /// With so many requests in flight there was no stream for another one.
    pub(crate) fn begin(&mut self, now: Instant, in_flight: u64, limits: &mut StreamLimits) {
        limits.limit = limits.limit.max(in_flight);
        limits.connections += u64::from(!std::mem::replace(&mut self.ever, true));
        self.since.get_or_insert(now);
    }

    /// There was a stream, or nobody wants one any more.
    pub(crate) fn end(&mut self, now: Instant, limits: &mut StreamLimits) {
        if let Some(since) = self.since.take() {
            limits.waited += now.saturating_duration_since(since);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_that_are_held_up_count_once_and_their_time_adds_up() {
        let start = quiclane::clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (mut limits, mut held) = (StreamLimits::default(), Held::default());
        held.end(at(0), &mut limits);
        held.begin(at(10), 7, &mut limits);
        held.begin(at(20), 8, &mut limits);
        held.end(at(40), &mut limits);
        held.end(at(90), &mut limits);
        held.begin(at(100), 5, &mut limits);
        held.end(at(101), &mut limits);
        Held::default().begin(at(0), 3, &mut limits);
        let waited = Duration::from_millis(31);
        assert_eq!(limits, StreamLimits { limit: 8, connections: 2, waited });
    }

    #[test]
    fn who_heard_nothing_is_not_counted() {
        let (mut counts, mut stats) = (QuicCounts::default(), ConnectionStats::default());
        stats.path.sent_packets = 5;
        assert!(!counts.note(&stats));
        stats.udp_rx.datagrams = 1;
        stats.path.cwnd = u64::MAX;
        assert!(counts.note(&stats) && counts.note(&stats));
        assert_eq!((counts.connections, counts.sent_packets), (2, 10));
        assert_eq!(counts.windows, u64::MAX);
    }
}
