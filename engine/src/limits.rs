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
/// quinn-proto keeps this rule on the active path, but starts anew each time the path changes and
/// credits that path with what comes from elsewhere. This meter keeps it for every address and
/// over all changes of path together. An address counts as validated once a PATH_RESPONSE frame
/// came from there while it was the active path.
///
/// A new port of an IP address that was validated is not metered: it is what NAT rebinding looks
/// like, it harms nobody but that peer, and quinn-proto's PATH_CHALLENGE is always 1,200 bytes, so
/// a client that only sends acknowledgements would wait for seconds until three times their bytes
/// allow one.
#[derive(Debug, Default)]
pub(crate) struct OffPath {
    /// The last few addresses that sent something.
    paths: [Option<Path>; PATHS],
    /// How many of them are not validated: while there are none, the active path costs nothing.
    unvalidated: usize,
    oldest: usize,
}

#[derive(Clone, Copy, Debug)]
struct Path {
    address: SocketAddr,
    received: u64,
    sent: u64,
    validated: bool,
}

impl OffPath {
    /// The peer was shown to own `address`.
    pub(crate) fn validated(&mut self, address: SocketAddr) {
        match self.path(address) {
            Some(path) => {
                let before = std::mem::replace(&mut path.validated, true);
                self.unvalidated -= usize::from(!before);
            }
            None => self.track(Path { address, received: 0, sent: 0, validated: true }),
        }
    }

    /// `bytes` came from `address`; `active`: it is the active path.
    #[inline]
    pub(crate) fn received(&mut self, address: SocketAddr, bytes: usize, active: bool) {
        if active && self.unvalidated == 0 {
            return;
        }
        if let Some(path) = self.path(address) {
            path.received += bytes as u64;
        } else if !active && !self.knows(address) {
            let received = bytes as u64;
            self.track(Path { address, received, sent: 0, validated: false });
        }
    }

    /// Whether `address` waits for a PATH_RESPONSE.
    #[inline]
    pub(crate) fn awaits(&self, address: SocketAddr) -> bool {
        let waits = |path: &Path| !path.validated && path.address == address;
        self.unvalidated > 0 && self.paths.iter().flatten().any(waits)
    }

    /// Whether `bytes` may go to `address`; counts them if so.
    #[inline]
    pub(crate) fn may_send(&mut self, address: SocketAddr, bytes: usize, active: bool) -> bool {
        if active && self.unvalidated == 0 {
            return true;
        }
        let known = self.knows(address);
        let Some(path) = self.path(address) else { return active || known };
        let within = path.sent + bytes as u64 <= AMPLIFICATION_MAX * path.received;
        if within {
            path.sent += bytes as u64;
        }
        within || path.validated
    }

    /// Whether the IP address is one that the peer has been shown to own.
    fn knows(&self, address: SocketAddr) -> bool {
        let validated = |path: &&Path| path.validated;
        self.paths.iter().flatten().filter(validated).any(|path| path.address.ip() == address.ip())
    }

    fn path(&mut self, address: SocketAddr) -> Option<&mut Path> {
        self.paths.iter_mut().flatten().find(|path| path.address == address)
    }

    /// Remembers a path in place of the oldest, preferably one that nobody has been shown to own.
    fn track(&mut self, path: Path) {
        let free = self.paths.iter().position(Option::is_none);
        let index = free.unwrap_or_else(|| {
            let order = (1..=PATHS).map(|step| (self.oldest + step) % PATHS);
            let spoofed = |index: &usize| self.paths[*index].is_some_and(|old| !old.validated);
            order.clone().find(spoofed).unwrap_or((self.oldest + 1) % PATHS)
        });
        self.oldest = index;
        if let Some(old) = self.paths[index].replace(path) {
            self.unvalidated -= usize::from(!old.validated);
        }
        self.unvalidated += usize::from(!path.validated);
    }
}

/// Addresses remembered per connection; a peer that probes from more at once loses the oldest.
const PATHS: usize = 4;
/// RFC 9000 section 8.1.
const AMPLIFICATION_MAX: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u16) -> SocketAddr {
        let [high, low] = host.to_be_bytes();
        SocketAddr::from(([10, 0, high, low], 443))
    }

    #[test]
    fn three_times_and_no_more() {
        let mut meter = OffPath::default();
        assert!(!meter.may_send(address(1), 1, false), "nothing came from there");
        meter.received(address(1), 500, false);
        assert!(meter.may_send(address(1), 1200, false));
        assert!(!meter.may_send(address(1), 301, false));
        assert!(meter.may_send(address(1), 300, false));
        meter.received(address(1), 36, false);
        assert!(!meter.may_send(address(1), 1200, false));
        assert!(meter.may_send(address(1), 108, false));
    }

    #[test]
    fn a_path_that_was_active_has_used_its_budget() {
        let mut meter = OffPath::default();
        meter.received(address(1), 41, false);
        assert!(meter.may_send(address(1), 100, true), "quinn-proto's own budget");
        assert!(!meter.may_send(address(1), 24, false));
        assert!(meter.may_send(address(1), 23, false));
    }

    #[test]
    fn validated_paths_are_free() {
        let mut meter = OffPath::default();
        meter.validated(address(1));
        assert!(meter.may_send(address(1), 1200, false), "the path of the handshake");
        meter.received(address(2), 100, false);
        assert!(!meter.may_send(address(2), 5000, true), "credited with bytes from elsewhere");
        assert!(meter.awaits(address(2)) && !meter.awaits(address(1)));
        meter.validated(address(2));
        assert!(meter.may_send(address(2), 5000, true));
        assert!(meter.may_send(address(2), 1200, false));
        assert_eq!(meter.unvalidated, 0);
    }

    #[test]
    fn another_port_of_the_same_host_is_free() {
        let mut meter = OffPath::default();
        meter.validated(address(1));
        let moved = SocketAddr::new(address(1).ip(), 4_433);
        meter.received(moved, 40, false);
        assert!(meter.may_send(moved, 1200, true));
        assert!(meter.may_send(moved, 1200, false));
        assert_eq!(meter.unvalidated, 0);
    }

    #[test]
    fn a_flood_of_addresses_forgets_the_spoofed_ones() {
        let mut meter = OffPath::default();
        meter.validated(address(1));
        for host in 2..=1000 {
            meter.received(address(host), 1200, false);
        }
        assert!(meter.may_send(address(1000), 1200, false));
        assert!(!meter.may_send(address(2), 1200, false));
        assert!(meter.may_send(address(1), 1200, false));
        assert_eq!(meter.unvalidated, PATHS - 1);
    }
}
