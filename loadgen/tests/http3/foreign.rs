//! foreign is the server of the crate `h3`, and what it saw.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};
use h3::server::{RequestStream, builder};
use http::{Request, Response};
use quiclane::Resume;
use quiclane_loadgen::{Body, LoadConfig, Stop, Workload};

use crate::server::Server;
use crate::{classes, config, get, request, run};

/// How often each request came whole, as `METHOD PATH BYTES`.
type Seen = Arc<Mutex<BTreeMap<String, u64>>>;

/// Answers `/N` with so many bytes, `/status/N` with that status, the rest with the bytes that
/// the request carried.
fn start() -> (Server, Seen) {
    let seen = Seen::default();
    let shared = Arc::clone(&seen);
    let server = Server::start(move |connection| serve(connection, Arc::clone(&shared)));
    (server, seen)
}

async fn serve(connection: quinn::Connection, seen: Seen) {
    let connection = h3_quinn::Connection::new(connection);
    let mut settings = builder();
    // Without a limit it panics at a large header section.
    settings.send_grease(true).max_field_section_size(1 << 16);
    let Ok(mut connection) = settings.build(connection).await else { return };
    while let Ok(Some(resolver)) = connection.accept().await {
        let seen = Arc::clone(&seen);
        tokio::spawn(async move {
            if let Ok((request, stream)) = resolver.resolve_request().await {
                answer(request, stream, seen).await;
            }
        });
    }
}

async fn answer<S>(request: Request<()>, mut stream: RequestStream<S, Bytes>, seen: Seen)
where
    S: h3::quic::BidiStream<Bytes>,
{
    let mut content = Vec::new();
    while let Ok(Some(mut data)) = stream.recv_data().await {
        while data.has_remaining() {
            content.extend_from_slice(data.chunk());
            data.advance(data.chunk().len());
        }
    }
    let (method, path) = (request.method().as_str(), request.uri().path());
    let agent = request.headers().get("user-agent").map_or("", |value| value.to_str().unwrap());
    assert_eq!(request.uri().authority().unwrap().as_str(), "localhost");
    let announced = request.headers().get("content-length");
    let announced = announced.map_or(0, |value| value.to_str().unwrap().parse().unwrap());
    assert_eq!(content.len(), announced);
    let line = format!("{method} {path} {} {agent}", content.len()).trim().to_owned();
    *seen.lock().unwrap().entry(line).or_default() += 1;
    let number = |text: &str| text.parse::<usize>().ok();
    let (status, body) = match path.strip_prefix("/status/").and_then(number) {
        Some(status) => (u16::try_from(status).unwrap(), Vec::new()),
        None => (200, path.strip_prefix('/').and_then(number).map_or(content, |n| vec![0; n])),
    };
    let response = Response::builder().status(status).header("content-length", body.len());
    stream.send_response(response.body(()).unwrap()).await.unwrap();
    if method != "HEAD" {
        stream.send_data(body.into()).await.unwrap();
    }
    stream.finish().await.unwrap();
}

#[test]
fn gets_are_made_exactly_as_often_as_asked_for() {
    let (server, seen) = start();
    let request = get("/1000").with("user-agent", "test").unwrap();
    let report = run(config(&server, vec![request], Stop::Requests(501)));
    assert!(report.ok, "{report}");
    assert_eq!((report.bytes_down, report.bytes_up, report.handshakes), (501_000, 0, 2));
    assert_eq!(report.status.as_ref().unwrap()["2xx"], 501);
    assert_eq!(report.goaways, Some(0));
    let first = report.ttfb_us.unwrap();
    assert!(first.p50 > 0 && first.p50 <= report.latency_us.p50, "{report}");
    assert_eq!(*seen.lock().unwrap(), BTreeMap::from([("GET /1000 0 test".into(), 501)]));
    let text = report.to_string();
    assert!(text.starts_with("HTTP/3 GET, 2 connections x 2 streams"), "{text}");
    assert!(text.contains("status          2xx 501"), "{text}");
}

#[test]
fn a_run_by_duration_goes_on_in_a_closed_loop() {
    let (server, _) = start();
    let stop = Stop::Duration(std::time::Duration::from_millis(300));
    let report = run(config(&server, vec![get("/10")], stop));
    assert!(report.ok && report.requests > 10, "{report}");
    assert!(report.detail.requests.cancelled <= 4, "{report}");
}

#[test]
fn head_has_no_content_whatever_it_announces() {
    let (server, seen) = start();
    let report = run(config(&server, vec![request("HEAD", "/1000", Body::None)], stop(10)));
    assert!(report.ok && report.bytes_down == 0, "{report}");
    assert_eq!(*seen.lock().unwrap(), BTreeMap::from([("HEAD /1000 0".into(), 10)]));
}

