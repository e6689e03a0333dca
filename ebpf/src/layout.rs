//! layout is the shape of every map value: what user space writes and the programs read.
//!
//! Both sides compile this file. Every type is `repr(C)` without padding, so that no byte of it is
//! undefined, and converts from and to the types of `wire`. None of them shows a key in `Debug`.

use quiclane_wire::{EpochEntry, EpochState, Key, Layout, ServerId};

use crate::Budget;

/// A key.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct KeyValue {
    k0: u64,
    k1: u64,
}

impl KeyValue {
    /// The key as the hash functions take it.
    #[inline]
    pub const fn key(self) -> Key {
        Key { k0: self.k0, k1: self.k1 }
    }
}

impl From<Key> for KeyValue {
    fn from(key: Key) -> Self {
        let Key { k0, k1 } = key;
        Self { k0, k1 }
    }
}

/// Everything that does not depend on the epoch of a packet. One entry.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SettingsValue {
    /// Spreads client-chosen connection IDs over the workers.
    pub spread_key: KeyValue,
    /// First flights of one source prefix.
    pub prefix_budget: Budget,
    /// First flights of all sources.
    pub initial_budget: Budget,
    /// Initials with a connection ID of ours, of all sources.
    pub proven_budget: Budget,
    /// Answers to one source prefix.
    pub answer_prefix_budget: Budget,
    /// Answers to all sources.
    pub answer_budget: Budget,
    /// The bits of the upper half of an IPv6 source address that make a prefix.
    pub prefix_mask_v6: u64,
    /// The bits of an IPv4 source address that make a prefix.
    pub prefix_mask_v4: u32,
    /// The epoch whose workers take new connections.
    pub live_epoch: u8,
    /// How many workers that epoch has.
    pub workers: u8,
    /// 1: frames are moved to the core of their worker. 0: they stay where they are.
    pub redirect: u8,
    /// The first byte of the server's connection IDs, which says how long the server ID is.
    pub first_byte: u8,
    /// The server ID, zero behind its end.
    pub server_id: [u8; ServerId::LEN_MAX],
    /// 1: orphans are answered. 0: they pass.
    pub answers: u64,
}

impl SettingsValue {
    /// Before user space has said anything: no workers.
    pub const ZERO: Self = Self {
        spread_key: KeyValue { k0: 0, k1: 0 },
        prefix_budget: Budget::UNLIMITED,
        initial_budget: Budget::UNLIMITED,
        proven_budget: Budget::UNLIMITED,
        answer_prefix_budget: Budget::UNLIMITED,
        answer_budget: Budget::UNLIMITED,
        prefix_mask_v6: 0,
        prefix_mask_v4: 0,
        live_epoch: 0,
        workers: 0,
        redirect: 0,
        first_byte: 0,
        server_id: [0; ServerId::LEN_MAX],
        answers: 0,
    };

    /// The layout of the server's connection IDs.
    #[inline]
    pub fn layout(&self) -> Layout {
        Layout::from_parts(self.first_byte, self.server_id)
    }
}

/// All that is known of one epoch. 256 entries, by epoch byte.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub struct EpochValue {
    /// An [`EpochState`] by number.
    state: u8,
    workers: u8,
    zero: [u8; 6],
    check_key: KeyValue,
    reset_root: KeyValue,
}

impl EpochValue {
    /// Nobody's.
    pub const UNKNOWN: Self = Self {
        state: EpochState::Unknown as u8,
        workers: 0,
        zero: [0; 6],
        check_key: KeyValue { k0: 0, k1: 0 },
        reset_root: KeyValue { k0: 0, k1: 0 },
    };

    /// The entry as [`quiclane_wire::classify`] takes it.
    #[inline]
    pub const fn entry(&self) -> EpochEntry {
        let Self { state, workers, zero: _, check_key, reset_root } = *self;
        EpochEntry {
            state: EpochState::from_u8(state),
            workers,
            check_key: check_key.key(),
            reset_root: reset_root.key(),
        }
    }
}

impl From<EpochEntry> for EpochValue {
    fn from(entry: EpochEntry) -> Self {
        let EpochEntry { state, workers, check_key, reset_root } = entry;
        let (check_key, reset_root) = (check_key.into(), reset_root.into());
        Self { state: state as u8, workers, zero: [0; 6], check_key, reset_root }
    }
}

/// Which of 64 ports the server listens on, the lowest port in the lowest bit. [`PORT_WORDS`]
/// entries, by port / 64.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct PortWord {
    /// At every IPv4 address.
    pub any_v4: u64,
    /// At every IPv6 address.
    pub any_v6: u64,
    /// At the addresses of the table of listeners.
    pub some: u64,
}

impl PortWord {
    /// No port of the server.
    pub const UNUSED: Self = Self { any_v4: 0, any_v6: 0, some: 0 };

    /// At any address at all.
    #[inline]
    pub const fn used(&self) -> u64 {
        self.any_v4 | self.any_v6 | self.some
    }
}

