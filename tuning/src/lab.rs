//! lab is this host with its knobs: what `quiclane tune` does to it.

use std::io;
use std::time::Duration;

use serde::Serialize;

use crate::apply::{Applying, Done};
use crate::ask::Ask;
use crate::device::Device;
use crate::facts::{Capability, Files, Glance};
use crate::finding::{Finding, SCHEMA, Scope};
use crate::journal::{Begin, Entry, Folder, Held, JournalError, Log, VERSION};
use crate::knobs::Knob;
use crate::plan::{Change, Plan, Reason, Verdict, Wish, WishError, Wishes};
use crate::revert::{Outcome, Place, Reverted, Reverting};
use crate::site::{Nic, Site};
use crate::system::{Board, Refusal, System};
use crate::traps;

/// Why nothing was tuned. Each message names the value and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TuneError {
    /// An interface that is not there.
    #[error("--interface {name}: no such interface; there are {known}")]
    Interface {
        /// What was asked for.
        name: String,
        /// Those of this network namespace.
        known: String,
    },
    /// A wish that cannot be understood.
    #[error(transparent)]
    Wish(#[from] WishError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Something is set already.
    #[error(
        "{by} is in place, set by process {pid} (journal in {folder}): first \
         `quiclane tune revert{hint}`"
    )]
    InPlace {
        /// What was asked for then.
        by: String,
        /// When, in seconds since the Unix epoch, for whoever prints it.
        since: u64,
        /// Who did it.
        pid: u32,
        /// Where it is written.
        folder: String,
        /// The flag that is needed for it.
        hint: String,
    },
    /// All of it is out of reach.
    #[error("nothing can be set: {0}")]
    Powerless(String),
    /// Nobody would put it back after a crash.
    #[error("the guard did not start: {0}; nothing was changed")]
    Guard(io::Error),
}

/// This host with its knobs.
pub struct Lab {
    system: System,
    glance: Glance,
    /// The interfaces that were asked for, or that `doctor` would take.
    chosen: Vec<Nic>,
    /// All of this network namespace.
    nics: Vec<Nic>,
    sysfs_is_ours: bool,
}

/// What was done to the host.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Applied {
    /// The version of the JSON form.
    pub schema: u32,
    /// Whether everything that the plan would change was set.
    pub ok: bool,
    /// What was asked for.
    pub asked: String,
    /// Each change with what became of it.
    pub changes: Vec<Change>,
    /// In the order of `changes`.
    pub results: Vec<Done>,
    /// After how many seconds the guard reverts.
    pub for_s: Option<u64>,
    /// What was put aside before.
    pub notes: Vec<String>,
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

impl Lab {
    /// Looks at this host.
    ///
    /// # Errors
    /// When an interface that is asked for is not there.
    pub fn open(interfaces: &[String]) -> Result<Self, TuneError> {
        let files = Files::at("/");
        let ask = Ask { interfaces: interfaces.to_vec(), ..Ask::default() };
        let glance = Glance::take(&files, &ask);
        let net_admin = glance.process.effective.has(Capability::NetAdmin);
        Self::new(System::new(files, Device::open().ok(), net_admin), glance)
    }

    pub(crate) fn new(system: System, glance: Glance) -> Result<Self, TuneError> {
        let nic = |interface: &crate::facts::Interface| Nic {
            name: interface.link.name.clone(),
            index: interface.link.index,
        };
        let nics: Vec<Nic> = glance.interfaces.all.iter().map(nic).collect();
        let mut chosen = Vec::new();
        for name in &glance.interfaces.chosen {
            let Some(nic) = nics.iter().find(|nic| nic.name == *name) else {
                let known: Vec<&str> = nics.iter().map(|nic| nic.name.as_str()).collect();
                return Err(TuneError::Interface { name: name.clone(), known: known.join(", ") });
            };
            chosen.push(nic.clone());
        }
        let sysfs_is_ours = shows(&system.files, &nics);
        Ok(Self { system, glance, chosen, nics, sysfs_is_ours })
    }

    /// Where `knob` is, on the chosen interfaces.
    pub(crate) fn sites(&self, knob: &'static Knob) -> Vec<Site> {
        Site::all(knob, &self.system.files, &self.chosen, self.sysfs_is_ours)
    }

