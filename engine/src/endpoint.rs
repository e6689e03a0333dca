//! endpoint speaks QUIC: quinn-proto's endpoint and connections, driven by the worker.
//!
//! Datagrams, expired timers and commands of the app go in; events for the app and filled send
//! slots come out. Two queues hold the connections that need attention:
//!
//! ```text
//! datagram, timer, app ──► ready ──serve──► app callbacks ──► sending ──transmit──► send slots
//! ```
//!
//! Invariant: a slot is in each queue at most once, and a connection that was touched is in
//! `ready` or `sending` until its timer was set again.

mod connection;
pub(crate) use connection::Connection;

mod origin;
pub use origin::Origin;
use origin::Origins;

mod refused;
use refused::Callers;

mod serve;

mod transmit;
pub(crate) use transmit::Sent;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use quiclane_datapath::{Datapath, Ecn, Meta, SocketId, Transmit};
use quiclane_wire::{RESET_LEN_MIN, TOKEN_LEN, Unanswered};
use quinn_proto::{
    ClientConfig, ConnectionHandle, DatagramEvent, EcnCodepoint, EndpointConfig, Incoming,
    ServerConfig, TransportConfig, VarInt,
};

use crate::app::{Conn, ConnId};
use crate::config::{Limits, Retry};
use crate::error::ConnectError;
use crate::ip::ByVersion;
use crate::metrics::WorkerCounters;
use crate::reset::Resets;
use crate::timers::Timers;
use crate::tls::Target;

/// All connections of one worker.
pub(crate) struct Endpoint {
    proto: quinn_proto::Endpoint,
    connections: Vec<Option<Box<Connection>>>,
    generations: Vec<u32>,
    open: usize,
    half_open: usize,
    ready: VecDeque<u32>,
    sending: VecDeque<u32>,
    callers: Callers,
    origins: Origins,
    timers: Timers,
    settings: Settings,
    counters: Arc<WorkerCounters>,
    /// Stateless answers are written here first: quinn-proto wants an empty buffer.
    scratch: Vec<u8>,
    stopping: bool,
}

/// What an endpoint is made of, decided by the plan.
pub(crate) struct Settings {
    pub(crate) endpoint: Arc<EndpointConfig>,
    pub(crate) server: Option<ByVersion<Arc<ServerConfig>>>,
    /// For outgoing connections.
    pub(crate) transport: ByVersion<Arc<TransportConfig>>,
    pub(crate) limits: Limits,
    pub(crate) retry: Retry,
    /// None for a client, whose resets would mean nothing to its servers.
    pub(crate) resets: Option<Resets>,
    /// Connection IDs the generator has issued.
    pub(crate) issued: Arc<AtomicU64>,
    /// First destination connection IDs of outgoing connections, if they must be reproducible.
    pub(crate) initial_cids: Option<Arc<dyn Fn() -> quinn_proto::ConnectionId + Send + Sync>>,
}

impl Endpoint {
    pub(crate) fn new(settings: Settings, counters: Arc<WorkerCounters>) -> Self {
        let config = Arc::clone(&settings.endpoint);
        let server = settings.server.as_ref().map(|servers| Arc::clone(&servers.v4));
        Self {
            proto: quinn_proto::Endpoint::new(config, server, true, None),
            connections: Vec::new(),
            generations: Vec::new(),
            open: 0,
            half_open: 0,
            ready: VecDeque::with_capacity(QUEUE_CAPACITY),
            sending: VecDeque::with_capacity(QUEUE_CAPACITY),
            callers: Callers::default(),
            origins: Origins::default(),
            timers: Timers::default(),
            settings,
            counters,
            scratch: Vec::with_capacity(SCRATCH_BYTES),
            stopping: false,
        }
    }

