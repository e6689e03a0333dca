//! The load generator, and the engine's client role under it, against a stock quinn server.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use quiclane::{
    App, ClientTls, CloseReason, Config, Conn, ConnId, Dir, Engine, Io, Lane, Provider, Read,
    Resume, StreamId, Target, Transport, Trust, VarInt,
};
use quiclane_loadgen::{
    EarlyData, Ending, HQ_ALPN, HqRequest, KeyUpdates, Load, LoadConfig, PERF_ALPN, Protocol,
    Report, Stop, Workload,
};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Endpoint, IdleTimeout, TransportConfig};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// How the quinn server is set up.
#[derive(Clone, Copy, Default)]
struct Setup {
    v6: bool,
    retry: bool,
    early_data: bool,
    idle: Option<Duration>,
    /// Closes each connection with code 7 after its first answer.
    close_after_answer: bool,
    /// Lets clients open no stream.
    no_streams: bool,
    /// Closes each connection with code 8 as soon as it is open.
    close_at_once: bool,
    /// Stays with the first address of each client.
    no_migration: bool,
    /// Speaks HTTP/0.9 instead of `perf`: `/N` is N bytes.
    hq: bool,
}

impl Setup {
    fn alpn(self) -> Vec<Vec<u8>> {
        vec![if self.hq { HQ_ALPN } else { PERF_ALPN }.to_vec()]
    }
}

/// Where each stream came from, as the server sees it.
type Seen = Arc<Mutex<BTreeSet<SocketAddr>>>;

struct Quinn {
    address: SocketAddr,
    certificate: CertificateDer<'static>,
    endpoint: Endpoint,
    seen: Seen,
    setup: Setup,
    thread: Option<thread::JoinHandle<()>>,
}

impl Quinn {
    fn start(setup: Setup) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.into())
            .unwrap();
        tls.alpn_protocols = setup.alpn();
        tls.max_early_data_size = if setup.early_data { u32::MAX } else { 0 };
        let tls = QuicServerConfig::try_from(tls).unwrap();
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let mut transport = TransportConfig::default();
        let idle = setup.idle.unwrap_or(Duration::from_secs(30));
        transport.max_idle_timeout(Some(IdleTimeout::try_from(idle).unwrap()));
        if setup.no_streams {
            transport.max_concurrent_bidi_streams(0u32.into());
        }
        config.transport_config(Arc::new(transport)).migration(!setup.no_migration);
        let (ready, started) = mpsc::channel();
        let seen = Seen::default();
        let seen_by = Arc::clone(&seen);
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listen = if setup.v6 { "[::1]:0" } else { "127.0.0.1:0" };
                let endpoint = Endpoint::server(config, listen.parse().unwrap()).unwrap();
                ready.send((endpoint.local_addr().unwrap(), endpoint.clone())).unwrap();
                accept(endpoint, setup, seen_by).await;
            });
        });
        let (address, endpoint) = started.recv().unwrap();
        Self { address, certificate, endpoint, seen, setup, thread: Some(thread) }
    }

    fn target(&self, resume: Resume) -> Target {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let trust = Trust::Roots(Arc::new(roots));
        let tls = ClientTls::new(Provider::AwsLcRs, trust, self.setup.alpn(), resume).unwrap();
        Target { address: self.address, server_name: "localhost".into(), tls, local: None }
    }
}

impl Drop for Quinn {
    fn drop(&mut self) {
        self.endpoint.close(0u32.into(), b"");
        drop(self.thread.take().map(thread::JoinHandle::join));
    }
}

