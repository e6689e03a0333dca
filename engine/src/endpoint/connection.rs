//! connection is quinn-proto's connection with what the worker has to remember about it.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use quiclane_datapath::SocketId;
use quinn_proto::crypto::rustls::HandshakeData;
use quinn_proto::{ConnectionError, Dir, Side, StreamId, VarInt};

use crate::app::{CloseReason, ConnId};
use crate::congestion;
use crate::limits::OffPath;

/// One connection of a worker.
pub(crate) struct Connection {
    pub(crate) proto: quinn_proto::Connection,
    pub(crate) id: ConnId,
    /// The socket it sends from.
    pub(crate) socket: SocketId,
    /// No other connection sends from it.
    pub(super) owns_socket: bool,
    pub(crate) alpn: Vec<u8>,
    pub(crate) off_path: OffPath,
    /// Probes of the MTU that were sent when somebody last asked.
    pub(super) mtu_probes: u64,
    /// The peer's address in the handshake.
    pub(super) home: SocketAddr,
    /// The peer owns the address of the handshake: it used a connection ID that we chose, of 72
    /// unpredictable bits (RFC 9000 section 8.1), or a token that we gave it.
    pub(super) address_proven: bool,
    /// The connection ID of the first Initial was the peer's choice. Where it was one that we gave
    /// to somebody once, its use proves nothing, and the end of the handshake is awaited.
    pub(super) cid_proves: bool,
    /// Bytes from the address of the handshake.
    pub(super) handshake_bytes: u64,
    pub(super) phase: Phase,
    /// We closed it before anything came from the peer.
    pub(super) closed_unheard: bool,
    /// Why we closed it, until the app was told.
    pub(super) closing: Option<CloseReason>,
    /// Connection IDs issued to the peer since the handshake.
    pub(super) issued_cids: u64,
    pub(super) in_ready: bool,
    pub(super) in_sending: bool,
}

/// How far a connection has come, as its app sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    Handshake { deadline: Instant },
    Connected,
    ToldClosed,
}

impl Connection {
    pub(super) fn new(proto: quinn_proto::Connection, socket: SocketId, deadline: Instant) -> Self {
        let proto_side = proto.side();
        Self {
            home: proto.remote_address(),
            proto,
            id: ConnId { slot: 0, generation: 0 },
            socket,
            owns_socket: proto_side == Side::Client,
            alpn: Vec::new(),
            off_path: OffPath::default(),
            mtu_probes: 0,
            address_proven: false,
            cid_proves: true,
            handshake_bytes: 0,
            phase: Phase::Handshake { deadline },
            closed_unheard: false,
            closing: None,
            issued_cids: 0,
            in_ready: false,
            in_sending: false,
        }
    }

    /// Whether the handshake is complete and the connection not over.
    pub(crate) fn is_connected(&self) -> bool {
        self.phase == Phase::Connected
    }

    /// Whether its app knows that it is over.
    pub(crate) fn is_told_closed(&self) -> bool {
        self.phase == Phase::ToldClosed
    }

    /// Whether a client opened it.
    pub(super) fn is_incoming(&self) -> bool {
        self.proto.side() == Side::Server
    }

    /// The socket to close with it, if it has one of its own.
    pub(super) fn own_socket(&self) -> Option<SocketId> {
        self.owns_socket.then_some(self.socket)
    }

    /// Goes on from `socket`, which is its own; returns the one that was its own before.
    pub(super) fn move_to(&mut self, socket: SocketId) -> Option<SocketId> {
        let left = self.own_socket();
        (self.socket, self.owns_socket) = (socket, true);
        self.proto.local_address_changed();
        left
    }

    /// Whether quinn-proto lets us read from `stream`; asking for another one panics there.
    pub(crate) fn may_read(&self, stream: StreamId) -> bool {
        stream.dir() == Dir::Bi || stream.initiator() != self.proto.side()
    }

    /// Whether quinn-proto lets us write to `stream`.
    pub(crate) fn may_write(&self, stream: StreamId) -> bool {
        stream.dir() == Dir::Bi || stream.initiator() == self.proto.side()
    }

    /// Closes it on behalf of the app or of a stopping worker.
    pub(crate) fn close_by_app(&mut self, now: Instant, code: VarInt, reason: &'static str) {
        self.close(now, code, reason, CloseReason::Local);
    }

