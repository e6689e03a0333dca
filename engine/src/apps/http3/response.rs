//! response is what a service answers with: a head, or a whole response that is encoded once.
//!
//! ```text
//!   Response   HEADERS frame │ DATA header │ content      one piece of memory, shared by clones
//!              └ head_bytes ─┘ all of a response to HEAD
//! ```

use std::sync::Arc;

use bytes::Bytes;
use quiclane_http3::{DataHeader, Invalid, Prepared, Violation};

/// Status and fields of a response.
#[derive(Clone, Debug)]
pub struct Head {
    prepared: Prepared,
    status: u16,
    content_length: Option<u64>,
}

impl Head {
    /// A head without fields; with a status from 100 to 199 an interim one.
    ///
    /// # Errors
    /// For a status below 100, above 999, or 101.
    pub fn new(status: u16) -> Result<Self, Invalid> {
        Ok(Self { prepared: Prepared::response(status)?, status, content_length: None })
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

    /// Adds a field. `content-length` is for responses in pieces; a whole [`Response`] says it by
    /// itself.
    ///
    /// # Errors
    /// For a name that is not in lower case or no token, a value with control characters or with
    /// whitespace around it, a content-length that is no number or said twice, and for a field
    /// that belongs to a connection. Nothing is added then.
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), Invalid> {
        if name == b"content-length" {
            let number = str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            if number.is_none() || self.content_length.is_some() {
                return Err(Invalid(Violation::ContentLengthInvalid));
            }
            self.prepared.push(name, value)?;
            self.content_length = number;
            return Ok(());
        }
        self.prepared.push(name, value)
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// What was said of the content's length.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.content_length
    }

    pub(super) fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    pub(super) fn is_interim(&self) -> bool {
        self.status < 200
    }

    /// Whether a response with this status never has content (RFC 9110 sections 6.4.1 and 15.3.6).
    pub(super) fn is_bare(&self) -> bool {
        matches!(self.status, 100..=199 | 204 | 205 | 304)
    }
}

/// A whole response, encoded once. To clone it is to count one more user.
#[derive(Clone, Debug)]
pub struct Response(Arc<Encoded>);

#[derive(Debug)]
struct Encoded {
    head: Head,
    bytes: Bytes,
    head_bytes: usize,
}

impl Response {
    /// A response with this content, whose length is said if `head` does not say it. A client that
    /// asks with HEAD is sent the head alone.
    ///
    /// # Errors
    /// For an interim head, for content with status 204 or 304, and for a content-length that is
    /// not the content's.
    pub fn new(head: Head, content: impl AsRef<[u8]>) -> Result<Self, Invalid> {
        let content = content.as_ref();
        let fill = |bytes: &mut Vec<u8>| {
            bytes.extend_from_slice(content);
            Ok::<_, Invalid>(())
        };
        Self::filled(head, content.len(), fill)
    }

    /// Some text.
    ///
    /// # Errors
    /// As [`Head::new`] and [`new`](Self::new).
    pub fn text(status: u16, text: impl AsRef<str>) -> Result<Self, Invalid> {
        Self::new(Head::new(status)?.with("content-type", TEXT)?, text.as_ref())
    }