async fn accept(endpoint: Endpoint, setup: Setup, seen: Seen) {
    while let Some(incoming) = endpoint.accept().await {
        if setup.retry && !incoming.remote_address_validated() {
            incoming.retry().unwrap();
            continue;
        }
        let Ok(connecting) = incoming.accept() else { continue };
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            let connection = match connecting.into_0rtt() {
                Ok((connection, _)) => connection,
                Err(connecting) => match connecting.await {
                    Ok(connection) => connection,
                    Err(_) => return,
                },
            };
            if setup.close_at_once {
                connection.close(8u32.into(), b"go away");
            }
            while let Ok((send, recv)) = connection.accept_bi().await {
                let connection = connection.clone();
                seen.lock().unwrap().insert(connection.remote_address());
                tokio::spawn(async move {
                    let done = match setup.hq {
                        true => file(send, recv).await,
                        false => answer(send, recv).await,
                    };
                    if done.is_some() && setup.close_after_answer {
                        connection.close(7u32.into(), b"enough");
                    }
                });
            }
        });
    }
}

/// One stream of HTTP/0.9.
async fn file(mut send: quinn::SendStream, mut recv: quinn::RecvStream) -> Option<()> {
    let line = recv.read_to_end(100).await.ok()?;
    let line = String::from_utf8(line).ok()?;
    let bytes = line.strip_prefix("GET /")?.strip_suffix("\r\n")?.parse().ok()?;
    send.write_all(&vec![7; bytes]).await.ok()?;
    send.finish().ok()
}

/// One stream of the perf protocol.
async fn answer(mut send: quinn::SendStream, mut recv: quinn::RecvStream) -> Option<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    let mut header = [0; 8];
    recv.read_exact(&mut header).await.ok()?;
    while recv.read_chunk(usize::MAX, false).await.ok()?.is_some() {}
    let mut left = u64::from_be_bytes(header);
    while left > 0 {
        let chunk = usize::try_from(left).unwrap().min(ZEROS.len());
        send.write_chunk(Bytes::from_static(&ZEROS[..chunk])).await.ok()?;
        left -= chunk as u64;
    }
    send.finish().ok()?;
    send.stopped().await.ok();
    Some(())
}

fn run(
    server: &Quinn,
    workload: Workload,
    stop: Stop,
    change: impl FnOnce(&mut LoadConfig),
) -> Report {
    let mut config = LoadConfig::new(vec![server.target(Resume::Off)], workload, stop);
    config.workers = 2;
    config.connections = 2;
    change(&mut config);
    let report = Load::start(config).unwrap().join().unwrap();
    assert!(report.counts.requests.is_balanced() && report.counts.handshakes.is_balanced());
    report
}

/// A byte, a megabyte and a gigabyte in one direction.
fn transfers(io: Io, v6: bool, bulk: fn(u64) -> Workload) {
    let server = Quinn::start(Setup { v6, ..Setup::default() });
    assert_eq!(server.address.is_ipv6(), v6);
    for size in [1, 1_000_000, 1_000_000_000] {
        let report = run(&server, bulk(size), Stop::Requests(1), |config| {
            config.io = io;
            config.connections = 1;
        });
        assert!(report.ok, "{report}");
        assert_eq!(report.bytes_down + report.bytes_up, size);
    }
    let small = Workload::Requests { request_size: 1, response_size: 1 };
    assert!(run(&server, small, Stop::Requests(1), |config| config.io = io).ok);
}

// Each backend carries a gigabyte over each family, and in each direction.

#[test]
fn transfers_epoll_v4() {
    transfers(Io::Epoll, false, Workload::Download);
}

#[test]
fn transfers_uring_v4() {
    transfers(Io::Uring, false, Workload::Upload);
}

#[test]
fn transfers_epoll_v6() {
    transfers(Io::Epoll, true, Workload::Upload);
}

#[test]
fn transfers_uring_v6() {
    transfers(Io::Uring, true, Workload::Download);
}

