//! http3: `load https://...` against `serve`, as somebody who measures a server of HTTP/3 meets it.

use std::fs;
use std::io::Write;
use std::net::TcpListener;

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::command::{Outcome, Running, Serve, assert_load_report, line, quiclane};

/// `quiclane load https://ADDRESS/PATH`, with the words of `flags`.
fn load(server: &Serve, path: &str, flags: &str) -> Outcome {
    line(&format!("load https://{}{path} -q -t 1 {flags}", server.address()))
}

/// The report of a run that went well.
fn report(outcome: &Outcome) -> Value {
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let report = outcome.json();
    assert_load_report(&report);
    assert_eq!(report["ok"], true);
    report
}

#[test]
fn requests_by_number_and_by_duration() {
    let server = Serve::start(&["-q", "--h3"]);
    let report_of = |flags: &str| report(&load(&server, "/bytes/1024", flags));
    let by_number = report_of("-k --json -c 3 -m 4 -n 1k");
    assert_eq!((&by_number["requests"], &by_number["handshakes"]), (&json!(1_000), &json!(3)));
    assert_eq!(by_number["bytes_down"], 1_000 * 1_024);
    let status = json!({ "2xx": 1_000, "3xx": 0, "4xx": 0, "5xx": 0 });
    assert_eq!(by_number["status"], status);
    let median = |times: &str| by_number[times]["p50"].as_u64().unwrap();
    assert!(median("ttfb_us") > 0 && median("ttfb_us") <= median("latency_us"), "{by_number}");
    assert_eq!(by_number["goaways"], 0);
    let by_time = report_of("-k --json -c 2 -d 300ms --warmup 100ms");
    assert!(by_time["requests"].as_u64().unwrap() > 10, "{by_time}");
    let text = load(&server, "/bytes/1024", "-k -c 2 -n 10").stdout;
    for word in ["HTTP/3 GET", "2 connections x 1 stream", "status", "2xx 10", "first byte"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_body_goes_up_and_comes_back() {
    let server = Serve::start(&["-q", "--h3"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body");
    fs::write(&path, vec![7; 100_000]).unwrap();
    let flags = format!("-k --json -n 5 --body @{}", path.display());
    let posted = report(&load(&server, "/echo", &flags));
    assert_eq!((&posted["bytes_up"], &posted["bytes_down"]), (&json!(500_000), &json!(500_000)));
    let put = report(&load(&server, "/echo", "-k --json -n 2 -X PUT --body-size 1m -H x-a:b"));
    assert_eq!((&put["bytes_up"], &put["bytes_down"]), (&json!(2 << 20), &json!(2 << 20)));
    let head = report(&load(&server, "/bytes/1024", "-k --json -n 5 -X HEAD"));
    assert_eq!(head["bytes_down"], 0);
    let more = format!("https://{}/status/204 -k --json -n 6", server.address());
    let turns = report(&load(&server, "/bytes/10", &more));
    assert_eq!(turns["bytes_down"], 3 * 10);
}

#[test]
fn a_status_from_400_on_fails_the_run_visibly_and_a_redirect_does_not() {
    let server = Serve::start(&["-q", "--h3"]);
    let moved = report(&load(&server, "/status/301", "-k --json -n 5"));
    assert_eq!(moved["status"]["3xx"], 5);
    for (path, class) in [("/nowhere", "status_4xx"), ("/status/503", "status_5xx")] {
        let outcome = load(&server, path, "-k --json -n 5");
        assert_eq!(outcome.code, 1, "{outcome:?}");
        let report = outcome.json();
        assert_load_report(&report);
        assert_eq!(report["errors"]["by_class"], json!({ class: 5 }));
        let text = load(&server, path, "-k -n 5").stdout;
        assert!(text.contains(class) && text.contains("first: status"), "{text}");
    }
}

#[test]
fn a_certificate_nobody_knows_has_its_remedy() {
    let server = Serve::start(&["-q", "--h3"]);
    let outcome = load(&server, "/", "-n 1");
    assert_eq!(outcome.code, 1, "{outcome:?}");
    for word in ["--cacert FILE", "-k for a server of your own"] {
        assert!(outcome.stderr.contains(word), "{word}: {outcome:?}");
    }
}

#[test]
fn a_host_that_has_only_tcp_is_known_at_once() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let outcome = line(&format!("load https://{address}/ -k -q -n 1"));
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains(&format!("nothing listens on UDP {address}")), "{outcome:?}");
}

#[test]
fn connections_are_made_anew_resumed_and_held() {
    let server = Serve::start(&["-q", "--h3", "--early-data"]);
    let anew = report(&load(&server, "/bytes/10", "-k --json -c 1 -n 20 --requests-per-conn 2"));
    assert_eq!(anew["handshakes"], 10);
    let flags = "-k --json -c 1 -n 20 --requests-per-conn 2 --resume 0rtt";
    let resumed = report(&load(&server, "/bytes/10", flags));
    assert!(resumed["early_data"]["accepted"].as_u64().unwrap() > 0, "{resumed}");
    let handshakes = report(&load(&server, "/", "-k --json --handshakes -n 20 -c 2"));
    assert_eq!((&handshakes["handshakes"], &handshakes["requests"]), (&json!(20), &json!(0)));
    let held = line(&format!(
        "load https://{}/ -q -k --json --idle 5 -d 300ms --reconnect",
        server.address()
    ));
    assert_eq!((held.code, &held.json()["idle"]["held"]), (0, &json!(5)));
}

#[test]
fn an_interrupted_run_reports_what_it_has() {
    let server = Serve::start(&["-q", "--h3"]);
    let url = format!("https://{}/bytes/1024", server.address());
    let mut load = Running::start(&["load", &url, "-k", "--json", "-d", "60s"]);
    load.until("requests/s");
    load.signal("INT");
    let outcome = load.wait();
    assert_eq!(outcome.code, 130, "{outcome:?}");
    let report = outcome.json();
    assert_load_report(&report);
    assert_eq!(report["status"]["2xx"], report["requests"]);
}

/// A server that ends politely under load: what it refuses is counted, or sent again.
#[test]
fn a_server_that_goes_away_under_load_loses_no_request() {
    for flags in [&[][..], &["--reconnect"]] {
        let server = Serve::start(&["-q", "--h3"]);
        let url = format!("https://{}/bytes/1024", server.address());
        let common = ["load", &url, "-k", "--json", "-d", "2s", "-t", "1", "-c", "4", "-m", "4"];
        let mut load = Running::start(&[&common, flags].concat());
        load.until("requests/s");
        let stopped = server.stop("TERM");
        assert_eq!(stopped.code, 0, "{stopped:?}");
        let report = load.wait().json();
        assert_load_report(&report);
        assert_eq!(report["goaways"], 4, "{report}");
        // Attempts to come back meet nobody; requests meet nothing but the GOAWAY.
        for (class, _) in report["errors"]["by_class"].as_object().unwrap() {
            let known = ["going_away", "port_unreachable", "connection_refused", "timeout"];
            assert!(known.contains(&class.as_str()), "{report}");
        }
        let failed = report["errors"]["by_class"]["going_away"].as_u64().unwrap_or_default();
        assert!(flags.is_empty() || failed == 0, "{report}");
    }
}

#[test]
fn addresses_of_version_6_stand_in_brackets() {
    let mut server =
        Running::start(&["serve", "-q", "--h3", "--listen", "[::1]:0", "--workers", "1"]);
    let mut ready = String::new();
    std::io::BufRead::read_line(&mut server.stdout(), &mut ready).unwrap();
    let listen = ready.split_whitespace().find_map(|word| word.strip_prefix("listen="));
    let url = format!("https://{}/bytes/7", listen.unwrap());
    let outcome = quiclane(&["load", &url, "-k", "-q", "--json", "-n", "3"]);
    assert_eq!(report(&outcome)["bytes_down"], 21);
}

/// A file with this text.
fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        Ok(file)
    });
    file.unwrap_or_else(|error| panic!("a file: {error}"))
}

