//! requests: what a client that behaves asks for, and gets.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::error::Code;
use http::{HeaderMap, HeaderValue};
use quiclane::Io;
use quiclane::apps::Http3;
use quiclane::apps::http3::{Field, Options, Prepared, Site, SiteOptions};
use quiclane_http3::{Config, Connection as Core, DataHeader, Event, Input, Role};

use crate::client::{Client, answer};
use crate::common::{Served, app_server, law_holds, runtime};
use crate::raw::Raw;

pub(crate) fn site(io: Io) -> Served {
    app_server(&["h3"], io, |_| {
        Http3::serving(Site::new(None, SiteOptions::default()), Options::default())
    })
}

#[test]
fn generated_bytes_arrive() {
    for io in [Io::Epoll, Io::Uring] {
        let server = site(io);
        runtime().block_on(async {
            let client = Client::connect(&server).await;
            for bytes in [0, 1, 1_024, 16_384, 16_385, 5_000_000] {
                // Twice: from memory the second time.
                for _ in 0..2 {
                    let answer = client.get(&format!("/bytes/{bytes}")).await;
                    assert_eq!(answer.status, 200);
                    assert_eq!(answer.content.len(), bytes);
                    assert_eq!(answer.header("content-length"), Some(&bytes.to_string()[..]));
                    assert!(answer.header("date").is_some_and(|date| date.ends_with(" GMT")));
                }
            }
            let refused = client.get(&format!("/bytes/{}", u64::MAX)).await;
            assert_eq!(
                (refused.status.as_u16(), refused.text()),
                (403, "at most 17179869184 bytes\n")
            );
        });
        law_holds(&server.finish());
    }
}

#[test]
fn a_gigabyte_arrives() {
    const GIGABYTE: u64 = 1 << 30;
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        let mut stream = client.begin("GET", &format!("/bytes/{GIGABYTE}"), &[]).await.unwrap();
        stream.finish().await.unwrap();
        assert_eq!(stream.recv_response().await.unwrap().status(), 200);
        let mut bytes = 0;
        while let Some(piece) = stream.recv_data().await.unwrap() {
            bytes += piece.remaining() as u64;
        }
        assert_eq!(bytes, GIGABYTE);
    });
    law_holds(&server.finish());
}

#[test]
fn a_hundred_requests_at_once() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Arc::new(Client::connect(&server).await);
        let requests: Vec<_> = (0..100)
            .map(|n| {
                let client = Arc::clone(&client);
                tokio::spawn(async move { client.get(&format!("/bytes/{}", n * 1_000)).await })
            })
            .collect();
        for (n, request) in requests.into_iter().enumerate() {
            assert_eq!(request.await.unwrap().content.len(), n * 1_000);
        }
    });
    law_holds(&server.finish());
}

#[test]
fn a_response_to_head_is_a_head() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        for path in ["/bytes/1024", "/bytes/5000000", "/", "/delay/1ms", "/status/404"] {
            let get = client.get(path).await;
            let head = client.ask("HEAD", path, &[], None).await.unwrap();
            assert_eq!((head.status, head.content.len()), (get.status, 0), "{path}");
            assert_eq!(head.header("content-length"), get.header("content-length"), "{path}");
            assert!(!get.content.is_empty(), "{path}");
        }
    });
    law_holds(&server.finish());
}

#[test]
fn content_comes_back_as_it_was() {
    let content: Vec<u8> =
        (0..10_000_000_usize).map(|at| (at / 251 + at).to_le_bytes()[0]).collect();
    let content = Bytes::from(content);
    for io in [Io::Epoll, Io::Uring] {
        let server = site(io);
        runtime().block_on(async {
            let client = Client::connect(&server).await;
            for length in [0, 1, 100, 70_000, content.len()] {
                let content = content.slice(..length);
                let fields = [("content-type", "text/x-test")];
                let answer = client.ask("POST", "/echo", &fields, Some(content.clone())).await;
                let answer = answer.unwrap();
                assert!(answer.content == content, "{length}");
                assert_eq!(answer.header("content-type"), Some("text/x-test"));
            }
            let length = content.len().to_string();
            let fields = [("content-length", &length[..])];
            let answer = client.ask("PUT", "/echo", &fields, Some(content.clone())).await.unwrap();
            assert!(answer.content == content);
            assert_eq!(answer.header("content-length"), Some(&length[..]));
        });
        law_holds(&server.finish());
    }
}

#[test]
fn trailers_come_back_too() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        for content in ["", "some content"] {
            let mut stream = client.begin("POST", "/echo", &[]).await.unwrap();
            if !content.is_empty() {
                stream.send_data(Bytes::from(content)).await.unwrap();
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", HeaderValue::from_static("12345"));
            stream.send_trailers(trailers.clone()).await.unwrap();
            stream.finish().await.unwrap();
            let answer = answer(&mut stream).await.unwrap();
            assert_eq!((answer.text(), &answer.trailers), (content, &Some(trailers)));
        }
    });
    law_holds(&server.finish());
}

