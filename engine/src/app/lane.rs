//! lane is the worker as an app sees it.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Conn, ConnId};
use crate::endpoint::{Endpoint, Origin};
use crate::tls::Target;

/// The worker as an app sees it, lent once per turn.
pub struct Lane<'a> {
    pub(crate) endpoint: &'a mut Endpoint,
    pub(crate) datapath: &'a mut dyn quiclane_datapath::Datapath,
    pub(crate) now: Instant,
    pub(crate) worker: u8,
    pub(crate) wake_at: Option<Instant>,
    pub(crate) finished: bool,
}

impl Lane<'_> {
    /// Which worker this is.
    #[must_use]
    pub fn worker(&self) -> usize {
        usize::from(self.worker)
    }

    /// The time of this turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Starts a connection from a socket of its own, with the local address of the target.
    ///
    /// # Errors
    /// When the worker's connection limit is reached, no socket can be had, or the target cannot
    /// be used.
    pub fn connect(&mut self, target: &Target) -> Result<ConnId, crate::ConnectError> {
        self.connect_from(target, &Origin { local: target.local, shared: false })
    }

    /// Starts a connection from `origin`, whatever local address the target has.
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect).
    pub fn connect_from(
        &mut self,
        target: &Target,
        origin: &Origin,
    ) -> Result<ConnId, crate::ConnectError> {
        self.endpoint.connect(self.now, target, origin, self.datapath)
    }

    /// Moves an outgoing connection to a new socket (RFC 9000 section 9): with `local`, bound to
    /// that address, else to any with a free port. False for one whose handshake is not confirmed,
    /// or that is over.
    ///
    /// # Errors
    /// When no socket can be had: the connection stays where it is.
    pub fn migrate(
        &mut self,
        id: ConnId,
        local: Option<SocketAddr>,
    ) -> Result<bool, crate::ConnectError> {
        self.endpoint.migrate(self.now, id, local, self.datapath)
    }

    /// A connection by its name, if it is still open.
    pub fn conn(&mut self, id: ConnId) -> Option<Conn<'_>> {
        self.endpoint.lend(id, self.now)
    }

    /// How many connections the worker holds, handshakes and closing ones included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.endpoint.connections()
    }

    /// Asks for a turn no later than `at`. Holds for the next turn only; the earliest call wins.
    pub fn wake_at(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    /// Says that the app has nothing left to do: the worker closes what is open and stops.
    pub fn finish(&mut self) {
        self.finished = true;
    }
}
