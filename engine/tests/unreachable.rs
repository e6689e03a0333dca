//! What a client makes of ICMP "port unreachable": news while it has heard nothing, else nothing.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use quiclane::{
    App, ClientTls, CloseReason, Config, ConnId, Engine, Io, Lane, Limits, Provider, Target, Trust,
};

struct Caller {
    target: Target,
    began: Option<Instant>,
    end: Option<CloseReason>,
    report: mpsc::Sender<(CloseReason, Duration)>,
}

impl App for Caller {
    fn turn(&mut self, lane: &mut Lane<'_>) {
        let began = match self.began {
            Some(began) => began,
            None => {
                lane.connect(&self.target).unwrap();
                *self.began.insert(lane.now())
            }
        };
        if let Some(end) = self.end.take() {
            self.report.send((end, lane.now() - began)).unwrap();
            lane.finish();
        }
    }

    fn closed(&mut self, _: ConnId, reason: &CloseReason) {
        self.end = Some(reason.clone());
    }
}

/// How a handshake with `address` ends that has 2.5 s, and after what time.
fn call(io: Io, address: SocketAddr) -> (CloseReason, Duration) {
    let alpn = vec![b"any".to_vec()];
    let tls = ClientTls::new(Provider::Ring, Trust::Insecure, alpn, quiclane::Resume::Off).unwrap();
    let target = Target { address, server_name: "localhost".into(), tls, local: None };
    let limits = Limits { handshake_deadline: DEADLINE, ..Limits::default() };
    let (report, end) = mpsc::channel();
    let make =
        move |_| Caller { target: target.clone(), began: None, end: None, report: report.clone() };
    let engine = Engine::start(Config { workers: 1, io, limits, ..Config::default() }, make);
    let engine = engine.unwrap();
    let end = end.recv_timeout(Duration::from_secs(20)).unwrap();
    engine.stop(Duration::ZERO);
    engine.join().unwrap();
    end
}

#[test]
fn a_port_where_nothing_listens_is_known_at_once() {
    for io in [Io::Auto, Io::Epoll] {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let closed = UdpSocket::bind(ip).unwrap().local_addr().unwrap();
            let (reason, after) = call(io, closed);
            assert_eq!(reason, CloseReason::PortUnreachable(closed));
            assert_eq!(reason.class(), "port_unreachable");
            assert!(reason.to_string().contains(&closed.to_string()), "{reason}");
            assert!(after < Duration::from_secs(1), "{after:?}");
        }
    }
}

/// A forged message must not end a handshake that has been answered.
#[test]
fn a_peer_that_has_answered_is_not_given_up() {
    for io in [Io::Auto, Io::Epoll] {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = peer.local_addr().unwrap();
        let answer = thread::spawn(move || {
            let mut initial = [0; 2_000];
            let (length, client) = peer.recv_from(&mut initial).unwrap();
            // Its own first packet with the IDs exchanged: nothing that it can decrypt.
            let destination = 6..6 + usize::from(initial[5]);
            let source = destination.end + 1;
            let source = source..source + usize::from(initial[source - 1]);
            let mut packet = initial[..5].to_vec();
            for id in [source.clone(), destination] {
                packet.push(u8::try_from(id.len()).unwrap());
                packet.extend_from_slice(&initial[id]);
            }
            packet.extend_from_slice(&initial[source.end..length]);
            peer.send_to(&packet, client).unwrap();
        });
        let (reason, after) = call(io, address);
        answer.join().unwrap();
        assert_eq!(reason, CloseReason::HandshakeTimeout);
        assert!(after >= DEADLINE, "{after:?}");
    }
}

/// Longer than the first probe timeout, which sends to the closed port again.
const DEADLINE: Duration = Duration::from_millis(2_500);
