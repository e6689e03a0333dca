//! change is what a lab does to its host: apply, try out, revert.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::{Lab, TuneError};
use crate::apply::{Applying, Done, Stay};
use crate::finding::{Finding, SCHEMA};
use crate::journal::{Begin, Entry, Folder, Held, Journal, JournalError, Log, Record, VERSION};
use crate::knobs::Knob;
use crate::plan::{Change, Kept, Plan};
use crate::revert::{Outcome, Place as _, Reverted, Reverting};
use crate::status::Runs;
use crate::system::Refusal;

/// What was done to the host.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Applied {
    /// The version of the JSON form.
    pub schema: u32,
    /// Whether everything that the plan would change was set, and every knob that somebody named
    /// is as asked for.
    pub ok: bool,
    /// What was asked for.
    pub asked: String,
    /// Each change with what became of it.
    pub changes: Vec<Change>,
    /// In the order of `changes`.
    pub results: Vec<Done>,
    /// What stays as it is.
    pub kept: Vec<Kept>,
    /// What to know about the host.
    pub traps: Vec<Finding>,
    /// After how many seconds the guard reverts.
    pub for_s: Option<u64>,
    /// What was put aside before.
    pub notes: Vec<String>,
}

impl Applied {
    /// Whether a knob that somebody named is not as asked for: of a profile's lines a host need not
    /// have all.
    #[must_use]
    pub fn misses(&self) -> bool {
        let mut tried = self.changes.iter().zip(&self.results);
        self.kept.iter().any(Kept::is_missed)
            || tried.any(|(change, done)| change.by_hand && !done.is_sure())
    }
}

/// What was put back.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Undone {
    /// The version of the JSON form.
    pub schema: u32,
    /// Whether nothing is left to be done.
    pub ok: bool,
    /// What had been asked for; `None`: nothing was in place.
    pub asked: Option<String>,
    /// In the order in which they were looked at.
    pub values: Vec<UndoneValue>,
}

/// One value that was looked at.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct UndoneValue {
    /// The knob.
    pub knob: String,
    /// Its interface.
    pub interface: Option<String>,
    /// Where it is.
    pub place: String,
    /// What it had been.
    pub original: String,
    /// What it had been set to.
    pub set_to: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Who applies, and for how long.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Session {
    /// Seconds since the Unix epoch.
    pub at_s: u64,
    /// After how long a guard reverts. Default none: when somebody asks for it.
    pub keep: Option<Duration>,
}

/// What is set for as long as this is kept. Dropped without [`revert`](Self::revert) it is left to
/// the guard.
pub struct Tried<'l> {
    lab: &'l Lab,
    /// What was set.
    pub applied: Applied,
    /// With its lock; `None`: nothing was to be changed.
    journal: Option<Journal>,
}

impl Tried<'_> {
    /// Notes down the command that it was set for, for whoever looks meanwhile.
    pub fn runs(&mut self, program: String, pid: u32) {
        // What was set is remembered already. Where there is no room for this, others are told that
        // it is being changed.
        let _ = self.journal.as_mut().map(|to| to.add(&Record::Runs(Runs { program, pid })));
    }

    /// Puts it back.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub fn revert(self) -> Result<Undone, TuneError> {
        match self.journal {
            Some(journal) => self.lab.undo(journal.leave(), false),
            None => Ok(Undone::nothing()),
        }
    }
}

impl Undone {
    /// Nothing was in place.
    fn nothing() -> Self {
        Self { schema: SCHEMA, ok: true, asked: None, values: Vec::new() }
    }
}

impl Lab {
    /// Does what `plan` says, after `guard` has started a process that puts it back if this one
    /// dies on the way. It stays.
    ///
    /// # Errors
    /// When something is in place already, this process may write nothing of it, or the journal
    /// cannot be kept.
    pub fn apply(
        &self,
        plan: Plan,
        folder: &Folder,
        session: &Session,
        guard: impl FnOnce() -> io::Result<()>,
    ) -> Result<Applied, TuneError> {
        let Tried { applied, journal, .. } = self.go(plan, folder, session, Stay::Set, guard)?;
        if let Some(journal) = journal {
            journal.close_if_over()?;
        }
        Ok(applied)
    }

