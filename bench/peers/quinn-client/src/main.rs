//! The smallest honest load generator on stock quinn: a task for each request in flight.
//!
//! ```text
//! perf     eight bytes ask for the answer, which is drained
//! HTTP/3   h3 and h3-quinn: GET, the content is drained
//! ```
//!
//! Closed loop: `--connections` times `--streams` requests in flight until `--requests` were
//! answered in all. One endpoint, so one socket, as quinn's own examples have. It prints how many
//! were answered; any that fails ends it with an error.

mod perf;
mod web;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::runtime::Builder;
use tokio::task::JoinSet;

/// Asks a server on this machine for answers of 1 KiB.
#[derive(Debug, Parser)]
struct Args {
    /// The server.
    server: SocketAddr,
    /// What to speak.
    #[arg(long, value_enum)]
    protocol: Protocol,
    /// Requests in all.
    #[arg(short = 'n', long, default_value_t = 100_000)]
    requests: u64,
    /// Connections.
    #[arg(short, long, default_value_t = 16)]
    connections: u32,
    /// Requests in flight on each.
    #[arg(short = 'm', long, default_value_t = 8)]
    streams: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Protocol {
    /// draft-banks-quic-performance.
    Perf,
    /// GET `/bytes/1024`.
    Http3,
}

/// How many requests are still to be begun.
#[derive(Clone, Debug)]
struct Left(Arc<AtomicU64>);

impl Left {
    fn take(&self) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    Builder::new_current_thread().enable_all().build()?.block_on(run(&args))
}

#[expect(clippy::print_stdout, reason = "the number is this program's result")]
async fn run(args: &Args) -> Result<()> {
    let mut endpoint = Endpoint::client(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0))?;
    endpoint.set_default_client_config(config(args.protocol)?);
    let left = Left(Arc::new(AtomicU64::new(args.requests)));
    let mut workers = JoinSet::new();
    for _ in 0..args.connections {
        let connection: Connection = endpoint.connect(args.server, "localhost")?.await?;
        match args.protocol {
            Protocol::Perf => perf::spawn(&mut workers, &connection, args.streams, &left),
            Protocol::Http3 => web::spawn(&mut workers, connection, args.streams, &left).await?,
        }
    }
    let mut answered = 0;
    while let Some(worker) = workers.join_next().await {
        answered += worker??;
    }
    ensure!(answered == args.requests, "{answered} of {} requests were answered", args.requests);
    println!("{answered}");
    Ok(())
}

fn config(protocol: Protocol) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trust = Arc::new(Anybody(provider.signature_verification_algorithms));
    let mut tls = rustls::ClientConfig::builder_with_provider(provider as Arc<CryptoProvider>)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(trust)
        .with_no_client_auth();
    tls.alpn_protocols = vec![match protocol {
        Protocol::Perf => b"perf".to_vec(),
        Protocol::Http3 => b"h3".to_vec(),
    }];
    let crypto = QuicClientConfig::try_from(tls).context("no cipher for Initial packets")?;
    Ok(ClientConfig::new(Arc::new(crypto)))
}

/// Trusts every certificate, as the other generators are told to.
#[derive(Debug)]
struct Anybody(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
