//! echo: streams come back byte by byte, datagrams one by one.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use quiclane::Io;
use quiclane::apps::Echo;
use quinn::{Connection, ReadError, ReadToEndError, RecvStream, SendStream, VarInt, WriteError};

use crate::common::{Served, app_server, connect_with, law_holds, runtime, total, wait_until};

fn serve(io: Io) -> Served {
    app_server(&["echo"], io, |_| Echo::new())
}

async fn connect(server: &Served) -> Connection {
    connect_with(server, &["echo"]).await.unwrap().1
}

async fn end(connection: Connection, server: &Served) {
    connection.close(VarInt::from_u32(0), b"");
    wait_until(|| total(&server.snapshots(), |s| s.open) == 0).await;
}

/// What comes back for `bytes`, sent and read at the same time.
pub(crate) async fn echoed(connection: &Connection, bytes: &[u8]) -> Vec<u8> {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let write = async {
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
    };
    let (back, ()) = tokio::join!(recv.read_to_end(bytes.len() + 1), write);
    back.unwrap()
}

/// Other bytes for each `seed`.
fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 251 + at + seed).to_le_bytes()[0]).collect()
}

async fn read_exactly(recv: &mut RecvStream, expected: &[u8]) {
    let mut got = vec![0; expected.len()];
    recv.read_exact(&mut got).await.unwrap();
    assert_eq!(got, expected);
}

#[test]
fn streams_come_back_byte_by_byte() {
    for io in [Io::Epoll, Io::Uring] {
        let server = serve(io);
        runtime().block_on(async {
            let connection = connect(&server).await;
            for length in [0, 1, 1_023, 1_024, 100_000, 10_000_000] {
                let sent = pattern(length, length);
                assert!(echoed(&connection, &sent).await == sent, "{length} bytes");
            }
            end(connection, &server).await;
        });
        law_holds(&server.finish());
    }
}

#[test]
fn a_hundred_streams_at_once_do_not_mix() {
    let server = serve(Io::Auto);
    runtime().block_on(async {
        let connection = connect(&server).await;
        let streams: Vec<_> = (0..100)
            .map(|n| {
                let connection = connection.clone();
                tokio::spawn(async move {
                    let sent = pattern(n, 1_000 * n);
                    assert!(echoed(&connection, &sent).await == sent, "stream {n}");
                })
            })
            .collect();
        for stream in streams {
            stream.await.unwrap();
        }
        end(connection, &server).await;
    });
    law_holds(&server.finish());
}

#[test]
fn each_half_of_a_stream_ends_on_its_own() {
    let server = serve(Io::Auto);
    runtime().block_on(async {
        let connection = connect(&server).await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        for n in 0..20 {
            let sent = pattern(n, 100 * n + 1);
            send.write_all(&sent).await.unwrap();
            read_exactly(&mut recv, &sent).await;
        }
        let last = pattern(99, 500_000);
        let write = async {
            send.write_all(&last).await.unwrap();
            send.finish().unwrap();
        };
        let (rest, ()) = tokio::join!(recv.read_to_end(1_000_000), write);
        assert!(rest.unwrap() == last, "what was sent before the end comes back, then the end");
        // A stream one way has no way back; it is read to its end.
        let mut uni = connection.open_uni().await.unwrap();
        uni.write_all(&pattern(1, 5_000_000)).await.unwrap();
        uni.finish().unwrap();
        assert_eq!(uni.stopped().await, Ok(None));
        end(connection, &server).await;
    });
    law_holds(&server.finish());
}

async fn started(connection: &Connection) -> (SendStream, RecvStream) {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(b"begun").await.unwrap();
    read_exactly(&mut recv, b"begun").await;
    (send, recv)
}

#[test]
fn what_the_client_abandons_the_server_abandons_too() {
    let server = serve(Io::Auto);
    runtime().block_on(async {
        let connection = connect(&server).await;
        let code = VarInt::from_u32(77);
        for _ in 0..150 {
            let (mut send, mut recv) = started(&connection).await;
            send.reset(code).unwrap();
            let back = recv.read_to_end(10).await;
            assert_eq!(back, Err(ReadToEndError::Read(ReadError::Reset(code))));

            let (mut send, mut recv) = started(&connection).await;
            recv.stop(code).unwrap();
            let refused = async { while send.write_all(&[1; 1_000]).await.is_ok() {} };
            tokio::time::timeout(Duration::from_secs(30), refused).await.unwrap();
            assert_eq!(send.write(&[1]).await, Err(WriteError::Stopped(code)));
        }
        assert_eq!(echoed(&connection, b"still here").await, b"still here");
        end(connection, &server).await;
    });
    law_holds(&server.finish());
}

#[test]
fn a_client_that_does_not_read_is_held_back_and_not_forgotten() {
    let server = serve(Io::Auto);
    runtime().block_on(async {
        let connection = connect(&server).await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        let sent = pattern(3, 20_000_000);
        let mut written = 0;
        // Flow control of both directions fills up; then nothing more may be written.
        let pause = Duration::from_millis(500);
        while let Ok(more) = tokio::time::timeout(pause, send.write(&sent[written..])).await {
            written += more.unwrap();
            assert!(written < sent.len(), "an echo that waits must not take in all there is");
        }
        let write = async {
            send.write_all(&sent[written..]).await.unwrap();
            send.finish().unwrap();
        };
        let (back, ()) = tokio::join!(recv.read_to_end(sent.len() + 1), write);
        assert!(back.unwrap() == sent);
        end(connection, &server).await;
    });
    law_holds(&server.finish());
}

