//! files: a folder over HTTP/3.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;

use bytes::Buf as _;
use h3::error::Code;
use quiclane::Io;
use quiclane::apps::http3::{Files, FilesOptions, Options, Site, SiteOptions};
use quiclane::apps::{Http3, Root};
use tempfile::TempDir;

use crate::client::{Answer, Client, reset_code};
use crate::common::{Served, app_server, law_holds, runtime};

/// A folder to serve, next to a file that must stay secret.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let outer = tempfile::tempdir().unwrap();
        let at = |name: &str| outer.path().join(name);
        fs::write(at("secret"), "secret").unwrap();
        fs::create_dir_all(at("root/sub dir/bare")).unwrap();
        fs::write(at("root/index.html"), "<h1>home</h1>").unwrap();
        fs::write(at("root/sub dir/index.html"), "sub").unwrap();
        fs::write(at("root/digits.txt"), "0123456789").unwrap();
        fs::write(at("root/empty.css"), "").unwrap();
        fs::write(at("root/100%.txt"), "percent").unwrap();
        fs::write(at("root/large.bin"), pattern(LARGE)).unwrap();
        fs::write(at("root/echo.html"), "echo").unwrap();
        symlink("../secret", at("root/out")).unwrap();
        symlink("digits.txt", at("root/inside")).unwrap();
        symlink("..", at("root/folder-out")).unwrap();
        symlink("loop", at("root/loop")).unwrap();
        assert!(Command::new("mkfifo").arg(at("root/pipe")).status().unwrap().success());
        drop(UnixListener::bind(at("root/socket")).unwrap());
        Self(outer)
    }

    fn serve(&self, follow: bool) -> Served {
        self.serve_with(follow, FilesOptions::default())
    }

    fn serve_with(&self, follow: bool, options: FilesOptions) -> Served {
        let path = self.0.path().join("root");
        let root = if follow { Root::open_following(path) } else { Root::open(path) }.unwrap();
        app_server(&["h3"], Io::Auto, move |_| {
            let files = Files::new(root.clone(), options.clone());
            let site = Site::new(Some(files), SiteOptions::default());
            Http3::serving(site, Options::default())
        })
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 251 + at).to_le_bytes()[0]).collect()
}

async fn with(client: &Client, path: &str, fields: &[(&str, &str)]) -> Answer {
    client.ask("GET", path, fields, None).await.unwrap()
}

#[test]
fn files_arrive_with_their_type() {
    let folder = Folder::new();
    let server = folder.serve(false);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        for (path, kind, content) in [
            ("/", "text/html;charset=utf-8", b"<h1>home</h1>".to_vec()),
            ("/index.html?v=1", "text/html;charset=utf-8", b"<h1>home</h1>".to_vec()),
            ("/sub%20dir/", "text/html;charset=utf-8", b"sub".to_vec()),
            ("/digits.txt", "text/plain;charset=utf-8", b"0123456789".to_vec()),
            ("//./%64igits.txt", "text/plain;charset=utf-8", b"0123456789".to_vec()),
            ("/100%25.txt", "text/plain;charset=utf-8", b"percent".to_vec()),
            ("/empty.css", "text/css;charset=utf-8", Vec::new()),
            ("/large.bin", "application/octet-stream", pattern(LARGE)),
            ("/inside", "application/octet-stream", b"0123456789".to_vec()),
            ("/echo.html", "text/html;charset=utf-8", b"echo".to_vec()),
        ] {
            let answer = client.get(path).await;
            assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, Some(kind)));
            assert!(answer.content == content, "{path}");
            let head = client.ask("HEAD", path, &[], None).await.unwrap();
            assert!(head.content.is_empty());
            for name in ["content-length", "content-type", "etag", "last-modified"] {
                assert_eq!(head.header(name), answer.header(name), "{path} {name}");
            }
            assert_eq!(head.header("content-length"), Some(&content.len().to_string()[..]));
        }
        let posted = client.ask("POST", "/digits.txt", &[], None).await.unwrap();
        assert_eq!((posted.status.as_u16(), posted.header("allow")), (405, Some("GET, HEAD")));
        let sub = client.get("/sub%20dir?x=1").await;
        let location = sub.header("location");
        assert_eq!((sub.status.as_u16(), location), (308, Some("/sub%20dir/?x=1")));
    });
    law_holds(&server.finish());
}

