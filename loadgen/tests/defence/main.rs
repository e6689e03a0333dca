//! defence abuses our own server in every way, and holds what it says against what the server
//! counted.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

#[path = "../servers/own.rs"]
mod own;
mod server;

use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use quiclane::{Limits, Retry, Target};
use quiclane_loadgen::{
    AbuseReport, Arrivals, Body, Calmness, CloseLayer, DEFENCE_RATE_MAX, Defence, DefenceConfig,
    DefenceEnding, DefenceError, DefenceReport, H3_ALPN, HttpRequest, Kind, LoadConfig, PERF_ALPN,
    Pace, Protocol, Rate, Stop, Workload,
};

use server::start;

/// A short test with requests for `path`; without one over `perf`.
fn config(target: Target, kind: Kind, path: Option<&str>) -> DefenceConfig {
    let asks = |path: Option<&str>| match path {
        Some(path) => {
            let request = HttpRequest::new("GET", "localhost", path, Body::None).unwrap();
            (Protocol::Http3(vec![request]), Workload::Http)
        }
        None => (Protocol::Perf, Workload::Requests { request_size: 0, response_size: 100 }),
    };
    let length = Duration::from_millis(700);
    let (protocol, workload) = asks(path);
    let base = LoadConfig::new(vec![target], workload, Stop::Duration(length));
    let abuse = LoadConfig { protocol, connections: 2, streams: 3, workers: 1, ..base.clone() };
    let (protocol, workload) = asks(path.map(|_| "/bytes/100"));
    let rate = Rate::constant(50.0).unwrap();
    let probe = LoadConfig {
        protocol,
        workload,
        connections: 2,
        streams: 100,
        workers: 1,
        pace: Some(Pace { rate, arrivals: Arrivals::Constant }),
        connect_timeout: Duration::from_secs(2),
        request_timeout: Some(Duration::from_secs(5)),
        ..base
    };
    let calm = Duration::from_millis(300);
    DefenceConfig { kind, rate: 400, length, calm, is_own: false, abuse, probe }
}

/// Runs a test to its end; what it says has to be one story.
fn run(config: DefenceConfig) -> (DefenceReport, AbuseReport) {
    let (kind, rate) = (config.kind, config.rate);
    let report = Defence::start(config).unwrap().join().unwrap();
    assert_eq!((report.defence, report.rate, report.schema), (kind, rate, 1));
    assert_eq!(report.ending, DefenceEnding::Complete, "{report}");
    assert!(report.probe.before.requests_ok > 0 && report.probe.after.is_some(), "{report}");
    let abuse = report.abuse.clone().unwrap();
    assert!(abuse.done > 0 && abuse.done + abuse.held_back <= abuse.due, "{report}");
    assert!(abuse.due as f64 <= rate as f64 * abuse.duration_s + 2.0, "{report}");
    let length_s = report.length_s;
    assert!((length_s / 2.0..=length_s).contains(&abuse.duration_s), "{report}");
    assert!(abuse.sent.datagrams > 0 && abuse.sent.bytes > 0, "{report}");
    assert!(!abuse.amplified, "{report}");
    // Nobody can say what the server did where the generator was too slow.
    let is_small = report.to_string().contains("responses fit in the window");
    assert!(report.verdict.is_some() || report.saturated || is_small, "{report}");
    let text = report.to_string();
    assert_eq!(text.starts_with("INVALID: "), report.saturated, "{text}");
    let label = format!("defence test {kind} against 127.0.0.1:");
    assert!(text.contains(&label) && text.contains(kind.unit()), "{text}");
    (report, abuse)
}

#[test]
fn a_flood_of_initials_is_answered_with_retry() {
    let limits = Limits { half_open_retry: 8, ..Limits::default() };
    let server = start(H3_ALPN, limits, Retry::Auto);
    let (report, abuse) = run(config(server.target(), Kind::InitialFlood, Some("/")));
    let answers = abuse.answers.unwrap();
    assert!(answers.retries > 0 && answers.flights > 0, "{report}");
    assert!(answers.retries + answers.flights <= abuse.done, "{report}");
    assert!(server.sum(|worker| worker.retries) >= answers.retries, "{report}");
    assert!(server.sum(|worker| worker.accepted) >= answers.flights, "{report}");
    // Nothing is continued: no datagram but the first of each.
    assert!(server.sum(|worker| worker.initial) >= abuse.done / 2, "{report}");
    assert_eq!(abuse.sent.datagrams, abuse.done, "{report}");
}

