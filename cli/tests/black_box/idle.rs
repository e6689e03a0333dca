//! idle: `load --idle` against a server that stays, and one that is killed and started again.

use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::command::{Running, Serve, assert_fields, line};

/// The `idle` object of a report, with the fields of the contract.
fn idle(report: &Value) -> &Value {
    let fields = [
        "connections",
        "opened",
        "opening_s",
        "held",
        "lost",
        "lost_by_class",
        "back_s",
        "lost_at_s",
        "outage_us",
    ];
    assert_fields(&report["idle"], &fields);
    &report["idle"]
}

#[test]
fn connections_are_held_for_the_time_asked_for() {
    let server = Serve::start(&["-q"]);
    let outcome = server.load("--json --idle 100 --keep-alive 200ms -d 1s");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let report = outcome.json();
    let held = idle(&report);
    assert_eq!((held["opened"].as_u64(), held["held"].as_u64()), (Some(100), Some(100)));
    assert_eq!((held["lost"].as_u64(), held["back_s"].is_null()), (Some(0), true));
    let text = server.load("--idle 3 -d 100ms");
    assert!(text.stdout.contains("idle connections, 3 asked for"), "{text:?}");
    let requests = server.load("--json -n 1").json();
    assert!(requests.get("idle").is_none(), "{requests}");
}

#[test]
fn without_a_duration_an_interrupt_is_the_regular_end() {
    let server = Serve::start(&["-q"]);
    let url = format!("quic://{}", server.address());
    let mut load = Running::start(&["load", &url, "--perf", "-k", "--idle", "3", "--json"]);
    load.until("3 connections held");
    load.signal("INT");
    let outcome = load.wait();
    assert_eq!((outcome.code, &outcome.json()["ok"]), (0, &Value::Bool(true)), "{outcome:?}");
}

#[test]
fn a_keep_alive_that_comes_too_late_is_refused() {
    let flags = "--idle 1 --keep-alive 30s --idle-timeout 30s -d 1s";
    let outcome = line(&format!("load quic://127.0.0.1:1 --perf -k -q {flags}"));
    assert_eq!(outcome.code, 2, "{outcome:?}");
    for word in ["keep", "30s", "idle"] {
        assert!(outcome.stderr.contains(word), "{word}: {outcome:?}");
    }
}

/// Kills the server of 500 connections and starts it again 300 ms later.
fn restarted(state_dir: Option<&str>, flags: &str) -> Value {
    let arguments: &[&str] = &["-q", "--state-dir", state_dir.unwrap_or_default()];
    let arguments = if state_dir.is_some() { arguments } else { &arguments[..1] };
    let server = Serve::start_again_and_again(arguments);
    let address = server.address().to_owned();
    let url = format!("quic://{address}");
    let flags = format!("load {url} --perf -k --json -t 2 --idle 500 --keep-alive 200ms {flags}");
    let mut load = Running::start(&flags.split_whitespace().collect::<Vec<_>>());
    load.until("500 connections held");
    drop(server);
    thread::sleep(Duration::from_millis(300));
    let _server = Serve::start_on(&address, arguments);
    let outcome = load.wait();
    let report = outcome.json();
    assert_eq!(outcome.code == 0, report["ok"] == true, "{outcome:?}");
    report
}

#[test]
fn after_a_restart_all_connections_are_reset_and_come_back() {
    let directory = tempfile::tempdir().unwrap();
    let report = restarted(directory.path().to_str(), "--reconnect -d 8s");
    let held = idle(&report);
    assert_eq!(
        (report["stateless_resets"].as_u64(), held["held"].as_u64()),
        (Some(500), Some(500))
    );
    assert_eq!(report["reconnects"], 500, "{report}");
    assert_eq!(report["errors"]["by_class"], serde_json::json!({ "stateless_reset": 500 }));
    assert_eq!(held["lost_by_class"], serde_json::json!({ "stateless_reset": 500 }));
    assert_eq!(report["ok"], true);
    let back_s = held["back_s"].as_f64().unwrap();
    assert!(back_s > 0.0 && back_s < 6.0, "{report}");
    assert!(held["outage_us"]["max"].as_f64().unwrap() / 1e6 <= back_s, "{report}");
}

#[test]
fn without_reconnect_they_are_only_counted() {
    let directory = tempfile::tempdir().unwrap();
    let report = restarted(directory.path().to_str(), "-d 60s");
    assert_eq!((report["ok"].as_bool(), report["reconnects"].as_u64()), (Some(false), Some(0)));
    assert_eq!(report["idle"]["lost_by_class"], serde_json::json!({ "stateless_reset": 500 }));
    assert!(report["duration_s"].as_f64().unwrap() < 30.0, "none was left: {report}");
}

#[test]
fn a_server_without_its_state_lets_them_time_out() {
    let report = restarted(None, "--idle-timeout 3s --reconnect -d 15s");
    assert_eq!(report["stateless_resets"], 0, "{report}");
    assert_eq!(report["idle"]["lost_by_class"], serde_json::json!({ "idle_timeout": 500 }));
    assert_eq!((report["ok"].as_bool(), report["reconnects"].as_u64()), (Some(true), Some(500)));
}
