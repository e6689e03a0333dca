//! protocol is what a run speaks, and in HTTP what it asks for.

use std::num::NonZero;

use bytes::Bytes;
use quiclane_http3::{Invalid, Prepared, Violation};

/// The application protocol of draft-banks-quic-performance.
pub const PERF_ALPN: &[u8] = b"perf";

/// The application protocol of HTTP/3 (RFC 9114 section 3.1).
pub const H3_ALPN: &[u8] = b"h3";

/// HTTP/0.9 over QUIC, as the QUIC interop runner has it.
pub const HQ_ALPN: &[u8] = b"hq-interop";

/// What `quiclane serve --alpn echo` speaks; no document defines it over QUIC.
pub const ECHO_ALPN: &[u8] = b"echo";

/// What is spoken on each connection. The targets' TLS has to offer its [`alpn`](Self::alpn).
#[derive(Clone, Debug, Default)]
pub enum Protocol {
    /// `perf` (draft-banks-quic-performance-00). Default.
    #[default]
    Perf,
    /// HTTP/3 (RFC 9114), with the requests of [`Workload::Http`](crate::Workload::Http): each
    /// worker takes them in turn. Other workloads need none.
    Http3(Vec<HttpRequest>),
    /// HTTP/0.9 over QUIC, with the requests of [`Workload::Http`](crate::Workload::Http): there is
    /// no status, and a file that is not there is a reset.
    Hq(Vec<HqRequest>),
    /// Streams whose bytes come back, with [`Workload::Streams`](crate::Workload::Streams).
    Echo(Body),
    /// Streams of any protocol that answers a body with bytes, with
    /// [`Workload::Streams`](crate::Workload::Streams).
    Raw {
        /// Its name in the TLS handshake.
        alpn: Vec<u8>,
        /// What each stream takes up.
        body: Body,
    },
}

impl Protocol {
    /// Its name in the TLS handshake.
    #[must_use]
    pub fn alpn(&self) -> &[u8] {
        match self {
            Self::Perf => PERF_ALPN,
            Self::Http3(_) => H3_ALPN,
            Self::Hq(_) => HQ_ALPN,
            Self::Echo(_) => ECHO_ALPN,
            Self::Raw { alpn, .. } => alpn,
        }
    }

    /// What people call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Perf => "perf".into(),
            Self::Http3(_) => "HTTP/3".into(),
            Self::Hq(_) => "HTTP/0.9".into(),
            Self::Echo(_) => "echo".into(),
            Self::Raw { alpn, .. } => format!("raw {}", String::from_utf8_lossy(alpn)),
        }
    }

    /// What each stream takes up, where there are only streams.
    pub(crate) fn body_bytes(&self) -> Option<u64> {
        match self {
            Self::Perf | Self::Http3(_) | Self::Hq(_) => None,
            Self::Echo(body) | Self::Raw { body, .. } => body.bytes(),
        }
    }

    /// How often each of its requests is sent, where there are several kinds.
    pub(crate) fn weights(&self) -> Vec<u32> {
        match self {
            Self::Http3(requests) => requests.iter().map(HttpRequest::weight).collect(),
            Self::Hq(requests) => requests.iter().map(HqRequest::weight).collect(),
            Self::Perf | Self::Echo(_) | Self::Raw { .. } => Vec::new(),
        }
    }
}

/// A request over HTTP/0.9.
#[derive(Clone, Debug)]
pub struct HqRequest {
    path: String,
    weight: NonZero<u32>,
}

impl HqRequest {
    /// A request for `path`.
    ///
    /// # Errors
    /// For a path that does not begin with a slash, or has spaces or control characters.
    pub fn new(path: &str) -> Result<Self, HttpError> {
        let is_path = path.starts_with('/') && path.bytes().all(|byte| byte > b' ' && byte != 127);
        match is_path {
            true => Ok(Self { path: path.into(), weight: NonZero::<u32>::MIN }),
            false => Err(HttpError::Path(path.into())),
        }
    }

    /// Sends it so often, where others are sent as often as their weight says. Default 1.
    #[must_use]
    pub fn weighted(self, weight: NonZero<u32>) -> Self {
        Self { weight, ..self }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    pub(crate) fn weight(&self) -> u32 {
        self.weight.get()
    }
}

/// A request over HTTP, made once and sent as often as wanted.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    head: Prepared,
    method: String,
    body: Body,
    weight: NonZero<u32>,
}

impl HttpRequest {
    /// `method` for `https://authority``path`, with `content-length` if there is a body. `path`
    /// may have a query.
    ///
    /// # Errors
    /// For a method, an authority or a path that HTTP does not allow; and for CONNECT.
    pub fn new(method: &str, authority: &str, path: &str, body: Body) -> Result<Self, HttpError> {
        // One by one, to name the one that is wrong.
        Prepared::request(method, "https", "a", "/")
            .map_err(|_| HttpError::Method(method.into()))?;
        Prepared::request(method, "https", authority, "/")
            .map_err(|_| HttpError::Authority(authority.into()))?;
        // RFC 3986 section 2: what is not ASCII is written as % and digits.
        let mut head = Some(path)
            .filter(|path| path.is_ascii())
            .and_then(|path| Prepared::request(method, "https", authority, path).ok())
            .ok_or_else(|| HttpError::Path(path.into()))?;
        if let Some(bytes) = body.bytes() {
            let length = bytes.to_string();
            push(&mut head, "content-length", &length)?;
        }
        Ok(Self { head, method: method.into(), body, weight: NonZero::<u32>::MIN })
    }