#[test]
fn a_hundred_streams_and_a_hundred_connections() {
    let server = Quinn::start(Setup::default());
    let workload = Workload::Requests { request_size: 1_000, response_size: 20_000 };
    let report = run(&server, workload, Stop::Requests(1_000), |config| {
        config.connections = 1;
        config.streams = 100;
    });
    assert!(report.ok && report.requests == 1_000, "{report}");
    let report = run(&server, workload, Stop::Requests(1_000), |config| {
        config.connections = 100;
    });
    assert!(report.ok && report.handshakes == 100, "{report}");
}

#[test]
fn over_ipv6_with_retry_and_early_data() {
    for v6 in [false, true] {
        for retry in [false, true] {
            for early_data in [false, true] {
                let server = Quinn::start(Setup { v6, retry, early_data, ..Setup::default() });
                let workload = Workload::Requests { request_size: 10, response_size: 10 };
                let report = run(&server, workload, Stop::Requests(20), |_| {});
                assert!(report.ok && report.requests == 20, "{report}");
                let report = run(&server, Workload::Handshakes, Stop::Requests(20), |_| {});
                assert!(report.ok && report.handshakes == 20, "{report}");
            }
        }
    }
}

/// 60 requests, three on each connection.
fn churn(targets: Vec<Target>) -> Report {
    let workload = Workload::Requests { request_size: 3_000, response_size: 3_000 };
    let mut config = LoadConfig::new(targets, workload, Stop::Requests(60));
    config.workers = 1;
    config.streams = 2;
    config.requests_per_connection = NonZero::new(3);
    let report = Load::start(config).unwrap().join().unwrap();
    assert!(report.ok && report.requests == 60, "{report}");
    assert_eq!((report.handshakes, report.reconnects), (20, 0), "{report}");
    assert_eq!((report.bytes_up, report.bytes_down), (180_000, 180_000), "{report}");
    report
}

#[test]
fn connections_that_come_again_send_early_data_where_they_may() {
    for early_data in [false, true] {
        let server = Quinn::start(Setup { early_data, ..Setup::default() });
        for resume in [Resume::Off, Resume::Ticket, Resume::ZeroRtt] {
            let EarlyData { sent, accepted, .. } = churn(vec![server.target(resume)]).early_data;
            assert_eq!(sent, accepted);
            // The first requests of all connections but the first.
            let expected = if early_data && resume == Resume::ZeroRtt { 2 * 19 } else { 0 };
            assert_eq!(sent, expected, "{resume:?}");
        }
    }
}

#[test]
fn rejected_early_data_is_sent_again() {
    let setup = Setup { early_data: true, ..Setup::default() };
    let servers = [Quinn::start(setup), Quinn::start(setup)];
    let alpn = vec![PERF_ALPN.to_vec()];
    let tls = ClientTls::new(Provider::AwsLcRs, Trust::Insecure, alpn, Resume::ZeroRtt).unwrap();
    // Both have the same name, so each is shown the tickets of the other.
    let target = |server: &Quinn| Target { tls: tls.clone(), ..server.target(Resume::Off) };
    let mut config = LoadConfig::new(
        servers.iter().map(target).collect(),
        Workload::Requests { request_size: 3_000, response_size: 3_000 },
        Stop::Requests(60),
    );
    config.workers = 1;
    config.connections = 2;
    config.streams = 2;
    config.requests_per_connection = NonZero::new(3);
    let report = Load::start(config).unwrap().join().unwrap();
    assert!(report.ok && report.requests == 60, "{report}");
    assert_eq!((report.bytes_up > 180_000, report.bytes_down), (true, 180_000), "{report}");
    assert!(report.early_data.accepted < report.early_data.sent, "{report}");
}

