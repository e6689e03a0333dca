//! kernel judges the version, known defects and what every packet pays for.

use crate::facts::{Host, Interfaces};
use crate::finding::{Finding, Scope, Status};
use crate::shell::word;

/// A defect of the kernel that quiclane feels.
struct Defect {
    first: (u32, u32, u32),
    last: (u32, u32, u32),
    status: Status,
    found: &'static str,
    why: &'static str,
}

/// By version, as kernel.org counts: a distribution may have mended its own.
const DEFECTS: &[Defect] = &[
    Defect {
        first: (0, 0, 0),
        last: (6, 0, u32::MAX),
        status: Status::Warning,
        found: "older than 6.1",
        why: "the io_uring backend needs 6.1 (DEFER_TASKRUN); epoll takes its place",
    },
    // Broken by b10b446 (7.0-rc1), mended by 78effd8 and 5f17ae0, which 7.1.5 has.
    Defect {
        first: (7, 0, 0),
        last: (7, 1, 4),
        status: Status::Problem,
        found: "UDP GSO is broken from 7.0 to 7.1.4",
        why: "trains of equal datagrams leave some network cards with wrong lengths and checksums, \
              so most are lost; loopback does not show it, and a distribution may have mended it \
              (commits 78effd8 and 5f17ae0)",
    },
];

pub(super) fn check(host: &Host, interfaces: &Interfaces) -> Vec<Finding> {
    let mut findings = vec![version(host, interfaces)];
    findings.extend(jit(host));
    findings.extend(clock(host));
    findings
}

pub(super) fn version(host: &Host, interfaces: &Interfaces) -> Finding {
    let kernel = &host.kernel;
    let range = |defect: &&Defect| (defect.first..=defect.last).contains(&kernel.version);
    let Some(defect) = DEFECTS.iter().find(range) else {
        let why = "no defect that quiclane feels is known of this version";
        return Finding::ok("kernel", Scope::Host, format!("Linux {}", kernel.release), why);
    };
    let found = format!("Linux {}: {}", kernel.release, defect.found);
    if defect.status != Status::Problem {
        return Finding::warning("kernel", Scope::Host, found, defect.why);
    }
    let off = "tx-udp-segmentation off generic-segmentation-offload off";
    let commands: Vec<String> = interfaces
        .present()
        .map(|interface| format!("ethtool -K {} {off}", word(&interface.link.name)))
        .collect();
    let finding = Finding::problem("kernel", Scope::Host, found, defect.why);
    match commands.is_empty() {
        true => finding,
        false => finding.mend(format!("{}  # until 7.1.5 runs here", commands.join("; "))),
    }
}

fn jit(host: &Host) -> Option<Finding> {
    let why = "every received packet runs through a BPF program";
    Some(match host.bpf_jit? {
        0 => Finding::warning("bpf_jit", Scope::Host, "BPF programs are interpreted", why)
            .mend("sysctl -w net.core.bpf_jit_enable=1"),
        _ => Finding::ok("bpf_jit", Scope::Host, "BPF programs are compiled", why),
    })
}

fn clock(host: &Host) -> Option<Finding> {
    let source = host.clock_source.as_ref()?;
    let why = "workers read the clock once a turn; only these sources need no system call";
    if FAST_CLOCKS.contains(&source.as_str()) {
        return Some(Finding::ok("clock", Scope::Host, format!("clock source {source}"), why));
    }
    let found = format!("clock source {source} is slow");
    let finding = Finding::warning("clock", Scope::Host, found, why);
    Some(
        finding.mend("echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource"),
    )
}

/// Those that the vDSO can read.
const FAST_CLOCKS: [&str; 5] =
    ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter", "riscv_clocksource"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recorded;

    fn status(release: &str) -> Status {
        let facts = recorded::bare_metal_with(|tree| {
            tree.write("proc/sys/kernel/osrelease", release);
        });
        version(&facts.host, &facts.interfaces).status
    }

    #[test]
    fn broken_kernels_are_known() {
        for (release, expected) in [
            ("5.15.0-1053-aws", Status::Warning),
            ("6.0.19", Status::Warning),
            ("6.1.0-18-amd64", Status::Ok),
            ("6.18.44", Status::Ok),
            ("7.0.0-14-generic", Status::Problem),
            ("7.0.3", Status::Problem),
            ("7.1.4", Status::Problem),
            ("7.1.5", Status::Ok),
            ("7.2.0", Status::Ok),
        ] {
            assert_eq!(status(release), expected, "{release}");
        }
    }

    #[test]
    fn the_way_round_a_broken_kernel_names_the_interfaces() {
        let facts = recorded::bare_metal_with(|tree| {
            tree.write("proc/sys/kernel/osrelease", "7.0.3");
        });
        let finding = version(&facts.host, &facts.interfaces);
        assert!(finding.mend.unwrap().starts_with("ethtool -K eth0 tx-udp-segmentation off"));
    }

    #[test]
    fn interpreted_bpf_and_slow_clocks_are_warned_of() {
        let facts = recorded::bare_metal_with(|tree| {
            tree.write("proc/sys/net/core/bpf_jit_enable", "0\n");
            let folder = "sys/devices/system/clocksource/clocksource0";
            tree.write(&format!("{folder}/current_clocksource"), "hpet\n");
        });
        assert_eq!(jit(&facts.host).unwrap().status, Status::Warning);
        assert_eq!(clock(&facts.host).unwrap().status, Status::Warning);
        let facts = recorded::bare_metal();
        assert_eq!(jit(&facts.host).unwrap().status, Status::Ok);
        assert_eq!(clock(&facts.host).unwrap().status, Status::Ok);
        assert_eq!(jit(&Host::default()), None);
    }
}
