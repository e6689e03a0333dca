//! hq: files by HTTP/0.9, for clients that behave and for others.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use quiclane::Io;
use quiclane::apps::{Hq, HqOptions, Root};
use quinn::{Connection, ReadError, ReadToEndError, VarInt};
use tempfile::TempDir;

use crate::common::{Served, app_server, connect_with, law_holds, runtime, total, wait_until};

/// A folder to serve, next to a file that must stay secret.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        let at = |name: &str| outer.path().join(name);
        fs::write(at("secret"), SECRET).unwrap();
        fs::create_dir_all(at("root/sub")).unwrap();
        fs::create_dir_all(at("root/bare")).unwrap();
        fs::write(at("root/one"), "1").unwrap();
        fs::write(at("root/nothing"), "").unwrap();
        fs::write(at("root/million"), pattern(1_000_000)).unwrap();
        fs::write(at("root/large"), pattern(LARGE)).unwrap();
        fs::write(at("root/sub/index.html"), "index").unwrap();
        fs::write(at("root/%2e%2e"), "a file of that name").unwrap();
        for n in 0..100 {
            fs::write(at(&format!("root/file{n}")), format!("{n}").repeat(n * 50)).unwrap();
        }
        symlink("../secret", at("root/out")).unwrap();
        symlink(at("secret"), at("root/out-absolute")).unwrap();
        symlink("..", at("root/folder-out")).unwrap();
        Self(outer)
    }

    pub(crate) fn root(&self) -> Root {
        Root::open(self.0.path().join("root")).unwrap()
    }

    /// The path of the secret, without the slash at its front.
    fn secret(&self) -> String {
        let path = self.0.path().join("secret");
        path.to_str().unwrap().trim_start_matches('/').to_owned()
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 251 + at).to_le_bytes()[0]).collect()
}

fn serve(files: &Files, io: Io) -> Served {
    let root = files.root();
    app_server(&["hq-interop"], io, move |_| Hq::new(Some(root.clone()), HqOptions::default()))
}

async fn connect(server: &Served) -> Connection {
    // The endpoint lives for as long as its connection.
    connect_with(server, &["hq-interop"]).await.unwrap().1
}

/// The content of a file, or the code that the request was refused with.
pub(crate) async fn get(connection: &Connection, path: &str) -> Result<Vec<u8>, VarInt> {
    ask(connection, format!("GET {path}\r\n").as_bytes()).await
}

async fn ask(connection: &Connection, request: &[u8]) -> Result<Vec<u8>, VarInt> {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    // A request that is refused before it ended is stopped, which is no failure of the write.
    if send.write_all(request).await.is_ok() {
        let _ = send.finish();
    }
    answer(&mut recv).await
}

async fn answer(recv: &mut quinn::RecvStream) -> Result<Vec<u8>, VarInt> {
    match recv.read_to_end(2 * LARGE).await {
        Ok(content) => Ok(content),
        Err(ReadToEndError::Read(ReadError::Reset(code))) => Err(code),
        Err(error) => panic!("{error}"),
    }
}

async fn end(connection: Connection, server: &Served) {
    connection.close(VarInt::from_u32(0), b"");
    wait_until(|| total(&server.snapshots(), |s| s.open) == 0).await;
}

#[test]
fn files_arrive_whole() {
    for io in [Io::Epoll, Io::Uring] {
        let files = Files::new();
        let server = serve(&files, io);
        runtime().block_on(async {
            let connection = connect(&server).await;
            for (path, content) in [
                ("/one", b"1".to_vec()),
                ("//./one", b"1".to_vec()),
                ("/nothing", Vec::new()),
                ("/million", pattern(1_000_000)),
                ("/large", pattern(LARGE)),
                ("/sub", b"index".to_vec()),
                ("/sub/", b"index".to_vec()),
                ("/%2e%2e", b"a file of that name".to_vec()),
            ] {
                assert!(get(&connection, path).await == Ok(content), "{path}");
            }
            end(connection, &server).await;
        });
        law_holds(&server.finish());
    }
}

#[test]
fn no_request_leads_out_of_the_root() {
    let files = Files::new();
    let server = serve(&files, Io::Auto);
    runtime().block_on(async {
        let connection = connect(&server).await;
        let secret = files.secret();
        for (path, code) in [
            ("/missing", Hq::NOT_FOUND),
            ("/", Hq::NOT_FOUND),
            ("/bare/", Hq::NOT_FOUND),
            ("/one/two", Hq::NOT_FOUND),
            ("/../secret", Hq::MALFORMED),
            ("/sub/../../secret", Hq::MALFORMED),
            ("/..", Hq::MALFORMED),
            ("/%2e%2e/secret", Hq::NOT_FOUND),
            ("/..%2fsecret", Hq::NOT_FOUND),
            ("/..\\secret", Hq::NOT_FOUND),
            (&format!("/{secret}"), Hq::NOT_FOUND),
            (&format!("//{secret}"), Hq::NOT_FOUND),
            (&format!("///{secret}"), Hq::NOT_FOUND),
            ("/out", Hq::NOT_FOUND),
            ("/out-absolute", Hq::NOT_FOUND),
            ("/folder-out/secret", Hq::NOT_FOUND),
            ("/sub/\0", Hq::MALFORMED),
            ("../secret", Hq::MALFORMED),
            ("secret", Hq::MALFORMED),
            ("https://localhost/one", Hq::MALFORMED),
        ] {
            let got = get(&connection, path).await;
            assert_eq!(got, Err(code), "{path:?}");
        }
        for request in [&b""[..], b"\r\n", b"POST /one\r\n", b"GET\r\n", b"GET /\xff\xfe\r\n"] {
            assert_eq!(ask(&connection, request).await, Err(Hq::MALFORMED), "{request:?}");
        }
        let mut uni = connection.open_uni().await.unwrap();
        uni.write_all(b"GET /one\r\n").await.unwrap();
        assert_eq!(uni.stopped().await, Ok(Some(Hq::MALFORMED)));
        assert_eq!(get(&connection, "/one").await.as_deref(), Ok(&b"1"[..]));
        end(connection, &server).await;
    });
    law_holds(&server.finish());
}

