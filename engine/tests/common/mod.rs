//! What several integration tests share: a server with a certificate, and its counters.
#![expect(dead_code, reason = "each test binary uses its own part of this")]

pub(crate) mod relay;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use quiclane::apps::{Perf, PerfOptions};
use quiclane::metrics::WorkerSnapshot;
use quiclane::{App, Config, Engine, Io, Provider, ServerConfig, ServerTls, WorkerInfo};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, EndpointConfig, TransportConfig};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

/// A self-signed certificate for localhost.
pub(crate) struct Certificate {
    der: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        Self::of(vec!["localhost".to_owned()])
    }

    fn of(names: Vec<String>) -> Self {
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self { der: made.cert.der().clone(), key: made.signing_key.serialize_der() }
    }

    /// Leaves it to another process.
    pub(crate) fn save(&self, folder: &Path) {
        fs::write(folder.join("certificate"), &self.der).unwrap();
        fs::write(folder.join("key"), &self.key).unwrap();
    }

    /// What another process saved.
    pub(crate) fn load(folder: &Path) -> Self {
        let [der, key] = ["certificate", "key"].map(|name| fs::read(folder.join(name)).unwrap());
        Self { der: der.into(), key }
    }

    pub(crate) fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        Arc::new(roots)
    }

    pub(crate) fn server(&self, alpn: &[&str], early_data: bool) -> ServerTls {
        let alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let key = self.key.clone().try_into().unwrap();
        ServerTls::new(Provider::AwsLcRs, vec![self.der.clone()], key, alpn, early_data).unwrap()
    }
}

/// A running server.
pub(crate) struct Served {
    pub(crate) certificate: Certificate,
    engine: Engine,
}

/// A perf server on `listen`, with the configuration changed by `change`.
pub(crate) fn perf_server(
    listen: &str,
    workers: usize,
    change: impl FnOnce(&mut Config),
) -> Served {
    server(listen, workers, false, change)
}

/// The same with a certificate that another server had.
pub(crate) fn perf_server_as(
    certificate: Certificate,
    listen: &str,
    workers: usize,
    change: impl FnOnce(&mut Config),
) -> Served {
    let tls = certificate.server(&["perf"], false);
    let config = Config { workers, ..Config::default() };
    serve(certificate, tls, listen, config, change, |_| Perf::new(PerfOptions::default()))
}

/// A perf server whose certificate is so large that its first flight is more than a client's first
/// packets allow.
pub(crate) fn large_server(listen: &str) -> Served {
    let more = (0..400).map(|n| format!("another-name-of-this-host-{n}.example"));
    let certificate = Certificate::of(["localhost".to_owned()].into_iter().chain(more).collect());
    let tls = certificate.server(&["perf"], false);
    let config = Config { workers: 1, ..Config::default() };
    serve(certificate, tls, listen, config, |_| {}, |_| Perf::new(PerfOptions::default()))
}

pub(crate) fn server(
    listen: &str,
    workers: usize,
    early_data: bool,
    change: impl FnOnce(&mut Config),
) -> Served {
    let certificate = Certificate::new();
    let tls = certificate.server(&["perf"], early_data);
    let config = Config { workers, ..Config::default() };
    serve(certificate, tls, listen, config, change, |_| Perf::new(PerfOptions::default()))
}

/// A server of two workers for the protocols `alpn`, which the apps of `make` speak.
pub(crate) fn app_server<A: App>(
    alpn: &[&str],
    io: Io,
    make: impl Fn(WorkerInfo) -> A + Send + Sync + 'static,
) -> Served {
    app_server_with(alpn, |config| config.io = io, make)
}

/// The same with the configuration changed by `change`.
pub(crate) fn app_server_with<A: App>(
    alpn: &[&str],
    change: impl FnOnce(&mut Config),
    make: impl Fn(WorkerInfo) -> A + Send + Sync + 'static,
) -> Served {
    let certificate = Certificate::new();
    let tls = certificate.server(alpn, false);
    let config = Config { workers: 2, ..Config::default() };
    serve(certificate, tls, "127.0.0.1:0", config, change, make)
}

