//! cores judges whether each worker has a core, and how much of it.

use super::{cpus, cpus_used, plural, workers};
use crate::ask::{Ask, WORKERS_MAX};
use crate::facts::{Host, Process, write_list};
use crate::finding::{Finding, Scope};

pub(super) fn check(host: &Host, process: &Process, ask: &Ask) -> Vec<Finding> {
    let mut findings = vec![too_many(process, ask).unwrap_or_else(|| cores(host, process, ask))];
    findings.extend(isolated(host, process));
    findings.extend(quota(process, ask));
    findings
}

/// What no server starts with.
fn too_many(process: &Process, ask: &Ask) -> Option<Finding> {
    let (id, scope) = ("cores", Scope::Process);
    let allowed = &process.cores;
    let workers = workers(process, ask);
    let here = allowed.len().clamp(1, WORKERS_MAX);
    if workers > WORKERS_MAX {
        let found = format!("{workers} workers: an engine has at most {WORKERS_MAX}");
        let why = "one byte of the connection ID names the worker; the server does not start";
        let mend = format!("quiclane serve --workers {here}");
        return Some(Finding::problem(id, scope, found, why).mend(mend));
    }
    let why = "each worker is pinned to the core that it is given; the server does not start";
    if !ask.cores.is_empty() && ask.cores.len() != workers {
        let cores = plural(ask.cores.len(), "core");
        let found = format!("{cores} ({}) for {}", list(&ask.cores), plural(workers, "worker"));
        let mend =
            format!("quiclane serve --workers {} --cores {}", ask.cores.len(), list(&ask.cores));
        return Some(Finding::problem(id, scope, found, why).mend(mend));
    }
    let barred: Vec<usize> =
        ask.cores.iter().copied().filter(|core| !allowed.contains(core)).collect();
    if barred.is_empty() {
        return None;
    }
    let found = format!("this process may use {}, not {}", cpus(allowed), cpus(&barred));
    let mend = format!("quiclane serve --workers {}", workers.min(here));
    Some(Finding::problem(id, scope, found, why).mend(mend))
}

/// Cores in the order in which they were given.
fn list(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn cores(host: &Host, process: &Process, ask: &Ask) -> Finding {
    let (id, scope) = ("cores", Scope::Process);
    let allowed = &process.cores;
    let workers = workers(process, ask);
    let used = cpus_used(process, ask);
    let found = format!("{} on {}", plural(workers, "worker"), cpus(used));
    if workers > used.len() {
        let why = "workers that share a core wait for one another, and none is pinned";
        let finding = Finding::warning(id, scope, found, why);
        return finding.mend(format!("quiclane serve --workers {}", allowed.len().max(1)));
    }
    let crowded = host.siblings.iter().any(|core| count(core, used) > 1);
    let spread = spread(host, allowed);
    if crowded && spread.len() >= workers {
        let list = write_list(&spread[..workers]);
        let found = format!("{found}: some share a core while others are idle");
        let why = "two threads of one core get about 60 % of it each";
        let finding = Finding::warning(id, scope, found, why);
        return finding.mend(format!("quiclane serve --workers {workers} --cores {list}"));
    }
    let seen = if ask.cores.is_empty() { allowed } else { used };
    let threads = host.siblings.iter().filter(|core| count(core, seen) > 1).count();
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
        let facts_of = |workers| {
            let all = check(&facts.host, &facts.process, &ask(workers));
            (all[0].status, all[0].found.clone(), all[0].mend.clone().unwrap_or_default())
        };
        assert_eq!(facts_of(255).0, Status::Warning);
        let (status, found, mend) = facts_of(256);
        assert_eq!(status, Status::Problem);
        assert_eq!(found, "256 workers: an engine has at most 255");
        assert_eq!(mend, "quiclane serve --workers 8");
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
    fn cores_that_were_asked_for_are_judged_as_the_server_does() {
        let facts = recorded::bare_metal();
        let judge = |workers, cores: &[usize]| {
            let ask = Ask { workers, cores: cores.to_vec(), ..Ask::default() };
            check(&facts.host, &facts.process, &ask).remove(0)
        };
        let finding = judge(None, &[4, 1]);
        assert_eq!((finding.status, finding.found.as_str()), (Status::Ok, "2 workers on CPUs 1,4"));
        let finding = judge(Some(2), &[0, 4]);
        assert_eq!(finding.status, Status::Warning, "one core's threads: {finding:?}");
        let finding = judge(Some(3), &[0, 1]);
        assert_eq!(finding.status, Status::Problem);
        assert_eq!(finding.found, "2 cores (0,1) for 3 workers");
        assert_eq!(finding.mend.unwrap(), "quiclane serve --workers 2 --cores 0,1");
        let finding = judge(None, &[7, 8]);
        assert_eq!(finding.status, Status::Problem);
        assert_eq!(finding.found, "this process may use CPUs 0-7, not CPU 8");
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
