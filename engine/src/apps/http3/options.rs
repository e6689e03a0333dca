//! options are what can be chosen about HTTP/3.

use std::time::Duration;

use quiclane_http3::{Config, Limits};

/// Choices of an [`Http3`](super::Http3) server.
#[derive(Clone, Debug)]
pub struct Options {
    /// What a client may ask of one connection.
    pub limits: Limits,
    /// The most content of one request that is collected for the function of
    /// [`Http3::new`](super::Http3::new); beyond, the answer is 413. Default 1 MiB. Exchanges
    /// read content as it comes and need no limit.
    pub content_bytes_max: usize,
    /// The most content that one connection's requests have collected together; beyond, the answer
    /// is 503. Default 8 MiB: more lets one client take more memory, less refuses uploads beside
    /// each other.
    pub collected_bytes_max: usize,
    /// How long a client is waited for. Of a request, the whole head has to come in this time, and
    /// of the content some in each such time; else the stream is reset with H3_REQUEST_INCOMPLETE
    /// (RFC 9114 section 4.1). Of a response, QUIC has to accept some in each such time, for which
    /// the client gives credit and acknowledges; else it is reset with H3_REQUEST_CANCELLED
    /// (section 4.1.1). Too many of both close the connection
    /// ([`Glitch::Stalled`](super::Glitch::Stalled)). If the response is complete and only the
    /// rest of the request is missing, the client is asked to stop, with H3_NO_ERROR.
    ///
    /// A client owes nothing of a request while the service does not ask for content or is to be
    /// asked again at a time. And nobody is given up who only waits for others of the same
    /// connection: a stream gets this time again if, since the client began to owe there or got it
    /// last, the connection has read content and sent, all together, 1 KiB for each second of it;
    /// and one that owes a part of a request, while an exchange leaves content unread that has
    /// come, which may fill the connection's receive window, counted from when that ends.
    ///
    /// Default 1 min, as nginx waits for a head, between two pieces of content, and between two of
    /// a response; Apache waits 20 s, Envoy 5 min. More lets a client that keeps its connection
    /// alive hold what it has begun for longer, less hurts clients that pause.
    /// [`Duration::MAX`] waits for ever.
    pub request_timeout: Duration,
    /// Points that are taken off the score of glitches each second
    /// ([`Limits::glitches_max`]). Default 20: four requests a second may be given up for ever,
    /// and a full score is forgotten in a minute.
    pub glitches_forgiven_per_s: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            content_bytes_max: 1 << 20,
            collected_bytes_max: 8 << 20,
            request_timeout: Duration::from_secs(60),
            glitches_forgiven_per_s: 20,
        }
    }
}

impl Options {
    /// As the core wants them. No handler takes CONNECT or datagrams yet, so they stay refused.
    pub(super) fn config(&self) -> Config {
        Config { limits: self.limits.clone(), ..Config::default() }
    }
}
