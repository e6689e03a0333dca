//! machine judges what the hardware, real or virtual, does to speed and to figures.

use crate::facts::{Host, write_list};
use crate::finding::{Finding, Scope};

pub(super) fn check(host: &Host) -> Vec<Finding> {
    [Some(virtualization(host)), governor(host)].into_iter().flatten().collect()
}

fn virtualization(host: &Host) -> Finding {
    let machine = host.machine.as_deref().unwrap_or("unnamed machine");
    let permille = host.stolen_permille;
    let stolen = format!("{}.{} %", permille / 10, permille % 10);
    let (id, scope) = ("virtualization", Scope::Host);
    if !host.virtual_machine && permille == 0 {
        let why = "no hypervisor shares these CPUs";
        return Finding::ok(id, scope, format!("{machine}, no virtual machine"), why);
    }
    let found = format!("virtual machine ({machine}), {stolen} of CPU time stolen since boot");
    if permille < STOLEN_PERMILLE_MAX {
        let why = "absolute figures of shared CPUs drift; compare only within one run";
        return Finding::ok(id, scope, found, why);
    }
    let why = "workers stand still while the hypervisor runs others: queues overflow and tail \
               latencies are the host's, not quiclane's";
    Finding::warning(id, scope, found, why)
}

fn governor(host: &Host) -> Option<Finding> {
    let (id, scope) = ("governor", Scope::Host);
    let why = "a CPU that clocks down between packets answers late and makes figures vary";
    let slow: Vec<usize> = host
        .governors
        .iter()
        .filter(|(governor, _)| *governor != "performance")
        .flat_map(|(_, cpus)| cpus.iter().copied())
        .collect();
    let names: Vec<String> = host
        .governors
        .iter()
        .map(|(governor, cpus)| format!("{governor} on CPUs {}", write_list(cpus)))
        .collect();
    if names.is_empty() {
        return None;
    }
    let found = format!("governor {}", names.join(", "));
    if slow.is_empty() {
        return Some(Finding::ok(id, scope, found, why));
    }
    let mend = format!("cpupower -c {} frequency-set -g performance", write_list(&slow),);
    Some(Finding::warning(id, scope, found, why).mend(mend))
}

/// The share above which a measurement is void.
const STOLEN_PERMILLE_MAX: u64 = 20;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Status;
    use crate::recorded;

    #[test]
    fn bare_metal_is_told_from_a_virtual_machine() {
        let facts = recorded::bare_metal();
        let finding = virtualization(&facts.host);
        assert!(finding.found.contains("no virtual machine"), "{}", finding.found);
        let facts = recorded::container();
        let finding = virtualization(&facts.host);
        assert_eq!(finding.status, Status::Ok);
        assert!(finding.found.starts_with("virtual machine"), "{}", finding.found);
    }

    #[test]
    fn much_stolen_time_is_warned_of() {
        let host = Host { virtual_machine: true, stolen_permille: 31, ..Host::default() };
        let finding = virtualization(&host);
        assert_eq!(finding.status, Status::Warning);
        assert!(finding.found.contains("3.1 %"), "{}", finding.found);
    }

    #[test]
    fn governors_that_clock_down_are_warned_of() {
        let mut facts = recorded::bare_metal();
        assert_eq!(governor(&facts.host).unwrap().status, Status::Ok);
        facts.host.governors.insert("powersave".into(), vec![2, 3]);
        let finding = governor(&facts.host).unwrap();
        assert_eq!(finding.status, Status::Warning);
        assert!(finding.mend.unwrap().starts_with("cpupower -c 2-3 frequency-set"));
        assert_eq!(governor(&Host::default()), None, "no frequency scaling here");
    }
}