#[test]
fn nothing_else_is_served() {
    let folder = Folder::new();
    let server = folder.serve(false);
    let outside = folder.0.path().join("secret");
    let outside = outside.to_str().unwrap();
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        for path in [
            "/nothing",
            "/digits.txt/",
            "/digits.txt/x",
            "/sub%20dir/bare/",
            "/pipe",
            "/socket",
            "/out",
            "/loop",
            "/folder-out/secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/sub%20dir/%2e%2e/%2e%2e/secret",
            "/digits.txt%00",
            outside,
            &format!("/{outside}"),
            &format!("/{}", "a".repeat(5_000)),
        ] {
            let answer = client.get(path).await;
            assert_eq!(answer.status, 404, "{path}");
            assert_eq!(answer.text(), "404 Not Found\n", "{path}");
        }
        for path in ["/%", "/%2", "/%zz"] {
            assert_eq!(client.get(path).await.status, 400, "{path}");
        }
    });
    law_holds(&server.finish());
}

#[test]
fn links_are_followed_if_asked() {
    let folder = Folder::new();
    let server = folder.serve(true);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        assert_eq!(client.get("/out").await.text(), "secret");
        assert_eq!(client.get("/folder-out/secret").await.text(), "secret");
        for path in ["/loop", "/%2e%2e/secret", "/pipe"] {
            assert_eq!(client.get(path).await.status, 404, "{path}");
        }
    });
    law_holds(&server.finish());
}

#[test]
fn ranges_are_parts() {
    let folder = Folder::new();
    let server = folder.serve(false);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        for (range, part, place) in [
            ("bytes=2-4", "234", "bytes 2-4/10"),
            ("bytes=-3", "789", "bytes 7-9/10"),
            ("bytes=8-", "89", "bytes 8-9/10"),
            ("bytes=0-99", "0123456789", "bytes 0-9/10"),
        ] {
            let answer = with(&client, "/digits.txt", &[("range", range)]).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (206, part));
            assert_eq!(answer.header("content-range"), Some(place));
        }
        let (from, to) = (100_000, 299_999);
        let range = format!("bytes={from}-{to}");
        let answer = with(&client, "/large.bin", &[("range", &range)]).await;
        assert!(answer.content == pattern(LARGE)[from..=to]);
        let answer = with(&client, "/digits.txt", &[("range", "bytes=10-")]).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("content-range")),
            (416, Some("bytes */10"))
        );
        for range in ["bytes=0-1,3-4", "lines=0-1", "bytes=4-2"] {
            let answer = with(&client, "/digits.txt", &[("range", range)]).await;
            assert_eq!((answer.status.as_u16(), answer.text()), (200, "0123456789"), "{range}");
        }
        let whole = client.get("/digits.txt").await;
        let etag = whole.header("etag").unwrap();
        // A date does not tell two changes in one second apart.
        let modified = whole.header("last-modified").unwrap();
        for (part, status) in [(etag, 206), ("\"other\"", 200), (modified, 200)] {
            let fields = [("range", "bytes=2-4"), ("if-range", part)];
            assert_eq!(with(&client, "/digits.txt", &fields).await.status.as_u16(), status);
        }
    });
    law_holds(&server.finish());
}