    /// The same for as long as the result is kept: if this process dies, `guard` puts it back.
    /// Nothing is done where `plan` [misses](Kept::is_missed) something.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn try_out(
        &self,
        plan: Plan,
        folder: &Folder,
        session: &Session,
        guard: impl FnOnce() -> io::Result<()>,
    ) -> Result<Tried<'_>, TuneError> {
        self.go(plan, folder, session, Stay::WhileAlive, guard)
    }

    fn go(
        &self,
        plan: Plan,
        folder: &Folder,
        session: &Session,
        stay: Stay,
        guard: impl FnOnce() -> io::Result<()>,
    ) -> Result<Tried<'_>, TuneError> {
        let Plan { asked, changes, kept, traps, .. } = plan;
        let misses = kept.iter().any(Kept::is_missed);
        self.check_power(&changes)?;
        let (pid, at_s) = (std::process::id(), session.at_s);
        let who = format!("process {pid} ({asked})");
        let for_s = session.keep.map(|keep| keep.as_secs());
        let mut applied = Applied {
            schema: SCHEMA,
            ok: !misses,
            asked: asked.clone(),
            changes,
            results: Vec::new(),
            kept,
            traps,
            for_s,
            notes: Vec::new(),
        };
        if applied.changes.is_empty() || misses && stay == Stay::WhileAlive {
            // What is so already may be so for a while only.
            if let Some(log) = folder.read()?.filter(|log| self.is_in_the_way(log)) {
                // Nobody puts back what somebody is at: that one is named.
                return Err(match folder.hold(&who, PATIENCE) {
                    Err(busy @ JournalError::Busy { .. }) => busy.into(),
                    _ => in_place(folder, &log),
                });
            }
            return Ok(Tried { lab: self, applied, journal: None });
        }
        let held = folder.hold(&who, PATIENCE)?;
        let held = self.make_room(held, &mut applied.notes)?;
        let (boot, namespace) = (self.boot(), self.namespace());
        let version = VERSION;
        let journal =
            held.begin(Begin { version, boot, namespace, pid, by: asked, at_s, for_s })?;
        if let Err(error) = guard() {
            journal.close()?;
            return Err(TuneError::Guard(error));
        }
        let (results, journal) = Applying::new(self, journal, &applied.changes, stay).run()?;
        applied.ok &= results.iter().all(Done::is_sure);
        applied.results = results;
        Ok(Tried { lab: self, applied, journal: Some(journal) })
    }

    /// Refuses what would be refused for every value.
    fn check_power(&self, changes: &[Change]) -> Result<(), TuneError> {
        let refusals: Vec<Refusal> = changes
            .iter()
            .filter_map(|change| self.system().may_write(&change.site).err())
            .collect();
        match refusals.first() {
            Some(first) if refusals.len() == changes.len() => {
                Err(TuneError::Powerless(first.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Sets a journal aside that belongs to an earlier boot or has no values; refuses any other.
    fn make_room(&self, held: Held, notes: &mut Vec<String>) -> Result<Held, TuneError> {
        let Some(log) = held.folder().read()? else { return held.sweep().map_err(Into::into) };
        if log.begin.boot != self.boot() {
            notes.push(format!("{} was set before the host booted: it is gone", log.begin.by));
        } else if self.is_in_the_way(&log) {
            return Err(in_place(held.folder(), &log));
        }
        Ok(Reverting::new(self, held, log, false)?.run()?.held)
    }

    /// Whether what a journal remembers would have to be put back first.
    fn is_in_the_way(&self, log: &Log) -> bool {
        log.begin.boot == self.boot() && !log.is_over()
    }

    /// Puts back what the journal remembers. `give_up`: close it even if something cannot be.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub fn revert(&self, folder: &Folder, give_up: bool) -> Result<Undone, TuneError> {
        if folder.read()?.is_none() {
            return Ok(Undone::nothing());
        }
        let pid = std::process::id();
        let held = folder.hold(&format!("process {pid} (revert)"), PATIENCE)?;
        self.undo(held, give_up)
    }

    pub(crate) fn undo(&self, held: Held, give_up: bool) -> Result<Undone, TuneError> {
        let Some(log) = held.folder().read()? else {
            return Ok(Undone::nothing());
        };
        let Reverted { log, outcomes, .. } = Reverting::new(self, held, log, give_up)?.run()?;
        let value = |(seq, outcome): (u32, Outcome)| {
            let entry = log.entries.get(seq as usize)?;
            Some(UndoneValue::new(entry, outcome))
        };
        let ok = outcomes.iter().all(|(_, outcome)| outcome.is_final());
        let values = outcomes.into_iter().filter_map(value).collect();
        Ok(Undone { schema: SCHEMA, ok, asked: Some(log.begin.by), values })
    }
}

impl UndoneValue {
    /// An entry that needs no more care.
    pub(crate) fn settled(entry: &Entry) -> Option<Self> {
        entry.settled.clone().map(|outcome| Self::new(entry, outcome))
    }

    fn new(entry: &Entry, outcome: Outcome) -> Self {
        let form = Knob::by_id(&entry.knob).and_then(|knob| knob.access.form());
        let value =
            |text: &str| form.map_or_else(|| text.trim().to_owned(), |form| form.value(text));
        Self {
            knob: entry.knob.clone(),
            interface: entry.interface.as_ref().map(|nic| nic.name.clone()),
            place: entry.place(),
            original: value(&entry.original),
            set_to: entry.now.as_deref().map_or_else(|| entry.wanted.clone(), value),
            outcome,
        }
    }
}

fn in_place(folder: &Folder, log: &Log) -> TuneError {
    let Begin { by, at_s, pid, .. } = log.begin.clone();
    let is_default = folder.path() == Path::new(Folder::DEFAULT);
    let folder = folder.path().display().to_string();
    let hint = if is_default { String::new() } else { format!(" --journal {folder}") };
    TuneError::InPlace { by, since: at_s, pid, folder, hint }
}

/// A guard that looks holds the lock for an instant; whoever holds it longer is at work.
const PATIENCE: Duration = Duration::from_secs(2);
