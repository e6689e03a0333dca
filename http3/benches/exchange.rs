//! What a request and its response of 1 KiB cost, client and server together, without QUIC: ours
//! and the h3 crate's, over memory.

#[path = "../tests/protocol/h3_memory.rs"]
#[expect(dead_code, reason = "the tests use all of it")]
mod h3_memory;

use std::hint::black_box;

use bytes::{Buf, Bytes};
use criterion::{Criterion, criterion_group, criterion_main};
use h3_memory::{connection, ready};
use quiclane_http3::{Config, Connection, DataHeader, Event, Input, Prepared, Role};

const CONTENT_BYTES: usize = 1024;

/// Six fields and four pseudo-header fields, as a command line client sends them.
const FIELDS: [(&str, &str); 4] = [
    ("user-agent", "quiclane/0.1"),
    ("accept", "*/*"),
    ("accept-encoding", "gzip, deflate, br"),
    ("x-request", "0123456789abcdef"),
];
const ANSWER: [(&str, &str); 4] = [
    ("content-type", "text/plain"),
    ("content-length", "1024"),
    ("server", "quiclane"),
    ("date", "Sat, 21 Nov 2026 10:00:00 GMT"),
];

struct Ours {
    client: Connection,
    server: Connection,
    get: Prepared,
    other: Prepared,
    ok: Prepared,
    content: Vec<u8>,
    /// What the wire carries.
    wire: Vec<u8>,
    stream: u64,
}

impl Ours {
    fn new() -> Self {
        let request = |path: &str| {
            let get = Prepared::request("GET", "https", "example.org", path).expect("legal");
            FIELDS.iter().fold(get, |get, (name, value)| get.with(name, value).expect("legal"))
        };
        let ok = Prepared::response(200).expect("legal");
        Self {
            client: Connection::new(Role::Client, Config::default()),
            server: Connection::new(Role::Server, Config::default()),
            get: request("/bytes/1024"),
            other: request("/bytes/1025"),
            ok: ANSWER.iter().fold(ok, |ok, (name, value)| ok.with(name, value).expect("legal")),
            content: vec![7; CONTENT_BYTES],
            wire: Vec::new(),
            stream: 0,
        }
    }

    fn exchange(&mut self, alternates: bool) {
        let stream = self.stream;
        self.stream += 4;
        let get = if alternates && stream & 4 != 0 { &self.other } else { &self.get };
        self.client.request(stream, get).expect("may be sent");
        self.client.finished(stream);
        self.wire.clear();
        self.wire.extend_from_slice(get.frame());

        self.server.opened(stream).expect("may be opened");
        let mut input = Input::last(&self.wire);
        let mut path_bytes = 0;
        while let Some(event) = self.server.recv(stream, &mut input).expect("legal") {
            if let Event::Request(request) = event {
                path_bytes = request.path().len();
            }
        }
        assert_eq!(path_bytes, "/bytes/1024".len());

        if alternates {
            self.ok.set_response(200).expect("legal");
            for (name, value) in ANSWER {
                self.ok.push(name.as_bytes(), value.as_bytes()).expect("legal");
            }
            self.ok.push(b"age", if stream & 4 == 0 { b"1" } else { b"2" }).expect("legal");
        }
        self.server.respond(stream, &self.ok).expect("may be sent");
        self.server.finished(stream);
        self.wire.clear();
        self.wire.extend_from_slice(self.ok.frame());
        self.wire.extend_from_slice(DataHeader::new(CONTENT_BYTES as u64).as_bytes());
        self.wire.extend_from_slice(&self.content);

        let mut input = Input::last(&self.wire);
        let mut content_bytes = 0;
        while let Some(event) = self.client.recv(stream, &mut input).expect("legal") {
            match event {
                Event::Response(response) => assert_eq!(response.status(), 200),
                Event::Data(bytes) => content_bytes += black_box(bytes).len(),
                _ => {}
            }
        }
        assert_eq!(content_bytes, CONTENT_BYTES);
    }
}

fn ours(c: &mut Criterion) {
    let mut repeated = Ours::new();
    c.bench_function("exchange/quiclane, repeated", |b| b.iter(|| repeated.exchange(false)));
    let mut changing = Ours::new();
    c.bench_function("exchange/quiclane, changing", |b| b.iter(|| changing.exchange(true)));
}

fn theirs(c: &mut Criterion) {
    let (client_end, server_end) = connection();
    let (_driver, mut client) =
        ready(h3::client::builder().send_grease(false).build::<_, _, Bytes>(client_end))
            .expect("a client");
    let mut server =
        ready(h3::server::builder().send_grease(false).build(server_end)).expect("a server");
    let content = Bytes::from(vec![7; CONTENT_BYTES]);
    let mut exchange = || {
        let request = http::Request::get("https://example.org/bytes/1024");
        let request = FIELDS.iter().fold(request, |r, (name, value)| r.header(*name, *value));
        let request = request.body(()).expect("legal");
        let mut asking = ready(client.send_request(request)).expect("sent");
        ready(asking.finish()).expect("ended");

        let resolver = ready(server.accept()).expect("alive").expect("a request");
        let (request, mut answering) = ready(resolver.resolve_request()).expect("legal");
        assert_eq!(request.uri().path().len(), "/bytes/1024".len());
        assert!(ready(answering.recv_data()).expect("read").is_none());
        let response = http::Response::builder().status(200);
        let response = ANSWER.iter().fold(response, |r, (name, value)| r.header(*name, *value));
        ready(answering.send_response(response.body(()).expect("legal"))).expect("sent");
        ready(answering.send_data(content.clone())).expect("sent");
        ready(answering.finish()).expect("ended");

        let response = ready(asking.recv_response()).expect("legal");
        assert_eq!(response.status(), 200);
        let mut content_bytes = 0;
        while let Some(data) = ready(asking.recv_data()).expect("read") {
            content_bytes += black_box(data).remaining();
        }
        assert_eq!(content_bytes, CONTENT_BYTES);
    };
    c.bench_function("exchange/h3 0.0.8", |b| b.iter(&mut exchange));
}

criterion_group!(benches, ours, theirs);
criterion_main!(benches);
