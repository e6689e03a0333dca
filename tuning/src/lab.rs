//! lab is this host with its knobs: what `quiclane tune` does to it.

mod change;
pub use change::{Applied, Session, Tried, Undone, UndoneValue};

use std::io;

use crate::ask::Ask;
use crate::device::Device;
use crate::facts::{Capability, Files, Glance};
use crate::finding::Finding;
use crate::journal::{Entry, JournalError};
use crate::knobs::Knob;
use crate::obstacle::{obstacle, unwise};
use crate::plan::{Change, Plan};
use crate::revert::Place;
use crate::site::{Nic, Site};
use crate::system::{Board, Refusal, System};
use crate::traps;
use crate::wish::{Reason, Verdict, Wish, WishError, Wishes};

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
        let mut plan = Plan::new(wishes.name(), self.traps(), self.virtual_nics());
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

    /// Those of the chosen interfaces that no device is behind.
    fn virtual_nics(&self) -> Vec<Nic> {
        let device = |nic: &Nic| format!("{CLASS}/{}/device", nic.name);
        let none = |nic: &&Nic| self.sysfs_is_ours && !self.system.files.exists(&device(nic));
        self.chosen.iter().filter(none).cloned().collect()
    }

    fn decide(&self, plan: &mut Plan, wish: &Wish, site: Site, read: &str, link_reset: bool) {
        let (from, to) = match wish.decide(&site, read, link_reset) {
            Verdict::Kept(reason) => return plan.keep(wish, Some(site), Some(read), reason),
            Verdict::Change { from, to } => (from, to),
        };
        // It is decided before what needs it, in whatever order they were asked for.
        let gro = plan
            .changes
            .iter()
            .find(|change| change.site.knob.id == "gro" && change.site.interface == site.interface);
        let gro = gro.map(|change| change.to == "on");
        let obstacle = obstacle(&site, &to, &self.glance, &self.system.files, gro);
        // Whoever names a knob may want to see it.
        let unwise = || unwise(&site, &to, &self.glance).filter(|_| !wish.by_hand);
        if let Some(text) = obstacle.or_else(unwise) {
            return plan.keep(wish, Some(site), Some(read), Reason::Obstacle(text));
        }
        let (why, form, by_hand) = (wish.why.clone(), wish.form, wish.by_hand);
        plan.changes.push(Change { site, from, to, why, form, by_hand });
    }
}

/// Where interfaces have their files.
const CLASS: &str = "/sys/class/net";

/// A revert with the right /sys, which leaves everybody else's as it is.
pub const REVERT: &str =
    "unshare --mount sh -c 'mount -t sysfs sysfs /sys && exec quiclane tune revert'";

/// Whether /sys/class/net has exactly these interfaces.
fn shows(files: &Files, nics: &[Nic]) -> bool {
    let mut names = files.names(CLASS);
    names.retain(|name| files.exists(&format!("{CLASS}/{name}/ifindex")));
    let has = |nic: &Nic| files.value(&format!("{CLASS}/{}/ifindex", nic.name)) == Some(nic.index);
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

    fn find(&self, knob: &'static Knob, entry: &Entry) -> Result<Option<Site>, String> {
        let Some(nic) = &entry.interface else {
            let mut sites = Site::all(knob, &self.system.files, &[], false).into_iter();
            return Ok(sites.find(|site| site.path == entry.path));
        };
        if self.nics.is_empty() {
            return Err("the interfaces of this host cannot be listed (rtnetlink)".into());
        }
        // An interface keeps its number when it gets another name.
        let Some(now) = self.nics.iter().find(|now| now.index == nic.index) else {
            return Ok(None);
        };
        if entry.path.is_some() && !self.sysfs_is_ours {
            return Err(format!("{} shows another network namespace: run it as {}", CLASS, REVERT));
        }
        let renamed = |path: &String| {
            path.replacen(&format!("/net/{}/", nic.name), &format!("/net/{}/", now.name), 1)
        };
        let path = entry.path.as_ref().map(renamed);
        let nics = std::slice::from_ref(now);
        let sites = Site::all(knob, &self.system.files, nics, self.sysfs_is_ours);
        Ok(sites.into_iter().find(|site| site.path == path))
    }
}
