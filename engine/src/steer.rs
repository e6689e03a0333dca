//! steer decides which worker's socket the kernel gives a packet to.
//!
//! ```text
//! xdp ─► xdp-generic ─► reuseport ─► cbpf ─► hash      best first; each works without those above
//! ```
//!
//! Steering is an optimisation: `route` looks at every datagram and tosses strays, so every rung
//! of the ladder is correct. A rung is chosen once, at start.

mod cbpf;
mod interfaces;
mod kernel;
pub(crate) use kernel::Kernel;
pub(crate) use kernel::Place;
pub use kernel::{FrameCount, KernelCounts};

use std::net::SocketAddr;
use std::sync::Arc;

use quiclane_datapath::Socket;
use quiclane_wire::{EpochTable, Key, Layout};

use crate::config::{Budgets, Limits, Steering, Xdp};
use crate::error::SteerError;

/// A rung of the ladder; never "auto".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rung {
    Xdp,
    XdpGeneric,
    Reuseport,
    Cbpf,
    Hash,
}

impl Rung {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Reuseport => "reuseport",
            Self::Cbpf => "cbpf",
            Self::Hash => "hash",
        }
    }

    /// Whether a program is on interfaces.
    fn is_xdp(self) -> bool {
        matches!(self, Self::Xdp | Self::XdpGeneric)
    }
}

/// What the programs have to know.
pub(crate) struct Facts<'a> {
    pub(crate) layout: Layout,
    pub(crate) spread_key: Key,
    pub(crate) epochs: Arc<EpochTable>,
    /// The low byte of the live epoch.
    pub(crate) epoch: u8,
    /// The core of each worker.
    pub(crate) cores: &'a [Option<usize>],
    pub(crate) listen: &'a [SocketAddr],
    /// How many orphans are answered.
    pub(crate) limits: &'a Limits,
    /// By worker, then by listen address.
    pub(crate) sockets: &'a [Vec<Socket>],
}

impl Facts<'_> {
    /// The reuseport groups: the sockets of each listen address, bound in worker order.
    fn groups(&self) -> impl Iterator<Item = (SocketAddr, impl Iterator<Item = &Socket>)> {
        let group = |at: usize| self.sockets.iter().filter_map(move |sockets| sockets.get(at));
        self.listen.iter().enumerate().map(move |(at, listen)| (*listen, group(at)))
    }
}

/// The outcome.
pub(crate) struct Steered {
    pub(crate) rung: Rung,
    /// Why the better ones are not used, best first, and what has no effect without them.
    pub(crate) notes: Vec<String>,
    /// What has to live as long as the workers.
    pub(crate) kernel: Option<Arc<Kernel>>,
}

/// Takes the best rung that this host allows, or the one that was asked for.
///
/// # Errors
/// When a rung was asked for by name and the kernel refuses it.
pub(crate) fn steer(choice: Steering, xdp: &Xdp, facts: &Facts<'_>) -> Result<Steered, SteerError> {
    let mut notes = Vec::new();
    let (rung, kernel) = match choice {
        Steering::Xdp | Steering::XdpGeneric | Steering::Reuseport => {
            kernel(choice, xdp, facts, &mut notes)?
                .map_or((Rung::Hash, None), |(r, k)| (r, Some(k)))
        }
        Steering::Cbpf => {
            cbpf(facts)?;
            (Rung::Cbpf, None)
        }
        Steering::Hash => (Rung::Hash, None),
        Steering::Auto => automatic(xdp, facts, &mut notes),
    };
    if !rung.is_xdp() {
        notes.extend(idle_budgets(rung, &xdp.budgets));
        notes.extend(idle_flags(rung, xdp));
    } else if xdp.redirect && facts.cores.iter().all(Option::is_none) {
        notes.push(NO_CORES.to_owned());
    }
    Ok(Steered { rung, notes, kernel: kernel.map(Arc::new) })
}

/// That budgets somebody has chosen are kept by nobody on this rung.
fn idle_budgets(rung: Rung, budgets: &Budgets) -> Option<String> {
    (*budgets != Budgets::default()).then(|| {
        let rung = rung.name();
        format!(
            "budgets: XDP keeps them, and steering is {rung}: first flights are limited by the \
             unfinished handshakes of each worker alone"
        )
    })
}

