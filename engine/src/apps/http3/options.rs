//! options are what can be chosen about HTTP/3.

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
