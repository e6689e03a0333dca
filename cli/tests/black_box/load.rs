//! load: every workload against `serve`, what the JSON says, and how runs end badly.

use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, IsCa};

use crate::command::{Running, Serve, assert_load_report, line};

#[test]
fn requests_by_number() {
    let server = Serve::start(&["-q"]);
    let outcome = server.load("--json -c 3 -m 4 -n 1k --request-size 100 --response-size 2k");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let report = outcome.json();
    assert_load_report(&report);
    assert_eq!(report["ok"], true);
    assert_eq!(report["requests"], 1_000);
    assert_eq!(report["handshakes"], 3);
    assert_eq!(report["bytes_down"], 1_000 * 2_048);
    assert_eq!(report["bytes_up"], 1_000 * 100);
    assert!(report["latency_us"]["p50"].as_u64().unwrap() > 0);
}

#[test]
fn requests_by_duration_as_text() {
    let server = Serve::start(&["-q"]);
    let outcome = server.load("-c 2 -d 300ms --warmup 100ms");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for word in ["perf requests", "2 connections x 1 stream", "p99.9", "requests", "handshakes"] {
        assert!(outcome.stdout.contains(word), "{word}: {}", outcome.stdout);
    }
}

#[test]
fn bulk_is_one_stream_per_connection() {
    let server = Serve::start(&["-q"]);
    let down = server.load("--json -c 2 --download 5m").json();
    assert_load_report(&down);
    assert_eq!((down["bytes_down"].as_u64(), down["requests"].as_u64()), (Some(10 << 20), Some(2)));
    let up = server.load("--json -c 2 --upload 5m").json();
    assert_load_report(&up);
    assert_eq!(up["bytes_up"], 10 << 20);
    assert!(up["gbit_s"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_response_larger_than_the_server_gives_is_a_reset_with_its_code() {
    let server = Serve::start(&["-q", "--max-response", "1m"]);
    assert_eq!(server.load("-c 1 --download 1m").code, 0);
    let outcome = server.load("-c 1 --download 2m");
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stdout.contains("reset  (first: by the server, with code 2)"), "{outcome:?}");
}

#[test]
fn connections_come_from_many_addresses_and_move_between_them() {
    let server = Serve::start(&["-q"]);
    let from = "--local-addr 127.0.0.2,127.3.0.0/24";
    let moving = "--json -c 20 -R 200 -d 1500ms --migrate-every 300ms";
    let report = server.load(&format!("{moving} {from}")).json();
    // Each moves four or five times, and loses nothing by it.
    let migrations = report["migrations"].as_u64().unwrap();
    assert!((80..=100).contains(&migrations), "{report}");
    assert_eq!((report["ok"].as_bool(), report["handshakes"].as_u64()), (Some(true), Some(20)));
    assert_eq!(report["errors"]["total"], 0, "{report}");
}

#[test]
fn keys_are_updated_by_time_and_by_requests() {
    let server = Serve::start(&["-q"]);
    let report = server.load("--json -c 4 -R 200 -d 1s --key-update-every 200ms").json();
    assert_eq!(report["ok"], true, "{report}");
    assert!((16..=20).contains(&report["key_updates"].as_u64().unwrap()), "{report}");
    let report = server.load("--json -c 2 -n 1k --key-update-every 50").json();
    // What a connection starts before the handshake is confirmed counts for the next one.
    let updates = report["key_updates"].as_u64().unwrap();
    assert!(report["ok"] == true && (18..=20).contains(&updates), "{report}");
}

#[test]
fn every_congestion_controller_carries_data() {
    let server = Serve::start(&["-q"]);
    for name in ["cubic", "newreno", "bbr", "brutal=50m"] {
        let report = server.load(&format!("--json -c 1 --upload 2m --cc {name}")).json();
        assert_eq!((&report["ok"], &report["bytes_up"]), (&true.into(), &(2 << 20).into()));
    }
    // Eight seconds' worth at the fixed rate, of which half a second passes.
    let report = server.load("--json -c 1 --upload 8m --cc brutal=1m -d 500ms").json();
    assert!(report["bytes_up"].as_u64().unwrap() < 6 << 20, "{report}");
}

#[test]
fn the_connections_of_a_worker_share_a_socket() {
    let server = Serve::start(&["-q"]);
    let url = format!("quic://{}", server.address());
    let mut load = Running::start(&[
        "load",
        &url,
        "--perf",
        "-k",
        "--json",
        "--idle",
        "300",
        "--sockets",
        "per-core",
        "--local-addr",
        "127.0.0.2,127.0.0.3",
        "-t",
        "1",
        "--io",
        "epoll",
    ]);
    load.until("300 connections held");
    let files = load.open_files();
    assert!(files < 40, "two sockets, and what else a process has: {files}");
    load.signal("INT");
    let outcome = load.wait();
    let report = outcome.json();
    assert_eq!((outcome.code, report["idle"]["held"].as_u64()), (0, Some(300)), "{report}");
    let shared = server.load("--json -c 50 -m 4 -n 5k --sockets per-core").json();
    assert_eq!((shared["requests"].as_u64(), shared["ok"].as_bool()), (Some(5_000), Some(true)));
}

#[test]
fn nobody_listens_and_all_who_share_a_socket_learn_of_it() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let flags = "--perf -k -q --json -n 8 -c 8 -t 1 --sockets per-core --connect-timeout 30s";
    let outcome = line(&format!("load quic://{address} {flags}"));
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert_eq!(outcome.json()["errors"]["by_class"]["port_unreachable"], 8);
}

#[test]
fn handshakes_begin_by_a_schedule() {
    let server = Serve::start(&["-q"]);
    let report = server.load("--json -c 20 --handshakes --connect-rate 100 -n 30").json();
    assert_eq!((report["handshakes"].as_u64(), report["ok"].as_bool()), (Some(30), Some(true)));
    let schedule = &report["schedule"];
    assert_eq!((schedule["sent"].as_u64(), schedule["not_sent"].as_u64()), (Some(30), Some(0)));
    // The last one is due 290 ms after the first.
    assert!(report["duration_s"].as_f64().unwrap() > 0.28, "{report}");
    // Eleven connections, the last one after half a second.
    let report = server.load("--json -c 11 --connect-rate 20 -n 11").json();
    assert_eq!((report["handshakes"].as_u64(), report["ok"].as_bool()), (Some(11), Some(true)));
    assert!(report["handshakes_per_s"].as_f64().unwrap() < 22.1, "{report}");
}

#[test]
fn handshakes_by_number_and_duration() {
    let server = Serve::start(&["-q"]);
    let report = server.load("--json -c 4 --handshakes -n 30").json();
    assert_load_report(&report);
    assert_eq!((report["handshakes"].as_u64(), report["requests"].as_u64()), (Some(30), Some(0)));
    let report = server.load("--json -c 4 --handshakes -d 1s").json();
    assert!(report["handshakes_per_s"].as_f64().unwrap() > 0.0, "{report}");
}

#[test]
fn every_backend_and_provider_works() {
    for flags in [["--io", "epoll"], ["--provider", "ring"]] {
        let server = Serve::start(&[&["-q"], &flags[..]].concat());
        let outcome = server.load(&format!("--json -c 1 -n 10 {}", flags.join(" ")));
        assert_eq!(outcome.code, 0, "{outcome:?}");
    }
}

#[test]
fn without_a_server_it_fails_soon_and_says_why() {
    // Bound, but silent: nobody else can have the port.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let began = began();
    let outcome = line(&format!(
        "load quic://{address} --perf -k --json -d 60s -c 3 --connect-timeout 300ms"
    ));
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(5));
    let report = outcome.json();
    assert_load_report(&report);
    assert_eq!(report["ok"], false);
    assert!(report["errors"]["by_class"]["handshake_timeout"].as_u64().unwrap() >= 3);
    assert!(outcome.stderr.contains("no connection could be established"), "{outcome:?}");
    assert!(outcome.stderr.contains(&address.to_string()), "{outcome:?}");
}