/// That what somebody has chosen for XDP does nothing on this rung.
fn idle_flags(rung: Rung, xdp: &Xdp) -> Option<String> {
    let mut flags: Vec<String> =
        xdp.interfaces.iter().map(|name| format!("--interface {name}")).collect();
    flags.extend(xdp.redirect.then(|| "--xdp-redirect cpu".to_owned()));
    let all = match xdp.interfaces.len() {
        0 | 1 => "",
        _ => "; of several named interfaces all are taken or none",
    };
    (!flags.is_empty()).then(|| {
        let (flags, rung) = (flags.join(", "), rung.name());
        format!("without effect: {flags}: steering is {rung}, which uses no XDP{all}")
    })
}

/// The line that says why rungs are not taken, or not on one interface.
fn step_down(rungs: &[Rung], interface: Option<&str>, why: &str) -> String {
    let names: Vec<&str> = rungs.iter().map(|rung| rung.name()).collect();
    let on = interface.map(|name| format!(" on {name}")).unwrap_or_default();
    format!("steering: no {}{on}: {why}", names.join(", "))
}

fn automatic(xdp: &Xdp, facts: &Facts<'_>, notes: &mut Vec<String>) -> (Rung, Option<Kernel>) {
    match kernel(Steering::Auto, xdp, facts, notes) {
        Ok(Some((rung, kernel))) => return (rung, Some(kernel)),
        Ok(None) => {}
        Err(error) => {
            let rungs = [Rung::Xdp, Rung::XdpGeneric, Rung::Reuseport];
            notes.push(step_down(&rungs, None, &error.to_string()));
        }
    }
    if facts.sockets.len() == 1 {
        // Nothing to choose from: that is no step down.
        return (Rung::Hash, None);
    }
    match cbpf(facts) {
        Ok(()) => (Rung::Cbpf, None),
        Err(error) => {
            notes.push(step_down(&[Rung::Cbpf], None, &error.to_string()));
            (Rung::Hash, None)
        }
    }
}

/// The rungs that need eBPF; none if they would do nothing.
fn kernel(
    choice: Steering,
    xdp: &Xdp,
    facts: &Facts<'_>,
    notes: &mut Vec<String>,
) -> Result<Option<(Rung, Kernel)>, SteerError> {
    let kernel = Kernel::new(facts, xdp)?;
    let rung = match choice {
        Steering::Reuseport => Rung::Reuseport,
        _ => kernel.climb(choice, xdp, facts.listen, notes)?,
    };
    if choice == Steering::Auto && rung == Rung::Reuseport && facts.sockets.len() == 1 {
        return Ok(None);
    }
    kernel.select(facts)?;
    Ok(Some((rung, kernel)))
}

fn cbpf(facts: &Facts<'_>) -> Result<(), SteerError> {
    let program = cbpf::program(&facts.layout);
    for (_, mut group) in facts.groups() {
        if let Some(first) = group.next() {
            first.attach_reuseport_cbpf(&program).map_err(SteerError::Cbpf)?;
        }
    }
    Ok(())
}

const NO_CORES: &str = "without effect: --xdp-redirect cpu: no worker is pinned to a core, so \
    there is none to move frames to; give as many --cores as workers";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_that_nobody_keeps_are_noted() {
        let chosen = Budgets { initials_per_s: None, ..Budgets::default() };
        assert_eq!(idle_budgets(Rung::Cbpf, &Budgets::default()), None);
        let noted = idle_budgets(Rung::Cbpf, &chosen).unwrap();
        assert!(noted.contains("steering is cbpf"), "{noted}");
    }

    #[test]
    fn what_is_for_xdp_and_does_nothing_is_named() {
        let xdp = |interfaces: &[&str], redirect| {
            let interfaces = interfaces.iter().map(ToString::to_string).collect();
            Xdp { interfaces, redirect, ..Xdp::default() }
        };
        assert_eq!(idle_flags(Rung::Hash, &xdp(&[], false)), None);
        let one = idle_flags(Rung::Reuseport, &xdp(&["eth0"], true)).unwrap();
        let words = "--interface eth0, --xdp-redirect cpu: steering is reuseport";
        assert!(one.contains(words) && !one.contains("all are taken"), "{one}");
        let two = idle_flags(Rung::Cbpf, &xdp(&["eth0", "eth1"], false)).unwrap();
        assert!(two.contains("--interface eth0, --interface eth1: "), "{two}");
        assert!(two.contains("all are taken or none"), "{two}");
    }

    #[test]
    fn a_step_down_names_the_rungs_and_where() {
        let line = step_down(&[Rung::Xdp, Rung::XdpGeneric], Some("eth0"), "taken");
        assert_eq!(line, "steering: no xdp, xdp-generic on eth0: taken");
        assert_eq!(step_down(&[Rung::Cbpf], None, "refused"), "steering: no cbpf: refused");
    }
}
