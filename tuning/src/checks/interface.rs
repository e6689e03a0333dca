//! interface judges a network interface: link, queues, interrupts, NUMA node, GRO.

use super::{cpus, plural, redirect, workers};
use crate::ask::{Ask, Rung};
use crate::facts::{Host, Interface, Interfaces, Process};
use crate::finding::{Finding, Scope};
use crate::shell::word;

/// Interfaces that were asked for and do not exist.
pub(super) fn missing(interfaces: &Interfaces) -> Vec<Finding> {
    let names: Vec<&str> =
        interfaces.all.iter().map(|interface| interface.link.name.as_str()).collect();
    let finding = |name: &String| {
        let found = format!("no such interface; there are {}", names.join(", "));
        let why = "nothing can be attached to it, and no packet arrives on it";
        Finding::problem("link", Scope::Interface(name.clone()), found, why).mend("ip link show")
    };
    let absent = |name: &&String| interfaces.by_name(name).is_none();
    interfaces.chosen.iter().filter(absent).map(finding).collect()
}

pub(super) fn check(
    interface: &Interface,
    process: &Process,
    host: &Host,
    ask: &Ask,
) -> Vec<Finding> {
    let checks = [
        Some(link(interface)),
        queues(interface, process, ask),
        interrupts(interface),
        numa(interface, process, host, ask),
        gro(interface),
        gso(interface),
    ];
    checks.into_iter().flatten().collect()
}

pub(super) fn scope(interface: &Interface) -> Scope {
    Scope::Interface(interface.link.name.clone())
}

fn link(interface: &Interface) -> Finding {
    let link = &interface.link;
    let what = match (&interface.device.driver, link.kind.as_str(), link.loopback) {
        (_, _, true) => "loopback",
        (Some(driver), ..) => driver,
        (None, "", _) => "unknown driver",
        (None, kind, _) => kind,
    };
    let why = "packets arrive on it only while it is up";
    if link.up {
        let found = format!("up, {what}, MTU {}", link.mtu);
        return Finding::ok("link", scope(interface), found, why);
    }
    Finding::warning("link", scope(interface), format!("down, {what}"), why)
        .mend(format!("ip link set dev {} up", word(&link.name)))
}

/// Receive queues against workers, and whether RPS makes up for missing ones.
fn queues(interface: &Interface, process: &Process, ask: &Ask) -> Option<Finding> {
    let Interface { link, channels, device, .. } = interface;
    let queues = recv_queues(interface);
    // Bridges, tunnels and loopback have no queues that an interrupt empties.
    let real = device.driver.is_some() || link.kind == "veth";
    if !real || queues == 0 {
        return None;
    }
    let id = "queues";
    let workers = workers(process, ask);
    let moves = ask.may_take_xdp() && redirect::helps(interface, process, ask);
    let set = |on, name| if on { name } else { "" };
    let found = format!(
        "{} for {}{}{}{}",
        plural(queues, "receive queue"),
        plural(workers, "worker"),
        set(device.rps, ", RPS is set"),
        set(device.xps, ", XPS is set"),
        set(moves, ", XDP moves frames on"),
    );
    let may_move = ask.steering.is_none_or(|rung| rung == Rung::Xdp);
    let why = if may_move && !ask.redirect {
        "each queue is emptied by one CPU, which is the limit of what arrives; \
         --xdp-redirect cpu moves packets on to the other workers' CPUs"
    } else {
        "each queue is emptied by one CPU, which is the limit of what arrives"
    };
    if queues >= workers || device.rps || moves {
        return Some(Finding::ok(id, scope(interface), found, why));
    }
    let name = word(&link.name);
    let mend = match channels {
        Some(channels) if channels.max > channels.now => {
            let kind = if channels.combined { "combined" } else { "rx" };
            format!("ethtool -L {name} {kind} {}", channels.max.min(workers as u64))
        }
        _ => {
            let mask = cpu_mask(&process.cores);
            let file = format!("/sys/class/net/{}/queues/rx-*/rps_cpus", link.name);
            format!("for f in {file}; do echo {mask} > \"$f\"; done")
        }
    };
    Some(Finding::warning(id, scope(interface), found, why).mend(mend))
}

/// Receive queues in use.
pub(super) fn recv_queues(interface: &Interface) -> usize {
    match interface.channels {
        Some(channels) => usize::try_from(channels.now).unwrap_or(usize::MAX),
        None => interface.device.recv_queues,
    }
}

/// CPUs as the kernel reads masks: hexadecimal, in groups of 32 bits.
fn cpu_mask(cores: &[usize]) -> String {
    let groups = cores.iter().max().map_or(0, |last| last / 32) + 1;
    let group = |group: usize| {
        let bits = cores.iter().filter(|core| *core / 32 == group);
        bits.fold(0_u32, |mask, core| mask | 1 << (core % 32))
    };
    let mut masks = (0..groups).rev().map(group);
    let first = format!("{:x}", masks.next().unwrap_or(0));
    masks.fold(first, |text, mask| format!("{text},{mask:08x}"))
}

