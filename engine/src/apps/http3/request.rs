//! request shows a service what a client asks for.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use quiclane_http3::{Field, Request as Lent, SavedRequest};

use super::date::{Date, Dates};
use crate::app::{Conn, ConnId};

/// The head of a request, valid as a whole. Nothing in it is copied or decoded.
pub struct Request<'a> {
    head: Lent<'a>,
    content: &'a [u8],
    is_complete: bool,
    conn: &'a Conn<'a>,
    dates: &'a Dates,
}

impl<'a> Request<'a> {
    pub(super) fn new(
        head: Lent<'a>,
        is_complete: bool,
        conn: &'a Conn<'a>,
        dates: &'a Dates,
    ) -> Self {
        Self { head, content: &[], is_complete, conn, dates }
    }

    /// The same with its content, which was collected.
    pub(super) fn with_content(self, content: &'a [u8]) -> Self {
        Self { content, is_complete: true, ..self }
    }

    /// The method, a token such as `GET`.
    #[must_use]
    pub fn method(&self) -> &'a [u8] {
        self.head.method()
    }

    /// The scheme, usually `https`.
    #[must_use]
    pub fn scheme(&self) -> &'a [u8] {
        self.head.scheme()
    }

    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> &'a [u8] {
        self.head.authority()
    }

    /// Path and query as they were sent: nothing is decoded. Begins with `/`, or is `*` with
    /// OPTIONS. Free of spaces and control characters.
    #[must_use]
    pub fn target(&self) -> &'a [u8] {
        self.head.path()
    }

    /// The target up to the question mark.
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        self.target().split(|byte| *byte == b'?').next().unwrap_or_default()
    }

    /// The target after the first question mark.
    #[must_use]
    pub fn query(&self) -> Option<&'a [u8]> {
        self.target().splitn(2, |byte| *byte == b'?').nth(1)
    }

    /// The value of the first field with this name, which has to be in lower case.
    #[must_use]
    pub fn field(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.head.field(name)
    }

    /// Every field line, in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        self.head.fields()
    }

    /// How much content is announced, in bytes. The client is held to it.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.head.content_length()
    }

    /// The content, where it was collected: for the handler of [`Http3::new`]. Else empty.
    ///
    /// [`Http3::new`]: super::Http3::new
    #[must_use]
    pub fn content(&self) -> &'a [u8] {
        self.content
    }

    /// Whether nothing follows: there is no content, or it was collected.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// The client's address now; it may change during the exchange.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.conn.remote()
    }

    /// Smoothed round-trip time.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.conn.rtt()
    }

    /// The time of this turn.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.conn.now()
    }

    /// What a `date` field has to say now.
    #[must_use]
    pub fn date(&self) -> Date {
        self.dates.at(self.conn.now())
    }

    /// Copies the head to where it can stay, for an exchange that needs it later.
    #[must_use]
    pub fn save(&self) -> SavedRequest {
        let mut saved = SavedRequest::default();
        self.head.save(&mut saved);
        saved
    }

    /// The connection that it came on.
    pub(super) fn conn(&self) -> ConnId {
        self.conn.id()
    }

    pub(super) fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method().escape_ascii().to_string())
            .field("target", &self.target().escape_ascii().to_string())
            .field("is_complete", &self.is_complete)
            .finish_non_exhaustive()
    }
}
