//! h3_memory lets the h3 crate speak over memory: its transport traits without QUIC and without a
//! runtime. Every byte is there at once, so a future is ready after a few polls.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use h3::quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf};

/// One direction of a stream.
#[derive(Clone, Default)]
pub(crate) struct Pipe(Rc<RefCell<Direction>>);

#[derive(Default)]
struct Direction {
    chunks: VecDeque<Bytes>,
    is_over: bool,
}

impl Pipe {
    pub(crate) fn write(&self, bytes: Bytes) {
        self.0.borrow_mut().chunks.push_back(bytes);
    }

    pub(crate) fn finish(&self) {
        self.0.borrow_mut().is_over = true;
    }

    /// Everything so far, and whether the stream is over.
    pub(crate) fn take(&self) -> (Vec<u8>, bool) {
        let mut direction = self.0.borrow_mut();
        let all = direction.chunks.drain(..).flatten().collect();
        (all, direction.is_over)
    }

    fn poll(&self) -> Poll<Option<Bytes>> {
        let mut direction = self.0.borrow_mut();
        match direction.chunks.pop_front() {
            Some(chunk) => Poll::Ready(Some(chunk)),
            None if direction.is_over => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// What each side opened and the other has not accepted yet; the client is side 0.
#[derive(Default)]
struct Wire {
    bidis: [VecDeque<(u64, Pipe, Pipe)>; 2],
    unis: [VecDeque<(u64, Pipe)>; 2],
    opened_bidis: [u64; 2],
    opened_unis: [u64; 2],
}

/// One end of a connection in memory.
#[derive(Clone)]
pub(crate) struct End {
    wire: Rc<RefCell<Wire>>,
    side: usize,
}

/// Client and server ends.
pub(crate) fn connection() -> (End, End) {
    let wire = Rc::new(RefCell::new(Wire::default()));
    (End { wire: wire.clone(), side: 0 }, End { wire, side: 1 })
}

impl End {
    /// Opens a bidirectional stream: what we write and what we read.
    pub(crate) fn open_bidi(&self) -> (u64, Pipe, Pipe) {
        let mut wire = self.wire.borrow_mut();
        let id = wire.opened_bidis[self.side] * 4 + self.side as u64;
        wire.opened_bidis[self.side] += 1;
        let (ours, theirs) = (Pipe::default(), Pipe::default());
        wire.bidis[self.side].push_back((id, ours.clone(), theirs.clone()));
        (id, ours, theirs)
    }

    pub(crate) fn open_uni(&self) -> (u64, Pipe) {
        let mut wire = self.wire.borrow_mut();
        let id = wire.opened_unis[self.side] * 4 + 2 + self.side as u64;
        wire.opened_unis[self.side] += 1;
        let pipe = Pipe::default();
        wire.unis[self.side].push_back((id, pipe.clone()));
        (id, pipe)
    }

    /// The next bidirectional stream of the other side: what we read and what we write.
    pub(crate) fn accept_bidi(&self) -> Option<(u64, Pipe, Pipe)> {
        self.wire.borrow_mut().bidis[1 - self.side].pop_front()
    }

    pub(crate) fn accept_uni(&self) -> Option<(u64, Pipe)> {
        self.wire.borrow_mut().unis[1 - self.side].pop_front()
    }
}

pub(crate) struct Send(u64, Pipe);
pub(crate) struct Recv(u64, Pipe);
pub(crate) struct Bidi(Send, Recv);

impl quic::SendStream<Bytes> for Send {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        Poll::Ready(Ok(()))
    }
    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        let mut data = data.into();
        self.1.write(data.copy_to_bytes(data.remaining()));
        Ok(())
    }
    fn poll_finish(&mut self, _: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.1.finish();
        Poll::Ready(Ok(()))
    }
    fn reset(&mut self, code: u64) {
        panic!("h3 reset stream {} with {code:#x}", self.0);
    }
    fn send_id(&self) -> StreamId {
        id(self.0)
    }
}

impl quic::RecvStream for Recv {
    type Buf = Bytes;
    fn poll_data(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.1.poll().map(Ok)
    }
    fn stop_sending(&mut self, _: u64) {}
    fn recv_id(&self) -> StreamId {
        id(self.0)
    }
}

impl quic::SendStream<Bytes> for Bidi {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.0.poll_ready(context)
    }
    fn send_data<T: Into<WriteBuf<Bytes>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.0.send_data(data)
    }
    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.0.poll_finish(context)
    }
    fn reset(&mut self, code: u64) {
        self.0.reset(code);
    }
    fn send_id(&self) -> StreamId {
        self.0.send_id()
    }
}

impl quic::RecvStream for Bidi {
    type Buf = Bytes;
    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.1.poll_data(context)
    }
    fn stop_sending(&mut self, code: u64) {
        self.1.stop_sending(code);
    }
    fn recv_id(&self) -> StreamId {
        self.1.recv_id()
    }
}

impl quic::BidiStream<Bytes> for Bidi {
    type SendStream = Send;
    type RecvStream = Recv;
    fn split(self) -> (Send, Recv) {
        (self.0, self.1)
    }
}

impl quic::OpenStreams<Bytes> for End {
    type BidiStream = Bidi;
    type SendStream = Send;
    fn poll_open_bidi(&mut self, _: &mut Context<'_>) -> Poll<Result<Bidi, StreamErrorIncoming>> {
        let (id, ours, theirs) = self.open_bidi();
        Poll::Ready(Ok(Bidi(Send(id, ours), Recv(id, theirs))))
    }
    fn poll_open_send(&mut self, _: &mut Context<'_>) -> Poll<Result<Send, StreamErrorIncoming>> {
        let (id, pipe) = self.open_uni();
        Poll::Ready(Ok(Send(id, pipe)))
    }
    fn close(&mut self, code: h3::error::Code, reason: &[u8]) {
        let is_fine = code == h3::error::Code::H3_NO_ERROR;
        assert!(is_fine, "h3 closed: {code} {}", String::from_utf8_lossy(reason));
    }
}

impl quic::Connection<Bytes> for End {
    type RecvStream = Recv;
    type OpenStreams = Self;
    fn poll_accept_recv(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Result<Recv, ConnectionErrorIncoming>> {
        match self.accept_uni() {
            Some((id, pipe)) => Poll::Ready(Ok(Recv(id, pipe))),
            None => Poll::Pending,
        }
    }
    fn poll_accept_bidi(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Result<Bidi, ConnectionErrorIncoming>> {
        match self.accept_bidi() {
            Some((id, theirs, ours)) => Poll::Ready(Ok(Bidi(Send(id, ours), Recv(id, theirs)))),
            None => Poll::Pending,
        }
    }
    fn opener(&self) -> Self {
        self.clone()
    }
}

/// Polls a future that needs nothing but polls.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..100 {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
    panic!("h3 waits for something that never comes");
}

fn id(stream: u64) -> StreamId {
    StreamId::try_from(stream).unwrap_or_else(|_| panic!("stream {stream}"))
}
