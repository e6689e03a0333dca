//! tls turns certificates and choices into rustls configurations.
//!
//! Only TLS 1.3 is offered (RFC 9001). Early data is off unless asked for: that a replayed request
//! is harmless is something only the application can know.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn_proto::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::TlsError;

/// The cryptography behind TLS and packet protection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Provider {
    /// aws-lc-rs: up to a fifth less CPU per handshake and per byte than ring on CPUs with AVX-512,
    /// about level on others.
    #[default]
    AwsLcRs,
    /// ring.
    Ring,
}

impl Provider {
    fn crypto(self) -> Arc<CryptoProvider> {
        let provider = match self {
            Self::AwsLcRs => rustls::crypto::aws_lc_rs::default_provider(),
            Self::Ring => rustls::crypto::ring::default_provider(),
        };
        // aws-lc seeds itself for a tenth of a second at its first use in a process: better now
        // than in the first handshake. A failure would come up again there.
        let _ = provider.secure_random.fill(&mut [0; 8]);
        Arc::new(provider)
    }
}

/// What a server proves its identity with, and what it speaks.
#[derive(Clone)]
pub struct ServerTls {
    crypto: Arc<QuicServerConfig>,
    alpn: Vec<Vec<u8>>,
}

impl ServerTls {
    /// A server with a certificate `chain`, its private `key`, and the application protocols in
    /// order of preference. `SSLKEYLOGFILE` in the environment is honoured.
    ///
    /// # Errors
    /// When the key does not belong to the certificate or is of a kind the provider lacks.
    pub fn new(
        provider: Provider,
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        alpn: Vec<Vec<u8>>,
        early_data: bool,
    ) -> Result<Self, TlsError> {
        if alpn.is_empty() {
            return Err(TlsError::NoAlpn);
        }
        let mut config = rustls::ServerConfig::builder_with_provider(provider.crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Rustls)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(TlsError::Rustls)?;
        config.alpn_protocols.clone_from(&alpn);
        config.key_log = Arc::new(rustls::KeyLogFile::new());
        // Stateful storage is shared by all workers, and rustls refuses early data with stateless
        // tickets: the two go together.
        config.max_early_data_size = if early_data { u32::MAX } else { 0 };
        config.send_tls13_tickets = 2;
        let crypto = QuicServerConfig::try_from(config).map_err(|_| TlsError::NoInitialSuite)?;
        Ok(Self { crypto: Arc::new(crypto), alpn })
    }

    /// The application protocols in order of preference.
    #[must_use]
    pub fn alpn(&self) -> &[Vec<u8>] {
        &self.alpn
    }

    pub(crate) fn crypto(&self) -> Arc<QuicServerConfig> {
        Arc::clone(&self.crypto)
    }
}

// The configuration holds the private key: not shown.
impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("alpn", &self.alpn).finish_non_exhaustive()
    }
}

/// How a client decides whether to trust a server.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Certificates that chain to one of these roots.
    Roots(Arc<RootCertStore>),
    /// Any certificate: for tests and for load on servers of your own.
    Insecure,
    /// The same, and whether the server holds its key is not looked at either, which is most of
    /// what a handshake costs a client: for generators of handshakes.
    Blind,
}

/// What a client does with the session tickets that servers give it (RFC 8446 section 4.6.1).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Resume {
    /// Keeps none: every handshake is a full one.
    #[default]
    Off,
    /// Resumes sessions.
    Ticket,
    /// Resumes sessions and may send 0-RTT data where the server allows it.
    ZeroRtt,
}

/// The client half of TLS, made once and shared by all connections.
#[derive(Clone)]
pub struct ClientTls {
    crypto: Arc<QuicClientConfig>,
}

impl ClientTls {
    /// A client that offers `alpn` and trusts servers by `trust`. Session tickets are kept in
    /// memory, as `resume` says. `SSLKEYLOGFILE` in the environment is honoured.
    ///
    /// # Errors
    /// When the provider has no TLS 1.3 suite for Initial packets.
    pub fn new(
        provider: Provider,
        trust: Trust,
        alpn: Vec<Vec<u8>>,
        resume: Resume,
    ) -> Result<Self, TlsError> {
        let crypto = provider.crypto();
        let algorithms = crypto.signature_verification_algorithms;
        let builder = rustls::ClientConfig::builder_with_provider(crypto)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(TlsError::Rustls)?;
        let mut config = match trust {
            Trust::Roots(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
            Trust::Insecure | Trust::Blind => {
                let blind = matches!(trust, Trust::Blind);
                let any = AnyCertificate { algorithms, blind };
                let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(any));
                builder.with_no_client_auth()
            }
        };
        config.alpn_protocols = alpn;
        config.key_log = Arc::new(rustls::KeyLogFile::new());
        config.enable_early_data = resume == Resume::ZeroRtt;
        if resume == Resume::Off {
            config.resumption = rustls::client::Resumption::disabled();
        }
        let crypto = QuicClientConfig::try_from(config).map_err(|_| TlsError::NoInitialSuite)?;
        Ok(Self { crypto: Arc::new(crypto) })
    }

    /// As quinn-proto wants it, for those who drive it themselves.
    #[must_use]
    pub fn quic(&self) -> Arc<QuicClientConfig> {
        Arc::clone(&self.crypto)
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

/// Where a client connects to.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server's address.
    pub address: SocketAddr,
    /// The name its certificate must carry, also sent as SNI.
    pub server_name: Arc<str>,
    /// The TLS side.
    pub tls: ClientTls,
    /// The local address to send from; `None`: any, with a free port.
    pub local: Option<SocketAddr>,
}

/// Accepts every certificate; unless blind it still checks that the server holds the key it shows.
#[derive(Debug)]
struct AnyCertificate {
    algorithms: WebPkiSupportedAlgorithms,
    blind: bool,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if self.blind {
            return Ok(HandshakeSignatureValid::assertion());
        }
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rustls::server::{ClientHello, ResolvesServerCert};
    use rustls::sign::CertifiedKey;
    use rustls::{ClientConnection, ServerConnection};

    use super::*;

    /// Shows one certificate and signs with the key of another.
    #[derive(Debug)]
    struct Impostor(Arc<CertifiedKey>);

    impl ResolvesServerCert for Impostor {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }

    fn impostor() -> ServerConnection {
        let of = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (shown, used) = (of(), of());
        let key = PrivateKeyDer::try_from(used.signing_key.serialize_der()).unwrap();
        let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
        let impostor = Impostor(Arc::new(CertifiedKey::new(vec![shown.cert.der().clone()], key)));
        let config = rustls::ServerConfig::builder_with_provider(Provider::Ring.crypto())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(impostor));
        ServerConnection::new(Arc::new(config)).unwrap()
    }

    /// Whether a client takes the impostor for what it shows.
    fn is_fooled(blind: bool) -> bool {
        let crypto = Provider::Ring.crypto();
        let algorithms = crypto.signature_verification_algorithms;
        let config = rustls::ClientConfig::builder_with_provider(crypto)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { algorithms, blind }))
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut server = impostor();
        for _ in 0..4 {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut &bytes[..]).unwrap();
            server.process_new_packets().unwrap();
            bytes.clear();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut &bytes[..]).unwrap();
            if client.process_new_packets().is_err() {
                return false;
            }
        }
        !client.is_handshaking()
    }

    #[test]
    fn only_the_blind_do_not_look_whether_a_server_holds_its_key() {
        assert!(is_fooled(true) && !is_fooled(false));
    }
}
