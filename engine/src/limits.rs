//! limits meters what quinn-proto leaves unbounded on a single connection.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

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
/// An address becomes validated by a PATH_RESPONSE from the active path. Whether its token was the
/// right one is something that quinn-proto keeps to itself, but not for long: it leaves a path that
/// it could not validate after three probe timeouts. So a response is a [`Claim`], which frees the
/// path at once and is certain when the path is still there much later. A claim that comes to
/// nothing makes the next ones wait for that certainty.
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
    claim: Option<Claim>,
    /// Until then a claim frees nothing before it is certain.
    distrusted_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Path {
    address: SocketAddr,
    received: u64,
    sent: u64,
    validated: bool,
}

/// The active path sent a PATH_RESPONSE, right or wrong.
#[derive(Clone, Copy, Debug)]
struct Claim {
    address: SocketAddr,
    /// From then on the token must have been right.
    certain_at: Instant,
    trusted: bool,
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

    /// A PATH_RESPONSE came from the `active` path; `rtt` is the connection's estimate.
    pub(crate) fn responded(&mut self, now: Instant, active: SocketAddr, rtt: Duration) {
        if self.claim.is_none() {
            self.claim = Some(Claim {
                address: active,
                certain_at: now + CERTAIN_AFTER + CERTAIN_AFTER_RTTS * rtt,
                trusted: self.distrusted_until.is_none_or(|until| until <= now),
            });
        }
    }

