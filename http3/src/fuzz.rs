//! fuzz is what the fuzzers run and the tests repeat: from any bytes to a promise that has to hold.
//!
//! Each function takes what a fuzzer invents and panics if a promise is broken. `fuzz/` hands them
//! to libFuzzer; the tests below run them over the corpus that was kept, on stable Rust.

use crate::connection::Connection;
use crate::event::{Event, Input, Opened, Role};
use crate::frame::{FrameReader, Piece};
use crate::limits::{Config, Limits};
use crate::prepared::Prepared;
use crate::qpack::Fields;
use crate::qpack::decode::{SectionLimits, decode};
use crate::qpack::{encode, huffman};
use crate::validate::{self, Section};

/// Frames are the same however their bytes are cut; the first byte says how.
pub fn frames(data: &[u8]) {
    let Some((cut, data)) = data.split_first() else { return };
    let whole = read_frames(data.chunks(data.len().max(1)));
    let pieces = read_frames(data.chunks(usize::from(*cut).max(1)));
    assert_eq!(whole, pieces, "the cut makes a difference");
}

type Frames = (Vec<(u64, u64, Vec<u8>)>, bool);

fn read_frames<'d>(chunks: impl Iterator<Item = &'d [u8]>) -> Frames {
    let mut reader = FrameReader::default();
    let mut frames: Vec<(u64, u64, Vec<u8>)> = Vec::new();
    for mut chunk in chunks {
        while let Some(piece) = reader.next(&mut chunk) {
            match (piece, frames.last_mut()) {
                (Piece::Header(header), _) => frames.push((header.kind, header.length, Vec::new())),
                (Piece::Payload { kind, bytes, is_last }, Some((last, length, payload))) => {
                    payload.extend_from_slice(bytes);
                    assert_eq!(kind, *last, "a payload without its frame");
                    assert_eq!(is_last, payload.len() as u64 == *length, "the wrong end");
                }
                (Piece::Payload { .. }, None) => panic!("a payload before any frame"),
            }
        }
        assert!(chunk.is_empty(), "bytes are left");
    }
    (frames, reader.is_between_frames())
}

/// What decodes has one code, what is encoded decodes, and limits hold.
pub fn huffman(data: &[u8]) {
    let (mut text, mut code) = (Vec::new(), Vec::new());
    if huffman::decode(data, usize::MAX, &mut text).is_ok() {
        huffman::encode(&text, &mut code);
        assert_eq!(code, data, "two codes for one text");
        if let Some(limit) = text.len().checked_sub(1) {
            let mut cut = Vec::new();
            let outcome = huffman::decode(data, limit, &mut cut);
            assert_eq!(outcome, Err(huffman::HuffmanError::TooLong), "beyond the limit");
            assert_eq!(cut.len(), limit, "beyond the limit");
        }
    }
    text.clear();
    code.clear();
    huffman::encode(data, &mut code);
    assert_eq!(huffman::encoded_bytes(data), code.len(), "the length is not the one announced");
    assert_eq!(huffman::decode(&code, data.len(), &mut text), Ok(()), "no text of our code");
    assert_eq!(text, data, "another text");
}

/// A section that decodes stays in its limits, is judged without panic, and survives a round trip.
pub fn qpack(data: &[u8]) {
    let limits = SectionLimits { section_bytes_max: 4096, fields_max: 20 };
    let mut fields = Fields::default();
    let outcome = decode(data, limits, &mut fields);
    assert!(fields.len() <= limits.fields_max, "too many fields");
    if outcome.is_err() {
        return;
    }
    assert!(fields.section_bytes() <= limits.section_bytes_max, "too large a section");
    for section in [Section::Request, Section::Response, Section::Trailers] {
        if let Ok(head) = validate::section(&fields, section) {
            assert!(head.pseudo <= fields.len(), "more pseudo-header fields than fields");
        }
    }
    let mut block = Vec::new();
    encode::begin(&mut block);
    let size: u64 = fields.iter().map(|f| encode::line(f.name, f.value, &mut block)).sum();
    assert_eq!(size, fields.section_bytes(), "another size");
    let mut again = Fields::default();
    assert_eq!(decode(&block, limits, &mut again), Ok(()), "our own section is refused");
    assert!(fields.iter().eq(again.iter()), "other fields");
}

/// A connection, told whatever may be told in any order, panics never and stays in its limits.
///
/// The bytes are a script: an operation, the stream it is about, and what that needs.
pub fn connection(data: &[u8]) {
    let Some((flags, mut script)) = data.split_first() else { return };
    let role = if flags & 1 == 0 { Role::Server } else { Role::Client };
    let limits = Limits {
        field_section_bytes_max: 2048,
        fields_max: 16,
        unfinished_bytes_max: 512,
        requests_max: 6,
        uni_streams_max: 4,
        settings_max: 4,
        glitches_max: 100,
    };
    let (connect, datagrams) = (flags & 2 != 0, flags & 4 != 0);
    let config = Config { limits: limits.clone(), connect, extended_connect: connect, datagrams };
    let mut conn = Connection::new(role, config);
    conn.control_opened(if role == Role::Server { 3 } else { 2 });
    while let Some((operation, rest)) = script.split_first() {
        script = rest;
        if perform(&mut conn, role, *operation, &mut script).is_none() {
            // The connection is closed.
            return;
        }
        conn.check(&limits);
    }
}

