//! A repeated exchange allocates nothing, and no peer makes a connection hold a megabyte.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod allocator;

use allocator::{calls, peak};
use quiclane_http3::{
    Config, Connection, DataHeader, Event, Input, Limits, Prepared, Role, SavedRequest,
};

struct Pair {
    client: Connection,
    server: Connection,
    get: Prepared,
    ok: Prepared,
    content: Vec<u8>,
    saved: SavedRequest,
}

impl Pair {
    fn new() -> Self {
        let get = Prepared::request("GET", "https", "example.org", "/bytes/1024").unwrap();
        Self {
            client: Connection::new(Role::Client, Config::default()),
            server: Connection::new(Role::Server, Config::default()),
            get: get.with("user-agent", "quiclane").unwrap().with("accept", "*/*").unwrap(),
            ok: Prepared::response(200).unwrap().with("content-length", "1024").unwrap(),
            content: [DataHeader::new(1024).as_bytes(), &[7; 1024]].concat(),
            saved: SavedRequest::default(),
        }
    }

    /// One request and its response, in chunks of so many bytes.
    fn exchange(&mut self, stream: u64, chunk: usize) {
        self.client.request(stream, &self.get).unwrap();
        self.client.finished(stream);
        self.server.opened(stream).unwrap();
        let mut requests = 0;
        drain(&mut self.server, stream, &[self.get.frame()], chunk, |event| {
            if let Event::Request(request) = event {
                request.save(&mut self.saved);
                requests += 1;
            }
        });
        assert_eq!(self.saved.request().method(), b"GET");
        self.server.respond(stream, &self.ok).unwrap();
        self.server.finished(stream);
        let mut bytes = 0;
        drain(&mut self.client, stream, &[self.ok.frame(), &self.content], chunk, |event| {
            if let Event::Data(data) = event {
                bytes += data.len();
            }
        });
        assert_eq!((requests, bytes), (1, 1024));
        assert_eq!((self.client.exchanges(), self.server.exchanges()), (0, 0));
    }
}

fn drain(
    conn: &mut Connection,
    stream: u64,
    parts: &[&[u8]],
    chunk: usize,
    mut see: impl FnMut(Event<'_, '_>),
) {
    for piece in parts.iter().flat_map(|part| part.chunks(chunk)) {
        let mut input = Input::new(piece);
        while let Some(event) = conn.recv(stream, &mut input).unwrap() {
            see(event);
        }
    }
    while let Some(event) = conn.recv(stream, &mut Input::end()).unwrap() {
        see(event);
    }
}

#[test]
fn a_repeated_exchange_allocates_nothing() {
    for chunk in [usize::MAX, 100, 7, 1] {
        let mut pair = Pair::new();
        (0..10).for_each(|n| pair.exchange(n * 4, chunk));
        let allocations = calls(|| (10..1_000).for_each(|n| pair.exchange(n * 4, chunk)));
        assert_eq!(allocations, 0, "in chunks of {chunk} bytes");
    }
}

#[test]
fn responses_that_change_allocate_nothing_either() {
    let mut pair = Pair::new();
    let mut exchange = |n: u64| {
        let length = [b'1' + u8::try_from(n % 9).unwrap(), b'0', b'0'];
        pair.get.set_request(b"GET", b"https", b"example.org", b"/bytes").unwrap();
        pair.get.push(b"x-number", &length).unwrap();
        pair.ok.set_response(404).unwrap();
        pair.ok.push(b"x-number", &length).unwrap();
        pair.exchange(n * 4, usize::MAX);
    };
    (0..10).for_each(&mut exchange);
    let allocations = calls(|| (10..1_000).for_each(&mut exchange));
    assert_eq!(allocations, 0);
}

/// What an idle connection costs: it is said in the README of who keeps many.
#[test]
fn a_connection_that_has_served_holds_little() {
    let server = || Connection::new(Role::Server, Config::default());
    let held = peak(|| {
        let mut server = server();
        server.opened(0).unwrap();
        let get = Prepared::request("GET", "https", "example.org", "/").unwrap();
        drain(&mut server, 0, &[get.frame()], usize::MAX, |_| {});
    });
    let total = held + size_of::<Connection>();
    println!("a connection that has served: {total} bytes");
    assert!(total < 4 << 10, "{total}");
}

/// Everything at once that a peer can make a connection hold.
#[test]
fn the_worst_peer_gets_less_than_a_megabyte() {
    let limits = Limits::default();
    let section_bytes_max = usize::try_from(limits.field_section_bytes_max).unwrap();
    // The most fields and the longest strings that a section may have.
    let mut section = vec![0, 0];
    for _ in 0..127 {
        section.extend_from_slice(&[0x21, b'a', 0]);
    }
    section.extend_from_slice(&[0x21, b'b', 0x7f]);
    let mut left = section_bytes_max - 128 * 33 - 0x7f;
    while left >= 0x80 {
        section.push(u8::try_from(left & 0x7f).unwrap() | 0x80);
        left >>= 7;
    }
    section.push(u8::try_from(left).unwrap());
    section.resize(section.len() + section_bytes_max - 128 * 33, b'x');
    let frame = |kind: u8, length: usize| {
        let length = u32::try_from(length).unwrap() | 0x8000_0000;
        [&[kind][..], &length.to_be_bytes()].concat()
    };
    let whole = [frame(1, section.len()), section].concat();
    let request = Prepared::request("GET", "https", "example.org", "/").unwrap();
    let bytes = peak(|| {
        let mut server = Connection::new(Role::Server, Config::default());
        // As many cut sections as there may be, in as many requests as there may be.
        let requests = limits.requests_max as u64;
        let each = limits.unfinished_bytes_max / limits.requests_max - 100;
        for stream in (0..requests - 1).map(|n| n * 4) {
            server.opened(stream).unwrap();
            drain_open(&mut server, stream, &frame(1, section_bytes_max));
            for piece in vec![0; each].chunks(10) {
                drain_open(&mut server, stream, piece);
            }
        }
        // And the largest section beside them, as trailers.
        let stream = (requests - 1) * 4;
        server.opened(stream).unwrap();
        drain_open(&mut server, stream, request.frame());
        let mut trailers = 0;
        let mut input = Input::new(&whole);
        while let Some(event) = server.recv(stream, &mut input).unwrap() {
            trailers +=
                usize::from(matches!(event, Event::Trailers(fields) if fields.len() == 128));
        }
        assert_eq!(trailers, 1);
        // Settings, unknown streams, cut integers.
        for stream in [2, 6, 10, 14, 18, 22, 26, 30] {
            server.opened(stream).unwrap();
            drain_open(&mut server, stream, &[0xc0, 0, 0]);
        }
    });
    let total = bytes + size_of::<Connection>();
    println!("the worst peer makes a connection hold {total} bytes");
    assert!(total < 1_000_000, "{total}");
}

fn drain_open(server: &mut Connection, stream: u64, data: &[u8]) {
    let mut input = Input::new(data);
    while server.recv(stream, &mut input).unwrap().is_some() {}
}
