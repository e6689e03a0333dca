//! echo sends back what it gets: streams byte by byte, datagrams one by one.
//!
//! ```text
//! bidirectional   data ─► data    FIN ─► FIN    RESET_STREAM ─► RESET_STREAM
//!                 STOP_SENDING ─► RESET_STREAM and STOP_SENDING
//! unidirectional  data ─► nothing
//! ```
//!
//! Invariant: nothing more is read from a stream while something of it waits to be written, so
//! that a client that does not read is held back by its own flow control.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use super::scraps::Scraps;
use super::tables::{ConnTable, Reuse, StreamTable, WorkList};
use crate::app::{
    App, CloseReason, Conn, ConnId, DatagramError, Dir, Lane, Read, StreamId, VarInt, WriteError,
};

/// The echo server.
#[derive(Debug)]
pub struct Echo {
    connections: ConnTable<Connection>,
    work: WorkList,
    /// Connections with datagrams left for the next turn.
    datagrams: VecDeque<ConnId>,
    /// Where small chunks are copied to.
    scraps: Scraps,
    /// Empty queues of streams that are over, for new ones.
    spare: Vec<VecDeque<Bytes>>,
}

impl Echo {
    /// The protocol's ALPN name; a convention, as no document defines it over QUIC.
    pub const ALPN: &[u8] = b"echo";

    /// A server for one worker.
    #[must_use]
    pub fn new() -> Self {
        Self {
            connections: ConnTable::new(),
            work: WorkList::default(),
            datagrams: VecDeque::new(),
            scraps: Scraps::new(),
            spare: Vec::new(),
        }
    }

    /// Does a piece of the work that `stream` has, and notes if more is left.
    fn visit(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let Some(connection) = self.connections.get(conn.id()) else { return };
        let Some(state) = connection.streams.get(stream) else { return };
        let more = match stream.dir() {
            Dir::Bi => state.echo(conn, stream, &mut self.scraps),
            Dir::Uni => state.discard(conn, stream),
        };
        if state.is_over() {
            let over = connection.streams.remove(stream);
            self.forget(over);
        } else if more {
            self.work.push(conn.id(), stream, &mut state.queued);
        }
    }

    /// Keeps the queue of a stream that is over.
    fn forget(&mut self, over: Option<Stream>) {
        if let Some(Stream { mut pending, .. }) = over
            && pending.capacity() > 0
            && self.spare.len() < SPARE_MAX
        {
            pending.clear();
            self.spare.push(pending);
        }
    }

    /// Returns datagrams until none is left, the send buffer is full, or it is somebody else's
    /// turn.
    fn return_datagrams(&mut self, conn: &mut Conn<'_>) {
        let connection = self.connections.open(conn.id());
        for _ in 0..DATAGRAMS_PER_VISIT_MAX {
            let next = connection.datagram.take().or_else(|| conn.recv_datagram());
            let Some(datagram) = next else { return };
            if let Err(DatagramError::Blocked(datagram)) = conn.send_datagram(datagram) {
                connection.datagram = Some(datagram);
                return;
            }
            // A datagram that is too large for the way back is lost, as datagrams may be.
        }
        if !mem::replace(&mut connection.queued, true) {
            self.datagrams.push_back(conn.id());
        }
    }
}

impl Default for Echo {
    fn default() -> Self {
        Self::new()
    }
}

impl App for Echo {
    fn opened(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let pending = match stream.dir() {
            Dir::Bi => self.spare.pop().unwrap_or_default(),
            Dir::Uni => VecDeque::new(),
        };
        let state = Stream::new(stream.dir(), pending);
        self.connections.open(conn.id()).streams.insert(stream, state);
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        self.visit(conn, stream);
    }

    fn writable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        // Not served here: quinn-proto tells the stream that was blocked last first, which would
        // take all there is. Once all are on the list, all get their share.
        if let Some(connection) = self.connections.get(conn.id())
            && let Some(state) = connection.streams.get(stream)
        {
            self.work.push(conn.id(), stream, &mut state.queued);
        }
    }

    fn stopped(&mut self, conn: &mut Conn<'_>, stream: StreamId, code: VarInt) {
        // An error says that a side is over already.
        let _ = conn.reset(stream, code);
        let _ = conn.stop(stream, code);
        if let Some(connection) = self.connections.get(conn.id()) {
            let over = connection.streams.remove(stream);
            self.forget(over);
        }
    }

    fn datagrams_received(&mut self, conn: &mut Conn<'_>) {
        self.return_datagrams(conn);
    }

    fn datagrams_unblocked(&mut self, conn: &mut Conn<'_>) {
        self.return_datagrams(conn);
    }

    fn closed(&mut self, id: ConnId, _: &CloseReason) {
        self.connections.close(id);
    }

    fn turn(&mut self, lane: &mut Lane<'_>) {
        for _ in 0..self.work.visits() {
            let Some((id, stream)) = self.work.pop() else { break };
            let Some(connection) = self.connections.get(id) else { continue };
            let Some(state) = connection.streams.get(stream) else { continue };
            state.queued = false;
            if let Some(mut conn) = lane.conn(id) {
                self.visit(&mut conn, stream);
            }
        }
        for _ in 0..self.datagrams.len() {
            let Some(id) = self.datagrams.pop_front() else { break };
            let Some(connection) = self.connections.get(id) else { continue };
            connection.queued = false;
            if let Some(mut conn) = lane.conn(id) {
                self.return_datagrams(&mut conn);
            }
        }
        self.work.rest(lane);
        if !self.datagrams.is_empty() {
            lane.wake_at(lane.now());
        }
    }
}

