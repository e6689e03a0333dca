//! show puts every knob beside what it is on this host. It reads only.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::finding::{Finding, SCHEMA};
use crate::journal::Folder;
use crate::knobs::{Access, Knob, SUBJECTS};
use crate::lab::Lab;
use crate::system::{Board as _, Refusal};

/// Every knob and its values.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Picture {
    /// The version of the JSON form.
    pub schema: u32,
    /// What to know before anything is tuned.
    pub traps: Vec<Finding>,
    /// By subject.
    pub knobs: Vec<Row>,
}

/// A knob on this host.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The knob.
    #[serde(flatten)]
    pub knob: &'static Knob,
    /// What it is about.
    pub subject: &'static str,
    /// Where it is, whatever the host.
    pub place: String,
    /// Whether it is here.
    pub presence: Presence,
    /// Each place with its value.
    pub values: Vec<Reading>,
}

/// Whether a knob is on this host.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It is, and this process may set it.
    Settable,
    /// It is, and this process may read it.
    Readable,
    /// It is not.
    Absent,
    /// It is told about, and not read: another program, or quiclane itself, has it.
    Told,
}

/// A value that was read.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Reading {
    /// The interface.
    pub interface: Option<String>,
    /// Where it is.
    pub place: String,
    /// What is there; `None`: see `why`.
    pub value: Option<String>,
    /// Why it cannot be read, or not be set.
    pub why: Option<String>,
}

impl Lab {
    /// Every knob and its values, and whether something is set by the journal in `folder`.
    #[must_use]
    pub fn show(&self, folder: &Folder) -> Picture {
        let mut traps: Vec<Finding> = self.journal_trap(folder).into_iter().collect();
        traps.extend(self.traps());
        let rows = |(subject, knobs): &(&'static str, &'static [Knob])| {
            let subject = *subject;
            knobs.iter().map(move |knob| self.row(subject, knob)).collect::<Vec<_>>()
        };
        Picture { schema: SCHEMA, traps, knobs: SUBJECTS.iter().flat_map(rows).collect() }
    }

    fn row(&self, subject: &'static str, knob: &'static Knob) -> Row {
        // Of the commands of other programs one interface is example enough.
        let example = self.example().unwrap_or("INTERFACE");
        let place = knob.access.place().replace("{interface}", example);
        let (presence, values) = match knob.access {
            Access::Boot(path, parameter) => match self.boot_value(path, parameter) {
                Some(value) => {
                    let reading = Reading { interface: None, place: path.into(), value, why: None };
                    (Presence::Readable, vec![reading])
                }
                None => (Presence::Absent, Vec::new()),
            },
            Access::Flag(_) | Access::Engine(_) | Access::Tool(_) => (Presence::Told, Vec::new()),
            _ => self.readings(knob),
        };
        Row { knob, subject, place, presence, values }
    }

    fn readings(&self, knob: &'static Knob) -> (Presence, Vec<Reading>) {
        let (mut presence, mut readings) = (Presence::Absent, Vec::new());
        for site in self.sites(knob) {
            let (value, why) = match self.read(&site) {
                Err(Refusal::Absent) => continue,
                Err(refusal) => (None, Some(refusal.to_string())),
                Ok(read) => {
                    let value = knob.access.form().map(|form| form.value(&read));
                    (value, self.system().may_write(&site).err().map(|refusal| refusal.to_string()))
                }
            };
            if why.is_none() {
                presence = Presence::Settable;
            } else if presence == Presence::Absent {
                presence = Presence::Readable;
            }
            let interface = site.interface.as_ref().map(|nic| nic.name.clone());
            readings.push(Reading { interface, place: site.place(), value, why });
        }
        (presence, readings)
    }

    /// A file's content, or of the kernel's command line what was given for `parameter`.
    fn boot_value(&self, path: &str, parameter: &str) -> Option<Option<String>> {
        let text = self.system().files.text(path)?;
        if path != "/proc/cmdline" {
            return Some(Some(text).filter(|text| !text.is_empty()));
        }
        let words = text.split_whitespace();
        let given: BTreeMap<&str, &str> =
            words.map(|word| word.split_once('=').unwrap_or((word, GIVEN))).collect();
        Some(given.get(parameter).map(|value| (*value).to_owned()))
    }
}

/// What a parameter is that stands on the kernel's command line without a value.
const GIVEN: &str = "given";

#[cfg(test)]
mod tests {
    use crate::machine::{Trial, machine};

    #[test]
    fn parameters_of_the_kernel_are_given_with_or_without_a_value() {
        let ((tree, lab), trial) = (machine(), Trial::new());
        let shown = |line: &str| {
            tree.write("proc/cmdline", line);
            let rows = lab.show(&trial.folder).knobs;
            let value = |id| rows.iter().find(|row| row.knob.id == id).unwrap().values[0].clone();
            ["mitigations", "rcu_nocbs"].map(|id| value(id).value)
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(shown("root=/dev/sda1 mitigations=off\n"), [some("off"), None]);
        assert_eq!(shown("quiet rcu_nocbs mitigations\n"), [some("given"), some("given")]);
        // The kernel takes the last one.
        assert_eq!(shown("rcu_nocbs=1 rcu_nocbs=2-3"), [None, some("2-3")]);
        assert_eq!(shown("mitigation rcu_nocbs_poll"), [None, None]);
    }
}
