//! raw is a client that writes what no client would: streams by hand, over quinn.

use std::sync::Arc;
use std::time::Duration;

use quiclane::apps::http3::Prepared;
use quinn::{
    Connection, ConnectionError, Endpoint, ReadError, ReadToEndError, TransportConfig, VarInt,
};

use crate::common::{Served, client_config, connect_with, local};

/// A connection with a control stream of its own, unless it is to have none.
pub(crate) struct Raw {
    pub(crate) quic: Connection,
    pub(crate) control: Option<quinn::SendStream>,
    _endpoint: Endpoint,
}

impl Raw {
    pub(crate) async fn connect(server: &Served) -> Self {
        let mut raw = Self::silent(server).await;
        let mut control = raw.quic.open_uni().await.unwrap();
        // The type of the stream, and empty SETTINGS.
        control.write_all(&[0x00, 0x04, 0x00]).await.unwrap();
        raw.control = Some(control);
        raw
    }

    /// One that gives each stream credit for so many bytes, and more only as they are read.
    pub(crate) async fn taking(server: &Served, stream_bytes: u32) -> Self {
        let mut config = client_config(&server.certificate, &["h3"], false);
        let mut transport = TransportConfig::default();
        transport.stream_receive_window(VarInt::from_u32(stream_bytes));
        config.transport_config(Arc::new(transport));
        let endpoint = Endpoint::client(local(server.address())).unwrap();
        let quic = endpoint.connect_with(config, server.address(), "localhost").unwrap();
        Self { quic: quic.await.unwrap(), control: None, _endpoint: endpoint }
    }

    /// One that has not said anything.
    pub(crate) async fn silent(server: &Served) -> Self {
        let (endpoint, quic) = connect_with(server, &["h3"]).await.unwrap();
        Self { quic, control: None, _endpoint: endpoint }
    }

    /// Writes `bytes` to a new request stream and ends it; what comes back, or the code that it
    /// was reset with.
    pub(crate) async fn exchange(&self, bytes: &[u8]) -> Result<Vec<u8>, u64> {
        let (mut send, mut recv) = self.quic.open_bi().await.unwrap();
        // The server may have stopped it by then.
        if send.write_all(bytes).await.is_ok() {
            let _ = send.finish();
        }
        match recv.read_to_end(1 << 20).await {
            Ok(bytes) => Ok(bytes),
            Err(ReadToEndError::Read(ReadError::Reset(code))) => Err(code.into_inner()),
            Err(error) => panic!("{error}"),
        }
    }

    /// The code that the server closes the connection with.
    pub(crate) async fn closed(&self) -> u64 {
        let closed = tokio::time::timeout(Duration::from_secs(30), self.quic.closed()).await;
        match closed.unwrap() {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("{other}"),
        }
    }

    /// That it still answers.
    pub(crate) async fn works(&self) {
        let answer = self.exchange(get("/bytes/5").frame()).await.unwrap();
        assert!(answer.ends_with(b"\x00\x05\0\0\0\0\0"), "{answer:?}");
    }
}

pub(crate) fn get(path: &str) -> Prepared {
    request("GET", path)
}

pub(crate) fn request(method: &str, path: &str) -> Prepared {
    Prepared::request(method, "https", "localhost", path).unwrap()
}

pub(crate) const EXCESSIVE_LOAD: u64 = 0x107;
pub(crate) const REQUEST_CANCELLED: VarInt = VarInt::from_u32(0x10c);
