//! support is what the tests share: raw frames, and what a connection makes of them.

use quiclane_http3::{
    Code, Config, Connection, Event, Field, Input, Opened, Prepared, Role, Violation,
};

/// A varint in its shortest form.
pub(crate) fn varint(value: u64) -> Vec<u8> {
    match value {
        0..=0x3f => vec![value.to_be_bytes()[7]],
        0x40..=0x3fff => (0x4000 | value).to_be_bytes()[6..].to_vec(),
        0x4000..=0x3fff_ffff => (0x8000_0000 | value).to_be_bytes()[4..].to_vec(),
        _ => (0xc000_0000_0000_0000 | value).to_be_bytes().to_vec(),
    }
}

/// A frame.
pub(crate) fn frame(kind: u64, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    [varint(kind), varint(payload.len() as u64), payload.to_vec()].concat()
}

/// A field line of literals, without Huffman code: whatever it says.
pub(crate) fn line(name: &[u8], value: &[u8]) -> Vec<u8> {
    let length = |bits: u32, flags: u8, length: usize| {
        let mask = (1 << bits) - 1;
        if length < mask {
            return vec![flags | u8::try_from(length).unwrap_or_default()];
        }
        let mut bytes = vec![flags | u8::try_from(mask).unwrap_or_default()];
        let mut left = length - mask;
        while left >= 0x80 {
            bytes.push(u8::try_from(left & 0x7f).unwrap_or_default() | 0x80);
            left >>= 7;
        }
        bytes.push(u8::try_from(left).unwrap_or_default());
        bytes
    };
    [length(3, 0x20, name.len()), name.to_vec(), length(7, 0, value.len()), value.to_vec()].concat()
}

/// A HEADERS frame of literals.
pub(crate) fn headers(fields: &[(&str, &str)]) -> Vec<u8> {
    let lines: Vec<u8> =
        fields.iter().flat_map(|(name, value)| line(name.as_bytes(), value.as_bytes())).collect();
    frame(0x01, [&[0, 0], &lines[..]].concat())
}

/// The fields of a plain GET.
pub(crate) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "example.org"), (":path", "/")];

/// The HEADERS frame of a GET with more fields.
pub(crate) fn get(more: &[(&str, &str)]) -> Vec<u8> {
    headers(&[&GET[..], more].concat())
}

/// What a connection said about the bytes of a stream, without borrows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Said {
    Request {
        line: Vec<String>,
        fields: Vec<(String, String)>,
    },
    Refused(u16),
    Interim(u16),
    Response(u16, Vec<(String, String)>),
    Data(Vec<u8>),
    Trailers(Vec<(String, String)>),
    Finished,
    Failed(Violation),
    Stop(Code),
    Settings,
    GoAway(u64),
    /// The connection has to be closed.
    Closed(Violation),
}

/// Text of bytes, whatever they are.
pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

fn pairs<'f>(fields: impl Iterator<Item = Field<'f>>) -> Vec<(String, String)> {
    fields.map(|field| (text(field.name), text(field.value))).collect()
}

fn said(event: Event<'_, '_>) -> Said {
    match event {
        Event::Request(r) => Said::Request {
            line: [r.method(), r.scheme(), r.authority(), r.path()].map(text).to_vec(),
            fields: pairs(r.fields()),
        },
        Event::Refused { status } => Said::Refused(status),
        Event::Interim(response) => Said::Interim(response.status()),
        Event::Response(response) => Said::Response(response.status(), pairs(response.fields())),
        Event::Data(bytes) => Said::Data(bytes.to_vec()),
        Event::Trailers(fields) => Said::Trailers(pairs(fields.iter())),
        Event::Finished => Said::Finished,
        Event::Failed(violation) => Said::Failed(violation),
        Event::Stop(code) => Said::Stop(code),
        Event::Settings(_) => Said::Settings,
        Event::GoAway { from } => Said::GoAway(from),
        _ => panic!("an event that the tests do not know"),
    }
}

/// Hands `data` in and lists what the connection says; contents that touch become one.
pub(crate) fn recv(conn: &mut Connection, stream: u64, mut input: Input<'_>) -> Vec<Said> {
    let mut all = Vec::new();
    loop {
        match conn.recv(stream, &mut input) {
            Ok(Some(event)) => push(&mut all, said(event)),
            Ok(None) => return all,
            Err(violation) => {
                all.push(Said::Closed(violation));
                return all;
            }
        }
    }
}

/// Adds what was said, content to content.
pub(crate) fn push(all: &mut Vec<Said>, next: Said) {
    match (all.last_mut(), next) {
        (Some(Said::Data(before)), Said::Data(bytes)) => before.extend(bytes),
        (_, next) => all.push(next),
    }
}

/// A server with one request stream, 0, and what it says of these bytes with the stream's end.
pub(crate) fn served(data: &[u8]) -> Vec<Said> {
    served_by(Config::default(), data)
}

pub(crate) fn served_by(config: Config, data: &[u8]) -> Vec<Said> {
    let mut conn = Connection::new(Role::Server, config);
    assert_eq!(conn.opened(0), Ok(Opened::Accepted));
    recv(&mut conn, 0, Input::last(data))
}

/// A client that sent a request on stream 0, and what it says of this response.
pub(crate) fn answered(method: &str, data: &[u8]) -> Vec<Said> {
    let mut conn = Connection::new(Role::Client, Config::default());
    request(&mut conn, 0, method);
    recv(&mut conn, 0, Input::last(data))
}

/// Sends a request.
pub(crate) fn request(conn: &mut Connection, stream: u64, method: &str) {
    let Ok(request) = Prepared::request(method, "https", "example.org", "/") else {
        panic!("a plain request");
    };
    assert_eq!(conn.request(stream, &request), Ok(()));
    conn.finished(stream);
}

/// What a side says of these bytes on a unidirectional stream of its peer.
pub(crate) fn told(role: Role, data: &[u8]) -> Vec<Said> {
    let mut conn = Connection::new(role, Config::default());
    let stream = if role == Role::Server { 2 } else { 3 };
    assert_eq!(conn.opened(stream), Ok(Opened::Accepted));
    recv(&mut conn, stream, Input::new(data))
}
