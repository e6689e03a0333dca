//! The h3 crate as an oracle: its client asks our server and our client asks its server, over
//! memory, with generated messages. Its QPACK is private, so this is how to reach it.

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use quiclane_http3::{Code, Config, Connection, DataHeader, Input, Opened, Prepared, Role};

use crate::h3_memory::{End, Pipe, connection, ready};
use crate::support::{Said, recv};

/// Exchanges in each direction. Each carries a list of fields both ways, which makes 100,000.
const EXCHANGES: u64 = 50_000;

/// One exchange, all of it legal.
struct Message {
    path: String,
    status: u16,
    request: Vec<(String, Vec<u8>)>,
    response: Vec<(String, Vec<u8>)>,
    content: Vec<u8>,
}

impl Message {
    fn generate(seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |end: usize| {
            // xorshift64*
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            let number = state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
            usize::try_from(number).unwrap() % end
        };
        let path = format!("/{}", "a/b-c?d=%20".repeat(below(5)));
        let status = [200, 204, 206, 301, 404, 418, 500, 503, 599][below(9)];
        let mut fields = || {
            let names = ["accept", "cookie", "content-type", "server", "x-a", "x-frame-options"];
            let values = ["*/*", "", "text/plain", "gzip, deflate, br", "deny", "1; mode=block"];
            let mut all = Vec::new();
            for _ in 0..below(10) {
                let name = match below(3) {
                    0 => format!("x-{}", ["", "long-", "_~!#"][below(3)].repeat(below(9)) + "n"),
                    _ => names[below(names.len())].to_owned(),
                };
                let mut value = match below(2) {
                    0 => values[below(values.len())].as_bytes().to_vec(),
                    _ => (0..below(60)).map(|_| LEGAL[below(LEGAL.len())]).collect(),
                };
                // Whitespace around a value is none of it.
                while value.last().is_some_and(|b| matches!(b, b' ' | b'\t')) {
                    value.pop();
                }
                let blank = value.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
                all.push((name, value.split_off(blank)));
            }
            all
        };
        let (request, response) = (fields(), fields());
        let content = if status == 204 { Vec::new() } else { vec![b'c'; below(2000)] };
        Self { path, status, request, response, content }
    }

    fn prepared(&self) -> (Prepared, Prepared) {
        let mut request = Prepared::request("GET", "https", "example.org", &self.path).unwrap();
        let mut response = Prepared::response(self.status).unwrap();
        for (name, value) in &self.request {
            request.push(name.as_bytes(), value).unwrap();
        }
        for (name, value) in &self.response {
            response.push(name.as_bytes(), value).unwrap();
        }
        (request, response)
    }
}

/// What a value may have: some of the visible letters, blanks, and bytes beyond ASCII.
const LEGAL: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789 \t-_.~!?*'()&=+$,/:;@%\"<>[]{}|\\^`#\
    ABCXYZ\x80\xff";

/// h3 keeps fields of one name together; so compare them by name.
fn sorted(fields: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    let mut fields = fields.to_vec();
    fields.sort_by(|a, b| a.0.cmp(&b.0));
    fields
}

fn of_map(map: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let pairs = map.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
    sorted(&pairs.collect::<Vec<_>>())
}

fn of_said(fields: &[(String, String)]) -> Vec<(String, Vec<u8>)> {
    let bytes = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect();
    let pairs = fields.iter().map(|(name, value)| (name.clone(), bytes(value)));
    sorted(&pairs.collect::<Vec<_>>())
}

fn to_map(fields: &[(String, Vec<u8>)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        map.append(name, HeaderValue::from_bytes(value).unwrap());
    }
    map
}

/// Our side of a connection in memory: its control stream is open and theirs is read.
struct Ours {
    conn: Connection,
    end: End,
    unis: Vec<(u64, Pipe)>,
}

impl Ours {
    fn new(role: Role, end: End) -> Self {
        let mut conn = Connection::new(role, Config::default());
        let (stream, pipe) = end.open_uni();
        conn.control_opened(stream);
        pipe.write(Bytes::copy_from_slice(conn.control_bytes()));
        conn.control_written(conn.control_bytes().len());
        Self { conn, end, unis: Vec::new() }
    }

    fn read_unis(&mut self) {
        while let Some((stream, pipe)) = self.end.accept_uni() {
            assert_eq!(self.conn.opened(stream), Ok(Opened::Accepted));
            self.unis.push((stream, pipe));
        }
        for (stream, pipe) in &self.unis {
            for said in recv(&mut self.conn, *stream, Input::new(&pipe.take().0)) {
                // h3 opens a stream of a reserved type too.
                let stop = Said::Stop(Code::StreamCreationError);
                assert!(said == Said::Settings || said == stop, "{said:?}");
            }
        }
    }
}

