//! ALPN `perf`, client side, on one connection: requests go out, whole answers come in.
//!
//! In: a [`Request`] and the stream events of its connection. Out: an [`Answer`] per request.
//! Invariant: an answer counts only when it ended exactly where it was asked to; anything else
//! (reset, stop, a byte too few or too many) is an error that ends the run.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use quinn_proto::{Connection, Dir, ReadError, StreamEvent, StreamId, WriteError};
use rustc_hash::FxHashMap;

/// Bytes of a request that say how long the answer shall be.
pub(crate) const HEADER_BYTES: u64 = 8;

/// One exchange on a stream of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    /// Bytes sent before FIN, the header included; at least [`HEADER_BYTES`].
    pub(crate) send_bytes: u64,
    /// Bytes of answer asked for.
    pub(crate) answer_bytes: u64,
}

/// A request came to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// From the moment the request was due to the moment its FIN was read.
    pub(crate) latency: Duration,
}

/// The requests of one connection.
#[derive(Default)]
pub(crate) struct Exchanges {
    open: FxHashMap<StreamId, Exchange>,
    /// Due, but the server has not granted a stream yet. Their clock is running.
    waiting: VecDeque<Exchange>,
}

struct Exchange {
    due: Instant,
    request: Request,
    sent: u64,
    received: u64,
}

impl Exchanges {
    /// Starts a request, now or as soon as the server grants a stream.
    pub(crate) fn start(
        &mut self,
        connection: &mut Connection,
        request: Request,
        due: Instant,
    ) -> Result<()> {
        debug_assert!(request.send_bytes >= HEADER_BYTES);
        self.waiting.push_back(Exchange { due, request, sent: 0, received: 0 });
        self.open_waiting(connection)
    }

    /// Moves one step on; `Some` when that was the last one of a request.
    pub(crate) fn on_event(
        &mut self,
        connection: &mut Connection,
        event: StreamEvent,
        now: Instant,
    ) -> Result<Option<Answer>> {
        match event {
            StreamEvent::Readable { id } => return self.read(connection, id, now),
            StreamEvent::Writable { id } => {
                if let Some(exchange) = self.open.get_mut(&id) {
                    exchange.write(connection, id)?;
                }
            }
            StreamEvent::Available { .. } => self.open_waiting(connection)?,
            StreamEvent::Finished { .. } => {}
            StreamEvent::Stopped { error_code, .. } => {
                bail!("the server stopped a request with code {error_code}")
            }
            StreamEvent::Opened { .. } => bail!("the server opened a stream"),
        }
        Ok(None)
    }

    fn open_waiting(&mut self, connection: &mut Connection) -> Result<()> {
        while !self.waiting.is_empty() {
            let Some(id) = connection.streams().open(Dir::Bi) else {
                return Ok(());
            };
            let Some(mut exchange) = self.waiting.pop_front() else {
                return Ok(());
            };
            exchange.write(connection, id)?;
            self.open.insert(id, exchange);
        }
        Ok(())
    }

    fn read(
        &mut self,
        connection: &mut Connection,
        id: StreamId,
        now: Instant,
    ) -> Result<Option<Answer>> {
        // Every packet of a burst raises the event; the first of them may have read it all.
        let Some(exchange) = self.open.get_mut(&id) else {
            return Ok(None);
        };
        let mut stream = connection.recv_stream(id);
        let mut chunks = stream.read(true).context("cannot read an answer")?;
        let ended = loop {
            match chunks.next(usize::MAX) {
                Ok(Some(chunk)) => exchange.received += chunk.bytes.len() as u64,
                Ok(None) => break true,
                Err(ReadError::Blocked) => break false,
                Err(ReadError::Reset(code)) => bail!("the server reset an answer, code {code}"),
            }
        };
        // New flow-control credit leaves with the next transmit, which follows every event.
        let _ = chunks.finalize();
        let Exchange { due, request, sent, received } = *exchange;
        let Request { send_bytes, answer_bytes } = request;
        ensure!(received <= answer_bytes, "asked for {answer_bytes} bytes, got {received}");
        if !ended {
            return Ok(None);
        }
        ensure!(received == answer_bytes, "asked for {answer_bytes} bytes, got {received}");
        ensure!(sent == send_bytes, "answered after {sent} of {send_bytes} bytes");
        self.open.remove(&id);
        Ok(Some(Answer { latency: now.saturating_duration_since(due) }))
    }
}

impl Exchange {
    /// Writes header and payload as far as windows allow, then FIN.
    fn write(&mut self, connection: &mut Connection, id: StreamId) -> Result<()> {
        let mut stream = connection.send_stream(id);
        let header = self.request.answer_bytes.to_be_bytes();
        while self.sent < self.request.send_bytes {
            let written = if self.sent < HEADER_BYTES {
                let start = usize::try_from(self.sent)?;
                stream.write(&header[start..])
            } else {
                let missing = usize::try_from(self.request.send_bytes - self.sent)?;
                let payload = Bytes::from_static(&PAYLOAD[..missing.min(PAYLOAD.len())]);
                stream.write_chunks(&mut [payload]).map(|written| written.bytes)
            };
            match written {
                Ok(bytes) => self.sent += bytes as u64,
                Err(WriteError::Blocked) => return Ok(()),
                Err(error) => return Err(error).context("cannot write a request"),
            }
        }
        stream.finish().context("cannot finish a request")
    }
}

/// What requests are padded with: static, so that writing costs the client no copy.
static PAYLOAD: [u8; 1 << 20] = [0; 1 << 20];
