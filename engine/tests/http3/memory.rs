//! memory: what hostile clients make a worker hold, many of them at once.

use std::sync::Arc;
use std::time::Duration;

use quiclane::apps::Http3;
use quiclane::apps::http3::{Counters, Options, Site, SiteOptions};
use quinn::{RecvStream, SendStream};

use crate::common::{app_server_with, law_holds, runtime};
use crate::hostile::text;
use crate::meter::Meter;
use crate::raw::{EXCESSIVE_LOAD, REQUEST_CANCELLED, Raw, get, request};

/// Streams that an attacker does not want to end.
type Open = Vec<(SendStream, RecvStream)>;

/// Runs `attack`, which goes on until it is thrown out with H3_EXCESSIVE_LOAD, first on one
/// connection and then on many at once. The worker may hold under a megabyte for each, counts what
/// happened as `counted`, and serves another connection before, meanwhile and afterwards.
fn bounded<A: AsyncFn(&Raw) -> Open>(attack: A, counted: &[&str]) {
    let (counters, meter) = (Arc::<Counters>::default(), Meter::new());
    let counts = Arc::clone(&counters);
    let server = app_server_with(
        &["h3"],
        |config| config.workers = 1,
        move |_| {
            meter.watch();
            let site = Site::new(None, SiteOptions::default());
            let options = Options { request_timeout: REQUEST_TIMEOUT, ..Options::default() };
            Http3::serving(site, options).counting(Arc::clone(&counts))
        },
    );
    runtime().block_on(async {
        let other = Raw::connect(&server).await;
        other.works().await;
        let attacker = async || {
            let raw = Raw::connect(&server).await;
            let open = attack(&raw).await;
            assert_eq!(raw.closed().await, EXCESSIVE_LOAD);
            (raw, open)
        };
        // What one alone takes is known exactly; of several at once, only all of it is.
        let before = meter.begin();
        drop(attacker().await);
        let alone = meter.peak() - before;
        let before = meter.begin();
        let work = async {
            for _ in 0..20 {
                other.works().await;
            }
        };
        let (a, b) = (attacker(), attacker());
        let (c, d, e) = (attacker(), attacker(), attacker());
        let attackers = tokio::join!(a, b, c, d, e, work);
        other.works().await;
        let each = (meter.peak() - before) / ATTACKERS.cast_signed();
        println!("{counted:?}: {alone} bytes at most for a connection, {each} for each of several");
        assert!(alone.max(each) < CONNECTION_BYTES_MAX, "{alone} and {each} bytes");
        drop(attackers);
    });
    law_holds(&server.finish());
    let text = text(&counters);
    for counted in counted {
        let line = text.lines().find(|line| line.contains(counted)).unwrap();
        let value: usize = line.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(value > ATTACKERS, "{line}");
    }
}

/// Sends the same frames on stream after stream until the connection is closed.
async fn again_and_again(raw: &Raw, frames: &[u8]) -> Open {
    // Else the client has no more streams, because nobody reads what is answered.
    while let Ok((mut send, mut recv)) = raw.quic.open_bi().await {
        // Both fail once the server does not want to hear of it.
        let _ = send.write_all(frames).await;
        let _ = send.finish();
        let _ = recv.read_to_end(10_000).await;
    }
    Vec::new()
}

/// Begins a request after the other until the connection is closed, and goes on with none of them.
async fn begun(raw: &Raw, beginnings: &[&[u8]]) -> Open {
    let mut open = Vec::new();
    // Once no more streams are allowed, this waits until the server has given some up.
    while let Ok((mut send, recv)) = raw.quic.open_bi().await {
        // Fails once the server does not want to hear of it.
        let _ = send.write_all(beginnings[open.len() % beginnings.len()]).await;
        open.push((send, recv));
    }
    open
}

/// A HEADERS frame of this many field lines of one byte, each of which stands for a long one.
fn bomb(fields: usize) -> Vec<u8> {
    let length = u32::try_from(fields + 2).unwrap();
    let mut frame = vec![0x01];
    frame.extend_from_slice(&(0x8000_0000 | length).to_be_bytes());
    frame.extend_from_slice(&[0, 0]);
    // Static entry 47: content-type: application/x-www-form-urlencoded.
    frame.resize(frame.len() + fields, 0xc0 | 47);
    frame
}

#[test]
fn floods_of_empty_frames() {
    let flood = async |raw: &Raw| {
        let (mut send, recv) = raw.quic.open_bi().await.unwrap();
        send.write_all(request("POST", "/echo").frame()).await.unwrap();
        // Fails once the server has closed the connection.
        while send.write_all(&[0; 2_000]).await.is_ok() {}
        vec![(send, recv)]
    };
    bounded(flood, &["glitch=\"empty_data\""]);
}

#[test]
fn header_bombs_of_64_kb() {
    let frames = bomb((64 << 10) - 2);
    let bombs = async |raw: &Raw| again_and_again(raw, &frames).await;
    bounded(bombs, &["glitch=\"refused_request\""]);
}

#[test]
fn forty_thousand_fields_in_a_frame() {
    let frames = bomb(40_000);
    let many = async |raw: &Raw| again_and_again(raw, &frames).await;
    bounded(many, &["glitch=\"refused_request\""]);
}

#[test]
fn long_sections_without_an_end() {
    let long = get("/").with("x-long", "~".repeat(60_000)).unwrap();
    let begun = &long.frame()[..60_000];
    let slow = async |raw: &Raw| {
        let mut open = Vec::new();
        for _ in 0..10 {
            // Fails once the server has closed the connection.
            let Ok((mut send, recv)) = raw.quic.open_bi().await else { break };
            let _ = send.write_all(begun).await;
            open.push((send, recv));
        }
        open
    };
    bounded(slow, &["code=\"H3_EXCESSIVE_LOAD\""]);
}

#[test]
fn frames_of_a_declared_gigabyte() {
    let echo = request("POST", "/echo");
    let gigabyte = [&[0xc0, 0, 0, 0, 0x40, 0, 0, 0][..], b"and no more"].concat();
    // A head of that size is refused. Content of that size is waited for, for a time.
    let head = [&[0x01], &gigabyte[..]].concat();
    let content = [echo.frame(), &[0x00], &gigabyte].concat();
    let declared = async |raw: &Raw| begun(raw, &[&head, &content]).await;
    bounded(declared, &["glitch=\"refused_request\"", "glitch=\"stalled\""]);
}

#[test]
fn requests_that_are_reset_at_once() {
    let get = get("/delay/50s");
    let rapid = async |raw: &Raw| {
        while let Ok((mut send, mut recv)) = raw.quic.open_bi().await {
            // Fails once the server has closed the connection.
            let _ = send.write_all(get.frame()).await;
            let _ = send.reset(REQUEST_CANCELLED);
            let _ = recv.stop(REQUEST_CANCELLED);
        }
        Vec::new()
    };
    bounded(rapid, &["glitch=\"cancelled\""]);
}

#[test]
fn requests_that_are_never_finished() {
    let long = get("/bytes/5").with("x-long", "~".repeat(2_000)).unwrap();
    let echo = [request("POST", "/echo").frame(), b"\x00\x40\x64", &[7; 50]].concat();
    let slow = async |raw: &Raw| begun(raw, &[&long.frame()[..2_000], &echo]).await;
    bounded(slow, &["glitch=\"stalled\"", "stalled_requests_total{"]);
}

/// How many at once.
const ATTACKERS: usize = 5;

/// Short, or the test would take minutes.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

const CONNECTION_BYTES_MAX: isize = 1_000_000;
