//! upkeep counts what was done to connections while they lived.

use crate::tally::Classes;

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
