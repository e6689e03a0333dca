//! link reads what rtnetlink tells about an interface: its kind, its peer and its XDP programs.

use std::io;
use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};

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
    pub(crate) recv_queues: u32,
    pub(crate) send_queues: u32,
    /// The other end of a veth, the device below a VLAN.
    pub(crate) peer: Option<Peer>,
    pub(crate) programs: Vec<Attached>,
}

/// The interface that another one points to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Peer {
    /// In this network namespace, with this index.
    Here(u32),
    /// In another one.
    Elsewhere,
}

/// An XDP program on an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Attached {
    pub(crate) mode: Mode,
    pub(crate) id: u32,
    /// Only the kernel's administrator may ask for it.
    pub(crate) name: Option<String>,
}

/// Where an XDP program runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Mode {
    Native,
    Generic,
    Hardware,
}

impl Mode {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Hardware => "hardware",
        }
    }
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
                LinkAttribute::NumRxQueues(queues) => link.recv_queues = queues,
                LinkAttribute::NumTxQueues(queues) => link.send_queues = queues,
                LinkAttribute::Link(index) => peer = Some(index).filter(|index| *index != 0),
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::Xdp(attributes) => link.programs = programs(&attributes),
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

/// One program has its id in PROG_ID; with several, each mode has an attribute of its own.
fn programs(attributes: &[LinkXdp]) -> Vec<Attached> {
    let by_mode = |attribute: &LinkXdp| match attribute {
        LinkXdp::DrvProgId(id) => Some((Mode::Native, *id)),
        LinkXdp::SkbProgId(id) => Some((Mode::Generic, *id)),
        LinkXdp::HwProgId(id) => Some((Mode::Hardware, *id)),
        _ => None,
    };
    let mut found: Vec<(Mode, u32)> = attributes.iter().filter_map(by_mode).collect();
    if found.is_empty() {
        let mode = attributes.iter().find_map(|attribute| match attribute {
            LinkXdp::Attached(XdpAttached::Driver) => Some(Mode::Native),
            LinkXdp::Attached(XdpAttached::SocketBuffer) => Some(Mode::Generic),
            LinkXdp::Attached(XdpAttached::Hardware) => Some(Mode::Hardware),
            _ => None,
        });
        let id = attributes.iter().find_map(|attribute| match attribute {
            LinkXdp::ProgId(id) => Some(*id),
            _ => None,
        });
        found.extend(mode.zip(id));
    }
    found.into_iter().map(|(mode, id)| Attached { mode, id, name: None }).collect()
}
