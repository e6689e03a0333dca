//! exchange is what one request writes and what it expects: here the protocols differ, and in
//! nothing else.
//!
//! ```text
//!              begin             Outgoing::write          read
//! Exchange ───────────► Outgoing ───────────────► stream ──────► Heard
//! ```

mod classes;
mod http3;
mod order;
mod outgoing;
mod perf;
mod plain;

pub(crate) use classes::close_class;
use classes::{reset_class, violation_class};
pub(crate) use http3::{Http3, Session, Told};
pub(crate) use order::round;
pub(crate) use outgoing::{Next, Outgoing};
pub(crate) use perf::Perf;
pub(crate) use plain::Plain;

use quiclane::{CloseReason, VarInt};
use quiclane_http3::{Code, Violation};

use crate::config::{LoadConfig, Workload};
use crate::protocol::Protocol;

/// The requests of a run.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// As many bytes as asked for.
    Perf(Perf),
    /// HTTP, on connections that have a [`Session`].
    Http3(Http3),
    /// Streams and nothing else.
    Plain(Plain),
}

impl Exchange {
    /// The requests of worker `worker`; `None` where there are none.
    pub(crate) fn new(config: &LoadConfig, worker: usize) -> Option<Self> {
        match (&config.protocol, config.workload) {
            (Protocol::Http3(requests), Workload::Http) => {
                Some(Self::Http3(Http3::new(requests, worker)))
            }
            (Protocol::Hq(requests), Workload::Http) => {
                Some(Self::Plain(Plain::hq(requests, worker)))
            }
            (Protocol::Echo(body), Workload::Streams) => Some(Self::Plain(Plain::body(body, true))),
            (Protocol::Raw { body, .. }, Workload::Streams) => {
                Some(Self::Plain(Plain::body(body, false)))
            }
            (_, workload) => workload.sizes().map(|(up, down)| Self::Perf(Perf::new(up, down))),
        }
    }

    /// Which of the requests is the next one.
    pub(crate) fn next(&mut self) -> usize {
        match self {
            Self::Perf(_) => 0,
            Self::Http3(http) => http.next(),
            Self::Plain(plain) => plain.next(),
        }
    }

    /// What request number `which` has to write. Copies and allocates nothing.
    pub(crate) fn begin(&self, which: usize) -> Outgoing {
        match self {
            Self::Perf(perf) => perf.begin(),
            Self::Http3(http) => http.begin(which),
            Self::Plain(plain) => plain.begin(which),
        }
    }
}

/// What was heard of a response.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Heard {
    /// More is to come.
    Part,
    /// It is complete.
    All,
    /// It will not be, and the stream is to be given up.
    Failed(Failure),
    /// The server broke a rule that the whole connection stands on.
    Broken(Violation),
}

/// How a request failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// Its error class.
    pub(crate) class: &'static str,
    why: Why,
}

#[derive(Clone, Copy, Debug)]
enum Why {
    /// The class says it all.
    Class,
    /// The server sent this code.
    Code(VarInt),
    /// The server broke a rule.
    Violation(Violation),
    /// The response has this status.
    Status(u16),
    /// The server takes header sections of so many bytes at most.
    TooLarge { bytes: u64, bytes_max: u64 },
}

impl Failure {
    /// One that needs no more words.
    pub(crate) const fn plain(class: &'static str) -> Self {
        Self { class, why: Why::Class }
    }

    /// The server refused, or abandoned something, maybe with a code.
    pub(crate) fn by_server(class: &'static str, code: Option<VarInt>) -> Self {
        Self { class, why: code.map_or(Why::Class, Why::Code) }
    }

    /// RESET_STREAM in HTTP/3.
    fn reset(code: VarInt) -> Self {
        Self::by_server(reset_class(code.into_inner()), Some(code))
    }

    /// A rule that was broken on the stream of the request alone.
    fn malformed(violation: Violation) -> Self {
        let class = match violation {
            Violation::BodyTooShort => "short_response",
            Violation::BodyTooLong => "long_response",
            Violation::ResponseMissing => "no_response",
            _ => "malformed_response",
        };
        Self { class, why: Why::Violation(violation) }
    }

    /// A rule that was broken on the connection.
    pub(crate) fn violation(violation: Violation) -> Self {
        Self { class: violation_class(violation), why: Why::Violation(violation) }
    }

    /// A response that says that the request failed; `None` if it says the opposite.
    pub(crate) fn status(status: u16) -> Option<Self> {
        let class = match status {
            0..400 => return None,
            400..500 => "status_4xx",
            500..600 => "status_5xx",
            600.. => "status_other",
        };
        Some(Self { class, why: Why::Status(status) })
    }

    /// What to say of it beyond its class.
    pub(crate) fn example(self) -> Option<String> {
        match self.why {
            Why::Class => None,
            Why::Code(code) => {
                let name = Code::of(code.into_inner()).map_or("", Code::name);
                let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
                Some(format!("by the server, with code {code}{name}"))
            }
            Why::Violation(violation) => Some(violation.to_string()),
            Why::Status(status) => Some(format!("status {status}")),
            Why::TooLarge { bytes, bytes_max } => Some(format!(
                "the header section has {bytes} bytes, the server takes {bytes_max}: send less"
            )),
        }
    }

    /// What the server is told when the request is given up, if it is to be told something.
    pub(crate) fn code(self) -> Option<VarInt> {
        match self.why {
            Why::Violation(violation) => Some(violation.code().value().into()),
            _ => None,
        }
    }
}

/// The codes for what ends well and what is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codes {
    /// A connection that has done its work.
    pub(crate) done: VarInt,
    /// A stream that is given up.
    pub(crate) cancelled: VarInt,
}

impl Codes {
    pub(crate) fn of(protocol: &Protocol) -> Self {
        match protocol {
            // Their documents name none, where there are documents.
            Protocol::Perf | Protocol::Hq(_) | Protocol::Echo(_) | Protocol::Raw { .. } => {
                Self { done: VarInt::from_u32(0), cancelled: VarInt::from_u32(0) }
            }
            Protocol::Http3(_) => Self {
                done: VarInt::from_u32(Code::NoError.value()),
                cancelled: VarInt::from_u32(Code::RequestCancelled.value()),
            },
        }
    }
}

/// The error class of a lost connection.
pub(crate) fn loss_class(protocol: &Protocol, reason: &CloseReason) -> &'static str {
    match (protocol, reason) {
        (Protocol::Http3(_), CloseReason::Application { code, .. }) => close_class(*code),
        _ => reason.class(),
    }
}
