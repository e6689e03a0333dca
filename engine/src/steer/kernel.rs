//! kernel holds the eBPF programs of a server: what they know, and where they are attached.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use quiclane_ebpf::{
    Answers, AttachError, Attachment, Budget, Capacity, Count, Mode, Program, Settings,
    Steering as Programs,
};
use quiclane_wire::EpochTable;

use super::{Facts, Rung, interfaces, step_down};
use crate::config::{Budgets, Limits, Steering, Xdp};
use crate::error::SteerError;
use crate::notices::Reports;

/// The programs and their attachments. Dropped, they leave the interfaces.
#[derive(Debug)]
pub(crate) struct Kernel {
    programs: Mutex<Programs>,
    settings: Settings,
    attachments: Mutex<Vec<Attachment>>,
    /// Where the steering program was put at start.
    places: Mutex<Vec<(String, Mode)>>,
    /// Those of them that went with their interface. Locked before the others.
    lost: Mutex<Vec<(String, Mode)>>,
}

/// An interface that the steering program was put on at start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    pub(crate) interface: String,
    /// `native` or `generic`.
    pub(crate) mode: &'static str,
    /// Whether the program is there now.
    pub(crate) is_on: bool,
}

/// What the programs counted, summed over all cores.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct KernelCounts {
    /// Frames by what became of them in XDP: each is in exactly one.
    pub frames: Vec<FrameCount>,
    /// Datagrams, or trains that GRO made of them, by how their socket was chosen.
    pub selections: Vec<(&'static str, u64)>,
}

/// Frames that XDP treated alike.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameCount {
    /// What they were, such as `live` or `prefix_budget`.
    pub reason: &'static str,
    /// What was done with them: `passed`, `dropped`, `answered` or `redirected`.
    pub action: &'static str,
    /// How many there were.
    pub count: u64,
}

impl Kernel {
    /// Loads the programs and tells them everything.
    pub(super) fn new(facts: &Facts<'_>, xdp: &Xdp) -> Result<Self, SteerError> {
        let Xdp { interfaces: _, redirect, budgets } = *xdp;
        let listeners = u32::try_from(facts.listen.len()).unwrap_or(u32::MAX);
        let local = interfaces::addresses()?;
        // Each wildcard needs all of them, and room for as many that come later.
        let needed = u32::try_from(2 * local.len() * facts.listen.len()).unwrap_or(u32::MAX);
        let addresses = Capacity::default().addresses.max(needed).min(Capacity::ADDRESSES_MAX);
        let capacity = Capacity { listeners, addresses, ..Capacity::default() };
        let mut programs = Programs::load(&capacity)?;
        let settings = Settings {
            layout: facts.layout,
            spread_key: facts.spread_key,
            live_epoch: facts.epoch,
            workers: u8::try_from(facts.sockets.len()).unwrap_or(u8::MAX),
            move_to_cores: redirect,
            budgets: in_kernel(&budgets),
            answers: answers(facts.limits),
        };
        // Until it is known where it is put: what cannot answer must not try.
        programs.apply(&Settings { answers: None, ..settings })?;
        programs.set_epochs(&facts.epochs)?;
        if redirect {
            for (worker, core) in (0..).zip(facts.cores) {
                programs.place_worker(worker, core.and_then(|core| u32::try_from(core).ok()))?;
            }
        }
        for (address, group) in facts.groups() {
            let listener = if address.ip().is_unspecified() {
                programs.listen_on_host(address, false)?
            } else {
                programs.listen(address, false)?
            };
            for (worker, socket) in (0..).zip(group) {
                programs.set_socket(listener, facts.epoch, worker, &socket.as_fd())?;
            }
        }
        programs.set_host_addresses(&local)?;
        Ok(Self {
            programs: Mutex::new(programs),
            settings,
            attachments: Mutex::default(),
            places: Mutex::default(),
            lost: Mutex::default(),
        })
    }

    /// Puts the selecting program in front of each reuseport group. It leaves with their sockets.
    pub(super) fn select(&self, facts: &Facts<'_>) -> Result<(), SteerError> {
        for (_, mut group) in facts.groups() {
            if let Some(first) = group.next() {
                lock(&self.programs).attach_group(first)?;
            }
        }
        Ok(())
    }