/// RFC 9110 section 14.2: ranges are for GET.
#[test]
fn head_tells_of_the_whole_whatever_the_range() {
    let folder = Folder::new();
    let server = folder.serve(false);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        for path in ["/digits.txt", "/large.bin"] {
            let plain = client.ask("HEAD", path, &[], None).await.unwrap();
            assert_eq!(plain.header("accept-ranges"), Some("bytes"));
            let length = if path == "/digits.txt" { 10 } else { LARGE };
            for range in ["bytes=2-4", "bytes=-3", "bytes=99999999-", "nonsense"] {
                let head = client.ask("HEAD", path, &[("range", range)], None).await.unwrap();
                assert_eq!((head.status.as_u16(), head.content.len()), (200, 0), "{range}");
                assert_eq!(head.header("content-length"), Some(&length.to_string()[..]));
                assert_eq!(head.header("content-range"), None, "{range}");
                for name in ["etag", "last-modified", "content-type", "accept-ranges"] {
                    assert_eq!(head.header(name), plain.header(name), "{range} {name}");
                }
            }
        }
    });
    law_holds(&server.finish());
}

/// RFC 9110 section 15.4.5: what a cache needs, and nothing that is about content.
#[test]
fn not_modified_says_what_a_cache_needs() {
    let folder = Folder::new();
    let server = folder.serve(false);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        let first = client.get("/digits.txt").await;
        let condition = [("if-none-match", first.header("etag").unwrap())];
        for method in ["GET", "HEAD"] {
            let answer = client.ask(method, "/digits.txt", &condition, None).await.unwrap();
            assert_eq!((answer.status.as_u16(), answer.content.len()), (304, 0), "{method}");
            let mut names: Vec<_> = answer.headers.keys().map(|name| name.as_str()).collect();
            names.sort_unstable();
            assert_eq!(names, ["date", "etag", "last-modified"], "{method}");
            for name in ["etag", "last-modified"] {
                assert_eq!(answer.header(name), first.header(name), "{method} {name}");
            }
        }
    });
    law_holds(&server.finish());
}

#[test]
fn what_must_not_have_changed_is_not_sent_if_it_has() {
    let folder = Folder::new();
    let file = fs::File::options().write(true).open(folder.0.path().join("root/digits.txt"));
    // Sun, 06 Nov 1994 08:49:37 GMT, as in RFC 9110 section 5.6.7.
    let changed = std::time::UNIX_EPOCH + std::time::Duration::from_secs(784_111_777);
    file.unwrap().set_modified(changed).unwrap();
    let server = folder.serve(false);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        for (since, status) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", 200),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 200),
            ("Sun Nov  6 08:49:38 1994", 200),
            ("Sun, 06 Nov 1994 08:49:36 GMT", 412),
            // No date: as if it were not there.
            ("yesterday", 200),
        ] {
            let condition = ("if-unmodified-since", since);
            for method in ["GET", "HEAD"] {
                let answer = client.ask(method, "/digits.txt", &[condition], None).await.unwrap();
                assert_eq!(answer.status.as_u16(), status, "{method} {since}");
            }
            let fields = [condition, ("range", "bytes=2-4")];
            let answer = with(&client, "/digits.txt", &fields).await;
            let (part, text) =
                if status == 412 { (412, "412 Precondition Failed\n") } else { (206, "234") };
            assert_eq!((answer.status.as_u16(), answer.text()), (part, text), "{since}");
        }
    });
    law_holds(&server.finish());
}

/// With a length that was announced and cannot be kept, and content that the client does not take
/// before the file is shorter.
#[test]
fn a_file_that_shrinks_is_no_shorter_response() {
    let folder = Folder::new();
    let server = folder.serve(false);
    let path = folder.0.path().join("root/large.bin");
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        for left in [LARGE / 2, 0] {
            fs::write(&path, pattern(2 * LARGE)).unwrap();
            let mut stream = client.begin("GET", "/large.bin", &[]).await.unwrap();
            stream.finish().await.unwrap();
            let head = stream.recv_response().await.unwrap();
            assert_eq!(head.headers()["content-length"], (2 * LARGE).to_string());
            let mut file = fs::File::options().write(true).open(&path).unwrap();
            file.set_len(left as u64).unwrap();
            let error = loop {
                match stream.recv_data().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the response looks complete"),
                    Err(error) => break error,
                }
            };
            assert_eq!(reset_code(&error), Code::H3_INTERNAL_ERROR);
            // One that grows is sent as long as was announced.
            file.set_len(0).unwrap();
            file.write_all(&pattern(LARGE)).unwrap();
            let mut stream = client.begin("GET", "/large.bin", &[]).await.unwrap();
            stream.finish().await.unwrap();
            let head = stream.recv_response().await.unwrap();
            assert_eq!(head.headers()["content-length"], LARGE.to_string());
            file.write_all(&[0xff; 1_000]).unwrap();
            let mut content = Vec::new();
            while let Some(mut piece) = stream.recv_data().await.unwrap() {
                content.extend_from_slice(&piece.copy_to_bytes(piece.remaining()));
            }
            assert!(content == pattern(LARGE));
        }
        assert_eq!(client.get("/digits.txt").await.text(), "0123456789");
    });
    law_holds(&server.finish());
}

