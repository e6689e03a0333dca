//! privileges judges what this process may ask of the kernel.

use quiclane_ebpf::Program;

use crate::ask::{Ask, Rung};
use crate::facts::{Capability, Facts, Process, Verified};
use crate::finding::{Finding, Scope};
use crate::shell::word;

pub(super) fn check(facts: &Facts, ask: &Ask) -> Vec<Finding> {
    vec![capabilities(facts, ask), programs(facts, ask)]
}

/// What lacks for the rung that was asked for by name is a problem.
fn lacking(finding: Finding, ask: &Ask) -> Finding {
    if ask.steering.is_some() { finding.in_the_way() } else { finding }
}

fn capabilities(facts: &Facts, ask: &Ask) -> Finding {
    let process = &facts.process;
    let (id, scope) = ("capabilities", Scope::Process);
    let why = "xdp and xdp-generic take cap_bpf and cap_net_admin, and where the kernel guards \
               against Spectre cap_perfmon makes them faster; reuseport takes cap_bpf, cbpf and \
               hash take none; cap_net_admin also lifts the limit of socket buffers, \
               cap_net_bind_service opens ports below 1024";
    let missing = |one: &Capability| !process.bounding.has(*one);
    let barred: Vec<_> =
        Capability::ALL.into_iter().filter(missing).map(Capability::name).collect();
    let mut found = format!("effective: {}", list(&process.effective.names()));
    if !barred.is_empty() {
        found.push_str(&format!("; out of reach (bounding set): {}", barred.join(", ")));
    }
    if process.user_namespace {
        found.push_str("; all of them only inside a user namespace");
    }
    match enough(facts, ask) {
        true => Finding::ok(id, scope, found, why),
        false => lacking(Finding::warning(id, scope, found, why), ask).mend(grant(process)),
    }
}

/// Whether the kernel takes our programs from this process; tried, not inferred.
fn programs(facts: &Facts, ask: &Ask) -> Finding {
    let Facts { host, process, ebpf, .. } = facts;
    let (id, scope) = ("ebpf", Scope::Process);
    let why = "our XDP and SK_REUSEPORT programs bring each packet to the worker that owns its \
               connection";
    let held: Vec<&str> = PRIVILEGES
        .into_iter()
        .filter(|one| process.effective.has(*one))
        .map(Capability::name)
        .collect();
    let needed: &[_] = match ask.steering {
        Some(rung @ (Rung::Cbpf | Rung::Hash)) => {
            return Finding::ok(id, scope, format!("{} takes none", rung.name()), why);
        }
        Some(Rung::Reuseport) => &[&ebpf.reuseport],
        Some(Rung::Xdp | Rung::XdpGeneric) | None => &[&ebpf.reuseport, &ebpf.xdp],
    };
    let (taken, mut refused) = sort(needed);
    if refused.is_empty() {
        let found = format!("the kernel takes {}, with {}", taken.join(" and "), list(&held));
        let copies = |one: &Verified| one.program == Program::SteerCopied;
        if needed.iter().any(|outcome| outcome.as_ref().is_ok_and(copies)) {
            let found = format!("{found}: XDP copies the front of each frame, which costs time");
            return Finding::warning(id, scope, found, why).mend(grant(process));
        }
        return Finding::ok(id, scope, found, why);
    }
    refused.dedup();
    let mut found = refused.join("; ");
    if !taken.is_empty() {
        found.push_str(&format!("; {} is taken", taken.join(", ")));
    }
    found.push_str(&match host.unprivileged_bpf_disabled {
        None => " (this kernel seems to be built without eBPF)".to_owned(),
        Some(value) => {
            format!(
                " (with {}; kernel.unprivileged_bpf_disabled={value}, which no rung depends on)",
                list(&held)
            )
        }
    });
    let finding = lacking(Finding::warning(id, scope, found, why), ask);
    match held.len() == PRIVILEGES.len() && !process.user_namespace {
        // Privileged and refused all the same: the kernel is built without, or a policy forbids.
        true => finding,
        false => finding.mend(grant(process)),
    }
}

/// The programs that the kernel takes, and why not the others.
fn sort<'f>(outcomes: &[&'f Result<Verified, String>]) -> (Vec<String>, Vec<&'f str>) {
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(Verified { program, instructions: None }) => taken.push(program.name().to_owned()),
            Ok(Verified { program, instructions: Some(count) }) => {
                taken.push(format!("{} ({count} instructions verified)", program.name()));
            }
            Err(why) => refused.push(why.as_str()),
        }
    }
    (taken, refused)
}

