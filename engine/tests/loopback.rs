//! The engine talks to itself over loopback, on both datapaths.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use quiclane::{
    App, ClientTls, CloseReason, Config, Conn, ConnId, Dir, Engine, Io, Lane, Provider, Read,
    ServerConfig, ServerTls, StreamId, Target, Transport, Trust,
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

/// A server that runs `make`'s apps, and how to reach it.
fn serve<A: App>(
    io: Io,
    listen: &str,
    make: impl Fn() -> A + Send + Sync + 'static,
) -> (Engine, Target) {
    serve_with(Config { io, ..Config::default() }, listen, make)
}

/// The same of `config`, with two workers.
fn serve_with<A: App>(
    config: Config,
    listen: &str,
    make: impl Fn() -> A + Send + Sync + 'static,
) -> (Engine, Target) {
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
    let config = Config { server: Some(server), workers: 2, ..config };
    let engine = Engine::start(config, move |_| make()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.cert.der().clone()).unwrap();
    let tls = ClientTls::new(
        Provider::AwsLcRs,
        Trust::Roots(roots.into()),
        vec![b"upper".to_vec()],
        quiclane::Resume::Off,
    )
    .unwrap();
    let address = reachable(engine.listen()[0]);
    (engine, Target { address, server_name: "localhost".into(), tls, local: None })
}

fn round_trip(io: Io, listen: &str) {
    let (engine, target) = serve(io, listen, || Upper);
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

/// Throws away what comes, and notes how large its own datagrams may be by then.
struct Sink(Arc<AtomicU16>);

impl App for Sink {
    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        while conn.read(stream, 1 << 20, drop) == Ok(Read::More) {}
        self.0.store(conn.stats().path.current_mtu, Ordering::Relaxed);
    }
}

/// Sends again and again, until datagrams are as large as expected in both directions.
struct Grower {
    target: Target,
    expected: u16,
    servers: Arc<AtomicU16>,
    started: bool,
    /// Ours and the server's.
    done: Option<[u16; 2]>,
    report: mpsc::Sender<[u16; 2]>,
}

impl Grower {
    fn send(conn: &mut Conn<'_>) {
        let stream = conn.open(Dir::Uni).unwrap();
        conn.write(stream, &mut Bytes::from_static(&[0; 5_000])).unwrap();
        conn.finish(stream).unwrap();
    }
}

impl App for Grower {
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
        Self::send(conn);
    }

    fn finished(&mut self, conn: &mut Conn<'_>, _: StreamId) {
        let both = [conn.stats().path.current_mtu, self.servers.load(Ordering::Relaxed)];
        if both.into_iter().all(|mtu| mtu >= self.expected) {
            self.done = Some(both);
        } else {
            Self::send(conn);
        }
    }
}

#[test]
fn datagrams_grow_to_what_ethernet_takes() {
    for (listen, expected) in [("127.0.0.1:0", 1_472), ("[::1]:0", 1_452)] {
        assert_eq!(grown(listen, None, expected), [expected; 2], "{listen}");
    }
}

#[test]
fn datagrams_grow_to_what_they_may() {
    // Discovery leaves off when the next step is below 20 bytes.
    let both = grown("127.0.0.1:0", Some(8_952), 8_930);
    assert!(both.into_iter().all(|mtu| (8_930..=8_952).contains(&mtu)), "{both:?}");
}

/// How large datagrams have become on both sides once they are as large as `expected`.
fn grown(listen: &str, mtu_max: Option<u16>, expected: u16) -> [u16; 2] {
    let servers = Arc::new(AtomicU16::new(0));
    let noted = Arc::clone(&servers);
    let transport = Transport { mtu_max, ..Transport::default() };
    let config = Config { transport: transport.clone(), ..Config::default() };
    let (server, target) = serve_with(config, listen, move || Sink(Arc::clone(&noted)));
    let (report, reports) = mpsc::channel();
    let config = Config { workers: 1, transport, ..Config::default() };
    let client = Engine::start(config, move |_| Grower {
        target: target.clone(),
        expected,
        servers: Arc::clone(&servers),
        started: false,
        done: None,
        report: report.clone(),
    })
    .unwrap();
    let both = reports.recv_timeout(Duration::from_secs(10)).unwrap();
    client.join().unwrap();
    server.stop(Duration::ZERO);
    server.join().unwrap();
    both
}
