//! limits judges open files, locked memory and local ports against what is asked for.

use super::{plural, workers};
use crate::ask::Ask;
use crate::facts::{Facts, Host, Network, Process, Trials};
use crate::finding::{Finding, Scope};

pub(super) fn check(facts: &Facts, ask: &Ask) -> Vec<Finding> {
    let Facts { host, process, network, interfaces, trials, .. } = facts;
    let mut findings = open_files(process, interfaces.targets.names.len(), ask);
    findings.extend(locked_memory(host, process, trials, ask));
    findings.extend(ports(network, ask));
    findings
}

/// For the load generator, if it is to run, and for a server.
fn open_files(process: &Process, interfaces: usize, ask: &Ask) -> Vec<Finding> {
    let load = (ask.load_files > 0).then(|| {
        let who = format!("the load generator with {}", plural(ask.connections, "connection"));
        let why = "each connection of the load generator has a socket of its own";
        files_of(process, &who, ask.load_files, why)
    });
    let workers = workers(process, ask);
    // Without an address a server listens on one.
    let addresses = ask.listen.len().max(1);
    let needed = workers * (FILES_OF_WORKER + addresses) + FILES_BESIDE_WORKERS + interfaces;
    let address = if addresses == 1 { "1 address" } else { &format!("{addresses} addresses") };
    let who = format!("a server with {} and {address}", plural(workers, "worker"));
    let why = "each worker has a ring, a way to be woken, and a socket for each address; eBPF, \
               metrics and the like take some 30, files that hq-interop serves come on top";
    [load, Some(files_of(process, &who, needed, why))].into_iter().flatten().flatten().collect()
}

/// Nothing if the limit is not known.
fn files_of(process: &Process, who: &str, needed: usize, why: &str) -> Option<Finding> {
    let limit = process.open_files?;
    let (id, scope, needed) = ("open_files", Scope::Process, needed as u64);
    let found = format!("RLIMIT_NOFILE is {}, {who} needs {needed}", number(limit.soft));
    if limit.soft >= needed {
        return Some(Finding::ok(id, scope, found, why));
    }
    let mend = match limit.hard >= needed {
        true => format!("ulimit -n {needed}"),
        false => format!("prlimit --pid $$ --nofile={needed}:{needed}"),
    };
    Some(Finding::problem(id, scope, found, why).mend(mend))
}

