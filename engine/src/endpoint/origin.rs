//! origin is where outgoing connections send from: the sockets of a client.
//!
//! ```text
//! connect ──► a socket of its own, or the one that all share who come from the same address
//! migrate ──► another one of its own; the one it left is heard for a while, then closed
//! ```
//! Datagrams find their connection by its ID, whatever socket they came through.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quiclane_datapath::{Datapath, SocketError, SocketId, SocketOptions};

use super::{Endpoint, unspecified};
use crate::app::ConnId;
use crate::error::ConnectError;

/// Where an outgoing connection sends from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// The local address to bind to; `None`: any, with a free port.
    pub local: Option<SocketAddr>,
    /// Whether all connections of the worker with this local address and one peer send from one
    /// socket. Saves files, ports and memory of the kernel; but whatever spreads packets by their
    /// addresses then takes all of them to one place, and one buffer takes what comes for all.
    pub shared: bool,
}

/// The sockets that outgoing connections share, and those that they left.
#[derive(Debug, Default)]
pub(super) struct Origins {
    /// By local address and peer.
    shared: HashMap<(SocketAddr, SocketAddr), SocketId>,
    /// With the time at which they are closed, in that order.
    left: VecDeque<(Instant, SocketId)>,
}

impl Origins {
    /// When the next socket is to be closed.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.left.front().map(|&(at, _)| at)
    }
}

impl Endpoint {
    /// A socket for a connection to `peer`; whether it is the connection's own.
    pub(super) fn socket_from(
        &mut self,
        origin: &Origin,
        peer: SocketAddr,
        datapath: &mut dyn Datapath,
    ) -> Result<(SocketId, bool), SocketError> {
        let local = origin.local.unwrap_or_else(|| unspecified(peer));
        if !origin.shared {
            return Ok((self.open(local, peer, datapath)?, true));
        }
        if let Some(socket) = self.origins.shared.get(&(local, peer)) {
            return Ok((*socket, false));
        }
        let socket = self.open(local, peer, datapath)?;
        self.origins.shared.insert((local, peer), socket);
        Ok((socket, false))
    }

    /// Whether several connections send from `socket`.
    pub(super) fn is_shared(&self, socket: SocketId) -> bool {
        self.origins.shared.values().any(|shared| *shared == socket)
    }

    /// Lets an outgoing connection go on from another port, or address; false for one that is not
    /// open.
    //= https://www.rfc-editor.org/rfc/rfc9000#section-9
    //# An endpoint MUST NOT initiate connection migration before the handshake
    //# is confirmed
    pub(crate) fn migrate(
        &mut self,
        now: Instant,
        id: ConnId,
        local: Option<SocketAddr>,
        datapath: &mut dyn Datapath,
    ) -> Result<bool, ConnectError> {
        let slot = id.slot();
        let known = self.generations.get(slot) == Some(&id.generation);
        let Some(connection) = self.connections[slot].as_ref().filter(|_| known) else {
            return Ok(false);
        };
        let is_open = connection.is_connected() && !connection.proto.is_closed();
        let is_confirmed = connection.proto.stats().frame_rx.handshake_done > 0;
        if connection.is_incoming() || !is_open || !is_confirmed {
            return Ok(false);
        }
        let peer = connection.proto.remote_address();
        let local = local.unwrap_or_else(|| unspecified(peer));
        let socket = self.open(local, peer, datapath)?;
        self.callers.note(socket, id);
        let Some(connection) = self.connections[slot].as_mut() else { return Ok(false) };
        let [from, to] =
            [connection.socket, socket].map(|id| datapath.local_addr(id).map(|local| local.ip()));
        let left = connection.move_to(socket);
        if from != to {
            //= https://www.rfc-editor.org/rfc/rfc9000#section-9.4
            //# The capacity available on the new path might not be the same as the
            //# old path.  Packets sent on the old path MUST NOT contribute to
            //# congestion control or RTT estimation for the new path.
            // It also searches the MTU anew, and its probes are what lets a server answer: three
            // times a small packet is less than a challenge takes (section 8.2.1).
            connection.proto.path_changed(now);
        }
        if let Some(left) = left {
            self.origins.left.push_back((now + LEFT_FOR, left));
        }
        self.counters.migrated.add(1);
        self.touch(slot);
        Ok(true)
    }

    /// Closes the sockets that nothing is awaited on any more.
    pub(crate) fn close_left(&mut self, now: Instant, datapath: &mut dyn Datapath) {
        while let Some((_, socket)) = self.origins.left.pop_front_if(|(at, _)| *at <= now) {
            datapath.close(socket);
        }
    }

    fn open(
        &self,
        local: SocketAddr,
        peer: SocketAddr,
        datapath: &mut dyn Datapath,
    ) -> Result<SocketId, SocketError> {
        let buffer_bytes = self.settings.limits.socket_buffer_bytes;
        let options = SocketOptions {
            recv_buffer_bytes: buffer_bytes,
            send_buffer_bytes: buffer_bytes,
            peer: Some(peer),
            ..SocketOptions::default()
        };
        datapath.open(local, &options)
    }
}

/// What was on its way to the old address when the peer learnt of the new one arrives within a
/// round trip; this is one of a bad day.
const LEFT_FOR: Duration = Duration::from_secs(1);