fn interrupts(interface: &Interface) -> Option<Finding> {
    let interrupts = &interface.device.interrupts;
    if interrupts.is_empty() {
        return None;
    }
    let mut takers: Vec<usize> =
        interrupts.iter().flat_map(|(_, cpus)| cpus.iter().copied()).collect();
    takers.sort_unstable();
    takers.dedup();
    let id = "interrupts";
    let found = format!("{} on {}", plural(interrupts.len(), "interrupt"), cpus(&takers));
    let why = "a CPU that takes all interrupts is the limit, and a worker on it starves under a \
               flood";
    if takers.len() > 1 || interface.device.recv_queues < 2 {
        return Some(Finding::ok(id, scope(interface), found, why));
    }
    let numbers: Vec<String> = interrupts.iter().map(|(number, _)| number.to_string()).collect();
    let mend = format!(
        "c=0; for i in {}; do echo $((c++ % $(nproc))) > /proc/irq/$i/smp_affinity_list; done",
        numbers.join(" ")
    );
    Some(Finding::warning(id, scope(interface), found, why).mend(mend))
}

fn numa(interface: &Interface, process: &Process, host: &Host, ask: &Ask) -> Option<Finding> {
    let node = interface.device.node?;
    let near = host.nodes.get(&node).filter(|_| host.nodes.len() > 1)?;
    let used = if ask.cores.is_empty() { &process.cores } else { &ask.cores };
    let far: Vec<usize> = used.iter().copied().filter(|core| !near.contains(core)).collect();
    let id = "numa";
    let why = "packets cross from the card's node to a worker's on another: slower memory for each";
    if far.is_empty() {
        let found = format!("on node {node}, like every CPU of the workers");
        return Some(Finding::ok(id, scope(interface), found, why));
    }
    let found = format!("on node {node} ({}); {} on another", cpus(near), cpus(&far));
    let mend = format!("quiclane serve --cores {}", crate::facts::write_list(near));
    Some(Finding::warning(id, scope(interface), found, why).mend(mend))
}

fn gro(interface: &Interface) -> Option<Finding> {
    let offloads = interface.offloads.filter(|_| !interface.link.loopback)?;
    let id = "device_gro";
    let why = match interface.link.kind.as_str() {
        "veth" => {
            "off by default on veth; with native XDP every datagram then arrives alone, \
                   which halves what one core receives"
        }
        _ => "merges datagrams into trains before the stack: several times fewer packets to handle",
    };
    if offloads.gro {
        return Some(Finding::ok(id, scope(interface), "GRO is on", why));
    }
    let mend = format!("ethtool -K {} gro on", word(&interface.link.name));
    Some(Finding::warning(id, scope(interface), "GRO is off", why).mend(mend))
}