#[test]
fn refusals_are_read_and_users_who_are_refused_make_it_failing() {
    let limits = Limits { connections: 20, ..Limits::default() };
    let server = start(H3_ALPN, limits, Retry::Off);
    let (report, abuse) = run(config(server.target(), Kind::InitialFlood, Some("/")));
    let refused = &abuse.closes[0];
    assert_eq!((refused.layer, refused.code), (CloseLayer::Transport, Some(2)), "{report}");
    assert_eq!(refused.name, Some("CONNECTION_REFUSED"));
    assert!(server.sum(|worker| worker.connection_limit) >= refused.count, "{report}");
    let during = report.probe.during.as_ref().unwrap();
    assert!(during.handshakes_failed > 0, "{report}");
    assert!(during.errors["connection_refused"] >= during.handshakes_failed, "{report}");
    assert!(report.saturated || report.verdict == Some(Calmness::Failing), "{report}");
}

#[test]
fn handshakes_are_abandoned_beyond_the_retry() {
    let server = start(H3_ALPN, Limits::default(), Retry::Always);
    let (report, abuse) = run(config(server.target(), Kind::HandshakeAbandon, Some("/")));
    let answers = abuse.answers.unwrap();
    assert!(answers.flights > 0 && answers.retries >= answers.flights, "{report}");
    // The second Initial of each has its token.
    assert!(abuse.sent.datagrams >= abuse.done + answers.flights, "{report}");
    // Their deadline is ten seconds.
    assert!(server.sum(|worker| worker.half_open) >= answers.flights / 2, "{report}");
}

#[test]
fn newcomers_who_find_all_places_taken_make_it_failing() {
    let limits = Limits { half_open: 10, ..Limits::default() };
    let server = start(H3_ALPN, limits, Retry::Always);
    let mut config = config(server.target(), Kind::HandshakeAbandon, Some("/"));
    config.probe.connect_timeout = Duration::from_millis(300);
    let (report, abuse) = run(config);
    assert!(abuse.answers.unwrap().flights <= 20, "two workers, ten each: {report}");
    assert!(server.sum(|worker| worker.ignored) > 0, "{report}");
    let during = report.probe.during.as_ref().unwrap();
    assert!(during.handshakes_failed + during.handshakes_unfinished > 0, "{report}");
    assert!(during.requests_ok > 0, "who was there before stays: {report}");
    assert!(report.saturated || report.verdict == Some(Calmness::Failing), "{report}");
    // The deadline of what was abandoned is ten seconds.
    assert!(report.saturated || report.recovered == Some(false), "{report}");
}

#[test]
fn churning_handshakes_are_complete_for_the_server() {
    let server = start(H3_ALPN, Limits::default(), Retry::Auto);
    let mut config = config(server.target(), Kind::Churn, Some("/"));
    config.abuse.connections = 50;
    let (report, abuse) = run(config);
    let connections = abuse.connections.unwrap();
    assert!(connections.opened > 0 && connections.opened <= connections.tried, "{report}");
    assert_eq!((connections.open_at_end, abuse.streams), (0, None), "{report}");
    assert!(server.sum(|worker| worker.connected) >= connections.opened * 9 / 10, "{report}");
}

