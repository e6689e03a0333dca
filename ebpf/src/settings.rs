//! settings is what a server tells the programs, as plain values.

use quiclane_wire::{Key, Layout};

use crate::{Budget, KeyValue, SettingsValue};

/// How much room the maps have. Fixed once the programs are loaded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Capacity {
    /// Listen addresses, at most [`Capacity::LISTENERS_MAX`]. Default 16. Each takes 512 KiB of
    /// kernel memory: a place for every worker of every epoch, so that an old and a new process
    /// never quarrel about one.
    pub listeners: u32,
    /// Addresses of the host, for each wildcard listen address, at most
    /// [`Capacity::ADDRESSES_MAX`]. Default 1,024.
    pub addresses: u32,
    /// Source prefixes whose first flights are counted, at most [`Capacity::PREFIXES_MAX`]. Default
    /// 65,536, of about 100 bytes each. The least recently seen one makes room: with fewer, a flood
    /// from many prefixes gives each of them a fresh budget sooner.
    pub prefixes: u32,
}

impl Capacity {
    /// More listeners than any server has; their sockets would fill 512 MiB.
    pub const LISTENERS_MAX: u32 = 1_024;
    /// A few megabytes of kernel memory.
    pub const ADDRESSES_MAX: u32 = 1 << 16;
    /// About 1.6 GiB of kernel memory.
    pub const PREFIXES_MAX: u32 = 1 << 24;
}

impl Default for Capacity {
    fn default() -> Self {
        Self { listeners: 16, addresses: 1_024, prefixes: 1 << 16 }
    }
}

/// How many first flights get through. What is over budget is dropped and counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Budgets {
    /// Datagrams from one source prefix whose client knows no connection ID of ours: Initials,
    /// 0-RTT, other versions. Default 20,000 a second, as many at once: a load generator or a large
    /// NAT behind one prefix; a handshake opens with one to three of them.
    pub prefix: Budget,
    /// The same from all sources together. Default 200,000 a second, as many at once: more than the
    /// workers of one host can answer.
    pub initial: Budget,
    /// Initials with a connection ID of ours: after a Retry or our first flight. Of its own, so
    /// that a flood of first Initials cannot starve clients that have proved their address.
    /// Default 200,000 a second, as many at once.
    pub proven: Budget,
    /// The leading bits of an IPv4 address that make a source prefix: 0 to 32. Default 24, the
    /// longest prefix that is routed on the Internet.
    pub prefix_bits_v4: u8,
    /// The leading bits of an IPv6 address that make a source prefix: 0 to 64. Default 56, what a
    /// household gets (RFC 6177); with 64 it has 256 budgets.
    pub prefix_bits_v6: u8,
}

impl Budgets {
    /// Everything gets through.
    pub const UNLIMITED: Self = Self {
        prefix: Budget::UNLIMITED,
        initial: Budget::UNLIMITED,
        proven: Budget::UNLIMITED,
        prefix_bits_v4: 24,
        prefix_bits_v6: 56,
    };
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            prefix: Budget::new(20_000, 20_000),
            initial: Budget::new(200_000, 200_000),
            proven: Budget::new(200_000, 200_000),
            ..Self::UNLIMITED
        }
    }
}

/// What does not depend on the epoch of a packet.
///
/// Written in one piece but read while it is written: for an instant a packet may be judged by a
/// mixture. Change it before attaching, or when only the live epoch and its keys change, which
/// costs a few tossed datagrams at most.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The layout of the server's connection IDs.
    pub layout: Layout,
    /// Spreads client-chosen connection IDs over the workers.
    pub spread_key: Key,
    /// The epoch byte whose workers take new connections.
    pub live_epoch: u8,
    /// How many workers that epoch has.
    pub workers: u8,
    /// Whether XDP moves frames to the core of their worker, see [`crate::Steering::place_worker`].
    /// Otherwise they stay on the core that the device chose.
    pub move_to_cores: bool,
    /// How many first flights get through.
    pub budgets: Budgets,
    /// Whether packets of connections that no process owns any more are answered with a stateless
    /// reset, and how many. `None`: they pass, and the workers answer.
    pub answers: Option<Answers>,
}

/// How many stateless resets are sent. What is over budget is dropped and counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Answers {
    /// To one source prefix, see [`Budgets::prefix_bits_v4`].
    pub prefix: Budget,
    /// To all sources together.
    pub all: Budget,
}

impl From<&Settings> for SettingsValue {
    fn from(settings: &Settings) -> Self {
        let Settings { layout, spread_key, live_epoch, workers, move_to_cores, budgets, answers } =
            *settings;
        let none = Answers { prefix: Budget::UNLIMITED, all: Budget::UNLIMITED };
        let of_answers = answers.unwrap_or(none);
        let Budgets { prefix, initial, proven, prefix_bits_v4, prefix_bits_v6 } = budgets;
        let ones_v4 = u32::MAX.checked_shl(32_u32.saturating_sub(prefix_bits_v4.into()));
        let ones_v6 = u64::MAX.checked_shl(64_u32.saturating_sub(prefix_bits_v6.into()));
        Self {
            spread_key: KeyValue::from(spread_key),
            prefix_budget: prefix,
            initial_budget: initial,
            proven_budget: proven,
            answer_prefix_budget: of_answers.prefix,
            answer_budget: of_answers.all,
            prefix_mask_v6: ones_v6.unwrap_or(0),
            prefix_mask_v4: ones_v4.unwrap_or(0),
            live_epoch,
            workers,
            redirect: u8::from(move_to_cores),
            first_byte: layout.first_byte(),
            server_id: layout.server_id().padded(),
            answers: u64::from(answers.is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use quiclane_wire::ServerId;

    use super::*;

    #[test]
    fn settings_survive_their_value() {
        for len in 0..=8_usize {
            let layout = Layout::new(ServerId::new(&[9; 8][..len]).unwrap());
            let mut settings = Settings {
                layout,
                spread_key: Key { k0: 1, k1: 2 },
                live_epoch: 3,
                workers: 4,
                move_to_cores: true,
                budgets: Budgets::default(),
                answers: None,
            };
            let value = SettingsValue::from(&settings);
            assert_eq!(value.layout(), layout);
            assert_eq!((value.spread_key.key().k0, value.spread_key.key().k1), (1, 2));
            assert_eq!((value.live_epoch, value.workers, value.redirect), (3, 4, 1));
            assert_eq!((value.prefix_mask_v4, value.prefix_mask_v6), (!0 << 8, !0 << 8));
            settings.budgets.prefix_bits_v4 = 0;
            settings.budgets.prefix_bits_v6 = 64;
            let value = SettingsValue::from(&settings);
            assert_eq!((value.prefix_mask_v4, value.prefix_mask_v6), (0, !0));
        }
    }
}
