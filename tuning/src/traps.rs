//! traps says what makes tuning useless or harmful on this host before anything is tuned.
//!
//! Pure functions from facts and values to findings, as the checks of `doctor`, some of which
//! stand here too.

use quiclane_ebpf::Mode;

use crate::checks::kernel_defect;
use crate::facts::{Files, Glance, Interface};
use crate::finding::{Finding, Scope, Status};
use crate::knobs::Knob;
use crate::shell::word;
use crate::site::{Nic, Site};
use crate::system::{Board, Refusal, System};

/// Everything to know first.
pub(crate) fn find(
    glance: &Glance,
    system: &System,
    nics: &[Nic],
    sysfs_is_ours: bool,
) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    findings.extend(kernel_defect(&glance.host, &glance.interfaces));
    findings.extend(permission(glance, system));
    findings.extend(read_only(system, nics, sysfs_is_ours));
    findings.extend(buffers(system));
    findings.extend((!sysfs_is_ours && !nics.is_empty()).then(foreign_sysfs));
    findings.extend(tuners(&system.files));
    findings.extend(flow_steering(system));
    for nic in nics {
        findings.extend(of_interface(glance, system, &system.files, nic));
    }
    findings.retain(|finding| finding.status > Status::Ok);
    findings
}

fn of_interface(glance: &Glance, board: &impl Board, files: &Files, nic: &Nic) -> Vec<Finding> {
    let interface = glance.interfaces.by_index(nic.index);
    let veth = [silent_gro, lost_trains].map(|trap| interface.and_then(trap));
    ring(board, files, nic).into_iter().chain(veth.into_iter().flatten()).collect()
}

fn permission(glance: &Glance, system: &System) -> Option<Finding> {
    let site = Site::sysctl("udp_early_demux")?;
    let Refusal::NotPermitted = system.may_write(&site).err()? else { return None };
    let found = format!("this process may not write {}", site.place());
    // Root of a container has some capabilities; a user without any is just no root.
    let process = &glance.process;
    let found = match process.container && process.effective.0 != 0 {
        true => format!("{found}: it runs in a container"),
        false => found,
    };
    let finding = Finding::warning("permission", Scope::Process, found, NEEDED);
    Some(finding.mend("sudo quiclane tune apply --profile NAME"))
}

/// /proc/sys and /sys are mounted each by itself: a file of each tells.
fn read_only(system: &System, nics: &[Nic], sysfs_is_ours: bool) -> Vec<Finding> {
    let file = |id| {
        let sites = Site::all(Knob::by_id(id)?, &system.files, nics, sysfs_is_ours);
        sites.into_iter().next()
    };
    let sites = [Site::sysctl("udp_early_demux"), file("mtu").or_else(|| file("huge_pages"))];
    let is_read_only = |site: &Site| system.may_write(site) == Err(Refusal::ReadOnly);
    let finding = |site: Site| {
        let found = format!("{} is mounted read-only, as in a container", site.place());
        let mend = "quiclane tune apply  # on the host, or in a container that may (--privileged)";
        Finding::warning("read_only", Scope::Host, found, NEEDED).mend(mend)
    };
    sites.into_iter().flatten().filter(is_read_only).map(finding).collect()
}

const NEEDED: &str =
    "`tune show`, `plan`, `export` and `status` need no privilege; `apply` and `revert` do";

/// The limits of socket buffers belong to the host: a container sees them, or not even that.
fn buffers(system: &System) -> Option<Finding> {
    let (site, other) = (Site::sysctl("rmem_max")?, Site::sysctl("udp_early_demux")?);
    let why = "sockets in here are bound by the host's limit, unless they have CAP_NET_ADMIN there";
    let mend = "sysctl -w net.core.rmem_max=16777216  # on the host, outside of the container";
    let found = match system.may_write(&site).err()? {
        Refusal::Absent => format!("{} does not exist in this network namespace", site.place()),
        // Others than root find everything closed.
        Refusal::NotPermitted if system.may_write(&other) != Err(Refusal::NotPermitted) => {
            format!("{} can only be read in this network namespace", site.place())
        }
        _ => return None,
    };
    Some(Finding::warning("buffers_of_host", Scope::Host, found, why).mend(mend))
}

