//! verdict says whose packet a datagram carries: the one decision that kernel and workers share.
//!
//! In comes a datagram with the layout of our connection IDs, the spreading key and the table of
//! epochs; out comes a [`Verdict`]. Nothing is remembered, nothing is sent, nothing is decrypted.
//! The tree is drawn in the crate documentation.
//!
//! Invariant: a worker number comes out only behind a verified check, so a flipped bit or a forger
//! reaches no worker by name.

use core::fmt;

use crate::Bytes;
use crate::cid::{Layout, Parts, SHORT_HEADER_CID_AT, spread_of};
use crate::epoch::{EpochState, Epochs};
use crate::header::{LongType, VERSION_1, long_type, peek_words};
use crate::siphash::Key;
use crate::words::Words;

/// The smallest datagram that may open a connection, in any version we could speak.
//= https://www.rfc-editor.org/rfc/rfc9000#section-14.1
//# A server MUST discard an Initial packet that is carried in a UDP datagram with a
//# payload that is smaller than the smallest allowed maximum datagram size of 1200
//# bytes.
pub const INITIAL_DATAGRAM_LEN_MIN: usize = 1200;

/// The shortest connection ID that a client may choose for us.
//= https://www.rfc-editor.org/rfc/rfc9000#section-7.2
//# This Destination Connection ID
//# MUST be at least 8 bytes in length.
pub const INITIAL_DCID_LEN_MIN: usize = 8;

/// The shortest datagram that can be a packet with a short header.
//= https://www.rfc-editor.org/rfc/rfc9000#section-10.3
//# To
//# give an example, with the set of AEAD functions defined in [QUIC-TLS], short
//# header packets that are smaller than 21 bytes are never valid.
pub const SHORT_DATAGRAM_LEN_MIN: usize = 21;

/// Source ports that no QUIC client uses and whose services answer whoever writes to them.
///
/// A packet from one of them is most likely a request forgery (RFC 9000 section 21.5): our answer
/// would be somebody else's request. Chargen, DNS, NTP, NetBIOS and their like; 0 is no port.
pub const BLOCKED_PORTS: [u16; 11] =
    [0, 17, 19, 53, 111, 123, 137, 138, 161, 389, BLOCKED_PORT_MAX];

/// Whether nothing that comes from this source port is ever answered.
#[inline]
pub fn is_blocked_port(port: u16) -> bool {
    // Clients send from high ports: one comparison for them.
    port <= BLOCKED_PORT_MAX && BLOCKED_PORTS.contains(&port)
}

/// Whose packet a datagram carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// A connection of a live epoch: the packet belongs to this worker.
    Live {
        /// The worker that the connection ID names.
        worker: u8,
    },
    /// The client chose the connection ID: any worker may take it, always the same one.
    Initial {
        /// The keyed hash of the ID, for [`crate::worker_of_spread`].
        spread: u64,
    },
    /// A version we do not speak in a datagram large enough for Version Negotiation.
    OtherLong,
    /// A connection of an epoch that is shutting down: the packet belongs to that process.
    Draining {
        /// The epoch of the old process.
        epoch: u8,
        /// Its worker that the connection ID names.
        worker: u8,
    },
    /// A connection that no process owns any more: worth a stateless reset.
    Orphan {
        /// The epoch whose reset root signs the token.
        epoch: u8,
        /// The worker whose key signs it, see [`crate::worker_key`].
        worker: u8,
    },
    /// A packet that deserves only a counter.
    Junk(Reason),
}

