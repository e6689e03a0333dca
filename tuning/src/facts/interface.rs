//! interface puts together what netlink and sysfs know about one network interface.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use quiclane_ebpf::ForeignProgram;

use super::ethtool::{Channels, Ethtool, Offloads, XdpFeatures};
use super::files::{Files, Unread, number_list};
use super::link::{Link, addresses, links};
use super::netlink::Netlink;
use crate::ask::Ask;

/// One network interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Interface {
    pub(crate) link: Link,
    pub(crate) offloads: Option<Offloads>,
    pub(crate) channels: Option<Channels>,
    /// Known since Linux 6.3.
    pub(crate) xdp: Option<XdpFeatures>,
    pub(crate) device: Device,
    /// The XDP programs on it, whoever attached them; asked for where it matters.
    pub(crate) programs: Vec<ForeignProgram>,
}

/// What sysfs knows about an interface and the device behind it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Device {
    pub(crate) driver: Option<String>,
    /// The NUMA node it is attached to.
    pub(crate) node: Option<usize>,
    /// Receive queues in use.
    pub(crate) recv_queues: usize,
    /// Whether RPS or XPS is set on any queue.
    pub(crate) rps: bool,
    pub(crate) xps: bool,
    /// The device's interrupts and the CPUs that take them.
    pub(crate) interrupts: Vec<(u32, Vec<usize>)>,
}

/// All interfaces of this network namespace, and those that matter.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Interfaces {
    pub(crate) all: Vec<Interface>,
    /// Names of those to judge; those asked for may not exist.
    pub(crate) chosen: Vec<String>,
    /// Where a server puts its XDP program.
    pub(crate) targets: Targets,
}

/// The interfaces that an XDP program is for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Targets {
    /// Their names; those asked for may not exist.
    pub(crate) names: Vec<String>,
    /// Why there are not more of them.
    pub(crate) notes: Vec<String>,
}

