//! perf answers with as many bytes as it is asked for (draft-banks-quic-performance).
//!
//! The first 8 bytes of a client's stream are a number in network byte order; what follows is an
//! upload and is thrown away. The answer is exactly that many zeroes: on the same stream if it has
//! two directions, else on a new stream of ours.
//!
//! ```text
//! header (8 bytes) ─► upload ─► FIN ─► response ─► FIN     respond_early: response ∥ upload
//!     └─ reserved, or more than response_bytes_max ─► RESET_STREAM + STOP_SENDING
//! ```
//!
//! Invariant: response bytes come from one static buffer; answering copies and allocates nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::generated::zeroes;
use super::tables::{ConnTable, Reuse, StreamTable, WorkList};
use crate::app::{App, CloseReason, Conn, ConnId, Dir, Lane, Read, StreamId, VarInt, WriteError};

/// Choices of a [`Perf`] server.
#[derive(Clone, Debug)]
pub struct PerfOptions {
    /// The largest response in bytes; whoever asks for more gets a reset. Default 16 GiB, a
    /// quarter of a minute at 10 Gbit/s: benchmarks pass, and a single request cannot occupy the
    /// server for days. `u64::MAX` allows the draft's request without end, which a client stops
    /// with STOP_SENDING: for hosts under your own control only.
    pub response_bytes_max: u64,
    /// Whether to answer as soon as the header is there, in parallel to the upload, instead of
    /// after the client's FIN. Default false, as msquic and quinn do: the client's time then
    /// includes the whole upload.
    pub respond_early: bool,
    /// Responses per connection that wait until the client lets us open a unidirectional stream.
    /// Default 1,024, which cost 8 KiB; a client that exceeds it gives less credit than it takes,
    /// and its connection is closed.
    pub responses_waiting_max: usize,
}

impl Default for PerfOptions {
    fn default() -> Self {
        Self { response_bytes_max: 16 << 30, respond_early: false, responses_waiting_max: 1_024 }
    }
}

/// What a [`Perf`] server refused. Counters only grow.
#[derive(Debug, Default)]
pub struct PerfCounters {
    /// Requests for more than [`PerfOptions::response_bytes_max`].
    pub too_large: AtomicU64,
    /// Requests with a reserved number: all of `0xffffffff_xxxxxxxx` but the last.
    pub reserved: AtomicU64,
    /// Streams that ended before their header was complete.
    pub short: AtomicU64,
    /// Connections closed at [`PerfOptions::responses_waiting_max`].
    pub waiting_overflows: AtomicU64,
}

/// The server of the `perf` protocol.
#[derive(Debug)]
pub struct Perf {
    options: PerfOptions,
    counters: Arc<PerfCounters>,
    connections: ConnTable<Connection>,
    work: WorkList,
}

impl Perf {
    /// The protocol's ALPN name.
    pub const ALPN: &[u8] = b"perf";
    /// The reset code for a reserved request number.
    pub const RESERVED: VarInt = VarInt::from_u32(0x1);
    /// The reset code for a request beyond [`PerfOptions::response_bytes_max`].
    pub const TOO_LARGE: VarInt = VarInt::from_u32(0x2);
    /// The reset code for a request that the client itself abandoned.
    pub const CANCELLED: VarInt = VarInt::from_u32(0x3);
    /// The close code at [`PerfOptions::responses_waiting_max`].
    pub const TOO_MANY_WAITING: VarInt = VarInt::from_u32(0x4);

    /// A server for one worker.
    #[must_use]
    pub fn new(options: PerfOptions) -> Self {
        Self {
            options,
            counters: Arc::default(),
            connections: ConnTable::new(),
            work: WorkList::default(),
        }
    }

    /// What it refuses, also while it runs elsewhere.
    #[must_use]
    pub fn counters(&self) -> Arc<PerfCounters> {
        Arc::clone(&self.counters)
    }

