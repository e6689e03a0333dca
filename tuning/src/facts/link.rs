//! link reads what rtnetlink tells about an interface: its kind, its state and its peer.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use super::netlink::{Netlink, Scope};

/// An interface, as `ip -d link` shows it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `veth`, `bridge`, `vlan`; empty for hardware and what poses as it.
    pub(crate) kind: String,
    pub(crate) loopback: bool,
    pub(crate) up: bool,
    pub(crate) mtu: u32,
    pub(crate) send_queues: u32,
    /// The other end of a veth, the device below a VLAN.
    pub(crate) peer: Option<Peer>,
}

/// The interface that another one points to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Peer {
    /// In this network namespace, with this index.
    Here(u32),
    /// In another one.
    Elsewhere,
}

/// All interfaces of this network namespace.
pub(super) fn links(netlink: &Netlink) -> io::Result<Vec<Link>> {
    let question = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let answers = netlink.ask(question, Scope::All)?;
    let link = |answer| match answer {
        RouteNetlinkMessage::NewLink(message) => Some(Link::new(message)),
        _ => None,
    };
    Ok(answers.into_iter().filter_map(link).collect())
}

/// All addresses of this network namespace with the index of their interface.
pub(super) fn addresses(netlink: &Netlink) -> io::Result<Vec<(u32, IpAddr)>> {
    let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let mut addresses = Vec::new();
    for answer in netlink.ask(question, Scope::All)? {
        let RouteNetlinkMessage::NewAddress(message) = answer else { continue };
        for attribute in message.attributes {
            // On a point-to-point link ADDRESS is the peer's and LOCAL ours.
            if let AddressAttribute::Local(ip) | AddressAttribute::Address(ip) = attribute {
                addresses.push((message.header.index, ip));
            }
        }
    }
    Ok(addresses)
}

impl Link {
    pub(super) fn new(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            loopback: flags.contains(LinkFlags::Loopback),
            up: flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        let (mut peer, mut elsewhere) = (None, false);
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::NumTxQueues(queues) => link.send_queues = queues,
                LinkAttribute::Link(index) => peer = Some(index).filter(|index| *index != 0),
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::LinkInfo(infos) => {
                    let kind = infos.iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                    link.kind = kind.unwrap_or_default();
                }
                _ => {}
            }
        }
        link.peer = match (elsewhere, peer) {
            (true, _) => Some(Peer::Elsewhere),
            (false, peer) => peer.map(Peer::Here),
        };
        link
    }
}

#[cfg(test)]
mod tests {
    use super::super::netlink::{End, read};
    use super::*;

    /// RTM_NEWLINK of one end of a veth pair with an XDP program, from Linux 6.18, without its
    /// counters.
    const VETH: &str = "\
        800000001000000001000000515c0000000001000600000043100100000000000b0003006476657468300000\
        08000d00e803000008000400dc05000008001f000200000008002000020000001c002b000800050050010000\
        05000200010000000800040050010000100012000900010076657468000000000800050005000000";

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn a_recorded_veth_is_understood() {
        let mut answers = Vec::new();
        assert_eq!(read(&bytes(VETH), &mut answers).unwrap(), End::Ahead);
        let Some(RouteNetlinkMessage::NewLink(message)) = answers.pop() else {
            panic!("no link: {answers:?}")
        };
        let expected = Link {
            index: 6,
            name: "dveth0".into(),
            kind: "veth".into(),
            loopback: false,
            up: true,
            mtu: 1_500,
            send_queues: 2,
            peer: Some(Peer::Here(5)),
        };
        assert_eq!(Link::new(message), expected);
    }

    #[test]
    fn nothing_recorded_panics_when_it_is_cut() {
        let bytes = bytes(VETH);
        for length in 0..bytes.len() {
            let _ = read::<RouteNetlinkMessage>(&bytes[..length], &mut Vec::new());
        }
    }

    #[test]
    fn this_namespace_has_a_loopback() {
        let netlink = Netlink::route().unwrap();
        let links = links(&netlink).unwrap();
        assert!(links.iter().any(|link| link.loopback && link.name == "lo"), "{links:?}");
        assert!(addresses(&netlink).is_ok());
    }
}
