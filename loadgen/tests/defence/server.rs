//! server is our own, with limits that are soon reached.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quiclane::apps::http3::{self, Options, Site, SiteOptions};
use quiclane::apps::{Http3, Perf, PerfOptions, Protocols};
use quiclane::metrics::WorkerSnapshot;
use quiclane::{
    App, ClientTls, Config, Engine, Limits, Provider, Resume, Retry, ServerConfig, ServerTls,
    Target, Trust,
};
use quiclane_loadgen::H3_ALPN;
use rustls::RootCertStore;
use rustls::pki_types::PrivatePkcs8KeyDer;

/// A server with two workers on loopback; stops when dropped.
pub(crate) struct Server {
    engine: Option<Engine>,
    tls: ClientTls,
}

impl Server {
    /// A server of HTTP/3 or `perf`.
    pub(crate) fn start(alpn: &'static [u8], limits: Limits, retry: Retry) -> Self {
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
        let engine = Engine::start(config, move |_| {
            let app: Box<dyn App> = match alpn == H3_ALPN {
                true => {
                    let limits = http3::Limits { glitches_max: GLITCHES, ..Default::default() };
                    let options = Options { limits, ..Options::default() };
                    let site = Site::new(None, SiteOptions::default());
                    Box::new(Http3::serving(site, options))
                }
                false => Box::new(Perf::new(PerfOptions::default())),
            };
            Protocols::new(vec![(alpn.to_vec(), app)])
        })
        .unwrap();
        Self { engine: Some(engine), tls }
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

/// Some twenty requests that are given up.
const GLITCHES: u32 = 100;