#[test]
fn a_list_of_urls_is_asked_for_by_weight() {
    let server = Serve::start(&["-q", "--h3"]);
    let list = file("# three of four\n/ 3\n/no/such/page 1\n");
    let (address, list) = (server.address(), list.path().display());
    let flags = format!("-k -q --json -t 2 -c 3 -n 400 --input-file {list}");
    let report = line(&format!("load https://{address}/ {flags}")).json();
    assert_eq!((&report["status"]["2xx"], &report["status"]["4xx"]), (&300.into(), &100.into()));
}

#[test]
fn a_recording_is_replayed_at_its_times() {
    let server = Serve::start(&["-q", "--h3"]);
    let times = file("0\t/\n0.5\n1\t/no/such/page\n# half a second\n500\t/\n600\t/\n");
    let flags = format!("-k -q --json --replay {} --replay-speed 2x", times.path().display());
    let report = line(&format!("load https://{}/ {flags}", server.address())).json();
    assert_eq!((&report["status"]["2xx"], &report["status"]["4xx"]), (&4.into(), &1.into()));
    let (due, sent) = (&report["schedule"]["due"], &report["schedule"]["sent"]);
    assert_eq!((due, sent), (&5.into(), &5.into()), "{report}");
    assert!(report["duration_s"].as_f64().unwrap() >= 0.3, "{report}");
}

#[test]
fn a_recording_that_goes_back_in_time_is_refused() {
    let times = file("0\n7\n6\n");
    let flags = format!("load https://127.0.0.1:1 -k --replay {}", times.path().display());
    let outcome = line(&flags);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{outcome:?}");
    assert!(outcome.stderr.contains("line 3: 6 ms is before the 7 ms"), "{}", outcome.stderr);
}
