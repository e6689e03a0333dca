//! results: what `load` writes beside its report, for people and for other tools.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::fs;

use serde_json::Value;

use crate::command::{Serve, assert_load_report, line};

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_series_has_a_line_for_each_interval() {
    let server = Serve::start(&["-q"]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("series");
    fs::write(&path, "old\n").unwrap();
    let flags = format!("--json -d 1s -R 500 --interval 200ms --series {}", path.display());
    let outcome = server.load(&flags);
    let report = outcome.json();
    assert_load_report(&report);
    let series = lines(&fs::read_to_string(&path).unwrap());
    let intervals = report["intervals"].as_array().unwrap();
    assert_eq!((series.len(), intervals.len()), (5, 5), "{outcome:?}");
    for (at, (line, interval)) in series.iter().zip(intervals).enumerate() {
        assert_eq!(line["start_s"].as_f64(), Some(at as f64 * 200.0 / 1e3));
        for field in ["ok", "failed", "bytes_down", "bytes_up", "due", "sent", "lag_max_us"] {
            assert_eq!(line[field], interval[field], "{field}");
            assert!(line[field].is_u64(), "{field}");
        }
        assert_eq!(line["due"], 100);
        assert!(line["latency_us"]["p99"].is_u64() && line["service_us"]["p99"].is_u64());
        assert!(interval["latency"].is_string() && interval["service"].is_string());
    }
}

#[test]
fn a_series_on_stdout_is_alone_there() {
    let server = Serve::start(&["-q"]);
    let outcome = server.load("-d 300ms --interval 100ms --series -");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(lines(&outcome.stdout).len(), 3, "{outcome:?}");
    assert!(outcome.stderr.contains("perf requests"), "the report: {outcome:?}");
    let outcome = server.load("-n 1 --json --series -");
    assert_eq!(outcome.code, 2, "{outcome:?}");
    assert!(outcome.stderr.contains("give --series FILE"), "{outcome:?}");
}

#[test]
fn a_file_that_cannot_be_written_is_known_before_the_run() {
    let outcome = line("load quic://127.0.0.1:1 --perf -k -d 60s --series /nowhere/series");
    assert_eq!(outcome.code, 2, "{outcome:?}");
    for words in ["--series /nowhere/series", "No such file", "may write"] {
        assert!(outcome.stderr.contains(words), "{words}: {outcome:?}");
    }
}

#[test]
fn intervals_have_bounds() {
    for (flags, words) in [
        ("--interval 9ms", "at least 10ms"),
        ("--interval 10ms -d 1h", "write --interval 36ms"),
        ("--interval 0", "more than 0"),
    ] {
        let outcome = line(&format!("load quic://127.0.0.1:1 --perf -k -q {flags}"));
        assert_eq!(outcome.code, 2, "{outcome:?}");
        assert!(outcome.stderr.contains(words), "{words}: {outcome:?}");
    }
}
