//! limits judges open files, locked memory and local ports against what is asked for.

use crate::ask::Ask;
use crate::facts::{Host, Network, Process};
use crate::finding::{Finding, Scope};

pub(super) fn check(host: &Host, process: &Process, network: &Network, ask: &Ask) -> Vec<Finding> {
    let checks = [open_files(process, ask), locked_memory(host, process), ports(network, ask)];
    checks.into_iter().flatten().collect()
}

fn open_files(process: &Process, ask: &Ask) -> Option<Finding> {
    let limit = process.open_files?;
    let (id, scope) = ("open_files", Scope::Process);
    let why = "the load generator has a socket for each connection, a server a few for each worker";
    let needed = ask.open_files as u64;
    let found = match needed {
        0 => format!("RLIMIT_NOFILE is {}", number(limit.soft)),
        _ => format!("RLIMIT_NOFILE is {}, {needed} needed", number(limit.soft)),
    };
    if limit.soft >= needed {
        return Some(Finding::ok(id, scope, found, why));
    }
    let mend = match limit.hard >= needed {
        true => format!("ulimit -n {needed}"),
        false => format!("prlimit --pid $$ --nofile={needed}:{needed}"),
    };
    Some(Finding::problem(id, scope, found, why).mend(mend))
}

/// Locked memory is charged for eBPF before Linux 5.11 and for rings before 5.12; we use no rings
/// before 6.1.
fn locked_memory(host: &Host, process: &Process) -> Option<Finding> {
    let limit = process.locked_bytes?;
    let (id, scope) = ("locked_memory", Scope::Process);
    let found = format!("RLIMIT_MEMLOCK is {} bytes", number(limit.soft));
    if host.kernel.since(5, 11) {
        let why = "nothing of ours counts against it: eBPF is charged to the memory control group \
                   since Linux 5.11, io_uring since 5.12";
        return Some(Finding::ok(id, scope, found, why));
    }
    let why = "before Linux 5.11 eBPF programs and maps count against it";
    Some(match limit.soft >= LOCKED_BYTES_MIN {
        true => Finding::ok(id, scope, found, why),
        false => Finding::warning(id, scope, found, why).mend("ulimit -l unlimited"),
    })
}

fn ports(network: &Network, ask: &Ask) -> Option<Finding> {
    if ask.connections == 0 {
        return None;
    }
    let (first, last) = network.local_ports?;
    let (id, scope) = ("local_ports", Scope::Host);
    let ports = usize::from(last.saturating_sub(first)) + 1;
    let why = "each connection of the load generator takes a UDP port of its own";
    let found = format!("{ports} local ports ({first}-{last}), {} needed", ask.connections);
    if ask.connections <= ports {
        return Some(Finding::ok(id, scope, found, why));
    }
    if ask.connections > PORTS_MAX {
        let found = format!("{found}; one host has at most {PORTS_MAX}: load from several");
        return Some(Finding::problem(id, scope, found, why));
    }
    let mend = "sysctl -w net.ipv4.ip_local_port_range='1024 65535'";
    Some(Finding::problem(id, scope, found, why).mend(mend))
}

fn number(limit: u64) -> String {
    match limit {
        u64::MAX => "unlimited".to_owned(),
        limit => limit.to_string(),
    }
}

/// Rate tables and counters of the programs stay well below it.
const LOCKED_BYTES_MIN: u64 = 64 << 20;

/// From 1,024 to 65,535.
const PORTS_MAX: usize = 64_512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Limit;
    use crate::finding::Status;
    use crate::recorded;

    fn files(soft: u64, hard: u64, needed: usize) -> Finding {
        let open_files = Some(Limit { soft, hard });
        let ask = Ask { open_files: needed, ..Ask::default() };
        open_files_of(&Process { open_files, ..Process::default() }, &ask)
    }

    fn open_files_of(process: &Process, ask: &Ask) -> Finding {
        open_files(process, ask).unwrap()
    }

    #[test]
    fn open_files_are_a_problem_when_too_few() {
        assert_eq!(files(1_024, 4_096, 0).status, Status::Ok);
        assert_eq!(files(1_024, 4_096, 1_024).status, Status::Ok);
        assert_eq!(files(u64::MAX, u64::MAX, 1 << 40).status, Status::Ok);
        let finding = files(1_024, 4_096, 2_000);
        assert_eq!(finding.status, Status::Problem);
        assert_eq!(finding.mend.unwrap(), "ulimit -n 2000");
        let finding = files(1_024, 4_096, 5_000);
        assert_eq!(finding.mend.unwrap(), "prlimit --pid $$ --nofile=5000:5000");
    }

    #[test]
    fn locked_memory_matters_to_old_kernels_only() {
        let locked = |release: &str, soft| {
            let facts = recorded::bare_metal_with(|tree| {
                tree.write("proc/sys/kernel/osrelease", release);
            });
            let locked_bytes = Some(Limit { soft, hard: u64::MAX });
            locked_memory(&facts.host, &Process { locked_bytes, ..facts.process }).unwrap().status
        };
        assert_eq!(locked("6.18.0", 0), Status::Ok);
        assert_eq!(locked("5.10.0", 65_536), Status::Warning);
        assert_eq!(locked("5.10.0", u64::MAX), Status::Ok);
    }

    #[test]
    fn ports_are_a_problem_when_too_few() {
        let facts = recorded::bare_metal();
        let judge = |connections| ports(&facts.network, &Ask { connections, ..Ask::default() });
        assert_eq!(judge(0), None);
        assert_eq!(judge(28_232).unwrap().status, Status::Ok);
        let finding = judge(28_233).unwrap();
        assert_eq!(finding.status, Status::Problem);
        assert!(finding.mend.unwrap().contains("ip_local_port_range"));
        let finding = judge(100_000).unwrap();
        assert_eq!((finding.status, finding.mend), (Status::Problem, None));
    }
}