/// Why a datagram is junk: one list for kernel and workers, each a metric label.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Reason {
    /// Not one byte.
    Empty,
    /// Shorter than any packet of its form.
    TooShort,
    /// The first byte of the connection ID, or its length, is not that of our layout.
    ForeignLayout,
    /// The server ID in the connection ID is not ours.
    ForeignServerId,
    /// The epoch in the connection ID has never started or is long forgotten.
    UnknownEpoch,
    /// The check bytes of the connection ID in a short header do not verify: forged or damaged.
    ShortHeaderCheck,
    /// The check verifies but that epoch has no such worker: an error of ours or of the operator.
    UnroutableWorker,
    /// A long header that ends before its source connection ID does.
    LongTruncated,
    /// A long header with a connection ID of more than 20 bytes.
    CidTooLong,
    /// A Version Negotiation packet, which only servers send.
    VersionZero,
    /// An unknown version in a datagram too small to be answered with Version Negotiation.
    SmallVersionNegotiation,
    /// An Initial in a datagram under 1,200 bytes.
    SmallInitial,
    /// An Initial or 0-RTT whose client-chosen connection ID is under 8 bytes.
    ShortInitialDcid,
    /// A Handshake packet for a connection ID that is not ours, nor that of another server or
    /// epoch.
    UnknownHandshakeCid,
    /// A Retry packet, which only servers send.
    RetryAtServer,
    /// From a source port of [`BLOCKED_PORTS`]. [`classify`] sees no ports: its callers say this.
    BlockedPort,
    /// More first flights from one source prefix than its budget. Said by callers who count.
    PrefixBudget,
    /// More first flights from everywhere than the budget of all. Said by callers who count.
    InitialBudget,
    /// More Initials with a connection ID of ours than their budget. Said by callers who count.
    ProvenBudget,
}

impl Reason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 19] = [
        Self::Empty,
        Self::TooShort,
        Self::ForeignLayout,
        Self::ForeignServerId,
        Self::UnknownEpoch,
        Self::ShortHeaderCheck,
        Self::UnroutableWorker,
        Self::LongTruncated,
        Self::CidTooLong,
        Self::VersionZero,
        Self::SmallVersionNegotiation,
        Self::SmallInitial,
        Self::ShortInitialDcid,
        Self::UnknownHandshakeCid,
        Self::RetryAtServer,
        Self::BlockedPort,
        Self::PrefixBudget,
        Self::InitialBudget,
        Self::ProvenBudget,
    ];

    /// The name of this reason as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooShort => "too_short",
            Self::ForeignLayout => "foreign_layout",
            Self::ForeignServerId => "foreign_server_id",
            Self::UnknownEpoch => "unknown_epoch",
            Self::ShortHeaderCheck => "short_header_check",
            Self::UnroutableWorker => "unroutable_worker",
            Self::LongTruncated => "long_truncated",
            Self::CidTooLong => "cid_too_long",
            Self::VersionZero => "version_zero",
            Self::SmallVersionNegotiation => "small_version_negotiation",
            Self::SmallInitial => "small_initial",
            Self::ShortInitialDcid => "short_initial_dcid",
            Self::UnknownHandshakeCid => "unknown_handshake_cid",
            Self::RetryAtServer => "retry_at_server",
            Self::BlockedPort => "blocked_port",
            Self::PrefixBudget => "prefix_budget",
            Self::InitialBudget => "initial_budget",
            Self::ProvenBudget => "proven_budget",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Decides whose packet a datagram carries.
///
/// The fixed bit is never looked at: RFC 9287 lets our peers grease it.
#[inline]
pub fn classify<B: Bytes + ?Sized, E: Epochs + ?Sized>(
    datagram: &B,
    layout: &Layout,
    spread_key: &Key,
    epochs: &E,
) -> Verdict {
    let judge = Judge { layout, spread_key, epochs };
    let verdict = match peek_words(datagram) {
        Ok(None) => judge.short(datagram),
        Ok(Some((version, first, dcid))) => judge.long(datagram.len(), version, first, &dcid),
        Err(reason) => Err(reason),
    };
    match verdict {
        Ok(verdict) => verdict,
        Err(reason) => Verdict::Junk(reason),
    }
}

/// What a verdict rests on beside the datagram.
struct Judge<'a, E: ?Sized> {
    layout: &'a Layout,
    spread_key: &'a Key,
    epochs: &'a E,
}

