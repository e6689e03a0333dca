//! reborn restarts a server that keeps its certificate and key: a client learns that its connection
//! is gone all the same, and the next one shares nothing with it.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod common;

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use common::{Certificate, Served, law_holds, perf_server_as, runtime, wait_until};
use quiclane::{
    App, ClientTls, CloseReason, Config, Conn, ConnId, Dir, Engine, Io, Lane, Provider, Read,
    Resume, StreamId, Target, Trust,
};
use quiclane_wire::{RESET_LEN_MAX, TOKEN_LEN};

/// Holds a connection, asks once over each, and connects anew whenever it is gone.
struct Phoenix {
    target: Target,
    connection: Option<ConnId>,
    told: Arc<Mutex<Vec<Told>>>,
}

/// What the app is told.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Told {
    Connected(ConnId),
    Answered,
    Closed(ConnId, CloseReason),
}

impl Phoenix {
    fn note(&self, told: Told) {
        self.told.lock().unwrap().push(told);
    }
}

impl App for Phoenix {
    fn turn(&mut self, lane: &mut Lane<'_>) {
        if self.connection.is_none() {
            self.connection = Some(lane.connect(&self.target).unwrap());
        }
    }

    fn connected(&mut self, conn: &mut Conn<'_>) {
        self.note(Told::Connected(conn.id()));
        let stream = conn.open(Dir::Bi).unwrap();
        conn.write(stream, &mut Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 5])).unwrap();
        conn.finish(stream).unwrap();
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        if conn.read(stream, 100, |_| ()) == Ok(Read::Finished) {
            self.note(Told::Answered);
        }
    }

    fn closed(&mut self, id: ConnId, reason: &CloseReason) {
        self.note(Told::Closed(id, reason.clone()));
        self.connection = None;
    }
}

/// Stands between client and server, so that a server can go without a word, as one that is killed.
struct Wire {
    front: UdpSocket,
    back: UdpSocket,
    state: Mutex<State>,
}

struct State {
    server: SocketAddr,
    client: Option<SocketAddr>,
    /// Whether the server is heard.
    open: bool,
    from_client: Vec<Vec<u8>>,
    from_server: Vec<Vec<u8>>,
}

impl Wire {
    fn to(server: SocketAddr) -> Arc<Self> {
        let [front, back] = [0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
        let (from_client, from_server) = (Vec::new(), Vec::new());
        let state = State { server, client: None, open: true, from_client, from_server };
        let wire = Arc::new(Self { front, back, state: Mutex::new(state) });
        let (there, here) = (Arc::clone(&wire), Arc::clone(&wire));
        thread::spawn(move || there.carry_there());
        thread::spawn(move || here.carry_back());
        wire
    }

    fn carry_there(&self) {
        let mut buffer = [0; 65_536];
        loop {
            let (len, from) = self.front.recv_from(&mut buffer).unwrap();
            let mut state = self.state.lock().unwrap();
            state.client = Some(from);
            state.from_client.push(buffer[..len].to_vec());
            let _ = self.back.send_to(&buffer[..len], state.server);
        }
    }

    fn carry_back(&self) {
        let mut buffer = [0; 65_536];
        loop {
            let (len, from) = self.back.recv_from(&mut buffer).unwrap();
            let mut state = self.state.lock().unwrap();
            if let Some(client) = state.client.filter(|_| state.open && from == state.server) {
                state.from_server.push(buffer[..len].to_vec());
                let _ = self.front.send_to(&buffer[..len], client);
            }
        }
    }

    /// What was carried since it was last asked for.
    fn seen(&self) -> Seen {
        let mut state = self.state.lock().unwrap();
        let from_client = std::mem::take(&mut state.from_client);
        let from_server = std::mem::take(&mut state.from_server);
        let (long, short): (Vec<_>, Vec<_>) =
            from_client.into_iter().partition(|packet| packet[0] & 0x80 != 0);
        // The ID that the client chose for the server, and its own: lengths in front of them.
        let chosen = |packet: &Vec<u8>| packet[6..6 + usize::from(packet[5])].to_vec();
        let own = |packet: &Vec<u8>| {
            let at = 6 + usize::from(packet[5]);
            packet[at + 1..at + 1 + usize::from(packet[at])].to_vec()
        };
        Seen {
            servers_ids: short.iter().map(|packet| packet[1..13].to_vec()).collect(),
            clients_ids: long.iter().flat_map(|packet| [chosen(packet), own(packet)]).collect(),
            // Before the first packet of a handshake there is nothing but the reset.
            resets: from_server.into_iter().take_while(|packet| packet[0] & 0x80 == 0).collect(),
        }
    }
}

/// What an observer saw of one life of the server.
struct Seen {
    /// Connection IDs that the client addressed the server by, once connected.
    servers_ids: HashSet<Vec<u8>>,
    /// Those in its handshakes: what it chose for the server, and its own.
    clients_ids: HashSet<Vec<u8>>,
    /// Packets of the server before the first handshake.
    resets: Vec<Vec<u8>>,
}

fn start(folder: &Path, io: Io) -> Served {
    perf_server_as(Certificate::load(folder), "127.0.0.1:0", 2, |config| {
        config.io = io;
        config.server.as_mut().unwrap().state_dir = Some(folder.join("state"));
    })
}

fn client(
    certificate: &Certificate,
    address: SocketAddr,
    io: Io,
) -> (Engine, Arc<Mutex<Vec<Told>>>) {
    let (trust, alpn) = (Trust::Roots(certificate.roots()), vec![b"perf".to_vec()]);
    // With session tickets: what survives must not make the old connection live.
    let tls = ClientTls::new(Provider::AwsLcRs, trust, alpn, Resume::ZeroRtt).unwrap();
    let target = Target { address, server_name: "localhost".into(), tls, local: None };
    let told = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&told);
    let mut config = Config { workers: 1, io, ..Config::default() };
    config.transport.keep_alive = Some(Duration::from_millis(50));
    let engine = Engine::start(config, move |_| Phoenix {
        target: target.clone(),
        connection: None,
        told: Arc::clone(&shared),
    });
    (engine.unwrap(), told)
}

