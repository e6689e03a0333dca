//! message shows decoded sections as what they mean: requests, responses, trailers.

use crate::qpack::{Field, Fields};
use crate::validate::{Head, of};

/// A request's header section, valid as a whole. Lent for one event.
#[derive(Clone, Copy, Debug)]
pub struct Request<'c> {
    pub(crate) fields: &'c Fields,
    pub(crate) head: &'c Head,
}

impl<'c> Request<'c> {
    /// The method, a token such as `GET`.
    #[must_use]
    pub fn method(&self) -> &'c [u8] {
        of(self.fields, self.head.method).unwrap_or_default()
    }

    /// The scheme, usually `https`; empty for a plain CONNECT.
    #[must_use]
    pub fn scheme(&self) -> &'c [u8] {
        of(self.fields, self.head.scheme).unwrap_or_default()
    }

    /// Host and port, from `:authority` or else from `host`; empty if a scheme other than
    /// http and https has none.
    #[must_use]
    pub fn authority(&self) -> &'c [u8] {
        let authority = of(self.fields, self.head.authority);
        authority.or_else(|| self.fields.first(b"host")).unwrap_or_default()
    }

    /// Path and query, beginning with `/`, as it was sent: nothing is decoded. `*` is possible
    /// with OPTIONS, empty with a plain CONNECT. Free of control characters and spaces.
    #[must_use]
    pub fn path(&self) -> &'c [u8] {
        of(self.fields, self.head.path).unwrap_or_default()
    }

    /// The protocol of an extended CONNECT.
    #[must_use]
    pub fn protocol(&self) -> Option<&'c [u8]> {
        of(self.fields, self.head.protocol)
    }

    /// How much content is announced, in bytes. The core holds the client to it.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.head.content_length
    }

    /// The fields that are no pseudo-header fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'c>> + use<'c> {
        self.fields.iter().skip(self.head.pseudo)
    }

    /// The value of the first field with this name, which has to be in lower case.
    #[must_use]
    pub fn field(&self, name: &[u8]) -> Option<&'c [u8]> {
        self.fields.first(name)
    }

    /// The size of the section as limits count it.
    #[must_use]
    pub fn section_bytes(&self) -> u64 {
        self.fields.section_bytes()
    }

    /// Copies it to where it can stay, for a handler that also waits for content. Memory that
    /// served before serves again.
    pub fn save(&self, to: &mut SavedRequest) {
        to.fields.copy_from(self.fields);
        to.head = *self.head;
    }
}

/// A request that outlives its event.
#[derive(Clone, Debug, Default)]
pub struct SavedRequest {
    fields: Fields,
    head: Head,
}

impl SavedRequest {
    /// The request that was saved; one without any field if there was none.
    #[must_use]
    pub fn request(&self) -> Request<'_> {
        Request { fields: &self.fields, head: &self.head }
    }
}

/// A response's header section, valid as a whole. Lent for one event.
#[derive(Clone, Copy, Debug)]
pub struct Response<'c> {
    pub(crate) fields: &'c Fields,
    pub(crate) head: &'c Head,
}

impl<'c> Response<'c> {
    /// The status, 100 to 999.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// How much content is announced, in bytes. The core holds the server to it, but for HEAD
    /// and 304, where it says what a GET would have got.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        self.head.content_length
    }

    /// The fields but for `:status`, in order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'c>> + use<'c> {
        self.fields.iter().skip(self.head.pseudo)
    }

    /// The value of the first field with this name, which has to be in lower case.
    #[must_use]
    pub fn field(&self, name: &[u8]) -> Option<&'c [u8]> {
        self.fields.first(name)
    }

    /// The size of the section as limits count it.
    #[must_use]
    pub fn section_bytes(&self) -> u64 {
        self.fields.section_bytes()
    }
}
