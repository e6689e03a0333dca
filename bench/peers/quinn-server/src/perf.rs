//! ALPN `perf`, server side: drain the request to its end, then answer as many bytes as it asked.

use anyhow::{Context, Result};
use bytes::Bytes;
use quinn::{Incoming, ReadExactError, RecvStream, SendStream};

/// Serves one connection until the peer closes it. A stream that fails is dropped, which resets it:
/// the client sees and reports that, and at the end of a run it breaks off hundreds itself.
pub(crate) async fn connection(incoming: Incoming) {
    let Ok(connection) = incoming.await else {
        return;
    };
    while let Ok((send, recv)) = connection.accept_bi().await {
        tokio::spawn(async move {
            let _ = stream(send, recv).await;
        });
    }
}

async fn stream(mut send: SendStream, mut recv: RecvStream) -> Result<()> {
    let mut header = [0; 8];
    match recv.read_exact(&mut header).await {
        Ok(()) => {}
        // The draft asks to ignore a request without a whole header and to close gracefully.
        Err(ReadExactError::FinishedEarly(_)) => return Ok(send.finish()?),
        Err(error) => return Err(error).context("reading the header"),
    }
    drain(&mut recv).await.context("reading the payload")?;
    answer(&mut send, u64::from_be_bytes(header)).await.context("answering")
}

async fn drain(recv: &mut RecvStream) -> Result<()> {
    let mut chunks: [Bytes; READ_CHUNKS] = Default::default();
    while recv.read_chunks(&mut chunks).await?.is_some() {}
    Ok(())
}

async fn answer(send: &mut SendStream, mut missing: u64) -> Result<()> {
    while missing > 0 {
        let step = usize::try_from(missing).unwrap_or(usize::MAX).min(PAYLOAD.len());
        send.write_chunk(Bytes::from_static(&PAYLOAD[..step])).await?;
        missing -= step as u64;
    }
    send.finish()?;
    Ok(())
}

/// As in quinn's own perf server.
const READ_CHUNKS: usize = 32;

/// As in quinn's own perf server: answers are written from static memory, 1 MiB at a time.
static PAYLOAD: [u8; 1 << 20] = [42; 1 << 20];