fn the_same_certificate_is_not_the_same_connection_by(io: Io) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::new();
    certificate.save(folder.path());
    let mut server = start(folder.path(), io);
    let wire = Wire::to(server.address());
    let (engine, told) = client(&certificate, wire.front.local_addr().unwrap(), io);
    let answers = |count: usize| {
        let answered =
            || told.lock().unwrap().iter().filter(|told| **told == Told::Answered).count();
        runtime().block_on(wait_until(|| answered() == count));
        // It goes on to be held for a while.
        thread::sleep(Duration::from_millis(200));
    };
    answers(1);
    let mut lives = vec![wire.seen()];
    for life in 2..=3 {
        wire.state.lock().unwrap().open = false;
        law_holds(&server.finish());
        server = start(folder.path(), io);
        // The client sent on, to nobody; from here on it is heard and answered.
        wire.seen();
        let mut state = wire.state.lock().unwrap();
        (state.server, state.open) = (server.address(), true);
        drop(state);
        answers(life);
        lives.push(wire.seen());
    }
    engine.stop(Duration::ZERO);
    engine.join().unwrap();
    law_holds(&server.finish());

    let told = told.lock().unwrap();
    let [first, second, third] = [0, 3, 6].map(|at| match told[at] {
        Told::Connected(id) => id,
        _ => panic!("{told:?}"),
    });
    let reset = |id| Told::Closed(id, CloseReason::StatelessReset);
    let expected = [reset(first), Told::Connected(second), reset(second), Told::Connected(third)];
    let changes = told[1..].iter().filter(|told| **told != Told::Answered);
    assert!(changes.take(4).eq(&expected), "{told:?}");
    assert!(first != second && second != third && first != third);

    let tokens: Vec<_> = lives[1..]
        .iter()
        .map(|life| {
            let reset = &life.resets[0];
            assert!(reset.len() <= RESET_LEN_MAX, "{} bytes", reset.len());
            reset.last_chunk::<TOKEN_LEN>().unwrap()
        })
        .collect();
    assert_ne!(tokens[0], tokens[1], "each connection has a token of its own");
    // What was sent to the dead connection is seen at the beginning of the next life.
    for (before, after) in lives.iter().zip(&lives[1..]) {
        let new = after.servers_ids.difference(&before.servers_ids).count();
        assert!(new > 0, "the new connection has an ID of its own");
        assert!(before.clients_ids.is_disjoint(&after.clients_ids));
        assert!(!after.clients_ids.is_empty());
    }
    assert!(lives[0].servers_ids.is_disjoint(&lives[2].servers_ids));
}

#[test]
fn the_same_certificate_is_not_the_same_connection() {
    the_same_certificate_is_not_the_same_connection_by(Io::Epoll);
    the_same_certificate_is_not_the_same_connection_by(Io::Uring);
}
