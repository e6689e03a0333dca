//! sender sends abuse that needs no connection, from a few sockets of its own, and counts what
//! comes back.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use quiclane::{Target, clock};

use super::due::Due;
use super::heard::Tag;
use super::initials::Initials;
use super::junk::{JUNK_BYTES_MAX, Junk};
use super::report::{AbuseReport, seconds};
use super::switch::Switch;
use super::{DefenceError, Kind};
use crate::random::Random;
use crate::schedule::Rate;

/// One thread that sends.
pub(super) struct Sender {
    source: Source,
    sockets: Vec<UdpSocket>,
    /// Which socket has its turn.
    turn: usize,
    due: Due,
    report: AbuseReport,
    /// For what arrives.
    buffer: Vec<u8>,
}

/// What is sent.
enum Source {
    Initials,
    Junk { junk: Junk, datagram: Vec<u8> },
}

impl Sender {
    /// Opens the sockets.
    pub(super) fn new(
        kind: Kind,
        rate: &Rate,
        target: &Target,
    ) -> Result<(Self, Initials), DefenceError> {
        let address = target.address;
        let open = |_| open(address).map_err(|source| DefenceError::Socket { address, source });
        let sockets = (0..SOCKETS).map(open).collect::<Result<Vec<_>, _>>()?;
        let seed = u64::from(clock::unix_time().subsec_nanos());
        let mut tag = Tag::default();
        Random::new(seed).fill(&mut tag);
        let follows = kind == Kind::HandshakeAbandon;
        let mut initials = Initials::new(target, tag, follows);
        let now = clock::now();
        let source = match kind {
            Kind::Junk => {
                let mut initial = Vec::new();
                initials.begin(now, |datagram| initial = datagram.to_vec());
                Source::Junk { junk: Junk::new(seed, initial), datagram: Vec::new() }
            }
            _ => Source::Initials,
        };
        let due = Due::new(rate, 0, 1, now);
        let report = AbuseReport { answers: Some(Default::default()), ..AbuseReport::default() };
        let buffer = vec![0; DATAGRAM_BYTES_MAX];
        Ok((Self { source, sockets, turn: 0, due, report, buffer }, initials))
    }

    /// Sends until `switch` says that it is over, and listens until it is closed.
    pub(super) fn run(mut self, mut initials: Initials, switch: &Switch) -> AbuseReport {
        let mut is_over = false;
        loop {
            let now = clock::now();
            if !is_over && let Some(end) = switch.over(now) {
                is_over = true;
                self.report.due += self.due.take_all(end);
                self.report.duration_s = seconds(end.saturating_duration_since(self.due.start()));
            }
            if !is_over {
                self.send_due(now, &mut initials);
            }
            let has_heard = self.receive(now, &mut initials);
            if switch.is_closed() {
                return self.report;
            }
            if !has_heard {
                self.rest(is_over);
            }
        }
    }

    /// Sends what is due, as much as fits a turn.
    fn send_due(&mut self, now: Instant, initials: &mut Initials) {
        for _ in 0..SENDS_PER_TURN {
            if !self.due.take(now) {
                return;
            }
            self.turn = (self.turn + 1) % self.sockets.len();
            let Self { source, sockets, turn, report, .. } = self;
            let socket = &sockets[*turn];
            report.due += 1;
            let before = report.sent.datagrams;
            match source {
                Source::Initials => {
                    initials.begin(now, |datagram| send(socket, datagram, report));
                }
                Source::Junk { junk, datagram } => {
                    junk.write(datagram);
                    send(socket, datagram, report);
                }
            }
            report.done += u64::from(report.sent.datagrams > before);
        }
    }

    /// Takes what came, as much as fits a turn; false when there was nothing.
    fn receive(&mut self, now: Instant, initials: &mut Initials) -> bool {
        let mut has_heard = false;
        let Self { sockets, report, buffer, .. } = self;
        for socket in sockets {
            for _ in 0..RECEIVES_PER_TURN {
                // Errors are those of datagrams sent before (ICMP), or that there is nothing.
                let Ok(bytes) = socket.recv(buffer) else { break };
                has_heard = true;
                report.received.add(1, bytes as u64);
                let mut follow = Vec::new();
                initials.hear(now, &buffer[..bytes], report, |datagram| {
                    follow.push(datagram.to_vec());
                });
                for datagram in follow {
                    send(socket, &datagram, report);
                }
            }
        }
        has_heard
    }

    /// Sleeps until something is due, and never long: something may come.
    fn rest(&self, is_over: bool) {
        let due = self.due.next_at().filter(|_| !is_over);
        let until = due.map_or(REST_MAX, |at| at.saturating_duration_since(clock::now()));
        if !until.is_zero() {
            thread::sleep(until.min(REST_MAX));
        }
    }
}

/// Sends a datagram and counts it.
fn send(socket: &UdpSocket, datagram: &[u8], report: &mut AbuseReport) {
    let mut sent = socket.send(datagram);
    if sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
        // What an earlier datagram met (ICMP port unreachable): this one was not tried.
        *report.ended.entry("port_unreachable".into()).or_default() += 1;
        sent = socket.send(datagram);
    }
    match sent {
        Ok(bytes) => report.sent.add(1, bytes as u64),
        Err(_) => report.not_taken += 1,
    }
}

fn open(address: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
    }?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// From one port all would go to one queue, and one worker, of a server that spreads by addresses.
const SOCKETS: usize = 16;

/// After so many it is time to listen: about two milliseconds of ClientHellos.
const SENDS_PER_TURN: usize = 32;

/// The same for each socket.
const RECEIVES_PER_TURN: usize = 32;

/// A kernel buffer of 208 KiB holds what a flood is answered with for longer than that.
const REST_MAX: Duration = Duration::from_millis(1);

/// More than a server sends before it knows the path; the rest would be cut off and not counted.
const DATAGRAM_BYTES_MAX: usize = 2_048;

const _: () = assert!(JUNK_BYTES_MAX < DATAGRAM_BYTES_MAX);
