//! close_reason says why a connection is over.

use std::fmt;
use std::net::SocketAddr;

/// Why a connection ended.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum CloseReason {
    /// The peer's application closed it.
    Application {
        /// Its code.
        code: u64,
        /// Its words, lossy UTF-8.
        reason: String,
    },
    /// Nothing arrived for the idle timeout.
    IdleTimeout,
    /// The handshake took longer than its deadline.
    HandshakeTimeout,
    /// The peer's host says that nothing listens there (ICMP port unreachable), and no packet has
    /// ever come from there. Connections that once heard from their peer do not end by it: it can
    /// be forged.
    PortUnreachable(SocketAddr),
    /// A named limit of ours was reached.
    Limit(&'static str),
    /// Our own app, or the worker's stop, closed it.
    Local,
    /// A stateless reset: the peer lost the connection, usually by a restart.
    StatelessReset,
    /// The peer's QUIC or TLS implementation closed it.
    PeerTransport {
        /// Transport error code, RFC 9000 section 20.1.
        code: u64,
        /// Its words, lossy UTF-8.
        reason: String,
    },
    /// The peer violated the protocol, or TLS failed on our side.
    Transport {
        /// Transport error code, RFC 9000 section 20.1.
        code: u64,
        /// What was wrong.
        reason: String,
    },
    /// No common QUIC version.
    VersionMismatch,
}

impl CloseReason {
    /// A short stable name: the error class of reports and metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Application { .. } => "application_close",
            Self::IdleTimeout => "idle_timeout",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::PortUnreachable(_) => "port_unreachable",
            Self::Limit(name) => name,
            Self::Local => "local_close",
            Self::StatelessReset => "stateless_reset",
            Self::PeerTransport { code: 0x02, .. } => "connection_refused",
            Self::PeerTransport { code: 0x100..=0x1ff, .. }
            | Self::Transport { code: 0x100..=0x1ff, .. } => "tls",
            Self::PeerTransport { .. } => "peer_transport_close",
            Self::Transport { .. } => "transport_error",
            Self::VersionMismatch => "version_mismatch",
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Application { code, reason } => {
                write!(f, "closed by the peer's application with code {code}{}", words(reason))
            }
            Self::IdleTimeout => f.write_str("idle timeout"),
            Self::HandshakeTimeout => f.write_str("handshake not complete by its deadline"),
            Self::PortUnreachable(address) => {
                write!(f, "nothing listens at {address} (ICMP port unreachable)")
            }
            Self::Limit(name) => write!(f, "limit {name} reached"),
            Self::Local => f.write_str("closed by us"),
            Self::StatelessReset => f.write_str("stateless reset: the peer lost the connection"),
            Self::PeerTransport { code, reason } => {
                write!(f, "closed by the peer with transport error {code:#x}{}", words(reason))
            }
            Self::Transport { code, reason } => {
                write!(f, "transport error {code:#x}{}", words(reason))
            }
            Self::VersionMismatch => f.write_str("no common QUIC version"),
        }
    }
}

/// A peer's words, if it had any.
fn words(reason: &str) -> String {
    // Somebody else's, and on its way to a terminal.
    let escaped = |c: char| match c.is_control() {
        true => c.escape_debug().to_string(),
        false => c.to_string(),
    };
    let reason: String = reason.chars().map(escaped).collect();
    if reason.is_empty() { reason } else { format!(": {reason}") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_peer_writes_nothing_to_the_terminal_but_words() {
        assert_eq!(super::words(""), "");
        assert_eq!(super::words("it's over"), ": it's over");
        assert_eq!(super::words("\u{1b}[2J\nok"), ": \\u{1b}[2J\\nok");
    }
}
