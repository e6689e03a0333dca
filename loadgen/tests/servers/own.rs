//! own is our own server on loopback, with two workers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quiclane::apps::Protocols;
use quiclane::metrics::WorkerSnapshot;
use quiclane::{
    App, ClientTls, Config, Engine, Limits, Provider, Resume, Retry, ServerConfig, ServerTls,
    Target, Trust,
};
use rustls::RootCertStore;
use rustls::pki_types::PrivatePkcs8KeyDer;

/// A server; stops when dropped.
pub(crate) struct Server {
    engine: Option<Engine>,
    tls: ClientTls,
}

impl Server {
    /// A server of `alpn`, which `make` makes for each worker.
    pub(crate) fn new(
        alpn: &'static [u8],
        limits: Limits,
        retry: Retry,
        make: impl Fn() -> Box<dyn App> + Send + Sync + 'static,
    ) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let names = || vec![alpn.to_vec()];
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let trust = Trust::Roots(Arc::new(roots));
        let tls = ClientTls::new(Provider::default(), trust, names(), Resume::Off).unwrap();
        let chain = vec![certificate];
        let served = ServerTls::new(Provider::default(), chain, key.into(), names(), false);
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = ServerConfig { retry, ..ServerConfig::new(listen, served.unwrap()) };
        let config = Config { server: Some(server), workers: 2, limits, ..Config::default() };
        let make = move |_| Protocols::new(vec![(alpn.to_vec(), make())]);
        Self { engine: Some(Engine::start(config, make).unwrap()), tls }
    }

    pub(crate) fn target(&self) -> Target {
        let address = self.engine.as_ref().unwrap().listen()[0];
        Target { address, server_name: "localhost".into(), tls: self.tls.clone(), local: None }
    }

    /// What all workers have counted.
    pub(crate) fn sum(&self, field: impl Fn(&WorkerSnapshot) -> u64) -> u64 {
        self.engine.as_ref().unwrap().metrics().snapshots().iter().map(field).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let engine = self.engine.take().unwrap();
        engine.stop(Duration::ZERO);
        engine.join().unwrap();
    }
}
