//! app is the user's room: what a protocol implements, and what it is given to work with.
//!
//! One [`App`] lives on each worker, made there by a factory, so `Rc` and `RefCell` are fine and
//! nothing has to be `Send`. Callbacks run on the worker: they must return quickly and must not
//! block. Every callback about a connection gets a [`Conn`]; once per turn [`App::turn`] gets the
//! whole [`Lane`].
//!
//! ```text
//! connected ─► opened(stream) ─► readable ⇄ writable ─► finished | stopped ─► closed
//! ```
//!
//! Invariant: for each connection `connected` comes at most once and `closed` exactly once, last;
//! an outgoing connection that never connected gets `closed` alone, an incoming one nothing.

mod close_reason;

mod lane;
pub use lane::Lane;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
pub use close_reason::CloseReason;
pub use quinn_proto::{ConnectionStats, Dir, StreamId, VarInt};
use quinn_proto::{ReadError as ProtoReadError, WriteError as ProtoWriteError};

use crate::endpoint::Connection;
pub use crate::endpoint::Origin;

/// A protocol spoken on one worker.
pub trait App {
    /// The handshake is complete; [`Conn::alpn`] says what was agreed on.
    fn connected(&mut self, conn: &mut Conn<'_>) {
        let _ = conn;
    }

    /// The peer opened `stream`. [`readable`](Self::readable) follows at once.
    fn opened(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let _ = (conn, stream);
    }

    /// `stream` has data, its end or a reset to read. Read until [`Read::Blocked`]. It may come
    /// once more after the end was read: then [`Conn::read`] says [`StreamError::Closed`].
    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let _ = (conn, stream);
    }

    /// A write that was [`WriteError::Blocked`] may go on.
    fn writable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let _ = (conn, stream);
    }

    /// The peer acknowledged everything that was written to a finished stream.
    fn finished(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let _ = (conn, stream);
    }

    /// The peer sent STOP_SENDING: nothing more will be accepted on `stream`.
    fn stopped(&mut self, conn: &mut Conn<'_>, stream: StreamId, code: VarInt) {
        let _ = (conn, stream, code);
    }

    /// The peer raised its stream limit: [`Conn::open`] may succeed again.
    fn available(&mut self, conn: &mut Conn<'_>, dir: Dir) {
        let _ = (conn, dir);
    }

    /// One or more datagrams (RFC 9221) arrived: take them with [`Conn::recv_datagram`].
    fn datagrams_received(&mut self, conn: &mut Conn<'_>) {
        let _ = conn;
    }

    /// A datagram that did not fit the send buffer may be tried again.
    fn datagrams_unblocked(&mut self, conn: &mut Conn<'_>) {
        let _ = conn;
    }

    /// The connection is about to be over: what was counted about it, once, right before
    /// [`closed`](Self::closed).
    fn counted(&mut self, id: ConnId, stats: &ConnectionStats) {
        let _ = (id, stats);
    }

    /// The connection is over; `id` will never be seen again.
    fn closed(&mut self, id: ConnId, reason: &CloseReason) {
        let _ = (id, reason);
    }

    /// Once per turn, after all events: the place for work that spans connections, to connect,
    /// and to ask for the next turn with [`Lane::wake_at`].
    fn turn(&mut self, lane: &mut Lane<'_>) {
        let _ = lane;
    }

    /// A graceful stop began: no new connections arrive, open ones may finish until `deadline`.
    fn draining(&mut self, lane: &mut Lane<'_>, deadline: Instant) {
        let _ = (lane, deadline);
    }

    /// The time is over. What is still open after this is closed with code 0: the place to close it
    /// with a code of the app's own protocol.
    fn stopping(&mut self, lane: &mut Lane<'_>) {
        let _ = lane;
    }
}

/// Names a connection of one worker. Never reused while the worker lives.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ConnId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl ConnId {
    /// A small number, unique among the connections that are open now: an index for tables.
    #[must_use]
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

/// One connection, lent to a callback.
pub struct Conn<'a> {
    pub(crate) inner: &'a mut Connection,
    pub(crate) now: Instant,
}