#[test]
fn what_the_client_has_is_not_sent_again() {
    let folder = Folder::new();
    let server = folder.serve(false);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        let first = client.get("/digits.txt").await;
        let etag = first.header("etag").unwrap();
        let modified = first.header("last-modified").unwrap();
        for condition in [("if-none-match", etag), ("if-modified-since", modified)] {
            let answer = with(&client, "/digits.txt", &[condition]).await;
            assert_eq!((answer.status.as_u16(), answer.content.len()), (304, 0));
            assert_eq!(answer.header("etag"), Some(etag));
        }
        assert_eq!(with(&client, "/digits.txt", &[("if-match", "\"x\"")]).await.status, 412);
        fs::write(folder.0.path().join("root/digits.txt"), "9876543210").unwrap();
        let answer = with(&client, "/digits.txt", &[("if-none-match", etag)]).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "9876543210"));
    });
    law_holds(&server.finish());
}

const LARGE: usize = 3_000_000;

#[test]
fn large_files_at_once_are_limited_and_small_ones_are_not() {
    let folder = Folder::new();
    let options = FilesOptions { files_max: 0, ..FilesOptions::default() };
    let server = folder.serve_with(false, options);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        assert_eq!(client.get("/large.bin").await.status, 503);
        assert_eq!(client.get("/digits.txt").await.text(), "0123456789");
        for path in ["/large.bin", "/digits.txt"] {
            assert_eq!(client.ask("HEAD", path, &[], None).await.unwrap().status, 200, "{path}");
        }
    });
    law_holds(&server.finish());
}

#[test]
fn a_connection_has_a_share_of_the_large_files_at_once() {
    let folder = Folder::new();
    let options = FilesOptions { files_max: 5, connection_files_max: 2 };
    let server = folder.serve_with(false, options);
    runtime().block_on(async {
        // Both may be on another worker, which has as many.
        let client = Client::connect(&server).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut stream = client.begin("GET", "/large.bin", &[]).await.unwrap();
            assert_eq!(stream.recv_response().await.unwrap().status(), 200);
            held.push(stream);
        }
        assert_eq!(client.get("/large.bin").await.status, 503);
        assert_eq!(client.get("/digits.txt").await.text(), "0123456789");
        let other = Client::connect(&server).await;
        assert_eq!(other.get("/large.bin").await.content.len(), LARGE);
        // What is given up is free again, and what is complete.
        held.pop().unwrap().stop_sending(Code::H3_REQUEST_CANCELLED);
        for _ in 0..3 {
            assert_eq!(other.get("/large.bin").await.content.len(), LARGE);
        }
        assert_eq!(client.get("/large.bin").await.content.len(), LARGE);
    });
    law_holds(&server.finish());
}

/// RFC 9110 section 8.8.2.1.
#[test]
fn no_file_was_changed_in_the_future() {
    let folder = Folder::new();
    let file = fs::File::options().write(true).open(folder.0.path().join("root/digits.txt"));
    let future = std::time::UNIX_EPOCH + std::time::Duration::from_secs(5_000_000_000);
    file.unwrap().set_modified(future).unwrap();
    let server = folder.serve(false);
    runtime().block_on(async {
        let client = Client::connect(&server).await;
        let answer = client.get("/digits.txt").await;
        assert_eq!(answer.header("last-modified"), answer.header("date"));
    });
    law_holds(&server.finish());
}
