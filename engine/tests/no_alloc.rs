//! In a steady echo our rooms allocate nothing; what quinn-proto allocates is its own business.
//!
//! Every allocation of the workers' threads after warm-up is captured with its call stack and
//! charged to the innermost crate on it that is quinn-proto, rustls or ours.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use bytes::Bytes;
use common::Certificate;
use quiclane::apps::Echo;
use quiclane::{
    App, ClientTls, Config, Conn, Dir, Engine, Io, Lane, Provider, Resume, ServerConfig, StreamId,
    Target, Trust,
};

struct Watching;

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(false) };
}

static ARMED: AtomicBool = AtomicBool::new(false);
static STACKS: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

#[global_allocator]
static ALLOCATOR: Watching = Watching;

// SAFETY: every call is handed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from the system allocator with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn note() {
    if !ARMED.load(Ordering::Relaxed) || !WATCHED.get() {
        return;
    }
    WATCHED.set(false);
    let stack = Backtrace::force_capture();
    let mut stacks = STACKS.lock().unwrap();
    if stacks.len() < STACKS_MAX {
        stacks.push(stack);
    }
    drop(stacks);
    WATCHED.set(true);
}

/// The place of ours that an allocation is charged to. Line tables name files, not crates.
fn charged_to(stack: &Backtrace) -> Option<String> {
    let text = stack.to_string();
    let places = text.lines().filter_map(|line| line.trim().strip_prefix("at "));
    for place in places {
        if place.contains("/quinn-proto-") || place.contains("/rustls-") {
            return None;
        }
        let ours = ["./src/", "/engine/src/", "/datapath/src/", "/wire/src/"];
        if ours.iter().any(|room| place.contains(room)) && !place.contains("/.cargo/") {
            return Some(place.to_owned());
        }
    }
    None
}

/// Sends a message, waits for its echo, and so on; small ones and whole trains in turn.
struct Pinger {
    target: Target,
    started: bool,
    stream: Option<StreamId>,
    to_send: Bytes,
    awaited: usize,
    rounds: usize,
    finished: bool,
    report: mpsc::Sender<()>,
}

static ZEROS: [u8; 60_000] = [0; 60_000];

impl Pinger {
    fn ping(&mut self, conn: &mut Conn<'_>) {
        self.rounds += 1;
        if self.rounds == WARM_UP {
            ARMED.store(true, Ordering::Relaxed);
        }
        if self.rounds == WARM_UP + ROUNDS {
            ARMED.store(false, Ordering::Relaxed);
            self.finished = true;
            return;
        }
        let size = if self.rounds.is_multiple_of(10) { ZEROS.len() } else { 1_000 };
        self.to_send = Bytes::from_static(&ZEROS[..size]);
        self.awaited = size;
        self.push(conn);
    }

    fn push(&mut self, conn: &mut Conn<'_>) {
        let Some(stream) = self.stream else { return };
        while !self.to_send.is_empty() && conn.write(stream, &mut self.to_send).is_ok() {}
    }
}

impl App for Pinger {
    fn turn(&mut self, lane: &mut Lane<'_>) {
        if !std::mem::replace(&mut self.started, true) {
            lane.connect(&self.target).unwrap();
        }
        if self.finished {
            self.report.send(()).unwrap();
            lane.finish();
        }
    }

    fn connected(&mut self, conn: &mut Conn<'_>) {
        self.stream = conn.open(Dir::Bi);
        self.ping(conn);
    }

    fn writable(&mut self, conn: &mut Conn<'_>, _stream: StreamId) {
        self.push(conn);
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let mut got = 0;
        conn.read(stream, usize::MAX, |bytes| got += bytes.len()).unwrap();
        self.awaited -= got;
        if self.awaited == 0 && !self.finished {
            self.ping(conn);
        }
    }
}

fn steady_echo(io: Io) {
    let certificate = Certificate::new();
    let tls = certificate.server(&["echo"], false);
    let server = ServerConfig::new("127.0.0.1:0".parse().unwrap(), tls);
    let config = Config { server: Some(server), workers: 1, io, ..Config::default() };
    let server = Engine::start(config, |_| {
        WATCHED.set(true);
        Echo::new()
    })
    .unwrap();
    let trust = Trust::Roots(certificate.roots());
    let alpn = vec![b"echo".to_vec()];
    let target = Target {
        address: server.listen()[0],
        server_name: "localhost".into(),
        tls: ClientTls::new(Provider::AwsLcRs, trust, alpn, Resume::Off).unwrap(),
        local: None,
    };
    let (report, reports) = mpsc::channel();
    let config = Config { workers: 1, io, ..Config::default() };
    let client = Engine::start(config, move |_| {
        WATCHED.set(true);
        Pinger {
            target: target.clone(),
            started: false,
            stream: None,
            to_send: Bytes::new(),
            awaited: 0,
            rounds: 0,
            finished: false,
            report: report.clone(),
        }
    })
    .unwrap();
    reports.recv_timeout(Duration::from_secs(60)).unwrap();
    client.join().unwrap();
    server.stop(Duration::ZERO);
    server.join().unwrap();
}

#[test]
fn a_steady_echo_allocates_nothing_of_ours() {
    for io in [Io::Epoll, Io::Uring] {
        steady_echo(io);
        let stacks = std::mem::take(&mut *STACKS.lock().unwrap());
        assert!(stacks.len() > 100, "quinn-proto allocates; seeing nothing means not looking");
        let mut ours: Vec<_> = stacks.iter().filter_map(charged_to).collect();
        ours.sort_unstable();
        ours.dedup();
        assert!(ours.is_empty(), "{io:?}: {} allocations seen, ours: {ours:#?}", stacks.len());
    }
}

/// Rounds before counting starts: tables and queues reach their size.
const WARM_UP: usize = 500;
/// Rounds that are watched.
const ROUNDS: usize = 300;
/// Enough to see every place that allocates; each costs a stack walk.
const STACKS_MAX: usize = 4_000;