fn foreign_sysfs() -> Finding {
    let found = "/sys/class/net shows the interfaces of another network namespace";
    let why = "writing there would change a stranger's interface, so those files are left out";
    let mend = "ip netns exec NAME quiclane tune  # it mounts the right /sys";
    Finding::warning("foreign_sysfs", Scope::Host, found, why).mend(mend)
}

/// Programs that set the same knobs by themselves, as /proc names them.
const TUNERS: [(&str, &str); 3] = [
    ("tuned", "it restores its own idea of originals; do not let both set the same knobs"),
    ("irqbalance", "it moves interrupts every 10 s"),
    ("bpftune", "it changes buffers by itself, and yields to whoever changes them after it"),
];

fn tuners(files: &Files) -> Vec<Finding> {
    let numbers = files.names("/proc");
    let processes = numbers.iter().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let mut found = Vec::new();
    for process in processes {
        let name = files.text(&format!("/proc/{process}/comm")).unwrap_or_default();
        let Some((tuner, why)) = TUNERS.iter().find(|(tuner, _)| *tuner == name) else { continue };
        let text = format!("{tuner} runs as process {process} (/proc/{process}/comm)");
        let finding = Finding::warning("other_tuner", Scope::Host, text, *why);
        found.push(finding.mend(format!("systemctl stop {tuner}")));
    }
    // Other people's processes may be hidden: that is no secret worth telling.
    files.take_unread();
    found
}

fn flow_steering(system: &System) -> Option<Finding> {
    let site = Site::sysctl("rps_flow_entries")?;
    let read = system.read(&site).ok()?;
    (read.trim() != "0").then(|| {
        let found = format!("{} is {}: RFS is on", site.place(), read.trim());
        let why = "RFS moves packets to where a flow was read last, steering to the worker that \
                   owns the connection: they work against each other";
        let mend = site.command("0");
        Finding::warning("flow_steering", Scope::Host, found, why).mend(mend)
    })
}

/// The receive ring of an interface beside the cache that it is read through.
fn ring(board: &impl Board, files: &Files, nic: &Nic) -> Option<Finding> {
    let knob = Knob::by_id("ring_rx")?;
    let site = Site { knob, interface: Some(nic.clone()), path: None };
    let packets: u64 = board.read(&site).ok()?.trim().parse().ok()?;
    oversized(&site, &nic.name, packets, cache_bytes(&files.text(CACHE)?)?)
}

/// A ring whose buffers do not fit the cache is read from memory.
fn oversized(site: &Site, name: &str, packets: u64, cache: u64) -> Option<Finding> {
    let bytes = packets.saturating_mul(BUFFER_BYTES);
    (bytes > cache).then(|| {
        let found = format!(
            "{}: {packets} buffers of {BUFFER_BYTES} bytes are {} KiB, the cache of a core is \
             {} KiB ({CACHE})",
            site.place(),
            bytes >> 10,
            cache >> 10
        );
        let why = "every packet is then read from memory: XDP did 43 Mpps with 1,024 and 69 with \
                   256 (xdp-paper); sockets may need the longer ring for bursts: measure";
        let mend = format!(
            "quiclane tune apply --interface {} --set ring_rx=256 --allow-link-reset --for 10m  \
             # the link may go down for a moment",
            word(name)
        );
        Finding::warning("ring_and_cache", Scope::Interface(name.to_owned()), found, why).mend(mend)
    })
}

/// What one packet takes in a ring: half a page, by most drivers.
const BUFFER_BYTES: u64 = 2_048;

/// The second level of the first core.
const CACHE: &str = "/sys/devices/system/cpu/cpu0/cache/index2/size";

/// `1024K`, `2M`.
fn cache_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    match &text[digits.len()..] {
        "" => Some(number),
        "K" => number.checked_mul(1 << 10),
        "M" => number.checked_mul(1 << 20),
        _ => None,
    }
}

/// Native XDP on a veth takes the trains of the other end apart; GRO puts them together again.
fn silent_gro(interface: &Interface) -> Option<Finding> {
    let native = interface.programs.iter().any(|program| program.mode == Mode::Native);
    let gro = interface.offloads?.gro;
    (interface.link.kind == "veth" && native && !gro).then(|| {
        let name = &interface.link.name;
        let found = format!("native XDP with GRO off (ethtool -k {})", word(name));
        let why = "the other end lost its GSO to XDP, and every datagram climbs the stack alone: \
                   923 instead of 1,748 ns each with GRO on";
        let mend = format!("ethtool -K {} gro on", word(name));
        Finding::warning("xdp_without_gro", Scope::Interface(name.clone()), found, why).mend(mend)
    })
}