    /// `bytes` came from `address` while `active` was the active path.
    #[inline]
    pub(crate) fn received(
        &mut self,
        now: Instant,
        address: SocketAddr,
        bytes: usize,
        active: SocketAddr,
    ) {
        if address == active && self.unvalidated == 0 {
            return;
        }
        self.look_at_claim(now, active);
        if let Some(path) = self.path(address) {
            path.received += bytes as u64;
        } else if (address != active || self.is_established()) && !self.knows(address) {
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

    /// Whether `bytes` may go to `address` while `active` is the active path; counts them if so.
    #[inline]
    pub(crate) fn may_send(
        &mut self,
        now: Instant,
        address: SocketAddr,
        bytes: usize,
        active: SocketAddr,
    ) -> bool {
        if address == active && self.unvalidated == 0 {
            return true;
        }
        self.look_at_claim(now, active);
        let claimed = self.claim.is_some_and(|claim| claim.trusted && claim.address == address);
        let known = self.knows(address) || (address == active && !self.is_established());
        let Some(path) = self.path(address) else { return known };
        let within = path.sent + bytes as u64 <= AMPLIFICATION_MAX * path.received;
        if within {
            path.sent += bytes as u64;
        }
        within || path.validated || claimed
    }

    /// Decides a claim when its path was left or has stayed long enough.
    fn look_at_claim(&mut self, now: Instant, active: SocketAddr) {
        let Some(claim) = self.claim else { return };
        if claim.address != active {
            self.claim = None;
            self.distrusted_until = Some(now + CERTAIN_AFTER);
        } else if claim.certain_at <= now {
            self.claim = None;
            self.validated(active);
        }
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

/// Addresses remembered per connection; a peer that probes from more at once loses the oldest.
const PATHS: usize = 4;
/// RFC 9000 section 8.1.
const AMPLIFICATION_MAX: u64 = 3;
/// With [`CERTAIN_AFTER_RTTS`] longer than any path validation takes to fail: three probe timeouts
/// (RFC 9000 section 8.2.4), each at most the smoothed RTT, four times its variation, which never
/// exceeds twice the smoothed RTT (RFC 9002 section 5.3), and the peer's max_ack_delay of at most
/// 2^14 ms.
const CERTAIN_AFTER: Duration = Duration::from_secs(60);
const CERTAIN_AFTER_RTTS: u32 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: u16) -> SocketAddr {
        let [high, low] = host.to_be_bytes();
        SocketAddr::from(([10, 0, high, low], 443))
    }

    /// The address that is active unless a test says otherwise.
    fn home() -> SocketAddr {
        address(99)
    }

    /// A meter after the handshake, and the time.
    fn established() -> (OffPath, Instant) {
        let mut meter = OffPath::default();
        meter.validated(home());
        (meter, crate::clock::now())
    }

    const RTT: Duration = Duration::from_millis(100);

    #[test]
    fn three_times_and_no_more() {
        let (mut meter, now) = established();
        let (other, home) = (address(1), home());
        assert!(!meter.may_send(now, other, 1, home), "nothing came from there");
        meter.received(now, other, 500, home);
        assert!(meter.may_send(now, other, 1200, home));
        assert!(!meter.may_send(now, other, 301, home));
        assert!(meter.may_send(now, other, 300, home));
        meter.received(now, other, 36, home);
        assert!(!meter.may_send(now, other, 1200, home));
        assert!(meter.may_send(now, other, 108, home));
    }

    #[test]
    fn before_the_handshake_is_over_its_address_has_another_limit() {
        let (mut meter, now) = (OffPath::default(), crate::clock::now());
        assert!(meter.may_send(now, home(), 1200, home()));
        meter.received(now, home(), 40, home());
        assert!(meter.may_send(now, home(), 1200, home()));
        assert!(!meter.may_send(now, address(1), 1, home()));
        meter.received(now, address(1), 40, home());
        assert!(meter.may_send(now, home(), 1200, home()));
        assert!(!meter.may_send(now, address(1), 121, home()));
    }

    #[test]
    fn a_path_that_was_active_has_used_its_budget() {
        let (mut meter, now) = established();
        meter.received(now, address(1), 41, home());
        assert!(meter.may_send(now, address(1), 100, address(1)));
        assert!(!meter.may_send(now, address(1), 24, home()));
        assert!(meter.may_send(now, address(1), 23, home()));
    }

    #[test]
    fn a_response_frees_a_path_for_good_if_it_stays() {
        let (mut meter, now) = established();
        let new = address(2);
        assert!(meter.may_send(now, home(), 1200, home()), "the path of the handshake");
        meter.received(now, new, 100, home());
        assert!(!meter.may_send(now, new, 5000, new), "credited with bytes from elsewhere");
        assert!(meter.awaits(new) && !meter.awaits(home()));
        meter.responded(now, new, RTT);
        assert!(meter.may_send(now, new, 5000, new));
        assert!(!meter.may_send(now, new, 5000, home()), "the claim died with the path");

        let (mut meter, now) = established();
        meter.received(now, new, 100, home());
        meter.responded(now, new, RTT);
        let later = now + CERTAIN_AFTER + CERTAIN_AFTER_RTTS * RTT;
        meter.received(later, new, 100, new);
        assert_eq!(meter.unvalidated, 0);
        assert!(meter.may_send(later, new, 1200, home()));
    }

    #[test]
    fn a_claim_that_failed_makes_the_next_one_wait() {
        let (mut meter, now) = established();
        let victim = address(2);
        let mut sent = 0;
        for _ in 0..1_000 {
            meter.received(now, victim, 40, home());
            meter.responded(now, victim, RTT);
            sent += 1200 * u64::from(meter.may_send(now, victim, 1200, victim));
            meter.received(now, home(), 40, victim);
            meter.received(now, home(), 40, home());
        }
        assert_eq!(sent, 3 * 40_000 + 1200, "only the first response was believed");
        let until = now + CERTAIN_AFTER;
        meter.received(until, victim, 40, home());
        meter.responded(until, victim, RTT);
        assert!(meter.may_send(until, victim, 1_000_000, victim), "one more after a minute");
    }

    #[test]
    fn another_port_of_the_same_host_is_free() {
        let (mut meter, now) = established();
        let moved = SocketAddr::new(home().ip(), 4_433);
        meter.received(now, moved, 40, home());
        assert!(meter.may_send(now, moved, 1200, moved));
        assert!(meter.may_send(now, moved, 1200, home()));
        assert_eq!(meter.unvalidated, 0);
        meter.received(now, address(2), 40, home());
        meter.responded(now, address(2), RTT);
        let moved = SocketAddr::new(address(2).ip(), 4_433);
        assert!(!meter.may_send(now, moved, 1200, moved), "a claim is no proof yet");
    }

    #[test]
    fn a_flood_of_addresses_forgets_the_spoofed_ones() {
        let (mut meter, now) = established();
        for host in 1_000..2_000 {
            meter.received(now, address(host), 1200, home());
        }
        assert!(meter.may_send(now, address(1_999), 1200, home()));
        assert!(!meter.may_send(now, address(1_000), 1200, home()));
        assert!(!meter.may_send(now, address(1_000), 1200, address(1_000)), "active or not");
        meter.received(now, address(1_000), 400, address(1_000));
        assert!(meter.may_send(now, address(1_000), 1200, address(1_000)));
        assert!(!meter.may_send(now, address(1_000), 1, address(1_000)));
        assert!(meter.may_send(now, home(), 1200, home()));
        assert_eq!(meter.unvalidated, PATHS - 1);
    }
}
