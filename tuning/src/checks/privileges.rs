//! privileges judges what this process may ask of the kernel.

use crate::facts::{Capability, Ebpf, Host, Process};
use crate::finding::{Finding, Scope};
use crate::shell::word;

pub(super) fn check(host: &Host, process: &Process, ebpf: &Ebpf) -> Vec<Finding> {
    vec![capabilities(process), programs(host, process, ebpf)]
}

fn capabilities(process: &Process) -> Finding {
    let (id, scope) = ("capabilities", Scope::Process);
    let why = "xdp and xdp-generic take cap_bpf and cap_net_admin, reuseport takes cap_bpf, cbpf \
               and hash take none; cap_net_admin also lifts the limit of socket buffers, \
               cap_net_bind_service opens ports below 1024";
    let list = |names: Vec<&str>| match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    };
    let missing = |one: &Capability| !process.bounding.has(*one);
    let barred: Vec<_> =
        Capability::ALL.into_iter().filter(missing).map(Capability::name).collect();
    let mut found = format!("effective: {}", list(process.effective.names()));
    if !barred.is_empty() {
        found.push_str(&format!("; out of reach (bounding set): {}", barred.join(", ")));
    }
    if process.user_namespace {
        found.push_str("; all of them only inside a user namespace");
    }
    match enough(process) {
        true => Finding::ok(id, scope, found, why),
        false => Finding::warning(id, scope, found, why).mend(grant(process)),
    }
}

/// Whether the kernel takes eBPF from this process; tried, not inferred.
fn programs(host: &Host, process: &Process, ebpf: &Ebpf) -> Finding {
    let (id, scope) = ("ebpf", Scope::Process);
    let why = "XDP and SK_REUSEPORT programs bring each packet to the worker that owns its \
               connection";
    let refused: Vec<&str> = [&ebpf.reuseport, &ebpf.xdp]
        .into_iter()
        .filter_map(|one| one.as_ref().err().map(String::as_str))
        .collect();
    if refused.is_empty() {
        let found = "the kernel takes XDP and SK_REUSEPORT programs from this process";
        return Finding::ok(id, scope, found, why);
    }
    let switch = match host.unprivileged_bpf_disabled {
        None => "this kernel seems to be built without eBPF".to_owned(),
        Some(value) => {
            format!("kernel.unprivileged_bpf_disabled={value}, which no rung depends on")
        }
    };
    let finding = Finding::warning(id, scope, format!("{} ({switch})", refused.join("; ")), why);
    match enough(process) && !process.user_namespace {
        // Privileged and refused all the same: the kernel is built without, or a policy forbids.
        true => finding,
        false => finding.mend(grant(process)),
    }
}

fn enough(process: &Process) -> bool {
    [Capability::Bpf, Capability::NetAdmin].into_iter().all(|one| process.effective.has(one))
}

/// The command that gives this process what the best rung takes.
pub(super) fn grant(process: &Process) -> String {
    let reachable =
        [Capability::Bpf, Capability::NetAdmin].into_iter().all(|one| process.bounding.has(one));
    if process.user_namespace || !reachable {
        return "docker run --cap-add BPF --cap-add NET_ADMIN ...  # as root, without user \
                namespaces"
            .to_owned();
    }
    format!("setcap cap_bpf,cap_net_admin+ep {}", word(&process.program))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Status;
    use crate::recorded;

    #[test]
    fn root_has_what_it_takes() {
        let facts = recorded::bare_metal();
        let finding = capabilities(&facts.process);
        assert_eq!((finding.status, finding.mend), (Status::Ok, None));
        assert_eq!(programs(&facts.host, &facts.process, &facts.ebpf).status, Status::Ok);
    }

    #[test]
    fn a_user_gets_them_by_setcap() {
        let mut facts = recorded::bare_metal();
        facts.process.effective.0 = 0;
        facts.ebpf.xdp = Err("loading an XDP program: Operation not permitted".into());
        let finding = capabilities(&facts.process);
        assert_eq!(finding.status, Status::Warning);
        let mend = "setcap cap_bpf,cap_net_admin+ep /usr/local/bin/quiclane";
        assert_eq!(finding.mend.as_deref(), Some(mend));
        let finding = programs(&facts.host, &facts.process, &facts.ebpf);
        assert_eq!((finding.status, finding.mend.as_deref()), (Status::Warning, Some(mend)));
    }

    #[test]
    fn a_container_gets_them_from_outside() {
        let facts = recorded::container();
        let finding = capabilities(&facts.process);
        assert!(finding.found.contains("out of reach (bounding set): cap_bpf"), "{finding:?}");
        assert!(finding.mend.unwrap().starts_with("docker run --cap-add BPF"));
    }

    #[test]
    fn a_kernel_without_ebpf_cannot_be_mended_by_a_command() {
        let mut facts = recorded::bare_metal();
        facts.ebpf.reuseport = Err("this kernel has no SK_REUSEPORT programs".into());
        let finding = programs(&facts.host, &facts.process, &facts.ebpf);
        assert_eq!((finding.status, finding.mend), (Status::Warning, None));
    }
}