    /// Does a piece of the work that `stream` has, and notes if more is left.
    fn visit(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let id = conn.id();
        let Some(connection) = self.connections.get(id) else { return };
        let Some(state) = connection.streams.get(stream) else { return };
        let mut more = false;
        if state.upload == Upload::Running {
            more |= state.receive(conn, stream);
            if let Some(wanted) = state.wanted(&self.options) {
                count_refusal(&self.counters, wanted);
                state.begin(conn, stream, wanted);
                if let (Wanted::Bytes(bytes), Dir::Uni) = (wanted, stream.dir()) {
                    connection.respond_on_new_stream(bytes);
                }
            }
        }
        let Some(state) = connection.streams.get(stream) else { return };
        more |= state.send(conn, stream);
        if state.is_over() {
            connection.streams.remove(stream);
        } else if more {
            self.work.push(id, stream, &mut state.queued);
        }
        if !connection.waiting.is_empty() {
            self.open_waiting(conn);
        }
    }

    /// Opens streams for the responses that wait for one, as many as the client allows now.
    fn open_waiting(&mut self, conn: &mut Conn<'_>) {
        let Some(connection) = self.connections.get(conn.id()) else { return };
        while !connection.waiting.is_empty() {
            let Some(stream) = conn.open(Dir::Uni) else { break };
            let Some(bytes) = connection.waiting.pop_front() else { break };
            let mut state = Stream::response(bytes);
            self.work.push(conn.id(), stream, &mut state.queued);
            connection.streams.insert(stream, state);
        }
        if connection.waiting.len() > self.options.responses_waiting_max {
            connection.waiting.clear();
            self.counters.waiting_overflows.fetch_add(1, Ordering::Relaxed);
            conn.close(Self::TOO_MANY_WAITING, "no stream credit for the responses");
        }
    }
}

impl App for Perf {
    fn opened(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        self.connections.open(conn.id()).streams.insert(stream, Stream::request());
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
        // Also when the response was written to its end: what was lost of it is wanted no more.
        let _ = conn.reset(stream, code);
        let Some(connection) = self.connections.get(conn.id()) else { return };
        let Some(state) = connection.streams.get(stream) else { return };
        state.response = Response::Over;
        if state.is_over() {
            connection.streams.remove(stream);
        }
    }

    fn available(&mut self, conn: &mut Conn<'_>, dir: Dir) {
        if dir == Dir::Uni {
            self.open_waiting(conn);
        }
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
        self.work.rest(lane);
    }
}

/// What one connection has open.
#[derive(Debug, Default)]
struct Connection {
    streams: StreamTable<Stream>,
    /// Sizes of responses that wait for a stream of ours.
    waiting: VecDeque<u64>,
}

impl Connection {
    fn respond_on_new_stream(&mut self, bytes: u64) {
        // A request for nothing on a unidirectional stream gets nothing, not an empty stream.
        if bytes > 0 {
            self.waiting.push_back(bytes);
        }
    }
}

impl Reuse for Connection {
    fn clear(&mut self) {
        self.streams.clear();
        self.waiting.clear();
    }
}

