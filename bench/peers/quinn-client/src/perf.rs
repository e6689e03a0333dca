//! ALPN `perf`, client side.

use anyhow::{Result, ensure};
use bytes::Bytes;
use quinn::Connection;
use tokio::task::JoinSet;

use crate::Left;

/// A task for each request in flight on `connection`; each returns how many were answered.
pub(crate) fn spawn(
    workers: &mut JoinSet<Result<u64>>,
    connection: &Connection,
    streams: u32,
    left: &Left,
) {
    for _ in 0..streams {
        let (connection, left) = (connection.clone(), left.clone());
        workers.spawn(async move {
            let mut answered = 0;
            while left.take() {
                request(&connection).await?;
                answered += 1;
            }
            Ok(answered)
        });
    }
}

async fn request(connection: &Connection) -> Result<()> {
    let (mut send, mut recv) = connection.open_bi().await?;
    send.write_all(&ANSWER_BYTES.to_be_bytes()).await?;
    send.finish()?;
    let mut chunks: [Bytes; 4] = Default::default();
    let mut got = 0;
    while let Some(read) = recv.read_chunks(&mut chunks).await? {
        got += chunks[..read].iter().map(|chunk| chunk.len() as u64).sum::<u64>();
    }
    ensure!(got == ANSWER_BYTES, "an answer of {got} bytes");
    Ok(())
}

const ANSWER_BYTES: u64 = 1_024;
