//! epoch knows each start of the server by its low byte: the whole memory of route and kernel.
//!
//! 256 entries say for every epoch byte whether its process lives, drains or is gone, and hold
//! the keys that its connection IDs verify and are reset with. There is no table of connections.

use core::fmt;

use crate::Key;

/// What became of the process that started an epoch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum EpochState {
    /// Never started, or retired so long ago that nobody waits for an answer: its packets are
    /// junk and are never reset.
    #[default]
    Unknown = 0,
    /// It takes new connections.
    Live = 1,
    /// It takes no new connections and still owns its old ones.
    Draining = 2,
    /// It is gone: its packets are orphans, answered with a stateless reset.
    Retired = 3,
}

impl EpochState {
    /// The state with this number, as a kernel map stores it; `Unknown` for any other number.
    #[inline]
    pub const fn from_u8(state: u8) -> Self {
        match state {
            1 => Self::Live,
            2 => Self::Draining,
            3 => Self::Retired,
            _ => Self::Unknown,
        }
    }
}

/// All that is known of one epoch.
#[derive(Clone, Copy, Debug)]
pub struct EpochEntry {
    /// Whether its process lives, drains or is gone.
    pub state: EpochState,
    /// The key of the check bytes in its connection IDs.
    pub check_key: Key,
    /// The key from which the reset key of each of its workers comes, see [`crate::worker_key`].
    pub reset_root: Key,
    /// How many workers it has. Not consulted for a retired epoch, which routes nothing.
    pub workers: u8,
}

impl EpochEntry {
    /// The entry of an epoch that nobody knows.
    pub const UNKNOWN: Self = Self {
        state: EpochState::Unknown,
        check_key: Key { k0: 0, k1: 0 },
        reset_root: Key { k0: 0, k1: 0 },
        workers: 0,
    };
}

/// Where [`crate::classify`] looks an epoch up: a table here, a map in the kernel.
pub trait Epochs {
    /// The entry of the epoch with this low byte; `None` is the same as an unknown one.
    fn entry(&self, epoch: u8) -> Option<EpochEntry>;
}

impl<E: Epochs + ?Sized> Epochs for &E {
    #[inline]
    fn entry(&self, epoch: u8) -> Option<EpochEntry> {
        (**self).entry(epoch)
    }
}

/// The entries of all 256 epoch bytes.
#[derive(Clone)]
pub struct EpochTable([EpochEntry; 256]);

impl EpochTable {
    /// The table of a server that has not started yet: every epoch is unknown.
    pub const fn unknown() -> Self {
        Self([EpochEntry::UNKNOWN; 256])
    }

    /// Replaces the entry of an epoch.
    pub fn set(&mut self, epoch: u8, entry: EpochEntry) {
        self.0[usize::from(epoch)] = entry;
    }

    /// The entry of an epoch.
    #[inline]
    pub fn get(&self, epoch: u8) -> &EpochEntry {
        &self.0[usize::from(epoch)]
    }
}

impl Epochs for EpochTable {
    #[inline]
    fn entry(&self, epoch: u8) -> Option<EpochEntry> {
        Some(*self.get(epoch))
    }
}

impl Default for EpochTable {
    fn default() -> Self {
        Self::unknown()
    }
}

impl fmt::Debug for EpochTable {
    /// Lists the known epochs only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = (0..=u8::MAX)
            .map(|epoch| (epoch, self.get(epoch)))
            .filter(|(_, entry)| entry.state != EpochState::Unknown);
        f.debug_map().entries(known).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::format;

    use super::*;

    #[test]
    fn states_survive_their_number() {
        for state in 0..=u8::MAX {
            let read = EpochState::from_u8(state);
            assert_eq!(read as u8, if state < 4 { state } else { 0 });
        }
    }

    #[test]
    fn a_table_keeps_what_it_is_given() {
        let mut table = EpochTable::unknown();
        let entry = EpochEntry { state: EpochState::Live, workers: 7, ..EpochEntry::UNKNOWN };
        table.set(255, entry);
        for epoch in 0..=u8::MAX {
            let expected = if epoch == 255 { 7 } else { 0 };
            assert_eq!(table.get(epoch).workers, expected);
            assert_eq!(table.entry(epoch).map(|e| e.workers), Some(expected));
        }
    }

    #[test]
    fn debug_shows_known_epochs_and_no_key() {
        let mut table = EpochTable::unknown();
        let entry = EpochEntry {
            state: EpochState::Draining,
            check_key: Key { k0: 0x1234, k1: 0 },
            ..EpochEntry::UNKNOWN
        };
        table.set(9, entry);
        assert_eq!(
            format!("{table:?}"),
            "{9: EpochEntry { state: Draining, check_key: Key(..), reset_root: Key(..), \
             workers: 0 }}"
        );
    }
}
