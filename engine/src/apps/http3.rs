//! http3 serves HTTP/3 (RFC 9114): the protocol is here, what to answer is a [`Service`]'s to say.
//!
//! The simplest service is a function from a request, with its content collected, to a response:
//!
//! ```
//! use quiclane::apps::http3::{Http3, Request, Response};
//!
//! let app = Http3::new(|request: &Request<'_>| match (request.method(), request.path()) {
//!     (b"GET", b"/") => Response::text(200, "hello\n").into(),
//!     (b"POST", b"/length") => Response::text(200, request.content().len().to_string()).into(),
//!     _ => Response::text(404, "not here\n").into(),
//! });
//! # drop(app);
//! ```
//!
//! Give [`Engine::start`] a factory of such apps and TLS the name [`Http3::ALPN`]. Where content
//! should not be collected, or the response is long or comes later, implement [`Service`] and
//! [`Exchange`]: `examples/http3_streaming.rs` does.
//!
//! ```text
//!   HEADERS ─► core ─► Request ─► Service ─┬─► Whole ───────────────────────► write, FIN
//!   DATA    ─► core ─► Content ─► Exchange ┴─► Head, Data, Trailers, ... ─►
//!   control, QPACK, GOAWAY, limits: between the core and this room alone
//! ```
//!
//! A response that was encoded before is cloned, which copies and allocates nothing, and goes out
//! with one write. Each exchange costs one allocation for itself and one for its state.
//!
//! [`Engine::start`]: crate::Engine::start

mod alarms;

mod body;
pub use body::Body;

mod connection;

mod counters;
pub use counters::Counters;

mod date;
pub use date::Date;

mod draining;

mod files;
pub use files::{Files, FilesOptions};

mod options;
pub use options::Options;

mod page;

mod pieces;

mod request;
pub use request::Request;

mod response;
pub use response::{Head, Response};

mod service;
pub use service::{Content, Exchange, Next, Reply, Service};

mod simple;
pub use simple::Simple;

mod site;
pub use site::{Site, SiteOptions};

mod stream;

use std::sync::Arc;
use std::time::Instant;

pub use quiclane_http3::{
    Code, Field, Fields, Glitch, Invalid, Limits, Prepared, SavedRequest, Violation,
};

use self::connection::Connection;
use self::draining::Draining;
use self::stream::{Shared, Step};
use super::scraps::Scraps;
use super::tables::{ConnTable, WorkList};
use crate::app::{App, CloseReason, Conn, ConnId, Dir, Lane, StreamId, VarInt};

/// The server of HTTP/3 on one worker.
#[derive(Debug)]
pub struct Http3<S> {
    service: S,
    options: Options,
    connections: ConnTable<Connection>,
    work: WorkList,
    shared: Shared,
    draining: Option<Draining>,
}

impl<F: Fn(&Request<'_>) -> Response + 'static> Http3<Simple<F>> {
    /// A server that answers with what `handler` makes of a request, whose content is collected
    /// first, up to [`Options::content_bytes_max`]. Everything else is as
    /// [`Options::default`] says.
    pub fn new(handler: F) -> Self {
        let options = Options::default();
        Self::serving(Simple::new(handler, options.content_bytes_max), options)
    }

    /// The same with other options.
    pub fn with_options(handler: F, options: Options) -> Self {
        Self::serving(Simple::new(handler, options.content_bytes_max), options)
    }
}

impl<S: Service> Http3<S> {
    /// The protocol's ALPN name.
    pub const ALPN: &[u8] = b"h3";

    /// A server whose requests `service` answers.
    pub fn serving(service: S, options: Options) -> Self {
        let shared = Shared {
            scraps: Scraps::new(),
            alarms: alarms::Alarms::default(),
            dates: date::Dates::new(),
            counters: Arc::default(),
            go_on: Prepared::response(100).ok(),
            request_timeout: options.request_timeout,
        };
        let (connections, work) = (ConnTable::new(), WorkList::default());
        Self { service, options, connections, work, shared, draining: None }
    }

    /// Counts into these, of which others may have a part.
    #[must_use]
    pub fn counting(mut self, counters: Arc<Counters>) -> Self {
        self.shared.counters = counters;
        self
    }

    /// What it counts, also while it runs elsewhere.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.shared.counters)
    }

    /// Does a piece of the work that `stream` has, and notes if more is left.
    fn visit(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let Some(connection) = self.connections.get(conn.id()) else { return };
        connection.forgive(conn.now(), self.options.glitches_forgiven_per_s);
        let outcome = if stream.dir() == Dir::Uni {
            match connection.streams.get(stream) {
                Some(_) => connection.receive(conn, stream),
                None => return,
            }
        } else {
            let Some((mut at, state)) = connection.visit(conn, stream, &mut self.shared) else {
                return;
            };
            state.visit(&mut self.service, &mut at)
        };
        self.note(conn, stream, outcome);
    }

    fn note(&mut self, conn: &mut Conn<'_>, stream: StreamId, outcome: Result<Step, Violation>) {
        let Some(connection) = self.connections.get(conn.id()) else { return };
        match outcome {
            Ok(Step::Blocked) => {}
            Ok(Step::More) => {
                if let Some(state) = connection.streams.get(stream) {
                    self.work.push(conn.id(), stream, &mut state.queued);
                }
            }
            Ok(Step::Over) => {
                connection.streams.remove(stream);
            }
            Err(violation) => self.fail(conn, violation),
        }
    }

    /// Closes a connection whose client broke a rule.
    fn fail(&mut self, conn: &mut Conn<'_>, violation: Violation) {
        self.shared.counters.violated(violation.code());
        conn.close(VarInt::from_u32(violation.code().value()), violation.text());
        self.forget(conn.id());
    }

    fn forget(&mut self, id: ConnId) {
        if let Some(connection) = self.connections.get(id) {
            if let Some(core) = &connection.core {
                self.shared.counters.ended(core);
            }
            connection.end(id, &mut self.shared.alarms);
            self.connections.close(id);
        }
    }
}