    /// Closes it because a limit of ours was reached.
    pub(super) fn close_at_limit(&mut self, now: Instant, name: &'static str) {
        self.close(now, LIMIT_CODE, name, CloseReason::Limit(name));
    }

    pub(super) fn give_up_handshake(&mut self, now: Instant) {
        self.close(now, LIMIT_CODE, "handshake deadline", CloseReason::HandshakeTimeout);
    }

    /// Gives up because the peer's host says that nothing listens; false if a packet has ever
    /// come from there. Whoever can forge an ICMP message must not end what works.
    pub(super) fn give_up_unreachable(&mut self, now: Instant) -> bool {
        let waits = matches!(self.phase, Phase::Handshake { .. }) && !self.proto.is_closed();
        if self.is_incoming() || !waits || self.proto.stats().udp_rx.datagrams > 0 {
            return false;
        }
        let reason = CloseReason::PortUnreachable(self.proto.remote_address());
        self.close(now, LIMIT_CODE, "port unreachable", reason);
        true
    }

    pub(super) fn handshake_overdue(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Handshake { deadline } if deadline <= now)
            && !self.proto.is_closed()
    }

    /// Full-size datagrams that may be sent now: any number once the peer's address is proven,
    /// until then three times the bytes that came from there, rounded down. quinn-proto rounds
    /// up.
    //= https://www.rfc-editor.org/rfc/rfc9000#section-8.1
    //# Prior to validating the client address, servers MUST NOT send more
    //# than three times as many bytes as the number of bytes they have
    //# received.
    pub(super) fn datagrams_allowed(&self) -> usize {
        if self.address_proven {
            return usize::MAX;
        }
        let stats = self.proto.stats();
        let budget = (3 * self.handshake_bytes).saturating_sub(stats.udp_tx.bytes);
        usize::try_from(budget).unwrap_or(usize::MAX) / usize::from(stats.path.current_mtu)
    }

    /// When the connection wants to be looked at again.
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        let timeout = self.proto.poll_timeout();
        match self.phase {
            Phase::Handshake { deadline } if !self.proto.is_closed() => {
                Some(timeout.map_or(deadline, |at| at.min(deadline)))
            }
            _ => timeout,
        }
    }

    /// The application protocol that TLS agreed on.
    pub(super) fn negotiated_alpn(&self) -> Vec<u8> {
        self.proto
            .crypto_session()
            .handshake_data()
            .and_then(|data| data.downcast::<HandshakeData>().ok())
            .and_then(|data| data.protocol)
            .unwrap_or_default()
    }

    fn close(&mut self, now: Instant, code: VarInt, reason: &'static str, why: CloseReason) {
        if self.proto.is_closed() {
            return;
        }
        congestion::lift(&self.proto);
        // The first packet of a client is not counted.
        self.closed_unheard = !self.is_incoming() && self.proto.stats().udp_rx.datagrams == 0;
        self.proto.close(now, code, Bytes::from_static(reason.as_bytes()));
        if self.phase != Phase::ToldClosed {
            self.closing = Some(why);
        }
    }
}

/// quinn-proto's reasons in our words.
pub(super) fn close_reason(error: &ConnectionError) -> CloseReason {
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match error {
        ConnectionError::VersionMismatch => CloseReason::VersionMismatch,
        ConnectionError::TransportError(error) => {
            CloseReason::Transport { code: u64::from(error.code), reason: error.reason.clone() }
        }
        ConnectionError::ConnectionClosed(close) => CloseReason::PeerTransport {
            code: u64::from(close.error_code),
            reason: words(&close.reason),
        },
        ConnectionError::ApplicationClosed(close) => CloseReason::Application {
            code: close.error_code.into_inner(),
            reason: words(&close.reason),
        },
        ConnectionError::Reset => CloseReason::StatelessReset,
        ConnectionError::TimedOut => CloseReason::IdleTimeout,
        ConnectionError::LocallyClosed => CloseReason::Local,
        ConnectionError::CidsExhausted => CloseReason::Limit("connection_ids"),
    }
}

/// The application error code of closes that a limit of ours caused.
const LIMIT_CODE: VarInt = VarInt::from_u32(1);
