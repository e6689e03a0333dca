//! status says what is set, since when, by whom, and what is no longer as it was set.

use serde::{Deserialize, Serialize};

use crate::finding::{Finding, SCHEMA, Scope};
use crate::journal::{Entry, Folder, Log};
use crate::knobs::Knob;
use crate::lab::{Lab, TuneError, UndoneValue};
use crate::revert::Place as _;
use crate::system::Board as _;

/// What is set.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Standing {
    /// The version of the JSON form.
    pub schema: u32,
    /// Where it is written.
    pub journal: String,
    /// `None`: nothing is set.
    pub session: Option<Tuned>,
    /// How that ended which was set before, whoever put it back.
    pub last: Option<Ended>,
}

/// Something that was set, and is no longer.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Ended {
    /// What was asked for.
    pub asked: String,
    /// When it was set, in seconds since the Unix epoch.
    pub at_s: u64,
    /// What became of each value.
    pub values: Vec<UndoneValue>,
}

/// Something that is set.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Tuned {
    /// What was asked for.
    pub asked: String,
    /// How it stands.
    pub state: State,
    /// The command that it was set for.
    pub runs: Option<Runs>,
    /// Who did it.
    pub pid: u32,
    /// When, in seconds since the Unix epoch.
    pub at_s: u64,
    /// After how many seconds the guard reverts.
    pub for_s: Option<u64>,
    /// Whether a guard watches.
    pub guarded: bool,
    /// Each value.
    pub values: Vec<Value>,
}

/// A command that something is set for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    /// What was called.
    pub program: String,
    /// Its process.
    pub pid: u32,
}

impl Tuned {
    /// How it stands, for people.
    #[must_use]
    pub fn text(&self) -> String {
        self.state.text(self.runs.as_ref())
    }
}

/// How something that is set stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is being set or put back at this moment.
    Busy,
    /// It stays while a command runs.
    Runs,
    /// It is in place.
    Applied,
    /// Whoever set it died on the way.
    Unfinished,
    /// The host has booted since: it is gone.
    Rebooted,
    /// It was set in another network namespace.
    Elsewhere,
}

impl State {
    /// What it means, for people.
    fn text(self, runs: Option<&Runs>) -> String {
        let text = match (self, runs) {
            (Self::Runs, Some(Runs { program, pid })) => {
                return format!("is set while {} (process {pid}) runs", program.escape_debug());
            }
            (state, _) => state.words(),
        };
        text.to_owned()
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Busy | Self::Runs => "is being changed at this moment",
            Self::Applied => "is in place",
            Self::Unfinished => "was not finished: whoever set it is gone; quiclane tune revert",
            Self::Rebooted => {
                "was set before the host booted, and is gone; quiclane tune revert \
                               closes the journal and writes nothing else"
            }
            Self::Elsewhere => {
                "was set in another network namespace; quiclane tune revert says \
                                which, and restores what belongs to the whole host"
            }
        }
    }
}

/// One value.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Value {
    /// The knob.
    pub knob: String,
    /// Its interface.
    pub interface: Option<String>,
    /// Where it is.
    pub place: String,
    /// What it had been.
    pub original: String,
    /// What it was set to.
    pub set_to: String,
    /// What it is; `None`: it cannot be read here.
    pub now: Option<String>,
    /// Whether somebody changed it since.
    pub differs: bool,
    /// Whether it was put back already, or refused by the kernel.
    pub over: bool,
}

impl Lab {
    /// What is set, by the journal in `folder`.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn status(&self, folder: &Folder) -> Result<Standing, TuneError> {
        let log = folder.read()?.filter(|log| !log.closed);
        let session = log.map(|log| Tuned {
            asked: log.begin.by.clone(),
            state: self.state(folder, &log),
            runs: log.runs.clone(),
            pid: log.begin.pid,
            at_s: log.begin.at_s,
            for_s: log.begin.for_s,
            guarded: folder.is_guarded(),
            values: log.entries.iter().map(|entry| self.value(&log, entry)).collect(),
        });
        let journal = folder.path().display().to_string();
        let last = folder.last()?.map(|log| Ended {
            asked: log.begin.by,
            at_s: log.begin.at_s,
            values: log.entries.iter().filter_map(UndoneValue::settled).collect(),
        });
        Ok(Standing { schema: SCHEMA, journal, session, last })
    }

    /// What an unfinished or a standing journal means to whoever looks at the host.
    #[must_use]
    pub fn journal_trap(&self, folder: &Folder) -> Option<Finding> {
        let log = match folder.read() {
            Ok(log) => log.filter(|log| !log.closed && log.begin.boot == self.boot())?,
            Err(error) => {
                let why = "it tells whether something is set, and what it was before";
                return Some(Finding::warning("journal", Scope::Host, error.to_string(), why));
            }
        };
        let state = self.state(folder, &log);
        let flag = folder.flag();
        let status = format!("quiclane tune status{flag}");
        let both = format!("{status}; quiclane tune revert{flag}");
        let (applied, mend) = match state {
            State::Runs | State::Busy => (state.text(log.runs.as_ref()), status),
            _ if log.applied => ("is in place".into(), both),
            _ => ("was not finished".into(), both),
        };
        let found = format!("{} {applied} ({})", log.begin.by, folder.path().display());
        let why = "values below are not the host's own";
        Some(Finding::warning("tuned", Scope::Host, found, why).mend(mend))
    }

    fn state(&self, folder: &Folder, log: &Log) -> State {
        match log {
            log if log.begin.boot != self.boot() => State::Rebooted,
            log if folder.is_held().unwrap_or_else(|| self.lives(log)) => {
                // What was put back since is no longer set for it.
                let is_set = log.entries.iter().all(|entry| entry.settled.is_none());
                if log.runs.is_some() && is_set { State::Runs } else { State::Busy }
            }
            log if !log.applied => State::Unfinished,
            log if log.begin.namespace != self.namespace() => State::Elsewhere,
            _ => State::Applied,
        }
    }

    /// Whether who began it may still be at it, for those who may not look at the lock.
    fn lives(&self, log: &Log) -> bool {
        !log.applied && self.system().files.exists(&format!("/proc/{}", log.begin.pid))
    }

    fn value(&self, log: &Log, entry: &Entry) -> Value {
        let knob = Knob::by_id(&entry.knob);
        let form = knob.and_then(|knob| knob.access.form());
        let spell =
            |text: &str| form.map_or_else(|| text.trim().to_owned(), |form| form.value(text));
        let here = log.begin.boot == self.boot() && log.begin.namespace == self.namespace();
        let site = knob.filter(|_| here).and_then(|knob| self.find(knob, entry).ok()?);
        let now = site.and_then(|site| self.read(&site).ok()).map(|read| spell(&read));
        let set_to = entry.now.as_deref().map_or_else(|| entry.wanted.clone(), spell);
        Value {
            knob: entry.knob.clone(),
            interface: entry.interface.as_ref().map(|nic| nic.name.clone()),
            place: entry.place(),
            original: spell(&entry.original),
            differs: entry.is_open() && now.as_ref().is_some_and(|now| *now != set_to),
            set_to,
            now,
            over: !entry.is_open(),
        }
    }
}
