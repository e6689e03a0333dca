//! Clients behind a NAT that gives them a new address and port in mid-transfer: neither side is
//! told, so nobody probes a path or changes a connection ID before it happens.
//!
//! ```text
//!   quinn ── loopback ── relay ── 198.51.100.n:any ── veth ── server
//!                          '- after every few datagrams another n and another port
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use quiclane::{Io, Steering};
use quinn::{Connection, Endpoint};

use crate::common::{Served, exchange, law_holds, perf_server, quinn_client_on, runtime, total};
use crate::harness::{
    CLIENT_ADDRESSES, Link, PORT, SERVER_V4, SERVER_V6, client_address, counted, inside,
};

#[test]
fn rebinding_xdp() {
    rebinding("nat::rebinding_xdp", Steering::Xdp);
}

#[test]
fn rebinding_xdp_generic() {
    rebinding("nat::rebinding_xdp_generic", Steering::XdpGeneric);
}

#[test]
fn rebinding_reuseport() {
    rebinding("nat::rebinding_reuseport", Steering::Reuseport);
}

#[test]
fn rebinding_cbpf() {
    rebinding("nat::rebinding_cbpf", Steering::Cbpf);
}

#[test]
fn rebinding_hash() {
    rebinding("nat::rebinding_hash", Steering::Hash);
}

/// Both backends over IPv4, and IPv6 where the programs look at its headers.
fn rebinding(test: &str, steering: Steering) {
    inside(test, || {
        let link = Link::with_clients();
        for io in [Io::Epoll, Io::Uring] {
            survive(&link, steering, io, SERVER_V4.into());
        }
        if matches!(steering, Steering::Xdp | Steering::XdpGeneric) {
            survive(&link, steering, Io::Auto, SERVER_V6.into());
        }
    });
}

/// Moves 8 connections of 4 workers in mid-transfer.
fn survive(link: &Link, steering: Steering, io: Io, ip: IpAddr) {
    let address = SocketAddr::new(ip, PORT);
    let server = perf_server(&address.to_string(), 4, |config| {
        config.io = io;
        let server = config.server.as_mut().unwrap();
        server.steering = steering;
        server.xdp.interfaces = vec!["veth0".to_owned()];
    });
    runtime().block_on(async {
        let mut clients = Vec::new();
        for number in 0..CONNECTIONS {
            clients.push(Client::connect(link, &server, number).await);
        }
        // First flights are tossed on the lower rungs.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let tossed_at_first = total(&server.snapshots(), |s| s.sibling);
        let transfers = clients.iter().map(|client| {
            let (connection, nat) = (client.connection.clone(), Arc::clone(&client.nat));
            nat.moves.store(true, Ordering::Relaxed);
            tokio::spawn(async move {
                while nat.moved.load(Ordering::Relaxed) < MOVES {
                    exchange(&connection, 300_000, 600_000).await.unwrap();
                }
                exchange(&connection, 1_000, 1_000).await.unwrap();
            })
        });
        for transfer in transfers.collect::<Vec<_>>() {
            transfer.await.unwrap();
        }
        for client in &clients {
            assert_eq!(client.nat.moved.load(Ordering::Relaxed), MOVES);
            assert_eq!(client.connection.close_reason(), None, "a live connection was lost");
        }
        let snapshots = server.snapshots();
        assert_eq!(total(&snapshots, |s| s.connected), CONNECTIONS.into(), "nobody reconnected");
        assert_eq!(total(&snapshots, |s| s.closed), 0);
        let tossed = total(&snapshots, |s| s.sibling) - tossed_at_first;
        match steering {
            Steering::Hash => assert!(tossed > 0, "short headers of moved clients are tossed"),
            Steering::Cbpf => assert_eq!(tossed, 0, "the program steers short headers"),
            _ => assert_eq!(tossed + tossed_at_first, 0, "the programs steer everything"),
        }
        if matches!(steering, Steering::Xdp | Steering::XdpGeneric) {
            let kernel = counted(&server);
            let transfers = u64::from(CONNECTIONS) * MOVES as u64 * EVERY as u64 / 4;
            assert!(kernel["live"] > transfers, "all of it went through XDP: {kernel:?}");
            assert!(kernel["initial"] >= CONNECTIONS.into(), "{kernel:?}");
        }
        println!("{steering:?} {io:?} {ip}: tossed {tossed_at_first} at first, then {tossed}");
    });
    law_holds(&server.finish());
}