impl Interfaces {
    pub(super) fn gather(files: &Files, ask: &Ask, unread: &mut Vec<Unread>) -> Self {
        let mut note = |fact: &str, error: std::io::Error| {
            unread.push(Unread { fact: fact.to_owned(), why: error.to_string() });
        };
        let route = match Netlink::route() {
            Ok(route) => route,
            Err(error) => {
                note("network interfaces (rtnetlink)", error);
                return Self { chosen: ask.interfaces.clone(), ..Self::default() };
            }
        };
        let links = links(&route).unwrap_or_else(|error| {
            note("network interfaces (rtnetlink)", error);
            Vec::new()
        });
        let addresses = addresses(&route).unwrap_or_else(|error| {
            note("addresses of interfaces (rtnetlink)", error);
            Vec::new()
        });
        let chosen = choose(ask, &links, &addresses);
        let targets = Targets::of(ask, &links, &addresses);
        let ethtool = Ethtool::open();
        let interface = |link: Link| {
            let ethtool = ethtool.as_ref().ok();
            Interface {
                offloads: ethtool.and_then(|ethtool| ethtool.offloads(link.index)),
                channels: ethtool.and_then(|ethtool| ethtool.channels(link.index)),
                xdp: ethtool.and_then(|ethtool| ethtool.xdp(link.index)),
                device: Device::read(files, &link),
                programs: Vec::new(),
                link,
            }
        };
        let all = links.into_iter().map(interface).collect();
        if let Err(error) = ethtool {
            note("offloads, channels and XDP features (generic netlink)", error);
        }
        Self { all, chosen, targets }
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Interface> {
        self.all.iter().find(|interface| interface.link.name == name)
    }

    pub(crate) fn by_index(&self, index: u32) -> Option<&Interface> {
        self.all.iter().find(|interface| interface.link.index == index)
    }

    /// The chosen ones that exist.
    pub(crate) fn present(&self) -> impl Iterator<Item = &Interface> {
        self.chosen.iter().filter_map(|name| self.by_name(name))
    }
}

/// Those asked for; else the owners of the addresses; for a wildcard and without addresses every
/// one that is up except loopback.
fn choose(ask: &Ask, links: &[Link], addresses: &[(u32, IpAddr)]) -> Vec<String> {
    if !ask.interfaces.is_empty() {
        let mut seen = BTreeSet::new();
        return ask.interfaces.iter().filter(|name| seen.insert(*name)).cloned().collect();
    }
    let specific: Vec<IpAddr> = ask.listen.iter().map(SocketAddr::ip).collect();
    let wildcard = specific.is_empty() || specific.iter().any(IpAddr::is_unspecified);
    let owns = |link: &Link| {
        addresses.iter().any(|(index, ip)| *index == link.index && specific.contains(ip))
    };
    links
        .iter()
        .filter(|link| (wildcard && link.up && !link.loopback) || owns(link))
        .map(|link| link.name.clone())
        .collect()
}

impl Targets {
    /// As the server finds them: those asked for; else the owners of the addresses, for a wildcard
    /// every interface with an address of that family. Loopback has no driver: it is left out.
    fn of(ask: &Ask, links: &[Link], addresses: &[(u32, IpAddr)]) -> Self {
        if !ask.interfaces.is_empty() {
            return Self { names: ask.interfaces.clone(), notes: Vec::new() };
        }
        let mut listen: Vec<IpAddr> = ask.listen.iter().map(|at| at.ip().to_canonical()).collect();
        if listen.is_empty() {
            listen.push(Ipv6Addr::UNSPECIFIED.into());
        }
        let (mut names, mut notes) = (BTreeSet::new(), Vec::new());
        for ip in listen {
            let is_at = |link: &Link, at: &IpAddr| match ip {
                // A wildcard IPv6 socket takes IPv4 too.
                IpAddr::V6(ip) if ip.is_unspecified() => true,
                IpAddr::V4(ip) if ip.is_unspecified() => at.is_ipv4(),
                _ => *at == ip || (ip.is_loopback() && link.loopback),
            };
            let owns = |link: &&Link| {
                addresses.iter().any(|(index, at)| *index == link.index && is_at(link, at))
            };
            let mut owners = links.iter().filter(owns).peekable();
            if owners.peek().is_none() {
                notes.push(format!("no interface owns {ip}: name it with --interface"));
            }
            for owner in owners {
                if !owner.loopback {
                    names.insert(owner.name.clone());
                } else if !ip.is_unspecified() {
                    notes.push(format!("{ip} is on {}, {LEFT_OUT}", owner.name));
                }
            }
        }
        notes.dedup();
        if names.is_empty() && notes.is_empty() {
            notes.push("there is no interface with an address but loopback".to_owned());
        }
        Self { names: names.into_iter().collect(), notes }
    }
}

impl Device {
    /// `/sys` may show another network namespace than the one we are in: then it says nothing.
    fn read(files: &Files, link: &Link) -> Self {
        let folder = format!("/sys/class/net/{}", link.name);
        if files.value(&format!("{folder}/ifindex")) != Some(link.index) {
            return Self::default();
        }
        let queues = files.names(&format!("{folder}/queues"));
        let set = |kind: &str, file: &str| {
            queues.iter().filter(|queue| queue.starts_with(kind)).any(|queue| {
                let mask = files.text(&format!("{folder}/queues/{queue}/{file}"));
                mask.is_some_and(|mask| mask.chars().any(|c| c != '0' && c != ','))
            })
        };
        Self {
            driver: files.target(&format!("{folder}/device/driver")),
            // -1 says that the device belongs to no node.
            node: files.value(&format!("{folder}/device/numa_node")),
            recv_queues: queues.iter().filter(|queue| queue.starts_with("rx-")).count(),
            rps: set("rx-", "rps_cpus"),
            // XPS has no single-queue form: reading it there is an error by design.
            xps: queues.iter().filter(|queue| queue.starts_with("tx-")).count() > 1
                && set("tx-", "xps_cpus"),
            interrupts: interrupts(files, &folder),
        }
    }
}

/// Those of the device, or of the PCI device that a virtio device sits on.
fn interrupts(files: &Files, folder: &str) -> Vec<(u32, Vec<usize>)> {
    let numbers = interrupt_numbers(files, folder);
    let interrupt = |number: &String| {
        let path = format!("/proc/irq/{number}/effective_affinity_list");
        Some((number.parse().ok()?, number_list(&files.text(&path)?)))
    };
    numbers.iter().filter_map(interrupt).collect()
}

/// The names of the interrupts of the interface with this folder in sysfs.
pub(crate) fn interrupt_numbers(files: &Files, folder: &str) -> Vec<String> {
    let numbers = files.names(&format!("{folder}/device/msi_irqs"));
    match numbers.is_empty() {
        true => files.names(&format!("{folder}/device/../msi_irqs")),
        false => numbers,
    }
}

/// The server's words.
const LEFT_OUT: &str = "which is left out unless --interface names it";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded::Tree;

    fn link(index: u32, name: &str, up: bool) -> Link {
        Link { index, name: name.into(), up, loopback: name == "lo", ..Link::default() }
    }