    /// A response whose `length` bytes of content `fill` appends.
    pub(super) fn filled<E: From<Invalid>>(
        mut head: Head,
        length: usize,
        fill: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Self, E> {
        if head.is_interim() {
            return Err(Invalid(Violation::StatusInvalid).into());
        }
        if head.is_bare() && length > 0 {
            return Err(Invalid(Violation::BodyForbidden).into());
        }
        match head.content_length {
            None if head.is_bare() => {}
            None => head.push(b"content-length", length.to_string().as_bytes())?,
            Some(said) if head.status == 304 || said == length as u64 => {}
            Some(said) if said > length as u64 => {
                return Err(Invalid(Violation::BodyTooShort).into());
            }
            Some(_) => return Err(Invalid(Violation::BodyTooLong).into()),
        }
        let frame = head.prepared.frame();
        let head_bytes = frame.len();
        let mut bytes = Vec::with_capacity(head_bytes + DataHeader::BYTES_MAX + length);
        bytes.extend_from_slice(frame);
        if length > 0 {
            bytes.extend_from_slice(DataHeader::new(length as u64).as_bytes());
            let before = bytes.len();
            fill(&mut bytes)?;
            if bytes.len() - before != length {
                return Err(Invalid(Violation::BodyTooShort).into());
            }
        }
        Ok(Self(Arc::new(Encoded { head, bytes: bytes.into(), head_bytes })))
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.0.head.status
    }

    pub(super) fn prepared(&self) -> &Prepared {
        &self.0.head.prepared
    }

    /// What to write, to a client that asked with HEAD or not.
    pub(super) fn bytes(&self, is_head: bool) -> Bytes {
        if is_head { self.0.bytes.slice(..self.0.head_bytes) } else { self.0.bytes.clone() }
    }
}

/// What cannot be sent is the service's own fault: 500.
impl From<Result<Self, Invalid>> for Response {
    fn from(made: Result<Self, Invalid>) -> Self {
        made.unwrap_or_else(|invalid| Self::failed(&invalid))
    }
}

impl Response {
    fn failed(invalid: &Invalid) -> Self {
        // Not to the client, who is not to blame and need not know; whoever tests the service sees
        // a status that cannot be missed.
        let _ = invalid;
        let head = Head { prepared: bare_500(), status: 500, content_length: None };
        let (bytes, head_bytes) =
            (Bytes::copy_from_slice(head.prepared.frame()), head.prepared.frame().len());
        Self(Arc::new(Encoded { head, bytes, head_bytes }))
    }
}

fn bare_500() -> Prepared {
    // 500 is a status, so this is never anything else.
    Prepared::response(500).unwrap_or_else(|_| Prepared::trailers())
}

/// The type of text.
pub(super) const TEXT: &str = "text/plain;charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_response_is_one_piece_and_its_head_the_front_of_it() {
        let response = Response::text(200, "hello").unwrap();
        let (whole, head) = (response.bytes(false), response.bytes(true));
        assert!(whole.starts_with(&head) && whole.ends_with(b"\x00\x05hello"));
        assert_eq!(whole.len(), head.len() + 7);
        assert_eq!(response.clone().bytes(false).as_ptr(), whole.as_ptr(), "shared");
        assert_eq!(response.0.head.content_length, Some(5));
    }

    #[test]
    fn no_content_means_no_data_frame() {
        for status in [200, 204, 205, 304] {
            let response = Response::new(Head::new(status).unwrap(), "").unwrap();
            assert_eq!(response.bytes(false), response.bytes(true), "{status}");
            let length = if status == 200 { Some(0) } else { None };
            assert_eq!(response.0.head.content_length, length);
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let violation = |made: Result<Response, Invalid>| made.unwrap_err().0;
        let head = |status| Head::new(status).unwrap();
        assert_eq!(violation(Response::new(head(204), "x")), Violation::BodyForbidden);
        assert_eq!(violation(Response::new(head(304), "x")), Violation::BodyForbidden);
        assert_eq!(violation(Response::new(head(103), "")), Violation::StatusInvalid);
        let said = |length: &str| head(200).with("content-length", length).unwrap();
        assert_eq!(violation(Response::new(said("2"), "x")), Violation::BodyTooShort);
        assert_eq!(violation(Response::new(said("0"), "x")), Violation::BodyTooLong);
        assert!(Response::new(said("1"), "x").is_ok());
        assert!(said("1").with("content-length", "1").is_err());
        assert!(head(200).with("content-length", "-1").is_err());
        let failed = Response::from(Response::text(42, "x"));
        assert_eq!((failed.status(), failed.bytes(false).is_empty()), (500, false));
    }
}
