//! apply writes what a plan says, one small step after the other.
//!
//! ```text
//! for each change:  intend (original on the disk) ─► write ─► confirm (read back, on the disk)
//! at the end:       applied
//! ```
//!
//! Every step does one thing that is seen outside, so that a test can end the process after each.

use serde::Serialize;

use crate::journal::{Journal, JournalError, Record};
use crate::plan::Change;
use crate::system::{Board, Refusal};

/// What became of a change.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// It is as wanted.
    Set,
    /// The kernel took it and made this of it.
    Adjusted(String),
    /// The kernel took note of it, and the value is what it was: something else keeps it so.
    Pending(String),
    /// The kernel did not take it; nothing has changed.
    Refused(String),
    /// Somebody set it to this since the plan was made: it was left alone.
    Changed(String),
    /// It was written, and then it could not be read: it may be set. The text says why, and what
    /// to do.
    Unknown(String),
}

impl Done {
    /// Whether the host is different now, or may be.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        matches!(self, Self::Set | Self::Adjusted(_) | Self::Pending(_) | Self::Unknown(_))
    }

    /// Whether it was read back, and is another value than before.
    pub(crate) const fn is_sure(&self) -> bool {
        matches!(self, Self::Set | Self::Adjusted(_))
    }

    fn unknown(written: Result<(), Refusal>, read: &Refusal) -> Self {
        let written = written.map_or_else(|why| format!("failed ({why})"), |()| "went well".into());
        Self::Unknown(format!(
            "writing it {written}, reading it back failed ({read}): it may be set; \
             `quiclane tune status` looks again, `quiclane tune revert` puts back what it was"
        ))
    }
}

/// How long it is to stay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Stay {
    /// Until somebody puts it back.
    Set,
    /// As long as who applies it: nothing in the journal says that it is complete.
    WhileAlive,
}

/// A plan that is being applied.
pub(crate) struct Applying<'a, B> {
    board: &'a B,
    journal: Journal,
    changes: &'a [Change],
    /// What became of those that were tried.
    done: Vec<Done>,
    /// How many entries the journal has.
    entries: u32,
    stay: Stay,
    phase: Phase,
}

enum Phase {
    Intend,
    Write { original: String },
    Confirm { original: String, written: Result<(), Refusal> },
    Over,
}

impl<'a, B: Board> Applying<'a, B> {
    pub(crate) fn new(board: &'a B, journal: Journal, changes: &'a [Change], stay: Stay) -> Self {
        let (done, entries, phase) = (Vec::new(), 0, Phase::Intend);
        Self { board, journal, changes, done, entries, stay, phase }
    }

    /// Does all of it.
    pub(crate) fn run(mut self) -> Result<(Vec<Done>, Journal), JournalError> {
        while self.step()? {}
        Ok((self.done, self.journal))
    }

    /// Does the next step; whether there is another one.
    pub(crate) fn step(&mut self) -> Result<bool, JournalError> {
        let phase = std::mem::replace(&mut self.phase, Phase::Over);
        let change = self.changes.get(self.done.len());
        self.phase = match (phase, change) {
            (Phase::Over, _) => return Ok(false),
            (_, None) if self.stay == Stay::WhileAlive => return Ok(false),
            (_, None) => {
                self.journal.add(&Record::Applied)?;
                Phase::Over
            }
            (Phase::Intend, Some(change)) => self.intend(change)?,
            (Phase::Write { original }, Some(change)) => {
                let written = self.board.write(&change.site, &change.to);
                Phase::Confirm { original, written }
            }
            (Phase::Confirm { original, written }, Some(change)) => {
                self.confirm(change, &original, written)?
            }
        };
        Ok(true)
    }

    fn intend(&mut self, change: &Change) -> Result<Phase, JournalError> {
        let original = match self.board.read(&change.site) {
            Ok(original) => original,
            Err(refusal) => return Ok(self.next(Done::Refused(refusal.to_string()))),
        };
        let value = change.form.value(&original);
        // A write before may have done it: CPUs share frequency policies, and one knob forces
        // another. What is put back then takes this one along.
        if value == change.to {
            return Ok(self.next(Done::Set));
        }
        if value != change.from {
            return Ok(self.next(Done::Changed(value)));
        }
        let (seq, wanted) = (self.entries, change.to.clone());
        self.journal.add(&Record::intent(seq, &change.site, original.clone(), wanted))?;
        Ok(Phase::Write { original })
    }

    fn confirm(
        &mut self,
        change: &Change,
        original: &str,
        written: Result<(), Refusal>,
    ) -> Result<Phase, JournalError> {
        let seq = self.entries;
        self.entries += 1;
        let form = change.form;
        let now = self.board.read(&change.site);
        let done = match (now, written) {
            (Ok(now), Ok(())) if now != original => {
                let value = form.value(&now);
                self.journal.add(&Record::Done { seq, now })?;
                match value {
                    value if value == change.to => Done::Set,
                    value if value == change.from => Done::Pending(value),
                    value => Done::Adjusted(value),
                }
            }
            (Ok(now), written) if now == original => {
                self.journal.add(&Record::Refused { seq })?;
                let kept = || "the kernel kept its value".to_owned();
                Done::Refused(written.err().map_or_else(kept, |refusal| refusal.to_string()))
            }
            (Ok(now), _) => {
                let value = form.value(&now);
                self.journal.add(&Record::Done { seq, now })?;
                Done::Adjusted(value)
            }
            // Neither done nor refused: the entry stays open, and revert looks again.
            (Err(refusal), written) => Done::unknown(written, &refusal),
        };
        Ok(self.next(done))
    }

    fn next(&mut self, done: Done) -> Phase {
        self.done.push(done);
        Phase::Intend
    }
}