#[derive(Debug)]
struct Stream {
    header: Header,
    upload: Upload,
    response: Response,
    /// Whether it is on the work list.
    queued: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Upload {
    Running,
    Finished,
    /// Reset by the client, or stopped by us.
    Abandoned,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Response {
    /// The request is not complete.
    Awaited,
    /// So many bytes are still to be written, then FIN.
    Bytes(u64),
    Over,
}

impl Stream {
    fn request() -> Self {
        let (header, upload) = (Header::default(), Upload::Running);
        Self { header, upload, response: Response::Awaited, queued: false }
    }

    fn response(bytes: u64) -> Self {
        let (header, upload) = (Header::default(), Upload::Finished);
        Self { header, upload, response: Response::Bytes(bytes), queued: false }
    }

    fn is_over(&self) -> bool {
        self.upload != Upload::Running && self.response == Response::Over
    }

    /// Takes in a piece of the upload; true if there may be more now.
    fn receive(&mut self, conn: &mut Conn<'_>, stream: StreamId) -> bool {
        let header = &mut self.header;
        match conn.read(stream, VISIT_BYTES_MAX, |chunk| header.take(&chunk)) {
            Ok(Read::More) => return true,
            Ok(Read::Blocked) => {}
            Ok(Read::Finished) => self.upload = Upload::Finished,
            Ok(Read::Reset(_)) | Err(_) => self.upload = Upload::Abandoned,
        }
        false
    }

    /// What the request says, as soon as it is to be acted on and only then.
    fn wanted(&self, options: &PerfOptions) -> Option<Wanted> {
        if self.response != Response::Awaited {
            return None;
        }
        let complete = self.upload == Upload::Finished;
        match self.header.wanted(options.response_bytes_max) {
            _ if self.upload == Upload::Abandoned => Some(Wanted::Abandoned),
            None => complete.then_some(Wanted::Short),
            Some(bytes @ Wanted::Bytes(_)) => (complete || options.respond_early).then_some(bytes),
            refused => refused,
        }
    }

    fn begin(&mut self, conn: &mut Conn<'_>, stream: StreamId, wanted: Wanted) {
        let two_ways = stream.dir() == Dir::Bi;
        self.response = match wanted {
            Wanted::Bytes(bytes) if two_ways => Response::Bytes(bytes),
            // Nothing was asked for: end our side gracefully.
            Wanted::Short if two_ways => Response::Bytes(0),
            Wanted::Bytes(_) | Wanted::Short => Response::Over,
            Wanted::Abandoned => self.refuse(conn, stream, Perf::CANCELLED),
            Wanted::Reserved => self.refuse(conn, stream, Perf::RESERVED),
            Wanted::TooLarge => self.refuse(conn, stream, Perf::TOO_LARGE),
        };
    }

    /// Ends both sides with `code`. An error says that a side is over already.
    fn refuse(&mut self, conn: &mut Conn<'_>, stream: StreamId, code: VarInt) -> Response {
        let _ = conn.reset(stream, code);
        if self.upload == Upload::Running {
            let _ = conn.stop(stream, code);
            self.upload = Upload::Abandoned;
        }
        Response::Over
    }

    /// Writes a piece of the response; true if more could be written now.
    fn send(&mut self, conn: &mut Conn<'_>, stream: StreamId) -> bool {
        let Response::Bytes(mut left) = self.response else { return false };
        let mut budget = VISIT_BYTES_MAX;
        let outcome = loop {
            let size = usize::try_from(left).map_or(budget, |left| left.min(budget));
            if size == 0 {
                break Ok(());
            }
            let mut zeroes = zeroes(size as u64);
            match conn.write(stream, &mut zeroes) {
                Ok(written) => {
                    left -= written as u64;
                    budget -= written;
                }
                Err(error) => break Err(error),
            }
        };
        self.response = Response::Bytes(left);
        match outcome {
            Ok(()) if left > 0 => return true,
            Ok(()) => {
                // Fails only if the client stopped the stream, which comes to `stopped` as well.
                let _ = conn.finish(stream);
            }
            Err(WriteError::Blocked) => return false,
            Err(WriteError::Stopped(code)) => {
                let _ = conn.reset(stream, code);
            }
            Err(_) => {}
        }
        self.response = Response::Over;
        false
    }
}

/// The 8 bytes a request starts with.
#[derive(Debug, Default)]
struct Header {
    bytes: [u8; 8],
    received: usize,
}

/// What a request comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wanted {
    Bytes(u64),
    TooLarge,
    Reserved,
    /// The stream ended before the header was complete.
    Short,
    /// The client reset the stream.
    Abandoned,
}

impl Header {
    /// Takes what is missing from the front of `chunk`.
    fn take(&mut self, chunk: &[u8]) {
        let missing = &mut self.bytes[self.received..];
        let taken = missing.len().min(chunk.len());
        missing[..taken].copy_from_slice(&chunk[..taken]);
        self.received += taken;
    }

