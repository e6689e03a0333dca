//! mirror is a server that echoes streams and a client that verifies every byte of the echo.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use quiclane::{
    App, ClientTls, CloseReason, Conn, ConnId, Dir, Lane, Provider, Read, Resume, ServerTls,
    StreamId, Target, Trust, VarInt, WriteError,
};

/// Answers every stream with its own bytes.
#[derive(Default)]
pub(crate) struct Mirror {
    pending: BTreeMap<(ConnId, StreamId), (Vec<Bytes>, bool)>,
}

impl Mirror {
    pub(crate) fn push(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let Some((chunks, ended)) = self.pending.get_mut(&(conn.id(), stream)) else { return };
        while let Some(chunk) = chunks.first_mut() {
            match conn.write(stream, chunk) {
                Ok(_) if chunk.is_empty() => drop(chunks.remove(0)),
                Ok(_) => {}
                Err(WriteError::Blocked) => return,
                Err(_) => {
                    self.pending.remove(&(conn.id(), stream));
                    return;
                }
            }
        }
        if *ended {
            conn.finish(stream).unwrap();
            self.pending.remove(&(conn.id(), stream));
        }
    }
}

impl App for Mirror {
    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let (chunks, ended) = self.pending.entry((conn.id(), stream)).or_default();
        match conn.read(stream, usize::MAX, |bytes| chunks.push(bytes)) {
            Ok(Read::Finished) => *ended = true,
            Ok(Read::Reset(_)) => {
                self.pending.remove(&(conn.id(), stream));
                let _ = conn.reset(stream, VarInt::from_u32(0));
            }
            Ok(_) | Err(_) => {}
        }
        self.push(conn, stream);
    }

    fn writable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        self.push(conn, stream);
    }

    fn closed(&mut self, id: ConnId, _reason: &CloseReason) {
        self.pending.retain(|(conn, _), _| *conn != id);
    }
}

#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) verified: usize,
    pub(crate) closed: Vec<String>,
    /// Of the closed ones, those that did not finish their work.
    pub(crate) failures: Vec<Failure>,
}

/// A connection that was lost before every stream was verified.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) why: String,
    /// Whether its handshake was complete for the client.
    pub(crate) connected: bool,
    /// Streams whose echo came back whole.
    pub(crate) verified: usize,
}

/// Opens connections and, on each, streams whose echo it verifies byte by byte.
pub(crate) struct Asker {
    target: Target,
    connections: usize,
    sizes: Vec<usize>,
    streams: BTreeMap<(ConnId, StreamId), (Bytes, usize, usize)>,
    left: BTreeMap<ConnId, Vec<usize>>,
    /// Verified streams of each connection whose handshake is complete.
    verified: BTreeMap<ConnId, usize>,
    outcome: Rc<RefCell<Outcome>>,
}

impl Asker {
    /// A client that opens `connections` to `address` and streams of `sizes` bytes on each.
    pub(crate) fn new(
        tls: &ClientTls,
        address: SocketAddr,
        connections: usize,
        sizes: &[usize],
        outcome: &Rc<RefCell<Outcome>>,
    ) -> Self {
        let tls = tls.clone();
        Self {
            target: Target { address, server_name: "sim".into(), tls, local: None },
            connections,
            sizes: sizes.to_vec(),
            streams: BTreeMap::new(),
            left: BTreeMap::new(),
            verified: BTreeMap::new(),
            outcome: Rc::clone(outcome),
        }
    }

    pub(crate) fn open(&mut self, conn: &mut Conn<'_>) {
        let Some(left) = self.left.get_mut(&conn.id()) else { return };
        while let Some(size) = left.pop() {
            let Some(stream) = conn.open(Dir::Bi) else {
                left.push(size);
                return;
            };
            let body: Bytes = (0..size).map(|i| pattern(i, size)).collect();
            self.streams.insert((conn.id(), stream), (body.clone(), 0, size));
            write(conn, stream, self.streams.get_mut(&(conn.id(), stream)).unwrap());
        }
    }
}

/// Byte `at` of a stream of `size` bytes: another pattern for each size.
fn pattern(at: usize, size: usize) -> u8 {
    (at * 7 + size).to_le_bytes()[0]
}

fn write(conn: &mut Conn<'_>, stream: StreamId, state: &mut (Bytes, usize, usize)) {
    while !state.0.is_empty() {
        match conn.write(stream, &mut state.0) {
            Ok(_) => {}
            Err(WriteError::Blocked) => return,
            Err(error) => panic!("{error}"),
        }
    }
    let _ = conn.finish(stream);
}

impl App for Asker {
    fn turn(&mut self, lane: &mut Lane<'_>) {
        while self.connections > 0 {
            self.connections -= 1;
            let id = lane.connect(&self.target).unwrap();
            self.left.insert(id, self.sizes.clone());
        }
    }

    fn connected(&mut self, conn: &mut Conn<'_>) {
        self.verified.insert(conn.id(), 0);
        self.open(conn);
    }

    fn available(&mut self, conn: &mut Conn<'_>, _dir: Dir) {
        self.open(conn);
    }

    fn writable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        if let Some(state) = self.streams.get_mut(&(conn.id(), stream)) {
            write(conn, stream, state);
        }
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let Some((_, seen, size)) = self.streams.get_mut(&(conn.id(), stream)) else { return };
        let read = conn.read(stream, usize::MAX, |bytes| {
            for byte in bytes {
                assert_eq!(byte, pattern(*seen, *size), "echo differs at {seen}");
                *seen += 1;
            }
        });
        if read == Ok(Read::Finished) {
            assert_eq!(seen, size);
            self.streams.remove(&(conn.id(), stream));
            self.outcome.borrow_mut().verified += 1;
            *self.verified.get_mut(&conn.id()).unwrap() += 1;
            let done = self.left[&conn.id()].is_empty()
                && !self.streams.keys().any(|(id, _)| *id == conn.id());
            if done {
                conn.close(VarInt::from_u32(0), "done");
            }
        }
    }

    fn closed(&mut self, id: ConnId, reason: &CloseReason) {
        let mut outcome = self.outcome.borrow_mut();
        outcome.closed.push(reason.to_string());
        let verified = self.verified.get(&id).copied();
        if verified != Some(self.sizes.len()) {
            let (connected, verified) = (verified.is_some(), verified.unwrap_or(0));
            outcome.failures.push(Failure { why: reason.to_string(), connected, verified });
        }
    }
}

/// Certificates whose signatures always have the same length, or traces would differ.
pub(crate) struct Tls {
    pub(crate) server: ServerTls,
    pub(crate) client: ClientTls,
}

impl Tls {
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let params = rcgen::CertificateParams::new(["sim".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap();
        let alpn = vec![b"mirror".to_vec()];
        let server = ServerTls::new(
            Provider::AwsLcRs,
            vec![cert.der().clone()],
            key.serialize_der().try_into().unwrap(),
            alpn.clone(),
            false,
        );
        let client = ClientTls::new(Provider::AwsLcRs, Trust::Insecure, alpn, Resume::Off);
        Self { server: server.unwrap(), client: client.unwrap() }
    }
}
