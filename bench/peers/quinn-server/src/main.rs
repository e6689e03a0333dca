//! The smallest honest server on stock quinn: ALPN `perf`, one task per connection and stream.
//!
//! In: bidirectional streams, each eight bytes of big-endian answer length and any payload.
//! Out: that many bytes on the same stream, once the payload has ended.
//!
//! Invariant: nothing here is tuned beyond what the common settings of the comparison demand
//! (windows, stream count, socket buffers, idle time). The stream handling is that of quinn's own
//! perf server. 0-RTT is off; TLS tickets, congestion control, pacing and MTU discovery are as
//! quinn ships them.

mod config;
mod perf;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Parser;
use quinn::{Endpoint, TokioRuntime};
use tokio::runtime::{Builder, Runtime};

use crate::config::Provider;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Serves the perf protocol on stock quinn.
#[derive(Debug, Parser)]
struct Args {
    /// Address to listen on; port 0 lets the kernel choose.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Certificate chain, PEM.
    #[arg(long)]
    cert: PathBuf,
    /// Private key, PEM.
    #[arg(long)]
    key: PathBuf,
    /// Threads of the tokio runtime; 1 is the current-thread runtime.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Cryptography for TLS and packets.
    #[arg(long, value_enum, default_value_t = Provider::AwsLcRs)]
    provider: Provider,
    /// Key of stateless resets, which then survive a restart; random like quinn's own default
    /// without it.
    #[arg(long)]
    reset_key: Option<String>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    runtime(args.threads)?.block_on(serve(args))
}

fn runtime(threads: usize) -> Result<Runtime> {
    let mut builder = match threads {
        0 | 1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build().context("cannot start the tokio runtime")
}

async fn serve(args: Args) -> Result<()> {
    let Args { listen, cert, key, threads, provider, reset_key } = args;
    let endpoint = Endpoint::new(
        config::endpoint(reset_key.as_deref()),
        Some(config::server(provider, &cert, &key)?),
        config::socket(listen)?,
        Arc::new(TokioRuntime),
    )
    .with_context(|| format!("cannot serve on {listen}"))?;
    announce(endpoint.local_addr()?, threads, provider);
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(perf::connection(incoming));
    }
    Ok(())
}

/// The ready line: the address first, then what a reader of the table has to know.
#[expect(clippy::print_stdout, reason = "the ready line is this program's interface")]
fn announce(listen: SocketAddr, threads: usize, provider: Provider) {
    let malloc = if cfg!(feature = "mimalloc") { "mimalloc" } else { "system" };
    println!(
        "ready listen={listen} threads={threads} provider={} malloc={malloc}",
        provider.name()
    );
}