    /// The verdict on a complete header.
    fn wanted(&self, bytes_max: u64) -> Option<Wanted> {
        if self.received < self.bytes.len() {
            return None;
        }
        let bytes = u64::from_be_bytes(self.bytes);
        // picoquic uses these for media streams and datagrams.
        let reserved = bytes >> 32 == 0xffff_ffff && bytes != u64::MAX;
        Some(match bytes {
            _ if reserved => Wanted::Reserved,
            _ if bytes > bytes_max => Wanted::TooLarge,
            _ => Wanted::Bytes(bytes),
        })
    }
}

fn count_refusal(counters: &PerfCounters, wanted: Wanted) {
    let counter = match wanted {
        Wanted::TooLarge => &counters.too_large,
        Wanted::Reserved => &counters.reserved,
        Wanted::Short => &counters.short,
        Wanted::Bytes(_) | Wanted::Abandoned => return,
    };
    counter.fetch_add(1, Ordering::Relaxed);
}

/// What is read and written at most in one visit: four full GSO trains. More lets a bulk stream
/// delay the small ones, less costs more visits.
const VISIT_BYTES_MAX: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn header(bytes: u64) -> Header {
        let mut header = Header::default();
        header.take(&bytes.to_be_bytes());
        header
    }

    #[test]
    fn a_header_may_come_in_pieces_and_the_upload_is_not_part_of_it() {
        let mut header = Header::default();
        for chunk in [&[0, 0, 0][..], &[], &[0, 0, 1], &[2, 3, 99, 99], &[99]] {
            assert_eq!(header.wanted(u64::MAX).is_some(), header.received == 8);
            header.take(chunk);
        }
        assert_eq!(header.wanted(u64::MAX), Some(Wanted::Bytes(0x010203)));
    }

    #[test]
    fn the_limit_is_the_largest_response() {
        assert_eq!(header(1_000).wanted(1_000), Some(Wanted::Bytes(1_000)));
        assert_eq!(header(1_001).wanted(1_000), Some(Wanted::TooLarge));
        assert_eq!(header(u64::MAX).wanted(u64::MAX - 1), Some(Wanted::TooLarge));
        assert_eq!(header(u64::MAX).wanted(u64::MAX), Some(Wanted::Bytes(u64::MAX)));
    }

    #[test]
    fn reserved_numbers_are_no_sizes() {
        for bytes in [0xffff_ffff_0000_0000, 0xffff_ffff_ffff_fffe] {
            assert_eq!(header(bytes).wanted(u64::MAX), Some(Wanted::Reserved));
        }
        assert_eq!(
            header(0xffff_fffe_ffff_ffff).wanted(u64::MAX),
            Some(Wanted::Bytes(0xffff_fffe_ffff_ffff))
        );
    }

    #[test]
    fn the_response_waits_for_the_end_of_the_upload_unless_told_otherwise() {
        let mut state = Stream::request();
        let late = PerfOptions::default();
        let early = PerfOptions { respond_early: true, ..PerfOptions::default() };
        assert_eq!(state.wanted(&early), None);
        state.header = header(5);
        assert_eq!(state.wanted(&late), None);
        assert_eq!(state.wanted(&early), Some(Wanted::Bytes(5)));
        state.upload = Upload::Finished;
        assert_eq!(state.wanted(&late), Some(Wanted::Bytes(5)));
        state.response = Response::Bytes(5);
        assert_eq!(state.wanted(&late), None, "only once");
    }

    #[test]
    fn refusals_do_not_wait() {
        let mut state = Stream::request();
        state.header = header(0xffff_ffff_0000_0000);
        assert_eq!(state.wanted(&PerfOptions::default()), Some(Wanted::Reserved));
        state.header = header(u64::MAX);
        assert_eq!(state.wanted(&PerfOptions::default()), Some(Wanted::TooLarge));
    }

    #[test]
    fn short_and_abandoned_requests_are_told_apart() {
        let mut state = Stream::request();
        state.header.take(&[0; 7]);
        assert_eq!(state.wanted(&PerfOptions::default()), None);
        state.upload = Upload::Finished;
        assert_eq!(state.wanted(&PerfOptions::default()), Some(Wanted::Short));
        state.upload = Upload::Abandoned;
        assert_eq!(state.wanted(&PerfOptions::default()), Some(Wanted::Abandoned));
    }
}
