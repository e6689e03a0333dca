//! interfaces finds the devices on which a server's packets arrive.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use if_addrs::Interface;

use crate::error::SteerError;

/// The interfaces to put XDP programs on.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Interfaces {
    /// Their names.
    pub(super) names: Vec<String>,
    /// Why there are not more of them.
    pub(super) notes: Vec<String>,
}

/// The owners of the addresses in `listen`; for a wildcard every interface with an address of that
/// family. Loopback has no driver, and a generic program would copy each of its large frames: it
/// is left out.
pub(super) fn of(listen: &[SocketAddr]) -> Result<Interfaces, SteerError> {
    let all = if_addrs::get_if_addrs().map_err(SteerError::Interfaces)?;
    Ok(choose(listen, &all))
}

/// Every address of this host.
pub(super) fn addresses() -> Result<Vec<IpAddr>, SteerError> {
    let all = if_addrs::get_if_addrs().map_err(SteerError::Interfaces)?;
    Ok(all.iter().map(Interface::ip).collect())
}

/// Whether a device has no hardware behind it: its frames were made by this kernel.
pub(super) fn is_virtual(name: &str) -> bool {
    let device = Path::new("/sys/class/net").join(name);
    device.exists() && !device.join("device").exists()
}

fn choose(listen: &[SocketAddr], all: &[Interface]) -> Interfaces {
    let (mut names, mut notes) = (BTreeSet::new(), Vec::new());
    for address in listen {
        let ip = address.ip().to_canonical();
        let receives = |interface: &&Interface| match ip {
            // A wildcard IPv6 socket takes IPv4 too.
            IpAddr::V6(ip) if ip.is_unspecified() => true,
            IpAddr::V4(ip) if ip.is_unspecified() => interface.ip().is_ipv4(),
            _ => interface.ip() == ip || (ip.is_loopback() && interface.is_loopback()),
        };
        let mut owners = all.iter().filter(receives).peekable();
        if owners.peek().is_none() && !ip.is_unspecified() {
            notes.push(format!("no interface owns {ip}: name it with --interface"));
        }
        for owner in owners {
            if !owner.is_loopback() {
                // An alias of an address, eth0:1, is no interface.
                let name = owner.name.split(':').next().unwrap_or_default();
                names.insert(name.to_owned());
            } else if !ip.is_unspecified() {
                notes.push(format!("{ip} is on {}, {LEFT_OUT}", owner.name));
            }
        }
    }
    notes.dedup();
    if names.is_empty() && notes.is_empty() {
        notes.push("there is no interface but loopback".into());
    }
    Interfaces { names: names.into_iter().collect(), notes }
}

const LEFT_OUT: &str = "which is left out unless --interface names it";

#[cfg(test)]
mod tests {
    use if_addrs::{IfAddr, IfOperStatus, Ifv4Addr, Ifv6Addr};

    use super::*;

    fn interface(name: &str, ip: &str) -> Interface {
        let addr = match ip.parse().unwrap() {
            IpAddr::V4(ip) => IfAddr::V4(Ifv4Addr {
                ip,
                netmask: [255, 0, 0, 0].into(),
                prefixlen: 8,
                broadcast: None,
            }),
            IpAddr::V6(ip) => {
                IfAddr::V6(Ifv6Addr { ip, netmask: ip, prefixlen: 64, broadcast: None })
            }
        };
        Interface {
            name: name.to_owned(),
            addr,
            index: None,
            oper_status: IfOperStatus::Up,
            is_p2p: false,
        }
    }

    fn names(listen: &str) -> Vec<String> {
        let all = [
            interface("lo", "127.0.0.1"),
            interface("lo", "::1"),
            interface("eth0", "192.0.2.1"),
            interface("eth0", "2001:db8::1"),
            interface("eth1:1", "198.51.100.1"),
            interface("wg0", "2001:db8:1::1"),
        ];
        let listen: Vec<SocketAddr> = listen.split(' ').map(|a| a.parse().unwrap()).collect();
        let chosen = choose(&listen, &all);
        assert_eq!(chosen.names.is_empty(), !chosen.notes.is_empty(), "{chosen:?}");
        chosen.names
    }

    #[test]
    fn addresses_lead_to_their_owners() {
        assert_eq!(names("192.0.2.1:1"), ["eth0"]);
        assert_eq!(names("192.0.2.1:1 [2001:db8::1]:1 198.51.100.1:2"), ["eth0", "eth1"]);
        assert_eq!(names("[::ffff:192.0.2.1]:1"), ["eth0"]);
        assert_eq!(names("0.0.0.0:1"), ["eth0", "eth1"]);
        assert_eq!(names("[::]:1"), ["eth0", "eth1", "wg0"]);
    }

    #[test]
    fn loopback_and_strangers_lead_nowhere() {
        for listen in ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "203.0.113.1:1"] {
            assert!(names(listen).is_empty(), "{listen}");
        }
    }
}
