//! HTTP/3, client side, by h3 and h3-quinn.

use std::future;

use anyhow::{Result, ensure};
use bytes::{Buf, Bytes};
use h3::client::SendRequest;
use h3_quinn::OpenStreams;
use http::Request;
use quinn::Connection;
use tokio::task::JoinSet;

use crate::Left;

/// A task for each request in flight on `connection`; each returns how many were answered.
pub(crate) async fn spawn(
    workers: &mut JoinSet<Result<u64>>,
    connection: Connection,
    streams: u32,
    left: &Left,
) -> Result<()> {
    let (mut driver, sender) = h3::client::new(h3_quinn::Connection::new(connection)).await?;
    tokio::spawn(async move { future::poll_fn(|cx| driver.poll_close(cx)).await });
    for _ in 0..streams {
        let (mut sender, left) = (sender.clone(), left.clone());
        workers.spawn(async move {
            let mut answered = 0;
            while left.take() {
                request(&mut sender).await?;
                answered += 1;
            }
            Ok(answered)
        });
    }
    Ok(())
}

async fn request(sender: &mut SendRequest<OpenStreams, Bytes>) -> Result<()> {
    let get = Request::get("https://localhost/bytes/1024").body(())?;
    let mut stream = sender.send_request(get).await?;
    stream.finish().await?;
    let response = stream.recv_response().await?;
    ensure!(response.status().is_success(), "a response with {}", response.status());
    let mut got = 0;
    while let Some(mut content) = stream.recv_data().await? {
        got += content.remaining();
        content.advance(content.remaining());
    }
    ensure!(got == 1_024, "content of {got} bytes");
    Ok(())
}