#[test]
fn h3_answers_what_we_ask() {
    let (ours, theirs) = connection();
    let mut client = Ours::new(Role::Client, ours);
    let mut server = ready(h3::server::builder().send_grease(true).build(theirs)).unwrap();
    for seed in 0..EXCHANGES {
        let message = Message::generate(seed);
        let (stream, to, from) = client.end.open_bidi();
        client.conn.request(stream, &message.prepared().0).unwrap();
        client.conn.finished(stream);
        to.write(Bytes::copy_from_slice(message.prepared().0.frame()));
        to.finish();

        let resolver = ready(server.accept()).unwrap().unwrap();
        let (request, mut answer) = ready(resolver.resolve_request()).unwrap();
        assert_eq!(request.uri().path_and_query().unwrap().as_str(), message.path);
        assert_eq!(of_map(request.headers()), sorted(&message.request), "seed {seed}");
        assert!(ready(answer.recv_data()).unwrap().is_none());
        let mut response = http::Response::builder().status(message.status).body(()).unwrap();
        *response.headers_mut() = to_map(&message.response);
        ready(answer.send_response(response)).unwrap();
        if !message.content.is_empty() {
            ready(answer.send_data(Bytes::from(message.content.clone()))).unwrap();
        }
        ready(answer.finish()).unwrap();

        client.read_unis();
        let (bytes, is_over) = from.take();
        assert!(is_over);
        let said = recv(&mut client.conn, stream, Input::last(&bytes));
        let Some(Said::Response(status, fields)) = said.first() else { panic!("{said:?}") };
        assert_eq!(*status, message.status);
        assert_eq!(of_said(fields), sorted(&message.response), "seed {seed}");
        content_follows(&said[1..], &message);
    }
    assert_eq!((client.conn.exchanges(), client.conn.glitches()), (0, 0));
}

#[test]
fn we_answer_what_h3_asks() {
    let (theirs, ours) = connection();
    let mut server = Ours::new(Role::Server, ours);
    let (_driver, mut client) =
        ready(h3::client::builder().send_grease(true).build::<_, _, Bytes>(theirs)).unwrap();
    for seed in 0..EXCHANGES {
        let message = Message::generate(seed);
        let uri = format!("https://example.org{}", message.path);
        let mut request = http::Request::get(uri).body(()).unwrap();
        *request.headers_mut() = to_map(&message.request);
        let mut asking = ready(client.send_request(request)).unwrap();
        ready(asking.finish()).unwrap();

        server.read_unis();
        let (stream, from, to) = server.end.accept_bidi().unwrap();
        assert_eq!(server.conn.opened(stream), Ok(Opened::Accepted));
        let said = recv(&mut server.conn, stream, Input::last(&from.take().0));
        let [Said::Request { line, fields }, Said::Finished] = &said[..] else {
            panic!("{said:?}")
        };
        assert_eq!(line[..], ["GET", "https", "example.org", &message.path]);
        assert_eq!(of_said(fields), sorted(&message.request), "seed {seed}");
        let response = message.prepared().1;
        server.conn.respond(stream, &response).unwrap();
        server.conn.finished(stream);
        to.write(Bytes::copy_from_slice(response.frame()));
        if !message.content.is_empty() {
            let header = DataHeader::new(message.content.len() as u64);
            to.write(Bytes::copy_from_slice(header.as_bytes()));
            to.write(Bytes::from(message.content.clone()));
        }
        to.finish();

        let response = ready(asking.recv_response()).unwrap();
        assert_eq!(response.status(), message.status);
        assert_eq!(of_map(response.headers()), sorted(&message.response), "seed {seed}");
        let mut content = Vec::new();
        while let Some(mut data) = ready(asking.recv_data()).unwrap() {
            content.extend_from_slice(&data.copy_to_bytes(data.remaining()));
        }
        assert_eq!(content, message.content);
    }
    assert_eq!((server.conn.exchanges(), server.conn.glitches()), (0, 0));
}

fn content_follows(said: &[Said], message: &Message) {
    match said {
        [Said::Finished] => assert!(message.content.is_empty()),
        [Said::Data(content), Said::Finished] => assert_eq!(*content, message.content),
        other => panic!("{other:?}"),
    }
}
