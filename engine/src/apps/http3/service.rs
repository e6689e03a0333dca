//! service is what a user of HTTP/3 implements: it answers requests, whole or piece by piece.
//!
//! ```text
//!   Service::request ─┬─► Reply::Whole      a response that is encoded already
//!                     └─► Reply::Exchange   asked with next() for one piece after the other:
//!
//!   Interim* ─► Head ─► Data* ─► Trailers | End        or Whole, for all of it at once
//!       Wait, WaitUntil: nothing now       Abort: no response after all
//! ```
//!
//! An exchange is asked for its next piece only when the last one was written, and content is read
//! from QUIC only when it asks for that: either side holds back the other by flow control.

use std::fmt;
use std::time::Instant;

use bytes::Bytes;
use quiclane_http3::{Code, Fields, Prepared};

use super::body::Body;
use super::request::Request;
use super::response::{Head, Response};

/// Answers the requests of one worker. It must return quickly and must not block.
pub trait Service {
    /// A request has come. Its content, if it has any, is for the exchange.
    fn request(&mut self, request: &Request<'_>) -> Reply;
}

impl<F: FnMut(&Request<'_>) -> Reply> Service for F {
    fn request(&mut self, request: &Request<'_>) -> Reply {
        self(request)
    }
}

/// How a request is answered.
pub enum Reply {
    /// With this. Content of the request is thrown away.
    Whole(Response),
    /// In pieces.
    Exchange(Box<dyn Exchange>),
}

impl Reply {
    /// In pieces.
    #[must_use]
    pub fn exchange(exchange: impl Exchange + 'static) -> Self {
        Self::Exchange(Box::new(exchange))
    }
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::Whole(response)
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(response) => f.debug_tuple("Whole").field(response).finish(),
            Self::Exchange(_) => f.write_str("Exchange(..)"),
        }
    }
}

/// A request that is answered in pieces. It is dropped when the response is complete, and earlier
/// if the client gives the request up or breaks a rule.
pub trait Exchange {
    /// The next piece of the response. Asked when the last one was written, after
    /// [`Next::Wait`] when content has come, and at the time of [`Next::WaitUntil`]; it may also
    /// be asked without a reason, and then waits again.
    ///
    /// To a client that asked with HEAD, and with status 204 and 304, the head is all: the
    /// exchange ends there by itself. With a `content-length` the exchange is held to it: too much
    /// or too little resets the stream with H3_INTERNAL_ERROR, so that nobody takes a part for the
    /// whole.
    fn next(&mut self, content: &mut Body<'_>) -> Next;
}

/// What comes next of a response.
#[derive(Debug)]
pub enum Next {
    /// An interim response, status 1xx.
    Interim(Head),
    /// Status and fields.
    Head(Head),
    /// Content. It is not copied. Pieces of 4 to 64 KiB are best: each costs a frame, and is held
    /// until the client takes it, for which it has
    /// [`Options::request_timeout`](super::Options::request_timeout).
    Data(Bytes),
    /// Fields after the content, which end the response.
    Trailers(Prepared),
    /// The response is complete.
    End,
    /// The whole response, if nothing but interim ones was sent.
    Whole(Response),
    /// Nothing before more content comes, which is waited for no longer than
    /// [`Options::request_timeout`](super::Options::request_timeout) says.
    Wait,
    /// Nothing before this time, or before more content comes. The exchange bounds the wait by
    /// this, so the client may take as long.
    WaitUntil(Instant),
    /// There is no response, or no end of it: the stream is reset with this code.
    Abort(Code),
}

/// What comes next of a request's content.
#[derive(Debug)]
pub enum Content {
    /// Some of it, never empty.
    Piece(Bytes),
    /// Nothing now; the exchange is asked again when there is.
    Wait,
    /// Fields after all content. [`End`](Self::End) follows.
    Trailers(Fields),
    /// There is no more.
    End,
}