    /// The name of an interface.
    pub(crate) fn example(&self) -> Option<&str> {
        self.chosen.first().map(|nic| nic.name.as_str())
    }

    pub(crate) fn system(&self) -> &System {
        &self.system
    }

    /// What to know before anything is tuned.
    #[must_use]
    pub fn traps(&self) -> Vec<Finding> {
        traps::find(&self.glance, &self.system, &self.chosen, self.sysfs_is_ours)
    }

    /// What would be done for `wishes`. Nothing is.
    ///
    /// # Errors
    /// When a wish cannot be understood.
    pub fn plan(&self, wishes: &Wishes) -> Result<Plan, TuneError> {
        let aims = wishes.aims()?;
        let mut plan = Plan::new(wishes.name(), self.traps());
        for wish in &aims {
            let mut found = false;
            for site in self.sites(wish.knob) {
                match self.system.read(&site) {
                    Err(Refusal::Absent) => continue,
                    Err(refusal) => {
                        let reason = Reason::Obstacle(refusal.to_string());
                        plan.keep(wish, Some(site), None, reason);
                    }
                    Ok(read) => self.decide(&mut plan, wish, site, &read, wishes.link_reset),
                }
                found = true;
            }
            if !found {
                plan.keep(wish, None, None, Reason::Absent);
            }
        }
        Ok(plan)
    }

    fn decide(&self, plan: &mut Plan, wish: &Wish, site: Site, read: &str, link_reset: bool) {
        let (from, to) = match wish.decide(&site, read, link_reset) {
            Verdict::Kept(reason) => return plan.keep(wish, Some(site), Some(read), reason),
            Verdict::Change { from, to } => (from, to),
        };
        let gro_planned = plan.changes.iter().any(|change| {
            (change.site.knob.id, change.to.as_str()) == ("gro", "on")
                && change.site.interface == site.interface
        });
        if let Some(text) = traps::obstacle(&site, &to, &self.glance, gro_planned) {
            return plan.keep(wish, Some(site), Some(read), Reason::Obstacle(text));
        }
        plan.changes.push(Change { site, from, to, why: wish.why.clone(), form: wish.form });
    }