/// Whether rings count depends on the kernel (6.18 charges them, unless CAP_IPC_LOCK) and on what
/// else the user runs: so it is tried, and only judged when the trial failed.
fn locked_memory(host: &Host, process: &Process, trials: &Trials, ask: &Ask) -> Option<Finding> {
    let limit = process.locked_bytes?;
    let (id, scope) = ("locked_memory", Scope::Process);
    let found = format!("RLIMIT_MEMLOCK is {} bytes", number(limit.soft));
    let needed = RING_BYTES * workers(process, ask) as u64;
    let refused = trials.uring.is_err() || trials.rings.is_err();
    if refused && limit.soft < needed {
        let why = "the kernel charges each worker's ring to the user's locked memory, and refused";
        let found = format!("{found}, the workers' rings take about {needed}");
        let mend = match limit.hard >= needed {
            true => format!("ulimit -l {}", needed / 1_024),
            false => format!("prlimit --pid $$ --memlock={needed}:{needed}"),
        };
        // Workers without a ring take epoll, unless they may not.
        return Some(match ask.uring {
            true => Finding::problem(id, scope, found, why).mend(mend),
            false => Finding::warning(id, scope, found, why).mend(mend),
        });
    }
    if host.kernel.since(5, 11) {
        let why = "rings of unprivileged users count against it, about 20 KiB a worker; eBPF does \
                   not since Linux 5.11";
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

/// Measured on Linux 6.18: 20 KiB a ring with pages of 4 KiB; the rest is room for other kernels.
const RING_BYTES: u64 = 32 << 10;

/// A ring, or what epoll waits on, and an eventfd.
const FILES_OF_WORKER: usize = 2;

/// Counted: 3 standard streams, 2 for signals, the epoch's lock, metrics and who asks for them, 15
/// maps, 3 programs; the rest is room for what the process was started with. Each interface has one
/// more.
const FILES_BESIDE_WORKERS: usize = 32;

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

    fn files(soft: u64, hard: u64, load_files: usize) -> Finding {
        let open_files = Some(Limit { soft, hard });
        let ask = Ask { load_files, connections: load_files, ..Ask::default() };
        super::open_files(&Process { open_files, ..Process::default() }, 0, &ask).remove(0)
    }

    #[test]
    fn open_files_of_the_load_generator_are_a_problem_when_too_few() {
        assert_eq!(files(1_024, 4_096, 1_024).status, Status::Ok);
        assert_eq!(files(u64::MAX, u64::MAX, 1 << 40).status, Status::Ok);
        let finding = files(1_024, 4_096, 2_000);
        assert_eq!(finding.status, Status::Problem);
        let found = "RLIMIT_NOFILE is 1024, the load generator with 2000 connections needs 2000";
        assert_eq!(finding.found, found);
        assert_eq!(finding.mend.unwrap(), "ulimit -n 2000");
        let finding = files(1_024, 4_096, 5_000);
        assert_eq!(finding.mend.unwrap(), "prlimit --pid $$ --nofile=5000:5000");
    }

    #[test]
    fn open_files_of_a_server_grow_with_workers_addresses_and_interfaces() {
        let judge = |workers, addresses: u16, interfaces| {
            let listen = (1..=addresses).map(|port| ([127, 0, 0, 1], port).into()).collect();
            let ask = Ask { workers: Some(workers), listen, ..Ask::default() };
            let open_files = Some(Limit { soft: 1_024, hard: 4_096 });
            let process = Process { open_files, ..Process::default() };
            let [finding] = super::open_files(&process, interfaces, &ask).try_into().unwrap();
            finding
        };
        let finding = judge(2, 0, 0);
        let found = "RLIMIT_NOFILE is 1024, a server with 2 workers and 1 address needs 38";
        assert_eq!((finding.status, finding.found.as_str()), (Status::Ok, found));
        assert!(judge(2, 1, 3).found.ends_with("1 address needs 41"));
        assert!(judge(4, 2, 1).found.ends_with("2 addresses needs 49"));
        let finding = judge(255, 2, 1);
        assert_eq!(finding.status, Status::Problem);
        assert_eq!(finding.mend.unwrap(), "ulimit -n 1053");
    }

    #[test]
    fn locked_memory_counts_ebpf_on_old_kernels_only() {
        let locked = |release: &str, soft| {
            let facts = recorded::bare_metal_with(|tree| {
                tree.write("proc/sys/kernel/osrelease", release);
            });
            let locked_bytes = Some(Limit { soft, hard: u64::MAX });
            let process = Process { locked_bytes, ..facts.process };
            let ask = Ask::default();
            locked_memory(&facts.host, &process, &facts.trials, &ask).unwrap().status
        };
        assert_eq!(locked("6.18.0", 0), Status::Ok);
        assert_eq!(locked("5.10.0", 65_536), Status::Warning);
        assert_eq!(locked("5.10.0", u64::MAX), Status::Ok);
    }

    #[test]
    fn locked_memory_is_judged_by_the_rings_it_refused() {
        let mut facts = recorded::bare_metal();
        facts.process.locked_bytes = Some(Limit { soft: 65_536, hard: 65_536 });
        let judge = |facts: &Facts, uring| {
            let Facts { host, process, trials, .. } = facts;
            locked_memory(host, process, trials, &Ask { uring, ..Ask::default() }).unwrap()
        };
        assert_eq!(judge(&facts, true).status, Status::Ok, "the rings could be had");
        facts.trials.rings = Err("3 of 8 rings could be had".into());
        let finding = judge(&facts, true);
        assert_eq!(finding.status, Status::Problem);
        assert_eq!(finding.mend.unwrap(), "prlimit --pid $$ --memlock=262144:262144");
        facts.process.locked_bytes = Some(Limit { soft: 0, hard: u64::MAX });
        facts.trials.uring = Err("refused".into());
        let finding = judge(&facts, false);
        assert_eq!(finding.status, Status::Warning, "epoll takes over");
        assert_eq!(finding.mend.unwrap(), "ulimit -l 256");
        facts.process.locked_bytes = Some(Limit { soft: u64::MAX, hard: u64::MAX });
        assert_eq!(judge(&facts, false).status, Status::Ok, "something else refused them");
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
