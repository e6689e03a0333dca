//! loopback runs the load generator against servers that behave, and against some that do not.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod open_loop;
#[path = "../servers/own.rs"]
mod own;
mod servers;

use std::collections::HashSet;
use std::net::{SocketAddr, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use quiclane::clock;
use quiclane_loadgen::{Ending, Load, LoadConfig, LoadError, Report, Stop, Workload};

use own::Server;
use servers::{Fault, start};

const SMALL: Workload = Workload::Requests { request_size: 100, response_size: 1_000 };

fn config(server: &Server, workload: Workload, stop: Stop) -> LoadConfig {
    LoadConfig {
        connections: 4,
        workers: 2,
        connect_timeout: Duration::from_secs(5),
        request_timeout: Some(Duration::from_secs(5)),
        ..LoadConfig::new(vec![server.target()], workload, stop)
    }
}

fn run(config: LoadConfig) -> Report {
    let report = Load::start(config).unwrap().join().unwrap();
    let detail = &report.detail;
    assert!(report.counts.requests.is_balanced(), "{:?}", report.counts.requests);
    assert!(report.counts.handshakes.is_balanced(), "{:?}", report.counts.handshakes);
    let by_class: u64 = report.errors.by_class.values().sum();
    assert_eq!(by_class, report.errors.total);
    let lost: u64 = detail.idle_losses.iter().map(|class| class.count).sum();
    let failed = report.counts.requests.failed + report.counts.handshakes.failed + lost;
    assert_eq!(report.errors.total, failed);
    assert_eq!(report.requests, report.counts.requests.ok + report.counts.requests.failed);
    report
}

#[test]
fn exactly_the_requests_asked_for_are_made() {
    let server = start(Fault::None);
    for (requests, streams) in [(1, 1), (7, 3), (501, 10)] {
        let report =
            run(LoadConfig { streams, ..config(&server, SMALL, Stop::Requests(requests)) });
        assert!(report.ok, "{report}");
        assert_eq!(report.requests, requests);
        assert_eq!(report.counts.requests.cancelled, 0);
        assert_eq!(report.bytes_down, 1_000 * requests);
        assert_eq!(report.bytes_up, 100 * requests);
        assert!(report.requests_per_s > 0.0 && report.duration_s > 0.0);
        assert!(report.latency_us.p50 > 0 && report.latency_us.p50 <= report.latency_us.max);
    }
}

#[test]
fn bulk_data_is_counted_to_the_byte() {
    let server = start(Fault::None);
    let size = 3_000_001;
    let down = run(config(&server, Workload::Download(size), Stop::Requests(8)));
    assert!(down.ok, "{down}");
    assert_eq!((down.bytes_down, down.bytes_up), (8 * size, 0));
    let up = run(config(&server, Workload::Upload(size), Stop::Requests(8)));
    assert!(up.ok, "{up}");
    assert_eq!((up.bytes_down, up.bytes_up), (0, 8 * size));
    assert!(up.gbit_s > 0.0);
}

#[test]
fn handshakes_are_made_one_after_another_and_counted() {
    let server = start(Fault::None);
    let report = run(config(&server, Workload::Handshakes, Stop::Requests(51)));
    assert!(report.ok, "{report}");
    assert_eq!((report.handshakes, report.requests), (51, 0));
    assert_eq!(report.counts.handshakes.started, 51);
    assert!(report.handshakes_per_s > 0.0 && report.latency_us.p50 > 0);
    assert_eq!(report.reconnects, 0);
    // The window of a close is none of a connection's.
    assert!((1..1 << 20).contains(&report.quic.window_bytes), "{report}");
    // It is not the close but the client's last flight that the server hears first.
    for _ in 0..200 {
        if server.sum(|worker| worker.connected) == 51 {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{} of 51 were complete", server.sum(|worker| worker.connected));
}

/// Nobody waits for those that the server had not answered when the run was over.
#[test]
fn handshakes_that_nobody_answered_yet_do_not_hold_up_the_end() {
    let server = start(Fault::None);
    let (began, length) = (clock::now(), Duration::from_millis(300));
    let config = config(&server, Workload::Handshakes, Stop::Duration(length));
    let report = run(LoadConfig { connections: 32, ..config });
    let over = clock::now() - began - length;
    assert!(report.ok && over < Duration::from_millis(700), "{over:?} {report}");
}

#[test]
fn a_run_by_duration_measures_after_its_warm_up() {
    let server = start(Fault::None);
    let began = clock::now();
    let report = run(LoadConfig {
        warm_up: Duration::from_millis(200),
        streams: 4,
        ..config(&server, SMALL, Stop::Duration(Duration::from_millis(300)))
    });
    assert!(report.ok, "{report}");
    assert!(clock::now() - began >= Duration::from_millis(500));
    assert!((0.3..0.5).contains(&report.duration_s), "{}", report.duration_s);
    assert!(report.requests > 0);
    assert!(report.counts.requests.cancelled <= 16);
}

#[test]
fn more_streams_than_the_server_allows_only_wait() {
    let server = start(Fault::None);
    let report = run(LoadConfig { streams: 300, ..config(&server, SMALL, Stop::Requests(3_000)) });
    assert!(report.ok, "{report}");
    assert!(report.detail.notes.iter().any(|note| note.contains("stream limit")));
    let limit = report.stream_limit.unwrap();
    assert!((1..=100).contains(&limit.limit) && limit.connections > 0, "{limit:?}");
    assert!(limit.waited_s > 0.0, "{limit:?}");
    assert!(report.to_string().contains("peer's stream limit"), "{report}");
    let quic = report.quic;
    assert_eq!(quic.connections, report.handshakes, "{quic:?}");
    assert!(quic.rtt_us.p50 > 0 && quic.sent_packets > 0, "{quic:?}");
    assert!(quic.window_bytes > 1_200 && quic.datagrams_per_send >= 1.0, "{quic:?}");
}

#[test]
fn a_run_can_be_stopped_early() {
    let server = start(Fault::None);
    let load =
        Load::start(config(&server, SMALL, Stop::Duration(Duration::from_secs(60)))).unwrap();
    while load.progress().requests == 0 {
        thread::sleep(Duration::from_millis(5));
    }
    load.stopper().stop();
    let report = load.join().unwrap();
    assert_eq!(report.ending, Ending::Interrupted);
    assert!(!report.ok && report.requests > 0);
    assert!(report.counts.requests.is_balanced());
}

#[test]
fn what_was_counted_can_be_seen_when_the_run_is_over() {
    let server = start(Fault::None);
    let load = Load::start(config(&server, SMALL, Stop::Requests(40))).unwrap();
    while !load.is_finished() {
        thread::sleep(Duration::from_millis(5));
    }
    let progress = load.progress();
    assert_eq!((progress.requests, progress.measuring), (40, 2), "{progress:?}");
    assert!(load.join().unwrap().ok);
}

#[test]
fn faults_of_the_server_have_their_class() {
    for (fault, class) in [
        (Fault::ShortResponse, "short_response"),
        (Fault::LongResponse, "long_response"),
        (Fault::Reset, "reset"),
        (Fault::Silence, "timeout"),
    ] {
        let server = start(fault);
        let report = run(LoadConfig {
            request_timeout: Some(Duration::from_millis(100)),
            ..config(&server, SMALL, Stop::Requests(10))
        });
        assert!(!report.ok);
        assert_eq!(report.errors.by_class.get(class), Some(&10), "{fault:?}: {report}");
        assert_eq!((report.requests, report.counts.requests.ok), (10, 0));
        assert_eq!(report.reconnects, 0, "{fault:?} costs no connection");
    }
}

#[test]
fn what_a_dead_server_left_unanswered_is_no_success() {
    let server = start(Fault::Silence);
    let report = run(LoadConfig {
        request_timeout: None,
        ..config(&server, SMALL, Stop::Duration(Duration::from_millis(1_200)))
    });
    assert!(!report.ok);
    assert_eq!(report.errors.by_class.get("stalled"), Some(&4), "{report}");
}

#[test]
fn a_server_that_refuses_uploads_stops_them() {
    let server = start(Fault::RefuseUpload);
    let report = run(config(&server, Workload::Upload(50 << 20), Stop::Requests(4)));
    assert_eq!(report.errors.by_class.get("stopped"), Some(&4), "{report}");
}

#[test]
fn a_lost_connection_is_replaced_and_its_requests_have_failed() {
    let server = start(Fault::CloseAfter(5));
    let report = run(config(&server, SMALL, Stop::Requests(60)));
    assert_eq!(report.requests, 60);
    assert!(report.reconnects > 0, "{report}");
    assert!(report.errors.by_class["application_close"] > 0, "{report}");
    assert!(report.counts.requests.ok >= 40, "{report}");
}

#[test]
fn a_server_that_closes_at_once_is_not_hammered() {
    let server = start(Fault::CloseAfter(0));
    let report = run(config(&server, SMALL, Stop::Duration(Duration::from_secs(1))));
    assert!(!report.ok);
    // Four connections, with waits that double from 10 ms: about seven attempts each.
    assert!((8..60).contains(&report.counts.handshakes.started), "{report}");
}

#[test]
fn without_a_server_the_run_ends_early() {
    // A socket that never answers, so that nobody else can have the port.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let server = start(Fault::None);
    for workload in [SMALL, Workload::Handshakes] {
        let mut config = LoadConfig {
            connect_timeout: Duration::from_millis(200),
            ..config(&server, workload, Stop::Duration(Duration::from_secs(30)))
        };
        config.targets[0].address = silent.local_addr().unwrap();
        let began: Instant = clock::now();
        let report = run(config);
        assert!(clock::now() - began < Duration::from_secs(3));
        assert_eq!(report.ending, Ending::NothingConnected);
        assert!(report.errors.by_class["handshake_timeout"] > 0, "{report}");
        assert!(!report.ok && report.handshakes == 0);
    }
}

#[test]
fn an_unreachable_local_address_is_a_connect_error() {
    let server = start(Fault::None);
    let mut config = config(&server, SMALL, Stop::Requests(4));
    // TEST-NET-1 (RFC 5737) is nobody's own address.
    config.targets[0].local = Some(SocketAddr::from(([192, 0, 2, 1], 0)));
    let report = run(config);
    assert!(report.errors.by_class["connect_error"] >= 4, "{report}");
    assert_eq!(report.ending, Ending::NothingConnected);
}

#[test]
fn a_certificate_nobody_trusts_is_a_tls_error() {
    let (server, other) = (start(Fault::None), start(Fault::None));
    let mut config = config(&server, SMALL, Stop::Requests(4));
    config.targets[0].tls = other.target().tls;
    let report = run(config);
    assert!(report.errors.by_class["tls"] >= 4, "{report}");
}

#[test]
fn several_targets_share_the_connections() {
    let servers = [start(Fault::None), start(Fault::None)];
    let mut config = config(&servers[0], SMALL, Stop::Requests(100));
    config.targets = servers.iter().map(Server::target).collect();
    assert!(run(config).ok);
    for server in &servers {
        assert_eq!(server.sum(|worker| worker.accepted), 2);
    }
}

#[test]
fn impossible_runs_are_refused_with_the_remedy() {
    let server = start(Fault::None);
    let by_number = config(&server, SMALL, Stop::Requests(1));
    let start = |config| Load::start(config).map(drop).unwrap_err();
    let error = start(LoadConfig { warm_up: Duration::from_secs(1), ..by_number.clone() });
    assert!(matches!(error, LoadError::WarmUpNeedsDuration { .. }));
    let error = start(LoadConfig { connections: 0, ..by_number.clone() });
    assert!(matches!(error, LoadError::NothingInFlight { .. }));
    let error = start(LoadConfig { connections: usize::MAX, ..by_number });
    assert!(error.to_string().contains("ulimit -n"), "{error}");
}

/// Connections that are only held, and pinged this often.
fn idle(server: &Server, seconds: f64, keep_alive_ms: Option<u64>) -> LoadConfig {
    let stop = Stop::Duration(Duration::from_secs_f64(seconds));
    let mut config = LoadConfig { connections: 50, ..config(server, Workload::Idle, stop) };
    // Long: a machine that is busy with other tests lets a worker wait for a second.
    config.transport.idle_timeout = Duration::from_secs(2);
    config.transport.keep_alive = keep_alive_ms.map(Duration::from_millis);
    config
}

#[test]
fn idle_connections_are_held_by_keep_alives() {
    let server = start(Fault::None);
    let report = run(idle(&server, 5.0, Some(200)));
    assert!(report.ok, "{report}");
    let held = report.idle.unwrap();
    assert_eq!((held.connections, held.opened, held.held, held.lost), (50, 50, 50, 0));
    assert!(held.opening_s > 0.0 && report.duration_s >= 5.0);
    assert_eq!((report.requests, report.handshakes, report.reconnects), (0, 50, 0));
    assert_eq!(server.sum(|worker| worker.accepted), 50);
    assert!(report.latency_us.p50 > 0, "handshakes have been timed");
}

#[test]
fn lost_idle_connections_are_counted_and_not_replaced() {
    let server = start(Fault::None);
    let report = run(idle(&server, 30.0, None));
    assert!(!report.ok && report.duration_s < 20.0, "nothing was left to hold: {report}");
    let held = report.idle.as_ref().unwrap();
    assert_eq!((held.opened, held.held, held.lost, held.back_s), (50, 0, 50, None));
    assert_eq!(held.lost_by_class["idle_timeout"], 50, "{report}");
    assert_eq!(
        (report.reconnects, report.stateless_resets, server.sum(|worker| worker.accepted)),
        (0, 0, 50)
    );
}

#[test]
fn lost_idle_connections_are_replaced_if_asked_for() {
    let server = start(Fault::None);
    let report = run(LoadConfig { reconnect: true, ..idle(&server, 6.0, None) });
    let held = report.idle.as_ref().unwrap();
    // Silent ones live for two seconds.
    assert!(held.lost >= 100 && report.reconnects >= 100, "{report}");
    assert_eq!(held.lost_by_class["idle_timeout"], held.lost, "{report}");
    assert_eq!(held.connections, held.held + (held.lost - report.reconnects), "{report}");
    assert!(held.outage_us.p50 >= 5_000, "after a wait: {report}");
}

#[test]
fn a_server_that_closes_idle_connections_is_not_hammered() {
    let server = start(Fault::CloseAfter(0));
    let asked = LoadConfig { connections: 4, reconnect: true, ..idle(&server, 1.0, None) };
    let report = run(asked.clone());
    assert!(report.errors.by_class["application_close"] > 4, "{report}");
    assert!((8..60).contains(&report.counts.handshakes.started), "{report}");
    let report = run(LoadConfig { reconnect: false, ..asked });
    assert_eq!(report.errors.by_class["application_close"], 4, "{report}");
    assert_eq!(report.counts.handshakes.started, 4, "{report}");
}

#[test]
fn without_another_end_stopping_is_no_interruption() {
    let server = start(Fault::None);
    let load =
        Load::start(LoadConfig { stop: Stop::Never, ..idle(&server, 1.0, Some(150)) }).unwrap();
    while load.progress().measuring < 2 {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(load.progress().open, 50);
    load.stopper().stop();
    let report = load.join().unwrap();
    assert_eq!((report.ok, report.ending), (true, Ending::Complete), "{report}");
}

#[test]
fn idle_runs_end_by_time_alone() {
    let server = start(Fault::None);
    let config = config(&server, Workload::Idle, Stop::Requests(1));
    assert!(matches!(Load::start(config).map(drop), Err(LoadError::IdleNeedsTime)));
}

#[test]
fn initials_for_a_handshake_that_was_given_up_are_only_ignored() {
    let server = start(Fault::None);
    let mut late = server.target();
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    late.address = stranger.local_addr().unwrap();
    let load = Load::start(LoadConfig {
        targets: vec![server.target(), late],
        connections: 2,
        workers: 1,
        reconnect: true,
        connect_timeout: Duration::from_millis(500),
        ..config(&server, Workload::Idle, Stop::Duration(Duration::from_secs(6)))
    })
    .unwrap();
    stranger.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    // Later attempts hear of the first one, which quinn-proto forgets after about three seconds,
    // but whose ID passes for one of the client's.
    let (mut first, mut sent) = (Vec::new(), 0);
    while !load.is_finished() {
        let mut initial = [0; 2_000];
        let Ok((length, client)) = stranger.recv_from(&mut initial) else { continue };
        assert!(length >= 1_200, "a client answers nothing: {:?}", &initial[..length]);
        let source_at = 6 + usize::from(initial[5]);
        let source = &initial[source_at..=source_at + usize::from(initial[source_at])];
        if first.is_empty() {
            first = source.to_vec();
        }
        // No source ID, no token, 64 bytes.
        let rest = [&[0, 0, 0x40, 64][..], &[7; 64]].concat();
        let packet = [&[0xc0, 0, 0, 0, 1][..], &first, &rest].concat();
        if source != first {
            stranger.send_to(&packet, client).unwrap();
            sent += 1;
        }
    }
    let report = load.join().unwrap();
    assert!(sent >= 2 && report.errors.by_class["handshake_timeout"] > 2, "{sent}: {report}");
    assert_eq!(report.idle.as_ref().unwrap().held, 1, "the other one goes on: {report}");
}

#[test]
fn openings_are_paced_by_the_handshakes_in_flight() {
    let server = start(Fault::None);
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut config =
        LoadConfig { connections: 300, workers: 1, ..config(&server, Workload::Idle, Stop::Never) };
    config.targets[0].address = silent.local_addr().unwrap();
    let load = Load::start(config).unwrap();
    silent.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let (mut clients, began) = (HashSet::new(), clock::now());
    let mut quiet = 0;
    // What the socket has no room for comes again; then nobody else does.
    while quiet < 5 && clock::now() - began < Duration::from_secs(30) {
        match silent.recv_from(&mut [0; 2_000]) {
            Ok((_, client)) => quiet = if clients.insert(client) { 0 } else { quiet },
            Err(_) => quiet += usize::from(clients.len() >= 128),
        }
    }
    load.stopper().stop();
    let report = load.join().unwrap();
    assert_eq!((clients.len(), report.counts.handshakes.cancelled), (128, 128), "{report}");
    assert_eq!(report.ending, Ending::Interrupted, "nothing was held yet");
}