    /// Takes a datagram that was routed here; `ours`: with a connection ID that we chose.
    pub(crate) fn datagram(
        &mut self,
        now: Instant,
        meta: &Meta,
        ours: bool,
        bytes: BytesMut,
        datapath: &mut impl Datapath,
    ) {
        let (length, socket) = (bytes.len(), meta.socket);
        let short_header = bytes.first().is_some_and(|first| first & 0x80 == 0);
        let ecn = meta.ecn.map(codepoint);
        self.scratch.clear();
        let event = self.proto.handle(now, meta.source, meta.target, ecn, bytes, &mut self.scratch);
        match event {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let Some(connection) = self.connections[handle.0].as_mut() else { return };
                let path = connection.proto.remote_address();
                let active = path == meta.source;
                connection.address_proven |= ours && active && connection.cid_proves;
                let Connection { proto, off_path, handshake_bytes, .. } = connection.as_mut();
                *handshake_bytes += if active { length as u64 } else { 0 };
                off_path.received(meta.source, length, path);
                proto.handle_event(event);
                off_path.credited(length, proto.remote_address());
                self.touch(handle.0);
            }
            Some(DatagramEvent::NewConnection(incoming)) => {
                self.incoming(now, incoming, length, ours, socket, datapath);
            }
            // A client answers nobody: this is a reset, even for the Initial of a server that goes
            // on with a handshake which was given up.
            Some(DatagramEvent::Response(_)) if self.settings.server.is_none() => {}
            Some(DatagramEvent::Response(response)) if short_header => {
                // Ours in its place, with the same token: quinn-proto's ends with it too.
                if let Some(token) = self.scratch[..response.size].last_chunk().copied() {
                    self.reset(now, meta, &token, length, datapath);
                }
            }
            Some(DatagramEvent::Response(response)) => {
                self.counters.responses.add(1);
                self.respond(&response, socket, datapath);
            }
            // Of a connection that nobody knows, and no longer than the shortest reset: quinn-proto
            // drops it without a word.
            None if short_header && length <= RESET_LEN_MIN && self.settings.resets.is_some() => {
                self.counters.unanswered.add(Unanswered::TooShort);
            }
            None => {}
        }
    }

    /// Takes a short header of a process that is gone.
    pub(crate) fn orphan(
        &mut self,
        now: Instant,
        meta: &Meta,
        datagram: &[u8],
        epoch: u8,
        worker: u8,
        datapath: &mut impl Datapath,
    ) {
        let resets = self.settings.resets.as_mut();
        let token = resets.and_then(|resets| resets.orphan_token(datagram, epoch, worker));
        if let Some(token) = token {
            self.reset(now, meta, &token, datagram.len(), datapath);
        }
    }

    /// Handles up to `EXPIRE_MAX` connections whose deadline has come; true if more are due.
    pub(crate) fn expire(&mut self, now: Instant) -> bool {
        for _ in 0..EXPIRE_MAX {
            let Some(slot) = self.timers.pop_due(now) else { return false };
            let Some(connection) = self.connections[slot as usize].as_mut() else { continue };
            if connection.handshake_overdue(now) {
                self.counters.handshake_deadline.add(1);
                connection.give_up_handshake(now);
            }
            connection.proto.handle_timeout(now);
            // A path that could not be validated is left without any datagram.
            connection.off_path.credited(0, connection.proto.remote_address());
            self.touch(slot as usize);
        }
        true
    }

    /// When the next connection is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        [self.timers.next(), self.origins.next_deadline()].into_iter().flatten().min()
    }

    /// Whether connections wait for attention that is not bound to an arrival or a timer.
    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Opens a connection.
    pub(crate) fn connect(
        &mut self,
        now: Instant,
        target: &Target,
        origin: &Origin,
        datapath: &mut dyn Datapath,
    ) -> Result<ConnId, ConnectError> {
        let limit = self.settings.limits.connections;
        if self.open >= limit {
            self.counters.connection_limit.add(1);
            return Err(ConnectError::ConnectionLimit(limit));
        }
        // Above the datapath addresses are canonical: answers come from the IPv4 address.
        let address = SocketAddr::new(target.address.ip().to_canonical(), target.address.port());
        let mut config = ClientConfig::new(target.tls.quic());
        config.transport_config(Arc::clone(self.settings.transport.with(address.ip())));
        if let Some(cids) = &self.settings.initial_cids {
            config.initial_dst_cid_provider(Arc::clone(cids));
        }
        let (socket, is_own) = self.socket_from(origin, address, datapath)?;
        match self.proto.connect(now, config, address, &target.server_name) {
            Ok((handle, proto)) => {
                self.counters.opened.add(1);
                let mut connection = Connection::new(proto, socket, self.deadline(now));
                connection.address_proven = true;
                connection.owns_socket = is_own;
                let id = self.insert(handle, connection);
                self.callers.note(socket, id);
                Ok(id)
            }
            Err(error) => {
                if is_own {
                    datapath.close(socket);
                }
                Err(ConnectError::Target(error.to_string()))
            }
        }
    }

    /// Lends a connection to the app.
    pub(crate) fn lend(&mut self, id: ConnId, now: Instant) -> Option<Conn<'_>> {
        let slot = id.slot();
        if self.generations.get(slot) != Some(&id.generation) {
            return None;
        }
        self.touch(slot);
        let inner = self.connections[slot].as_mut()?;
        if inner.is_told_closed() {
            return None;
        }
        Some(Conn { inner, now })
    }

    /// How many connections are held, closing ones included.
    pub(crate) fn connections(&self) -> usize {
        self.open
    }

    /// How many connections are not closing yet.
    pub(crate) fn active(&self) -> usize {
        self.connections.iter().flatten().filter(|c| !c.proto.is_closed()).count()
    }

    /// From now on every new connection is refused.
    pub(crate) fn stop_accepting(&mut self) {
        self.stopping = true;
    }

    /// Closes every connection with `code`.
    pub(crate) fn close_all(&mut self, now: Instant, code: VarInt, reason: &'static str) {
        for slot in 0..self.connections.len() {
            if let Some(connection) = self.connections[slot].as_mut() {
                connection.close_by_app(now, code, reason);
                self.touch(slot);
            }
        }
    }

    fn incoming(
        &mut self,
        now: Instant,
        incoming: Incoming,
        length: usize,
        ours: bool,
        socket: SocketId,
        datapath: &mut impl Datapath,
    ) {
        let Limits { connections, half_open, half_open_retry, .. } = self.settings.limits;
        if self.stopping || self.open >= connections {
            if !self.stopping {
                self.counters.connection_limit.add(1);
            }
            self.counters.refused.add(1);
            let response = self.proto.refuse(incoming, &mut self.scratch);
            return self.respond(&response, socket, datapath);
        }
        if self.half_open >= half_open {
            self.counters.ignored.add(1);
            return self.proto.ignore(incoming);
        }
        let retry = match self.settings.retry {
            Retry::Off => false,
            Retry::Auto => self.half_open >= half_open_retry,
            Retry::Always => true,
        };
        if retry && !incoming.remote_address_validated() && incoming.may_retry() {
            // `may_retry` was asked: an error is impossible, and would only mean no answer.
            if let Ok(response) = self.proto.retry(incoming, &mut self.scratch) {
                self.counters.retries.add(1);
                self.respond(&response, socket, datapath);
            }
            return;
        }
        let proven = incoming.remote_address_validated();
        let peer = incoming.remote_address().ip();
        let server = self.settings.server.as_ref().map(|servers| Arc::clone(servers.with(peer)));
        match self.proto.accept(incoming, now, &mut self.scratch, server) {
            Ok((handle, proto)) => {
                self.counters.accepted.add(1);
                self.half_open += 1;
                self.counters.half_open.set(self.half_open as u64);
                let mut connection = Connection::new(proto, socket, self.deadline(now));
                connection.address_proven = proven;
                connection.cid_proves = !ours;
                connection.handshake_bytes = length as u64;
                self.insert(handle, connection);
            }
            Err(error) => {
                if let Some(response) = error.response {
                    self.counters.responses.add(1);
                    self.respond(&response, socket, datapath);
                }
            }
        }
    }

    /// Ends the connection with this token at its peer, if it may be answered now.
    fn reset(
        &mut self,
        now: Instant,
        meta: &Meta,
        token: &[u8; TOKEN_LEN],
        trigger_len: usize,
        datapath: &mut impl Datapath,
    ) {
        let Some(resets) = self.settings.resets.as_mut() else { return };
        let Some(mut slot) = datapath.slot() else {
            self.counters.responses_dropped.add(1);
            return;
        };
        match resets.answer(now, meta.source, token, trigger_len, &mut slot.payload) {
            Ok(()) => {
                self.counters.resets_sent.add(1);
                let Meta { socket, source, target, .. } = *meta;
                let transmit =
                    Transmit { socket, target: source, source: target, ecn: None, segment: None };
                datapath.send(slot, &transmit);
            }
            Err(reason) => {
                self.counters.unanswered.add(reason);
                datapath.release(slot);
            }
        }
    }

    /// Sends a stateless answer that stands in `scratch`.
    fn respond(
        &mut self,
        response: &quinn_proto::Transmit,
        socket: SocketId,
        datapath: &mut impl Datapath,
    ) {
        let Some(mut slot) = datapath.slot() else {
            self.counters.responses_dropped.add(1);
            return;
        };
        slot.payload.extend_from_slice(&self.scratch[..response.size]);
        let transmit = Transmit {
            socket,
            target: response.destination,
            source: response.src_ip,
            ecn: None,
            segment: None,
        };
        datapath.send(slot, &transmit);
    }

    #[expect(clippy::cast_possible_truncation, reason = "the connection limit keeps slots small")]
    fn insert(&mut self, handle: ConnectionHandle, mut connection: Connection) -> ConnId {
        let slot = handle.0;
        if slot >= self.connections.len() {
            self.connections.resize_with(slot + 1, || None);
            self.generations.resize(slot + 1, 0);
        }
        let id = ConnId { slot: slot as u32, generation: self.generations[slot] };
        connection.id = id;
        self.connections[slot] = Some(Box::new(connection));
        self.open += 1;
        self.counters.open.set(self.open as u64);
        self.touch(slot);
        id
    }

    fn remove(&mut self, slot: usize, datapath: &mut impl Datapath) {
        let Some(connection) = self.connections[slot].take() else { return };
        self.generations[slot] = self.generations[slot].wrapping_add(1);
        self.timers.set(connection.id.slot, None);
        if connection.in_sending {
            // Only when all send slots were busy. The slot's next connection would be in twice.
            self.sending.retain(|queued| *queued != connection.id.slot);
        }
        self.open -= 1;
        self.counters.open.set(self.open as u64);
        self.counters.closed.add(1);
        if let Some(socket) = connection.own_socket() {
            datapath.close(socket);
        }
    }

    fn half_open_ended(&mut self) {
        self.half_open -= 1;
        self.counters.half_open.set(self.half_open as u64);
    }

    /// Puts a connection into the ready queue.
    #[expect(clippy::cast_possible_truncation, reason = "the connection limit keeps slots small")]
    fn touch(&mut self, slot: usize) {
        if let Some(connection) = self.connections[slot].as_mut()
            && !std::mem::replace(&mut connection.in_ready, true)
        {
            self.ready.push_back(slot as u32);
        }
    }

    fn deadline(&self, now: Instant) -> Instant {
        now + self.settings.limits.handshake_deadline
    }

    fn issued(&self) -> u64 {
        self.settings.issued.load(Ordering::Relaxed)
    }
}

/// How long a closing worker waits at most until its connections are drained, which takes three
/// probe timeouts: until then a close that was lost is sent again when the peer asks.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

fn codepoint(ecn: Ecn) -> EcnCodepoint {
    match ecn {
        Ecn::Ect0 => EcnCodepoint::Ect0,
        Ecn::Ect1 => EcnCodepoint::Ect1,
        Ecn::Ce => EcnCodepoint::Ce,
    }
}

fn unspecified(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => SocketAddr::from(([0, 0, 0, 0], 0)),
        SocketAddr::V6(_) => SocketAddr::from(([0u16; 8], 0)),
    }
}

/// Connections handled by one call of `expire`: about a millisecond of loss detection.
const EXPIRE_MAX: usize = 1_024;
/// Room in each queue before it grows.
const QUEUE_CAPACITY: usize = 4_096;
/// Stateless answers are one datagram.
const SCRATCH_BYTES: usize = 2_048;