/// Whether this process has all that the rung asked for, or the best one, takes here.
pub(super) fn enough(facts: &Facts, ask: &Ask) -> bool {
    let Facts { process, ebpf, .. } = facts;
    // Those of a user namespace count only where the kernel takes them for ours.
    let has =
        |one| process.effective.has(one) && (!process.user_namespace || ebpf.reuseport.is_ok());
    let selecting = has(Capability::Bpf) && (has(Capability::Perfmon) || ebpf.reuseport.is_ok());
    match ask.steering {
        Some(Rung::Cbpf | Rung::Hash) => true,
        Some(Rung::Reuseport) => selecting,
        Some(Rung::Xdp | Rung::XdpGeneric) | None => {
            selecting && has(Capability::NetAdmin) && (has(Capability::Perfmon) || ebpf.xdp.is_ok())
        }
    }
}

/// The command that gives this process what the best rung takes.
pub(super) fn grant(process: &Process) -> String {
    let reachable = PRIVILEGES.into_iter().all(|one| process.bounding.has(one));
    let within = reachable && !process.user_namespace && !process.no_new_privileges;
    let names = PRIVILEGES.map(Capability::name);
    let program = word(&process.program);
    if within {
        return format!("setcap {}+ep {program}  # or start it with sudo", names.join(","));
    }
    if process.container {
        return "docker run --cap-add BPF --cap-add NET_ADMIN --cap-add PERFMON ...  # as root, \
                without user namespaces"
            .to_owned();
    }
    if process.user_namespace {
        return format!("sudo {program} serve  # outside of this user namespace");
    }
    if process.systemd {
        let names = names.join(" ").to_uppercase();
        return format!(
            "systemd-run --pty -p AmbientCapabilities='{names}' {program} serve  # a unit says so \
             too, with CapabilityBoundingSet="
        );
    }
    format!("sudo {program} serve  # from a shell that was not started without these capabilities")
}

