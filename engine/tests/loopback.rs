//! The engine talks to itself over loopback, on both datapaths.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use quiclane::{
    App, ClientTls, CloseReason, Config, Conn, ConnId, Dir, Engine, Io, Lane, Provider, Read,
    ServerConfig, ServerTls, StreamId, Target, Trust,
};

struct Upper;

impl App for Upper {
    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let mut got = Vec::new();
        let read = conn.read(stream, 1 << 20, |bytes| got.extend_from_slice(&bytes));
        let mut answer = Bytes::from(got.to_ascii_uppercase());
        if !answer.is_empty() {
            conn.write(stream, &mut answer).unwrap();
        }
        if read == Ok(Read::Finished) {
            conn.finish(stream).unwrap();
        }
    }
}

struct Asker {
    target: Target,
    started: bool,
    got: Vec<u8>,
    done: Option<String>,
    report: mpsc::Sender<String>,
}

impl App for Asker {
    fn turn(&mut self, lane: &mut Lane<'_>) {
        if !std::mem::replace(&mut self.started, true) {
            lane.connect(&self.target).unwrap();
        }
        if let Some(done) = self.done.take() {
            self.report.send(done).unwrap();
            lane.finish();
        }
    }

    fn connected(&mut self, conn: &mut Conn<'_>) {
        assert_eq!(conn.alpn(), b"upper");
        let stream = conn.open(Dir::Bi).unwrap();
        conn.write(stream, &mut Bytes::from_static(b"hello")).unwrap();
        conn.finish(stream).unwrap();
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let read = conn.read(stream, 1 << 20, |bytes| self.got.extend_from_slice(&bytes));
        if read == Ok(Read::Finished) {
            self.done = Some(String::from_utf8(self.got.clone()).unwrap());
        }
    }

    fn closed(&mut self, _id: ConnId, reason: &CloseReason) {
        self.done = Some(reason.to_string());
    }
}

fn round_trip(io: Io, listen: &str) {
    let cert = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = cert.signing_key.serialize_der().try_into().unwrap();
    let tls = ServerTls::new(
        Provider::AwsLcRs,
        vec![cert.cert.der().clone()],
        key,
        vec![b"upper".to_vec()],
        false,
    )
    .unwrap();
    let server = ServerConfig::new(listen.parse().unwrap(), tls);
    let config = Config { server: Some(server), workers: 2, io, ..Config::default() };
    let engine = Engine::start(config, |_| Upper).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.cert.der().clone()).unwrap();
    let tls = ClientTls::new(
        Provider::AwsLcRs,
        Trust::Roots(roots.into()),
        vec![b"upper".to_vec()],
        quiclane::Resume::Off,
    )
    .unwrap();
    let target = Target {
        address: reachable(engine.listen()[0]),
        server_name: "localhost".into(),
        tls,
        local: None,
    };
    let (report, reports) = mpsc::channel();
    let config = Config { workers: 1, io, ..Config::default() };
    let client = Engine::start(config, move |_| Asker {
        target: target.clone(),
        started: false,
        got: Vec::new(),
        done: None,
        report: report.clone(),
    })
    .unwrap();
    let start = quiclane::clock::now();
    assert_eq!(reports.recv_timeout(Duration::from_secs(5)).unwrap(), "HELLO");
    // A first flight that waits for a timer costs a second.
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    client.join().unwrap();
    engine.stop(Duration::ZERO);
    for snapshot in engine.metrics().snapshots() {
        let (arrived, routed) = snapshot.law();
        assert_eq!(arrived, routed, "{snapshot:?}");
    }
    engine.join().unwrap();
}

fn reachable(listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() { ([127, 0, 0, 1], listen.port()).into() } else { listen }
}

#[test]
fn epoll_v4() {
    round_trip(Io::Epoll, "127.0.0.1:0");
}

#[test]
fn epoll_v6() {
    round_trip(Io::Epoll, "[::1]:0");
}

#[test]
fn uring_v4() {
    round_trip(Io::Uring, "127.0.0.1:0");
}

#[test]
fn uring_v6() {
    round_trip(Io::Uring, "[::1]:0");
}

#[test]
fn dual_stack_wildcard() {
    round_trip(Io::Auto, "[::]:0");
}
