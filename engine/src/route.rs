//! route says whose packet it is.
//!
//! What comes in is one datagram, never a train: GRO merges by address, not by connection. What
//! goes out is a [`Route`]. Nothing is looked up in a table of connections here, so this answer
//! and the endpoint's own index cannot disagree.

use quiclane_wire::{
    Header, Key, Layout, Reason, SHORT_DATAGRAM_LEN_MIN, SHORT_HEADER_CID_AT, Verdict, classify,
    is_blocked_port, peek, worker_of_spread,
};

use crate::epochs::View;

/// What to do with a datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Route {
    /// Ours by its connection ID.
    Live,
    /// Opens a connection here: the spread of a client-chosen connection ID chose this worker.
    Initial,
    /// A long header of another version: to be answered with Version Negotiation.
    OtherLong,
    /// Belongs to this worker instead.
    Sibling(u8),
    /// Belongs to an older process that still runs.
    Draining,
    /// Belonged to this worker of a process that is gone; any worker may answer.
    Orphan { epoch: u8, worker: u8 },
    /// Deserves only a counter.
    Junk(Reason),
}

/// Knows the epochs and which worker this is.
#[derive(Debug)]
pub(crate) enum Router {
    /// Datagrams of a server's sockets, which any client and any forger can reach.
    Server { layout: Layout, spread_key: Key, epochs: View, worker: u8, workers: u8 },
    /// Datagrams of a client's own sockets.
    Client { layout: Layout, check_key: Key },
}

impl Router {
    /// The connection ID of a short header, on which alone its route depends.
    #[inline]
    pub(crate) fn short_cid<'b>(&self, datagram: &'b [u8]) -> Option<&'b [u8]> {
        let layout = match self {
            Self::Server { layout, .. } | Self::Client { layout, .. } => layout,
        };
        let short = datagram.len() >= SHORT_DATAGRAM_LEN_MIN && datagram[0] & 0x80 == 0;
        let end = SHORT_HEADER_CID_AT + layout.cid_len();
        if short { datagram.get(SHORT_HEADER_CID_AT..end) } else { None }
    }

    /// Takes what became known of epochs since the last time.
    #[inline]
    pub(crate) fn renew(&mut self) {
        if let Self::Server { epochs, .. } = self {
            epochs.renew();
        }
    }

    /// Whose datagram this is. `source_port` is the UDP source port.
    pub(crate) fn of(&self, datagram: &[u8], source_port: u16) -> Route {
        match self {
            Self::Server { layout, spread_key, epochs, worker, workers } => {
                if is_blocked_port(source_port) {
                    return Route::Junk(Reason::BlockedPort);
                }
                match classify(datagram, layout, spread_key, epochs.table()) {
                    Verdict::Live { worker: owner } if owner == *worker => Route::Live,
                    Verdict::Live { worker: owner } => Route::Sibling(owner),
                    Verdict::Initial { spread } => {
                        let owner = worker_of_spread(spread, *workers);
                        if owner == *worker { Route::Initial } else { Route::Sibling(owner) }
                    }
                    Verdict::OtherLong => Route::OtherLong,
                    Verdict::Draining { .. } => Route::Draining,
                    Verdict::Orphan { epoch, worker } => Route::Orphan { epoch, worker },
                    Verdict::Junk(reason) => Route::Junk(reason),
                }
            }
            Self::Client { layout, check_key } => match peek(datagram) {
                // A stateless reset carries no connection ID of ours, so every short header goes
                // to the endpoint.
                Ok(Header::Short) => Route::Live,
                Ok(Header::Long { dcid, .. }) => {
                    if layout.decode(check_key, dcid.as_slice()).is_some() {
                        Route::Live
                    } else {
                        Route::Junk(Reason::UnknownHandshakeCid)
                    }
                }
                Err(reason) => Route::Junk(reason),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use quiclane_wire::fixtures::{fixtures, world};

    use super::*;
    use crate::epochs::Epochs;

    /// What `Intake::train` relies on.
    #[test]
    fn a_short_header_is_routed_by_its_connection_id_alone() {
        let (layout, spread_key, epochs) = world();
        let epochs = Epochs::new(epochs).view();
        let router = Router::Server { layout, spread_key, epochs, worker: 1, workers: 4 };
        let mut seen = 0;
        for fixture in fixtures() {
            let bytes = fixture.bytes.as_slice();
            let Some(cid) = router.short_cid(bytes) else { continue };
            seen += 1;
            let end = SHORT_HEADER_CID_AT + cid.len();
            for rest in [21 - end.min(21), 100, 1_400] {
                let mut other = vec![bytes[0] ^ 0x2a];
                other.extend_from_slice(cid);
                other.resize(end + rest, 0x5a);
                assert_eq!(router.of(&other, 4_433), router.of(bytes, 4_433), "{}", fixture.name);
            }
        }
        assert!(seen > 10, "the table has short headers");
    }
}
