//! foreign is the server of the crate `h3`, and what it saw.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::server::{RequestStream, builder};
use http::{HeaderMap, Request, Response};
use quiclane::Resume;
use quiclane_http3::{Config, Connection, DataHeader, Event, Input, Prepared, Role};
use quiclane_loadgen::{Body, LoadConfig, Stop, Workload};

use crate::peers::{GB, Peer};
use crate::server::Server;
use crate::{classes, config, get, request, run};

/// How often each request came whole, as `METHOD PATH BYTES`.
type Seen = Arc<Mutex<BTreeMap<String, u64>>>;

/// Answers `/N` and `/bytes/N` with so many bytes, `/status/N` with that status, `/trailers` with
/// five bytes and trailers, `/trailed` with the trailers of the request, `/never` not at all, the
/// rest with the bytes that the request carried.
fn start() -> (Server, Seen) {
    start_with(None)
}

fn start_with(taken: Option<usize>) -> (Server, Seen) {
    let seen = Seen::default();
    let shared = Arc::clone(&seen);
    let server = Server::start(move |connection| serve(connection, Arc::clone(&shared), taken));
    (server, seen)
}

/// The server as one of those that complete the same.
fn peer(server: &Server) -> Peer {
    let version = |name: &str| {
        let lock = include_str!("../../../Cargo.lock");
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let [h3, h3_quinn, quinn] = ["h3", "h3-quinn", "quinn"].map(version);
    let name = format!("h3 {h3}, h3-quinn {h3_quinn}, quinn {quinn}");
    Peer { name, target: server.target(Resume::Off) }
}

#[test]
fn h3_quinn_completes_all() {
    let (server, seen) = start();
    let peer = peer(&server);
    peer.completes_all(GB);
    peer.sends_trailers();
    peer.survives_cancelled_requests();
    let expected = [
        ("GET /bytes/1000 0", 50 + 6),
        ("HEAD /bytes/1000 0", 50),
        ("POST /echo 10000000", 2),
        ("GET /bytes/10000 0", 500),
        ("GET /bytes/1000000000 0", 1),
        ("GET /trailers 0", 10),
        ("GET /never 0", 6),
        ("given up", 6),
    ];
    assert_eq!(*seen.lock().unwrap(), expected.map(|(line, count)| (line.into(), count)).into());
}

#[test]
fn a_goaway_of_h3_quinn_loses_nothing() {
    for reconnect in [false, true] {
        let (server, seen) = start_with(Some(20));
        let peer = peer(&server);
        let config = peer.config(vec![get("/1000")], Stop::Requests(200), 4);
        let report = peer.say("GOAWAY", run(LoadConfig { reconnect, ..config }));
        assert!(report.goaways.unwrap() > 5, "{report}");
        // Its GOAWAY names the last request that it answers, where RFC 9114 section 5.2 wants the
        // next one; and it closes the connection without a look at what is still under way.
        let known = ["going_away", "h3_request_rejected", "closed_h3_no_error"];
        for class in report.errors.by_class.keys() {
            assert!(known.contains(&class.as_str()), "{class}: {report}");
        }
        let answered = report.counts.requests.ok;
        assert_eq!(answered + report.counts.requests.failed, 200, "{report}");
        assert!(seen.lock().unwrap()["GET /1000 0"] >= answered, "{report}");
        assert_eq!(report.errors.by_class.contains_key("going_away"), !reconnect, "{report}");
    }
}

/// With `taken`, says GOAWAY after so many requests of a connection.
async fn serve(connection: quinn::Connection, seen: Seen, taken: Option<usize>) {
    let connection = h3_quinn::Connection::new(connection);
    let mut settings = builder();
    // Without a limit it panics at a large header section.
    settings.send_grease(true).max_field_section_size(1 << 16);
    let Ok(mut connection) = settings.build(connection).await else { return };
    let mut count = 0;
    while let Ok(Some(resolver)) = connection.accept().await {
        count += 1;
        if Some(count) == taken && connection.shutdown(0).await.is_err() {
            return;
        }
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
    if path == "/trailed" {
        let trailers = stream.recv_trailers().await.unwrap().unwrap_or_default();
        let lines = trailers.iter().map(|(name, value)| format!("{name}: {value:?}\n"));
        content.extend(lines.collect::<String>().bytes());
        stream.send_response(Response::new(())).await.unwrap();
        stream.send_data(content.into()).await.unwrap();
        return stream.finish().await.unwrap();
    }
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
        None => (200, content),
    };
    let zeros = path.trim_start_matches("/bytes").strip_prefix('/').and_then(number);
    let response = Response::builder().status(status);
    match path {
        "/never" => return never(stream, seen).await,
        "/trailers" => {
            stream.send_response(response.body(()).unwrap()).await.unwrap();
            stream.send_data(Bytes::from_static(b"hello")).await.unwrap();
            let trailers = HeaderMap::from_iter([(http::header::ETAG, "after".parse().unwrap())]);
            stream.send_trailers(trailers).await.unwrap();
        }
        _ => {
            let length = zeros.unwrap_or(body.len());
            let response = response.header("content-length", length);
            stream.send_response(response.body(()).unwrap()).await.unwrap();
            if method != "HEAD" {
                send(&mut stream, body, zeros.unwrap_or_default()).await;
            }
        }
    }
    stream.finish().await.unwrap();
}

/// `body`, else so many zeros.
async fn send<S>(stream: &mut RequestStream<S, Bytes>, body: Vec<u8>, mut zeros: usize)
where
    S: h3::quic::BidiStream<Bytes>,
{
    static ZEROS: [u8; 256 << 10] = [0; 256 << 10];
    if zeros == 0 {
        return stream.send_data(body.into()).await.unwrap();
    }
    while zeros > 0 {
        let piece = zeros.min(ZEROS.len());
        stream.send_data(Bytes::from_static(&ZEROS[..piece])).await.unwrap();
        zeros -= piece;
    }
}

/// Waits until the client gives the request up.
async fn never<S>(mut stream: RequestStream<S, Bytes>, seen: Seen)
where
    S: h3::quic::BidiStream<Bytes>,
{
    let interim = || Response::builder().status(102).body(()).unwrap();
    while stream.send_response(interim()).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    *seen.lock().unwrap().entry("given up".to_owned()).or_default() += 1;
}

/// The load generator sends no trailers; what it is made of does.
#[test]
fn trailers_of_ours_are_understood() {
    let (server, _) = start();
    println!("{}", peer(&server).name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (_endpoint, connection) = server.connect().await;
        let mut control = connection.open_uni().await.unwrap();
        let mut core = Connection::new(Role::Client, Config::default());
        core.control_opened(control.id().into());
        control.write_all(core.control_bytes()).await.unwrap();
        let post = Prepared::request("POST", "https", "localhost", "/trailed").unwrap();
        let trailers = Prepared::trailers().with("x-checksum", "12345").unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        let stream = send.id().into();
        core.request(stream, &post).unwrap();
        core.trailers(stream, &trailers).unwrap();
        core.finished(stream);
        let content = [DataHeader::new(8).as_bytes(), b"content\n"].concat();
        send.write_all(&[post.frame(), &content, trailers.frame()].concat()).await.unwrap();
        send.finish().unwrap();
        let answer = recv.read_to_end(10_000).await.unwrap();
        let (mut input, mut content, mut is_over) = (Input::last(&answer), Vec::new(), false);
        while let Some(event) = core.recv(stream, &mut input).unwrap() {
            match event {
                Event::Response(response) => assert_eq!(response.status(), 200),
                Event::Data(bytes) => content.extend_from_slice(bytes),
                Event::Finished => is_over = true,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(str::from_utf8(&content).unwrap(), "content\nx-checksum: \"12345\"\n");
        assert!(is_over);
    });
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
    let stop = Stop::Duration(Duration::from_millis(300));
    let report = run(config(&server, vec![get("/10")], stop));
    assert!(report.ok && report.requests > 10, "{report}");
    assert!(report.counts.requests.cancelled <= 4, "{report}");
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
    assert_eq!(report.counts.requests.ok, 30);
    let status: Vec<_> =
        report.status.as_ref().unwrap().iter().map(|(a, b)| (a.as_str(), *b)).collect();
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
    let idle = Stop::Duration(Duration::from_millis(300));
    let idle = LoadConfig { workload: Workload::Idle, ..config(&server, Vec::new(), idle) };
    let report = run(idle);
    assert!(report.ok && report.idle.as_ref().unwrap().held == 2, "{report}");
    assert!(seen.lock().unwrap().is_empty());
}

fn stop(requests: u64) -> Stop {
    Stop::Requests(requests)
}
