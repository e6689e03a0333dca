//! client is the h3 crate over quinn, with what its users write around it.

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use h3::error::{ConnectionError, StreamError};
use http::{HeaderMap, Request, StatusCode};
use quinn::Endpoint;
use tokio::task::JoinHandle;

use crate::common::{Served, connect_with};

type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// A connection of the h3 crate.
pub(crate) struct Client {
    pub(crate) send: SendRequest<h3_quinn::OpenStreams, Bytes>,
    _driver: JoinHandle<ConnectionError>,
    _endpoint: Endpoint,
}

/// A response with all that came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) content: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Client {
    pub(crate) async fn connect(server: &Served) -> Self {
        let (endpoint, quic) = connect_with(server, &["h3"]).await.unwrap();
        let (mut driver, send) =
            h3::client::new(h3_quinn::Connection::new(quic.clone())).await.unwrap();
        let _driver = tokio::spawn(async move {
            std::future::poll_fn(|context| driver.poll_close(context)).await
        });
        Self { send, _driver, _endpoint: endpoint }
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
        if let Some(content) = content {
            let (mut send, mut recv) = stream.split();
            let half = content.len() / 2;
            let write = async {
                send.send_data(content.slice(..half)).await?;
                send.send_data(content.slice(half..)).await?;
                send.finish().await
            };
            let (written, answer) = tokio::join!(write, async {
                let response = recv.recv_response().await?;
                let mut content = Vec::new();
                while let Some(mut piece) = recv.recv_data().await? {
                    content.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
                }
                let (head, ()) = response.into_parts();
                Ok(Answer { status: head.status, headers: head.headers, content })
            });
            // A server may answer before it has read everything.
            if answer.is_err() {
                written?;
            }
            return answer;
        }
        stream.finish().await?;
        Self::answer(&mut stream).await
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

    pub(crate) async fn answer(stream: &mut Stream) -> Result<Answer, StreamError> {
        let (head, ()) = stream.recv_response().await?.into_parts();
        let mut content = Vec::new();
        while let Some(mut piece) = stream.recv_data().await? {
            content.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
        }
        Ok(Answer { status: head.status, headers: head.headers, content })
    }
}
