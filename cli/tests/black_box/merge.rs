//! merge: the reports of several generators become one.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::fs;
use std::time::SystemTime;

use serde_json::Value;

use crate::command::{Running, Serve, assert_load_report, line, quiclane};

#[test]
fn reports_add_up_to_a_report() {
    let server = Serve::start(&["-q"]);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    for (name, requests) in [("a", 300), ("b", 200)] {
        let outcome = server.load(&format!("--json -c 2 -n {requests}"));
        fs::write(path(name), outcome.stdout).unwrap();
    }
    let (a, b, sum) = (path("a"), path("b"), path("sum"));
    let outcome = quiclane(&["load", "merge", &a, &b]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let report = outcome.json();
    assert_load_report(&report);
    assert_eq!((report["requests"].as_u64(), report["handshakes"].as_u64()), (Some(500), Some(4)));
    assert_eq!(report["setup"]["connections"], 4);
    // Of three parts, two are there.
    for (part, name) in [(1, "part1"), (2, "part2")] {
        let outcome = server.load(&format!("--json -c 3 -n 9 --partition {part}/3"));
        fs::write(path(name), outcome.stdout).unwrap();
    }
    let outcome = quiclane(&["load", "merge", &path("part1"), &path("part2")]);
    assert!(outcome.stderr.contains("note: of 3 parts of the run these are missing: 3"));
    assert_eq!(outcome.json()["requests"], 6, "{outcome:?}");
    let slo = "rate>1,errors<1";
    let outcome = quiclane(&["load", "merge", &a, &b, "-o", &sum, "--slo", slo]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for words in ["perf requests", "500 ok", "all kept"] {
        assert!(outcome.stdout.contains(words), "{words}: {}", outcome.stdout);
    }
    let written: Value = serde_json::from_slice(&fs::read(&sum).unwrap()).unwrap();
    assert_eq!(written["requests"], 500);
    // What it wrote it reads, and so does compare.
    let outcome = quiclane(&["load", "merge", &sum, &a]);
    assert_eq!(outcome.json()["requests"], 800, "{outcome:?}");
    assert_eq!(quiclane(&["load", "compare", &sum, &a]).code, 0);
    assert_eq!(quiclane(&["load", "merge", &a, "--slo", "rate<1"]).code, 3);
}

#[test]
fn reports_of_different_loads_are_refused() {
    let server = Serve::start(&["-q"]);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    for (name, flags) in [("a", "-n 3"), ("b", "--handshakes -n 3"), ("c", "-n 3 --interval 2s")] {
        fs::write(path(name), server.load(&format!("--json {flags}")).stdout).unwrap();
    }
    for (other, words) in [("b", "workload: perf requests"), ("c", "intervals of 1 s and 2 s")] {
        let outcome = quiclane(&["load", "merge", &path("a"), &path(other)]);
        assert_eq!(outcome.code, 1, "{outcome:?}");
        assert!(outcome.stderr.contains(words) && outcome.stdout.is_empty(), "{outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
    }
    let outcome = quiclane(&["load", "merge", &path("a"), &path("nowhere")]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    let outcome = quiclane(&["load", "merge", &path("a"), "-o", "/nowhere/sum"]);
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("--output /nowhere/sum"), "{outcome:?}");
    for (arguments, words) in [("load merge", "REPORT.json"), ("load merge a --slo p98<1s", "p98")]
    {
        let outcome = line(arguments);
        assert_eq!(outcome.code, 2, "{outcome:?}");
        assert!(outcome.stderr.contains(words), "{words}: {outcome:?}");
    }
}

/// Both parts at once, begun at one time two seconds from now, as two machines would.
fn in_two_parts(server: &Serve, flags: &str) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let (url, start) = (format!("quic://{}", server.address()), now.as_secs() + 2);
    let parts = [1, 2].map(|part| {
        let part = format!("--partition {part}/2 --start-at {start} --json -q -k -t {part}");
        let line = format!("load {url} --perf {part} {flags}");
        Running::start(&line.split_whitespace().collect::<Vec<_>>())
    });
    let mut files = Vec::new();
    for (number, part) in (1_u64..).zip(parts) {
        let outcome = part.wait();
        let report = outcome.json();
        assert_load_report(&report);
        assert_eq!(report["setup"]["partition"]["parts"][0], number);
        let started = report["started_unix_ms"].as_u64().unwrap();
        assert!((start * 1_000..start * 1_000 + 500).contains(&started), "{started}: {start}");
        let path = directory.path().join(number.to_string());
        fs::write(&path, outcome.stdout).unwrap();
        files.push(path.to_str().unwrap().to_owned());
    }
    let outcome = quiclane(&["load", "merge", &files[0], &files[1]]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(!outcome.stderr.contains("missing"), "{outcome:?}");
    outcome.json()
}

#[test]
fn parts_of_a_run_are_exactly_the_run() {
    let server = Serve::start(&["-q"]);
    let sum = in_two_parts(&server, "-c 5 -n 1001");
    assert_eq!((sum["requests"].as_u64(), sum["handshakes"].as_u64()), (Some(1_001), Some(5)));
    assert_eq!(sum["setup"]["connections"], 5);
    assert_eq!(sum["setup"]["partition"]["parts"], serde_json::json!([1, 2]));
    let sum = in_two_parts(&server, "-c 5 -R 501 -d 1s --interval 500ms");
    let (due, intervals) = (&sum["schedule"]["due"], sum["intervals"].as_array().unwrap());
    assert_eq!((due.as_u64(), intervals.len()), (Some(501), 2), "{sum}");
    let due: Vec<_> = intervals.iter().map(|of| of["due"].as_u64().unwrap()).collect();
    assert_eq!(due, [251, 250]);
}

#[test]
fn parts_and_times_that_cannot_be_are_usage_errors() {
    for (flags, words) in [
        ("--partition 3/2", "I from 1 to N"),
        ("--partition 0/2", "I from 1 to N"),
        ("--partition 3/3 -c 2", "at least as many connections (-c)"),
        ("--start-at noon", "2026-01-31T12:00:00Z"),
        ("--start-at 2020-01-31T12:00:00Z", "ago: give a time"),
        ("--start-at +9d", "more than 7 days ahead"),
    ] {
        let outcome = line(&format!("load quic://127.0.0.1:1 --perf -k -q {flags}"));
        assert_eq!(outcome.code, 2, "{outcome:?}");
        assert!(outcome.stderr.contains(words), "{words}: {outcome:?}");
    }
}

#[test]
fn an_interrupt_ends_the_wait_for_the_start() {
    let start = ["load", "quic://127.0.0.1:1", "--perf", "-k", "--start-at", "+1h"];
    let mut load = Running::start(&start);
    load.until("waiting for --start-at");
    load.signal("INT");
    let outcome = load.wait();
    assert_eq!(outcome.code, 130, "{outcome:?}");
    assert!(outcome.stderr.contains("interrupted before the start"), "{outcome:?}");
}
