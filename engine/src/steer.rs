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
pub use kernel::KernelCounts;

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
    /// Why the better ones are not used, best first.
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
    notes.extend(idle_budgets(rung, &xdp.budgets));
    Ok(Steered { rung, notes, kernel: kernel.map(Arc::new) })
}

/// That budgets somebody has chosen are kept by nobody.
fn idle_budgets(rung: Rung, budgets: &Budgets) -> Option<String> {
    let kept = matches!(rung, Rung::Xdp | Rung::XdpGeneric);
    (!kept && *budgets != Budgets::default()).then(|| {
        let rung = rung.name();
        format!(
            "budgets: XDP keeps them, and steering is {rung}: first flights are limited by the \
             unfinished handshakes of each worker alone"
        )
    })
}

fn automatic(xdp: &Xdp, facts: &Facts<'_>, notes: &mut Vec<String>) -> (Rung, Option<Kernel>) {
    match kernel(Steering::Auto, xdp, facts, notes) {
        Ok(Some((rung, kernel))) => return (rung, Some(kernel)),
        Ok(None) => {}
        Err(error) => notes.push(error.to_string()),
    }
    if facts.sockets.len() == 1 {
        // Nothing to choose from: that is no step down.
        return (Rung::Hash, None);
    }
    match cbpf(facts) {
        Ok(()) => (Rung::Cbpf, None),
        Err(error) => {
            notes.push(error.to_string());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_that_nobody_keeps_are_noted() {
        let chosen = Budgets { initials_per_s: None, ..Budgets::default() };
        for rung in [Rung::Xdp, Rung::XdpGeneric, Rung::Reuseport, Rung::Cbpf, Rung::Hash] {
            assert_eq!(idle_budgets(rung, &Budgets::default()), None);
            let noted = idle_budgets(rung, &chosen).is_some();
            assert_eq!(noted, !rung.name().starts_with("xdp"), "{rung:?}");
        }
    }
}
