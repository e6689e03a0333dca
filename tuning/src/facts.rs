//! facts is everything that is known about the host before it is judged.
//!
//! What cannot be found out is no fact: it is `None` and, where the reason is a lack of privilege,
//! listed in [`Facts::unread`].

use std::env;

use crate::ask::Ask;

mod ebpf;
pub(crate) use ebpf::{Ebpf, Verified};

pub(crate) mod ethtool;
#[cfg(test)]
pub(crate) use ethtool::{Channels, Offloads, XdpFeatures};

mod files;
pub(crate) use files::{Files, Unread, number_list, write_list};

mod host;
pub(crate) use host::Host;

mod interface;
#[cfg(test)]
pub(crate) use interface::Targets;
pub(crate) use interface::{Interface, Interfaces, interrupt_numbers};

mod link;
#[cfg(test)]
pub(crate) use link::Link;
pub(crate) use link::Peer;

pub(crate) mod netlink;

mod network;
pub(crate) use network::Network;

mod process;
#[cfg(test)]
pub(crate) use process::{Capabilities, Limit};
pub(crate) use process::{Capability, Process};

mod trial;
#[cfg(test)]
pub(crate) use trial::Buffers;
pub(crate) use trial::{Journey, Trials};

/// What is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Facts {
    pub(crate) host: Host,
    pub(crate) process: Process,
    pub(crate) network: Network,
    pub(crate) interfaces: Interfaces,
    pub(crate) ebpf: Ebpf,
    pub(crate) trials: Trials,
    pub(crate) unread: Vec<Unread>,
}

/// What can be known without trying anything.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Glance {
    pub(crate) host: Host,
    pub(crate) process: Process,
    pub(crate) interfaces: Interfaces,
    pub(crate) unread: Vec<Unread>,
}

impl Glance {
    pub(crate) fn take(files: &Files, ask: &Ask) -> Self {
        let mut unread = Vec::new();
        let mut interfaces = Interfaces::gather(files, ask, &mut unread);
        ebpf::find_programs(&mut interfaces, &mut unread);
        let (host, process) = (Host::read(files), Process::read(files));
        unread.extend(files.take_unread());
        Self { host, process, interfaces, unread }
    }
}

impl Facts {
    /// Looks at this host.
    pub(crate) fn gather(ask: &Ask) -> Self {
        let files = Files::at("/");
        let Glance { host, mut process, interfaces, mut unread } = Glance::take(&files, ask);
        process.program = env::current_exe()
            .map_or_else(|_| "quiclane".to_owned(), |path| path.display().to_string());
        // Kubernetes sets the first, podman and systemd-nspawn the second.
        process.container |= ["KUBERNETES_SERVICE_HOST", "container"]
            .into_iter()
            .any(|name| env::var_os(name).is_some());
        let network = Network::read(&files);
        unread.extend(files.take_unread());
        let workers = ask.workers_on(&process.cores);
        let (ebpf, trials) = (Ebpf::load(ask.listen.len()), Trials::run(ask, workers));
        Self { host, process, network, interfaces, ebpf, trials, unread }
    }
}
