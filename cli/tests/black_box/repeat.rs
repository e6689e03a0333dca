//! repeat: several runs of one thing, and of two in turn.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::fs;

use serde_json::Value;

use crate::command::{Running, Serve, assert_fields, assert_load_report, line};

/// The report of each run.
fn reports(of: &Value) -> Vec<&Value> {
    of["runs"].as_array().unwrap().iter().map(|run| &run["report"]).collect()
}

/// The verdict of a comparison on `metric`.
fn verdict<'a>(of: &'a Value, metric: &str) -> &'a str {
    let metrics = of["compare"]["metrics"].as_array().unwrap();
    metrics.iter().find(|of| of["metric"] == metric).unwrap()["verdict"].as_str().unwrap()
}

#[test]
fn a_run_is_repeated_and_each_writes_files_of_its_own() {
    let server = Serve::start(&["-q"]);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let files = format!("--series {} --report {}", path("series"), path("run.html"));
    let outcome = server.load(&format!("-n 50 --repeat 3 {files}"));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for words in ["run 1 of 3  ", "run 3 of 3  ", "3 runs ", "median", "p99.9", "quic://"] {
        assert!(outcome.stdout.contains(words), "{words}: {}", outcome.stdout);
    }
    assert!(!outcome.stdout.contains("95 %"), "nothing is compared: {}", outcome.stdout);
    let mut names: Vec<String> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    let numbered = ["run.1.html", "run.2.html", "run.3.html", "series.1", "series.2", "series.3"];
    assert_eq!(names, numbered);
    for name in names {
        assert!(fs::metadata(path(&name)).unwrap().len() > 0, "{name}");
    }
}

#[test]
fn repeated_runs_are_one_object_with_a_summary() {
    let server = Serve::start(&["-q"]);
    let outcome = server.load("-n 50 --repeat 3 --json");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    // A busy machine may have something to say of so short a run.
    assert!(outcome.stderr.lines().all(|line| line.starts_with("note: ")), "quiet: {outcome:?}");
    let all = outcome.json();
    assert_fields(&all, &["schema", "runs", "summary", "compare"]);
    assert_eq!((all["schema"].as_u64(), all["compare"].is_null()), (Some(1), true));
    let reports = reports(&all);
    assert_eq!(reports.len(), 3);
    for (run, report) in all["runs"].as_array().unwrap().iter().zip(&reports) {
        assert_fields(run, &["target", "url", "report"]);
        assert_eq!((run["target"].as_str(), report["requests"].as_u64()), (Some("a"), Some(50)));
        assert_load_report(report);
    }
    assert_fields(&all["summary"], &["a"]);
    let summary = &all["summary"]["a"];
    assert_fields(summary, &["runs", "unit", "rate", "p50_us", "p99_us", "p999_us", "errors"]);
    let number = |of: &Value| of.as_f64().unwrap();
    for (name, field, of) in [
        ("rate", "/requests_per_s", "rate"),
        ("p50", "/latency_us/p50", "p50_us"),
        ("p99", "/latency_us/p99", "p99_us"),
        ("p99.9", "/latency_us/p999", "p999_us"),
        ("errors", "/errors/total", "errors"),
    ] {
        let mut values: Vec<f64> =
            reports.iter().map(|report| number(report.pointer(field).unwrap())).collect();
        values.sort_unstable_by(f64::total_cmp);
        let spread = ["min", "median", "max"].map(|end| number(&summary[of][end]));
        assert_eq!(values, spread, "{name}");
    }
}

#[test]
fn a_slower_server_is_worse_and_the_other_way_round_better() {
    let server = Serve::start(&["-q"]);
    let url = |path: &str| format!("https://{}/{path}", server.address());
    let (fast, slow) = (url("bytes/9"), url("delay/5ms"));
    let flags = "-k -q -c 4 -t 1 -d 700ms --interval 50ms";
    let outcome = line(&format!("load {fast} {flags} --versus {slow} --json"));
    assert_eq!(outcome.code, 0, "a verdict is no failure: {outcome:?}");
    let all = outcome.json();
    let runs = all["runs"].as_array().unwrap();
    let order: Vec<(&str, &str)> =
        runs.iter().map(|run| ["target", "url"].map(|f| run[f].as_str().unwrap()).into()).collect();
    let (a, b) = (("a", fast.as_str()), ("b", slow.as_str()));
    assert_eq!(order, [a, b, b, a, b, a], "three runs a side unless it is said how many");
    assert_eq!(verdict(&all, "requests_per_s"), "worse", "{}", all["compare"]);
    assert_eq!(verdict(&all, "p50_us"), "worse", "{}", all["compare"]);
    let [a, b] = ["a", "b"].map(|side| all["summary"][side]["p50_us"]["min"].as_f64().unwrap());
    assert!(b >= 5_000.0 && a < b, "{}", all["summary"]);
    let outcome = line(&format!("load {slow} {flags} --versus {fast} --repeat 2"));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for words in [
        "run 3 of 4 (run 2 of B)  ",
        &format!("A: {slow} ("),
        &format!("B: {fast} ("),
        "2 runs ",
        "95 % interval",
        "better",
        "to be sure",
    ] {
        assert!(outcome.stdout.contains(words), "{words}: {}", outcome.stdout);
    }
    assert!(!outcome.stdout.contains("WORSE"), "{}", outcome.stdout);
}