fn serve<A: App>(
    certificate: Certificate,
    tls: ServerTls,
    listen: &str,
    mut config: Config,
    change: impl FnOnce(&mut Config),
    make: impl Fn(WorkerInfo) -> A + Send + Sync + 'static,
) -> Served {
    config.server = Some(ServerConfig::new(listen.parse().unwrap(), tls));
    change(&mut config);
    let engine = Engine::start(config, make).unwrap();
    Served { certificate, engine }
}

impl Served {
    pub(crate) fn address(&self) -> SocketAddr {
        self.engine.listen()[0]
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn snapshots(&self) -> Vec<WorkerSnapshot> {
        self.engine.metrics().snapshots()
    }

    pub(crate) fn stop(&self) {
        self.engine.stop(Duration::ZERO);
    }

    /// Stops it and returns the final counters.
    pub(crate) fn finish(self) -> Vec<WorkerSnapshot> {
        self.engine.stop(Duration::ZERO);
        let metrics = self.engine.metrics();
        self.engine.join().unwrap();
        metrics.snapshots()
    }
}

/// A quinn client that trusts `certificate`, on the address family of `server`.
pub(crate) fn quinn_client(
    certificate: &Certificate,
    server: SocketAddr,
    early_data: bool,
) -> Endpoint {
    let mut endpoint = Endpoint::client(local(server)).unwrap();
    endpoint.set_default_client_config(client_config(certificate, &["perf"], early_data));
    endpoint
}

/// A quinn client on a socket of the caller's choice, which sends something at least that often.
pub(crate) fn quinn_client_on(
    socket: UdpSocket,
    certificate: &Certificate,
    keep_alive: Duration,
) -> Endpoint {
    let runtime = Arc::new(quinn::TokioRuntime);
    let mut endpoint = Endpoint::new(EndpointConfig::default(), None, socket, runtime).unwrap();
    let mut config = client_config(certificate, &["perf"], false);
    let mut transport = transport();
    transport.keep_alive_interval(Some(keep_alive));
    config.transport_config(Arc::new(transport));
    endpoint.set_default_client_config(config);
    endpoint
}

/// A connection of a quinn client of its own that speaks one of `alpn`, or why there is none.
pub(crate) async fn connect_with(
    server: &Served,
    alpn: &[&str],
) -> Result<(Endpoint, Connection), ConnectionError> {
    connect_at(server, server.address(), alpn).await
}

/// The same through something that forwards.
pub(crate) async fn connect_at(
    server: &Served,
    address: SocketAddr,
    alpn: &[&str],
) -> Result<(Endpoint, Connection), ConnectionError> {
    let mut endpoint = Endpoint::client(local(address)).unwrap();
    endpoint.set_default_client_config(client_config(&server.certificate, alpn, false));
    let connection = endpoint.connect(address, "localhost").unwrap().await?;
    Ok((endpoint, connection))
}

pub(crate) fn local(server: SocketAddr) -> SocketAddr {
    if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.parse().unwrap()
}

pub(crate) fn client_config(
    certificate: &Certificate,
    alpn: &[&str],
    early_data: bool,
) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(certificate.roots())
        .with_no_client_auth();
    tls.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    tls.enable_early_data = early_data;
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport()));
    config
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(20).try_into().unwrap()));
    transport
}

