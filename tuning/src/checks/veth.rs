//! veth judges the traps of virtual cables: what XDP moves gets lost there in silence.

use super::interface::scope;
use crate::facts::{Interface, Interfaces, Peer};
use crate::finding::Finding;
use crate::shell::word;

/// `moves`: XDP is to move this interface's frames to their workers' cores.
pub(super) fn check(interface: &Interface, interfaces: &Interfaces, moves: bool) -> Vec<Finding> {
    if interface.link.kind != "veth" {
        return Vec::new();
    }
    let peer = match interface.link.peer {
        Some(Peer::Here(index)) => interfaces.by_index(index),
        Some(Peer::Elsewhere) | None => None,
    };
    let Some(peer) = peer else {
        return vec![hidden(interface, moves)];
    };
    let checks = [checksum(interface, peer, moves), queues(interface, peer)];
    checks.into_iter().flatten().collect()
}

const WHY_CHECKSUM: &str = "a frame whose sender leaves its checksum unfinished is dropped as \
                            damaged when --xdp-redirect cpu moves it";

fn hidden(interface: &Interface, moves: bool) -> Finding {
    let id = "veth_peer";
    if !moves {
        let found = "the other end is in another network namespace; no frame is to be moved";
        return Finding::ok(id, scope(interface), found, WHY_CHECKSUM);
    }
    let found = "the other end is in another network namespace: its checksum offload is not known \
                 here";
    let mend = "ip netns exec NAMESPACE ethtool -K INTERFACE tx off  # at the other end";
    Finding::warning(id, scope(interface), found, WHY_CHECKSUM).mend(mend)
}

/// In silence every frame is lost: no mere warning, if they are to be moved.
fn checksum(interface: &Interface, peer: &Interface, moves: bool) -> Option<Finding> {
    let offloads = peer.offloads?;
    let (id, name) = ("veth_checksum", &peer.link.name);
    if !offloads.send_checksum {
        let found = format!("{name}, the other end, completes checksums");
        return Some(Finding::ok(id, scope(interface), found, WHY_CHECKSUM));
    }
    let found = format!("{name}, the other end, leaves checksums to the receiver");
    if !moves {
        let found = format!("{found}; no frame is to be moved");
        return Some(Finding::ok(id, scope(interface), found, WHY_CHECKSUM));
    }
    let mend = format!("ethtool -K {} tx off", word(name));
    Some(Finding::problem(id, scope(interface), found, WHY_CHECKSUM).mend(mend))
}

fn queues(interface: &Interface, peer: &Interface) -> Option<Finding> {
    let recv = interface.channels.map_or(interface.device.recv_queues as u64, |now| now.now);
    let send = peer.channels.map_or_else(|| u64::from(peer.link.send_queues), |now| now.now);
    if recv == 0 || send == 0 {
        return None;
    }
    let id = "veth_queues";
    let found = format!("{recv} to receive, {send} to send at {}, the other end", peer.link.name);
    let why = "native XDP on veth wants as many receive queues as the other end has send queues";
    if recv >= send {
        return Some(Finding::ok(id, scope(interface), found, why));
    }
    let mend = format!("ethtool -L {} rx {send}", word(&interface.link.name));
    Some(Finding::warning(id, scope(interface), found, why).mend(mend))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Channels, Facts};
    use crate::finding::Status;
    use crate::recorded;

    fn judge(facts: &Facts) -> Vec<Finding> {
        check(facts.interfaces.by_name("veth0").unwrap(), &facts.interfaces, true)
    }

    fn peer(facts: &mut Facts) -> &mut Interface {
        facts.interfaces.all.iter_mut().find(|one| one.link.name == "veth1").unwrap()
    }

    #[test]
    fn every_trap_of_a_fresh_pair_is_named() {
        let facts = recorded::veth_host();
        let findings = judge(&facts);
        let seen: Vec<_> = findings.iter().map(|one| (one.id, one.status)).collect();
        let expected = [("veth_checksum", Status::Problem), ("veth_queues", Status::Ok)];
        assert_eq!(seen, expected);
        assert_eq!(findings[0].mend.as_deref(), Some("ethtool -K veth1 tx off"));
        let veth = facts.interfaces.by_name("veth0").unwrap();
        let still = check(veth, &facts.interfaces, false);
        assert_eq!((still[0].id, still[0].status), ("veth_checksum", Status::Ok));
    }

    #[test]
    fn a_prepared_pair_is_fine() {
        let mut facts = recorded::veth_host();
        let end = peer(&mut facts);
        end.offloads.as_mut().unwrap().send_checksum = false;
        assert!(judge(&facts).iter().all(|finding| finding.status == Status::Ok));
    }

    #[test]
    fn too_few_receive_queues_are_named() {
        let mut facts = recorded::veth_host();
        peer(&mut facts).channels = Some(Channels { now: 4, max: 4, combined: false });
        let findings = judge(&facts);
        assert_eq!(findings[1].mend.as_deref(), Some("ethtool -L veth0 rx 4"));
    }

    #[test]
    fn what_is_in_another_namespace_is_not_guessed() {
        let mut facts = recorded::veth_host();
        let named = |one: &&mut Interface| one.link.name == "veth0";
        let veth = facts.interfaces.all.iter_mut().find(named).unwrap();
        veth.link.peer = Some(Peer::Elsewhere);
        let findings = judge(&facts);
        assert_eq!((findings.len(), findings[0].id), (1, "veth_peer"));
        assert_eq!(findings[0].status, Status::Warning);
        let veth = facts.interfaces.by_name("veth0").unwrap();
        assert_eq!(check(veth, &facts.interfaces, false)[0].status, Status::Ok);
        let eth = recorded::bare_metal();
        let eth = check(eth.interfaces.by_name("eth0").unwrap(), &eth.interfaces, true);
        assert!(eth.is_empty());
    }
}