/// A connection that both sides know to be complete. A datagram that overtakes the end of the
/// handshake on its way through another worker is lost, as datagrams may be.
async fn settled(server: &Served) -> Connection {
    let connection = connect(server).await;
    assert_eq!(echoed(&connection, b"ready").await, b"ready");
    connection
}

/// Datagram number `n`, which its first four bytes name.
fn datagram(n: u32, length: usize) -> Bytes {
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.extend(pattern(usize::try_from(n).unwrap(), length - bytes.len()));
    bytes.into()
}

fn number(datagram: &Bytes) -> u32 {
    u32::from_be_bytes(datagram[..4].try_into().unwrap())
}

#[test]
fn datagrams_of_every_size_come_back() {
    for io in [Io::Epoll, Io::Uring] {
        let server = serve(io);
        runtime().block_on(async {
            let connection = settled(&server).await;
            for length in [0, 1, 500, connection.max_datagram_size().unwrap()] {
                let sent = Bytes::from(pattern(length, length));
                connection.send_datagram(sent.clone()).unwrap();
                assert_eq!(connection.read_datagram().await.unwrap(), sent);
            }
            // Path MTU discovery makes room for more, first one way, then the other.
            let mut largest = 0;
            for _ in 0..3_000 {
                largest = connection.max_datagram_size().unwrap();
                connection.send_datagram(datagram(7, largest)).unwrap();
                let back = connection.read_datagram();
                let back = tokio::time::timeout(Duration::from_millis(10), back).await;
                if largest > 1_400 && matches!(back, Ok(Ok(back)) if back.len() == largest) {
                    break;
                }
            }
            assert!(largest > 1_400, "{largest}");
            end(connection, &server).await;
        });
        law_holds(&server.finish());
    }
}

/// On a starved machine a datagram may still be lost: quinn-proto drops what waits too long for a
/// path whose MTU it has come to doubt.
#[test]
fn datagrams_come_back_once_while_buffers_hold_them() {
    for io in [Io::Epoll, Io::Uring] {
        let server = serve(io);
        runtime().block_on(async {
            let connection = settled(&server).await;
            let length = connection.max_datagram_size().unwrap();
            let (mut back, mut lost) = (BTreeSet::new(), 0);
            for n in 0..DATAGRAMS {
                connection.send_datagram(datagram(n, length)).unwrap();
                while back.len() + lost + IN_FLIGHT <= usize::try_from(n).unwrap() {
                    lost += usize::from(!take(&connection, length, &mut back).await);
                }
            }
            while back.len() + lost < usize::try_from(DATAGRAMS).unwrap() {
                lost += usize::from(!take(&connection, length, &mut back).await);
            }
            assert!(lost <= LOST_MAX, "{lost} lost");
            assert_eq!(connection.stats().frame_rx.datagram, back.len() as u64);
            end(connection, &server).await;
        });
        law_holds(&server.finish());
    }
}

/// Takes one echo, which must be whole and new; false if none comes.
async fn take(connection: &Connection, length: usize, back: &mut BTreeSet<u32>) -> bool {
    let waited = tokio::time::timeout(Duration::from_secs(1), connection.read_datagram()).await;
    let Ok(got) = waited else { return false };
    let got = got.unwrap();
    let n = number(&got);
    assert_eq!(got, datagram(n, length));
    assert!(back.insert(n), "datagram {n} came back twice");
    true
}

/// Loss is allowed here, but each datagram is either back, once and whole, or lost.
#[test]
fn a_flood_of_datagrams_is_accounted_for() {
    for io in [Io::Epoll, Io::Uring] {
        let server = serve(io);
        runtime().block_on(async {
            let connection = settled(&server).await;
            let length = connection.max_datagram_size().unwrap();
            let flood = async {
                for n in 0..DATAGRAMS {
                    connection.send_datagram_wait(datagram(n, length)).await.unwrap();
                }
            };
            let mut back = BTreeSet::new();
            let collect = async {
                let quiet = Duration::from_secs(2);
                while let Ok(got) = tokio::time::timeout(quiet, connection.read_datagram()).await {
                    let got = got.unwrap();
                    let n = number(&got);
                    assert_eq!(got, datagram(n, length));
                    assert!(back.insert(n), "datagram {n} came back twice");
                }
            };
            tokio::join!(flood, collect);
            let (stats, back) = (connection.stats(), back.len() as u64);
            assert_eq!(stats.frame_tx.datagram, u64::from(DATAGRAMS), "never sent again");
            assert!(back <= stats.frame_rx.datagram, "our client may drop what it reads too late");
            assert!(stats.frame_rx.datagram <= stats.frame_tx.datagram);
            assert!(back >= u64::from(DATAGRAMS) / 10, "{back} of {DATAGRAMS} came back");
            // The flood leaves nothing behind that is in the way.
            connection.send_datagram(datagram(DATAGRAMS, length)).unwrap();
            let last = connection.read_datagram();
            let last = tokio::time::timeout(Duration::from_secs(30), last).await;
            assert_eq!(last.unwrap().unwrap(), datagram(DATAGRAMS, length));
            assert_eq!(echoed(&connection, b"streams too").await, b"streams too");
            end(connection, &server).await;
        });
        law_holds(&server.finish());
    }
}

const DATAGRAMS: u32 = 20_000;

/// One in a thousand.
const LOST_MAX: usize = 20;
/// As many as the smallest socket buffer on the way holds, however slow the machine.
const IN_FLIGHT: usize = 32;
