//! initials begins handshakes without any I/O, and goes on with none of them further than asked.
//!
//! Each first Initial is that of a quinn-proto connection of its own: a whole ClientHello, and
//! connection IDs that were never used. The youngest [`PENDING_MAX`] are remembered, so that a
//! refusal can be decrypted and a Retry followed.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use quiclane::Target;
use quinn_proto::{
    ClientConfig, Connection, ConnectionError, ConnectionHandle, ConnectionId,
    ConnectionIdGenerator, DatagramEvent, Endpoint, EndpointConfig, EndpointEvent, Event,
};

use super::heard::{Cid, Heard, Tag};
use super::report::{AbuseReport, CloseLayer};

/// Makes first Initials, and reads what they are answered with.
pub(super) struct Initials {
    endpoint: Endpoint,
    config: ClientConfig,
    address: SocketAddr,
    server_name: Arc<str>,
    tag: Tag,
    /// Whether a Retry is followed.
    follows: bool,
    /// Those that something may still come for.
    pending: HashMap<Cid, Pending>,
    /// The same, oldest first; and others that are forgotten already.
    order: VecDeque<Cid>,
}

/// A handshake that was begun.
struct Pending {
    handle: ConnectionHandle,
    connection: Connection,
    has_flight: bool,
}

impl Initials {
    /// Handshakes with `target`, with connection IDs that begin with `tag`.
    pub(super) fn new(target: &Target, tag: Tag, follows: bool) -> Self {
        let mut config = EndpointConfig::default();
        config.cid_generator(move || Box::new(Tagged { tag, next: 0 }));
        Self {
            endpoint: Endpoint::new(Arc::new(config), None, true, None),
            config: ClientConfig::new(target.tls.quic()),
            address: target.address,
            server_name: Arc::clone(&target.server_name),
            tag,
            follows,
            pending: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Begins a handshake and hands its first flight to `send`, datagram by datagram; false when
    /// the name of the server cannot be asked for.
    pub(super) fn begin(&mut self, now: Instant, mut send: impl FnMut(&[u8])) -> bool {
        let config = self.config.clone();
        let begun = self.endpoint.connect(now, config, self.address, &self.server_name);
        let Ok((handle, mut connection)) = begun else { return false };
        let mut source = None;
        transmit(&mut connection, now, |datagram| {
            source = source.or_else(|| source_cid(datagram));
            send(datagram);
        });
        let Some(cid) = source else {
            self.endpoint.handle_event(handle, EndpointEvent::drained());
            return true;
        };
        self.pending.insert(cid, Pending { handle, connection, has_flight: false });
        self.order.push_back(cid);
        while self.order.len() > PENDING_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.forget(&oldest);
        }
        true
    }

    /// Takes what came back, counts it in `report`, and hands what follows to `send`.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        datagram: &[u8],
        report: &mut AbuseReport,
        send: impl FnMut(&[u8]),
    ) {
        let answers = report.answers.get_or_insert_default();
        match Heard::new(datagram, self.tag) {
            Heard::Versions => answers.version_negotiations += 1,
            Heard::ResetLike => report.stateless_resets += 1,
            Heard::Retry(cid) => {
                answers.retries += 1;
                if !self.follows {
                    return self.forget(&cid);
                }
                self.feed(now, cid, datagram);
                if let Some(pending) = self.pending.get_mut(&cid) {
                    transmit(&mut pending.connection, now, send);
                }
            }
            // A refusal asks for no acknowledgement and is not padded (RFC 9000 section 14.1).
            Heard::Initial(cid) if datagram.len() < FLIGHT_BYTES_MIN => {
                self.feed(now, cid, datagram);
                if let Some((layer, code)) = self.closed(&cid) {
                    report.note_close(layer, Some(code), 1);
                    self.forget(&cid);
                }
            }
            Heard::Initial(cid) | Heard::Handshake(cid) => {
                let Some(pending) = self.pending.get_mut(&cid) else { return };
                answers.flights += u64::from(!pending.has_flight);
                pending.has_flight = true;
            }
            Heard::OneRtt | Heard::Other => {}
        }
    }

    /// Gives a datagram to the connection it is for.
    fn feed(&mut self, now: Instant, cid: Cid, datagram: &[u8]) {
        let bytes = BytesMut::from(datagram);
        // What the endpoint itself would answer is not sent.
        let event = self.endpoint.handle(now, self.address, None, None, bytes, &mut Vec::new());
        if let (Some(DatagramEvent::ConnectionEvent(handle, event)), Some(pending)) =
            (event, self.pending.get_mut(&cid))
            && handle == pending.handle
        {
            pending.connection.handle_event(event);
        }
    }

    /// Whether the server closed the connection, and with which code.
    fn closed(&mut self, cid: &Cid) -> Option<(CloseLayer, u64)> {
        let connection = &mut self.pending.get_mut(cid)?.connection;
        std::iter::from_fn(|| connection.poll()).find_map(|event| match event {
            Event::ConnectionLost { reason: ConnectionError::ConnectionClosed(close) } => {
                Some((CloseLayer::Transport, close.error_code.into()))
            }
            Event::ConnectionLost { reason: ConnectionError::ApplicationClosed(close) } => {
                Some((CloseLayer::Application, close.error_code.into()))
            }
            _ => None,
        })
    }

    fn forget(&mut self, cid: &Cid) {
        if let Some(Pending { handle, .. }) = self.pending.remove(cid) {
            self.endpoint.handle_event(handle, EndpointEvent::drained());
        }
    }
}

/// Hands all that a connection has to say now to `send`.
fn transmit(connection: &mut Connection, now: Instant, mut send: impl FnMut(&[u8])) {
    let mut datagram = Vec::with_capacity(1_500);
    for _ in 0..FLIGHT_DATAGRAMS_MAX {
        datagram.clear();
        if connection.poll_transmit(now, 1, &mut datagram).is_none() {
            return;
        }
        send(&datagram);
    }
}

/// The source connection ID of a long header (RFC 8999 section 5.1), if it is as long as ours.
fn source_cid(datagram: &[u8]) -> Option<Cid> {
    let target = usize::from(*datagram.get(5)?);
    let source = datagram.get(6 + target..)?;
    source.split_first().filter(|(length, _)| **length == 8)?.1.first_chunk().copied()
}

/// Connection IDs that say of which test they are.
struct Tagged {
    tag: Tag,
    next: u32,
}

impl ConnectionIdGenerator for Tagged {
    fn generate_cid(&mut self) -> ConnectionId {
        let number = self.next.to_be_bytes();
        self.next = self.next.wrapping_add(1);
        ConnectionId::new(&[self.tag, number].concat())
    }

    fn cid_len(&self) -> usize {
        size_of::<Cid>()
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

/// Some 20 KB each. At 1,000 a second it is what the last two seconds began, and servers answer
/// sooner; what comes later is counted as traffic alone.
const PENDING_MAX: usize = 2_048;

/// A ClientHello with keys that quantum computers cannot break takes two.
const FLIGHT_DATAGRAMS_MAX: usize = 4;

/// RFC 9000 section 14.1: what a server's flight begins with is padded to that.
const FLIGHT_BYTES_MIN: usize = 1_200;