#[test]
fn a_run_by_number_ends_though_nothing_can_be_done() {
    let workload = Workload::Requests { request_size: 10, response_size: 10 };
    for setup in [
        Setup { no_streams: true, ..Setup::default() },
        Setup { close_at_once: true, ..Setup::default() },
    ] {
        let server = Quinn::start(setup);
        let report = run(&server, workload, Stop::Requests(1_000_000), |config| {
            config.connect_timeout = Duration::from_millis(300);
        });
        assert_eq!(report.ending, Ending::GaveUp, "{report}");
        assert!(!report.ok && report.duration_s < 5.0, "{report}");
        // Those of the second one were started, and failed with their connections.
        let fails_early = report.counts.requests.failed > 0;
        assert_eq!(fails_early, setup.close_at_once, "{report}");
        assert!(report.to_string().contains("gave up: nothing was answered"), "{report}");
    }
}

#[test]
fn a_close_by_the_application_has_its_class() {
    let server = Quinn::start(Setup { close_after_answer: true, ..Setup::default() });
    let workload = Workload::Requests { request_size: 10, response_size: 10 };
    let report = run(&server, workload, Stop::Requests(20), |config| {
        config.streams = 2;
        config.request_timeout = Some(Duration::from_secs(5));
    });
    assert_eq!(report.requests, 20);
    assert!(report.reconnects > 0, "{report}");
    assert!(report.errors.by_class.keys().all(|class| *class == "application_close"), "{report}");
}

/// Asks once, waits, and writes down what happens.
struct Once {
    target: Target,
    asks: usize,
    /// Connections to open one after another.
    left: usize,
    connection: Option<ConnId>,
    log: Arc<Mutex<Vec<String>>>,
    early: bool,
}

impl Once {
    fn ask(&mut self, conn: &mut Conn<'_>) {
        for _ in 0..std::mem::take(&mut self.asks) {
            let stream = conn.open(Dir::Bi).unwrap();
            conn.write(stream, &mut Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 5])).unwrap();
            conn.finish(stream).unwrap();
        }
    }
}

impl App for Once {
    fn turn(&mut self, lane: &mut Lane<'_>) {
        if self.connection.is_none() {
            if self.left == 0 {
                return lane.finish();
            }
            self.left -= 1;
            self.asks = 1;
            let id = lane.connect(&self.target).unwrap();
            self.connection = Some(id);
            let mut conn = lane.conn(id).unwrap();
            if conn.has_0rtt() {
                self.early = true;
                self.ask(&mut conn);
            }
        }
    }

    fn connected(&mut self, conn: &mut Conn<'_>) {
        if std::mem::take(&mut self.early) {
            let accepted = conn.accepted_0rtt();
            self.log.lock().unwrap().push(format!("early data accepted: {accepted}"));
            self.asks = usize::from(!accepted);
        }
        self.ask(conn);
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let mut got = 0;
        if conn.read(stream, 100, |bytes| got += bytes.len()) == Ok(Read::Finished) {
            self.log.lock().unwrap().push(format!("answer of {got}"));
            if self.left > 0 {
                conn.close(VarInt::from_u32(0), "next");
            }
        }
    }

    fn closed(&mut self, _id: ConnId, reason: &CloseReason) {
        self.log.lock().unwrap().push(reason.class().to_owned());
        self.connection = None;
    }
}

fn once(server: &Quinn, connections: usize, transport: Transport) -> Vec<String> {
    let (target, log) = (server.target(Resume::ZeroRtt), Arc::new(Mutex::new(Vec::new())));
    let shared = Arc::clone(&log);
    let config = Config { workers: 1, transport, ..Config::default() };
    let engine = Engine::start(config, move |_| Once {
        target: target.clone(),
        asks: 0,
        left: connections,
        connection: None,
        log: Arc::clone(&shared),
        early: false,
    });
    engine.unwrap().join().unwrap();
    let log = log.lock().unwrap();
    log.clone()
}

#[test]
fn an_idle_timeout_is_told_from_a_close() {
    let idle = Some(Duration::from_millis(300));
    let server = Quinn::start(Setup { idle, ..Setup::default() });
    assert_eq!(once(&server, 1, Transport::default()), ["answer of 5", "idle_timeout"]);
    let server = Quinn::start(Setup { close_after_answer: true, ..Setup::default() });
    assert_eq!(once(&server, 1, Transport::default()), ["answer of 5", "application_close"]);
}

