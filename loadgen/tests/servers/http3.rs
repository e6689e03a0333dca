//! http3 is an HTTP/3 server of a few lines on the engine, which answers every request alike.

use std::collections::HashMap;

use bytes::Bytes;
use quiclane::{App, CloseReason, Conn, ConnId, Dir, Read, StreamId, VarInt, WriteError};
use quiclane_http3::{Config, Connection, DataHeader, Event, Input, Prepared, Role};

/// Answers with so many bytes. Whatever is wrong ends in a panic.
pub(crate) struct Http3 {
    head: Prepared,
    response: Bytes,
    connections: HashMap<ConnId, Connection>,
}

impl Http3 {
    pub(crate) fn new(response_bytes: usize) -> Self {
        let length = response_bytes.to_string();
        let head = Prepared::response(200).unwrap().with("content-length", length).unwrap();
        let data = DataHeader::new(response_bytes as u64);
        let content = vec![0; response_bytes];
        let response = [head.frame(), data.as_bytes(), &content].concat().into();
        Self { head, response, connections: HashMap::new() }
    }
}

fn id(stream: StreamId) -> u64 {
    VarInt::from(stream).into_inner()
}

impl App for Http3 {
    fn connected(&mut self, conn: &mut Conn<'_>) {
        let mut core = Connection::new(Role::Server, Config::default());
        let control = conn.open(Dir::Uni).unwrap();
        core.control_opened(id(control));
        let mut bytes = Bytes::copy_from_slice(core.control_bytes());
        core.control_written(conn.write(control, &mut bytes).unwrap());
        self.connections.insert(conn.id(), core);
    }

    fn opened(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let core = self.connections.get_mut(&conn.id()).unwrap();
        core.opened(id(stream)).unwrap();
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let Some(core) = self.connections.get_mut(&conn.id()) else { return };
        let mut is_complete = false;
        let read = conn.read(stream, usize::MAX, |chunk| {
            let mut input = Input::new(&chunk);
            while core.recv(id(stream), &mut input).unwrap().is_some() {}
        });
        if read == Ok(Read::Finished) {
            let event = core.recv(id(stream), &mut Input::end()).unwrap();
            is_complete = matches!(event, Some(Event::Finished));
        }
        if is_complete {
            core.respond(id(stream), &self.head).unwrap();
            let mut response = self.response.clone();
            match conn.write(stream, &mut response) {
                Ok(_) => assert!(response.is_empty(), "written at once"),
                // A load that is stopped gives up what is under way: by itself, or by closing,
                // after which nothing is writable again.
                Err(WriteError::Stopped(_) | WriteError::Blocked) => return,
                Err(error) => panic!("{error}"),
            }
            conn.finish(stream).unwrap();
            core.finished(id(stream));
        }
    }

    fn writable(&mut self, _conn: &mut Conn<'_>, _stream: StreamId) {
        panic!("written at once");
    }

    fn closed(&mut self, id: ConnId, _reason: &CloseReason) {
        self.connections.remove(&id);
    }
}