/// A veth carries trains whole, unless the other end takes that away.
fn lost_trains(interface: &Interface) -> Option<Finding> {
    let name = &interface.link.name;
    let cut = interface.link.kind == "veth" && !interface.offloads?.udp_segmentation;
    cut.then(|| {
        let found = format!("UDP segmentation is off (ethtool -k {})", word(name));
        let why = "trains are cut before they cross: native XDP at the other end of a veth \
                   turns it off, 1,748 instead of 108 ns a datagram; generic XDP leaves it on";
        let mend = "quiclane serve --steering xdp-generic  # at the other end";
        Finding::warning("veth_trains", Scope::Interface(name.clone()), found, why).mend(mend)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Facts, Offloads};
    use crate::recorded::{Tree, bare_metal, bare_metal_with, container, program, veth_host};

    fn system(tree: &Tree) -> System {
        System::new(tree.files(), None, false)
    }

    #[test]
    fn limits_of_the_host_are_not_looked_for_in_a_container() {
        let found = buffers(&system(&Tree::new(&[]))).unwrap();
        assert!(found.found.contains("/proc/sys/net/core/rmem_max does not exist"), "{found:?}");
        assert!(found.mend.unwrap().contains("on the host"));
    }

    fn glance(facts: &Facts) -> Glance {
        Glance {
            host: facts.host.clone(),
            process: facts.process.clone(),
            interfaces: facts.interfaces.clone(),
            unread: Vec::new(),
        }
    }

    #[test]
    fn a_container_hears_of_the_limits_that_its_host_has() {
        let tree = Tree::new(&[("proc/sys/net/ipv4/udp_early_demux", "1\n")]);
        let found = find(&glance(&container()), &system(&tree), &[], true);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].id, found[0].status), ("buffers_of_host", Status::Warning));
    }

    #[test]
    fn a_kernel_that_breaks_trains_is_said_before_all_else() {
        let tree = Tree::new(&[
            ("proc/sys/net/core/rmem_max", "212992\n"),
            ("proc/sys/net/ipv4/udp_early_demux", "1\n"),
        ]);
        let found = |release| {
            let facts = bare_metal_with(|tree| tree.write("proc/sys/kernel/osrelease", release));
            find(&glance(&facts), &system(&tree), &[], true)
        };
        let broken = found("7.0.3");
        assert_eq!((broken[0].id, broken[0].status), ("kernel", Status::Problem), "{broken:?}");
        assert!(broken[0].found.contains("GSO is broken"), "{broken:?}");
        assert!(broken[0].mend.as_ref().unwrap().contains("eth0 tx-udp-segmentation off"));
        assert_eq!(found("6.12.9"), []);
    }

    #[test]
    fn other_tuners_are_named_with_their_process() {
        let tree = Tree::new(&[
            ("proc/1/comm", "systemd\n"),
            ("proc/88/comm", "irqbalance\n"),
            ("proc/99/comm", "tuned\n"),
            ("proc/sys/comm", "tuned\n"),
        ]);
        let found = tuners(&tree.files());
        let texts: Vec<_> = found.iter().map(|finding| finding.found.as_str()).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts[0].contains("irqbalance runs as process 88"), "{texts:?}");
    }

    #[test]
    fn flow_steering_is_a_trap_while_it_is_on() {
        let path = "proc/sys/net/core/rps_sock_flow_entries";
        let tree = |value| {
            let tree = Tree::new(&[(path, value)]);
            flow_steering(&system(&tree))
        };
        assert!(tree("0\n").is_none());
        assert!(tree("32768\n").unwrap().mend.unwrap().ends_with("rps_sock_flow_entries=0"));
    }

    #[test]
    fn a_ring_that_exceeds_the_cache_is_a_trap() {
        let knob = Knob::by_id("ring_rx").unwrap();
        let interface = Some(Nic { name: "eth0".into(), index: 2 });
        let site = Site { knob, interface, path: None };
        assert!(oversized(&site, "eth0", 512, 1 << 20).is_none());
        let found = oversized(&site, "eth0", 4_096, 1 << 20).unwrap();
        assert!(
            found.found.starts_with("ethtool -g eth0: rx: 4096 buffers of 2048 bytes are 8192")
        );
        let mend = found.mend.unwrap();
        let (command, warning) = mend.split_once("  # ").unwrap();
        let words = "quiclane tune apply --interface eth0 --set ring_rx=256 --allow-link-reset";
        assert_eq!(
            (command, warning),
            (&*format!("{words} --for 10m"), "the link may go down for a moment")
        );
        assert!(oversized(&site, "eth0", u64::MAX, 1 << 20).is_some());
    }

    /// A device whose receive ring is as long as this says.
    struct Ring(Result<String, Refusal>);

    impl Board for Ring {
        fn read(&self, site: &Site) -> Result<String, Refusal> {
            assert_eq!(site.place(), "ethtool -g eth0: rx");
            self.0.clone()
        }

        fn write(&self, _: &Site, _: &str) -> Result<(), Refusal> {
            Err(Refusal::Fixed)
        }
    }

    #[test]
    fn the_ring_of_a_device_is_held_against_the_cache_of_its_host() {
        let (glance, nic) = (glance(&bare_metal()), Nic { name: "eth0".into(), index: 2 });
        let host = |cache: &str| Tree::new(&[(CACHE.trim_start_matches('/'), cache)]);
        let traps = |ring, host: &Tree| of_interface(&glance, &Ring(ring), &host.files(), &nic);
        let long = || Ok("1024\n".to_owned());
        let found = traps(long(), &host("512K\n")).remove(0);
        assert_eq!((found.id, found.scope), ("ring_and_cache", Scope::Interface("eth0".into())));
        assert!(
            found.found.contains("2048 KiB, the cache of a core is 512 KiB"),
            "{}",
            found.found
        );
        assert_eq!(traps(Ok("256\n".to_owned()), &host("512K\n")), []);
        assert_eq!(traps(long(), &host("2M\n")), []);
        // What cannot be known is no trap.
        assert_eq!(traps(long(), &Tree::new(&[])), []);
        assert_eq!(traps(Err(Refusal::Absent), &host("512K\n")), []);
    }

    #[test]
    fn interfaces_that_are_asked_for_are_looked_at() {
        let nics = [Nic { name: "veth0".into(), index: 3 }];
        let tree = Tree::new(&[]);
        let ids = |nics: &[Nic]| -> Vec<&str> {
            let found = find(&glance(&veth_host()), &system(&tree), nics, true);
            found.iter().map(|finding| finding.id).collect()
        };
        assert!(ids(&nics).contains(&"veth_trains"));
        assert!(!ids(&[]).contains(&"veth_trains"));
    }

    #[test]
    fn caches_have_units() {
        assert_eq!(cache_bytes("1024K"), Some(1 << 20));
        assert_eq!(cache_bytes("2M"), Some(2 << 20));
        assert_eq!(cache_bytes("512"), Some(512));
        assert_eq!(cache_bytes("x"), None);
        assert_eq!(cache_bytes("99999999999999999999M"), None);
    }

    #[test]
    fn xdp_on_a_veth_without_gro_is_a_trap() {
        let facts = veth_host();
        let mut veth = facts.interfaces.by_name("veth0").unwrap().clone();
        assert!(silent_gro(&veth).is_none(), "no program");
        veth.programs = vec![program("steer")];
        let found = silent_gro(&veth).unwrap();
        assert!(found.mend.unwrap().contains("veth0 gro on"));
        veth.offloads = Some(Offloads { gro: true, ..Offloads::default() });
        assert!(silent_gro(&veth).is_none());
    }

    #[test]
    fn a_veth_that_cuts_trains_is_a_trap() {
        let facts = veth_host();
        let mut veth = facts.interfaces.by_name("veth0").unwrap().clone();
        veth.offloads = Some(Offloads { udp_segmentation: true, ..Offloads::default() });
        assert!(lost_trains(&veth).is_none());
        veth.offloads = Some(Offloads::default());
        assert!(lost_trains(&veth).unwrap().why.contains("native XDP at the other end"));
        veth.link.kind.clear();
        assert!(lost_trains(&veth).is_none(), "a card need not be able to");
    }
}
