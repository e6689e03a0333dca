//! revert puts back what the journal remembers, last things first, and nothing that somebody else
//! has changed since. What another value needs stays until that one is back.
//!
//! ```text
//! for each entry, backwards:  restore (compare, write, compare) ─► settle (on the disk)
//! when none is left:          closed ─► the journal is set aside
//! ```

use serde::{Deserialize, Serialize};

use crate::form::Form;
use crate::journal::{Entry, Held, Journal, JournalError, Log, Record};
use crate::knobs::{Access, Care, Knob, Reach};
use crate::site::Site;
use crate::system::{Board, Refusal};
use crate::wish::needs;

/// What became of a value.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// It is as it was, byte by byte.
    Restored,
    /// It was already.
    Already,
    /// Somebody else set it to `now`: it was left alone.
    Foreign {
        /// What it is.
        now: String,
    },
    /// There is nothing left to restore.
    Gone {
        /// Why not.
        why: String,
    },
    /// The host has booted since: what was set went with the boot before.
    Rebooted,
    /// It could not be restored; another try may.
    Failed {
        /// Why not.
        why: String,
    },
    /// It is in another network namespace, which still lives.
    Elsewhere {
        /// The file of that namespace, for nsenter.
        path: String,
    },
    /// It was not restored, and the operator wants no more of it.
    GivenUp,
}

impl Outcome {
    /// Whether another try could do no better.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Failed { .. } | Self::Elsewhere { .. })
    }
}

/// Where reverting happens.
pub(crate) trait Place: Board {
    /// The number of this boot.
    fn boot(&self) -> String;
    /// The number of this network namespace.
    fn namespace(&self) -> u64;
    /// The file of the network namespace with this number, if it still lives.
    fn way_into(&self, namespace: u64) -> Option<String>;
    /// Where the knob of a journal's entry is now; `None`: it is gone. The error says why that
    /// cannot be told.
    fn find(&self, knob: &'static Knob, entry: &Entry) -> Result<Option<Site>, String>;
}

/// A journal that is being reverted.
pub(crate) struct Reverting<'a, P> {
    place: &'a P,
    journal: Journal,
    log: Log,
    give_up: bool,
    /// Sequence numbers of what was looked at, with what became of it.
    outcomes: Vec<(u32, Outcome)>,
    /// The first record that could not be written: values come first.
    trouble: Option<JournalError>,
    phase: Phase,
}

enum Phase {
    Restore,
    Settle,
    Close,
    Over,
}

/// What reverting left.
pub(crate) struct Reverted {
    pub(crate) log: Log,
    pub(crate) outcomes: Vec<(u32, Outcome)>,
    pub(crate) held: Held,
}

impl<'a, P: Place> Reverting<'a, P> {
    /// `give_up` ends it also with what could not be restored.
    pub(crate) fn new(
        place: &'a P,
        held: Held,
        log: Log,
        give_up: bool,
    ) -> Result<Self, JournalError> {
        let journal = held.resume(&log)?;
        let (outcomes, trouble, phase) = (Vec::new(), None, Phase::Restore);
        Ok(Self { place, journal, log, give_up, outcomes, trouble, phase })
    }

    /// Does all of it.
    pub(crate) fn run(mut self) -> Result<Reverted, JournalError> {
        while self.step()? {}
        let Self { journal, log, outcomes, .. } = self;
        let over = outcomes.iter().all(|(_, outcome)| outcome.is_final());
        let held = if over { journal.close()? } else { journal.leave() };
        Ok(Reverted { log, outcomes, held })
    }

    /// Does the next step; whether there is another one.
    pub(crate) fn step(&mut self) -> Result<bool, JournalError> {
        self.phase = match self.phase {
            Phase::Over => return Ok(false),
            Phase::Restore => match self.next().cloned() {
                Some(entry) => {
                    let outcome = match self.needed_by(&entry) {
                        Some(knob) => {
                            Outcome::Failed { why: format!("{knob} needs it until it is put back") }
                        }
                        None => self.restore(&entry),
                    };
                    let unhappy = !outcome.is_final() && self.give_up;
                    let outcome = if unhappy { Outcome::GivenUp } else { outcome };
                    let settles = outcome.is_final();
                    let seq = entry.seq;
                    self.outcomes.push((seq, outcome));
                    if settles { Phase::Settle } else { Phase::Restore }
                }
                None if self.outcomes.iter().all(|(_, outcome)| outcome.is_final()) => Phase::Close,
                None => Phase::Over,
            },
            Phase::Settle => {
                if let Some((seq, outcome)) = self.outcomes.last() {
                    // A full disk keeps no value from being put back; the next revert sees it so.
                    let settled = Record::Settled { seq: *seq, outcome: outcome.clone() };
                    let written = self.journal.add(&settled);
                    self.trouble = self.trouble.take().or_else(|| written.err());
                }
                Phase::Restore
            }
            Phase::Close => {
                self.trouble.take().map_or(Ok(()), Err)?;
                self.journal.add(&Record::Closed { why: "reverted".into() })?;
                Phase::Over
            }
        };
        Ok(true)
    }

