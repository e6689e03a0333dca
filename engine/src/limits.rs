//! limits meters what quinn-proto leaves unbounded on a single connection.

use std::net::SocketAddr;

/// Bytes to addresses that the peer has not been shown to own: at most three times what came from
/// there.
///
//= https://www.rfc-editor.org/rfc/rfc9000#section-8
//# Therefore, after receiving packets from an address that is not yet
//# validated, an endpoint MUST limit the amount of data it sends to the
//# unvalidated address to three times the amount of data received from
//# that address.
///
/// quinn-proto keeps this rule on the active path; this meter keeps it for answers to path
/// probes that go elsewhere.
#[derive(Debug, Default)]
pub(crate) struct OffPath {
    /// The last few addresses that sent something off the active path.
    paths: [Option<Path>; PATHS],
    oldest: usize,
}

#[derive(Clone, Copy, Debug)]
struct Path {
    address: SocketAddr,
    received: u64,
    sent: u64,
}

impl OffPath {
    /// `bytes` came from `address`, which is not the active path.
    pub(crate) fn received(&mut self, address: SocketAddr, bytes: usize) {
        if let Some(path) = self.path(address) {
            path.received += bytes as u64;
            return;
        }
        let index = self.paths.iter().position(Option::is_none).unwrap_or_else(|| {
            self.oldest = (self.oldest + 1) % PATHS;
            self.oldest
        });
        self.paths[index] = Some(Path { address, received: bytes as u64, sent: 0 });
    }

    /// Whether `bytes` may go to `address` off the active path; counts them if so.
    pub(crate) fn may_send(&mut self, address: SocketAddr, bytes: usize) -> bool {
        let Some(path) = self.path(address) else { return false };
        let allowed = path.sent + bytes as u64 <= AMPLIFICATION_MAX * path.received;
        if allowed {
            path.sent += bytes as u64;
        }
        allowed
    }

    fn path(&mut self, address: SocketAddr) -> Option<&mut Path> {
        self.paths.iter_mut().flatten().find(|path| path.address == address)
    }
}

/// Addresses remembered per connection; a peer that probes from more at once loses the oldest.
const PATHS: usize = 4;
/// RFC 9000 section 8.1.
const AMPLIFICATION_MAX: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn three_times_and_no_more() {
        let mut meter = OffPath::default();
        assert!(!meter.may_send(address(1), 1), "nothing came from there");
        meter.received(address(1), 500);
        assert!(meter.may_send(address(1), 1200));
        assert!(!meter.may_send(address(1), 301));
        assert!(meter.may_send(address(1), 300));
        meter.received(address(1), 36);
        assert!(!meter.may_send(address(1), 1200));
        assert!(meter.may_send(address(1), 108));
    }

    #[test]
    fn a_flood_of_addresses_forgets_the_oldest_only() {
        let mut meter = OffPath::default();
        for port in 1..=1000 {
            meter.received(address(port), 1200);
        }
        assert!(meter.may_send(address(1000), 1200));
        assert!(!meter.may_send(address(1), 1200));
    }
}