#[test]
fn early_data_is_sent_where_the_server_allows_it() {
    for early_data in [true, false] {
        let idle = Some(Duration::from_millis(500));
        let server = Quinn::start(Setup { early_data, idle, ..Setup::default() });
        let log = once(&server, 2, Transport::default());
        let sent = log.contains(&"early data accepted: true".to_owned());
        assert_eq!(sent, early_data, "{log:?}");
        assert_eq!(log.iter().filter(|line| *line == "answer of 5").count(), 2, "{log:?}");
    }
}

#[test]
fn files_over_http_0_9() {
    let server = Quinn::start(Setup { hq: true, ..Setup::default() });
    let get =
        |path: &str, weight| HqRequest::new(path).unwrap().weighted(NonZero::new(weight).unwrap());
    let protocol = Protocol::Hq(vec![get("/1000", 3), get("/100000", 1)]);
    let (targets, stop) = (vec![server.target(Resume::Off)], Stop::Requests(400));
    let config = LoadConfig {
        protocol,
        connections: 5,
        streams: 10,
        workers: 1,
        ..LoadConfig::new(targets, Workload::Http, stop)
    };
    let report = Load::start(config).unwrap().join().unwrap();
    assert!(report.ok, "{report}");
    assert_eq!(report.bytes_down, 300 * 1_000 + 100 * 100_000, "{report}");
    assert!(report.ttfb_us.is_some() && report.status.is_none(), "{report}");
    assert!(report.to_string().starts_with("HTTP/0.9 GET, 2 URLs in turn"), "{report}");
}

#[test]
fn connections_move_and_take_new_keys_with_a_server_of_others() {
    for locals in [None, Some("127.4.0.0/28".parse().unwrap())] {
        let server = Quinn::start(Setup::default());
        let workload = Workload::Requests { request_size: 100, response_size: 1_000 };
        let stop = Stop::Duration(Duration::from_millis(1_500));
        let config = LoadConfig {
            connections: 4,
            streams: 4,
            workers: 1,
            migrate_every: Some(Duration::from_millis(400)),
            key_updates: Some(KeyUpdates::Every(Duration::from_millis(300))),
            locals: locals.clone(),
            ..LoadConfig::new(vec![server.target(Resume::Off)], workload, stop)
        };
        let report = Load::start(config).unwrap().join().unwrap();
        assert!(report.ok && report.handshakes == 4, "{report}");
        let (migrations, updates) = (report.migrations.unwrap(), report.key_updates.unwrap());
        assert!(report.errors.total == 0 && migrations >= 8 && updates >= 8, "{report}");
        // The server follows them. On a busy machine not every place has its request.
        let seen = server.seen.lock().unwrap().clone();
        assert!(seen.len() as u64 > 4 + migrations / 2, "{seen:?} {report}");
        let addresses: BTreeSet<_> = seen.iter().map(SocketAddr::ip).collect();
        assert_eq!(addresses.len() > 1, locals.is_some(), "{addresses:?}");
    }
}

#[test]
fn a_server_that_stays_with_the_old_address_is_named_as_what_it_may_be() {
    let server = Quinn::start(Setup { no_migration: true, ..Setup::default() });
    let workload = Workload::Requests { request_size: 100, response_size: 1_000 };
    let stop = Stop::Duration(Duration::from_millis(2_500));
    let config = LoadConfig {
        connections: 4,
        workers: 1,
        migrate_every: Some(Duration::from_millis(400)),
        ..LoadConfig::new(vec![server.target(Resume::Off)], workload, stop)
    };
    let report = Load::start(config).unwrap().join().unwrap();
    assert_eq!(report.counts.requests.failed, 4, "{report}");
    assert!(report.to_string().contains("does not follow a client"), "{report}");
}
