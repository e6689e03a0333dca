//! refused ends handshakes to where nothing listens, as soon as the kernel says so.
//!
//! curl and h2load do the same with the same means, a connected socket. What the kernel says is
//! an ICMP message that quotes one of our datagrams, so it takes our address and port to forge it.

use std::time::Instant;

use quiclane_datapath::SocketId;

use super::Endpoint;
use crate::app::ConnId;

/// Which connection was opened from which socket. A socket's id is used again after it is closed:
/// the last note counts.
#[derive(Debug, Default)]
pub(super) struct Callers(Vec<Option<ConnId>>);

impl Callers {
    /// `socket` was opened for the connection `id`.
    pub(super) fn note(&mut self, socket: SocketId, id: ConnId) {
        let index = socket.0 as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        self.0[index] = Some(id);
    }

    fn of(&self, socket: SocketId) -> Option<ConnId> {
        *self.0.get(socket.0 as usize)?
    }
}

impl Endpoint {
    /// Whether anybody may ask for a close that was lost: not one who had never been heard when it
    /// was said. What such a peer sends meanwhile is answered with the close already; and without a
    /// round-trip time, three probe timeouts are 3 s.
    pub(crate) fn has_peers(&self) -> bool {
        let mut connections = self.connections.iter().flatten();
        connections.any(|connection| {
            !connection.closed_unheard && connection.proto.stats().udp_rx.datagrams > 0
        })
    }

    /// Takes the news that nothing listens at the peer of `socket`.
    pub(crate) fn refused(&mut self, now: Instant, socket: SocketId) {
        if self.is_shared(socket) {
            for slot in 0..self.connections.len() {
                if let Some(connection) = self.connections[slot].as_mut()
                    && connection.socket == socket
                    && connection.give_up_unreachable(now)
                {
                    self.touch(slot);
                }
            }
            return;
        }
        let Some(id) = self.callers.of(socket) else { return };
        let slot = id.slot();
        if self.generations.get(slot) != Some(&id.generation) {
            return;
        }
        let Some(connection) = self.connections[slot].as_mut() else { return };
        if connection.give_up_unreachable(now) {
            self.touch(slot);
        }
    }
}
