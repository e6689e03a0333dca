//! checks judge facts: each is a pure function from what is known to what is found.

use crate::ask::Ask;
use crate::facts::{Facts, Host, Interfaces, write_list};
use crate::finding::{Finding, Report, Scope, Status};

mod buffers;
mod conntrack;
mod cores;
mod interface;
mod io;
mod kernel;
mod limits;
mod listen;
mod machine;
mod privileges;
mod redirect;
mod steering;
mod veth;
mod xdp;

/// Judges everything, in the order in which a person wants to read it.
pub(crate) fn judge(facts: &Facts, ask: &Ask) -> Report {
    let Facts { host, process, network, interfaces, ebpf: _, trials, unread: _ } = facts;
    let ladder = steering::Ladder::climb(facts, ask);
    let backend = io::backend(trials);
    let mut findings = Vec::new();
    findings.extend(kernel::check(host, interfaces));
    findings.extend(machine::check(host));
    findings.extend(cores::check(host, process, ask));
    findings.extend(conntrack::check(network, ask));
    findings.extend(privileges::check(facts, ask));
    findings.push(ladder.check(facts, ask));
    findings.extend(io::check(host, trials, interfaces, ask));
    findings.extend(buffers::check(network, trials));
    findings.extend(limits::check(facts, ask));
    findings.extend(listen::check(trials));
    findings.extend(interface::missing(interfaces));
    for interface in interfaces.present() {
        findings.extend(interface::check(interface, process, host, ask));
        if ask.may_take_xdp() {
            let is_target = interfaces.targets.names.contains(&interface.link.name);
            findings.extend(xdp::check(interface, ask.steering.filter(|_| is_target)));
            if is_target {
                findings.extend(redirect::check(interface, process, ask));
            }
            findings.extend(veth::check(interface, interfaces, ask.redirect && is_target));
        }
    }
    findings.extend(unread(facts));
    Report::new(findings, format!("steering {}, io {backend}", ladder.choice()))
}

/// What is known to be wrong with this kernel.
pub(crate) fn kernel_defect(host: &Host, interfaces: &Interfaces) -> Option<Finding> {
    Some(kernel::version(host, interfaces)).filter(|finding| finding.status > Status::Ok)
}

/// What was not found out is said, not guessed.
fn unread(facts: &Facts) -> Option<Finding> {
    let list = |unread: &crate::facts::Unread| format!("{} ({})", unread.fact, unread.why);
    let facts: Vec<String> = facts.unread.iter().map(list).collect();
    (!facts.is_empty()).then(|| {
        let why = "checks that need them are left out or say less";
        let found = format!("could not be read: {}", facts.join(", "));
        Finding::warning("unread", Scope::Process, found, why).mend("sudo quiclane doctor")
    })
}

/// How many workers there will be.
fn workers(process: &crate::facts::Process, ask: &Ask) -> usize {
    ask.workers_on(&process.cores)
}

/// The CPUs that the workers run on: those asked for, one each, or all that there are.
fn cpus_used<'c>(process: &'c crate::facts::Process, ask: &'c Ask) -> &'c [usize] {
    match ask.cores.is_empty() {
        true => process.cores.get(..workers(process, ask)).unwrap_or(&process.cores),
        false => &ask.cores,
    }
}

/// `1 core`, `2 cores`.
fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// `CPU 0`, `CPUs 0-3`.
fn cpus(numbers: &[usize]) -> String {
    let mut numbers = numbers.to_vec();
    numbers.sort_unstable();
    format!("CPU{} {}", if numbers.len() == 1 { "" } else { "s" }, write_list(&numbers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Unread;
    use crate::recorded;

    fn worse(report: &Report) -> Vec<(&'static str, Status)> {
        let worse = report.checks.iter().filter(|finding| finding.status > Status::Ok);
        worse.map(|finding| (finding.id, finding.status)).collect()
    }

    #[test]
    fn bare_metal_has_nothing_to_mend() {
        let report = judge(&recorded::bare_metal(), &Ask::default());
        assert_eq!(worse(&report), []);
        assert_eq!(report.choice, "steering xdp (native on eth0), io io_uring");
        assert!(report.checks.is_sorted_by_key(|finding| finding.scope.clone()));
    }

    #[test]
    fn a_container_is_told_what_it_lacks_and_is_no_problem() {
        let report = judge(&recorded::container(), &Ask::default());
        assert!(report.ok, "{report:?}");
        let ids: Vec<_> = worse(&report).into_iter().map(|(id, _)| id).collect();
        let expected = ["cpu_quota", "capabilities", "ebpf", "steering", "io", "socket_buffers"];
        assert!(expected.iter().all(|id| ids.contains(id)), "{ids:?}");
        assert_eq!(report.choice, "steering cbpf, io epoll");
    }

    #[test]
    fn a_broken_kernel_is_a_problem() {
        let facts = recorded::bare_metal_with(|tree| {
            tree.write("proc/sys/kernel/osrelease", "7.0.3");
        });
        let report = judge(&facts, &Ask::default());
        assert_eq!(worse(&report), [("kernel", Status::Problem)]);
        assert!(!report.ok);
    }

    #[test]
    fn whatever_is_wrong_says_why_and_never_leaves_a_field_empty() {
        for facts in [recorded::bare_metal(), recorded::container(), recorded::veth_host()] {
            for finding in judge(&facts, &Ask::default()).checks {
                assert!(!finding.found.is_empty() && !finding.why.is_empty(), "{finding:?}");
                assert!(finding.status > Status::Ok || finding.mend.is_none(), "{finding:?}");
            }
        }
    }

    #[test]
    fn what_could_not_be_read_is_listed() {
        let mut facts = recorded::bare_metal();
        let fact = "names of the attached XDP programs".to_owned();
        facts.unread.push(Unread { fact, why: "not permitted".into() });
        let report = judge(&facts, &Ask::default());
        assert_eq!(worse(&report), [("unread", Status::Warning)]);
    }
}