    /// Does what `plan` says, after `guard` has started a process that puts it back if this one
    /// dies on the way.
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
        let Plan { asked, changes, .. } = plan;
        let refusals: Vec<Refusal> =
            changes.iter().filter_map(|change| self.system.may_write(&change.site).err()).collect();
        if let (Some(first), true) = (refusals.first(), refusals.len() == changes.len()) {
            return Err(TuneError::Powerless(first.to_string()));
        }
        let for_s = session.keep.map(|keep| keep.as_secs());
        let mut applied = Applied {
            schema: SCHEMA,
            ok: true,
            asked: asked.clone(),
            changes,
            results: Vec::new(),
            for_s,
            notes: Vec::new(),
        };
        if applied.changes.is_empty() {
            return Ok(applied);
        }
        let pid = std::process::id();
        let held = folder.hold(&format!("process {pid} ({asked})"), PATIENCE)?;
        let held = self.make_room(held, &mut applied.notes)?;
        let (boot, namespace) = (self.system.boot(), self.system.namespace());
        let (version, at_s) = (VERSION, session.at_s);
        let begin = Begin { version, boot, namespace, pid, by: asked, at_s, for_s };
        let journal = held.begin(begin)?;
        if let Err(error) = guard() {
            journal.close()?;
            return Err(TuneError::Guard(error));
        }
        let (results, journal) = Applying::new(self, journal, &applied.changes).run()?;
        let is_set = |done: &Done| matches!(done, Done::Set | Done::Adjusted(_));
        applied.ok = results.iter().all(is_set);
        if !results.iter().any(is_set) {
            journal.close()?;
        }
        applied.results = results;
        Ok(applied)
    }

    /// Sets a journal aside that belongs to an earlier boot or has no values; refuses any other.
    fn make_room(&self, held: Held, notes: &mut Vec<String>) -> Result<Held, TuneError> {
        let Some(log) = held.folder().read()? else { return held.sweep().map_err(Into::into) };
        let over = log.closed || log.entries.iter().all(|entry| !entry.is_open());
        if log.begin.boot != self.system.boot() {
            notes.push(format!("{} was set before the host booted: it is gone", log.begin.by));
        } else if !over {
            return Err(in_place(held.folder(), &log));
        }
        Ok(Reverting::new(self, held, log, false)?.run()?.held)
    }

    /// Puts back what the journal remembers. `give_up`: close it even if something cannot be.
    ///
    /// # Errors
    /// When the journal cannot be read or written.
    pub fn revert(&self, folder: &Folder, give_up: bool) -> Result<Undone, TuneError> {
        if folder.read()?.is_none() {
            return Ok(Undone { schema: SCHEMA, ok: true, asked: None, values: Vec::new() });
        }
        let pid = std::process::id();
        let held = folder.hold(&format!("process {pid} (revert)"), PATIENCE)?;
        self.undo(held, give_up)
    }

    pub(crate) fn undo(&self, held: Held, give_up: bool) -> Result<Undone, TuneError> {
        let Some(log) = held.folder().read()? else {
            return Ok(Undone { schema: SCHEMA, ok: true, asked: None, values: Vec::new() });
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

    /// What an unfinished or a standing journal means to whoever looks at the host.
    #[must_use]
    pub fn journal_trap(&self, folder: &Folder) -> Option<Finding> {
        let why = "values below are not the host's own";
        match folder.read() {
            Ok(Some(log)) if !log.closed && log.begin.boot == self.system.boot() => {
                let applied = if log.applied { "is in place" } else { "was not finished" };
                let found = format!("{} {applied} ({})", log.begin.by, folder.path().display());
                let finding = Finding::warning("tuned", Scope::Host, found, why);
                Some(finding.mend("quiclane tune status; quiclane tune revert"))
            }
            Ok(_) => None,
            Err(error) => {
                let found = error.to_string();
                Some(Finding::warning("journal", Scope::Host, found, "whether something is set"))
            }
        }
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
    let is_default = folder.path() == std::path::Path::new(Folder::DEFAULT);
    let folder = folder.path().display().to_string();
    let hint = if is_default { String::new() } else { format!(" --journal {folder}") };
    TuneError::InPlace { by, since: at_s, pid, folder, hint }
}

/// Whether /sys/class/net has exactly these interfaces.
fn shows(files: &Files, nics: &[Nic]) -> bool {
    let mut names = files.names("/sys/class/net");
    names.retain(|name| files.exists(&format!("/sys/class/net/{name}/ifindex")));
    let has =
        |nic: &Nic| files.value(&format!("/sys/class/net/{}/ifindex", nic.name)) == Some(nic.index);
    names.len() == nics.len() && nics.iter().all(has)
}

impl Board for Lab {
    fn read(&self, site: &Site) -> Result<String, Refusal> {
        self.system.read(site)
    }

    fn write(&self, site: &Site, value: &str) -> Result<(), Refusal> {
        self.system.write(site, value)
    }
}

impl Place for Lab {
    fn boot(&self) -> String {
        self.system.boot()
    }

    fn namespace(&self) -> u64 {
        self.system.namespace()
    }

    fn way_into(&self, namespace: u64) -> Option<String> {
        self.system.way_into(namespace)
    }

    fn find(&self, knob: &'static Knob, entry: &Entry) -> Option<Site> {
        let Some(nic) = &entry.interface else {
            let mut sites = Site::all(knob, &self.system.files, &[], false).into_iter();
            return sites.find(|site| site.path == entry.path);
        };
        // An interface keeps its number when it gets another name.
        let now = self.nics.iter().find(|now| now.index == nic.index)?;
        let renamed = |path: &String| {
            path.replacen(&format!("/net/{}/", nic.name), &format!("/net/{}/", now.name), 1)
        };
        let path = entry.path.as_ref().map(renamed);
        let nics = std::slice::from_ref(now);
        let sites = Site::all(knob, &self.system.files, nics, self.sysfs_is_ours);
        sites.into_iter().find(|site| site.path == path)
    }
}

/// A guard that looks holds the lock for an instant; whoever holds it longer is at work.
const PATIENCE: Duration = Duration::from_secs(2);
