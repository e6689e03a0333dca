//! server is a stock quinn server that offers `h3` and hands its connections to a test, and the
//! certificate that servers here have.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::{fs, thread};

use quiclane::{ClientTls, Provider, Resume, Target, Trust};
use quiclane_loadgen::H3_ALPN;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// A certificate for localhost, signed by itself, with its key.
pub(crate) struct Certificate(rcgen::CertifiedKey<rcgen::KeyPair>);

impl Certificate {
    pub(crate) fn generate() -> Self {
        Self(rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap())
    }

    /// Writes both to `folder`, as PEM; returns the names of the files.
    pub(crate) fn save(&self, folder: &Path) -> (PathBuf, PathBuf) {
        let (chain, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        fs::write(&chain, self.0.cert.pem()).unwrap();
        fs::write(&key, self.0.signing_key.serialize_pem()).unwrap();
        (chain, key)
    }

    /// A server at `address` that has it.
    pub(crate) fn target(&self, address: SocketAddr, resume: Resume) -> Target {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.cert.der().clone()).unwrap();
        let (trust, alpn) = (Trust::Roots(Arc::new(roots)), vec![H3_ALPN.to_vec()]);
        let tls = ClientTls::new(Provider::default(), trust, alpn, resume).unwrap();
        Target { address, server_name: "localhost".into(), tls, local: None }
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.0.cert.der().clone()]
    }
}

/// Stops when dropped.
pub(crate) struct Server {
    address: SocketAddr,
    certificate: Certificate,
    endpoint: Endpoint,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Serves each connection with `serve`. It takes 0-RTT data.
    pub(crate) fn start<S, F>(serve: S) -> Self
    where
        S: Fn(Connection) -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let certificate = Certificate::generate();
        let key = PrivatePkcs8KeyDer::from(certificate.0.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(certificate.chain(), key.into())
            .unwrap();
        tls.alpn_protocols = vec![H3_ALPN.to_vec()];
        tls.max_early_data_size = u32::MAX;
        let tls = QuicServerConfig::try_from(tls).unwrap();
        let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        let (ready, started) = mpsc::channel();
        let thread = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let endpoint = Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
                ready.send((endpoint.local_addr().unwrap(), endpoint.clone())).unwrap();
                while let Some(incoming) = endpoint.accept().await {
                    let Ok(connecting) = incoming.accept() else { continue };
                    let connection = match connecting.into_0rtt() {
                        Ok((connection, _)) => connection,
                        Err(connecting) => match connecting.await {
                            Ok(connection) => connection,
                            Err(_) => continue,
                        },
                    };
                    tokio::spawn(serve(connection));
                }
            });
        });
        let (address, endpoint) = started.recv().unwrap();
        Self { address, certificate, endpoint, thread: Some(thread) }
    }

    pub(crate) fn target(&self, resume: Resume) -> Target {
        self.certificate.target(self.address, resume)
    }

    /// A connection of a quinn client, for what the load generator does not send.
    pub(crate) async fn connect(&self) -> (Endpoint, Connection) {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.0.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![H3_ALPN.to_vec()];
        let tls = QuicClientConfig::try_from(tls).unwrap();
        let config = quinn::ClientConfig::new(Arc::new(tls));
        let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
        let connection = endpoint.connect_with(config, self.address, "localhost").unwrap();
        (endpoint, connection.await.unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.endpoint.close(0u32.into(), b"");
        drop(self.thread.take().map(thread::JoinHandle::join));
    }
}