    /// Puts the steering program on interfaces, and says which rung that makes.
    pub(super) fn climb(
        &self,
        choice: Steering,
        xdp: &Xdp,
        listen: &[SocketAddr],
        notes: &mut Vec<String>,
    ) -> Result<Rung, SteerError> {
        let is_auto = choice == Steering::Auto;
        let mut unowned = String::new();
        let names = if xdp.interfaces.is_empty() {
            let found = interfaces::of(listen)?;
            unowned = found.notes.join("; ");
            found.names
        } else {
            let mut named = xdp.interfaces.clone();
            let mut seen = HashSet::new();
            named.retain(|name| seen.insert(name.clone()));
            named
        };
        let modes: &[Mode] = match choice {
            Steering::Xdp => &[Mode::Native],
            Steering::XdpGeneric => &[Mode::Generic],
            _ => &[Mode::Native, Mode::Generic],
        };
        if names.is_empty() && !is_auto {
            return Err(SteerError::NoInterface(unowned));
        }
        if !unowned.is_empty() {
            let rungs: Vec<Rung> = modes.iter().map(rung).collect();
            let on = (!names.is_empty()).then_some("some addresses");
            notes.push(step_down(&rungs, on, &unowned));
        }
        for name in &names {
            let refused = self.attach(name, modes);
            if self.is_on(name) || is_auto {
                notes.extend(steps_down(name, modes, &refused));
            } else if let Some(error) = refused.into_iter().next_back() {
                return Err(error);
            }
            if !self.is_on(name) && !xdp.interfaces.is_empty() {
                // All that were asked for, or none: half of a server's packets filtered is a trap.
                self.detach();
                break;
            }
        }
        let attachments = lock(&self.attachments);
        if !attachments.is_empty() && lock(&self.programs).copies() {
            notes.push(WITHOUT_PERFMON.to_owned());
        }
        if self.settings.move_to_cores {
            if attachments.iter().any(|one| one.mode() == Mode::Generic) {
                notes.push(GENERIC_STAYS.to_owned());
            } else {
                notes.extend(attachments.iter().filter_map(unsummed));
            }
        }
        self.fit(&attachments)?;
        let place = |one: &Attachment| (one.interface().to_owned(), one.mode());
        *lock(&self.places) = attachments.iter().map(place).collect();
        let rung = if attachments.iter().any(|one| one.mode() == Mode::Native) {
            Rung::Xdp
        } else if attachments.is_empty() {
            Rung::Reuseport
        } else {
            Rung::XdpGeneric
        };
        Ok(rung)
    }

    /// Has the programs do only what works where they are.
    fn fit(&self, attachments: &[Attachment]) -> Result<(), SteerError> {
        let mut settings = self.settings;
        // Behind GRO the kernel drops moved frames as damaged.
        settings.move_to_cores &= !attachments.iter().any(|one| one.mode() == Mode::Generic);
        if attachments.iter().any(Attachment::loses_answers) {
            // The workers answer as well.
            settings.answers = None;
        }
        Ok(lock(&self.programs).apply(&settings)?)
    }

    /// Tries the modes in turn; returns why those before the one that worked did not.
    fn attach(&self, interface: &str, modes: &[Mode]) -> Vec<SteerError> {
        let mut refused = Vec::new();
        for mode in modes {
            let attached = lock(&self.programs).attach_interface(Program::Steer, interface, *mode);
            match attached {
                Ok(attachment) => {
                    lock(&self.attachments).push(attachment);
                    return refused;
                }
                Err(error) => refused.push(error.into()),
            }
        }
        refused
    }

    /// Undoes [`detach`](Self::detach).
    pub(crate) fn attach_again(&self) -> Result<(), SteerError> {
        for (interface, mode) in lock(&self.places).iter() {
            if !self.is_on(interface)
                && let Some(error) = self.attach(interface, &[*mode]).pop()
            {
                return Err(error);
            }
        }
        Ok(())
    }

    /// Where the steering program was put at start, and whether it is there now.
    pub(crate) fn places(&self) -> Vec<Place> {
        let place = |(interface, mode): &(String, Mode)| Place {
            interface: interface.clone(),
            mode: mode.name(),
            is_on: self.is_on(interface),
        };
        lock(&self.places).iter().map(place).collect()
    }

    fn is_on(&self, interface: &str) -> bool {
        lock(&self.attachments).iter().any(|one| one.interface() == interface)
    }

    /// Takes the steering program off all interfaces. The selecting one stays.
    pub(crate) fn detach(&self) {
        let mut lost = lock(&self.lost);
        lost.clear();
        lock(&self.attachments).clear();
    }

    /// Tells the programs what became known of epochs.
    pub(crate) fn set_epochs(&self, epochs: &EpochTable) -> Result<(), SteerError> {
        Ok(lock(&self.programs).set_epochs(epochs)?)
    }

    /// Follows the host: its addresses, and interfaces that are removed and made again.
    pub(crate) fn keep_up(&self, reports: &mut Reports) {
        let told = interfaces::addresses()
            .and_then(|local| Ok(lock(&self.programs).set_host_addresses(&local)?));
        match told {
            Ok(()) => reports.settled("addresses"),
            Err(error) => reports.warn("addresses", format!("xdp: {error}")),
        }
        let mut lost = lock(&self.lost);
        lock(&self.attachments).retain(|one| {
            let stays = one.is_in_place();
            if !stays {
                let name = one.interface();
                lost.push((name.to_owned(), one.mode()));
                reports
                    .warn(name, format!("xdp: {name} is gone or renamed, and the program off it"));
            }
            stays
        });
        let before = lost.len();
        lost.retain(|(name, mode)| match self.attach(name, &[*mode]).pop() {
            None => {
                reports.forget(name);
                reports.note(format!("xdp: {name} is back, and the program on it again"));
                false
            }
            Some(SteerError::Attach(AttachError::UnknownInterface { .. })) => true,
            Some(error) => {
                let text = format!("xdp: {name} is back, but the program is not on it: {error}");
                reports.warn(name, text);
                true
            }
        });
        if lost.len() < before
            && let Err(error) = self.fit(&lock(&self.attachments))
        {
            reports.warn("xdp", format!("xdp: it goes on with the settings of before: {error}"));
        }
    }

