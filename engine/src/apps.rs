//! apps are the protocols that come with the engine, and the switch between them by ALPN.
//!
//! ```text
//! connection ─► Protocols ─┬─ "perf"       ─► Perf   as many bytes as the client asks for
//!                          ├─ "hq-interop" ─► Hq     files, by HTTP/0.9
//!                          ├─ "h3"         ─► Http3  what a service answers, by HTTP/3
//!                          └─ "echo"       ─► Echo   what the client sent
//! ```
//!
//! All of them follow the same rules. A callback does a bounded piece of work and puts the rest on
//! a list that [`App::turn`] goes on with, so that no connection can hold its worker for long. What
//! a peer can make us remember is bounded by a named limit. Tables are kept by connection slot and
//! used again.

mod echo;
pub use echo::Echo;

mod generated;

mod hq;
pub use hq::{Hq, HqOptions};

pub mod http3;
pub use http3::Http3;

mod perf;
pub use perf::{Perf, PerfCounters, PerfOptions};

mod root;
pub use root::Root;

mod scraps;

mod tables;

use std::fmt;
use std::time::Instant;

use crate::app::{App, CloseReason, Conn, ConnId, Dir, Lane, StreamId, VarInt};

/// An app made of several: the application protocol of a connection decides which one gets it.
///
/// A connection whose protocol none of them speaks is closed with
/// [`UNKNOWN_PROTOCOL`](Self::UNKNOWN_PROTOCOL); that happens only when the TLS configuration
/// offers a name that no app was given for.
///
/// All apps share one worker: [`App::turn`] and [`App::draining`] go to each, the earliest
/// [`Lane::wake_at`] wins, and one that calls [`Lane::finish`] stops the worker for all. `closed`
/// of an outgoing connection that never connected goes to each too, because nobody else knows who
/// opened it.
pub struct Protocols {
    apps: Vec<(Vec<u8>, Box<dyn App>)>,
    /// By slot: the connection that is there now, and which app it belongs to.
    owners: Vec<Option<(ConnId, usize)>>,
}

impl Protocols {
    /// The code a connection is closed with when no app speaks its protocol.
    pub const UNKNOWN_PROTOCOL: VarInt = VarInt::from_u32(0x1);

    /// One app for each application protocol, by its ALPN name. The first of equal names wins.
    #[must_use]
    pub fn new(apps: Vec<(Vec<u8>, Box<dyn App>)>) -> Self {
        Self { apps, owners: Vec::new() }
    }

    fn owner(&mut self, id: ConnId) -> Option<&mut dyn App> {
        let (owned, app) = (*self.owners.get(id.slot())?)?;
        if owned != id {
            return None;
        }
        Some(self.apps.get_mut(app)?.1.as_mut())
    }
}

impl App for Protocols {
    fn connected(&mut self, conn: &mut Conn<'_>) {
        let alpn = conn.alpn();
        let Some(app) = self.apps.iter().position(|(name, _)| name == alpn) else {
            conn.close(Self::UNKNOWN_PROTOCOL, "no app for this application protocol");
            return;
        };
        let slot = conn.id().slot();
        if self.owners.len() <= slot {
            self.owners.resize(slot + 1, None);
        }
        self.owners[slot] = Some((conn.id(), app));
        self.apps[app].1.connected(conn);
    }

    fn opened(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        if let Some(app) = self.owner(conn.id()) {
            app.opened(conn, stream);
        }
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        if let Some(app) = self.owner(conn.id()) {
            app.readable(conn, stream);
        }
    }

    fn writable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        if let Some(app) = self.owner(conn.id()) {
            app.writable(conn, stream);
        }
    }

    fn finished(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        if let Some(app) = self.owner(conn.id()) {
            app.finished(conn, stream);
        }
    }

    fn stopped(&mut self, conn: &mut Conn<'_>, stream: StreamId, code: VarInt) {
        if let Some(app) = self.owner(conn.id()) {
            app.stopped(conn, stream, code);
        }
    }

    fn available(&mut self, conn: &mut Conn<'_>, dir: Dir) {
        if let Some(app) = self.owner(conn.id()) {
            app.available(conn, dir);
        }
    }

    fn datagrams_received(&mut self, conn: &mut Conn<'_>) {
        if let Some(app) = self.owner(conn.id()) {
            app.datagrams_received(conn);
        }
    }

    fn datagrams_unblocked(&mut self, conn: &mut Conn<'_>) {
        if let Some(app) = self.owner(conn.id()) {
            app.datagrams_unblocked(conn);
        }
    }

    fn closed(&mut self, id: ConnId, reason: &CloseReason) {
        if let Some(app) = self.owner(id) {
            app.closed(id, reason);
            self.owners[id.slot()] = None;
            return;
        }
        for (_, app) in &mut self.apps {
            app.closed(id, reason);
        }
    }

    fn turn(&mut self, lane: &mut Lane<'_>) {
        for (_, app) in &mut self.apps {
            app.turn(lane);
        }
    }

    fn draining(&mut self, lane: &mut Lane<'_>, deadline: Instant) {
        for (_, app) in &mut self.apps {
            app.draining(lane, deadline);
        }
    }

    fn stopping(&mut self, lane: &mut Lane<'_>) {
        for (_, app) in &mut self.apps {
            app.stopping(lane);
        }
    }
}

impl fmt::Debug for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.apps.iter().map(|(name, _)| String::from_utf8_lossy(name));
        f.debug_list().entries(names).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    struct Notes(Rc<RefCell<Vec<ConnId>>>);

    impl App for Notes {
        fn closed(&mut self, id: ConnId, _: &CloseReason) {
            self.0.borrow_mut().push(id);
        }
    }

    fn two_apps() -> (Protocols, [Rc<RefCell<Vec<ConnId>>>; 2]) {
        let notes = [Rc::default(), Rc::default()];
        let apps = notes.iter().zip([b"a", b"b"]).map(|(notes, name)| {
            (name.to_vec(), Box::new(Notes(Rc::clone(notes))) as Box<dyn App>)
        });
        (Protocols::new(apps.collect()), notes)
    }

    #[test]
    fn the_owner_is_forgotten_with_its_connection() {
        let (mut protocols, notes) = two_apps();
        let id = ConnId { slot: 3, generation: 7 };
        protocols.owners = vec![None, None, None, Some((id, 1))];
        protocols.closed(id, &CloseReason::Local);
        assert_eq!(notes.each_ref().map(|notes| notes.borrow().len()), [0, 1]);
        assert!(protocols.owner(id).is_none());
    }

    #[test]
    fn a_slot_does_not_stand_for_its_next_connection() {
        let (mut protocols, _) = two_apps();
        protocols.owners = vec![Some((ConnId { slot: 0, generation: 1 }, 0))];
        assert!(protocols.owner(ConnId { slot: 0, generation: 2 }).is_none());
        assert!(protocols.owner(ConnId { slot: 9, generation: 1 }).is_none());
    }

    #[test]
    fn a_connection_that_never_connected_is_told_to_all() {
        let (mut protocols, notes) = two_apps();
        let id = ConnId { slot: 0, generation: 0 };
        protocols.closed(id, &CloseReason::HandshakeTimeout);
        assert_eq!(notes.each_ref().map(|notes| notes.borrow().clone()), [[id], [id]]);
    }
}
