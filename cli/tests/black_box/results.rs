//! results: what `load` writes beside its report, for people and for other tools.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::fs;

use hdrhistogram::serialization::Deserializer;
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
fn distributions_are_written_for_the_tools_of_hdrhistogram() {
    let server = Serve::start(&["-q"]);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (hlog, hgrm) = (path("run.hlog"), path("run.hgrm"));
    let flags = "-d 1s -R 200 --interval 500ms --json";
    let outcome = server.load(&format!("{flags} --hlog {hlog} --hgrm {hgrm}"));
    let report = outcome.json();
    let log = fs::read_to_string(hlog).unwrap();
    let started_s = report["started_unix_ms"].as_f64().unwrap() / 1e3;
    assert!(log.contains(&format!("#[StartTime: {started_s:.3} (")), "{log}");
    // What a tool reads is what the report has.
    let line = |tag: &str, start: &str| {
        let start = format!("Tag={tag},{start}");
        let line = log.lines().find(|line| line.starts_with(&start));
        line.unwrap_or_else(|| panic!("{start}: {log}")).rsplit(',').next().unwrap().to_owned()
    };
    let of = |base64: &str| {
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, base64).unwrap();
        Deserializer::new().deserialize::<u64, _>(&mut &bytes[..]).unwrap()
    };
    for (at, start) in [(0, "0.000,0.500,"), (1, "0.500,0.5")] {
        for kind in ["latency", "service"] {
            let own = report["intervals"][at][kind].as_str().unwrap();
            assert_eq!(of(&line(kind, start)), of(own), "{kind}");
        }
    }
    for kind in ["handshake", "lag"] {
        let own = report["histograms"][kind].as_str().unwrap();
        assert_eq!(of(&line(kind, "0.000,")), of(own), "{kind}");
    }
    assert!(!log.contains("Tag=ttfb") && report["histograms"]["ttfb"].is_null());
    let text = fs::read_to_string(hgrm).unwrap();
    let count = of(report["histograms"]["latency"].as_str().unwrap()).len();
    assert!(text.contains(&format!("Total count    = {count:>12}]")), "{text}");
}

#[test]
fn a_spectrum_is_printed_on_request() {
    let server = Serve::start(&["-q"]);
    let outcome = server.load("-n 100 -L");
    for words in ["spectrum", "p99.999", "deviation"] {
        assert!(outcome.stdout.contains(words), "{words}: {}", outcome.stdout);
    }
    assert!(!server.load("-n 100").stdout.contains("spectrum"));
    assert_eq!(server.load("-n 1 -L --json").code, 2);
}

#[test]
fn handshakes_are_timed_apart_from_requests() {
    let server = Serve::start(&["-q"]);
    for (flags, handshakes) in
        [("-c 4 -n 100", 4), ("--handshakes -n 9", 9), ("--idle 3 -d 100ms", 3)]
    {
        let report = server.load(&format!("--json {flags}")).json();
        assert!(report["handshake_us"]["p50"].as_u64().unwrap() > 0, "{flags}: {report}");
        let packed = report["histograms"]["handshake"].as_str().unwrap();
        let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, packed).unwrap();
        let histogram = Deserializer::new().deserialize::<u64, _>(&mut &bytes[..]).unwrap();
        assert_eq!(histogram.len(), handshakes, "{flags}");
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
