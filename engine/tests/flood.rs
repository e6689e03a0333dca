//! Random datagrams at full rate: the server lives, a steady client keeps working, memory is flat.
//!
//! `QUICLANE_FLOOD_SECONDS` sets how long each datapath is flooded; 3 by default.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]
#![expect(clippy::print_stdout, reason = "what the flood did is worth reading")]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Served, law_holds, perf_server, total};
use quiclane::Io;

/// Cheap random bytes: xorshift64.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Sends until told to stop; returns how many left.
fn attack(target: SocketAddr, seed: u64, stop: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut noise = Noise(seed);
    let mut sent = 0;
    let mut packet = [0u8; 1_500];
    while !stop.load(Ordering::Relaxed) {
        let length = (noise.next() % 1_501) as usize;
        for word in packet.chunks_exact_mut(8) {
            word.copy_from_slice(&noise.next().to_le_bytes());
        }
        match noise.next() % 4 {
            // Short headers, long headers of version 1, and of any version.
            0 => packet[0] &= 0x7f,
            1 => {
                packet[0] |= 0xc0;
                packet[1..6].copy_from_slice(&[0, 0, 0, 1, 8]);
                packet[14] = 8;
            }
            2 => packet[0] |= 0x80,
            _ => {}
        }
        // A full socket buffer of our own is no reason to stop.
        sent += u64::from(socket.send_to(&packet[..length], target).is_ok());
    }
    sent
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4_096
}

/// A client that asks again and again; returns how often it was answered.
async fn steady(server: &Served, until: Duration) -> u64 {
    let endpoint = common::quinn_client(&server.certificate, server.address(), false);
    let connection = endpoint.connect(server.address(), "localhost").unwrap().await.unwrap();
    let start = quiclane::clock::now();
    let mut answers = 0;
    while start.elapsed() < until {
        common::exchange(&connection, 100, 1_000).await.unwrap();
        answers += 1;
    }
    answers
}

fn flood(io: Io) {
    let seconds = std::env::var("QUICLANE_FLOOD_SECONDS").ok().and_then(|s| s.parse().ok());
    let length = Duration::from_secs(seconds.unwrap_or(3));
    let server = perf_server("127.0.0.1:0", 2, |config| config.io = io);
    let stop = Arc::new(AtomicBool::new(false));
    let (address, stopped) = (server.address(), Arc::clone(&stop));
    let attacker = std::thread::spawn(move || attack(address, 0x9e37_79b9_7f4a_7c15, &stopped));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // A third to warm up, the rest to watch.
    let before = runtime.block_on(steady(&server, length / 3));
    let warm = resident_bytes();
    let after = runtime.block_on(steady(&server, 2 * length / 3));
    let grown = resident_bytes().saturating_sub(warm);
    stop.store(true, Ordering::Relaxed);
    let sent = attacker.join().unwrap();
    let snapshots = server.finish();
    law_holds(&snapshots);
    let junk = total(&snapshots, |s| s.junk);
    println!(
        "{io:?}: {sent} random datagrams sent, {junk} counted as junk, {} answers, \
         {grown} bytes grown",
        before + after
    );
    assert!(junk > 1_000, "the flood must arrive");
    assert!(before > 0 && after >= length.as_secs(), "{before} and {after} answers");
    assert!(grown < GROWTH_MAX, "{grown} bytes grown in {length:?}");
}

#[test]
fn random_datagrams() {
    flood(Io::Epoll);
    flood(Io::Uring);
}

/// Half-open handshakes that the noise opened by chance, and the allocator's slack.
const GROWTH_MAX: u64 = 8 << 20;