    /// The last entry that was not looked at yet.
    fn next(&self) -> Option<&Entry> {
        let before = self.outcomes.last().map_or(u32::MAX, |(seq, _)| *seq);
        self.log.entries.iter().rev().find(|entry| entry.seq < before && entry.is_open())
    }

    /// What could not be put back so far, and never could be without `entry`.
    fn needed_by(&self, entry: &Entry) -> Option<&str> {
        let failed = |(_, outcome): &&(u32, Outcome)| matches!(outcome, Outcome::Failed { .. });
        let stuck = self.outcomes.iter().filter(failed);
        let mut stuck = stuck.filter_map(|(seq, _)| self.log.entries.get(*seq as usize));
        let needy = stuck.find(|other| {
            needs(&other.knob) == Some(&entry.knob) && other.interface == entry.interface
        });
        needy.map(|other| other.knob.as_str())
    }

    /// The journal, to be damaged.
    #[cfg(test)]
    pub(crate) fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    fn restore(&self, entry: &Entry) -> Outcome {
        let Log { begin, .. } = &self.log;
        if begin.boot != self.place.boot() {
            return Outcome::Rebooted;
        }
        let Some(knob) = Knob::by_id(&entry.knob) else {
            let why = format!("this quiclane knows no knob {}", entry.knob.escape_debug());
            return Outcome::Failed { why };
        };
        let here = begin.namespace == self.place.namespace();
        let local = matches!(knob.reach, Reach::Netns | Reach::Interface);
        let found = match self.place.find(knob, entry) {
            Err(why) if here => return Outcome::Failed { why },
            found => found.ok().flatten().filter(|_| here || !local),
        };
        match found {
            Some(site) => restore(self.place, &site, entry),
            None if here => Outcome::Gone { why: "it is no longer on this host".into() },
            None => match self.place.way_into(begin.namespace) {
                Some(path) => Outcome::Elsewhere { path },
                None => Outcome::Gone { why: "its network namespace is no more".into() },
            },
        }
    }
}

/// Whether what is read may be neither what was there nor what was written: drivers round, and of
/// CPUs the kernel drops those that it does not have.
fn may_round(knob: &Knob, form: Form) -> bool {
    knob.care == Care::Rounded
        || matches!(knob.access, Access::Device(_))
        || matches!(form, Form::Mask | Form::Cpus)
}

/// What somebody set to read this: of a feature what was asked for, whether something keeps it
/// from being so or not.
fn asked(form: Form, read: &str) -> String {
    if form == Form::Switch { form.restore(read) } else { form.value(read) }
}

/// Compares, writes and compares.
fn restore(board: &impl Board, site: &Site, entry: &Entry) -> Outcome {
    let Some(form) = site.knob.access.form() else {
        return Outcome::Failed { why: "it is nothing that can be set".into() };
    };
    let now = match board.read(site) {
        Ok(now) => now,
        Err(Refusal::Absent) => return Outcome::Gone { why: "it is no longer there".into() },
        Err(refusal) => return Outcome::Failed { why: refusal.to_string() },
    };
    if now == entry.original {
        return Outcome::Already;
    }
    let is = asked(form, &now);
    let ours = match &entry.now {
        Some(written) => is == asked(form, written),
        // Nobody lived to read what the kernel made of it.
        None => is == entry.wanted || may_round(site.knob, form),
    };
    if !ours {
        return Outcome::Foreign { now: form.value(&now) };
    }
    if let Err(refusal) = board.write(site, &form.restore(&entry.original)) {
        return Outcome::Failed { why: refusal.to_string() };
    }
    match board.read(site) {
        Ok(now) if now == entry.original => Outcome::Restored,
        Ok(now) => {
            let (now, was) = (form.value(&now), form.value(&entry.original));
            Outcome::Failed { why: format!("the kernel made {now} of {was}") }
        }
        Err(refusal) => Outcome::Failed { why: refusal.to_string() },
    }
}
