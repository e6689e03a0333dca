//! faults says what goes wrong on a simulated network, and how often.

use std::time::Duration;

use super::random::Random;

/// What goes wrong, each with a probability in parts per thousand.
#[derive(Clone, Debug)]
pub struct Faults {
    /// One-way delay of every datagram.
    pub delay: Duration,
    /// Up to this much more, at random for each datagram: reorders.
    pub jitter: Duration,
    /// Lost.
    pub loss: u64,
    /// Arrives twice.
    pub duplicate: u64,
    /// Overtaken: delayed by ten times `delay`.
    pub late: u64,
    /// One bit flipped.
    pub corrupt: u64,
    /// Carried with the mark "congestion experienced" if it was ECN-capable.
    pub congested: u64,
    /// Seen by somebody who sends a copy from an address of their own, ahead of the original.
    pub spoof: u64,
    /// Refused by the sending kernel (ENOBUFS).
    pub send_error: u64,
    /// Datagrams that a socket holds; more are dropped.
    pub socket_datagrams: usize,
    /// UDP payload bytes that pass; more are dropped.
    pub mtu: usize,
    /// Time between moves of every client to a new address; zero: never.
    pub rebind_every: Duration,
}

impl Default for Faults {
    /// A perfect network with 1 ms of delay.
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(1),
            jitter: Duration::ZERO,
            loss: 0,
            duplicate: 0,
            late: 0,
            corrupt: 0,
            congested: 0,
            spoof: 0,
            send_error: 0,
            socket_datagrams: 2_900,
            mtu: 1_472,
            rebind_every: Duration::ZERO,
        }
    }
}

impl Faults {
    /// Some of everything, decided by `seed`.
    #[must_use]
    pub fn from_seed(seed: u64) -> Self {
        let mut random = Random::new(seed, "faults");
        let mut often = |most: u64| if random.below(3) == 0 { 0 } else { random.below(most + 1) };
        let (loss, duplicate, late, corrupt) = (often(80), often(50), often(50), often(30));
        let (congested, send_error, spoof) = (often(20), often(20), often(20));
        let mut random = Random::new(seed, "shape");
        Self {
            delay: Duration::from_micros(50 + random.below(20_000)),
            jitter: Duration::from_micros(random.below(5_000)),
            loss,
            duplicate,
            late,
            corrupt,
            congested,
            spoof,
            send_error,
            socket_datagrams: 32 + usize::try_from(random.below(512)).unwrap_or(0),
            mtu: 1_200 + usize::try_from(random.below(300)).unwrap_or(0),
            rebind_every: Duration::from_millis(if random.below(2) == 0 {
                0
            } else {
                500 + random.below(1_500)
            }),
        }
    }
}

/// How the kernel of a simulated server chooses among the sockets of an address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Delivery {
    /// Short headers by the worker byte, long headers by a hash of the addresses: the cBPF rung.
    WorkerByte,
    /// By a hash of the addresses: the hash rung.
    Hash,
    /// Each datagram at random: worse than any kernel.
    Anywhere,
}