/// One perf request: `up` bytes of upload, `down` bytes of download.
pub(crate) async fn exchange(
    connection: &Connection,
    up: usize,
    down: u64,
) -> Result<(), ConnectionError> {
    let (mut send, mut recv) = connection.open_bi().await?;
    let write = async {
        send.write_all(&down.to_be_bytes()).await?;
        let chunk = vec![0; 64 << 10];
        let mut left = up;
        while left > 0 {
            let n = left.min(chunk.len());
            send.write_all(&chunk[..n]).await?;
            left -= n;
        }
        send.finish().unwrap();
        Ok::<_, quinn::WriteError>(())
    };
    let read = async {
        let mut got = 0;
        while let Some(chunk) = recv.read_chunk(usize::MAX, true).await.unwrap() {
            got += chunk.bytes.len() as u64;
        }
        got
    };
    let (written, got) = tokio::join!(write, read);
    written.unwrap();
    assert_eq!(got, down);
    Ok(())
}

/// Whether this is a network namespace of the test's own, whose loopback is up and may have
/// programs. If not, the test was run in one, or says why it is skipped.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn in_namespace(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let inside = |program: &OsStr, arguments: &[&str]| {
        let shell = "ip link set lo up && exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", shell, "sh"]).arg(program).args(arguments);
        command.env(INSIDE, "1").output()
    };
    if inside(OsStr::new("true"), &[]).is_ok_and(|output| output.status.success()) {
        let output = inside(env::current_exe().unwrap().as_os_str(), &["--exact", test]).unwrap();
        assert!(output.status.success(), "{output:?}");
        let ran = String::from_utf8_lossy(&output.stdout).contains("1 passed");
        assert!(ran, "{test} is not the name of a test: {output:?}");
    } else {
        assert!(env::var("CI").as_deref() != Ok("true"), "no root, or no `ip`");
        println!("skipped: {test}: needs root for a network namespace, and `ip`");
    }
    false
}

/// Set in the namespace.
const INSIDE: &str = "QUICLANE_TEST_INSIDE";

/// The law of every count, on each worker and for tosses between them.
pub(crate) fn law_holds(snapshots: &[WorkerSnapshot]) {
    for snapshot in snapshots {
        let (arrived, routed) = snapshot.law();
        assert_eq!(arrived, routed, "{snapshot:?}");
    }
    let tossed = total(snapshots, |s| s.sibling) - total(snapshots, |s| s.toss_dropped);
    // A worker that stopped first leaves what reached its mailbox afterwards.
    assert!(total(snapshots, |s| s.tossed_in) <= tossed, "{snapshots:?}");
}

/// Waits until `condition` holds; how long a slow machine takes is no failure.
pub(crate) async fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..3_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not come true within 30 s");
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

pub(crate) fn total(snapshots: &[WorkerSnapshot], field: impl Fn(&WorkerSnapshot) -> u64) -> u64 {
    snapshots.iter().map(field).sum()
}

/// A well-formed first Initial packet of a client that will not go on: number `n` of many.
pub(crate) fn initial(n: u64, alpn: &str) -> Vec<u8> {
    initial_to(n, alpn, None)
}

/// The same, to a connection ID of the caller's choice.
pub(crate) fn initial_to(n: u64, alpn: &str, target: Option<quinn_proto::ConnectionId>) -> Vec<u8> {
    use quinn_proto::{ClientConfig, Endpoint, EndpointConfig};
    let tls = quiclane::ClientTls::new(
        Provider::AwsLcRs,
        quiclane::Trust::Insecure,
        vec![alpn.as_bytes().to_vec()],
        quiclane::Resume::Off,
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &n.to_le_bytes());
    let mut endpoint =
        Endpoint::new(Arc::new(EndpointConfig::new(Arc::new(key))), None, true, None);
    let mut config = ClientConfig::new(tls.unwrap().quic());
    if let Some(target) = target {
        config.initial_dst_cid_provider(Arc::new(move || target));
    }
    let now = quiclane::clock::now();
    let address = "127.0.0.1:1".parse().unwrap();
    let (_, mut connection) = endpoint.connect(now, config, address, "localhost").unwrap();
    let mut packet = Vec::new();
    let transmit = connection.poll_transmit(now, 1, &mut packet).unwrap();
    packet.truncate(transmit.size);
    packet
}