#[test]
fn a_closed_port_is_known_at_once() {
    let closed = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap();
    for flags in ["", "--json", "--handshakes", "-n 5", "--io epoll"] {
        let began = began();
        let outcome = line(&format!("load quic://{closed} --perf -k -q -c 4 {flags}"));
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(began.elapsed() < Duration::from_secs(2), "{flags}: {:?}", began.elapsed());
        let hint = format!("nothing listens on UDP {closed}");
        assert!(outcome.stderr.contains(&hint), "{flags}: {outcome:?}");
        assert!(outcome.stdout.contains("port_unreachable"), "{flags}: {outcome:?}");
    }
}

#[test]
fn a_socket_that_cannot_be_had_says_why() {
    // TEST-NET-1 (RFC 5737) is nobody's own address.
    let outcome = line("load quic://127.0.0.1:1 --perf -k -q -n 1 --local-addr 192.0.2.1");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("address 192.0.2.1 cannot be bound"), "{outcome:?}");
    assert!(outcome.stderr.contains("ip addr"), "{outcome:?}");
}

#[test]
fn a_certificate_that_is_not_trusted_has_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.pem");
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(&path, made.cert.pem()).unwrap();
    let server = Serve::start(&["-q"]);
    let flags = format!("--perf -q -n 1 --cacert {}", path.display());
    let outcome = line(&format!("load quic://{} {flags}", server.address()));
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stdout.contains("tls"), "{outcome:?}");
    assert!(outcome.stderr.contains("-k for a server of your own"), "{outcome:?}");
}

