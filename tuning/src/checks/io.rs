//! io judges how datagrams enter and leave: io_uring, and trains by GSO and GRO.

use super::plural;
use crate::ask::Ask;
use crate::facts::{Host, Interfaces, Journey, Trials};
use crate::finding::{Finding, Scope};

/// What `--io auto` would take.
pub(super) fn backend(trials: &Trials) -> &'static str {
    match trials.uring {
        Ok(()) => "io_uring",
        Err(_) => "epoll",
    }
}

pub(super) fn check(
    host: &Host,
    trials: &Trials,
    interfaces: &Interfaces,
    ask: &Ask,
) -> Vec<Finding> {
    let mut findings = vec![uring(host, trials, ask)];
    match &trials.train {
        _ if interfaces.by_name("lo").is_some_and(|lo| !lo.link.up) => {
            findings.push(untried("loopback is down").mend("ip link set dev lo up"));
        }
        Ok(journey) => findings.extend([gso(journey), gro(journey)]),
        Err(error) => findings.push(untried(error)),
    }
    findings
}

fn uring(host: &Host, trials: &Trials, ask: &Ask) -> Finding {
    let (id, scope) = ("io", Scope::Process);
    let why = "one system call a turn sends, receives and waits; epoll takes several";
    let found = match (&trials.uring, &trials.rings) {
        (Ok(()), Ok(rings)) => {
            let found = format!("io_uring: {} as the workers use them", plural(*rings, "ring"));
            return Finding::ok(id, scope, found, why);
        }
        (Ok(()), Err(error)) => format!("epoll for some workers: {error}"),
        (Err(error), _) => format!("epoll: {error}"),
    };
    let finding = match ask.uring {
        true => Finding::problem(id, scope, found, why),
        false => Finding::warning(id, scope, found, why),
    };
    match host.uring_disabled {
        Some(1 | 2) => finding.mend("sysctl -w kernel.io_uring_disabled=0"),
        _ => finding,
    }
}

fn gso(journey: &Journey) -> Finding {
    let (id, scope) = ("gso", Scope::Process);
    let why = "a train of datagrams leaves in one system call: the largest lever of a sender";
    if !journey.intact {
        let found = "a train over loopback did not arrive as it was sent: the kernel cuts or \
                     merges datagrams wrongly, or a firewall drops them";
        let finding = Finding::problem(id, scope, found, why);
        return finding.mend("uname -a; nft list ruleset  # and report both");
    }
    match journey.left_whole {
        true => Finding::ok(id, scope, "a train over loopback left whole and arrived intact", why),
        false => {
            let found = "the kernel takes no trains (UDP_SEGMENT): datagrams are sent one by one";
            Finding::warning(id, scope, found, why)
        }
    }
}

fn gro(journey: &Journey) -> Finding {
    let (id, scope) = ("gro", Scope::Process);
    let why = "a train of datagrams arrives in one system call: the largest lever of a receiver";
    match journey.arrived_whole {
        true => Finding::ok(id, scope, "a train over loopback arrived whole", why),
        false => {
            let found = "a train over loopback arrived in pieces (UDP_GRO)";
            Finding::warning(id, scope, found, why)
        }
    }
}

fn untried(error: &str) -> Finding {
    let why = "trains of datagrams are tried over loopback";
    Finding::warning("gso", Scope::Process, format!("cannot be tried: {error}"), why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Status;
    use crate::recorded;

    #[test]
    fn io_uring_refused_is_a_problem_only_if_asked_for() {
        let mut facts = recorded::container();
        let finding = uring(&facts.host, &facts.trials, &Ask::default());
        assert_eq!((finding.status, finding.mend), (Status::Warning, None));
        assert!(finding.found.starts_with("epoll: io_uring_setup"), "{}", finding.found);
        facts.host.uring_disabled = Some(2);
        let ask = Ask { uring: true, ..Ask::default() };
        let finding = uring(&facts.host, &facts.trials, &ask);
        assert_eq!(finding.status, Status::Problem);
        assert_eq!(finding.mend.unwrap(), "sysctl -w kernel.io_uring_disabled=0");
        assert_eq!(backend(&facts.trials), "epoll");
        let facts = recorded::bare_metal();
        assert_eq!(uring(&facts.host, &facts.trials, &ask).status, Status::Ok);
        assert_eq!(backend(&facts.trials), "io_uring");
    }

    #[test]
    fn too_few_rings_leave_some_workers_with_epoll() {
        let mut facts = recorded::bare_metal();
        facts.trials.rings = Err("3 of 8 rings could be had: Cannot allocate memory".into());
        let finding = uring(&facts.host, &facts.trials, &Ask::default());
        assert_eq!(finding.status, Status::Warning);
        assert!(finding.found.contains("3 of 8"), "{}", finding.found);
    }

    #[test]
    fn trains_are_judged_by_how_they_travelled() {
        let whole = Journey { left_whole: true, arrived_whole: true, intact: true };
        assert_eq!((gso(&whole).status, gro(&whole).status), (Status::Ok, Status::Ok));
        let cut = Journey { intact: true, ..Journey::default() };
        assert_eq!((gso(&cut).status, gro(&cut).status), (Status::Warning, Status::Warning));
        assert_eq!(gso(&Journey::default()).status, Status::Problem);
    }

    #[test]
    fn a_namespace_whose_loopback_is_down_is_recognised() {
        let mut facts = recorded::bare_metal();
        // Trains are sent all the same, and get lost.
        facts.trials.train = Ok(Journey::default());
        facts.interfaces.all[0].link.up = false;
        let last = |facts: &crate::facts::Facts| {
            check(&facts.host, &facts.trials, &facts.interfaces, &Ask::default()).pop().unwrap()
        };
        let finding = last(&facts);
        assert_eq!(finding.status, Status::Warning);
        assert_eq!(finding.mend.unwrap(), "ip link set dev lo up");
        facts.interfaces.all[0].link.up = true;
        facts.trials.train = Err("no send slot is free".into());
        assert!(last(&facts).found.contains("no send slot"));
    }
}