#[test]
fn bodies_arrive_whole_and_come_back() {
    let (server, seen) = start();
    let bytes = |size| Body::Bytes(vec![1; size].into());
    for (body, size) in [
        (bytes(0), 0),
        (bytes(1), 1),
        (bytes(5_000), 5_000),
        (bytes(3_000_000), 3_000_000),
        (Body::Zeros(100), 100),
        (Body::Zeros(10 << 20), 10 << 20),
    ] {
        seen.lock().unwrap().clear();
        let report = run(config(&server, vec![request("POST", "/echo", body)], stop(4)));
        assert!(report.ok, "{size}: {report}");
        assert_eq!((report.bytes_up, report.bytes_down), (4 * size, 4 * size));
        let line = format!("POST /echo {size}");
        assert_eq!(*seen.lock().unwrap(), BTreeMap::from([(line, 4)]));
    }
}

#[test]
fn several_urls_are_taken_in_turn_by_each_worker() {
    let (server, seen) = start();
    let requests = vec![get("/1"), get("/2"), request("POST", "/3", Body::Zeros(5))];
    let report = run(config(&server, requests, stop(600)));
    assert!(report.ok, "{report}");
    assert_eq!((report.bytes_down, report.bytes_up), (200 * (1 + 2 + 3), 200 * 5));
    let lines = ["GET /1 0", "GET /2 0", "POST /3 5"];
    assert_eq!(*seen.lock().unwrap(), lines.map(|line| (line.into(), 200)).into());
    assert!(report.to_string().contains("3 URLs in turn"), "{report}");
}

#[test]
fn a_status_is_counted_by_its_class_and_from_400_on_a_failure() {
    let (server, _) = start();
    let paths = ["/7", "/status/204", "/status/304", "/status/404", "/status/503", "/status/777"];
    let report = run(config(&server, paths.map(get).into(), stop(60)));
    assert!(!report.ok, "{report}");
    assert_eq!(report.detail.requests.ok, 30);
    let status: Vec<_> = report.status.as_ref().unwrap().iter().map(|(a, b)| (*a, *b)).collect();
    assert_eq!(status, [("2xx", 20), ("3xx", 10), ("4xx", 10), ("5xx", 10), ("other", 10)]);
    let expected = [("status_4xx", 10), ("status_5xx", 10), ("status_other", 10)];
    assert_eq!(classes(&report), expected);
    assert_eq!((report.handshakes, report.reconnects), (2, 0), "{report}");
    assert!(report.to_string().contains("(first: status 404)"), "{report}");
}

#[test]
fn early_data_carries_requests() {
    let (server, _) = start();
    let config = LoadConfig {
        targets: vec![server.target(Resume::ZeroRtt)],
        connections: 1,
        workers: 1,
        requests_per_connection: NonZero::new(3),
        ..config(&server, vec![get("/10")], stop(60))
    };
    let report = run(config);
    assert!(report.ok && report.handshakes == 20, "{report}");
    assert_eq!((report.early_data.sent, report.early_data.accepted), (2 * 19, 2 * 19));
}

#[test]
fn rejected_early_data_is_sent_again() {
    let (servers, _): (Vec<Server>, Vec<Seen>) = [start(), start()].into_iter().unzip();
    let first = servers[0].target(Resume::ZeroRtt);
    // One cache of tickets and one trust for both: each is shown the tickets of the other.
    let alpn = vec![quiclane_loadgen::H3_ALPN.to_vec()];
    let trust = quiclane::Trust::Insecure;
    let tls = quiclane::ClientTls::new(quiclane::Provider::default(), trust, alpn, Resume::ZeroRtt);
    let tls = tls.unwrap();
    let second = servers[1].target(Resume::Off);
    let target = |of: quiclane::Target| quiclane::Target { tls: tls.clone(), ..of };
    let config = LoadConfig {
        targets: vec![target(first), target(second)],
        workers: 1,
        requests_per_connection: NonZero::new(3),
        ..config(&servers[0], vec![get("/10")], stop(60))
    };
    let report = run(config);
    assert!(report.ok && report.bytes_down == 600, "{report}");
    assert!(report.early_data.accepted < report.early_data.sent, "{report}");
}

#[test]
fn connections_are_made_and_held_without_requests() {
    let (server, seen) = start();
    let handshakes =
        LoadConfig { workload: Workload::Handshakes, ..config(&server, Vec::new(), stop(20)) };
    let handshakes = LoadConfig { stop: Stop::Requests(20), ..handshakes };
    let report = quiclane_loadgen::Load::start(handshakes).unwrap().join().unwrap();
    assert!(report.ok && report.handshakes == 20 && report.status.is_none(), "{report}");
    let idle = Stop::Duration(std::time::Duration::from_millis(300));
    let idle = LoadConfig { workload: Workload::Idle, ..config(&server, Vec::new(), idle) };
    let report = run(idle);
    assert!(report.ok && report.idle.as_ref().unwrap().held == 2, "{report}");
    assert!(seen.lock().unwrap().is_empty());
}

fn stop(requests: u64) -> Stop {
    Stop::Requests(requests)
}
