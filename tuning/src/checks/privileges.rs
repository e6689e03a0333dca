//! privileges judges what this process may ask of the kernel.

use crate::facts::{Capability, Ebpf, Host, Process, Verified};
use crate::finding::{Finding, Scope};
use crate::shell::word;

pub(super) fn check(host: &Host, process: &Process, ebpf: &Ebpf) -> Vec<Finding> {
    vec![capabilities(process, ebpf), programs(host, process, ebpf)]
}

fn capabilities(process: &Process, ebpf: &Ebpf) -> Finding {
    let (id, scope) = ("capabilities", Scope::Process);
    let why = "xdp and xdp-generic take cap_bpf and cap_net_admin, reuseport takes cap_bpf, and \
               where the kernel guards against Spectre its verifier wants cap_perfmon too; cbpf \
               and hash take none; cap_net_admin also lifts the limit of socket buffers, \
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
    match enough(process, ebpf) {
        true => Finding::ok(id, scope, found, why),
        false => Finding::warning(id, scope, found, why).mend(grant(process)),
    }
}

/// Whether the kernel takes our programs from this process; tried, not inferred.
fn programs(host: &Host, process: &Process, ebpf: &Ebpf) -> Finding {
    let (id, scope) = ("ebpf", Scope::Process);
    let why = "our XDP and SK_REUSEPORT programs bring each packet to the worker that owns its \
               connection";
    let held: Vec<&str> = PRIVILEGES
        .into_iter()
        .filter(|one| process.effective.has(*one))
        .map(Capability::name)
        .collect();
    let (taken, mut refused) = sort(ebpf);
    if refused.is_empty() {
        let found = format!("the kernel takes {}, with {}", taken.join(" and "), list(&held));
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
    let finding = Finding::warning(id, scope, found, why);
    match held.len() == PRIVILEGES.len() && !process.user_namespace {
        // Privileged and refused all the same: the kernel is built without, or a policy forbids.
        true => finding,
        false => finding.mend(grant(process)),
    }
}

/// The programs that the kernel takes, and why not the others.
fn sort(ebpf: &Ebpf) -> (Vec<String>, Vec<&str>) {
    let (mut taken, mut refused) = (Vec::new(), Vec::new());
    for outcome in [&ebpf.reuseport, &ebpf.xdp] {
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

/// Whether this process has all that the best rung takes here.
pub(super) fn enough(process: &Process, ebpf: &Ebpf) -> bool {
    let taken = ebpf.xdp.is_ok() && ebpf.reuseport.is_ok();
    let has = |one| process.effective.has(one);
    has(Capability::Bpf) && has(Capability::NetAdmin) && (has(Capability::Perfmon) || taken)
}

/// The command that gives this process what the best rung takes.
pub(super) fn grant(process: &Process) -> String {
    let reachable = PRIVILEGES.into_iter().all(|one| process.bounding.has(one));
    if process.user_namespace || !reachable {
        return "docker run --cap-add BPF --cap-add NET_ADMIN --cap-add PERFMON ...  # as root, \
                without user namespaces"
            .to_owned();
    }
    let names = PRIVILEGES.map(Capability::name).join(",");
    format!("setcap {names}+ep {}", word(&process.program))
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
    use crate::facts::Facts;
    use crate::finding::Status;
    use crate::recorded;

    fn judge(facts: &Facts) -> (Finding, Finding) {
        let Facts { host, process, ebpf, .. } = facts;
        (capabilities(process, ebpf), programs(host, process, ebpf))
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
        let mend = "setcap cap_bpf,cap_net_admin,cap_perfmon+ep /usr/local/bin/quiclane";
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
    fn a_container_gets_them_from_outside() {
        let (capabilities, programs) = judge(&recorded::container());
        let found = &capabilities.found;
        assert!(found.contains("out of reach (bounding set): cap_bpf"), "{found}");
        assert!(capabilities.mend.unwrap().starts_with("docker run --cap-add BPF"));
        assert_eq!(programs.found.matches("creating BPF maps").count(), 1, "{}", programs.found);
    }

    #[test]
    fn a_kernel_without_ebpf_cannot_be_mended_by_a_command() {
        let mut facts = recorded::bare_metal();
        facts.ebpf.reuseport = Err("this kernel has no SK_REUSEPORT programs".into());
        let (_, finding) = judge(&facts);
        assert_eq!((finding.status, finding.mend), (Status::Warning, None));
    }
}
