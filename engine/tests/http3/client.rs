//! client is the h3 crate over quinn, with what its users write around it.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use h3::error::{Code, ConnectionError, StreamError};
use h3::quic::RecvStream;
use http::{HeaderMap, Request, StatusCode};
use quinn::Endpoint;
use tokio::task::JoinHandle;

use crate::common::{Served, connect_at};

pub(crate) type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// A connection of the h3 crate.
pub(crate) struct Client {
    pub(crate) send: SendRequest<h3_quinn::OpenStreams, Bytes>,
    driver: JoinHandle<ConnectionError>,
    _endpoint: Endpoint,
}

/// A response with all that came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.content).unwrap()
    }
}

impl Client {
    pub(crate) async fn connect(server: &Served) -> Self {
        Self::connect_at(server, server.address()).await
    }

    pub(crate) async fn connect_at(server: &Served, address: SocketAddr) -> Self {
        println!("client: {}", versions());
        let (endpoint, quic) = connect_at(server, address, &["h3"]).await.unwrap();
        let quic = h3_quinn::Connection::new(quic);
        let (mut driver, send) = h3::client::new(quic).await.unwrap();
        let driver = tokio::spawn(async move {
            std::future::poll_fn(|context| driver.poll_close(context)).await
        });
        Self { send, driver, _endpoint: endpoint }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], None).await.unwrap()
    }

    /// Asks, with `content` in two pieces if there is any.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        content: Option<Bytes>,
    ) -> Result<Answer, StreamError> {
        let mut stream = self.begin(method, path, fields).await?;
        let Some(content) = content else {
            stream.finish().await?;
            return answer(&mut stream).await;
        };
        let (mut send, mut recv) = stream.split();
        let write = async {
            let half = content.len() / 2;
            send.send_data(content.slice(..half)).await?;
            send.send_data(content.slice(half..)).await?;
            send.finish().await
        };
        // A server may answer, and stop the rest, before it has read everything.
        let (_, answer) = tokio::join!(write, answer(&mut recv));
        answer
    }

    pub(crate) async fn begin(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> Result<Stream, StreamError> {
        let uri = format!("https://localhost{path}");
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        self.send.clone().send_request(request.body(()).unwrap()).await
    }

    /// Why the connection ended.
    pub(crate) async fn closed(self) -> ConnectionError {
        let closed = tokio::time::timeout(Duration::from_secs(30), self.driver).await;
        drop(self.send);
        closed.unwrap().unwrap()
    }
}

/// Of the crates that it is made of: they do not say it themselves.
pub(crate) fn versions() -> String {
    let lock = include_str!("../../../Cargo.lock");
    let versions = ["h3", "h3-quinn", "quinn"].map(|name| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).unwrap();
        format!("{name} {}", rest.split('"').next().unwrap())
    });
    versions.join(", ")
}

/// The response on a stream.
pub(crate) async fn answer<S: RecvStream>(
    stream: &mut RequestStream<S, Bytes>,
) -> Result<Answer, StreamError> {
    let (head, ()) = stream.recv_response().await?.into_parts();
    let mut content = Vec::new();
    while let Some(mut piece) = stream.recv_data().await? {
        content.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
    }
    let trailers = stream.recv_trailers().await?;
    Ok(Answer { status: head.status, headers: head.headers, content, trailers })
}

/// The code that the server reset a stream with.
pub(crate) fn reset_code(error: &StreamError) -> Code {
    match error {
        StreamError::RemoteTerminate { code, .. } => *code,
        other => panic!("{other:?}"),
    }
}
