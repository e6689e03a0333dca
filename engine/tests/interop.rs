//! A stock quinn client against our server.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use common::{Certificate, Served, law_holds, perf_server, total};
use quiclane::{Io, Limits, Retry, Steering, Transport};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, TransportConfig, VarInt};

/// A quinn client that trusts `certificate`, on the address family of `server`.
fn client(certificate: &Certificate, server: SocketAddr, early_data: bool) -> Endpoint {
    let mut endpoint = Endpoint::client(local(server)).unwrap();
    endpoint.set_default_client_config(client_config(certificate, early_data));
    endpoint
}

fn local(server: SocketAddr) -> SocketAddr {
    if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" }.parse().unwrap()
}

fn client_config(certificate: &Certificate, early_data: bool) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(certificate.roots())
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"perf".to_vec()];
    tls.enable_early_data = early_data;
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(20).try_into().unwrap()));
    config.transport_config(Arc::new(transport));
    config
}

/// One perf request: `up` bytes of upload, `down` bytes of download.
async fn exchange(connection: &Connection, up: usize, down: u64) -> Result<(), ConnectionError> {
    let (mut send, mut recv) = connection.open_bi().await?;
    let write = async {
        send.write_all(&down.to_be_bytes()).await?;
        let chunk = vec![0; 64 << 10];
        let mut left = up;
        while left > 0 {
            let n = left.min(chunk.len());
            send.write_all(&chunk[..n]).await?;
            left -= n;
        }
        send.finish().unwrap();
        Ok::<_, quinn::WriteError>(())
    };
    let read = async {
        let mut got = 0;
        while let Some(chunk) = recv.read_chunk(usize::MAX, true).await.unwrap() {
            got += chunk.bytes.len() as u64;
        }
        got
    };
    let (written, got) = tokio::join!(write, read);
    written.unwrap();
    assert_eq!(got, down);
    Ok(())
}

async fn connect(endpoint: &Endpoint, server: &Served) -> Connection {
    endpoint.connect(server.address(), "localhost").unwrap().await.unwrap()
}

fn transfers(io: Io, listen: &str, down: u64, up: usize) {
    let server = perf_server(listen, 2, |config| config.io = io);
    runtime().block_on(async {
        let endpoint = client(&server.certificate, server.address(), false);
        let connection = connect(&endpoint, &server).await;
        for (up, down) in [(1, 1), (0, 1_000_000), (1_000_000, 0), (0, down), (up, 1)] {
            exchange(&connection, up, down).await.unwrap();
        }
        connection.close(VarInt::from_u32(0), b"");
        endpoint.wait_idle().await;
    });
    let snapshots = server.finish();
    law_holds(&snapshots);
    assert_eq!(total(&snapshots, |s| s.connected), 1);
}

#[test]
fn transfers_epoll_v4() {
    transfers(Io::Epoll, "127.0.0.1:0", 1_000_000_000, 100_000_000);
}

#[test]
fn transfers_uring_v4() {
    transfers(Io::Uring, "127.0.0.1:0", 100_000_000, 1_000_000_000);
}

#[test]
fn transfers_epoll_v6() {
    transfers(Io::Epoll, "[::1]:0", 10_000_000, 10_000_000);
}

#[test]
fn transfers_uring_v6() {
    transfers(Io::Uring, "[::1]:0", 10_000_000, 10_000_000);
}

#[test]
fn a_hundred_streams_and_a_hundred_connections() {
    let server = perf_server("127.0.0.1:0", 3, |_| {});
    runtime().block_on(async {
        let endpoint = client(&server.certificate, server.address(), false);
        let connection = connect(&endpoint, &server).await;
        let streams: Vec<_> = (0..100)
            .map(|i| {
                let connection = connection.clone();
                tokio::spawn(async move { exchange(&connection, i * 100, 50_000).await.unwrap() })
            })
            .collect();
        for stream in streams {
            stream.await.unwrap();
        }
        let mut connections = Vec::new();
        for _ in 0..100 {
            connections.push(connect(&endpoint, &server).await);
        }
        for connection in &connections {
            exchange(connection, 1_000, 1_000).await.unwrap();
        }
        endpoint.close(VarInt::from_u32(0), b"");
        endpoint.wait_idle().await;
    });
    let snapshots = server.finish();
    law_holds(&snapshots);
    assert_eq!(total(&snapshots, |s| s.connected), 101);
    assert!(
        snapshots.iter().all(|worker| worker.connected > 10),
        "connections spread over the workers: {:?}",
        snapshots.iter().map(|s| s.connected).collect::<Vec<_>>()
    );
}

#[test]
fn retry_always_proves_the_address() {
    for io in [Io::Epoll, Io::Uring] {
        let server = perf_server("127.0.0.1:0", 3, |config| {
            config.io = io;
            config.server.as_mut().unwrap().retry = Retry::Always;
        });
        runtime().block_on(async {
            for _ in 0..10 {
                let endpoint = client(&server.certificate, server.address(), false);
                let connection = connect(&endpoint, &server).await;
                exchange(&connection, 10, 10).await.unwrap();
                connection.close(VarInt::from_u32(0), b"");
                endpoint.wait_idle().await;
            }
        });
        let snapshots = server.finish();
        law_holds(&snapshots);
        assert_eq!(total(&snapshots, |s| s.retries), 10);
        assert_eq!(total(&snapshots, |s| s.connected), 10);
    }
}