    #[test]
    fn interfaces_are_chosen_as_the_server_does() {
        let links = [link(1, "lo", true), link(2, "eth0", true), link(3, "eth1", false)];
        let addresses = [(1, "127.0.0.1".parse().unwrap()), (3, "10.0.0.1".parse().unwrap())];
        let chosen = |listen: &[&str], interfaces: &[&str]| {
            let listen = listen.iter().map(|text| text.parse().unwrap()).collect();
            let interfaces = interfaces.iter().map(ToString::to_string).collect();
            choose(&Ask { listen, interfaces, ..Ask::default() }, &links, &addresses)
        };
        assert_eq!(chosen(&[], &[]), ["eth0"]);
        assert_eq!(chosen(&["[::]:443"], &[]), ["eth0"]);
        assert_eq!(chosen(&["127.0.0.1:443"], &[]), ["lo"]);
        assert_eq!(chosen(&["10.0.0.1:443", "127.0.0.1:1"], &[]), ["lo", "eth1"]);
        assert_eq!(chosen(&["192.0.2.1:443"], &[]), Vec::<String>::new());
        assert_eq!(chosen(&["[::]:443"], &["eth9", "lo", "eth9"]), ["eth9", "lo"]);
    }

    #[test]
    fn programs_are_for_the_owners_of_the_addresses() {
        let links = [(1, "lo"), (2, "eth0"), (3, "eth1"), (4, "wg0"), (5, "bare")];
        let links = links.map(|(index, name)| link(index, name, index != 3));
        let addresses = [
            (1, "127.0.0.1"),
            (1, "::1"),
            (2, "192.0.2.1"),
            (2, "2001:db8::1"),
            (3, "198.51.100.1"),
            (4, "2001:db8:1::1"),
        ];
        let addresses = addresses.map(|(index, ip)| (index, ip.parse().unwrap()));
        let targets = |listen: &str| {
            let listen = listen.split_terminator(' ').map(|text| text.parse().unwrap()).collect();
            let targets = Targets::of(&Ask { listen, ..Ask::default() }, &links, &addresses);
            assert_eq!(targets.names.is_empty(), !targets.notes.is_empty(), "{targets:?}");
            targets.names
        };
        assert_eq!(targets("192.0.2.1:1"), ["eth0"]);
        assert_eq!(targets("192.0.2.1:1 [2001:db8::1]:1 198.51.100.1:2"), ["eth0", "eth1"]);
        assert_eq!(targets("[::ffff:192.0.2.1]:1"), ["eth0"]);
        assert_eq!(targets("0.0.0.0:1"), ["eth0", "eth1"]);
        assert_eq!(targets("[::]:1"), ["eth0", "eth1", "wg0"]);
        assert_eq!(targets(""), ["eth0", "eth1", "wg0"], "the server's default");
        for listen in ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "203.0.113.1:1"] {
            assert!(targets(listen).is_empty(), "{listen}");
        }
        let interfaces = vec!["lo".to_owned()];
        let asked = Ask { interfaces: interfaces.clone(), ..Ask::default() };
        assert_eq!(Targets::of(&asked, &links, &addresses).names, interfaces);
    }

    #[test]
    fn sysfs_is_read() {
        let tree = Tree::new(&[
            ("sys/class/net/eth0/ifindex", "2\n"),
            ("sys/class/net/eth0/device/numa_node", "1\n"),
            ("sys/class/net/eth0/device/msi_irqs/40", "msix\n"),
            ("sys/class/net/eth0/device/msi_irqs/41", "msix\n"),
            ("sys/class/net/eth0/queues/rx-0/rps_cpus", "00000000,00000000\n"),
            ("sys/class/net/eth0/queues/rx-1/rps_cpus", "00000000,00000004\n"),
            ("sys/class/net/eth0/queues/tx-0/xps_cpus", "1\n"),
            ("sys/class/net/eth0/queues/tx-1/xps_cpus", "0\n"),
            ("proc/irq/40/effective_affinity_list", "0\n"),
            ("proc/irq/41/effective_affinity_list", "2-3\n"),
        ]);
        let device = Device::read(&tree.files(), &link(2, "eth0", true));
        assert_eq!((device.node, device.recv_queues), (Some(1), 2));
        assert!(device.rps && device.xps);
        assert_eq!(device.interrupts, [(40, vec![0]), (41, vec![2, 3])]);
        let elsewhere = Device::read(&tree.files(), &link(7, "eth0", true));
        assert_eq!(elsewhere, Device::default(), "another namespace's eth0");
    }
}
