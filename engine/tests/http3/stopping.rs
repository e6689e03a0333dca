//! stopping: GOAWAY while requests come.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h3::error::Code;
use quiclane::Io;
use tokio::net::UdpSocket;

use crate::client::{Client, answer};
use crate::common::{law_holds, runtime};
use crate::requests::site;

#[test]
fn what_was_begun_is_finished() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Arc::new(Client::connect(&server).await);
        let mut slow = client.begin("GET", "/delay/700ms", &[]).await.unwrap();
        slow.finish().await.unwrap();
        let mut bulk = client.begin("GET", "/bytes/30000000", &[]).await.unwrap();
        bulk.finish().await.unwrap();
        let load = {
            let client = Arc::clone(&client);
            tokio::spawn(async move {
                let mut answered = 0;
                // Until the client does not want to begin another one here.
                while let Ok(mut stream) = client.begin("GET", "/bytes/1000", &[]).await {
                    // The server may have refused it by then.
                    let _ = stream.finish().await;
                    match answer(&mut stream).await {
                        Ok(answer) => assert_eq!(answer.content.len(), 1_000),
                        // Came too late, which may be tried again elsewhere.
                        Err(error) => {
                            let code = crate::client::reset_code(&error);
                            assert_eq!(code, Code::H3_REQUEST_REJECTED);
                            break;
                        }
                    }
                    answered += 1;
                }
                answered
            })
        };
        tokio::time::sleep(Duration::from_millis(200)).await;
        let start = quiclane::clock::now();
        server.engine().stop(Duration::from_secs(20));
        assert_eq!(answer(&mut bulk).await.unwrap().content.len(), 30_000_000);
        assert_eq!(answer(&mut slow).await.unwrap().status, 200);
        assert!(load.await.unwrap() > 0);
        let client = Arc::try_unwrap(client).ok().unwrap();
        let closed = client.closed().await;
        assert!(closed.is_h3_no_error(), "{closed:?}");
        let took = quiclane::clock::now().saturating_duration_since(start);
        assert!(took < Duration::from_secs(15), "the deadline was not waited for: {took:?}");
    });
    law_holds(&server.finish());
}

#[test]
fn idle_connections_end_at_once() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        assert_eq!(client.get("/bytes/1").await.status, 200);
        let start = quiclane::clock::now();
        server.engine().stop(Duration::from_secs(20));
        let closed = client.closed().await;
        assert!(closed.is_h3_no_error(), "{closed:?}");
        let took = quiclane::clock::now().saturating_duration_since(start);
        assert!(took < Duration::from_secs(10), "{took:?}");
    });
    law_holds(&server.finish());
}

/// Forwards between one client and `server`, each datagram after 100 ms.
async fn long_way(server: SocketAddr) -> SocketAddr {
    let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let far = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    far.connect(server).await.unwrap();
    let address = near.local_addr().unwrap();
    tokio::spawn(async move {
        let mut client = None;
        let (mut up, mut down) = ([0; 2_000], [0; 2_000]);
        loop {
            tokio::select! {
                got = near.recv_from(&mut up) => {
                    // An error is that of a datagram to a socket that has been closed.
                    let Ok((length, from)) = got else { continue };
                    client = Some(from);
                    let (datagram, far) = (up[..length].to_vec(), Arc::clone(&far));
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        let _ = far.send(&datagram).await;
                    });
                }
                got = far.recv(&mut down) => {
                    let (Ok(length), Some(client)) = (got, client) else { continue };
                    let (datagram, near) = (down[..length].to_vec(), Arc::clone(&near));
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        let _ = near.send_to(&datagram, client).await;
                    });
                }
            }
        }
    });
    address
}

/// The codes of HTTP/3 begin at 0x100.
#[test]
fn who_is_not_done_in_time_is_closed_with_a_code_of_http3() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        let mut long = client.begin("GET", "/delay/20s", &[]).await.unwrap();
        long.finish().await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.engine().stop(Duration::from_millis(300));
        assert!(answer(&mut long).await.is_err());
        assert!(client.closed().await.is_h3_no_error());
    });
    law_holds(&server.finish());
}

/// Uploads that were given up are no acknowledgements of what is still on its way.
#[test]
fn what_was_written_arrives_though_others_were_given_up() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Client::connect_at(&server, long_way(server.address()).await).await;
        let mut bulk = client.begin("GET", "/bytes/1000000", &[]).await.unwrap();
        bulk.finish().await.unwrap();
        // All of it is written by then, and most of it not sent.
        tokio::time::sleep(Duration::from_millis(250)).await;
        for _ in 0..3 {
            let mut upload = client.begin("POST", "/echo", &[]).await.unwrap();
            upload.send_data(Bytes::from_static(&[0; 100])).await.unwrap();
            upload.stop_stream(Code::H3_REQUEST_CANCELLED);
            upload.stop_sending(Code::H3_REQUEST_CANCELLED);
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
        server.engine().stop(Duration::from_secs(20));
        assert_eq!(answer(&mut bulk).await.unwrap().content.len(), 1_000_000);
        assert!(client.closed().await.is_h3_no_error());
    });
    law_holds(&server.finish());
}
