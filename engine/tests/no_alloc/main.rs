//! In a steady echo and with HTTP/3 requests for the same thing our rooms allocate nothing; what
//! quinn-proto allocates is its own business.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

#[path = "../common/mod.rs"]
mod common;

mod allocations;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use allocations::LOOKS;
use bytes::Bytes;
use common::Certificate;
use quiclane::apps::http3::{Options, Prepared, Site, SiteOptions};
use quiclane::apps::{Echo, Http3, Protocols};
use quiclane::{
    App, ClientTls, Config, Conn, ConnId, DatagramError, Dir, Engine, Io, Lane, Provider, Read,
    ServerConfig, Steering, StreamId, Target, Trust,
};

/// What the client keeps going.
#[derive(Clone, Copy)]
struct Traffic {
    name: &'static str,
    connections: usize,
    /// On each connection, each for ever unless `a_stream_each`.
    streams: usize,
    message_bytes: usize,
    /// Messages under way on each stream.
    pipelined: usize,
    /// Whether every message has a stream of its own.
    a_stream_each: bool,
    /// Whether each message is an HTTP/3 request for 1 KiB.
    http3: bool,
    /// Datagrams under way on each connection.
    datagrams: usize,
    /// Messages and datagrams that come back before counting starts: tables and queues reach their
    /// size.
    warm_up: usize,
    /// Messages and datagrams in each look.
    watched: usize,
}

const PING_PONG: Traffic = Traffic {
    name: "ping-pong",
    connections: 1,
    streams: 1,
    message_bytes: 1_000,
    pipelined: 1,
    a_stream_each: false,
    http3: false,
    datagrams: 0,
    warm_up: 500,
    watched: 300,
};

const ALL: &[Traffic] = &[
    PING_PONG,
    Traffic {
        name: "many connections with many streams",
        connections: 30,
        streams: 8,
        message_bytes: 300,
        warm_up: 20_000,
        watched: 2_000,
        ..PING_PONG
    },
    Traffic {
        name: "small messages, pipelined",
        connections: 4,
        streams: 10,
        message_bytes: 50,
        pipelined: 16,
        warm_up: 50_000,
        watched: 5_000,
        ..PING_PONG
    },
    Traffic {
        name: "a stream for each message",
        connections: 4,
        streams: 10,
        message_bytes: 200,
        a_stream_each: true,
        warm_up: 20_000,
        watched: 1_000,
        ..PING_PONG
    },
    Traffic {
        name: "HTTP/3 requests",
        connections: 4,
        streams: 10,
        a_stream_each: true,
        http3: true,
        warm_up: 20_000,
        watched: 1_000,
        ..PING_PONG
    },
    Traffic {
        name: "datagrams",
        connections: 4,
        streams: 0,
        datagrams: 16,
        warm_up: 20_000,
        watched: 30_000,
        ..PING_PONG
    },
    Traffic {
        name: "bulk, both ways at once",
        connections: 2,
        streams: 2,
        message_bytes: BULK.len(),
        pipelined: 8,
        warm_up: 2_000,
        watched: 300,
        ..PING_PONG
    },
];

static BULK: [u8; 60_000] = [0; 60_000];

/// One stream of the client.
struct Exchange {
    to_send: usize,
    /// Bytes of the message that is on its way back.
    got: usize,
}

/// Keeps the traffic going and says when enough has come back.
struct Driver {
    target: Target,
    traffic: Traffic,
    message: Bytes,
    started: bool,
    streams: BTreeMap<(ConnId, StreamId), Exchange>,
    back: usize,
    report: mpsc::Sender<()>,
}

impl Driver {
    fn open(&mut self, conn: &mut Conn<'_>) {
        let Some(stream) = conn.open(Dir::Bi) else { return };
        let to_send = self.traffic.pipelined * self.traffic.message_bytes;
        self.streams.insert((conn.id(), stream), Exchange { to_send, got: 0 });
        self.push(conn, stream);
    }

    /// Writes message by message, as an application does.
    fn push(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let Some(exchange) = self.streams.get_mut(&(conn.id(), stream)) else { return };
        while exchange.to_send > 0 {
            let bytes = exchange.to_send.min(self.traffic.message_bytes);
            let mut message = self.message.slice(..bytes);
            let Ok(written) = conn.write(stream, &mut message) else { return };
            exchange.to_send -= written;
        }
        if self.traffic.a_stream_each {
            let _ = conn.finish(stream);
        }
    }

    fn came_back(&mut self, messages: usize) {
        let looks =
            |back: usize| back.checked_sub(self.traffic.warm_up).map(|n| n / self.traffic.watched);
        let before = looks(self.back);
        self.back += messages;
        match looks(self.back) {
            Some(look) if before != Some(look) => allocations::begin(look),
            _ => {}
        }
    }