/// A quinn client and the NAT in front of it.
struct Client {
    connection: Connection,
    nat: Arc<Nat>,
    _endpoint: Endpoint,
}

impl Client {
    async fn connect(link: &Link, server: &Served, number: u8) -> Self {
        let nat = Arc::new(Nat::default());
        let inner = link.client_socket(Ipv4Addr::LOCALHOST.into());
        let ip = server.address().ip();
        // Every client starts with an address of its own and takes those of others over.
        let outer = (0..=MOVES).map(|moved| {
            let address = client_address(ip, number.wrapping_add(3 * u8::try_from(moved).unwrap()));
            let socket = link.client_socket(address);
            socket.connect(server.address()).unwrap();
            socket
        });
        let gate = inner.local_addr().unwrap();
        tokio::spawn(Arc::clone(&nat).run(inner, outer.collect()));
        let socket = link.client_socket(Ipv4Addr::LOCALHOST.into());
        let endpoint = quinn_client_on(socket, &server.certificate, KEEP_ALIVE);
        let connection = endpoint.connect(gate, "localhost").unwrap().await.unwrap();
        exchange(&connection, 10, 10).await.unwrap();
        Self { connection, nat, _endpoint: endpoint }
    }
}

/// Carries datagrams between a client's inner socket and one outer socket after the other.
#[derive(Default)]
struct Nat {
    /// Whether it may move; later it does.
    moves: AtomicBool,
    /// How often it did.
    moved: AtomicUsize,
}

impl Nat {
    async fn run(self: Arc<Self>, inner: UdpSocket, outer: Vec<UdpSocket>) {
        let adopt = |socket: UdpSocket| {
            socket.set_nonblocking(true).unwrap();
            tokio::net::UdpSocket::from_std(socket).unwrap()
        };
        let inner = adopt(inner);
        // Those it has left stay open and are not read: what comes there vanishes silently.
        let outer: Vec<_> = outer.into_iter().map(adopt).collect();
        let mut client = None;
        let mut carried = 0;
        let (mut up, mut down) = ([0; 2_048], [0; 2_048]);
        loop {
            let moved = self.moved.load(Ordering::Relaxed);
            tokio::select! {
                received = inner.recv_from(&mut up) => {
                    let (len, from) = received.unwrap();
                    client = Some(from);
                    // A full buffer or an error that came back is a lost datagram.
                    let _ = outer[moved].send(&up[..len]).await;
                }
                received = outer[moved].recv(&mut down) => {
                    if let (Ok(len), Some(client)) = (received, client) {
                        let _ = inner.send_to(&down[..len], client).await;
                    }
                }
            }
            carried += usize::from(self.moves.load(Ordering::Relaxed));
            if carried == EVERY && moved < MOVES {
                carried = 0;
                self.moved.store(moved + 1, Ordering::Relaxed);
            }
        }
    }
}

/// A client that only receives has to speak up by itself, or nobody learns where it went. And it
/// has to say something again and again: before 400 bytes have come from an address that nobody
/// has been shown to own, a PATH_CHALLENGE of 1,200 bytes would be more than three times as much.
const KEEP_ALIVE: Duration = Duration::from_millis(20);
const CONNECTIONS: u8 = CLIENT_ADDRESSES;
/// How often each client is moved.
const MOVES: usize = 3;
/// After that many datagrams in both directions: a fraction of one transfer.
const EVERY: usize = 300;
