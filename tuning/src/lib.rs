//! tuning knows the host: what it can do for quiclane, what is in the way, and how to mend it.
//!
//! ```text
//! Ask ──┐
//! /proc, /sys ──► facts ──► checks ──► Report { Finding: ok | warning | problem }      doctor
//! netlink, bpf ─┘  gather │  judge
//! sockets ──────┘         │
//!                         └► lab ──► show
//! knobs ─► site ─► system ┘   ├────► plan (profile, traps) ─► export
//!                             ├────► apply ──► system: the host, journal: how it was
//!                             └────► revert, status ◄── journal ◄── guard
//! ```
//!
//! Gathering is apart from judging: `facts` is the only room that asks the kernel for [`doctor`],
//! `checks` and `traps` are pure functions, so that any host can be judged from what was recorded
//! on it.
//!
//! Invariant: facts and checks change nothing, and no packet leaves the host. What doctor tries for
//! real (an io_uring, our eBPF programs, which get in front of a socket of our own but on no
//! interface, a train over loopback, binding the asked-for addresses) is taken down before it
//! returns.
//!
//! Invariant: the host is written to by `system` alone (with `device` for what ethtool sets), and
//! there only by `apply`, after `journal` has the original on the disk, and by `revert`.
#![forbid(unsafe_code)]

mod apply;
pub use apply::Done;

mod ask;
pub use ask::{Ask, Rung};

mod checks;

mod device;

pub mod experiment;

mod export;
pub use export::{Export, Format};

mod facts;

mod finding;
pub use finding::{Finding, Report, SCHEMA, Scope, Status};

mod form;
pub use form::Form;

mod guard;
pub use guard::{Guard, Watch};

mod journal;
pub use journal::{Folder, JournalError};

mod knobs;
pub use knobs::{Access, Care, Knob, Reach, SUBJECTS, Setting};

mod lab;
pub use lab::{Applied, Lab, REVERT, Session, Tried, TuneError, Undone, UndoneValue};

mod obstacle;

mod plan;
pub use plan::{Change, Kept, Plan};

mod profile;
pub use profile::Profile;

mod revert;
pub use revert::Outcome;

mod shell;

mod show;
pub use show::{Picture, Presence, Reading, Row};

mod site;
pub use site::{Nic, Site};

mod status;
pub use status::{Ended, Runs, Standing, State, Tuned, Value};

mod system;

mod traps;

mod wish;
pub use wish::{Reason, WishError, Wishes};

#[cfg(test)]
mod killed;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod readme;
#[cfg(test)]
mod recorded;

/// Looks at this host and this process, and says whether `ask` will work here and how well.
#[must_use]
pub fn doctor(ask: &Ask) -> Report {
    checks::judge(&facts::Facts::gather(ask), ask)
}
