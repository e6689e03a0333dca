//! brutal sends at a fixed rate whatever the network says: the controller that hysteria made known.
//!
//! The window is what the rate fills in a round trip, and more by what is lost on the way: of a
//! path that loses a fifth, five quarters are sent, so that the rate arrives. It is no citizen of
//! a shared network; it is for paths whose capacity is known, and to load a server with senders
//! that do not yield.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn_proto::RttEstimator;
use quinn_proto::congestion::{Controller, ControllerFactory};

/// Makes controllers for one rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct BrutalConfig {
    pub(super) bytes_per_s: u64,
}

impl ControllerFactory for BrutalConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Brutal::new(self.bytes_per_s, now, current_mtu))
    }
}

/// A window for one rate.
#[derive(Clone, Debug)]
struct Brutal {
    bytes_per_s: u64,
    mtu: u64,
    window: u64,
    /// Bytes acknowledged and lost in each of the last seconds.
    slots: [Slot; SLOTS],
    start: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    /// Which second this is.
    second: u64,
    acked: u64,
    lost: u64,
}

impl Brutal {
    fn new(bytes_per_s: u64, now: Instant, mtu: u16) -> Self {
        let slots = [Slot::default(); SLOTS];
        let mut brutal = Self { bytes_per_s, mtu: mtu.into(), window: 0, slots, start: now };
        brutal.window = brutal.window_at(now, RTT_INITIAL);
        brutal
    }

    /// The counts of the second of `now`.
    fn slot(&mut self, now: Instant) -> &mut Slot {
        let second = now.saturating_duration_since(self.start).as_secs();
        let slot = &mut self.slots[usize::try_from(second % SLOTS as u64).unwrap_or_default()];
        if slot.second != second {
            *slot = Slot { second, ..Slot::default() };
        }
        slot
    }

    /// The share of what was sent that arrived lately.
    fn arriving(&self, now: Instant) -> f64 {
        let second = now.saturating_duration_since(self.start).as_secs();
        let recent = self.slots.iter().filter(|slot| slot.second + SLOTS as u64 > second);
        let (acked, lost) =
            recent.fold((0, 0), |(acked, lost), slot| (acked + slot.acked, lost + slot.lost));
        let sent = acked + lost;
        if sent < SAMPLE_DATAGRAMS * self.mtu {
            return 1.0;
        }
        (acked as f64 / sent as f64).max(ARRIVING_MIN)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "positive, and the cast saturates"
    )]
    fn window_at(&self, now: Instant, rtt: Duration) -> u64 {
        let bytes = self.bytes_per_s as f64 * rtt.as_secs_f64() / self.arriving(now);
        (bytes as u64).clamp(WINDOW_DATAGRAMS_MIN * self.mtu, WINDOW_BYTES_MAX)
    }
}

impl Controller for Brutal {
    fn on_ack(
        &mut self,
        now: Instant,
        _sent: Instant,
        bytes: u64,
        _app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.slot(now).acked += bytes;
        self.window = self.window_at(now, rtt.get());
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        _sent: Instant,
        _is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.slot(now).lost += lost_bytes;
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.mtu = new_mtu.into();
    }

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

/// Seconds over which loss is measured, as hysteria does.
const SLOTS: usize = 5;

/// Fewer datagrams say nothing about the path.
const SAMPLE_DATAGRAMS: u64 = 50;

/// Of a path that loses more, no more is sent: it would be lost too.
const ARRIVING_MIN: f64 = 0.8;

/// Until the first acknowledgement; RFC 9002 section 6.2.2 has 333 ms for timers, which would be a
/// burst of a third of a second here.
const RTT_INITIAL: Duration = Duration::from_millis(100);

/// As RFC 9002 section 7.2 has it for a collapsed window.
const WINDOW_DATAGRAMS_MIN: u64 = 2;

/// Above 4 GiB quinn-proto does not pace.
const WINDOW_BYTES_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const MTU: u16 = 1_200;
    const RTT: Duration = Duration::from_millis(50);

    /// The window after seconds in each of which so much was acknowledged and lost.
    fn after(seconds: &[(u64, u64)]) -> u64 {
        let start = clock::now();
        let mut brutal = Brutal::new(10_000_000, start, MTU);
        let mut now = start;
        for (acked, lost) in seconds {
            brutal.slot(now).acked += acked;
            brutal.on_congestion_event(now, start, false, *lost);
            now += Duration::from_secs(1);
        }
        brutal.window_at(now - Duration::from_millis(1), RTT)
    }

    #[test]
    fn the_window_is_what_the_rate_fills_in_a_round_trip() {
        assert_eq!(after(&[]), 500_000);
        assert_eq!(after(&[(1_000_000, 0)]), 500_000);
        assert_eq!(Brutal::new(10_000_000, clock::now(), MTU).window(), 1_000_000);
    }

    #[test]
    fn what_is_lost_is_sent_in_addition_up_to_a_quarter() {
        assert_eq!(after(&[(900_000, 100_000)]), 555_555);
        assert_eq!(after(&[(100_000, 900_000)]), 625_000);
        // Too little to judge by.
        assert_eq!(after(&[(100, 900)]), 500_000);
    }

    #[test]
    fn loss_is_forgotten_after_five_seconds() {
        let lossy = (800_000, 200_000);
        assert_eq!(after(&[lossy, (0, 0), (0, 0), (0, 0), (0, 0)]), 625_000);
        assert_eq!(after(&[lossy, (0, 0), (0, 0), (0, 0), (0, 0), (0, 0)]), 500_000);
        assert_eq!(after(&[lossy, lossy, lossy, lossy, lossy, (1_000_000, 0)]), 595_238);
    }

    #[test]
    fn the_window_has_bounds() {
        let start = clock::now();
        assert_eq!(Brutal::new(1, start, MTU).window(), 2_400);
        assert_eq!(Brutal::new(u64::MAX, start, MTU).window(), WINDOW_BYTES_MAX);
    }
}
