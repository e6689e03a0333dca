//! prepared encodes a header section once, to be sent as often as wanted.
//!
//! Without a dynamic table a section is the same bytes on every stream of every connection: a
//! client that repeats a request, or a server that repeats a response, encodes it once and copies
//! it, or shares it without a copy.
//!
//! ```text
//!   bytes   ......  type length │ 00 00 │ line │ line │ ...
//!                   └ frame() ──┴───────┴──────┴──────┴──►    type and length stand right before
//!                                                            the section and grow to the left
//! ```

use std::fmt;

use crate::frame::{HEADER_BYTES_MAX, kind};
use crate::qpack::encode;
use crate::validate::{self, Name};
use crate::varint;
use crate::violation::Violation;

/// The HEADERS frame of a request, a response or trailers.
#[derive(Clone, Debug)]
pub struct Prepared {
    bytes: Vec<u8>,
    /// Where the frame begins.
    start: usize,
    section_bytes: u64,
    kind: Kind,
}

/// What a section is the beginning or the end of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Request {
        method: Method,
    },
    /// Status 1xx: another response follows.
    Interim,
    Response,
    Trailers,
}

/// What of a method matters here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Method {
    /// The response has no content whatever it says.
    Head,
    Other,
}

impl Prepared {
    /// A request, `GET https://example.org/path` in four pieces. Add its fields with
    /// [`with`](Self::with) or [`push`](Self::push).
    ///
    /// # Errors
    /// When a piece is not what RFC 9114 section 4.3.1 wants. CONNECT is not for a client here.
    pub fn request(
        method: impl AsRef<[u8]>,
        scheme: impl AsRef<[u8]>,
        authority: impl AsRef<[u8]>,
        path: impl AsRef<[u8]>,
    ) -> Result<Self, Invalid> {
        let mut prepared = Self::trailers();
        prepared.set_request(
            method.as_ref(),
            scheme.as_ref(),
            authority.as_ref(),
            path.as_ref(),
        )?;
        Ok(prepared)
    }

    /// A response, or with a status from 100 to 199 an interim one.
    ///
    /// # Errors
    /// For a status below 100, above 999, or 101.
    pub fn response(status: u16) -> Result<Self, Invalid> {
        let mut prepared = Self::trailers();
        prepared.set_response(status)?;
        Ok(prepared)
    }

    /// Trailers, empty at first.
    #[must_use]
    pub fn trailers() -> Self {
        let mut prepared =
            Self { bytes: Vec::new(), start: 0, section_bytes: 0, kind: Kind::Trailers };
        prepared.set_trailers();
        prepared
    }

    /// Becomes another request, in the same memory.
    ///
    /// # Errors
    /// As [`request`](Self::request); then the content is not to be used.
    pub fn set_request(
        &mut self,
        method: &[u8],
        scheme: &[u8],
        authority: &[u8],
        path: &[u8],
    ) -> Result<(), Invalid> {
        let is_head = method == b"HEAD";
        self.clear(Kind::Request { method: if is_head { Method::Head } else { Method::Other } });
        validate::method(method).map_err(Invalid)?;
        if method == b"CONNECT" {
            return Err(Invalid(Violation::MethodInvalid));
        }
        validate::scheme(scheme).map_err(Invalid)?;
        validate::authority(authority).map_err(Invalid)?;
        validate::path(path, method).map_err(Invalid)?;
        self.line(b":method", method);
        self.line(b":scheme", scheme);
        self.line(b":authority", authority);
        self.line(b":path", path);
        Ok(())
    }

    /// Becomes another response, in the same memory.
    ///
    /// # Errors
    /// As [`response`](Self::response); then the content is not to be used.
    pub fn set_response(&mut self, status: u16) -> Result<(), Invalid> {
        self.clear(if status < 200 { Kind::Interim } else { Kind::Response });
        match status {
            101 => return Err(Invalid(Violation::StatusSwitchingProtocols)),
            100..=999 => {}
            _ => return Err(Invalid(Violation::StatusInvalid)),
        }
        let digit = |power: u16| b'0' + u8::try_from(status / power % 10).unwrap_or_default();
        self.line(b":status", &[digit(100), digit(10), digit(1)]);
        Ok(())
    }

    /// Becomes other trailers, in the same memory.
    pub fn set_trailers(&mut self) {
        self.clear(Kind::Trailers);
    }

    /// Adds a field and returns itself.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn with(
        mut self,
        name: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<Self, Invalid> {
        self.push(name.as_ref(), value.as_ref())?;
        Ok(self)
    }

    /// Adds a field.
    ///
    /// # Errors
    /// For a name that is not in lower case or no token, a value with control characters or with
    /// whitespace around it, a content-length that is no number, and for a field that belongs to a
    /// connection. Nothing is added then.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), Invalid> {
        match Name::of(name).map_err(Invalid)? {
            // Those that belong in a message are there already.
            Name::Pseudo(_) => return Err(Invalid(Violation::PseudoForbidden)),
            Name::ConnectionSpecific => return Err(Invalid(Violation::FieldConnectionSpecific)),
            Name::Te if value != b"trailers" => {
                return Err(Invalid(Violation::FieldConnectionSpecific));
            }
            Name::ContentLength if validate::number(value).is_none() => {
                return Err(Invalid(Violation::ContentLengthInvalid));
            }
            _ => {}
        }
        validate::value(value).map_err(Invalid)?;
        self.line(name, value);
        Ok(())
    }

    /// The whole frame, to be written to the stream as it is.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// The size of the section as the peer's limit counts it (RFC 9114 section 4.2.2).
    #[must_use]
    pub fn section_bytes(&self) -> u64 {
        self.section_bytes
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    fn clear(&mut self, kind: Kind) {
        self.bytes.clear();
        self.bytes.resize(HEADER_BYTES_MAX, 0);
        encode::begin(&mut self.bytes);
        (self.section_bytes, self.kind) = (0, kind);
        self.seal();
    }

    fn line(&mut self, name: &[u8], value: &[u8]) {
        self.section_bytes += encode::line(name, value, &mut self.bytes);
        self.seal();
    }

    /// Writes type and length before the section.
    fn seal(&mut self) {
        let (length, length_bytes) = varint::to_bytes((self.bytes.len() - HEADER_BYTES_MAX) as u64);
        self.start = HEADER_BYTES_MAX - 1 - length_bytes;
        let header = self.bytes.get_mut(self.start..HEADER_BYTES_MAX).unwrap_or_default();
        if let Some((first, rest)) = header.split_first_mut() {
            *first = HEADERS_TYPE;
            rest.iter_mut().zip(length).for_each(|(to, from)| *to = from);
        }
    }
}

/// What cannot be sent, because the peer would have to refuse it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Invalid(pub Violation);

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot be sent: {} ({})", self.0.text(), self.0.section())
    }
}

/// A varint of one byte.
const HEADERS_TYPE: u8 = {
    assert!(kind::HEADERS < 0x40);
    0x01
};