    fn is_over(&self) -> bool {
        self.back >= self.traffic.warm_up + LOOKS * self.traffic.watched
    }
}

impl App for Driver {
    fn turn(&mut self, lane: &mut Lane<'_>) {
        if !std::mem::replace(&mut self.started, true) {
            for _ in 0..self.traffic.connections {
                lane.connect(&self.target).unwrap();
            }
        }
        if self.is_over() {
            let _ = self.report.send(());
            lane.finish();
        }
    }

    fn connected(&mut self, conn: &mut Conn<'_>) {
        for _ in 0..self.traffic.streams {
            self.open(conn);
        }
        for _ in 0..self.traffic.datagrams {
            conn.send_datagram(Bytes::from_static(&BULK[..1_000])).unwrap();
        }
    }

    fn available(&mut self, conn: &mut Conn<'_>, _dir: Dir) {
        let open = self.streams.keys().filter(|(id, _)| *id == conn.id()).count();
        for _ in open..self.traffic.streams {
            self.open(conn);
        }
    }

    fn writable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        self.push(conn, stream);
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let mut got = 0;
        let read = conn.read(stream, usize::MAX, |bytes| got += bytes.len());
        if self.traffic.a_stream_each {
            if read == Ok(Read::Finished) {
                self.streams.remove(&(conn.id(), stream));
                self.came_back(1);
                self.open(conn);
            }
            return;
        }
        let Some(exchange) = self.streams.get_mut(&(conn.id(), stream)) else { return };
        exchange.got += got;
        let messages = exchange.got / self.traffic.message_bytes;
        exchange.got %= self.traffic.message_bytes;
        exchange.to_send += messages * self.traffic.message_bytes;
        self.came_back(messages);
        self.push(conn, stream);
    }

    fn datagrams_received(&mut self, conn: &mut Conn<'_>) {
        while let Some(datagram) = conn.recv_datagram() {
            self.came_back(1);
            match conn.send_datagram(datagram) {
                Ok(()) | Err(DatagramError::Blocked(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn run(mut traffic: Traffic, io: Io, steering: Steering) {
    let mut message = Bytes::from_static(&BULK);
    if traffic.http3 {
        let get = Prepared::request("GET", "https", "localhost", "/bytes/1024").unwrap();
        message = Bytes::copy_from_slice(get.frame());
        traffic.message_bytes = message.len();
    }
    let alpn = if traffic.http3 { "h3" } else { "echo" };
    let certificate = Certificate::new();
    let tls = certificate.server(&[alpn], false);
    let listen = "127.0.0.1:0".parse().unwrap();
    let server = ServerConfig { steering, ..ServerConfig::new(listen, tls) };
    let config = Config { server: Some(server), workers: 2, io, ..Config::default() };
    let server = Engine::start(config, |_| {
        let site = Site::new(None, SiteOptions::default());
        let http3: Box<dyn App> = Box::new(Http3::serving(site, Options::default()));
        let echo: Box<dyn App> = Box::new(Echo::new());
        Protocols::new(vec![(b"echo".to_vec(), echo), (b"h3".to_vec(), http3)])
    })
    .unwrap();
    let trust = Trust::Roots(certificate.roots());
    let alpn = vec![alpn.as_bytes().to_vec()];
    let target = Target {
        address: server.listen()[0],
        server_name: "localhost".into(),
        tls: ClientTls::new(Provider::AwsLcRs, trust, alpn, quiclane::Resume::Off).unwrap(),
        local: None,
    };
    let (report, reports) = mpsc::channel();
    let config = Config { workers: 1, io, ..Config::default() };
    let client = Engine::start(config, move |_| Driver {
        target: target.clone(),
        traffic,
        message: message.clone(),
        started: false,
        streams: BTreeMap::new(),
        back: 0,
        report: report.clone(),
    })
    .unwrap();
    reports.recv_timeout(Duration::from_secs(60)).unwrap();
    client.join().unwrap();
    server.stop(Duration::ZERO);
    server.join().unwrap();
    allocations::none_of_ours(&format!("{}, {io:?}, {steering:?}", traffic.name));
}

#[test]
fn steady_traffic_allocates_nothing_of_ours() {
    allocations::look_away();
    for io in [Io::Epoll, Io::Uring] {
        for traffic in ALL {
            run(*traffic, io, Steering::Auto);
        }
        // Where the kernel knows no connections, workers toss each other's datagrams home.
        run(ALL[1], io, Steering::Hash);
    }
}
