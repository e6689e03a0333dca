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
/// over all changes of path together.
///
/// quinn-proto keeps to itself whether a PATH_RESPONSE carried the right token. But it shows it: it
/// sends more than its own budget allows only to a path that it has validated. So this meter keeps
/// that budget's books as well, and an address is validated when quinn-proto exceeds it.
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
    /// quinn-proto's books of the active path, kept while an address is not validated.
    books: Option<Books>,
}

#[derive(Clone, Copy, Debug)]
struct Path {
    address: SocketAddr,
    received: u64,
    sent: u64,
    validated: bool,
}

/// All that was sent to the active path, and all that came, wherever from, since it is active.
#[derive(Clone, Copy, Debug)]
struct Books {
    address: SocketAddr,
    received: u64,
    sent: u64,
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

    /// `bytes` came from `address` while `active` was the active path.
    #[inline]
    pub(crate) fn received(&mut self, address: SocketAddr, bytes: usize, active: SocketAddr) {
        if address == active && self.unvalidated == 0 {
            return;
        }
        if let Some(path) = self.path(address) {
            path.received += bytes as u64;
        } else if (address != active || self.is_established()) && !self.knows(address) {
            let received = bytes as u64;
            self.track(Path { address, received, sent: 0, validated: false });
        }
    }

    /// quinn-proto has seen these `bytes`, or a timeout, and `active` is the active path now: it
    /// keeps new books for each path that becomes active, so every change must be told here.
    #[inline]
    pub(crate) fn credited(&mut self, bytes: usize, active: SocketAddr) {
        if self.unvalidated > 0 {
            self.books(active).received += bytes as u64;
        }
    }

    /// Whether what goes to `address` has to be asked about: not while all goes to one validated
    /// path.
    #[inline]
    pub(crate) fn meters(&self, address: SocketAddr, active: SocketAddr) -> bool {
        address != active || self.unvalidated > 0
    }

    /// Whether a train may leave; counts it if so.
    pub(crate) fn may_send(&mut self, departure: &Departure) -> bool {
        let Departure { address, bytes, active, .. } = *departure;
        if !self.meters(address, active) {
            return true;
        }
        if address == active && self.exceeds_its_budget(departure) {
            self.validated(address);
        }
        if self.knows(address) || (address == active && !self.is_established()) {
            return true;
        }
        let Some(path) = self.path(address) else { return false };
        let within = path.sent + bytes as u64 <= AMPLIFICATION_MAX * path.received;
        path.sent += if within { bytes as u64 } else { 0 };
        within
    }

    /// Whether quinn-proto sends more to the active path than it does to an unvalidated one: one
    /// more datagram as long as anything is left of the budget, and probes of the MTU.
    fn exceeds_its_budget(&mut self, departure: &Departure) -> bool {
        let Departure { bytes, active, mtu, is_mtu_probe, .. } = *departure;
        let books = self.books(active);
        books.sent += if is_mtu_probe { 0 } else { bytes as u64 };
        books.sent > AMPLIFICATION_MAX * books.received + u64::from(mtu)
    }

    fn books(&mut self, active: SocketAddr) -> &mut Books {
        let new = Books { address: active, received: 0, sent: 0 };
        match &mut self.books {
            Some(books) if books.address == active => {}
            books => *books = Some(new),
        }
        self.books.get_or_insert(new)
    }