#[test]
fn the_paths_of_the_site_answer() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        let index = client.get("/?x").await;
        assert_eq!(index.status, 200);
        assert_eq!(index.header("content-type"), Some("text/plain;charset=utf-8"));
        for path in ["/bytes/N", "/echo", "/delay/TIME", "/status/CODE"] {
            assert!(index.text().contains(path), "{path}");
        }
        for status in [200, 204, 205, 304, 404, 418, 503, 599] {
            let answer = client.get(&format!("/status/{status}")).await;
            assert_eq!(answer.status.as_u16(), status);
            assert_eq!(answer.content.is_empty(), matches!(status, 204 | 205 | 304));
        }
        for path in [
            "/status/101",
            "/status/600",
            "/status/abc",
            "/bytes/-1",
            "/bytes/9t",
            "/delay/soon",
            "/x",
        ] {
            assert_eq!(client.get(path).await.status, 404, "{path}");
        }
        for path in ["/delay/9999999h", "/delay/61s", "/bytes/999g", "/bytes/9999999999999999999g"]
        {
            let answer = client.get(path).await;
            assert_eq!(answer.status, 403, "{path}");
            assert!(answer.text().starts_with("at most "), "{path}");
        }
        assert_eq!(client.get("/bytes/3k").await.content.len(), 3 << 10);
        for path in ["/", "/bytes/1", "/bytes/100000", "/delay/1ms"] {
            let answer = client.ask("DELETE", path, &[], None).await.unwrap();
            let allowed = answer.header("allow");
            assert_eq!((answer.status.as_u16(), allowed), (405, Some("GET, HEAD")), "{path}");
        }
    });
    law_holds(&server.finish());
}

/// From the core's client half to the server, by way of QUIC.
#[test]
fn trailers_of_our_own_arrive() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Raw::connect(&server).await;
        let mut core = Core::new(Role::Client, Config::default());
        let post = Prepared::request("POST", "https", "localhost", "/echo").unwrap();
        let trailers = Prepared::trailers().with("x-checksum", "12345").unwrap();
        let trailers = trailers.with("x-more", "").unwrap();
        let (mut send, mut recv) = client.quic.open_bi().await.unwrap();
        let stream = send.id().into();
        core.request(stream, &post).unwrap();
        core.trailers(stream, &trailers).unwrap();
        core.finished(stream);
        let content = [DataHeader::new(7).as_bytes(), b"content"].concat();
        send.write_all(&[post.frame(), &content, trailers.frame()].concat()).await.unwrap();
        send.finish().unwrap();
        let answer = recv.read_to_end(10_000).await.unwrap();
        let (mut input, mut said) = (Input::last(&answer), Vec::new());
        while let Some(event) = core.recv(stream, &mut input).unwrap() {
            said.push(match event {
                Event::Response(response) => format!("response {}", response.status()),
                Event::Data(bytes) => format!("content {}", bytes.escape_ascii()),
                Event::Trailers(fields) => {
                    let lines = fields.iter().map(|Field { name, value }| {
                        format!("{}: {}", name.escape_ascii(), value.escape_ascii())
                    });
                    lines.collect::<Vec<_>>().join(", ")
                }
                other => format!("{other:?}"),
            });
        }
        let expected =
            ["response 200", "content content", "x-checksum: 12345, x-more: ", "Finished"];
        assert_eq!(said, expected);
    });
    law_holds(&server.finish());
}

#[test]
fn delays_hold_up_nobody() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        let start = quiclane::clock::now();
        let asked = |path| {
            let client = &client;
            async move {
                let answer = client.get(path).await;
                assert_eq!(answer.status, 200);
                quiclane::clock::now().saturating_duration_since(start)
            }
        };
        let (slow, quick, slower) =
            tokio::join!(asked("/delay/300ms"), asked("/bytes/1000"), asked("/delay/600ms"));
        assert!(slow >= Duration::from_millis(300) && slower >= Duration::from_millis(600));
        assert!(quick < slow && slow < slower, "{quick:?} {slow:?} {slower:?}");
    });
    law_holds(&server.finish());
}

#[test]
fn a_cancelled_request_harms_no_other() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        let mut others = client.begin("GET", "/bytes/3000000", &[]).await.unwrap();
        others.finish().await.unwrap();
        for path in ["/bytes/10000000000", "/delay/50s", "/echo"] {
            let mut stream = client.begin("POST", path, &[]).await.unwrap();
            stream.stop_stream(Code::H3_REQUEST_CANCELLED);
            stream.stop_sending(Code::H3_REQUEST_CANCELLED);
            let mut stream = client.begin("GET", path, &[]).await.unwrap();
            if path != "/delay/50s" {
                assert_eq!(stream.recv_response().await.unwrap().status(), 200);
            }
            stream.stop_stream(Code::H3_REQUEST_CANCELLED);
            stream.stop_sending(Code::H3_REQUEST_CANCELLED);
        }
        assert_eq!(answer(&mut others).await.unwrap().content.len(), 3_000_000);
        assert_eq!(client.get("/bytes/7").await.content.len(), 7);
    });
    law_holds(&server.finish());
}

#[test]
fn upload_and_download_at_once_are_bounded_by_flow_control() {
    let server = site(Io::Auto);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        let (mut send, mut recv) = client.begin("POST", "/echo", &[]).await.unwrap().split();
        let piece = Bytes::from(vec![7; 1 << 20]);
        let mut sent = 0;
        // Nothing is read: sooner or later nothing more can be sent.
        while tokio::time::timeout(Duration::from_millis(500), send.send_data(piece.clone()))
            .await
            .is_ok()
        {
            sent += piece.len();
            assert!(sent < 64 << 20, "{sent} bytes are on their way");
        }
        // Others do not notice.
        assert_eq!(client.get("/bytes/100").await.content.len(), 100);
        drop(send);
        assert_eq!(recv.recv_response().await.unwrap().status(), 200);
    });
    law_holds(&server.finish());
}