    /// Adds a header field. Its name is sent in lower case, and spaces around the value are not.
    ///
    /// # Errors
    /// For what cannot stand in a request over HTTP/3, and for `content-length`.
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, HttpError> {
        let name = name.to_ascii_lowercase();
        if name == "content-length" {
            return Err(HttpError::Field { name, why: "it is that of the body: leave it out" });
        }
        push(&mut self.head, &name, value.trim_matches([' ', '\t']))?;
        Ok(self)
    }

    /// Sends it so often, where others are sent as often as their weight says. Default 1.
    #[must_use]
    pub fn weighted(self, weight: NonZero<u32>) -> Self {
        Self { weight, ..self }
    }

    /// How often it is sent, beside others.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight.get()
    }

    /// Its method.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Bytes of its body.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        self.body.bytes().unwrap_or_default()
    }

    pub(crate) fn head(&self) -> &Prepared {
        &self.head
    }

    pub(crate) fn body(&self) -> &Body {
        &self.body
    }
}

fn push(head: &mut Prepared, name: &str, value: &str) -> Result<(), HttpError> {
    let pushed = head.push(name.as_bytes(), value.as_bytes());
    pushed.map_err(|Invalid(why)| HttpError::Field { name: name.into(), why: remedy(why) })
}

fn remedy(violation: Violation) -> &'static str {
    match violation {
        Violation::FieldConnectionSpecific => {
            "it belongs to connections of HTTP/1.1, HTTP/3 has none such: leave it out"
        }
        Violation::PseudoForbidden => {
            "what begins with a colon comes from the method and the URL: change those"
        }
        Violation::FieldValue => "a value has no control characters: leave them out",
        _ => "a name has letters, digits and !#$%&'*+-.^_`|~ only: leave out the rest",
    }
}

/// What a request carries.
#[derive(Clone, Debug, Default)]
pub enum Body {
    /// Nothing, not even a `content-length`. Default.
    #[default]
    None,
    /// These bytes, which all requests share.
    Bytes(Bytes),
    /// So many zeros, which take no memory.
    Zeros(u64),
}

impl Body {
    /// Bytes, and zeros after them.
    pub(crate) fn parts(&self) -> (Bytes, u64) {
        match self {
            Self::None => (Bytes::new(), 0),
            Self::Bytes(bytes) => (bytes.clone(), 0),
            Self::Zeros(bytes) => (Bytes::new(), *bytes),
        }
    }

    fn bytes(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::Zeros(bytes) => Some(*bytes),
        }
    }
}

/// Why a request cannot be sent.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No token, or CONNECT.
    #[error("method {0:?}: write a word such as GET; CONNECT is not possible")]
    Method(String),
    /// Neither a host nor a host and a port.
    #[error("authority {0:?}: write HOST or HOST:PORT, with neither user nor password")]
    Authority(String),
    /// Not from a URL.
    #[error("path {0:?}: write spaces as %20, other special characters as % and two digits too")]
    Path(String),
    /// A field that a request over HTTP/3 cannot have.
    #[error("header {name:?}: {why}")]
    Field {
        /// Its name.
        name: String,
        /// What is wrong, and the remedy.
        why: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get() -> HttpRequest {
        HttpRequest::new("GET", "localhost", "/", Body::None).unwrap()
    }

    #[test]
    fn what_cannot_be_sent_is_named() {
        for (method, authority, path, expected) in [
            ("G T", "a", "/", HttpError::Method("G T".into())),
            ("CONNECT", "a", "/", HttpError::Method("CONNECT".into())),
            ("GET", "u@a", "/", HttpError::Authority("u@a".into())),
            ("GET", "", "/", HttpError::Authority(String::new())),
            ("GET", "a", "/ ", HttpError::Path("/ ".into())),
            ("GET", "a", "b", HttpError::Path("b".into())),
            ("GET", "a", "/\u{fc}", HttpError::Path("/\u{fc}".into())),
        ] {
            let error = HttpRequest::new(method, authority, path, Body::None).unwrap_err();
            assert_eq!(error, expected);
        }
        assert!(HttpRequest::new("OPTIONS", "a", "*", Body::None).is_ok());
    }

    #[test]
    fn fields_are_lowered_trimmed_and_judged() {
        assert!(get().with("X-Name", " \tvalue ").is_ok());
        for (name, value, remedy) in [
            ("Connection", "close", "leave it out"),
            ("Transfer-Encoding", "chunked", "leave it out"),
            (":path", "/", "URL"),
            ("Content-Length", "1", "body"),
            ("x", "a\nb", "control characters"),
            ("a b", "", "letters"),
            ("", "", "letters"),
        ] {
            let text = get().with(name, value).unwrap_err().to_string();
            let name = name.to_lowercase();
            assert!(text.contains(&format!("{name:?}")) && text.contains(remedy), "{text}");
        }
    }

    #[test]
    fn requests_of_http_0_9_are_paths() {
        assert_eq!(HqRequest::new("/a?b").unwrap().path(), "/a?b");
        for wrong in ["", "a", "/a b", "/a\r\nGET /b", "/a\u{7f}"] {
            assert_eq!(HqRequest::new(wrong).unwrap_err(), HttpError::Path(wrong.into()));
        }
    }

    #[test]
    fn a_body_has_its_length() {
        let bytes = Body::Bytes(Bytes::from_static(b"abc"));
        for (body, length) in [(Body::None, 0), (bytes, 3), (Body::Zeros(7), 7)] {
            let request = HttpRequest::new("POST", "a", "/", body).unwrap();
            assert_eq!((request.body_bytes(), request.method()), (length, "POST"));
        }
    }
}
