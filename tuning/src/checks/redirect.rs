//! redirect judges whether moving frames to their workers' cores works on an interface, and pays.

use quiclane_ebpf::Mode;

use super::interface::{recv_queues, scope};
use super::{plural, workers, xdp};
use crate::ask::{Ask, Rung};
use crate::facts::{Interface, Process};
use crate::finding::{Finding, Status};

/// Nothing where it was not asked for. What veth does to checksums is judged with veth.
pub(super) fn check(interface: &Interface, process: &Process, ask: &Ask) -> Option<Finding> {
    if !ask.redirect {
        return None;
    }
    let id = "xdp_redirect";
    let why = "moved frames go up the network stack on the core of their worker (CPUMAP), which \
               pays where fewer receive queues than workers bring them";
    let warning = |found: String| Finding::warning(id, scope(interface), found, why);
    let off = "quiclane serve --xdp-redirect off";
    let workers = workers(process, ask);
    let native = match ask.steering {
        Some(Rung::XdpGeneric) => Err("was asked for with --steering xdp-generic".to_owned()),
        _ => xdp::possible(interface, Mode::Native),
    };
    if let Err(reason) = native {
        let found = "no frame is moved, on any interface: generic mode cannot, and this one";
        return Some(warning(format!("{found} {reason}")).mend(off));
    }
    if ask.cores.is_empty() && workers > process.cores.len() {
        let cores = plural(process.cores.len(), "core");
        let workers = plural(workers, "worker");
        let found = format!("no frame is moved: {workers} on {cores}, so none is pinned to one");
        let mend = format!("quiclane serve --workers {}", process.cores.len().max(1));
        return Some(warning(found).mend(mend));
    }
    let queues = recv_queues(interface);
    let brings = format!("{} for {}", plural(queues, "receive queue"), plural(workers, "worker"));
    if queues >= workers {
        return Some(warning(format!("{brings}: a hop more and nothing gained")).mend(off));
    }
    if !interface.link.kind.is_empty() && interface.link.kind != "veth" {
        let found = format!(
            "{brings}, but {} frames may come without checksums, and such are lost when moved",
            interface.link.kind
        );
        return Some(warning(found).mend(off));
    }
    Some(Finding::ok(id, scope(interface), brings, why))
}

/// Whether moving frames brings them to all workers here.
pub(super) fn helps(interface: &Interface, process: &Process, ask: &Ask) -> bool {
    check(interface, process, ask).is_some_and(|finding| finding.status == Status::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Channels, Facts, XdpFeatures};
    use crate::recorded;

    fn judge(facts: &Facts, ask: &Ask) -> Finding {
        let ask = Ask { redirect: true, ..ask.clone() };
        check(facts.interfaces.by_name("eth0").unwrap(), &facts.process, &ask).unwrap()
    }

    fn with_queues(now: u64) -> Facts {
        let mut facts = recorded::bare_metal();
        facts.interfaces.all[1].channels = Some(Channels { now, max: 63, combined: true });
        facts
    }

    #[test]
    fn it_pays_where_queues_are_fewer_than_workers() {
        let facts = with_queues(1);
        let eth0 = facts.interfaces.by_name("eth0").unwrap();
        assert_eq!(check(eth0, &facts.process, &Ask::default()), None, "not asked for");
        let finding = judge(&facts, &Ask::default());
        assert_eq!(finding.status, Status::Ok);
        assert_eq!(finding.found, "1 receive queue for 8 workers");
        let finding = judge(&with_queues(8), &Ask::default());
        assert_eq!(finding.status, Status::Warning);
        assert!(finding.found.contains("nothing gained"), "{}", finding.found);
        assert_eq!(finding.mend.unwrap(), "quiclane serve --xdp-redirect off");
    }

    #[test]
    fn what_cannot_be_moved_is_said() {
        let mut facts = with_queues(1);
        let finding = judge(&facts, &Ask { workers: Some(9), ..Ask::default() });
        assert!(finding.found.contains("9 workers on 8 cores"), "{}", finding.found);
        let generic = Ask { steering: Some(Rung::XdpGeneric), ..Ask::default() };
        assert!(judge(&facts, &generic).found.contains("generic mode cannot"));
        facts.interfaces.all[1].xdp = Some(XdpFeatures(0));
        let finding = judge(&facts, &Ask::default());
        assert!(finding.found.ends_with("this one has no native XDP"), "{}", finding.found);
        assert_eq!(finding.status, Status::Warning);
    }

    #[test]
    fn frames_of_virtual_devices_may_have_no_checksum() {
        let mut facts = with_queues(1);
        facts.interfaces.all[1].link.kind = "tun".into();
        let finding = judge(&facts, &Ask::default());
        assert_eq!(finding.status, Status::Warning);
        assert!(finding.found.contains("tun frames"), "{}", finding.found);
    }
}
