//! merge: the reports of several generators become one.

use std::fs;

use serde_json::Value;

use crate::command::{Serve, assert_load_report, line, quiclane};

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