/// Does one thing; `None` when the connection has to be closed by it.
fn perform(conn: &mut Connection, role: Role, operation: u8, script: &mut &[u8]) -> Option<()> {
    // Streams of the peer, and for a client its own requests.
    let number = u64::from(operation >> 4 & 7) * 4;
    let uni = number + if role == Role::Server { 2 } else { 3 };
    match operation & 0x0f {
        0..=4 => receive(conn, number, operation, script)?,
        5..=7 => receive(conn, uni, operation, script)?,
        8 => conn.reset(number).ok()?,
        9 => conn.reset(uni).ok()?,
        10 => conn.stopped(number).ok()?,
        11 => {
            let response = Prepared::response(if operation & 0x80 == 0 { 200 } else { 103 });
            // Refused by the state of the stream, or noted.
            let _ = response.map(|response| conn.respond(number, &response));
            let _ = conn.trailers(number, &Prepared::trailers());
        }
        12 if operation & 0x80 == 0 => conn.finished(number),
        12 => conn.stalled(number).ok()?,
        13 if operation & 0x80 == 0 => conn.ignored(number),
        13 => conn.abandoned(number),
        14 => {
            let bytes = take(script);
            conn.datagram(bytes).ok()?;
        }
        _ if operation & 0x80 == 0 => conn.go_away_soon(),
        _ => conn.go_away(),
    }
    Some(())
}

/// Opens a stream if it is new, and hands in what the script has for it.
fn receive(conn: &mut Connection, stream: u64, operation: u8, script: &mut &[u8]) -> Option<()> {
    if !conn.knows(stream) {
        if stream & 2 == 0 && conn.is_client() {
            let method = if operation & 0x80 == 0 { "GET" } else { "HEAD" };
            let request = Prepared::request(method, "https", "a", "/").ok()?;
            // Refused after a GOAWAY; then what comes means nothing.
            let _ = conn.request(stream, &request);
        } else if conn.opened(stream).ok()? != Opened::Accepted {
            return Some(());
        }
    }
    let bytes = take(script);
    let mut input = if operation & 0x80 == 0 { Input::new(bytes) } else { Input::last(bytes) };
    let mut events = 0;
    while let Some(event) = conn.recv(stream, &mut input).ok()? {
        look(event);
        events += 1;
        assert!(events <= bytes.len() + 2, "more events than bytes");
    }
    assert!(input.rest().is_empty(), "bytes are left");
    Some(())
}

/// Uses everything that an event lends.
fn look(event: Event<'_, '_>) {
    match event {
        Event::Request(request) => {
            let path = request.path();
            assert!(!path.iter().any(u8::is_ascii_control), "a control character in a path");
            assert!(request.fields().all(|field| field.name.first() != Some(&b':')), "pseudo");
            assert!(request.method() == b"CONNECT" || !request.scheme().is_empty(), "no scheme");
        }
        Event::Interim(response) => assert!((100..200).contains(&response.status()), "status"),
        Event::Response(response) => {
            assert!((200..1000).contains(&response.status()), "status");
            assert!(response.fields().all(|field| field.name.first() != Some(&b':')), "pseudo");
        }
        Event::Data(bytes) => assert!(!bytes.is_empty(), "content without bytes"),
        Event::Trailers(fields) => {
            assert!(fields.iter().all(|field| !field.value.contains(&b'\n')), "line feed");
        }
        _ => {}
    }
}

/// A length and as many bytes, or what is left.
fn take<'d>(script: &mut &'d [u8]) -> &'d [u8] {
    let Some((length, rest)) = script.split_first() else { return &[] };
    let (taken, rest) = rest.split_at(usize::from(*length).min(rest.len()));
    *script = rest;
    taken
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn over_the_corpus(target: &str, body: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let mut files = 0;
        for file in fs::read_dir(&folder).unwrap() {
            let data = fs::read(file.unwrap().path()).unwrap();
            body(&data);
            // What is cut or longer is another case.
            body(&data[..data.len() / 2]);
            body(&[&data[..], &data].concat());
            files += 1;
        }
        assert!(files > 10, "{files} files in {}", folder.display());
    }

    #[test]
    fn frames_over_the_corpus() {
        over_the_corpus("http3_frames", frames);
    }

    #[test]
    fn huffman_over_the_corpus() {
        over_the_corpus("http3_huffman", huffman);
    }

    #[test]
    fn qpack_over_the_corpus() {
        over_the_corpus("http3_qpack", qpack);
    }

    #[test]
    fn connection_over_the_corpus() {
        over_the_corpus("http3_connection", connection);
    }
}