#[test]
fn rapid_resets_are_excessive_load() {
    let server = start(H3_ALPN, Limits::default(), Retry::Auto);
    let mut config = config(server.target(), Kind::RapidReset, Some("/"));
    config.abuse.connections = 1;
    let (report, abuse) = run(config);
    let closed = &abuse.closes[0];
    assert_eq!((closed.layer, closed.code), (CloseLayer::Application, Some(0x107)), "{report}");
    assert_eq!(closed.name, Some("H3_EXCESSIVE_LOAD"));
    let connections = abuse.connections.unwrap();
    assert!(connections.opened >= closed.count && connections.failed == 0, "{report}");
    assert_eq!(abuse.streams.unwrap().opened, abuse.done, "{report}");
    assert!(report.to_string().contains("application code 0x107 H3_EXCESSIVE_LOAD"), "{report}");
}

#[test]
fn slow_readers_leave_nearly_all_lying() {
    let server = start(H3_ALPN, Limits::default(), Retry::Auto);
    let (report, abuse) = run(config(server.target(), Kind::SlowReader, Some("/bytes/10000000")));
    let streams = abuse.streams.unwrap();
    assert_eq!((streams.opened, streams.open_at_end), (6, 6), "{report}");
    assert!(abuse.held_back > 0 && streams.answered == 0, "{report}");
    // Two connections with windows of three times 16 KiB, and what belongs to handshakes.
    let kept = 2 * 3 * (16 << 10);
    assert!((kept / 2..3 * kept).contains(&abuse.received.bytes), "{report}");
}

/// Nor is an error page much to leave lying.
#[test]
fn responses_that_fit_in_the_window_are_not_left_lying() {
    let server = start(H3_ALPN, Limits::default(), Retry::Auto);
    for path in ["/bytes/5000", "/nowhere"] {
        let (report, abuse) = run(config(server.target(), Kind::SlowReader, Some(path)));
        let streams = abuse.streams.unwrap();
        assert_eq!((streams.open_at_end, streams.answered), (0, streams.opened), "{report}");
        assert_eq!(streams.ended_by_server, streams.opened, "{report}");
        assert_eq!(report.verdict, None, "{report}");
        assert!(report.to_string().contains("larger PATH"), "{report}");
    }
}

#[test]
fn all_streams_that_are_allowed_are_left_open() {
    let server = start(PERF_ALPN, Limits::default(), Retry::Auto);
    let mut config = config(server.target(), Kind::StreamExhaustion, None);
    (config.rate, config.abuse.connections) = (1_000, 1);
    let (report, abuse) = run(config);
    let streams = abuse.streams.unwrap();
    assert_eq!((streams.allowed_bidi, streams.allowed_uni), (100, 10), "{report}");
    assert_eq!((streams.opened, streams.open_at_end), (110, 110), "{report}");
    assert_eq!(streams.ended_by_server, 0, "{report}");
    assert_eq!(abuse.connections.unwrap().open_at_end, 1, "{report}");
}

#[test]
fn junk_is_counted_as_such() {
    let server = start(H3_ALPN, Limits::default(), Retry::Auto);
    let (report, abuse) = run(config(server.target(), Kind::Junk, Some("/")));
    let answers = abuse.answers.unwrap();
    // Every fourth has a version that nobody knows.
    assert!(answers.version_negotiations >= abuse.done / 8, "{report}");
    assert!(server.sum(|worker| worker.other_long) >= answers.version_negotiations, "{report}");
    assert!(server.sum(|worker| worker.junk) >= abuse.done / 4, "{report}");
    assert!(abuse.amplification > 0.0 && abuse.amplification < 0.1, "{report}");
    assert_eq!((abuse.sent.datagrams, answers.flights), (abuse.done, 0), "{report}");
}