/// How many [`PortWord`]s hold all ports.
pub const PORT_WORDS: usize = 65_536 / 64;

/// An address and port that the server listens on. IPv4 addresses are mapped (RFC 4291 section
/// 2.5.5.2), so that the two wildcard addresses differ.
///
/// Words and not bytes, so that it is made and compared in registers.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(C)]
pub struct ListenerKey {
    /// The first eight bytes of the address, little endian.
    high: u64,
    /// The last eight.
    low: u64,
    port: u64,
}

impl ListenerKey {
    /// Where nobody listens: port 0.
    pub const NONE: Self = Self { high: 0, low: 0, port: 0 };

    /// Whether it is [`ListenerKey::NONE`].
    #[inline]
    pub const fn is_none(&self) -> bool {
        self.port == 0
    }

    /// The listener of an address of either kind.
    #[cfg(not(target_arch = "bpf"))]
    pub fn of(at: std::net::SocketAddr) -> Self {
        match at.ip() {
            std::net::IpAddr::V4(address) => Self::v4(address.octets(), at.port()),
            std::net::IpAddr::V6(address) => Self::v6(address.octets(), at.port()),
        }
    }

    /// The listener of an IPv4 address.
    #[inline]
    pub const fn v4(address: [u8; 4], port: u16) -> Self {
        let low = (u32::from_le_bytes(address) as u64) << 32 | 0xffff_0000;
        Self { high: 0, low, port: port as u64 }
    }

    /// The listener of an IPv6 address.
    #[inline]
    pub const fn v6(address: [u8; 16], port: u16) -> Self {
        let [a, b, c, d, e, f, g, h, address @ ..] = address;
        let high = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Self { high, low: u64::from_le_bytes(address), port: port as u64 }
    }
}

/// How many listeners XDP compares before it looks into the map of all. Comparing that many costs
/// about as much as hashing one.
pub const ADDRESSES_COMPARED: usize = 8;

/// Where the socket of a worker is in the array of sockets.
#[inline]
pub const fn socket_key(listener: u32, epoch: u8, worker: u8) -> u32 {
    listener * SOCKETS_OF_LISTENER + (epoch as u32) * 256 + worker as u32
}

/// How many sockets a listener has room for: every worker of every epoch byte.
pub const SOCKETS_OF_LISTENER: u32 = 256 * 256;

/// The bucket of all first flights.
pub const INITIAL_BUCKET: u32 = 0;
/// The bucket of all Initials with a connection ID of ours.
pub const PROVEN_BUCKET: u32 = 1;
/// The bucket of all answers.
pub const ANSWER_BUCKET: u32 = 2;
/// How many buckets all sources share.
pub const SHARED_BUCKETS: u32 = 3;

/// The core of a worker whose frames are not moved.
pub const NO_CPU: u32 = u32::MAX;

const _: () = assert!(size_of::<SettingsValue>() == 16 + 5 * 16 + 8 + 4 + 4 + 8 + 8);
const _: () = assert!(size_of::<EpochValue>() == 8 + 2 * 16);
const _: () = assert!(size_of::<PortWord>() == 3 * 8);
const _: () = assert!(size_of::<ListenerKey>() == 3 * 8);

/// The types that user space copies byte by byte.
#[cfg(not(target_arch = "bpf"))]
mod pod {
    use super::{EpochValue, ListenerKey, PortWord, SettingsValue};

    // SAFETY: repr(C), integers only, no padding: the sizes are asserted above.
    unsafe impl aya::Pod for SettingsValue {}
    // SAFETY: as above.
    unsafe impl aya::Pod for EpochValue {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PortWord {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ListenerKey {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_survive_their_value() {
        for state in [EpochState::Unknown, EpochState::Live, EpochState::Retired] {
            let [check_key, reset_root] = [1, 2].map(|byte| Key::from_bytes([byte; 16]));
            let entry = EpochEntry { state, workers: 9, check_key, reset_root };
            let read = EpochValue::from(entry).entry();
            assert_eq!((read.state, read.workers), (state, 9));
            assert_eq!((read.check_key.k0, read.check_key.k1), (check_key.k0, check_key.k1));
            assert_eq!((read.reset_root.k0, read.reset_root.k1), (reset_root.k0, reset_root.k1));
        }
    }

    #[test]
    fn the_wildcards_differ() {
        assert_ne!(ListenerKey::v4([0; 4], 443), ListenerKey::v6([0; 16], 443));
        let mapped = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        assert_eq!(ListenerKey::v4([192, 0, 2, 1], 7), ListenerKey::v6(mapped.octets(), 7));
    }

    #[test]
    fn every_socket_has_its_place() {
        assert_eq!(socket_key(0, 0, 0), 0);
        assert_eq!(socket_key(0, 255, 255) + 1, socket_key(1, 0, 0));
        assert_eq!(socket_key(2, 7, 3), 2 * SOCKETS_OF_LISTENER + 7 * 256 + 3);
    }
}
