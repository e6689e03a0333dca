//! tuning knows the host: what it can do for quiclane, what is in the way, and how to mend it.
//!
//! ```text
//! Ask ──┐
//! /proc, /sys ──► facts ──► checks ──► Report { Finding: ok | warning | problem }
//! netlink, bpf ─┘  gather    judge
//! sockets ──────┘
//! ```
//!
//! Gathering is apart from judging: `facts` is the only room that asks the kernel, `checks` are
//! pure functions, so that any host can be judged from what was recorded on it.
//!
//! Invariant: nothing on the host is changed and no packet leaves it. What is tried for real (an
//! io_uring, our eBPF programs, which get in front of a socket of our own but on no interface, a
//! train over loopback, binding the asked-for addresses) is taken down before [`doctor`] returns.
#![forbid(unsafe_code)]

mod ask;
pub use ask::{Ask, Rung};

mod checks;

mod facts;

mod finding;
pub use finding::{Finding, Report, SCHEMA, Scope, Status};

mod shell;

#[cfg(test)]
mod recorded;

/// Looks at this host and this process, and says whether `ask` will work here and how well.
#[must_use]
pub fn doctor(ask: &Ask) -> Report {
    checks::judge(&facts::Facts::gather(ask), ask)
}
