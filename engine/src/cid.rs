//! cid issues this worker's connection IDs and tells them from its siblings'.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quiclane_wire::{Key, Layout, Parts, UniqueSequence};
use quinn_proto::{ConnectionId, ConnectionIdGenerator, InvalidCid};

/// `wire`'s codec as quinn-proto's generator.
pub(crate) struct CidGenerator {
    layout: Layout,
    check_key: Key,
    worker: u8,
    epoch: u8,
    unique_key: Key,
    sequence: UniqueSequence,
    /// How many were issued, for the limit on unacknowledged ones.
    issued: Arc<AtomicU64>,
    accepts: Accepts,
}

/// Which connection IDs of datagrams without a connection may be answered with a reset.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Accepts {
    /// This worker's own: the server role. Siblings' never, or a stray datagram would end a live
    /// connection.
    Own,
    /// None: the client role. Servers do not recognise resets from clients.
    Nothing,
}

impl CidGenerator {
    pub(crate) fn new(
        layout: Layout,
        (check_key, unique_key): (Key, Key),
        (worker, epoch): (u8, u8),
        start: u64,
        issued: Arc<AtomicU64>,
        accepts: Accepts,
    ) -> Self {
        let sequence = UniqueSequence::new(unique_key, start);
        Self { layout, check_key, worker, epoch, unique_key, sequence, issued, accepts }
    }
}

impl ConnectionIdGenerator for CidGenerator {
    fn generate_cid(&mut self) -> ConnectionId {
        // One writer: the endpoint that owns this generator.
        self.issued.store(self.issued.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        // 2^40 are enough for 12 days at a million a second. Beyond that the permutation starts
        // again, and quinn-proto skips the ones that are still in use.
        let unique = self.sequence.next().unwrap_or_else(|| {
            self.sequence = UniqueSequence::new(self.unique_key, 0);
            0
        });
        let parts = Parts { worker: self.worker, epoch: self.epoch, unique };
        ConnectionId::new(self.layout.encode(&self.check_key, parts).as_slice())
    }

    fn validate(&self, cid: &ConnectionId) -> Result<(), InvalidCid> {
        let own = self.accepts == Accepts::Own
            && self
                .layout
                .decode(&self.check_key, cid)
                .is_some_and(|parts| parts.worker == self.worker && parts.epoch == self.epoch);
        if own { Ok(()) } else { Err(InvalidCid) }
    }

    fn cid_len(&self) -> usize {
        self.layout.cid_len()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
