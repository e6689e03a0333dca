//! relay stands between a client and a server and remembers what it carried.

use std::net::{self, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinn::{Connection, Endpoint};
use tokio::net::UdpSocket;

use super::{
    Certificate, Served, client_config, exchange, perf_server, runtime, total, wait_until,
};
use quiclane::Config;

/// A connection whose packets pass through a relay that remembers the last short header.
pub(crate) struct Watched {
    _endpoint: Endpoint,
    pub(crate) connection: Connection,
    last: Arc<Mutex<Vec<u8>>>,
}

impl Watched {
    pub(crate) async fn connect(certificate: &Certificate, server: SocketAddr) -> Self {
        let back = net::UdpSocket::bind("127.0.0.1:0").unwrap();
        Self::connect_from(back, certificate, server).await
    }

    /// The relay's packets leave from `back`, which may be in another network namespace.
    pub(crate) async fn connect_from(
        back: net::UdpSocket,
        certificate: &Certificate,
        server: SocketAddr,
    ) -> Self {
        let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        back.set_nonblocking(true).unwrap();
        let back = Arc::new(UdpSocket::from_std(back).unwrap());
        back.connect(server).await.unwrap();
        let mut endpoint = Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.set_default_client_config(client_config(certificate, &["perf"], false));
        let client = endpoint.local_addr().unwrap();
        let (through, last) = (front.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (there, here, seen) = (Arc::clone(&back), Arc::clone(&front), Arc::clone(&last));
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            loop {
                let len = here.recv(&mut buffer).await.unwrap();
                if buffer[0] & 0x80 == 0 {
                    *seen.lock().unwrap() = buffer[..len].to_vec();
                }
                // A server that has gone away refuses it.
                let _ = there.send(&buffer[..len]).await;
            }
        });
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            loop {
                let Ok(len) = back.recv(&mut buffer).await else { continue };
                front.send_to(&buffer[..len], client).await.unwrap();
            }
        });
        let connection = endpoint.connect(through, "localhost").unwrap().await.unwrap();
        exchange(&connection, 1_000, 1_000).await.unwrap();
        Self { _endpoint: endpoint, connection, last }
    }

    /// The last packet with a short header that the client sent.
    pub(crate) fn last_packet(&self) -> Vec<u8> {
        self.last.lock().unwrap().clone()
    }
}

/// Sends the last packet of each connection again, from each of `sources`: no connection is ended
/// by it. Says how many of the packets each worker received.
pub(crate) async fn replay(
    server: &Served,
    watched: &[Watched],
    sources: &[net::UdpSocket],
) -> Vec<u64> {
    // Acknowledgements of the last answers: then nothing is under way.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let received = || server.snapshots().iter().map(|one| one.received).collect::<Vec<_>>();
    let before = received();
    for one in watched {
        let packet = one.last_packet();
        assert!(packet.len() > 21, "a short header passed");
        for source in sources {
            source.send_to(&packet, server.address()).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let sent = (watched.len() * sources.len()) as u64;
    let arrived = || -> Vec<u64> {
        received().iter().zip(&before).map(|(now, before)| now - before).collect()
    };
    wait_until(|| arrived().iter().sum::<u64>() >= sent).await;
    let arrived = arrived();
    assert_eq!(total(&server.snapshots(), |s| s.resets_sent), 0);
    for source in sources {
        source.set_nonblocking(true).unwrap();
        assert!(source.recv(&mut [0; 2_000]).is_err(), "somebody was answered");
    }
    for one in watched {
        exchange(&one.connection, 1_000, 1_000).await.unwrap();
        assert_eq!(one.connection.close_reason(), None);
    }
    assert_eq!(total(&server.snapshots(), |s| s.connected), watched.len() as u64);
    arrived
}

/// A server, and a packet of each of `count` connections of a process before it that is gone.
pub(crate) fn server_with_orphans(
    listen: &str,
    count: usize,
    state_dir: &Path,
    change: impl Fn(&mut Config),
) -> (Served, Vec<Vec<u8>>) {
    let start = || {
        perf_server(listen, 2, |config| {
            config.server.as_mut().unwrap().state_dir = Some(state_dir.to_owned());
            change(config);
        })
    };
    let server = start();
    let orphans = runtime().block_on(async {
        let mut orphans = Vec::new();
        for _ in 0..count {
            let watched = Watched::connect(&server.certificate, server.address()).await;
            // Its acknowledgements; then nothing is under way.
            tokio::time::sleep(Duration::from_millis(50)).await;
            orphans.push(watched.last_packet());
        }
        orphans
    });
    assert!(orphans.iter().all(|packet| packet.len() > 21), "a short header passed");
    server.finish();
    (start(), orphans)
}
