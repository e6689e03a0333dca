//! congestion wraps quinn-proto's controllers so that a close is never held back.
//!
//! quinn-proto counts a CONNECTION_CLOSE as data while unsent stream data is pending, and a closed
//! connection takes no acknowledgements any more: with a full congestion window the close would
//! never leave, and the peer would learn of it by timeout. RFC 9002 section 7 lets packets without
//! ack-eliciting frames go at any time, so the window is lifted for that one packet.

mod brutal;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn_proto::congestion::{
    BbrConfig, Controller, ControllerFactory, ControllerMetrics, CubicConfig, NewRenoConfig,
};
use quinn_proto::{Connection, ConnectionStats, RttEstimator};

use crate::config::Congestion;
use brutal::BrutalConfig;

/// Makes the controllers of all connections.
pub(crate) struct Factory(Congestion);

impl Factory {
    pub(crate) fn new(congestion: Congestion) -> Arc<Self> {
        Arc::new(Self(congestion))
    }
}

impl ControllerFactory for Factory {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let inner = match self.0 {
            Congestion::Cubic => Arc::new(CubicConfig::default()).build(now, current_mtu),
            Congestion::NewReno => Arc::new(NewRenoConfig::default()).build(now, current_mtu),
            Congestion::Bbr => Arc::new(BbrConfig::default()).build(now, current_mtu),
            Congestion::Brutal { bytes_per_s } => {
                Arc::new(BrutalConfig { bytes_per_s }).build(now, current_mtu)
            }
        };
        Box::new(Liftable { inner, lifted: Arc::default() })
    }
}

/// Lets what `connection` sends from now on pass the window: its close.
pub(crate) fn lift(connection: &Connection) {
    if let Some(liftable) = liftable(connection) {
        liftable.lifted.store(true, Ordering::Relaxed);
    }
}

/// What `connection` counted, with the window that it had before it was lifted.
pub(crate) fn last_stats(connection: &Connection) -> ConnectionStats {
    let mut stats = connection.stats();
    if stats.path.cwnd == LIFTED
        && let Some(liftable) = liftable(connection)
    {
        stats.path.cwnd = liftable.inner.window();
    }
    stats
}

/// A clone of its controller.
fn liftable(connection: &Connection) -> Option<Box<Liftable>> {
    connection.congestion_state().clone_box().into_any().downcast().ok()
}

/// A controller whose window can be lifted; clones share the switch.
struct Liftable {
    inner: Box<dyn Controller>,
    lifted: Arc<AtomicBool>,
}

impl Controller for Liftable {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.inner.on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.lifted.load(Ordering::Relaxed) { LIFTED } else { self.inner.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), lifted: Arc::clone(&self.lifted) })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// The window of a connection that is closed. Above 4 GiB quinn-proto does not pace either.
const LIFTED: u64 = u64::MAX / 2;
