//! A stock quinn client against our server.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use common::{
    Served, exchange, in_namespace, law_holds, perf_server, quinn_client as client, runtime, total,
    wait_until,
};
use quiclane::{Io, Limits, Retry, Steering, Transport};
use quinn::{Connection, ConnectionError, Endpoint, VarInt};

async fn connect(endpoint: &Endpoint, server: &Served) -> Connection {
    endpoint.connect(server.address(), "localhost").unwrap().await.unwrap()
}

/// A byte, a megabyte, and then `down` and `up`.
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

// Each backend carries a gigabyte over each family, and in each direction.

#[test]
fn transfers_epoll_v4() {
    transfers(Io::Epoll, "127.0.0.1:0", 1_000_000_000, 10_000_000);
}

#[test]
fn transfers_uring_v4() {
    transfers(Io::Uring, "127.0.0.1:0", 10_000_000, 1_000_000_000);
}

#[test]
fn transfers_epoll_v6() {
    transfers(Io::Epoll, "[::1]:0", 10_000_000, 1_000_000_000);
}

#[test]
fn transfers_uring_v6() {
    transfers(Io::Uring, "[::1]:0", 1_000_000_000, 10_000_000);
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
        attack.send_to(&common::initial(n, "perf"), server.address()).unwrap();
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
        let server = config.server.as_mut().unwrap();
        server.steering = steering;
        if steering == Steering::XdpGeneric {
            server.xdp.interfaces = vec!["lo".to_owned()];
        }
    });
    runtime().block_on(async {
        let mut clients = Vec::new();
        for _ in 0..8 {
            let endpoint = client(&server.certificate, server.address(), false);
            let connection = connect(&endpoint, &server).await;
            exchange(&connection, 10, 10).await.unwrap();
            clients.push((endpoint, connection));
        }
        // First flights are tossed on every rung, so only what comes after them counts below.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = total(&server.snapshots(), |s| s.tossed_in);
        let transfers = clients.iter().map(|(endpoint, connection)| {
            let (endpoint, connection) = (endpoint.clone(), connection.clone());
            tokio::spawn(async move {
                for _ in 0..5 {
                    let moved = async {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
                    };
                    let (done, ()) =
                        tokio::join!(exchange(&connection, 2_000_000, 4_000_000), moved);
                    done.unwrap();
                }
            })
        });
        for (at, transfer) in transfers.collect::<Vec<_>>().into_iter().enumerate() {
            if steering == Steering::XdpGeneric && at % 2 == 0 {
                // The program goes and comes back in mid-transfer, and nobody minds.
                server.engine().detach_xdp();
                tokio::time::sleep(Duration::from_millis(20)).await;
                server.engine().attach_xdp().unwrap();
            }
            transfer.await.unwrap();
        }
        let snapshots = server.snapshots();
        assert_eq!(total(&snapshots, |s| s.connected), 8, "nobody had to connect again");
        // A packet that is overtaken by the one that retires its connection ID may well be answered
        // with a reset, which the client does not mind (RFC 9000 section 10.3.1).
        for (_, connection) in &clients {
            assert_eq!(connection.close_reason(), None, "a live connection was lost");
        }
        let tossed = total(&snapshots, |s| s.tossed_in) - before;
        match steering {
            Steering::Hash => assert!(tossed > 0, "short headers of moved clients are tossed"),
            Steering::Cbpf => assert_eq!(tossed, 0, "the program steers short headers"),
            _ => assert_eq!(tossed + before, 0, "the programs steer everything"),
        }
        for (endpoint, connection) in clients {
            connection.close(VarInt::from_u32(0), b"");
            endpoint.wait_idle().await;
        }
    });
    law_holds(&server.finish());
}

/// In a network namespace of its own, whose loopback may have programs.
#[test]
fn rebinding_ebpf() {
    if !in_namespace("rebinding_ebpf") {
        return;
    }
    for io in [Io::Epoll, Io::Uring] {
        rebinding(Steering::Reuseport, io);
        rebinding(Steering::XdpGeneric, io);
    }
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
