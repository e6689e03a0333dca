//! The common settings of the comparison, in quinn's words.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Cryptography for TLS and packets.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Provider {
    /// What our own server uses by default; the faster one for AES-GCM and X25519.
    AwsLcRs,
    /// What quinn uses by default.
    Ring,
}

impl Provider {
    /// The name on the command line and in the ready line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AwsLcRs => "aws-lc-rs",
            Self::Ring => "ring",
        }
    }

    fn provider(self) -> CryptoProvider {
        match self {
            Self::AwsLcRs => rustls::crypto::aws_lc_rs::default_provider(),
            Self::Ring => rustls::crypto::ring::default_provider(),
        }
    }
}

/// TLS 1.3 with the given certificate, ALPN `perf`, no 0-RTT, and the common transport settings.
pub(crate) fn server(provider: Provider, cert: &Path, key: &Path) -> Result<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read certificates from {}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read a private key from {}", key.display()))?;
    let mut tls = rustls::ServerConfig::builder_with_provider(Arc::new(provider.provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("certificate and key do not fit together")?;
    tls.alpn_protocols = vec![b"perf".to_vec()];
    tls.max_early_data_size = 0;
    let crypto = QuicServerConfig::try_from(tls).context("no cipher for Initial packets")?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport()));
    Ok(config)
}

/// quinn's own settings, or the same with a reset key that a later process can have again. Its
/// connection IDs are checked by a key of their own, which has to persist for the same reason.
pub(crate) fn endpoint(reset_key: Option<&str>) -> EndpointConfig {
    let Some(key) = reset_key else { return EndpointConfig::default() };
    let mac = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    let mut config = EndpointConfig::new(Arc::new(mac));
    let seed = key.bytes().fold(0_u64, |sum, byte| sum.rotate_left(5) ^ u64::from(byte));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(seed)));
    config
}

/// A socket with the common buffers, or an error that says what the host has to allow.
pub(crate) fn socket(listen: SocketAddr) -> Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
    socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
    // Linux reports twice what was granted: it counts its own bookkeeping in.
    let got = socket.recv_buffer_size()?.min(socket.send_buffer_size()?) / 2;
    ensure!(
        got >= SOCKET_BUFFER_BYTES,
        "the host allows socket buffers of {got} bytes only; try \
         sysctl -w net.core.rmem_max={SOCKET_BUFFER_BYTES} net.core.wmem_max={SOCKET_BUFFER_BYTES}"
    );
    socket.bind(&SockAddr::from(listen)).with_context(|| format!("cannot bind {listen}"))?;
    Ok(socket.into())
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .max_concurrent_bidi_streams(VarInt::from_u32(BIDI_STREAMS_MAX))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))));
    transport
}

/// Flow control must not be what is measured: 20 Gbit/s at 0.2 ms are 500 KB, so 16 MiB never
/// blocks a sender on loopback. Larger only lets queues grow out of the caches.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;

/// Four streams at full window; one connection carries the bulk runs.
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;

/// quinn's default, spelt out because it is a cost: quinn-proto allocates the table per connection
/// up front, and 1000 instead of 100 add about 20 us to each handshake. The client needs 64.
const BIDI_STREAMS_MAX: u32 = 100;

/// Longer than any run, so that no timer of a quiet connection fires within one.
const IDLE_TIMEOUT_MS: u32 = 120_000;

/// Both directions. Less loses packets in bursts; most distributions allow less by default.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
