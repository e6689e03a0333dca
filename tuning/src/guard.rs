//! guard is the process that puts everything back when whoever tuned the host cannot.
//!
//! ```text
//! the runner holds the lock ── dies in the middle ─► revert
//!            └── has applied ─► no deadline: the guard's work is done
//!                            └► deadline ─► revert, unless somebody did meanwhile
//! ```
//!
//! The lock is a flock: SIGKILL frees it, and nothing else does while its owner lives. A guard that
//! is killed itself leaves the journal, from which `revert` restores by hand.

use std::fs::File;
use std::time::{Duration, Instant};

use crate::journal::{Begin, Folder, JournalError, Log};
use crate::lab::{Lab, TuneError, Undone};

/// A watch over one run of `apply`.
pub struct Guard {
    folder: Folder,
    /// The run that is watched; another one has a guard of its own.
    begin: Begin,
    keep: Option<Duration>,
    /// When everything had been applied.
    since: Option<Instant>,
    /// Tells others that somebody watches.
    _presence: File,
}

/// What a look of the guard led to.
#[derive(Debug)]
pub enum Watch {
    /// Look again after this time.
    Wait(Duration),
    /// There is nothing to watch any more.
    Over,
    /// Everything was put back, or what could be.
    Reverted(Undone),
}

impl Guard {
    /// Watches the journal in `folder`; `None`: there is none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn open(folder: &Folder) -> Result<Option<Self>, JournalError> {
        let Some(log) = folder.read()? else { return Ok(None) };
        let presence = folder.guard()?;
        let keep = log.begin.for_s.map(Duration::from_secs);
        let (folder, begin) = (folder.clone(), log.begin);
        Ok(Some(Self { folder, begin, keep, since: None, _presence: presence }))
    }

    /// Looks whether it is time to do something.
    ///
    /// # Errors
    /// When the journal cannot be read or written, or this host not be looked at.
    pub fn look(&mut self, now: Instant) -> Result<Watch, TuneError> {
        // Another run that is at work would otherwise keep this guard until it ends.
        if !self.folder.read()?.is_some_and(|log| self.watches(&log)) {
            return Ok(Watch::Over);
        }
        let held = match self.folder.hold("the guard", Duration::ZERO) {
            Err(JournalError::Busy { .. }) => return Ok(Watch::Wait(WHILE_APPLYING)),
            held => held?,
        };
        let ours = held.folder().read()?.filter(|log| self.watches(log));
        let Some(log) = ours else { return Ok(Watch::Over) };
        if log.applied {
            let Some(keep) = self.keep else { return Ok(Watch::Over) };
            let since = *self.since.get_or_insert(now);
            let left = keep.saturating_sub(now.saturating_duration_since(since));
            if !left.is_zero() {
                return Ok(Watch::Wait(left.min(WHILE_APPLIED)));
            }
        }
        Ok(Watch::Reverted(Lab::open(&[])?.undo(held, false)?))
    }

    /// Whether a journal is of the run that is watched.
    fn watches(&self, log: &Log) -> bool {
        log.begin == self.begin && !log.closed
    }
}

/// How long a dead runner may go unnoticed.
const WHILE_APPLYING: Duration = Duration::from_millis(50);

/// How long a guard may stay after somebody else has reverted.
const WHILE_APPLIED: Duration = Duration::from_millis(500);
