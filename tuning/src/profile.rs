//! profile says what each profile wants, and why: the one table of them.
//!
//! What is here is worth trying first; what it is worth on one's own host only a measurement says.
//! Nothing here waits for a boot, and nothing lowers a limit.

use serde::Serialize;

/// What is tuned for.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Bytes a second of few connections.
    Throughput,
    /// Time to the answer at moderate load.
    Latency,
    /// Work that is still done when more comes than can be done.
    Overload,
    /// What helps all of these and costs little.
    Balanced,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Throughput, Self::Latency, Self::Overload, Self::Balanced];

    /// As `--profile` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Overload => "overload",
            Self::Balanced => "balanced",
        }
    }

    /// Knob, aim and reason, in the order in which they are set.
    pub(crate) const fn lines(self) -> &'static [Line] {
        match self {
            Self::Throughput => THROUGHPUT,
            Self::Latency => LATENCY,
            Self::Overload => OVERLOAD,
            Self::Balanced => BALANCED,
        }
    }
}

/// What one knob is to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Aim {
    /// This value.
    Is(&'static str),
    /// This number or a larger one.
    AtLeast(u64),
    /// This number or a smaller one.
    AtMost(u64),
}

/// A knob, what it is to be, and the reason.
pub(crate) type Line = (&'static str, Aim, &'static str);

const BUFFER_BYTES: u64 = 16 << 20;

const RECV_BUFFER: Line = (
    "rmem_max",
    Aim::AtLeast(BUFFER_BYTES),
    "10 Gbit/s for 13 ms: --socket-buffer up to 16m is granted without CAP_NET_ADMIN",
);
const SEND_BUFFER: Line =
    ("wmem_max", Aim::AtLeast(BUFFER_BYTES), "trains of 64 KiB do not stall at the buffer");
const GRO: Line = ("gro", Aim::Is("on"), "without it nothing is merged for UDP_GRO");
const USO: Line =
    ("udp_segmentation", Aim::Is("on"), "a train crosses the stack once, the largest lever");
const STATS: Line = ("bpf_stats", Aim::Is("0"), "counting run time reads the clock twice a packet");
const GOVERNOR: Line =
    ("governor", Aim::Is("performance"), "no core is slow when a burst comes, and runs compare");
const ENERGY: Line =
    ("energy_preference", Aim::Is("performance"), "as the governor, where the processor decides");
const BALANCING: Line = (
    "numa_balancing",
    Aim::Is("0"),
    "pinned workers gain nothing from pages that are unmapped; others may",
);

const BALANCED: &[Line] = &[RECV_BUFFER, SEND_BUFFER, GRO, USO, STATS];

const THROUGHPUT: &[Line] = &[
    RECV_BUFFER,
    SEND_BUFFER,
    GRO,
    USO,
    ("adaptive_rx", Aim::Is("1"), "interrupts get rare as the rate grows"),
    ("netdev_budget", Aim::AtLeast(600), "fewer rounds end with packets still waiting"),
    ("netdev_max_backlog", Aim::AtLeast(4_096), "a burst fits the queue of virtual devices"),
    ("gro_flush_timeout", Aim::Is("20000"), "trains grow over 20 us instead of one poll"),
    ("defer_hard_irqs", Aim::Is("2"), "makes gro_flush_timeout act"),
    STATS,
    BALANCING,
    ENERGY,
    GOVERNOR,
];

const LATENCY: &[Line] = &[
    RECV_BUFFER,
    GRO,
    ("adaptive_rx", Aim::Is("0"), "interrupts wait for a time that is known"),
    ("rx_usecs", Aim::AtMost(8), "an interrupt waits 8 us at most"),
    ("defer_hard_irqs", Aim::Is("0"), "the first packet after a pause raises an interrupt"),
    ("gro_flush_timeout", Aim::Is("0"), "no train is held back"),
    (
        "busy_poll",
        Aim::AtLeast(50),
        "--io epoll polls the device for 50 us before it sleeps, and so does every other program",
    ),
    ("busy_read", Aim::AtLeast(50), "the same for a receive"),
    ("halt_poll_ns", Aim::AtLeast(200_000), "a guest CPU that waits 200 us needs no wake-up"),
    ("timer_migration", Aim::Is("0"), "no foreign timers on busy workers"),
    ("stat_interval", Aim::AtLeast(10), "one interruption in 10 s instead of each second"),
    ("nmi_watchdog", Aim::Is("0"), "no interruption by the lock-up detector"),
    (
        "same_page_merging",
        Aim::Is("0"),
        "no thread that walks through memory; what guests share is not shared any more",
    ),
    ("huge_pages_defrag", Aim::Is("never"), "no stall for compacting memory"),
    STATS,
    BALANCING,
    ENERGY,
    GOVERNOR,
];

const OVERLOAD: &[Line] = &[
    RECV_BUFFER,
    SEND_BUFFER,
    GRO,
    USO,
    ("netdev_max_backlog", Aim::AtLeast(4_096), "a burst fits the queue of virtual devices"),
    ("gro_flush_timeout", Aim::Is("50000"), "trains grow over 50 us instead of one poll"),
    ("defer_hard_irqs", Aim::Is("10"), "the timer polls, not an interrupt for each burst"),
    ("threaded_napi", Aim::Is("1"), "the scheduler shares the core between flood and worker"),
    STATS,
    BALANCING,
    ENERGY,
    GOVERNOR,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::knobs::{Access, Care, Knob};

    #[test]
    fn every_line_sets_what_can_be_set() {
        for profile in Profile::ALL {
            let mut ids = BTreeSet::new();
            for (id, aim, why) in profile.lines() {
                let knob = Knob::by_id(id).unwrap_or_else(|| panic!("{id}"));
                assert!(ids.insert(id), "{profile:?} {id} twice");
                assert!(!why.is_empty());
                let value = match aim {
                    Aim::Is(value) => (*value).to_owned(),
                    Aim::AtLeast(number) | Aim::AtMost(number) => number.to_string(),
                };
                let form = knob.access.form().unwrap_or_else(|| panic!("{id} cannot be set"));
                assert_eq!(form.check(&value), Ok(value), "{id}");
                assert!(!matches!(knob.access, Access::Boot(..)), "{id}");
            }
        }
    }

    #[test]
    fn what_the_governor_forces_is_set_before_it() {
        for profile in Profile::ALL {
            let at = |id| profile.lines().iter().position(|(line, ..)| *line == id);
            assert_eq!(at("governor").is_some(), at("energy_preference").is_some());
            assert!(at("governor") >= at("energy_preference"), "{profile:?}");
        }
    }

    #[test]
    fn limits_are_raised_and_links_stay_up() {
        for (id, aim, _) in Profile::ALL.into_iter().flat_map(Profile::lines) {
            let care = Knob::by_id(id).unwrap().care;
            assert!(care != Care::RaiseOnly || matches!(aim, Aim::AtLeast(_)), "{id} {aim:?}");
            assert_ne!(care, Care::LinkReset, "{id}: no profile takes a link down");
        }
    }
}