    /// What the programs counted so far; empty where the kernel does not let this process read it.
    pub(crate) fn counts(&self) -> KernelCounts {
        let programs = lock(&self.programs);
        let frames = programs.counts().unwrap_or_default();
        let selections = programs.selections().unwrap_or_default();
        KernelCounts {
            frames: frames.into_iter().map(frame_count).collect(),
            selections: selections.into_iter().map(|(how, value)| (how.name(), value)).collect(),
        }
    }
}

fn frame_count((frames, count): (Count, u64)) -> FrameCount {
    FrameCount { reason: frames.name(), action: frames.action().name(), count }
}

/// The trap of moving frames that were made on this host or a neighbour of it.
fn unsummed(attachment: &Attachment) -> Option<String> {
    let interface = attachment.interface();
    interfaces::is_virtual(interface)
        .then(|| format!("xdp: {interface} is virtual, and {UNSUMMED}"))
}

/// The rung that a program in this mode makes.
fn rung(mode: &Mode) -> Rung {
    if *mode == Mode::Native { Rung::Xdp } else { Rung::XdpGeneric }
}

/// Why an interface was refused in the first of `modes`. Both are often refused for one reason.
fn steps_down(interface: &str, modes: &[Mode], refused: &[SteerError]) -> Vec<String> {
    let mut steps: Vec<(Vec<Rung>, String)> = Vec::new();
    for (mode, error) in modes.iter().zip(refused) {
        let why = error.to_string();
        match steps.last_mut() {
            Some((rungs, last)) if *last == why => rungs.push(rung(mode)),
            _ => steps.push((vec![rung(mode)], why)),
        }
    }
    steps.iter().map(|(rungs, why)| step_down(rungs, Some(interface), why)).collect()
}

/// How many orphans XDP answers itself; `None`: nobody is answered.
fn answers(limits: &Limits) -> Option<Answers> {
    let Limits { resets_per_s, prefix_resets_per_s, .. } = *limits;
    let budget = |rate: u32| (rate > 0).then(|| Budget::new(rate, rate));
    Some(Answers { prefix: budget(prefix_resets_per_s)?, all: budget(resets_per_s)? })
}

/// The budgets as the programs take them. A second's worth may come at once.
fn in_kernel(budgets: &Budgets) -> quiclane_ebpf::Budgets {
    let Budgets {
        prefix_initials_per_s,
        initials_per_s,
        proven_initials_per_s,
        prefix_bits_v4,
        prefix_bits_v6,
    } = *budgets;
    let budget = |rate: Option<u32>| rate.map_or(Budget::UNLIMITED, |rate| Budget::new(rate, rate));
    quiclane_ebpf::Budgets {
        prefix: budget(prefix_initials_per_s),
        initial: budget(initials_per_s),
        proven: budget(proven_initials_per_s),
        prefix_bits_v4,
        prefix_bits_v6,
    }
}

const GENERIC_STAYS: &str = "without effect: --xdp-redirect cpu: frames stay on the core where \
    they arrive: moving them needs native mode on all interfaces";
const UNSUMMED: &str = "moved frames are lost if their sender leaves checksums to the hardware: \
    turn that off at the other end (ethtool -K NAME tx off), or leave --xdp-redirect off";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

const WITHOUT_PERFMON: &str = "xdp: the program copies the front of each frame, which costs time: \
    with CAP_PERFMON beside CAP_BPF and CAP_NET_ADMIN it need not";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_down_has_its_rung_and_both_one_line_for_one_reason() {
        let refused = |names: &[&str]| -> Vec<SteerError> {
            names.iter().map(|name| SteerError::NoInterface((*name).to_owned())).collect()
        };
        let modes = [Mode::Native, Mode::Generic];
        let one = steps_down("br0", &modes, &refused(&["a"]));
        assert_eq!(one, ["steering: no xdp on br0: no interface for XDP: a"]);
        let both = steps_down("br0", &modes, &refused(&["a", "a"]));
        assert_eq!(both, ["steering: no xdp, xdp-generic on br0: no interface for XDP: a"]);
        assert_eq!(steps_down("br0", &modes, &refused(&["a", "b"])).len(), 2);
        assert!(steps_down("br0", &modes, &[]).is_empty());
    }

    #[test]
    fn the_default_budgets_are_those_of_the_programs() {
        assert_eq!(in_kernel(&Budgets::default()), quiclane_ebpf::Budgets::default());
        let some = Budgets { initials_per_s: Some(50), prefix_bits_v4: 32, ..Budgets::default() };
        let some = in_kernel(&Budgets { prefix_initials_per_s: None, ..some });
        assert!(some.prefix.is_unlimited());
        assert_eq!((some.initial, some.prefix_bits_v4), (Budget::new(50, 50), 32));
    }
}
