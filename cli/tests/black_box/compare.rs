//! compare: two reports, and what the command says of them.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::command::{Serve, line, quiclane};

/// The report of a short run, stretched to 30 intervals whose rates differ a little, by `factor`.
fn reports(directory: &Path) -> (Value, impl Fn(&str, f64) -> String) {
    let server = Serve::start(&["-q"]);
    let report = server.load("--json -d 300ms --interval 100ms --warmup 100ms").json();
    let (directory, stretched) = (directory.to_owned(), report.clone());
    let write = move |name: &str, factor: f64| {
        let mut report = stretched.clone();
        let first = report["intervals"][1].clone();
        let intervals = (0..30_u32).map(|at| {
            let mut interval = first.clone();
            interval["start_s"] = json!((f64::from(at) * 1e5).round() / 1e6);
            interval["length_s"] = json!(0.1);
            let ok = (10_000.0 + f64::from(at * 7 % 11) * 30.0) * factor;
            interval["ok"] = json!(format!("{ok:.0}").parse::<u64>().unwrap());
            interval
        });
        report["intervals"] = intervals.collect();
        let path = directory.join(name);
        fs::write(&path, report.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    (report, write)
}

#[test]
fn verdicts_and_exit_codes() {
    let directory = tempfile::tempdir().unwrap();
    let (_, write) = reports(directory.path());
    let (a, same, slower) = (write("a", 1.0), write("b", 1.001), write("c", 0.9));
    let outcome = line(&format!("load compare {a} {same} --fail-on worse"));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for words in ["30 intervals", "95 % interval", "requests/s", "equal"] {
        assert!(outcome.stdout.contains(words), "{words}: {}", outcome.stdout);
    }
    let outcome = line(&format!("load compare {a} {slower}"));
    assert_eq!(outcome.code, 0, "any verdict is a result: {outcome:?}");
    assert!(outcome.stdout.contains("WORSE"), "{}", outcome.stdout);
    assert_eq!(line(&format!("load compare {a} {slower} --fail-on worse")).code, 3);
    assert_eq!(line(&format!("load compare {slower} {a} --fail-on worse")).code, 0);
    assert_eq!(line(&format!("load compare {a} {slower} --margin 20% --fail-on worse")).code, 0);
    let groups = format!("load compare --a {a} {same} {a} --b {same} {a} --json");
    let groups = line(&groups).json();
    assert_eq!((groups["a"]["runs"].as_u64(), groups["b"]["runs"].as_u64()), (Some(3), Some(2)));
    assert_eq!(groups["metrics"][0]["metric"], "requests_per_s");
    assert_eq!(groups["metrics"][0]["verdict"], "equal", "{groups}");
}

#[test]
fn real_reports_of_short_runs_are_inconclusive() {
    let directory = tempfile::tempdir().unwrap();
    let (report, _) = reports(directory.path());
    let path = directory.path().join("short");
    fs::write(&path, report.to_string()).unwrap();
    let path = path.to_str().unwrap();
    let outcome = line(&format!("load compare {path} {path}"));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("3 intervals are too few: at least 10"), "{outcome:?}");
}

#[test]
fn files_that_are_no_reports_have_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let (report, write) = reports(directory.path());
    let good = write("good", 1.0);
    let bad = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let text = report.to_string();
    let huge = bad("huge", b"");
    fs::File::options().write(true).open(&huge).unwrap().set_len(10 << 30).unwrap();
    for (file, words) in [
        ("/nowhere/report.json".to_owned(), "cannot be read: No such file"),
        (directory.path().to_str().unwrap().to_owned(), "cannot be read: "),
        (bad("empty", b""), "is no report of `quiclane load --json`"),
        (bad("cut", &text.as_bytes()[..text.len() / 2]), "is no report"),
        (bad("binary", &[0xff; 100]), "is no report"),
        (bad("other", b"{\"schema\":1}"), "missing field"),
        (bad("newer", b"{\"schema\":7}"), "has schema 7"),
        (huge, "is longer than 512 MiB"),
    ] {
        let outcome = quiclane(&["load", "compare", &good, &file]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "{outcome:?}");
        assert_eq!(outcome.stderr.lines().count(), 1, "{outcome:?}");
        for words in [words, &file] {
            assert!(outcome.stderr.contains(words), "{words}: {outcome:?}");
        }
    }
}

#[test]
fn what_is_no_pair_is_a_usage_error() {
    for arguments in [
        "load compare",
        "load compare a.json",
        "load compare a.json b.json c.json",
        "load compare --a a.json",
        "load compare --b b.json",
        "load compare a.json b.json --b c.json",
        "load compare a.json b.json --margin 0%",
        "load compare a.json b.json --fail-on maybe",
        "load -k compare a.json b.json",
        "load",
    ] {
        let outcome = line(arguments);
        assert_eq!(outcome.code, 2, "{arguments}: {outcome:?}");
    }
}
