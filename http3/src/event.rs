//! event is what goes in and out of a [`Connection`](crate::Connection): bytes of a stream in, what
//! they mean out.

use std::fmt;

use crate::code::Code;
use crate::message::{Request, Response};
use crate::qpack::Fields;
use crate::settings::Settings;
use crate::violation::Violation;

/// Which side we are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// Sends requests.
    Client,
    /// Answers them.
    Server,
}

/// What a stream carried next.
#[derive(Clone, Copy, Debug)]
pub struct Input<'d> {
    pub(crate) data: &'d [u8],
    pub(crate) is_end: bool,
}

impl<'d> Input<'d> {
    /// Bytes, and more may follow.
    #[must_use]
    pub const fn new(data: &'d [u8]) -> Self {
        Self { data, is_end: false }
    }

    /// Bytes, and then the stream ends (FIN).
    #[must_use]
    pub const fn last(data: &'d [u8]) -> Self {
        Self { data, is_end: true }
    }

    /// The stream ends.
    #[must_use]
    pub const fn end() -> Self {
        Self::last(&[])
    }

    /// What was not taken yet.
    #[must_use]
    pub const fn rest(&self) -> &'d [u8] {
        self.data
    }
}

/// What a stream said. Sections are lent until the next call, content is a part of the input.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'c, 'd> {
    /// Server: a request, whose content and trailers may follow.
    Request(Request<'c>),
    /// Server: a request that is not for the handler. Answer with this status, end the stream,
    /// and stop reading it with [`Code::NoError`](crate::Code::NoError): no event follows.
    ///
    /// 431: larger than the limits. 501: a CONNECT, plain or extended, that is not taken.
    Refused {
        /// The status of the answer.
        status: u16,
    },
    /// Client: an interim response, status 1xx. Another follows.
    Interim(Response<'c>),
    /// Client: the response, whose content and trailers may follow.
    Response(Response<'c>),
    /// Content.
    Data(&'d [u8]),
    /// The trailers, after all content.
    Trailers(&'c Fields),
    /// The peer's message is complete.
    Finished,
    /// The peer broke a rule on this stream alone. Stop reading it and reset it with the
    /// violation's code. No event follows, and the stream is forgotten.
    Failed(Violation),
    /// A unidirectional stream of a type that means nothing here, which is legal. Stop reading it
    /// with this code. No event follows, and the stream is forgotten.
    Stop(Code),
    /// The peer's settings, once, at the start of a connection.
    Settings(Settings),
    /// The peer is going away. Client: requests on streams from this ID on were not and will not
    /// be processed and may be sent elsewhere; all new ones have to. May come again, with a lower
    /// ID. Server: the ID is of a push, which means nothing here.
    GoAway {
        /// The first ID that is not processed.
        from: u64,
    },
}

/// What becomes of a stream that the peer opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opened {
    /// Hand in what it carries.
    Accepted,
    /// Stop reading it with the violation's code, and if it is bidirectional reset it too.
    Refused(Violation),
}

/// An HTTP datagram (RFC 9297 section 2.1).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Datagram<'d> {
    /// The request stream that it belongs to.
    pub stream: u64,
    /// What it carries.
    pub payload: &'d [u8],
}

/// Why a message, or a part of it, cannot be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SendError {
    /// The peer said GOAWAY: new requests have to go over another connection.
    GoingAway,
    /// The stream is not one for this message, or over.
    NoSuchStream,
    /// Not what comes next: interim responses, a response, content, trailers; and on each side
    /// only what that side sends.
    OutOfOrder,
    /// Larger than the peer takes, as its SETTINGS say.
    SectionTooLarge {
        /// The size as limits count it.
        bytes: u64,
        /// What the peer takes.
        bytes_max: u64,
    },
}

impl std::error::Error for SendError {}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GoingAway => f.write_str("the peer is going away: use another connection"),
            Self::NoSuchStream => f.write_str("the stream is not open for this message"),
            Self::OutOfOrder => f.write_str("not what comes next in a message"),
            Self::SectionTooLarge { bytes, bytes_max } => {
                write!(f, "field section of {bytes} bytes, the peer takes {bytes_max}")
            }
        }
    }
}