    /// Whether the peer was shown to own any address: before that only the address of the
    /// handshake is active, and the handshake has a limit of its own.
    fn is_established(&self) -> bool {
        self.paths.iter().flatten().any(|path| path.validated)
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

/// A train of datagrams that quinn-proto wants to send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    pub(crate) address: SocketAddr,
    pub(crate) bytes: usize,
    /// The active path.
    pub(crate) active: SocketAddr,
    /// The largest datagram that quinn-proto sends there.
    pub(crate) mtu: u16,
    /// It probes for a larger MTU (RFC 8899), which quinn-proto does without a budget.
    pub(crate) is_mtu_probe: bool,
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

    fn home() -> SocketAddr {
        address(99)
    }

    /// A meter after the handshake.
    fn established() -> OffPath {
        let mut meter = OffPath::default();
        meter.validated(home());
        meter
    }

    impl OffPath {
        fn sends(&mut self, address: SocketAddr, bytes: usize, active: SocketAddr) -> bool {
            self.may_send(&Departure { address, bytes, active, mtu: 1_200, is_mtu_probe: false })
        }

        /// A datagram that makes `after` the active path.
        fn takes(
            &mut self,
            address: SocketAddr,
            bytes: usize,
            before: SocketAddr,
            after: SocketAddr,
        ) {
            self.received(address, bytes, before);
            self.credited(bytes, after);
        }
    }

    #[test]
    fn three_times_and_no_more() {
        let mut meter = established();
        let (other, home) = (address(1), home());
        assert!(!meter.sends(other, 1, home), "nothing came from there");
        meter.takes(other, 500, home, home);
        assert!(meter.sends(other, 1200, home));
        assert!(!meter.sends(other, 301, home));
        assert!(meter.sends(other, 300, home));
        meter.takes(other, 36, home, home);
        assert!(!meter.sends(other, 1200, home));
        assert!(meter.sends(other, 108, home));
    }

    #[test]
    fn before_the_handshake_is_over_its_address_has_another_limit() {
        let mut meter = OffPath::default();
        assert!(meter.sends(home(), 1200, home()));
        meter.takes(home(), 40, home(), home());
        assert!(meter.sends(home(), 1200, home()));
        assert!(!meter.sends(address(1), 1, home()));
        meter.takes(address(1), 40, home(), home());
        assert!(meter.sends(home(), 1200, home()));
        assert!(!meter.sends(address(1), 121, home()));
    }

    #[test]
    fn a_path_that_was_active_has_used_its_budget() {
        let mut meter = established();
        meter.takes(address(1), 41, home(), address(1));
        assert!(meter.sends(address(1), 100, address(1)));
        assert!(!meter.sends(address(1), 24, home()));
        assert!(meter.sends(address(1), 23, home()));
    }

    #[test]
    fn a_path_is_validated_when_more_is_sent_than_its_budget() {
        let mut meter = established();
        let new = address(2);
        meter.takes(new, 400, home(), new);
        assert!(meter.sends(new, 1200, new), "the PATH_CHALLENGE");
        assert!(!meter.sends(new, 1200, new), "one more datagram proves nothing");
        assert!(meter.sends(new, 1, new), "that one does");
        assert!(meter.sends(new, 64_000, new) && meter.sends(new, 1200, home()));
        assert_eq!(meter.unvalidated, 0);
    }

    #[test]
    fn what_came_from_elsewhere_widens_the_budget_and_not_the_limit() {
        let mut meter = established();
        let victim = address(2);
        meter.takes(victim, 100, home(), victim);
        meter.takes(home(), 10_000, victim, victim);
        assert!(meter.sends(victim, 300, victim));
        for _ in 0..25 {
            assert!(!meter.sends(victim, 1200, victim), "quinn-proto's budget is 30,300 bytes");
        }
        let probe = |bytes| Departure {
            address: victim,
            bytes,
            active: victim,
            mtu: 1_200,
            is_mtu_probe: true,
        };
        assert!(!meter.may_send(&probe(1_452)));
        assert_eq!(meter.unvalidated, 1);
    }

    #[test]
    fn changing_to_and_fro_earns_nothing() {
        let mut meter = established();
        let victim = address(2);
        let mut sent = 0;
        for _ in 0..1_000 {
            meter.takes(victim, 40, home(), victim);
            sent += 1200 * u64::from(meter.sends(victim, 1200, victim));
            meter.takes(home(), 40, victim, home());
        }
        assert_eq!(sent, 3 * 40_000);
    }

    #[test]
    fn a_path_that_was_left_at_its_timeout_starts_anew() {
        let mut meter = established();
        let victim = address(2);
        for _ in 0..100 {
            meter.takes(victim, 401, home(), victim);
            assert!(meter.sends(victim, 1200, victim));
            // One more datagram than the budget has room for, as quinn-proto does.
            assert!(!meter.sends(victim, 1200, victim));
            meter.credited(0, home());
        }
    }

    #[test]
    fn another_port_of_the_same_host_is_free() {
        let mut meter = established();
        let moved = SocketAddr::new(home().ip(), 4_433);
        meter.takes(moved, 40, home(), moved);
        assert!(meter.sends(moved, 1200, moved));
        assert!(meter.sends(moved, 1200, home()));
        assert_eq!(meter.unvalidated, 0);
    }

    #[test]
    fn a_flood_of_addresses_forgets_the_spoofed_ones() {
        let mut meter = established();
        for host in 1_000..2_000 {
            meter.takes(address(host), 1200, home(), home());
        }
        assert!(meter.sends(address(1_999), 1200, home()));
        let forgotten = address(1_000);
        assert!(!meter.sends(forgotten, 1200, home()));
        meter.takes(forgotten, 400, home(), forgotten);
        assert!(meter.sends(forgotten, 1200, forgotten));
        assert!(!meter.sends(forgotten, 1, forgotten));
        assert!(meter.sends(home(), 1200, home()));
        assert_eq!(meter.unvalidated, PATHS - 1);
    }
}