#[test]
fn a_server_does_not_differ_from_itself() {
    let server = Serve::start(&["-q"]);
    // What takes 20 ms takes no less or more of it on a busy machine, but a little.
    let url = format!("https://{}/delay/20ms", server.address());
    let flags = "-k -q -c 4 -t 1 -d 1s --interval 100ms --json";
    let outcome = line(&format!("load {url} {flags} --versus {url}"));
    let all = outcome.json();
    for metric in ["p50_us", "errors_share"] {
        let verdict = verdict(&all, metric);
        assert!(["equal", "inconclusive"].contains(&verdict), "{metric}: {}", all["compare"]);
    }
}

#[test]
fn codes_of_all_runs_are_one() {
    let server = Serve::start(&["-q", "--max-response", "1k"]);
    let broken = server.load("-n 20 --repeat 2 --slo p50<1ns");
    assert_eq!(broken.code, 3, "{broken:?}");
    assert_eq!(broken.stdout.matches("BROKEN p50<1ns (").count(), 2, "{broken:?}");
    let failed = server.load("-n 20 --repeat 2 --response-size 2k");
    assert_eq!(failed.code, 1, "{failed:?}");
    assert!(failed.stdout.contains("20 errors"), "{failed:?}");
    // More than anybody can send: the runs say nothing of the server.
    let invalid = server.load("-R 10m -d 700ms -c 200 --repeat 2 --slo p50<1ns");
    assert_eq!(invalid.code, 4, "before a broken objective: {invalid:?}");
    assert!(invalid.stdout.contains("\nINVALID: run 1 of 2, run 2 of 2: the gen"), "{invalid:?}");
    let held = server.load("--idle 5 -d 200ms --repeat 2");
    assert!(held.code == 0 && held.stdout.contains("handshakes/s"), "{held:?}");
}

#[test]
fn where_nobody_is_no_more_runs_are_made() {
    let server = Serve::start(&["-q"]);
    let outcome = server.load("-n 5 --versus quic://127.0.0.1:9 --repeat 9");
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert_eq!(outcome.stdout.matches(" of 18 ").count(), 2, "{outcome:?}");
    for words in ["UDP 127.0.0.1:9", "no connection could", "that are left are not made"] {
        assert!(outcome.stderr.contains(words), "{words}: {outcome:?}");
    }
}

#[test]
fn an_interrupted_run_is_left_out_and_those_before_it_are_not() {
    let server = Serve::start(&["-q"]);
    let url = format!("quic://{}", server.address());
    let start = |flags: &[&str]| {
        let common = ["load", &url, "--perf", "-k", "-t", "1", "-c", "2"];
        Running::start(&[&common[..], flags].concat())
    };
    let directory = tempfile::tempdir().unwrap();
    let hlog = directory.path().join("run.hlog");
    let hlog = hlog.to_str().unwrap();
    let mut load = start(&["-d", "1500ms", "--json", "--repeat", "3", "--hlog", hlog]);
    load.until("run 1 of 3: ");
    load.until("run 2 of 3: ");
    load.signal("INT");
    let outcome = load.wait();
    assert_eq!(outcome.code, 130, "{outcome:?}");
    assert!(outcome.stderr.contains("interrupted: run 2 of 3 is left out"), "{outcome:?}");
    assert!(!directory.path().join("run.3.hlog").exists(), "that run was never made");
    let all = outcome.json();
    assert_eq!((reports(&all).len(), all["summary"]["a"]["runs"].as_u64()), (1, Some(1)));
    // Between two runs, or at the beginning of the next on a busy machine.
    let mut load = start(&["-d", "300ms", "--json", "--versus", &url]);
    load.until("run 1 of 6 (run 1 of A)   ");
    load.signal("INT");
    let outcome = load.wait();
    assert!(outcome.code == 130 && outcome.stderr.contains("interrupted"), "{outcome:?}");
    let all = outcome.json();
    assert_eq!((reports(&all).len(), all["compare"].is_null()), (1, true), "{all}");
    let mut load = start(&["-d", "60s", "--repeat", "2"]);
    load.until("run 1 of 2: ");
    load.signal("INT");
    let outcome = load.wait();
    assert_eq!((outcome.code, outcome.stdout.as_str()), (130, ""), "{outcome:?}");
}