#[test]
fn many_requests_at_once_get_their_own_files() {
    for io in [Io::Epoll, Io::Uring] {
        let files = Files::new();
        let server = serve(&files, io);
        runtime().block_on(async {
            let connection = connect(&server).await;
            let requests: Vec<_> = (0..500)
                .map(|n| {
                    let connection = connection.clone();
                    tokio::spawn(async move {
                        let n = n % 101;
                        let got = get(&connection, &format!("/file{n}")).await;
                        let there = || Ok(format!("{n}").repeat(n * 50).into_bytes());
                        let expected = if n < 100 { there() } else { Err(Hq::NOT_FOUND) };
                        assert!(got == expected, "/file{n}");
                    })
                })
                .collect();
            for request in requests {
                request.await.unwrap();
            }
            end(connection, &server).await;
        });
        law_holds(&server.finish());
    }
}

#[test]
fn a_request_may_come_in_dribbles_and_without_its_end() {
    let files = Files::new();
    let server = serve(&files, Io::Auto);
    runtime().block_on(async {
        let connection = connect(&server).await;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        for byte in b"GET /million\r\n" {
            send.write_all(&[*byte]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // The line is complete, so the answer needs no FIN.
        assert!(answer(&mut recv).await == Ok(pattern(1_000_000)));
        send.write_all(b"and more that nobody asked for").await.unwrap();
        send.finish().unwrap();
        // A line may end with its stream instead.
        assert_eq!(ask(&connection, b"GET /one").await.as_deref(), Ok(&b"1"[..]));
        assert_eq!(ask(&connection, b"GET /one\n").await.as_deref(), Ok(&b"1"[..]));
        end(connection, &server).await;
    });
    law_holds(&server.finish());
}

#[test]
fn a_line_that_is_too_long_is_refused_at_once() {
    let files = Files::new();
    let server = serve(&files, Io::Auto);
    runtime().block_on(async {
        let connection = connect(&server).await;
        let longest = HqOptions::default().request_bytes_max;
        let request = |bytes: usize| [b"GET /", &vec![b'x'; bytes - 5][..]].concat();
        assert_eq!(ask(&connection, &request(longest)).await, Err(Hq::NOT_FOUND));
        assert_eq!(ask(&connection, &request(longest + 1)).await, Err(Hq::MALFORMED));
        // One that never ends is stopped, so that the client knows.
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        let refused = async {
            while send.write_all(&[b'x'; 1_000]).await.is_ok() {}
            send.stopped().await
        };
        let patience = Duration::from_secs(30);
        let stopped = tokio::time::timeout(patience, refused).await.unwrap();
        assert_eq!(stopped, Ok(Some(Hq::MALFORMED)));
        assert_eq!(answer(&mut recv).await, Err(Hq::MALFORMED));
        assert_eq!(get(&connection, "/one").await.as_deref(), Ok(&b"1"[..]));
        end(connection, &server).await;
    });
    law_holds(&server.finish());
}

#[test]
fn requests_and_answers_that_are_abandoned_cost_nothing() {
    let files = Files::new();
    let server = serve(&files, Io::Auto);
    runtime().block_on(async {
        let connection = connect(&server).await;
        // Several times as many as there may be streams, and files, at once.
        for _ in 0..250 {
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            send.write_all(b"GET /on").await.unwrap();
            tokio::task::yield_now().await;
            send.reset(VarInt::from_u32(9)).unwrap();
            assert_eq!(answer(&mut recv).await, Err(Hq::CANCELLED));
        }
        for _ in 0..250 {
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            send.write_all(b"GET /large\r\n").await.unwrap();
            assert!(recv.read_chunk(10, true).await.unwrap().is_some());
            recv.stop(VarInt::from_u32(9)).unwrap();
        }
        assert!(get(&connection, "/million").await == Ok(pattern(1_000_000)));
        end(connection, &server).await;
    });
    law_holds(&server.finish());
}

const SECRET: &str = "nobody may read this";
/// More than the windows of a stream and of a connection hold.
const LARGE: usize = 10_000_000;