#[test]
fn retry_auto_starts_above_the_threshold() {
    let server = perf_server("127.0.0.1:0", 1, |config| {
        config.limits = Limits { half_open_retry: 4, ..Limits::default() };
    });
    let attack = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..20u64 {
        attack.send_to(&common::initial(n), server.address()).unwrap();
    }
    runtime().block_on(async {
        let endpoint = client(&server.certificate, server.address(), false);
        let connection = connect(&endpoint, &server).await;
        exchange(&connection, 10, 10).await.unwrap();
    });
    let snapshots = server.finish();
    law_holds(&snapshots);
    assert_eq!(total(&snapshots, |s| s.accepted), 4 + 1);
    assert_eq!(total(&snapshots, |s| s.retries), 16 + 1);
}

#[test]
fn the_idle_timeout_is_the_servers() {
    let server = perf_server("127.0.0.1:0", 1, |config| {
        config.transport =
            Transport { idle_timeout: Duration::from_millis(300), ..Transport::default() };
    });
    runtime().block_on(async {
        let endpoint = client(&server.certificate, server.address(), false);
        let connection = connect(&endpoint, &server).await;
        exchange(&connection, 10, 10).await.unwrap();
        let closed = tokio::time::timeout(Duration::from_secs(5), connection.closed()).await;
        assert_eq!(closed.unwrap(), ConnectionError::TimedOut);
        wait_until(|| total(&server.snapshots(), |s| s.open) == 0).await;
    });
    law_holds(&server.finish());
}

#[test]
fn application_closes_reach_the_other_side() {
    let server = perf_server("127.0.0.1:0", 2, |_| {});
    runtime().block_on(async {
        let endpoint = client(&server.certificate, server.address(), false);
        let connection = connect(&endpoint, &server).await;
        exchange(&connection, 10, 10).await.unwrap();
        connection.close(VarInt::from_u32(7), b"enough");
        wait_until(|| total(&server.snapshots(), |s| s.closed) == 1).await;
        let connection = connect(&endpoint, &server).await;
        exchange(&connection, 10, 10).await.unwrap();
        server.stop();
        let closed = tokio::time::timeout(Duration::from_secs(5), connection.closed()).await;
        assert!(matches!(closed.unwrap(), ConnectionError::ApplicationClosed(_)));
    });
    law_holds(&server.finish());
}

#[test]
fn early_data_off_and_on() {
    for offered in [false, true] {
        let server = common::server("127.0.0.1:0", 4, offered, |_| {});
        runtime().block_on(async {
            let endpoint = client(&server.certificate, server.address(), true);
            let first = connect(&endpoint, &server).await;
            exchange(&first, 10, 10).await.unwrap();
            // Tickets follow the handshake.
            tokio::time::sleep(Duration::from_millis(100)).await;
            first.close(VarInt::from_u32(0), b"");
            let connecting = endpoint.connect(server.address(), "localhost").unwrap();
            match connecting.into_0rtt() {
                Ok((connection, accepted)) => {
                    assert!(offered, "no ticket allows early data when the server offers none");
                    exchange(&connection, 100, 100).await.unwrap();
                    assert!(accepted.await, "any worker honours a ticket of another");
                }
                Err(connecting) => {
                    assert!(!offered, "a ticket that allows early data was expected");
                    exchange(&connecting.await.unwrap(), 100, 100).await.unwrap();
                }
            }
        });
        law_holds(&server.finish());
    }
}

/// Moves a client to a new port five times in mid-transfer, with 4 workers.
fn rebinding(steering: Steering, io: Io) {
    let server = perf_server("127.0.0.1:0", 4, |config| {
        config.io = io;
        config.server.as_mut().unwrap().steering = steering;
    });
    runtime().block_on(async {
        let mut clients = Vec::new();
        for _ in 0..8 {
            let endpoint = client(&server.certificate, server.address(), false);
            let connection = connect(&endpoint, &server).await;
            clients.push(tokio::spawn(async move {
                for _ in 0..5 {
                    let moved = async {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
                    };
                    let (done, ()) = tokio::join!(exchange(&connection, 2_000_000, 4_000_000), moved);
                    done.unwrap();
                }
                connection.close(VarInt::from_u32(0), b"");
                endpoint.wait_idle().await;
            }));
        }
        for client in clients {
            client.await.unwrap();
        }
    });
    let snapshots = server.finish();
    law_holds(&snapshots);
    assert_eq!(total(&snapshots, |s| s.connected), 8, "nobody had to connect again");
    if steering == Steering::Hash {
        assert!(total(&snapshots, |s| s.tossed_in) > 0, "{snapshots:?}");
    }
    assert_eq!(total(&snapshots, |s| s.resets_sent), 0);
}

#[test]
fn rebinding_cbpf_epoll() {
    rebinding(Steering::Cbpf, Io::Epoll);
}

#[test]
fn rebinding_cbpf_uring() {
    rebinding(Steering::Cbpf, Io::Uring);
}

#[test]
fn rebinding_hash_epoll() {
    rebinding(Steering::Hash, Io::Epoll);
}

#[test]
fn rebinding_hash_uring() {
    rebinding(Steering::Hash, Io::Uring);
}

async fn wait_until(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not come true within 5 s");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
