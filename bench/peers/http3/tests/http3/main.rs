//! quiche's HTTP/3 client gets from `quiclane serve --h3` what its users ask for.
#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]
#![expect(clippy::print_stdout, reason = "the log of the tests names the version")]

mod client;
mod server;

use client::Client;
use server::Server;

/// A connection to a server of its own.
fn connected() -> (Server, Client) {
    let lock = include_str!("../../../Cargo.lock");
    let version = lock.split_once("name = \"quiche\"\nversion = \"").unwrap().1;
    println!("quiche {}", version.split_once('"').unwrap().0);
    let server = Server::start();
    let client = Client::connect(&server);
    (server, client)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at / 251 + at).to_le_bytes()[0]).collect()
}

#[test]
fn get_and_head() {
    let (_server, mut client) = connected();
    let answer = client.ask("GET", "/bytes/1024");
    assert_eq!((answer.field(":status"), answer.content.len()), ("200", 1_024));
    let head = client.ask("HEAD", "/bytes/1024");
    assert_eq!((head.field("content-length"), head.bytes), ("1024", 0));
    assert_eq!(client.ask("GET", "/missing").field(":status"), "404");
}

#[test]
fn ten_megabytes_come_back() {
    let (_server, mut client) = connected();
    let content = pattern(10_000_000);
    let stream = client.begin_upload("/echo", content.clone(), &[]);
    let answer = client.answer(stream).unwrap();
    assert!(answer.content == content, "{} bytes came back", answer.bytes);
}

#[test]
fn trailers_come_back_too() {
    let (_server, mut client) = connected();
    let trailers = [("x-checksum", "12345"), ("x-end", "yes")];
    let stream = client.begin_upload("/echo", b"content".to_vec(), &trailers);
    let answer = client.answer(stream).unwrap();
    assert_eq!(answer.content, b"content");
    let expected = trailers.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(answer.trailers.as_deref(), Some(&expected[..]));
}

#[test]
fn a_hundred_requests_at_once() {
    let (_server, mut client) = connected();
    let streams: Vec<u64> =
        (0..100).map(|n| client.begin("GET", &format!("/bytes/{}", n * 1_000))).collect();
    for (n, stream) in (0..).zip(streams) {
        assert_eq!(client.answer(stream).unwrap().bytes, n * 1_000);
    }
}

#[test]
fn a_gigabyte_arrives() {
    let (_server, mut client) = connected();
    let stream = client.begin_bulk("/bytes/1g");
    assert_eq!(client.answer(stream).unwrap().bytes, 1 << 30);
}

#[test]
fn a_cancelled_request_harms_no_other() {
    let (_server, mut client) = connected();
    let stream = client.begin_bulk("/bytes/10g");
    let other = client.begin("GET", "/bytes/3000000");
    client.until(|client| client.bytes(stream) > 0);
    client.cancel(stream);
    assert_eq!(client.answer(other).unwrap().bytes, 3_000_000);
    assert_eq!(client.ask("GET", "/bytes/5").bytes, 5);
}

#[test]
fn what_was_begun_before_goaway_is_finished() {
    let (server, mut client) = connected();
    let slow = client.begin("GET", "/delay/700ms");
    let bulk = client.begin_bulk("/bytes/30000000");
    assert_eq!(client.ask("GET", "/bytes/1000").bytes, 1_000);
    server.ask_to_stop();
    let mut answered = 0;
    while client.go_away.is_none() {
        assert_eq!(client.ask("GET", "/bytes/1000").bytes, 1_000);
        answered += 1;
    }
    assert_eq!(client.answer(bulk).unwrap().bytes, 30_000_000);
    assert_eq!(client.answer(slow).unwrap().field(":status"), "200");
    println!("{answered} requests were answered between the signal and GOAWAY");
    while !client.connection.is_closed() {
        client.turn();
    }
    let end = client.connection.peer_error().unwrap();
    assert_eq!((end.is_app, end.error_code), (true, NO_ERROR));
    server.ends();
}

/// `H3_NO_ERROR`.
const NO_ERROR: u64 = 0x100;