impl<S: Service> App for Http3<S> {
    fn connected(&mut self, conn: &mut Conn<'_>) {
        let connection = self.connections.open(conn.id());
        connection.begin(&self.options, conn.now());
        if self.draining.is_some() {
            draining::last_call(connection, conn.now());
        }
        connection.say(conn);
    }

    fn opened(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let Some(connection) = self.connections.get(conn.id()) else { return };
        if let Err(violation) = connection.opened(conn, stream) {
            self.fail(conn, violation);
        }
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        self.visit(conn, stream);
    }

    fn writable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let Some(connection) = self.connections.get(conn.id()) else { return };
        if connection.is_control(stream) {
            connection.say(conn);
        } else if let Some(state) = connection.streams.get(stream) {
            // Not served here: quinn-proto tells the stream that was blocked last first, which
            // would take all there is. Once all are on the list, all get their share.
            self.work.push(conn.id(), stream, &mut state.queued);
        }
    }

    fn stopped(&mut self, conn: &mut Conn<'_>, stream: StreamId, code: VarInt) {
        let Some(connection) = self.connections.get(conn.id()) else { return };
        let outcome = match connection.visit(conn, stream, &mut self.shared) {
            Some((mut at, state)) => state.stopped(code, &mut at),
            None => connection.stopped(conn, stream, code),
        };
        self.note(conn, stream, outcome);
    }

    fn available(&mut self, conn: &mut Conn<'_>, dir: Dir) {
        if dir == Dir::Uni
            && let Some(connection) = self.connections.get(conn.id())
        {
            connection.say(conn);
        }
    }

    fn datagrams_received(&mut self, conn: &mut Conn<'_>) {
        // None is for anybody here: our SETTINGS say so. What cannot be one is still a violation.
        while let Some(datagram) = conn.recv_datagram() {
            let Some(connection) = self.connections.get(conn.id()) else { return };
            let Some(core) = &connection.core else { return };
            if let Err(violation) = core.datagram(&datagram) {
                return self.fail(conn, violation);
            }
        }
    }

    fn closed(&mut self, id: ConnId, _: &CloseReason) {
        self.forget(id);
    }

    fn turn(&mut self, lane: &mut Lane<'_>) {
        while let Some((id, stream)) = self.shared.alarms.due(lane.now()) {
            if let Some(connection) = self.connections.get(id)
                && let Some(state) = connection.streams.get(stream)
            {
                state.alarm = None;
                self.work.push(id, stream, &mut state.queued);
            }
        }
        for _ in 0..self.work.visits() {
            let Some((id, stream)) = self.work.pop() else { break };
            let Some(connection) = self.connections.get(id) else { continue };
            let Some(state) = connection.streams.get(stream) else { continue };
            state.queued = false;
            if let Some(mut conn) = lane.conn(id) {
                self.visit(&mut conn, stream);
            }
        }
        self.work.rest(lane);
        if let Some(draining) = &mut self.draining {
            draining.turn(&mut self.connections, lane);
        }
        if let Some(at) = self.shared.alarms.next() {
            lane.wake_at(at);
        }
    }

    fn draining(&mut self, lane: &mut Lane<'_>, deadline: Instant) {
        self.draining = Some(Draining::begin(&mut self.connections, lane, deadline));
    }

    fn stopping(&mut self, lane: &mut Lane<'_>) {
        draining::end(&mut self.connections, lane);
    }
}
