//! knobs is the table of everything on a host that a UDP or QUIC server can be tuned by.
//!
//! Data alone: how a knob is read and written is in `system`, by its [`Access`]. Whether it exists
//! here is never believed from the table or a version, but asked when it is needed.

use serde::{Serialize, Serializer};

use crate::form::Form;

mod boot;
mod cpu;
mod ebpf;
mod irq;
mod memory;
mod napi;
mod nic;
mod socket;
mod sysctl;
mod uring;

/// Something that can be set, or that is worth knowing because it cannot.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Knob {
    /// Stable name, as `--set` takes it.
    pub id: &'static str,
    /// What a change reaches.
    pub reach: Reach,
    /// What it is, with its unit.
    pub title: &'static str,
    /// What Linux starts with.
    pub default: &'static str,
    /// Values worth trying.
    pub candidates: &'static [&'static str],
    /// What the kernel does with it.
    pub mechanism: &'static str,
    /// What that means to UDP and QUIC.
    pub effect: &'static str,
    /// The first Linux with it; said, not relied on.
    pub since: &'static str,
    /// How it is read, set and put back.
    pub access: Access,
    /// What to mind when it is set.
    pub care: Care,
}

/// What a change of a knob reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// The whole machine.
    Host,
    /// One network namespace.
    Netns,
    /// One network interface.
    Interface,
    /// One process.
    Process,
    /// The next boot.
    Boot,
}

impl Reach {
    /// As in the JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Netns => "netns",
            Self::Interface => "interface",
            Self::Process => "process",
            Self::Boot => "boot",
        }
    }
}

/// How a knob is read, set and put back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// A file below /proc/sys, by its name with dots.
    Sysctl(&'static str, Form),
    /// A file. `{interface}` and `{irq}` stand for each of the interface, `*` for any number.
    File(&'static str, Form),
    /// A feature of an interface, as `ethtool -k` names it.
    Feature(&'static str),
    /// A number of an interface's driver, over ethtool netlink.
    Device(Setting),
    /// quiclane's own command and flag.
    Flag(&'static str),
    /// The engine decides it; the text says how and why nobody else can.
    Engine(&'static str),
    /// Another program changes it; the command that shows it. `{interface}` as above.
    Tool(&'static str),
    /// Only a boot changes it: a file that shows it, and the parameter of the kernel's command
    /// line.
    Boot(&'static str, &'static str),
}

impl Access {
    /// What values look like, where they can be set here.
    #[must_use]
    pub const fn form(self) -> Option<Form> {
        match self {
            Self::Sysctl(_, form) | Self::File(_, form) => Some(form),
            Self::Feature(_) => Some(Form::Switch),
            Self::Device(setting) => Some(Form::Number(setting.least, u32::MAX as u64)),
            Self::Flag(_) | Self::Engine(_) | Self::Tool(_) | Self::Boot(..) => None,
        }
    }

    /// The kind of it, as in the JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sysctl(..) => "sysctl",
            Self::File(..) => "file",
            Self::Feature(_) => "feature",
            Self::Device(_) => "device",
            Self::Flag(_) => "flag",
            Self::Engine(_) => "engine",
            Self::Tool(_) => "tool",
            Self::Boot(..) => "boot",
        }
    }

    /// Where it is, whatever the host.
    #[must_use]
    pub fn place(self) -> String {
        match self {
            Self::Sysctl(name, _) => format!("sysctl {name}"),
            Self::File(path, _) => path.to_owned(),
            Self::Feature(name) => format!("ethtool -K {{interface}} {name}"),
            Self::Device(Setting { option, word, .. }) => {
                format!("ethtool -{option} {{interface}} {word}")
            }
            Self::Flag(flag) => format!("quiclane {flag}"),
            Self::Engine(text) => format!("by the engine: {text}"),
            Self::Tool(command) => command.to_owned(),
            Self::Boot(path, parameter) => format!("{path} (boot: {parameter})"),
        }
    }
}

impl Serialize for Access {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A number that ethtool netlink reads and sets; the numbers are of linux/ethtool_netlink.h.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Setting {
    /// The letter of ethtool's option that sets it: `-G`.
    pub option: char,
    /// ethtool's word for it: `rx`.
    pub word: &'static str,
    /// Message that asks; the next one sets.
    pub(crate) get: u8,
    /// Attribute of the value.
    pub(crate) kind: u16,
    /// Attribute of the largest value, where there is one.
    pub(crate) max: Option<u16>,
    /// Bytes of the value.
    pub(crate) width: u8,
    /// The least value.
    pub(crate) least: u64,
}

/// What to mind when a knob is set.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Care {
    /// Nothing in particular.
    Free,
    /// A limit that others rely on: raised, never lowered.
    RaiseOnly,
    /// The driver may take the link down for a moment.
    LinkReset,
    /// The kernel makes of it what it can, which may be less.
    Rounded,
}

/// All knobs by their subject, in the order in which a person wants to read them.
pub const SUBJECTS: [(&str, &[Knob]); 10] = [
    ("cpu", cpu::KNOBS),
    ("irq", irq::KNOBS),
    ("nic", nic::KNOBS),
    ("napi", napi::KNOBS),
    ("sysctl", sysctl::KNOBS),
    ("socket", socket::KNOBS),
    ("io_uring", uring::KNOBS),
    ("ebpf", ebpf::KNOBS),
    ("memory", memory::KNOBS),
    ("boot", boot::KNOBS),
];

impl Knob {
    /// All of them.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        SUBJECTS.iter().flat_map(|(_, knobs)| knobs.iter())
    }

    /// The one with this name.
    #[must_use]
    pub fn by_id(id: &str) -> Option<&'static Self> {
        Self::all().find(|knob| knob.id == id)
    }
}

impl PartialEq for Knob {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Knob {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_knob_is_named_once_and_says_everything() {
        let mut ids = BTreeSet::new();
        for knob in Knob::all() {
            let Knob { id, title, default, candidates, mechanism, effect, since, .. } = knob;
            assert!(ids.insert(id), "{id} twice");
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(id.chars().all(plain), "{id}");
            for text in [title, default, mechanism, effect, since] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{id}: {text:?}");
            }
            assert_eq!(candidates.is_empty(), knob.reach == Reach::Boot, "{id}");
        }
        assert!(ids.len() >= 47, "{}", ids.len());
    }

    #[test]
    fn every_candidate_is_a_value_that_the_knob_takes() {
        for knob in Knob::all() {
            let Some(form) = knob.access.form() else { continue };
            for candidate in knob.candidates {
                let read = form.check(candidate);
                assert!(read.is_ok(), "{} {candidate}: {read:?}", knob.id);
            }
        }
    }

    #[test]
    fn what_only_a_boot_changes_is_never_set() {
        for knob in Knob::all() {
            let boot = matches!(knob.access, Access::Boot(..));
            assert_eq!(boot, knob.reach == Reach::Boot, "{}", knob.id);
            assert!(!boot || knob.access.form().is_none(), "{}", knob.id);
        }
    }

    #[test]
    fn placeholders_are_those_that_are_understood() {
        for knob in Knob::all() {
            let place = knob.access.place();
            let rest = place.replace("{interface}", "").replace("{irq}", "");
            assert!(!rest.contains(['{', '}']), "{}: {place}", knob.id);
            let of_interface = place.contains("{interface}") || place.contains("{irq}");
            let reach = knob.reach == Reach::Interface;
            assert!(reach || !of_interface, "{}: {place}", knob.id);
        }
    }
}