impl<E: Epochs + ?Sized> Judge<'_, E> {
    /// A short header: only its connection ID can say whose packet it is.
    #[inline]
    fn short<B: Bytes + ?Sized>(&self, datagram: &B) -> Result<Verdict, Reason> {
        if datagram.len() < SHORT_DATAGRAM_LEN_MIN {
            return Err(Reason::TooShort);
        }
        let cid = Words::read(datagram, SHORT_HEADER_CID_AT, self.layout.cid_len())
            .ok_or(Reason::TooShort)?;
        self.owner(&cid)
    }

    /// A long header: it may carry a connection ID of ours or one that the client chose.
    #[inline]
    fn long(
        &self,
        datagram_len: usize,
        version: u32,
        first: u8,
        dcid: &Words,
    ) -> Result<Verdict, Reason> {
        let long_type = match version {
            VERSION_NEGOTIATION => return Err(Reason::VersionZero),
            VERSION_1 => Some(long_type(first)),
            _ => None,
        };
        if long_type == Some(LongType::Initial) && datagram_len < INITIAL_DATAGRAM_LEN_MIN {
            return Err(Reason::SmallInitial);
        }
        if long_type == Some(LongType::Retry) {
            return Err(Reason::RetryAtServer);
        }
        // Not ours, or of an epoch that is gone and whose ID says no more than a random one.
        let stranger = match self.owner(dcid) {
            Ok(verdict @ (Verdict::Live { .. } | Verdict::Draining { .. })) => return Ok(verdict),
            Err(Reason::UnroutableWorker) => return Err(Reason::UnroutableWorker),
            Err(elsewhere @ (Reason::ForeignServerId | Reason::UnknownEpoch)) => elsewhere,
            _ => Reason::UnknownHandshakeCid,
        };
        match long_type {
            Some(LongType::Initial | LongType::ZeroRtt) => self.client_chosen(dcid),
            Some(LongType::Handshake) => Err(stranger),
            Some(LongType::Retry) => Err(Reason::RetryAtServer),
            //= https://www.rfc-editor.org/rfc/rfc9000#section-5.2.2
            //# Servers MUST drop smaller packets that specify unsupported
            //# versions.
            None if datagram_len < INITIAL_DATAGRAM_LEN_MIN => Err(Reason::SmallVersionNegotiation),
            None => Ok(Verdict::OtherLong),
        }
    }

    /// An Initial or 0-RTT of a client that does not know a connection ID of ours yet.
    #[inline]
    fn client_chosen(&self, dcid: &Words) -> Result<Verdict, Reason> {
        if dcid.len() < INITIAL_DCID_LEN_MIN {
            return Err(Reason::ShortInitialDcid);
        }
        Ok(Verdict::Initial { spread: spread_of(self.spread_key, dcid) })
    }

    /// Who owns a connection ID of ours: `Live`, `Draining` or `Orphan`.
    #[inline]
    fn owner(&self, cid: &Words) -> Result<Verdict, Reason> {
        let epoch = self.layout.shape(cid)?;
        let entry = self.epochs.entry(epoch).ok_or(Reason::UnknownEpoch)?;
        if entry.state == EpochState::Unknown {
            return Err(Reason::UnknownEpoch);
        }
        let Parts { worker, epoch, .. } =
            self.layout.parts(&entry.check_key, cid).ok_or(Reason::ShortHeaderCheck)?;
        if entry.state == EpochState::Retired {
            return Ok(Verdict::Orphan { epoch, worker });
        }
        if worker >= entry.workers {
            return Err(Reason::UnroutableWorker);
        }
        if entry.state == EpochState::Draining {
            return Ok(Verdict::Draining { epoch, worker });
        }
        Ok(Verdict::Live { worker })
    }
}

/// The version field of a Version Negotiation packet.
const VERSION_NEGOTIATION: u32 = 0;

const BLOCKED_PORT_MAX: u16 = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_listed_by_number_and_named_apart() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            let name = reason.name();
            assert!(name.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()));
            let same = Reason::ALL.iter().filter(|other| other.name() == name);
            assert_eq!(same.count(), 1, "{name}");
        }
    }

    #[test]
    fn blocked_ports_are_blocked() {
        for port in 0..=u16::MAX {
            let blocked = [0, 17, 19, 53, 111, 123, 137, 138, 161, 389, 500].contains(&port);
            assert_eq!(is_blocked_port(port), blocked);
        }
    }
}
