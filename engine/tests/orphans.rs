//! orphans floods one worker with packets of connections that are gone: how many it answers.
//!
//! ```text
//!   cargo test --release --workspace --test orphans -- --nocapture
//! ```
//!
//! Answers a second of the worker's CPU time, kernel included: on loopback an answer is delivered
//! to the socket of its receiver on that time too. The sender has the next core, and sends one
//! datagram at a time, so nothing is merged. Nobody reads the answers: the queues they end in are
//! short, so that it is not the receivers' memory that is measured.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]
#![expect(clippy::print_stdout, reason = "the figure is worth reading")]

mod common;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use common::relay::server_with_orphans;
use common::{Served, law_holds, total};
use core_affinity::CoreId;
use quiclane::{Config, Io, Steering, clock};
use socket2::SockRef;

/// Sends each packet from each socket in turn until told to stop; returns how many left.
fn send(target: SocketAddr, packets: &[Vec<u8>], stop: &AtomicBool) -> u64 {
    let sockets = (0..SOURCES).map(|_| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(target).unwrap();
        SockRef::from(&socket).set_recv_buffer_size(0).unwrap();
        socket
    });
    let sockets: Vec<_> = sockets.collect();
    let mut sent = 0;
    loop {
        for packet in packets {
            for socket in &sockets {
                if stop.load(Ordering::Relaxed) {
                    return sent;
                }
                sent += u64::from(socket.send(packet).is_ok());
            }
        }
    }
}

/// How long the first worker of this process has run.
fn worker_time() -> Duration {
    let threads = fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let is_worker = |path: &std::path::PathBuf| {
        fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "quiclane-0")
    };
    let worker = threads.into_iter().find(is_worker).unwrap();
    let times = fs::read_to_string(worker.join("schedstat")).unwrap();
    Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
}

fn answers(server: &Served) -> u64 {
    total(&server.snapshots(), |s| s.resets_sent)
}

fn flood(io: Io) {
    let state = tempfile::tempdir().unwrap();
    let cores: Vec<_> = core_affinity::get_core_ids().unwrap().iter().map(|core| core.id).collect();
    let (server, orphans) =
        server_with_orphans("127.0.0.1:0", CONNECTIONS, state.path(), |config: &mut Config| {
            let server = config.server.as_mut().unwrap();
            server.steering = Steering::Hash;
            (config.io, config.workers, config.cores) = (io, 1, vec![cores[0]]);
            // Open: neither of them is reached.
            (config.limits.resets_per_s, config.limits.prefix_resets_per_s) = (OPEN, OPEN);
        });
    let stop = Arc::new(AtomicBool::new(false));
    let (target, stopped) = (server.address(), Arc::clone(&stop));
    let core = cores[1 % cores.len()];
    let sender = thread::spawn(move || {
        core_affinity::set_for_current(CoreId { id: core });
        send(target, &orphans, &stopped)
    });
    thread::sleep(Duration::from_millis(300));
    let (start, before) = (clock::now(), (answers(&server), worker_time()));
    thread::sleep(LENGTH);
    let (length, after) = (start.elapsed(), (answers(&server), worker_time()));
    stop.store(true, Ordering::Relaxed);
    let sent = sender.join().unwrap();
    let (answered, time) = (after.0 - before.0, after.1 - before.1);
    let rate = answered as f64 / time.as_secs_f64();
    println!(
        "{io:?}: {answered} answers in {:.2} s, {rate:.0} a second of the worker's CPU time, which \
         was busy for {:.0} %; {sent} packets sent in all",
        length.as_secs_f64(),
        100.0 * time.as_secs_f64() / length.as_secs_f64()
    );
    let snapshots = server.finish();
    law_holds(&snapshots);
    assert!(answered > 10_000, "the flood must arrive");
    assert!(rate > RATE_MIN, "{rate:.0} a second of CPU time");
}

#[test]
fn orphans_are_answered_fast() {
    flood(Io::Uring);
    flood(Io::Epoll);
}

/// Beyond any rate that loopback carries.
const OPEN: u32 = 100_000_000;
/// With [`SOURCES`] so many pairs that none comes again within the tenth of a second in which a
/// connection is answered once, up to 490,000 packets a second.
const CONNECTIONS: usize = 64;
const SOURCES: usize = 768;
const LENGTH: Duration = Duration::from_secs(2);
/// A quarter of what an unoptimised build did on a machine with six other things to do, a sixth of
/// a release build there.
const RATE_MIN: f64 = 30_000.0;
