//! conntrack judges what the kernel does with packets before they reach a socket.

use crate::ask::Ask;
use crate::facts::Network;
use crate::finding::{Finding, Scope};

pub(super) fn check(network: &Network, ask: &Ask) -> Vec<Finding> {
    [Some(conntrack(network, ask)), backlog(network)].into_iter().flatten().collect()
}

fn conntrack(network: &Network, ask: &Ask) -> Finding {
    let (id, scope) = ("conntrack", Scope::Host);
    let why = "each address and port of a peer takes an entry; a full table drops new ones, and \
               every packet pays for the lookup";
    let Some(table) = network.conntrack else {
        return Finding::ok(id, scope, "connection tracking is not loaded", why);
    };
    let found = format!("{} of {} entries in use", table.entries, table.entries_max);
    let wanted = table.entries.saturating_add(ask.connections as u64);
    if ask.connections > 0 && wanted > table.entries_max {
        let found = format!("{found}, {} more connections asked for", ask.connections);
        let finding = Finding::problem(id, scope, found, why);
        return finding.mend(format!("sysctl -w net.netfilter.nf_conntrack_max={}", 2 * wanted));
    }
    if table.entries == 0 {
        return Finding::ok(id, scope, format!("loaded, no flow is tracked: {found}"), why);
    }
    let port = ask.listen.iter().map(|address| address.port()).find(|port| *port != 0);
    let port = port.unwrap_or(DEFAULT_PORT);
    let mend = format!(
        "nft 'table inet quiclane {{ chain in {{ type filter hook prerouting priority raw; udp \
         dport {port} notrack; }}; chain out {{ type filter hook output priority raw; udp sport \
         {port} notrack; }}; }}'"
    );
    Finding::warning(id, scope, found, why).mend(mend)
}

fn backlog(network: &Network) -> Option<Finding> {
    let max = network.backlog_max?;
    let (id, scope) = ("backlog", Scope::Host);
    let why =
        "packets of loopback, veth and RPS wait in a queue per CPU; what does not fit is lost";
    let found = format!("{} packets dropped since boot, room for {max}", network.backlog_drops);
    if network.backlog_drops == 0 {
        return Some(Finding::ok(id, scope, found, why));
    }
    let mend = format!("sysctl -w net.core.netdev_max_backlog={}", max.saturating_mul(4));
    Some(Finding::warning(id, scope, found, why).mend(mend))
}

/// Of `quiclane serve`.
const DEFAULT_PORT: u16 = 4_433;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Status;
    use crate::recorded;

    #[test]
    fn conntrack_costs_only_while_it_tracks() {
        let facts = recorded::bare_metal();
        assert_eq!(conntrack(&facts.network, &Ask::default()).status, Status::Ok);
        let mut facts = recorded::veth_host();
        let ask = Ask { listen: vec!["[::]:443".parse().unwrap()], ..Ask::default() };
        let finding = conntrack(&facts.network, &ask);
        assert_eq!(finding.status, Status::Warning);
        assert!(finding.mend.unwrap().contains("udp dport 443 notrack"));
        facts.network.conntrack.as_mut().unwrap().entries = 0;
        assert_eq!(conntrack(&facts.network, &ask).status, Status::Ok);
    }

    #[test]
    fn a_table_smaller_than_the_load_is_a_problem() {
        let facts = recorded::veth_host();
        let ask = Ask { connections: 300_000, ..Ask::default() };
        let finding = conntrack(&facts.network, &ask);
        assert_eq!(finding.status, Status::Problem);
        assert!(finding.mend.unwrap().contains("nf_conntrack_max=600"));
    }

    #[test]
    fn drops_of_the_backlog_are_shown() {
        let mut facts = recorded::bare_metal();
        assert_eq!(backlog(&facts.network).unwrap().status, Status::Ok);
        facts.network.backlog_drops = 7;
        let finding = backlog(&facts.network).unwrap();
        assert_eq!(finding.status, Status::Warning);
        assert_eq!(finding.mend.unwrap(), "sysctl -w net.core.netdev_max_backlog=4000");
    }
}
