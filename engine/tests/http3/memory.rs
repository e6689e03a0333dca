//! memory: what hostile clients make a worker hold, many of them at once.

use std::sync::Arc;

use quiclane::apps::Http3;
use quiclane::apps::http3::{Counters, Options, Site, SiteOptions};
use quinn::{RecvStream, SendStream};

use crate::common::{app_server_with, law_holds, runtime};
use crate::hostile::text;
use crate::meter::Meter;
use crate::raw::{EXCESSIVE_LOAD, REQUEST_CANCELLED, Raw, get, request};

/// What an attacker does until it is thrown out, or has nothing more to do. Returns what it does
/// not want to end.
type Open = Vec<(SendStream, RecvStream)>;

/// Runs `attack` on many connections at once. The worker may hold under a megabyte for each, counts
/// what happened as `counted`, and serves another connection before, meanwhile and afterwards.
fn bounded<A: AsyncFn(&Raw) -> Open>(attack: A, end: Option<u64>, counted: &str) {
    let (counters, meter) = (Arc::<Counters>::default(), Meter::new());
    let counts = Arc::clone(&counters);
    let server = app_server_with(
        &["h3"],
        |config| config.workers = 1,
        move |_| {
            meter.watch();
            let site = Site::new(None, SiteOptions::default());
            Http3::serving(site, Options::default()).counting(Arc::clone(&counts))
        },
    );
    runtime().block_on(async {
        let other = Raw::connect(&server).await;
        other.works().await;
        let before = meter.begin();
        let attackers = async {
            let attackers: [_; ATTACKERS] = std::array::from_fn(|_| async {
                let raw = Raw::connect(&server).await;
                let open = attack(&raw).await;
                if let Some(code) = end {
                    assert_eq!(raw.closed().await, code);
                }
                (raw, open)
            });
            let [a, b, c, d, e] = attackers;
            tokio::join!(a, b, c, d, e)
        };
        let work = async {
            for _ in 0..20 {
                other.works().await;
            }
        };
        let (attackers, ()) = tokio::join!(attackers, work);
        other.works().await;
        let each = (meter.peak() - before) / ATTACKERS.cast_signed();
        println!("{counted}: {each} bytes a connection at most");
        assert!(each < CONNECTION_BYTES_MAX, "{each} bytes for each connection");
        drop(attackers);
    });
    law_holds(&server.finish());
    let text = text(&counters);
    let line = text.lines().find(|line| line.contains(counted)).unwrap();
    let value: usize = line.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(value >= ATTACKERS, "{line}");
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
    bounded(flood, Some(EXCESSIVE_LOAD), "glitch=\"empty_data\"");
}

#[test]
fn header_bombs_of_64_kb() {
    let frames = bomb((64 << 10) - 2);
    let bombs = async |raw: &Raw| again_and_again(raw, &frames).await;
    bounded(bombs, Some(EXCESSIVE_LOAD), "glitch=\"refused_request\"");
}

#[test]
fn forty_thousand_fields_in_a_frame() {
    let frames = bomb(40_000);
    let many = async |raw: &Raw| again_and_again(raw, &frames).await;
    bounded(many, Some(EXCESSIVE_LOAD), "glitch=\"refused_request\"");
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
    bounded(slow, Some(EXCESSIVE_LOAD), "code=\"H3_EXCESSIVE_LOAD\"");
}

#[test]
fn frames_of_a_declared_gigabyte() {
    let declared = async |raw: &Raw| {
        let mut open = Vec::new();
        let echo = request("POST", "/echo");
        for head in [&[0x01][..], &[echo.frame(), &[0x00]].concat()] {
            for _ in 0..40 {
                let (mut send, recv) = raw.quic.open_bi().await.unwrap();
                let begin = [head, &[0xc0, 0, 0, 0, 0x40, 0, 0, 0], b"and no more"].concat();
                send.write_all(&begin).await.unwrap();
                open.push((send, recv));
            }
        }
        raw.works().await;
        open
    };
    bounded(declared, None, "glitch=\"refused_request\"");
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
    bounded(rapid, Some(EXCESSIVE_LOAD), "glitch=\"cancelled\"");
}

#[test]
fn requests_that_are_never_finished() {
    let long = get("/bytes/5").with("x-long", "~".repeat(2_000)).unwrap();
    let echo = [request("POST", "/echo").frame(), b"\x00\x40\x64", &[7; 50]].concat();
    let slow = async |raw: &Raw| {
        let mut open = Vec::new();
        // quinn announces freed streams in batches, so not all of the hundred are used.
        for at in 0..80 {
            let (mut send, recv) = raw.quic.open_bi().await.unwrap();
            let begin = if at % 2 == 0 { &long.frame()[..2_000] } else { &echo };
            send.write_all(begin).await.unwrap();
            open.push((send, recv));
        }
        raw.works().await;
        open
    };
    bounded(slow, None, "quiclane_http3_requests_total{");
}

const ATTACKERS: usize = 5;

const CONNECTION_BYTES_MAX: isize = 1_000_000;
