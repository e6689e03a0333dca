//! However the bytes of a stream are cut, they say the same; whatever they are, nothing panics.

use proptest::prelude::*;
use proptest::sample::select;
use quiclane_http3::{Config, Connection, Input, Opened, Role};

use crate::support::{Said, frame, get, headers, push, recv, request};

/// What a request stream may carry, legal or not, in pieces that can be put together.
fn of_request() -> impl Strategy<Value = Vec<u8>> {
    let legal = select(vec![
        get(&[]),
        get(&[("content-length", "3"), ("cookie", "a=b")]),
        headers(&[(":status", "200"), ("content-length", "6")]),
        headers(&[(":status", "103"), ("link", "</a>")]),
        headers(&[("checksum", "abc")]),
        frame(0x00, b"abc"),
        frame(0x00, []),
        frame(0x21, b"grease"),
        vec![0x40, 0x00, 0x80, 0, 0, 3, b'a', b'b', b'c'],
    ]);
    let rest = select(vec![
        headers(&[("Upper", "case")]),
        headers(&[(":status", "101")]),
        frame(0x01, [0, 0, 0x80]),
        frame(0x04, [6, 1]),
        frame(0x05, [0]),
        vec![0x01, 0x00],
        vec![0x01, 0x80, 0x10, 0, 0],
        vec![0x00, 5, b'x'],
        vec![0xc0, 0, 0],
    ]);
    let bytes = prop::collection::vec(0_u8.., 0..20);
    let any = prop_oneof![8 => legal, 2 => rest, 1 => bytes];
    prop::collection::vec(any, 1..6).prop_map(|pieces| pieces.concat())
}

/// The same for a unidirectional stream.
fn of_control() -> impl Strategy<Value = Vec<u8>> {
    let begin = select(vec![
        vec![0x00],
        vec![0x40, 0x00, 0x04, 0],
        [&[0x00][..], &frame(0x04, [0x06, 0x44, 0x00, 0x33, 1, 0x21, 7])].concat(),
        vec![0x02, 0x20],
        vec![0x03, 0x44],
        vec![0x54, 0x01],
        vec![0x01, 0],
    ]);
    let next = select(vec![
        frame(0x04, []),
        frame(0x07, [8]),
        frame(0x07, [0x40, 4]),
        frame(0x0d, [0x80, 0, 0, 9]),
        frame(0x0f_0700, b"\0u=3"),
        frame(0x21, b"grease"),
        frame(0x07, [0, 0]),
        frame(0x03, [1]),
        vec![0x7f, 0x81, 0x01],
        vec![0x20],
    ]);
    (begin, prop::collection::vec(next, 0..5))
        .prop_map(|(begin, next)| [begin, next.concat()].concat())
}

/// What a connection says of a stream that comes in these chunks and then ends.
fn said(role: Role, stream: u64, chunks: &[&[u8]]) -> Vec<Said> {
    let mut conn = Connection::new(role, Config::default());
    if role == Role::Client && stream & 2 == 0 {
        request(&mut conn, stream, "GET");
    } else {
        assert_eq!(conn.opened(stream), Ok(Opened::Accepted));
    }
    let mut all = Vec::new();
    for input in chunks.iter().map(|chunk| Input::new(chunk)).chain([Input::end()]) {
        for next in recv(&mut conn, stream, input) {
            let is_last = matches!(next, Said::Closed(_));
            push(&mut all, next);
            if is_last {
                return all;
            }
        }
    }
    all
}

fn cuts_make_no_difference(stream: u64, role: Role, bytes: &[u8]) {
    let whole = said(role, stream, &[bytes]);
    for cut in 0..=bytes.len() {
        assert_eq!(said(role, stream, &[&bytes[..cut], &bytes[cut..]]), whole, "cut at {cut}");
    }
    for size in [1, 2, 3, 7] {
        let chunks: Vec<_> = bytes.chunks(size).collect();
        assert_eq!(said(role, stream, &chunks), whole, "in pieces of {size}");
    }
}

proptest! {
    #[test]
    fn of_a_request_stream(bytes in of_request()) {
        cuts_make_no_difference(0, Role::Server, &bytes);
        cuts_make_no_difference(0, Role::Client, &bytes);
    }

    #[test]
    fn of_a_unidirectional_stream(bytes in of_control()) {
        cuts_make_no_difference(2, Role::Server, &bytes);
        cuts_make_no_difference(3, Role::Client, &bytes);
    }

    #[test]
    fn of_any_bytes(bytes in prop::collection::vec(0_u8.., 0..100)) {
        cuts_make_no_difference(0, Role::Server, &bytes);
        cuts_make_no_difference(2, Role::Server, &bytes);
    }
}
