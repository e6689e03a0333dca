//! cores judges whether each worker has a core, and how much of it.

use super::{cpus, plural, workers};
use crate::ask::Ask;
use crate::facts::{Host, Process, write_list};
use crate::finding::{Finding, Scope};

pub(super) fn check(host: &Host, process: &Process, ask: &Ask) -> Vec<Finding> {
    let mut findings = vec![cores(host, process, ask)];
    findings.extend(isolated(host, process));
    findings.extend(quota(process, ask));
    findings
}

fn cores(host: &Host, process: &Process, ask: &Ask) -> Finding {
    let (id, scope) = ("cores", Scope::Process);
    let allowed = &process.cores;
    let workers = workers(process, ask);
    let found = format!("{} on {}", plural(workers, "worker"), cpus(allowed));
    if workers > allowed.len() {
        let why = "workers that share a core wait for one another, and none is pinned";
        let finding = Finding::warning(id, scope, found, why);
        return finding.mend(format!("quiclane serve --workers {}", allowed.len().max(1)));
    }
    let used = &allowed[..workers];
    let crowded = host.siblings.iter().any(|core| count(core, used) > 1);
    let spread = spread(host, allowed);
    if crowded && spread.len() >= workers {
        let list = write_list(&spread[..workers]);
        let found = format!("{found}: some share a core while others are idle");
        let why = "two threads of one core get about 60 % of it each";
        let finding = Finding::warning(id, scope, found, why);
        return finding.mend(format!("quiclane serve --workers {workers} --cores {list}"));
    }
    let threads = host.siblings.iter().filter(|core| count(core, allowed) > 1).count();
    let found = match threads {
        0 => found,
        _ => format!("{found} ({} have two threads)", plural(threads, "core")),
    };
    Finding::ok(id, scope, found, "each worker is pinned to a CPU of its own")
}

/// How many of `cpus` are in `core`.
fn count(core: &[usize], cpus: &[usize]) -> usize {
    cpus.iter().filter(|cpu| core.contains(cpu)).count()
}

/// One allowed CPU of each core.
fn spread(host: &Host, allowed: &[usize]) -> Vec<usize> {
    let first = |cpu: &usize| {
        let core = host.siblings.iter().find(|core| core.contains(cpu));
        core.is_none_or(|core| allowed.iter().find(|one| core.contains(one)) == Some(cpu))
    };
    allowed.iter().copied().filter(first).collect()
}

fn isolated(host: &Host, process: &Process) -> Option<Finding> {
    let isolated = &host.isolated;
    if isolated.is_empty() {
        return None;
    }
    let (id, scope) = ("isolated_cpus", Scope::Host);
    let why = "isolated CPUs have no other work, so workers on them are never interrupted";
    let found = format!("{} isolated from the scheduler", cpus(isolated));
    if isolated.iter().any(|cpu| process.cores.contains(cpu)) {
        return Some(Finding::ok(id, scope, found, why));
    }
    let list = write_list(isolated);
    let finding = Finding::warning(id, scope, format!("{found}, not used by this process"), why);
    Some(finding.mend(format!("taskset -c {list} quiclane serve --cores {list}")))
}

fn quota(process: &Process, ask: &Ask) -> Option<Finding> {
    let millicpus = process.quota_millicpus?;
    let workers = workers(process, ask);
    let (id, scope) = ("cpu_quota", Scope::Process);
    let found = format!(
        "the control group may use {}.{:02} CPUs for {}",
        millicpus / 1_000,
        millicpus % 1_000 / 10,
        plural(workers, "worker")
    );
    let why = "when the quota is used up every worker stands still for the rest of the period, up \
               to 100 ms";
    if millicpus >= 1_000 * workers as u64 {
        return Some(Finding::ok(id, scope, found, why));
    }
    let mend = format!("quiclane serve --workers {}", (millicpus / 1_000).max(1));
    Some(Finding::warning(id, scope, found, why).mend(mend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Status;
    use crate::recorded;

    fn ask(workers: usize) -> Ask {
        Ask { workers: Some(workers), ..Ask::default() }
    }

    #[test]
    fn a_worker_for_each_cpu_is_fine() {
        let facts = recorded::bare_metal();
        let finding = cores(&facts.host, &facts.process, &Ask::default());
        assert_eq!(finding.status, Status::Ok);
        assert_eq!(finding.found, "8 workers on CPUs 0-7 (4 cores have two threads)");
    }

    #[test]
    fn more_workers_than_cpus_are_not() {
        let facts = recorded::bare_metal();
        let finding = cores(&facts.host, &facts.process, &ask(9));
        assert_eq!(finding.status, Status::Warning);
        assert_eq!(finding.mend.unwrap(), "quiclane serve --workers 8");
        let nothing = cores(&Host::default(), &Process::default(), &Ask::default());
        assert_eq!(nothing.status, Status::Warning);
    }

    #[test]
    fn workers_do_not_share_a_core_while_others_are_idle() {
        let mut facts = recorded::bare_metal();
        let finding = cores(&facts.host, &facts.process, &ask(4));
        assert_eq!(finding.status, Status::Ok, "siblings are 0,4 1,5 2,6 3,7");
        facts.host.siblings = vec![vec![0, 1], vec![2, 3], vec![4, 5], vec![6, 7]];
        let finding = cores(&facts.host, &facts.process, &ask(4));
        assert_eq!(finding.status, Status::Warning);
        assert_eq!(finding.mend.unwrap(), "quiclane serve --workers 4 --cores 0,2,4,6");
        assert_eq!(cores(&facts.host, &facts.process, &ask(5)).status, Status::Ok);
    }

    #[test]
    fn isolated_cpus_want_to_be_used() {
        let mut facts = recorded::bare_metal();
        assert_eq!(isolated(&facts.host, &facts.process), None);
        facts.host.isolated = vec![2, 3];
        assert_eq!(isolated(&facts.host, &facts.process).unwrap().status, Status::Ok);
        facts.process.cores = vec![0, 1];
        let finding = isolated(&facts.host, &facts.process).unwrap();
        assert_eq!(finding.status, Status::Warning);
        assert_eq!(finding.mend.unwrap(), "taskset -c 2-3 quiclane serve --cores 2-3");
    }

    #[test]
    fn a_quota_below_the_workers_is_warned_of() {
        let facts = recorded::container();
        let finding = quota(&facts.process, &Ask::default()).unwrap();
        assert_eq!(finding.status, Status::Warning);
        assert!(finding.found.contains("1.50 CPUs for 4 workers"), "{}", finding.found);
        assert_eq!(quota(&facts.process, &ask(1)).unwrap().status, Status::Ok);
        assert_eq!(quota(&recorded::bare_metal().process, &Ask::default()), None);
    }
}