impl Conn<'_> {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> ConnId {
        self.inner.id
    }

    /// The time of this turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The protocol agreed on in the handshake, empty before it.
    #[must_use]
    pub fn alpn(&self) -> &[u8] {
        &self.inner.alpn
    }

    /// Whether the handshake is complete.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.inner.is_connected()
    }

    /// The peer's address now; it changes when the peer migrates.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.inner.proto.remote_address()
    }

    /// The local address the connection arrived on, if the datapath told it.
    #[must_use]
    pub fn local_ip(&self) -> Option<IpAddr> {
        self.inner.proto.local_ip()
    }

    /// Smoothed round-trip time.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.inner.proto.rtt()
    }

    /// Everything quinn-proto counts about the connection.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        self.inner.proto.stats()
    }

    /// Whether 0-RTT data may be sent now, before the handshake is complete (client).
    #[must_use]
    pub fn has_0rtt(&self) -> bool {
        self.inner.proto.has_0rtt()
    }

    /// Whether the server accepted the 0-RTT data; known once connected (client).
    #[must_use]
    pub fn accepted_0rtt(&self) -> bool {
        self.inner.proto.accepted_0rtt()
    }

    /// Opens a stream, or `None` while the peer's limit is reached; [`App::available`] tells when
    /// to try again.
    pub fn open(&mut self, dir: Dir) -> Option<StreamId> {
        self.inner.proto.streams().open(dir)
    }

    /// Streams whose end, or reset, we have still to send or the peer to acknowledge.
    pub(crate) fn send_streams(&mut self) -> usize {
        self.inner.proto.streams().send_streams()
    }

    /// Hands received data to `sink` in order, at most `bytes_max` bytes.
    ///
    /// # Errors
    /// [`StreamError::Closed`] for a stream that is not open for reading.
    pub fn read(
        &mut self,
        stream: StreamId,
        bytes_max: usize,
        mut sink: impl FnMut(Bytes),
    ) -> Result<Read, StreamError> {
        if !self.inner.may_read(stream) {
            return Err(StreamError::Closed);
        }
        let mut recv = self.inner.proto.recv_stream(stream);
        let mut chunks = recv.read(true).map_err(|_| StreamError::Closed)?;
        let mut left = bytes_max;
        let outcome = loop {
            if left == 0 {
                break Read::More;
            }
            match chunks.next(left) {
                Ok(Some(chunk)) => {
                    left -= chunk.bytes.len();
                    sink(chunk.bytes);
                }
                Ok(None) => break Read::Finished,
                Err(ProtoReadError::Blocked) => break Read::Blocked,
                Err(ProtoReadError::Reset(code)) => break Read::Reset(code),
            }
        };
        // Whether flow-control credit has to be sent; every touched connection is polled anyway.
        let _ = chunks.finalize();
        Ok(outcome)
    }

    /// Asks the peer to stop sending on `stream` and forgets what arrives on it.
    ///
    /// # Errors
    /// [`StreamError::Closed`] for a stream that is not open for reading.
    pub fn stop(&mut self, stream: StreamId, code: VarInt) -> Result<(), StreamError> {
        if !self.inner.may_read(stream) {
            return Err(StreamError::Closed);
        }
        self.inner.proto.recv_stream(stream).stop(code).map_err(|_| StreamError::Closed)
    }

    /// Writes as much of `data` as flow control and the send window allow, without copying.
    /// `data` keeps what was not written.
    ///
    /// # Errors
    /// [`WriteError::Blocked`] when nothing fits now: [`App::writable`] tells when to go on.
    pub fn write(&mut self, stream: StreamId, data: &mut Bytes) -> Result<usize, WriteError> {
        if !self.inner.may_write(stream) {
            return Err(WriteError::Closed);
        }
        let written = self.inner.proto.send_stream(stream).write_chunks(std::slice::from_mut(data));
        match written {
            Ok(written) => Ok(written.bytes),
            Err(ProtoWriteError::Blocked) => Err(WriteError::Blocked),
            Err(ProtoWriteError::Stopped(code)) => Err(WriteError::Stopped(code)),
            Err(ProtoWriteError::ClosedStream) => Err(WriteError::Closed),
        }
    }

    /// Ends `stream` after what was written.
    ///
    /// # Errors
    /// [`StreamError::Closed`] for a stream that is not open for writing or was stopped.
    pub fn finish(&mut self, stream: StreamId) -> Result<(), StreamError> {
        if !self.inner.may_write(stream) {
            return Err(StreamError::Closed);
        }
        self.inner.proto.send_stream(stream).finish().map_err(|_| StreamError::Closed)
    }

    /// Abandons sending on `stream`.
    ///
    /// # Errors
    /// [`StreamError::Closed`] for a stream that is not open for writing.
    pub fn reset(&mut self, stream: StreamId, code: VarInt) -> Result<(), StreamError> {
        if !self.inner.may_write(stream) {
            return Err(StreamError::Closed);
        }
        self.inner.proto.send_stream(stream).reset(code).map_err(|_| StreamError::Closed)
    }

    /// Sends an unreliable datagram (RFC 9221).
    ///
    /// # Errors
    /// When the peer does not take datagrams, this one is too large, or the buffer is full
    /// ([`DatagramError::Blocked`]: [`App::datagrams_unblocked`] tells when to go on).
    pub fn send_datagram(&mut self, data: Bytes) -> Result<(), DatagramError> {
        use quinn_proto::SendDatagramError as Proto;
        self.inner.proto.datagrams().send(data, false).map_err(|error| match error {
            Proto::UnsupportedByPeer | Proto::Disabled => DatagramError::Unsupported,
            Proto::TooLarge => DatagramError::TooLarge,
            Proto::Blocked(data) => DatagramError::Blocked(data),
        })
    }

    /// The next received datagram.
    pub fn recv_datagram(&mut self) -> Option<Bytes> {
        self.inner.proto.datagrams().recv()
    }

    /// The largest datagram that fits now; `None` when the peer takes none.
    pub fn datagram_bytes_max(&mut self) -> Option<usize> {
        self.inner.proto.datagrams().max_size()
    }

    /// Asks for new keys (client); false before the handshake is confirmed, when that is not
    /// allowed (RFC 9001 section 6.1). Nothing happens while an update is under way, which is for
    /// three probe timeouts after the peer has answered.
    pub fn update_keys(&mut self) -> bool {
        let is_confirmed = self.stats().frame_rx.handshake_done > 0;
        if is_confirmed {
            self.inner.proto.force_key_update();
        }
        is_confirmed
    }

    /// Closes the connection at once; what was not acknowledged yet is lost.
    pub fn close(&mut self, code: VarInt, reason: &'static str) {
        self.inner.close_by_app(self.now, code, reason);
    }
}

/// How far [`Conn::read`] got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Read {
    /// `bytes_max` was reached; there may be more now.
    More,
    /// Nothing more for now; [`App::readable`] tells when there is.
    Blocked,
    /// The peer ended the stream and everything was read.
    Finished,
    /// The peer abandoned the stream.
    Reset(VarInt),
}

/// Why a stream operation is impossible.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// Not open in that direction: never was, already finished, or stopped.
    #[error("stream is not open in that direction")]
    Closed,
}

/// Why nothing was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Flow control or the send window is full.
    #[error("blocked by flow control")]
    Blocked,
    /// The peer sent STOP_SENDING with this code.
    #[error("stopped by the peer with code {0}")]
    Stopped(VarInt),
    /// Not open for writing.
    #[error("stream is not open for writing")]
    Closed,
}

/// Why a datagram was not sent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// The peer or the configuration does not allow datagrams.
    #[error("datagrams are not supported on this connection")]
    Unsupported,
    /// Longer than [`Conn::datagram_bytes_max`].
    #[error("datagram is larger than the path allows")]
    TooLarge,
    /// The send buffer is full; the data comes back.
    #[error("datagram send buffer is full")]
    Blocked(Bytes),
}
