//! promises is what the fuzzers ask of a connection between two calls.

use super::Connection;
use crate::event::Role;
use crate::limits::Limits;

impl Connection {
    pub(crate) fn knows(&self, stream: u64) -> bool {
        self.exchanges.get(stream).is_some() || self.unis.iter().any(|(id, _)| *id == stream)
    }

    pub(crate) fn is_client(&self) -> bool {
        self.role == Role::Client
    }

    /// Panics unless all counts are right and within the limits.
    pub(crate) fn check(&self, limits: &Limits) {
        let collected = self.exchanges.iter().map(|(_, exchange)| exchange.collected()).sum();
        assert_eq!(self.unfinished.bytes(), collected, "cut sections are counted wrong");
        assert!(collected <= limits.unfinished_bytes_max, "too much of cut sections");
        let own = self.role == Role::Client;
        assert!(own || self.exchanges.len() <= limits.requests_max, "too many requests");
        assert!(self.unis.len() <= limits.uni_streams_max, "too many streams");
        assert!(self.glitches() <= limits.glitches_max, "too many glitches");
        assert!(self.exchanges.iter().map(|(stream, _)| stream).is_sorted(), "out of order");
        assert!(self.exchanges.iter().all(|(_, exchange)| !exchange.is_over()), "not removed");
    }
}
