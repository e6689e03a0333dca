//! s2n_client is s2n-quic with rustls.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use s2n_quic::Connection;
use s2n_quic::client::Connect;
use s2n_quic::connection::Error;
use s2n_quic::provider::tls::rustls;
use s2n_quic::stream::{self, BidirectionalStream};
use tokio::runtime::Runtime;

use crate::Client;
use crate::server::Certificate;

pub(crate) struct S2n {
    runtime: Runtime,
    _endpoint: s2n_quic::Client,
    connection: Connection,
}

impl Client for S2n {
    fn connect(certificate: &Certificate, server: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (endpoint, connection) = runtime.block_on(async {
            let tls = rustls::Client::builder().with_certificate(&*certificate.path()).unwrap();
            let tls = tls.with_application_protocols(["perf"].iter()).unwrap().build().unwrap();
            let local = SocketAddr::new(server.ip(), 0);
            let endpoint = s2n_quic::Client::builder().with_tls(tls).unwrap();
            let endpoint = endpoint.with_io(local).unwrap().start().unwrap();
            let connect = Connect::new(server).with_server_name("localhost");
            let mut connection = endpoint.connect(connect).await.unwrap();
            let answer = ask(connection.open_bidirectional_stream().await.unwrap()).await;
            assert_eq!(answer.unwrap(), 1_000);
            (endpoint, connection)
        });
        Self { runtime, _endpoint: endpoint, connection }
    }

    fn expect_reset(mut self) {
        let asked = self.runtime.block_on(async {
            let stream = self.connection.open_bidirectional_stream().await.unwrap();
            tokio::time::timeout(PATIENCE, ask(stream)).await
        });
        let error = asked.expect("within its patience").unwrap_err();
        let stream::Error::ConnectionError { error, .. } = error else { panic!("{error:?}") };
        assert!(matches!(error, Error::StatelessReset { .. }), "{error:?}");
    }
}

/// Asks for 1,000 bytes; returns how many came.
async fn ask(mut stream: BidirectionalStream) -> stream::Result<usize> {
    stream.send(Bytes::copy_from_slice(&1_000_u64.to_be_bytes())).await?;
    stream.finish()?;
    let mut length = 0;
    while let Some(chunk) = stream.receive().await? {
        length += chunk.len();
    }
    Ok(length)
}

/// Less than its idle timeout, 30 s.
const PATIENCE: Duration = Duration::from_secs(10);
