//! upkeep counts what was done to connections while they lived.

use crate::tally::Classes;

/// Datagrams of the measured part; the report names them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DatagramCounts {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) dropped: u64,
}

impl DatagramCounts {
    /// Adds another worker's.
    pub(crate) fn merge(&mut self, other: Self) {
        let Self { sent, received, lost, dropped } = other;
        self.sent += sent;
        self.received += received;
        self.lost += lost;
        self.dropped += dropped;
    }
}

/// What was done, in the whole run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Upkeep {
    /// Connections moved to another socket.
    pub(crate) migrations: u64,
    /// Key updates that were asked for.
    pub(crate) key_updates: u64,
    /// What could not be done; the connections went on as they were.
    pub(crate) errors: Classes,
}

impl Upkeep {
    /// Adds another worker's counts.
    pub(crate) fn merge(&mut self, other: &Self) {
        let Self { migrations, key_updates, errors } = other;
        self.migrations += migrations;
        self.key_updates += key_updates;
        self.errors.merge(errors);
    }
}
