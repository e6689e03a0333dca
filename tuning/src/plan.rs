//! plan compares what is wanted with what is there: what would change, what stays, and why.

use serde::{Serialize, Serializer};

use crate::finding::{Finding, SCHEMA};
use crate::form::Form;
use crate::site::{Nic, Site};
use crate::wish::{Reason, Wish};

/// A value that would change.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Where it is.
    pub site: Site,
    /// What it is.
    pub from: String,
    /// What it is to be.
    pub to: String,
    /// Why.
    pub why: String,
    pub(crate) form: Form,
    /// Whether somebody named the knob; else a profile has it.
    pub(crate) by_hand: bool,
}

impl Change {
    /// The plain command that does it.
    #[must_use]
    pub fn command(&self) -> String {
        self.site.command(&self.to)
    }

    /// The plain command that undoes it.
    #[must_use]
    pub fn undo(&self) -> String {
        self.site.command(&self.from)
    }
}

impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Row<'c> {
            knob: &'static str,
            scope: &'static str,
            interface: Option<&'c str>,
            place: String,
            from: &'c str,
            to: &'c str,
            why: &'c str,
            command: String,
            undo: String,
        }
        let Self { site, from, to, why, form: _, by_hand: _ } = self;
        let interface = site.interface.as_ref().map(|nic| nic.name.as_str());
        let (knob, scope) = (site.knob.id, site.knob.reach.name());
        let (place, command, undo) = (site.place(), self.command(), self.undo());
        Row { knob, scope, interface, place, from, to, why, command, undo }.serialize(serializer)
    }
}

/// A value that stays.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Kept {
    /// The knob.
    pub knob: &'static str,
    /// Its interface.
    pub interface: Option<String>,
    /// Where it is.
    pub place: String,
    /// What it is; `None` where there is none.
    pub value: Option<String>,
    /// What was asked for.
    pub wanted: String,
    /// Why it stays.
    pub reason: Reason,
    /// The place, where there is one.
    #[serde(skip)]
    pub site: Option<Site>,
    /// Whether somebody named the knob; else a profile has it.
    #[serde(skip)]
    pub(crate) by_hand: bool,
}

impl Kept {
    /// Whether somebody named it, and does not get it.
    #[must_use]
    pub const fn is_missed(&self) -> bool {
        self.by_hand && !self.reason.is_fulfilled()
    }
}

/// What would be done.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The version of the JSON form.
    pub schema: u32,
    /// What was asked for.
    pub asked: String,
    /// In the order in which it would be done.
    pub changes: Vec<Change>,
    /// What would not.
    pub kept: Vec<Kept>,
    /// What else to know first.
    pub traps: Vec<Finding>,
    /// Interfaces that no device is behind, for those who leave such alone.
    #[serde(skip)]
    pub(crate) virtual_nics: Vec<Nic>,
}

impl Plan {
    pub(crate) fn new(asked: String, traps: Vec<Finding>, virtual_nics: Vec<Nic>) -> Self {
        let (changes, kept) = (Vec::new(), Vec::new());
        Self { schema: SCHEMA, asked, changes, kept, traps, virtual_nics }
    }

    pub(crate) fn keep(
        &mut self,
        wish: &Wish,
        site: Option<Site>,
        read: Option<&str>,
        why: Reason,
    ) {
        let interface = site.as_ref().and_then(|site| site.interface.as_ref());
        self.kept.push(Kept {
            knob: wish.knob.id,
            interface: interface.map(|nic| nic.name.clone()),
            place: site.as_ref().map_or_else(|| wish.knob.access.place(), Site::place),
            value: read.map(|read| wish.form.value(read)),
            wanted: wish.target.value(),
            reason: why,
            site,
            by_hand: wish.by_hand,
        });
    }
}
