//! demo: the promise of the first minute, and the shape of its JSON.

use std::io::BufRead;

use crate::command::{Running, assert_fields, assert_load_report, quiclane};

const RUNS: [&str; 4] = ["perf", "http3", "bulk", "handshakes"];

#[test]
fn the_demo_succeeds_and_says_what_it_did() {
    let outcome = quiclane(&["demo", "--json", "--quiet"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let report = outcome.json();
    let fields = ["schema", "ok", "duration_s", "io", "steering", "workers", "http3_per_perf"];
    assert_fields(&report, &[&fields[..], &RUNS].concat());
    assert_eq!((report["schema"].as_u64(), report["ok"].as_bool()), (Some(1), Some(true)));
    assert!(report["duration_s"].as_f64().unwrap() < 15.0, "{report}");
    let workers = report["workers"].as_array().unwrap();
    for (id, worker) in workers.iter().enumerate() {
        assert_fields(worker, &["id", "core", "connections", "datagrams", "tossed"]);
        assert_eq!(worker["id"], id);
        assert!(worker["datagrams"].as_u64().unwrap() > 0, "every worker has work: {report}");
    }
    for run in RUNS {
        assert_load_report(&report[run]);
        assert_eq!(report[run]["ok"], true, "{run}");
    }
    assert!(report["perf"]["requests"].as_u64().unwrap() > 0);
    let answered = report["http3"]["requests"].as_u64().unwrap();
    assert!(answered > 0 && report["http3"]["status"]["2xx"] == answered, "{report}");
    let rate = |run: &str| report[run]["requests_per_s"].as_f64().unwrap();
    let ratio = report["http3_per_perf"].as_f64().unwrap();
    assert!((ratio - rate("http3") / rate("perf")).abs() < 0.01, "{report}");
    assert!(report["bulk"]["bytes_down"].as_u64().unwrap() > 0);
    assert!(report["bulk"]["bytes_up"].as_u64().unwrap() > 0);
    let connections: u64 =
        workers.iter().map(|worker| worker["connections"].as_u64().unwrap()).sum();
    let handshakes: u64 = RUNS.map(|run| report[run]["handshakes"].as_u64().unwrap()).iter().sum();
    assert!(connections >= handshakes, "{report}");
}

#[test]
fn the_demo_says_what_it_runs_with_before_it_runs() {
    let mut demo = Running::start(&["demo", "--quiet"]);
    let mut lines = demo.stdout().lines().map_while(Result::ok);
    let plan = lines.find(|line| line.starts_with("plan: ")).unwrap_or_default();
    demo.signal("INT");
    for word in ["io ", "; steering "] {
        let (_, rung) = plan.split_once(word).unwrap_or_else(|| panic!("{word}: {plan:?}"));
        let why = rung.split(';').next().and_then(|rung| rung.split_once(", "));
        assert!(why.is_some_and(|(_, why)| why.len() > 10), "{plan:?}");
    }
}
