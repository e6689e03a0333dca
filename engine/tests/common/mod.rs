//! What several integration tests share: a server with a certificate, and its counters.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quiclane::apps::{Perf, PerfOptions};
use quiclane::metrics::WorkerSnapshot;
use quiclane::{Config, Engine, Provider, ServerConfig, ServerTls};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

/// A self-signed certificate for localhost.
pub struct Certificate {
    der: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Certificate {
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self { der: made.cert.der().clone(), key: made.signing_key.serialize_der() }
    }

    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        Arc::new(roots)
    }

    pub fn server(&self, alpn: &[&str], early_data: bool) -> ServerTls {
        let alpn = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let key = self.key.clone().try_into().unwrap();
        ServerTls::new(Provider::AwsLcRs, vec![self.der.clone()], key, alpn, early_data).unwrap()
    }
}

/// A running server.
pub struct Served {
    pub certificate: Certificate,
    engine: Engine,
}

/// A perf server on `listen`, with the configuration changed by `change`.
pub fn perf_server(listen: &str, workers: usize, change: impl FnOnce(&mut Config)) -> Served {
    server(listen, workers, false, change)
}

pub fn server(
    listen: &str,
    workers: usize,
    early_data: bool,
    change: impl FnOnce(&mut Config),
) -> Served {
    let certificate = Certificate::new();
    let tls = certificate.server(&["perf"], early_data);
    let server = ServerConfig::new(listen.parse().unwrap(), tls);
    let mut config = Config { server: Some(server), workers, ..Config::default() };
    change(&mut config);
    let engine = Engine::start(config, |_| Perf::new(PerfOptions::default())).unwrap();
    Served { certificate, engine }
}

impl Served {
    pub fn address(&self) -> SocketAddr {
        self.engine.listen()[0]
    }

    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    pub fn snapshots(&self) -> Vec<WorkerSnapshot> {
        self.engine.metrics().snapshots()
    }

    pub fn stop(&self) {
        self.engine.stop(Duration::ZERO);
    }

    /// Stops it and returns the final counters.
    pub fn finish(self) -> Vec<WorkerSnapshot> {
        self.engine.stop(Duration::ZERO);
        let metrics = self.engine.metrics();
        self.engine.join().unwrap();
        metrics.snapshots()
    }
}

/// The law of every count, on each worker and for tosses between them.
pub fn law_holds(snapshots: &[WorkerSnapshot]) {
    for snapshot in snapshots {
        let (arrived, routed) = snapshot.law();
        assert_eq!(arrived, routed, "{snapshot:?}");
    }
    let tossed = total(snapshots, |s| s.sibling) - total(snapshots, |s| s.toss_dropped);
    // A worker that stopped first leaves what reached its mailbox afterwards.
    assert!(total(snapshots, |s| s.tossed_in) <= tossed, "{snapshots:?}");
}

pub fn total(snapshots: &[WorkerSnapshot], field: impl Fn(&WorkerSnapshot) -> u64) -> u64 {
    snapshots.iter().map(field).sum()
}

/// A well-formed first Initial packet of a client that will not go on: number `n` of many.
pub fn initial(n: u64) -> Vec<u8> {
    use quinn_proto::{ClientConfig, Endpoint, EndpointConfig};
    let tls = quiclane::ClientTls::new(
        Provider::AwsLcRs,
        quiclane::Trust::Insecure,
        vec![b"perf".to_vec()],
        false,
        false,
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &n.to_le_bytes());
    let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::new(Arc::new(key))), None, true, None);
    let config = ClientConfig::new(tls.unwrap().quic());
    let now = quiclane::clock::now();
    let address = "127.0.0.1:1".parse().unwrap();
    let (_, mut connection) = endpoint.connect(now, config, address, "localhost").unwrap();
    let mut packet = Vec::new();
    let transmit = connection.poll_transmit(now, 1, &mut packet).unwrap();
    packet.truncate(transmit.size);
    packet
}
