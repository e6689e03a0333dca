//! epochs is the table of epochs as the workers see it: shared, and changed while they run.
//!
//! The keeper changes it when a process ends or a retired epoch expires. A worker looks at one
//! number a turn and takes the new table only when that number is another.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use quiclane_wire::EpochTable;

/// The table that all workers share.
#[derive(Debug)]
pub(crate) struct Epochs {
    changes: AtomicU64,
    table: Mutex<Arc<EpochTable>>,
}

impl Epochs {
    pub(crate) fn new(table: EpochTable) -> Arc<Self> {
        Arc::new(Self { changes: AtomicU64::new(0), table: Mutex::new(Arc::new(table)) })
    }

    /// Replaces the table.
    pub(crate) fn set(&self, table: EpochTable) {
        *self.table.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// The table now.
    pub(crate) fn table(&self) -> Arc<EpochTable> {
        Arc::clone(&self.table.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What one reader goes by.
    pub(crate) fn view(self: &Arc<Self>) -> View {
        // In this order: a change in between is seen again.
        let seen = self.changes.load(Ordering::Acquire);
        View { epochs: Arc::clone(self), seen, table: self.table() }
    }
}

/// A reader's copy of the table.
#[derive(Debug)]
pub(crate) struct View {
    epochs: Arc<Epochs>,
    seen: u64,
    table: Arc<EpochTable>,
}

impl View {
    /// Takes a table that was changed since.
    #[inline]
    pub(crate) fn renew(&mut self) {
        if self.epochs.changes.load(Ordering::Acquire) != self.seen {
            *self = self.epochs.view();
        }
    }

    /// The table as of the last [`View::renew`].
    #[inline]
    pub(crate) fn table(&self) -> &EpochTable {
        &self.table
    }
}

#[cfg(test)]
mod tests {
    use quiclane_wire::{EpochEntry, EpochState, Key};

    use super::*;

    #[test]
    fn a_view_changes_when_it_is_renewed() {
        let epochs = Epochs::new(EpochTable::unknown());
        let mut view = epochs.view();
        let mut table = EpochTable::unknown();
        let [check_key, reset_root] = [1, 2].map(|byte| Key::from_bytes([byte; 16]));
        let state = EpochState::Retired;
        table.set(7, EpochEntry { state, check_key, reset_root, workers: 4 });
        epochs.set(table);
        assert_eq!(view.table().get(7).state, EpochState::Unknown);
        view.renew();
        assert_eq!(view.table().get(7).state, EpochState::Retired);
        assert_eq!(epochs.view().table().get(7).state, EpochState::Retired);
    }
}