/// Who cuts trains is no fault of anybody's, but explains figures.
fn gso(interface: &Interface) -> Option<Finding> {
    let offloads = interface.offloads?;
    let why = "a train goes down the stack as one packet; on veth it stays one to the other end, \
               unless an XDP program runs there";
    let found = match offloads.udp_segmentation {
        true => "trains are cut by the device (tx-udp-segmentation is on)",
        false => "trains are cut by the kernel (tx-udp-segmentation is off)",
    };
    Some(Finding::ok("device_gso", scope(interface), found, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Channels, Facts};
    use crate::finding::Status;
    use crate::recorded;

    fn eth0(facts: &Facts) -> &Interface {
        facts.interfaces.by_name("eth0").unwrap()
    }

    fn eth0_mut(facts: &mut Facts) -> &mut Interface {
        let named = |one: &&mut Interface| one.link.name == "eth0";
        facts.interfaces.all.iter_mut().find(named).unwrap()
    }

    #[test]
    fn bare_metal_is_fine() {
        let facts = recorded::bare_metal();
        let findings = check(eth0(&facts), &facts.process, &facts.host, &Ask::default());
        assert_eq!(findings.len(), 5, "one node, so no numa: {findings:?}");
        assert!(findings.iter().all(|finding| finding.status == Status::Ok), "{findings:?}");
        assert_eq!(findings[0].found, "up, mlx5_core, MTU 1500");
        assert!(missing(&facts.interfaces).is_empty());
    }

    #[test]
    fn what_does_not_exist_is_a_problem_and_what_is_down_a_warning() {
        let mut facts = recorded::bare_metal();
        facts.interfaces.chosen = vec!["eth0".into(), "nosuch".into()];
        let findings = missing(&facts.interfaces);
        assert_eq!((findings.len(), findings[0].status), (1, Status::Problem));
        assert_eq!(findings[0].scope.to_string(), "interface:nosuch");
        assert!(findings[0].found.contains("there are lo, eth0"), "{}", findings[0].found);
        eth0_mut(&mut facts).link.up = false;
        let finding = link(eth0(&facts));
        assert_eq!(finding.status, Status::Warning);
        assert_eq!(finding.mend.unwrap(), "ip link set dev eth0 up");
    }

    #[test]
    fn fewer_queues_than_workers_are_mended_by_channels_or_rps() {
        let mut facts = recorded::bare_metal();
        let judge = |facts: &Facts| queues(eth0(facts), &facts.process, &Ask::default()).unwrap();
        eth0_mut(&mut facts).channels = Some(Channels { now: 1, max: 63, combined: true });
        assert_eq!(judge(&facts).mend.unwrap(), "ethtool -L eth0 combined 8");
        eth0_mut(&mut facts).channels = Some(Channels { now: 1, max: 1, combined: true });
        let finding = judge(&facts);
        assert_eq!(finding.status, Status::Warning);
        assert!(finding.mend.unwrap().contains("echo ff > \"$f\""));
        let moving = Ask { redirect: true, ..Ask::default() };
        let finding = queues(eth0(&facts), &facts.process, &moving).unwrap();
        assert_eq!(finding.status, Status::Ok);
        assert!(finding.found.ends_with("XDP moves frames on"), "{}", finding.found);
        // Generic mode moves nothing: no hint to what is judged useless a few lines below.
        let generic = Ask { steering: Some(Rung::XdpGeneric), ..moving };
        let finding = queues(eth0(&facts), &facts.process, &generic).unwrap();
        assert_eq!(finding.status, Status::Warning);
        assert!(!format!("{finding:?}").contains("--xdp-redirect"), "{finding:?}");
        eth0_mut(&mut facts).device.rps = true;
        assert_eq!(judge(&facts).status, Status::Ok);
    }

    #[test]
    fn masks_have_groups_of_32_bits() {
        assert_eq!(cpu_mask(&[0, 1]), "3");
        assert_eq!(cpu_mask(&[0, 33]), "2,00000001");
        assert_eq!(cpu_mask(&[]), "0");
    }

    #[test]
    fn interrupts_on_one_cpu_are_warned_of() {
        let mut facts = recorded::bare_metal();
        eth0_mut(&mut facts).device.interrupts = vec![(40, vec![0]), (41, vec![0])];
        let finding = interrupts(eth0(&facts)).unwrap();
        assert_eq!(finding.status, Status::Warning);
        assert!(finding.mend.unwrap().contains("for i in 40 41;"));
        eth0_mut(&mut facts).device.recv_queues = 1;
        assert_eq!(interrupts(eth0(&facts)).unwrap().status, Status::Ok);
    }

    #[test]
    fn workers_far_from_the_card_are_warned_of() {
        let mut facts = recorded::bare_metal();
        facts.host.nodes = [(0, vec![0, 1, 2, 3]), (1, vec![4, 5, 6, 7])].into();
        let judge = |facts: &Facts, cores: &[usize]| {
            let ask = Ask { cores: cores.to_vec(), ..Ask::default() };
            numa(eth0(facts), &facts.process, &facts.host, &ask).unwrap()
        };
        let finding = judge(&facts, &[]);
        assert_eq!(finding.status, Status::Warning);
        assert_eq!(finding.mend.unwrap(), "quiclane serve --cores 0-3");
        assert_eq!(judge(&facts, &[0, 3]).status, Status::Ok);
        assert_eq!(judge(&facts, &[0, 4]).status, Status::Warning);
        facts.process.cores = vec![1, 2];
        assert_eq!(judge(&facts, &[]).status, Status::Ok);
    }

    #[test]
    fn who_cuts_trains_is_said() {
        let mut facts = recorded::bare_metal();
        assert!(gso(eth0(&facts)).unwrap().found.contains("by the device"));
        eth0_mut(&mut facts).offloads.as_mut().unwrap().udp_segmentation = false;
        let finding = gso(eth0(&facts)).unwrap();
        assert_eq!(finding.status, Status::Ok);
        assert!(finding.found.contains("by the kernel"));
    }

    #[test]
    fn gro_that_is_off_is_warned_of() {
        let mut facts = recorded::bare_metal();
        eth0_mut(&mut facts).offloads.as_mut().unwrap().gro = false;
        let finding = gro(eth0(&facts)).unwrap();
        assert_eq!(
            (finding.status, finding.mend.as_deref()),
            (Status::Warning, Some("ethtool -K eth0 gro on"))
        );
        eth0_mut(&mut facts).offloads = None;
        assert_eq!(gro(eth0(&facts)), None, "unknown is not guessed");
    }
}