#[test]
fn servers_of_others_are_left_alone() {
    let server = start(H3_ALPN, Limits::default(), Retry::Auto);
    for (address, is_loopback) in [
        ("127.0.0.1:1", true),
        ("127.8.9.10:1", true),
        ("[::1]:1", true),
        ("[::ffff:127.0.0.1]:1", true),
        ("10.0.0.1:1", false),
        ("192.0.2.1:443", false),
        ("[2001:db8::1]:443", false),
        ("[::ffff:192.0.2.1]:1", false),
        ("0.0.0.0:1", false),
    ] {
        let address: SocketAddr = address.parse().unwrap();
        for is_own in [false, true] {
            let to = |address| config(Target { address, ..server.target() }, Kind::Junk, Some("/"));
            let config = DefenceConfig { is_own, ..to(address) };
            match config.check() {
                Ok(()) => assert!(is_loopback || is_own, "{address}"),
                Err(DefenceError::NotYours(refused)) => {
                    assert!(!is_loopback && !is_own && refused == address, "{address}");
                }
                Err(other) => panic!("{address}: {other}"),
            }
            // The probe is kept from there as well.
            let probe = to(address).probe;
            let mixed = DefenceConfig {
                probe,
                is_own,
                ..self::config(server.target(), Kind::Junk, Some("/"))
            };
            assert_eq!(mixed.check().is_ok(), is_loopback || is_own, "{address}");
        }
    }
}

#[test]
fn rates_have_a_limit() {
    let server = start(H3_ALPN, Limits::default(), Retry::Auto);
    for (rate, is_right) in
        [(0, false), (1, true), (DEFENCE_RATE_MAX, true), (DEFENCE_RATE_MAX + 1, false)]
    {
        let config = DefenceConfig { rate, ..config(server.target(), Kind::Junk, Some("/")) };
        assert_eq!(config.check().is_ok(), is_right, "{rate}");
        if !is_right {
            let error = Defence::start(config).unwrap_err().to_string();
            assert!(error.contains(&rate.to_string()) && error.contains("100000"), "{error}");
        }
    }
}

#[test]
fn an_interrupted_test_says_what_it_saw() {
    let server = start(H3_ALPN, Limits::default(), Retry::Auto);
    for kind in [Kind::Junk, Kind::RapidReset] {
        let length = Duration::from_secs(600);
        let config = DefenceConfig { length, ..config(server.target(), kind, Some("/")) };
        let defence = Defence::start(config).unwrap();
        while defence.phase() != "during" {
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(200));
        defence.stop();
        let report = defence.join().unwrap();
        assert_eq!((report.ending, report.verdict), (DefenceEnding::Interrupted, None), "{report}");
        assert!(report.abuse.is_some() && report.probe.after.is_none(), "{report}");
        assert!(report.to_string().contains("interrupted"), "{report}");
    }
}

#[test]
fn who_answers_nobody_is_not_abused() {
    // A socket that never answers, so that nobody else can have the port.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let server = start(H3_ALPN, Limits::default(), Retry::Auto);
    let target = Target { address: silent.local_addr().unwrap(), ..server.target() };
    let mut config = config(target, Kind::InitialFlood, Some("/"));
    config.probe.connect_timeout = Duration::from_millis(500);
    let report = Defence::start(config).unwrap().join().unwrap();
    assert_eq!(report.ending, DefenceEnding::NothingConnected, "{report}");
    assert!(report.abuse.is_none() && report.verdict.is_none(), "{report}");
    let mut datagrams = 0;
    while silent.recv(&mut [0; 2_000]).is_ok() {
        datagrams += 1;
    }
    // Two users and the newcomers, each with its repetitions.
    assert!((1..50).contains(&datagrams), "{datagrams}");
    assert!(report.to_string().contains("not begun"), "{report}");
    // Fifty a second for 300 ms; nobody asked, but it was due.
    assert_eq!(report.probe.before.requests_unfinished, 15, "{report}");
}

#[test]
fn who_answers_nobody_as_it_should_is_not_abused_either() {
    let server = start(H3_ALPN, Limits::default(), Retry::Auto);
    let mut config = config(server.target(), Kind::Churn, Some("/"));
    let request = HttpRequest::new("GET", "localhost", "/nowhere", Body::None).unwrap();
    config.probe.protocol = Protocol::Http3(vec![request]);
    let report = Defence::start(config).unwrap().join().unwrap();
    assert_eq!(report.ending, DefenceEnding::NothingAnswered, "{report}");
    assert!(report.abuse.is_none() && report.verdict.is_none(), "{report}");
    assert!(report.probe.before.errors["status_4xx"] > 0, "{report}");
    assert!(report.to_string().contains("--probe-url"), "{report}");
}
