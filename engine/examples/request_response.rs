//! A key-value server: requests, responses, and state that belongs to a worker.
//!
//! A client opens a bidirectional stream for each request, writes one line and ends it:
//!
//! ```text
//! SET name value  ─►  OK
//! GET name        ─►  VALUE value  |  NONE
//! anything else   ─►  ERROR why
//! ```
//!
//! Each worker has a store of its own, in an `Rc<RefCell<_>>` without any lock: a worker is one
//! thread, and a connection stays with its worker for life. The price is that connections on
//! different workers see different stores. A real one would either shard its keys and let clients
//! connect to the shard, or share what must be shared behind a lock, held for as short as possible.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use quiclane::{
    App, CloseReason, Config, Conn, ConnId, Engine, Provider, Read, ServerConfig, ServerTls,
    StreamId, VarInt, WriteError,
};

/// The longest request. Whatever a client can make us keep needs a limit.
const REQUEST_BYTES_MAX: usize = 1 << 10;

/// Keys per worker.
const KEYS_MAX: usize = 100_000;

/// The code a stream is reset with when its request is too long.
const TOO_LONG: VarInt = VarInt::from_u32(1);

type Store = Rc<RefCell<HashMap<String, String>>>;

/// The protocol on one worker.
struct KeyValue {
    /// In an `Rc` so that several apps of the worker could share it.
    store: Store,
    /// What is under way, by connection and stream.
    exchanges: HashMap<(ConnId, StreamId), Exchange>,
}

/// A stream's life: first the request grows, then the response shrinks.
enum Exchange {
    Request(Vec<u8>),
    Response(Bytes),
}

impl App for KeyValue {
    /// Comes for every new stream and whenever there is more to read.
    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let fresh = || Exchange::Request(Vec::new());
        let exchange = self.exchanges.entry((conn.id(), stream)).or_insert_with(fresh);
        let Exchange::Request(request) = exchange else { return };

        // One byte more than allowed shows that there is too much. Flow control keeps the rest at
        // the client.
        let room = REQUEST_BYTES_MAX + 1 - request.len();
        let outcome = conn.read(stream, room, |chunk| request.extend_from_slice(&chunk));
        match outcome {
            _ if request.len() > REQUEST_BYTES_MAX => {
                // An error would say that the stream is over already, which is what we want.
                let _ = conn.stop(stream, TOO_LONG);
                let _ = conn.reset(stream, TOO_LONG);
                self.exchanges.remove(&(conn.id(), stream));
            }
            Ok(Read::Finished) => {
                let response = answer(&self.store, request);
                *exchange = Exchange::Response(Bytes::from(response));
                self.respond(conn, stream);
            }
            // The rest of the request is still on its way.
            Ok(Read::More | Read::Blocked) => {}
            // The client gave up.
            Ok(Read::Reset(code)) => {
                let _ = conn.reset(stream, code);
                self.exchanges.remove(&(conn.id(), stream));
            }
            Err(_) => {
                self.exchanges.remove(&(conn.id(), stream));
            }
        }
    }

    /// Comes after a write was blocked.
    fn writable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        self.respond(conn, stream);
    }

    /// The client does not want the response any more.
    fn stopped(&mut self, conn: &mut Conn<'_>, stream: StreamId, code: VarInt) {
        let _ = conn.reset(stream, code);
        self.exchanges.remove(&(conn.id(), stream));
    }

    /// No stream of the connection will be heard of again.
    fn closed(&mut self, id: ConnId, _reason: &CloseReason) {
        self.exchanges.retain(|(connection, _), _| *connection != id);
    }
}

impl KeyValue {
    fn new() -> Self {
        Self { store: Store::default(), exchanges: HashMap::new() }
    }

    /// Writes until all is written or flow control says stop.
    fn respond(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let key = (conn.id(), stream);
        let Some(Exchange::Response(response)) = self.exchanges.get_mut(&key) else { return };
        while !response.is_empty() {
            match conn.write(stream, response) {
                // `write` has taken what it wrote off the front.
                Ok(_) => {}
                Err(WriteError::Blocked) => return,
                Err(_) => break,
            }
        }
        let _ = conn.finish(stream);
        self.exchanges.remove(&key);
    }
}

/// The protocol itself, without any QUIC.
fn answer(store: &Store, request: &[u8]) -> String {
    let Ok(request) = str::from_utf8(request) else {
        return "ERROR not UTF-8\n".to_owned();
    };
    let mut words = request.trim_end().splitn(3, ' ');
    match (words.next(), words.next(), words.next()) {
        (Some("GET"), Some(key), None) => match store.borrow().get(key) {
            Some(value) => format!("VALUE {value}\n"),
            None => "NONE\n".to_owned(),
        },
        (Some("SET"), Some(key), Some(value)) => {
            let mut store = store.borrow_mut();
            if store.len() >= KEYS_MAX && !store.contains_key(key) {
                return "ERROR full\n".to_owned();
            }
            store.insert(key.to_owned(), value.to_owned());
            "OK\n".to_owned()
        }
        _ => "ERROR want GET name, or SET name value\n".to_owned(),
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let chain = vec![certificate.cert.der().clone()];
    let key = certificate.signing_key.serialize_der().try_into()?;
    // The name must be the one that the clients offer.
    let alpn = vec![b"key-value".to_vec()];
    // No early data: a SET that somebody replays would be done twice.
    let tls = ServerTls::new(Provider::default(), chain, key, alpn, false)?;

    let address = std::env::args().nth(1).unwrap_or_else(|| "[::1]:4433".to_owned());
    let server = ServerConfig::new(address.parse()?, tls);
    let config = Config { server: Some(server), ..Config::default() };

    // The factory runs once on each worker's thread, so the app does not have to be `Send`.
    let engine = Engine::start(config, |worker| {
        eprintln!("worker {} of {} is ready", worker.id + 1, worker.workers);
        KeyValue::new()
    })?;
    eprintln!("listening on {}", engine.listen()[0]);
    Ok(engine.join()?)
}
