//! farewell closes connections that were made for the sake of their handshake, a turn late.
//!
//! ```text
//! complete ─► this turn's packets leave ─► closed
//! ```
//!
//! For a server a handshake is complete with the client's last flight (RFC 9001 section 4.1.1), and
//! whoever closes in the turn in which the handshake ends on the client never sends it.

use std::mem;

use quiclane::{ConnId, Lane, VarInt};

/// Connections that are about to be closed.
#[derive(Debug, Default)]
pub(crate) struct Farewell {
    /// Completed since the last turn: their last flight leaves at the end of this one.
    complete: Vec<ConnId>,
    /// Completed before.
    leaving: Vec<ConnId>,
}

impl Farewell {
    /// The handshake of `id` was the work, and is complete.
    pub(crate) fn note(&mut self, id: ConnId) {
        self.complete.push(id);
    }

    /// Closes those whose last flight has left; to be called once a turn.
    pub(crate) fn say(&mut self, lane: &mut Lane<'_>, code: VarInt) {
        let complete = mem::take(&mut self.complete);
        for id in mem::replace(&mut self.leaving, complete) {
            if let Some(mut conn) = lane.conn(id) {
                conn.close(code, "done");
            }
        }
    }

    /// Whether none is left to close, so that no turn need be soon.
    pub(crate) fn is_said(&self) -> bool {
        self.complete.is_empty() && self.leaving.is_empty()
    }
}