#[test]
fn what_is_wrong_with_a_certificate_has_its_own_hint() {
    type Change = fn(&mut rcgen::CertificateParams);
    let cases: [(Change, &str); 3] = [
        // As `openssl req -x509` makes it.
        (|made| made.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "CA:FALSE"),
        (|made| made.not_after = rcgen::date_time_ymd(2001, 2, 3), "has expired"),
        (|made| made.not_before = rcgen::date_time_ymd(4000, 2, 3), "not valid yet"),
    ];
    for (change, words) in cases {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let mut made = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        change(&mut made);
        let key = rcgen::KeyPair::generate().unwrap();
        std::fs::write(path("c"), made.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(path("k"), key.serialize_pem()).unwrap();
        let server = Serve::start(&["-q", "--cert", &path("c"), "--key", &path("k")]);
        let flags = format!("--perf -q -n 1 --cacert {}", path("c"));
        let outcome = line(&format!("load quic://{} {flags}", server.address()));
        assert_eq!(outcome.code, 1, "{outcome:?}");
        for word in ["hint:", words, "-k"] {
            assert!(outcome.stderr.contains(word), "{word}: {outcome:?}");
        }
    }
}

#[test]
fn a_server_without_perf_has_its_own_hint() {
    let server = Serve::start(&["-q", "--alpn", "echo"]);
    let outcome = server.load("-n 1");
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("serve --alpn perf"), "{outcome:?}");
}

#[test]
fn a_server_without_http3_has_its_own_hint() {
    let server = Serve::start(&["-q", "--alpn", "perf"]);
    let outcome = line(&format!("load https://{}/ -k -q -n 1", server.address()));
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("does not speak HTTP/3 (ALPN h3)"), "{outcome:?}");
    assert!(outcome.stdout.contains("HTTP/3 GET"), "{outcome:?}");
}

#[test]
fn a_key_log_that_cannot_be_written_is_said() {
    let server = Serve::start(&["-q"]);
    let directory = tempfile::tempdir().unwrap();
    let load = |path: &str| {
        let url = format!("quic://{}", server.address());
        let mut command = Command::new(env!("CARGO_BIN_EXE_quiclane"));
        command.args(["load", &url, "--perf", "-k", "-q", "-n", "1"]);
        command.env("SSLKEYLOGFILE", path).output().unwrap()
    };
    let absent = directory.path().join("absent/keys");
    let outcome = load(absent.to_str().unwrap());
    assert_eq!(outcome.status.code(), Some(0), "a warning, no failure");
    let log = String::from_utf8_lossy(&outcome.stderr);
    assert!(log.contains("warning: SSLKEYLOGFILE") && log.contains("absent/keys"), "{log}");
    let present = directory.path().join("keys");
    let outcome = load(present.to_str().unwrap());
    assert_eq!(String::from_utf8_lossy(&outcome.stderr), "");
    let keys = std::fs::read_to_string(present).unwrap();
    assert!(keys.contains("CLIENT_TRAFFIC_SECRET_0"), "{keys}");
    assert_eq!(String::from_utf8_lossy(&load("").stderr), "", "an empty name means none");
}

#[test]
fn there_are_no_more_connections_than_requests() {
    let server = Serve::start(&["-q"]);
    let outcome = server.load("--json -c 10 -n 3");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let report = outcome.json();
    assert_eq!((report["requests"].as_u64(), report["handshakes"].as_u64()), (Some(3), Some(3)));
    assert!(outcome.stderr.contains("warning: -c 10 is more than -n 3"), "{outcome:?}");
    let outcome = server.load("--json -n 3");
    assert_eq!(outcome.json()["handshakes"], 3);
    assert!(!outcome.stderr.contains("warning"), "nobody asked for more: {outcome:?}");
}

#[test]
fn an_interrupted_run_reports_what_it_has() {
    let server = Serve::start(&["-q"]);
    let url = format!("quic://{}", server.address());
    let mut load = Running::start(&["load", &url, "--perf", "-k", "--json", "-d", "60s"]);
    load.until("requests/s");
    load.signal("INT");
    let outcome = load.wait();
    assert_eq!(outcome.code, 130, "{outcome:?}");
    let report = outcome.json();
    assert_load_report(&report);
    assert_eq!(report["ok"], false);
    assert!(report["requests"].as_u64().unwrap() > 0, "{report}");
    assert!(report["duration_s"].as_f64().unwrap() < 30.0, "{report}");
}

#[test]
fn progress_goes_to_stderr_once_per_second() {
    let server = Serve::start(&["-q"]);
    let url = format!("quic://{}", server.address());
    let outcome = line(&format!("load {url} --perf -k --json -c 1 -d 1500ms"));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("requests/s"), "{outcome:?}");
    assert_load_report(&outcome.json());
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let server = Serve::start(&["-q"]);
    let mut child = Command::new(env!("CARGO_BIN_EXE_quiclane"))
        .args(["load", &format!("quic://{}", server.address()), "--perf", "-k", "-q", "-n", "5"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let outcome = child.wait_with_output().unwrap();
    assert_eq!(outcome.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&outcome.stderr), "");
}

#[expect(clippy::disallowed_methods, reason = "a test of the command from outside has no clock")]
fn began() -> Instant {
    Instant::now()
}