fn list(names: &[&str]) -> String {
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

/// What the best rung takes at most.
const PRIVILEGES: [Capability; 3] = [Capability::Bpf, Capability::NetAdmin, Capability::Perfmon];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Capabilities;
    use crate::finding::Status;
    use crate::recorded;

    fn judge(facts: &Facts) -> (Finding, Finding) {
        judge_for(facts, None)
    }

    fn judge_for(facts: &Facts, steering: Option<Rung>) -> (Finding, Finding) {
        let ask = Ask { steering, ..Ask::default() };
        let [capabilities, programs] = check(facts, &ask).try_into().unwrap();
        (capabilities, programs)
    }

    #[test]
    fn root_has_what_it_takes() {
        let (capabilities, programs) = judge(&recorded::bare_metal());
        assert_eq!((capabilities.status, capabilities.mend), (Status::Ok, None));
        assert_eq!(programs.status, Status::Ok);
        let taken = "quiclane_select (4912 instructions verified) and quiclane_xdp (13439 \
                     instructions verified), with cap_bpf, cap_net_admin, cap_perfmon";
        assert!(programs.found.contains(taken), "{}", programs.found);
    }

    #[test]
    fn a_user_gets_them_by_setcap() {
        let mut facts = recorded::bare_metal();
        facts.process.effective.0 = 0;
        facts.ebpf.xdp = Err("loading BPF programs: not permitted".into());
        let mend = "setcap cap_bpf,cap_net_admin,cap_perfmon+ep /usr/local/bin/quiclane  # or \
                    start it with sudo";
        let (capabilities, programs) = judge(&facts);
        for finding in [&capabilities, &programs] {
            assert_eq!(finding.status, Status::Warning);
            assert_eq!(finding.mend.as_deref(), Some(mend));
        }
        assert!(programs.found.contains("quiclane_select (4912"), "{}", programs.found);
        assert!(programs.found.contains("with none"), "{}", programs.found);
    }

    #[test]
    fn cap_perfmon_is_missed_only_where_the_verifier_wants_it() {
        let mut facts = recorded::bare_metal();
        facts.process.effective.0 = 1 << Capability::Bpf as u8 | 1 << Capability::NetAdmin as u8;
        let (capabilities, programs) = judge(&facts);
        assert_eq!((capabilities.status, programs.status), (Status::Ok, Status::Ok));
        facts.ebpf.xdp = Err("loading quiclane_xdp: prohibited for !root".into());
        let (capabilities, programs) = judge(&facts);
        assert_eq!((capabilities.status, programs.status), (Status::Warning, Status::Warning));
        assert!(programs.mend.unwrap().contains("cap_perfmon"));
    }

    #[test]
    fn without_cap_perfmon_xdp_works_and_costs_more() {
        let mut facts = recorded::bare_metal();
        facts.process.effective.0 = 1 << Capability::Bpf as u8 | 1 << Capability::NetAdmin as u8;
        let copied = Verified { program: Program::SteerCopied, instructions: None };
        facts.ebpf.xdp = Ok(copied);
        for steering in [None, Some(Rung::Xdp), Some(Rung::XdpGeneric)] {
            let (capabilities, programs) = judge_for(&facts, steering);
            assert_eq!((capabilities.status, programs.status), (Status::Ok, Status::Warning));
            assert!(programs.found.contains("quiclane_xdp_copy, with cap_bpf"), "{programs:?}");
            assert!(programs.mend.unwrap().contains("cap_perfmon"));
        }
        assert_eq!(judge_for(&facts, Some(Rung::Reuseport)).1.status, Status::Ok);
    }

    #[test]
    fn a_rung_by_name_needs_its_own_and_no_more() {
        let mut facts = recorded::bare_metal();
        facts.process.effective.0 = 1 << Capability::Bpf as u8;
        facts.ebpf.xdp = Err("loading BPF programs: not permitted".into());
        let both = |rung| {
            let (capabilities, programs) = judge_for(&facts, Some(rung));
            (capabilities.status, programs.status)
        };
        assert_eq!(both(Rung::Xdp), (Status::Problem, Status::Problem));
        assert_eq!(both(Rung::XdpGeneric), (Status::Problem, Status::Problem));
        assert_eq!(both(Rung::Reuseport), (Status::Ok, Status::Ok));
        let nobody = recorded::container();
        for rung in [Rung::Cbpf, Rung::Hash] {
            let (capabilities, programs) = judge_for(&nobody, Some(rung));
            assert_eq!((capabilities.status, programs.status), (Status::Ok, Status::Ok));
        }
    }

    #[test]
    fn a_container_gets_them_from_outside() {
        let (capabilities, programs) = judge(&recorded::container());
        let found = &capabilities.found;
        assert!(found.contains("out of reach (bounding set): cap_bpf"), "{found}");
        assert!(capabilities.mend.unwrap().starts_with("docker run --cap-add BPF"));
        assert_eq!(programs.found.matches("creating BPF maps").count(), 1, "{}", programs.found);
    }

    #[test]
    fn the_way_to_capabilities_is_that_of_the_place() {
        let bare = recorded::bare_metal().process;
        let barred = Process { bounding: Capabilities::default(), ..bare.clone() };
        let sealed = Process { no_new_privileges: true, ..bare.clone() };
        let mapped = Process { user_namespace: true, ..bare.clone() };
        for process in [&barred, &sealed, &mapped] {
            let inside = grant(&Process { container: true, ..process.clone() });
            assert!(inside.starts_with("docker run --cap-add BPF"), "{inside}");
            assert!(!grant(process).contains("docker"), "{}", grant(process));
        }
        let sudo = "sudo /usr/local/bin/quiclane serve  # ";
        assert!(grant(&mapped).starts_with(&format!("{sudo}outside")), "{}", grant(&mapped));
        assert!(grant(&barred).starts_with(&format!("{sudo}from a shell")), "{}", grant(&barred));
        for process in [barred, sealed] {
            let unit = grant(&Process { systemd: true, ..process });
            let words = "AmbientCapabilities='CAP_BPF CAP_NET_ADMIN CAP_PERFMON' /usr/local/bin";
            assert!(unit.starts_with("systemd-run ") && unit.contains(words), "{unit}");
        }
        let inside = Process { container: true, ..bare };
        assert!(grant(&inside).starts_with("setcap "), "within reach: {}", grant(&inside));
    }

    #[test]
    fn capabilities_of_a_user_namespace_are_not_enough() {
        let mut facts = recorded::bare_metal();
        facts.process.user_namespace = true;
        assert_eq!(judge(&facts).0.status, Status::Ok, "the kernel takes them all the same");
        let why = "creating BPF maps: not permitted".to_owned();
        facts.ebpf.xdp = Err(why.clone());
        facts.ebpf.reuseport = Err(why);
        let (capabilities, programs) = judge(&facts);
        for finding in [capabilities, programs] {
            assert_eq!(finding.status, Status::Warning, "{finding:?}");
            assert!(finding.mend.unwrap().starts_with("sudo "));
        }
    }

    #[test]
    fn a_kernel_without_ebpf_cannot_be_mended_by_a_command() {
        let mut facts = recorded::bare_metal();
        facts.ebpf.reuseport = Err("this kernel has no SK_REUSEPORT programs".into());
        let (_, finding) = judge(&facts);
        assert_eq!((finding.status, finding.mend), (Status::Warning, None));
    }
}