/// What one connection has open.
#[derive(Debug, Default)]
struct Connection {
    streams: StreamTable<Stream>,
    /// A datagram that did not fit the send buffer. Meanwhile quinn-proto keeps what arrives
    /// within its own limit and drops the oldest.
    datagram: Option<Bytes>,
    /// Whether it is on the list of datagrams.
    queued: bool,
}

impl Reuse for Connection {
    fn clear(&mut self) {
        self.streams.clear();
        self.datagram = None;
        self.queued = false;
    }
}

#[derive(Debug)]
struct Stream {
    /// What was read and not written yet.
    pending: VecDeque<Bytes>,
    receiving: bool,
    sending: bool,
    /// Whether it is on the work list.
    queued: bool,
}

impl Stream {
    fn new(dir: Dir, pending: VecDeque<Bytes>) -> Self {
        let (receiving, sending) = (true, dir == Dir::Bi);
        Self { pending, receiving, sending, queued: false }
    }

    fn is_over(&self) -> bool {
        !self.receiving && !self.sending
    }

    /// Reads and writes alternately; true if it could go on now.
    fn echo(&mut self, conn: &mut Conn<'_>, stream: StreamId, scraps: &mut Scraps) -> bool {
        let mut more = true;
        for _ in 0..READS_PER_VISIT_MAX {
            if !self.flush(conn, stream) || !self.receiving {
                return false;
            }
            if !more {
                return false;
            }
            let pending = &mut self.pending;
            let read = conn.read(stream, READ_BYTES_MAX, |chunk| keep(chunk, pending, scraps));
            scraps.seal(pending);
            match read {
                Ok(Read::More) => {}
                Ok(Read::Blocked) => more = false,
                Ok(Read::Finished) => self.receiving = false,
                Ok(Read::Reset(code)) => {
                    let _ = conn.reset(stream, code);
                    (self.receiving, self.sending) = (false, false);
                    self.pending.clear();
                }
                Err(_) => self.receiving = false,
            }
        }
        true
    }

    /// Writes what is pending, and FIN after the end; false while flow control blocks it.
    fn flush(&mut self, conn: &mut Conn<'_>, stream: StreamId) -> bool {
        while self.sending
            && let Some(chunk) = self.pending.front_mut()
        {
            match conn.write(stream, chunk) {
                Ok(_) if chunk.is_empty() => {
                    self.pending.pop_front();
                }
                Ok(_) => {}
                Err(WriteError::Blocked) => return false,
                Err(_) => {
                    // `stopped` hears of it as well.
                    self.sending = false;
                    self.pending.clear();
                }
            }
        }
        if self.sending && !self.receiving {
            let _ = conn.finish(stream);
            self.sending = false;
        }
        true
    }

    /// Reads and forgets; true if it could go on now.
    fn discard(&mut self, conn: &mut Conn<'_>, stream: StreamId) -> bool {
        match conn.read(stream, READS_PER_VISIT_MAX * READ_BYTES_MAX, |_| {}) {
            Ok(Read::More) => return true,
            Ok(Read::Blocked) => {}
            Ok(Read::Finished | Read::Reset(_)) | Err(_) => self.receiving = false,
        }
        false
    }
}

/// Takes a chunk as it is, unless it is small: then it would keep a block of receive memory from
/// being used again for the sake of a few bytes, and is copied.
fn keep(chunk: Bytes, pending: &mut VecDeque<Bytes>, scraps: &mut Scraps) {
    if chunk.len() < COPY_BELOW_BYTES {
        scraps.push(&chunk, pending);
    } else {
        scraps.seal(pending);
        pending.push_back(chunk);
    }
}

/// What is read from a stream at once, and thus what one that flow control blocks can hold:
/// enough for a train of 44 full datagrams.
const READ_BYTES_MAX: usize = 64 << 10;

/// Reads in one visit: 256 KiB in all.
const READS_PER_VISIT_MAX: usize = 4;

/// Chunks below this are copied. A full datagram carries at least 1,100 bytes of a stream, so a
/// bulk transfer is not copied.
const COPY_BELOW_BYTES: usize = 1_024;

/// Datagrams returned before other connections get their turn: an arriving train's 64, with room
/// for what the last one left.
const DATAGRAMS_PER_VISIT_MAX: usize = 128;

/// Queues kept for new streams. The longest holds a chunk for each half KiB that is read at once:
/// 4 KiB, so all of them 4 MiB.
const SPARE_MAX: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_chunks_are_kept_and_small_ones_are_joined_in_order() {
        let (mut pending, mut scraps) = (VecDeque::new(), Scraps::new());
        let large = Bytes::from(vec![9; COPY_BELOW_BYTES]);
        for chunk in [Bytes::from_static(b"a"), Bytes::from_static(b"bc"), large.clone()] {
            keep(chunk, &mut pending, &mut scraps);
        }
        keep(Bytes::from_static(b"d"), &mut pending, &mut scraps);
        scraps.seal(&mut pending);
        let chunks: Vec<&[u8]> = pending.iter().map(|chunk| &chunk[..]).collect();
        assert_eq!(chunks, [&b"abc"[..], &large, b"d"]);
        assert_eq!(pending[1].as_ptr(), large.as_ptr(), "not copied");
    }

    #[test]
    fn a_stream_is_over_when_both_sides_are() {
        let mut two_ways = Stream::new(Dir::Bi, VecDeque::new());
        two_ways.receiving = false;
        assert!(!two_ways.is_over());
        two_ways.sending = false;
        assert!(two_ways.is_over());
        let mut one_way = Stream::new(Dir::Uni, VecDeque::new());
        assert!(!one_way.is_over());
        one_way.receiving = false;
        assert!(one_way.is_over());
    }
}
