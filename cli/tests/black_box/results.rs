//! results: what `load` writes beside its report, for people and for other tools.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::fs;
use std::io::{BufRead, Read};

use hdrhistogram::serialization::Deserializer;
use serde_json::Value;

use crate::command::{Running, Serve, assert_load_report, line, quiclane};

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
fn a_series_grows_while_the_run_lasts() {
    let server = Serve::start(&["-q"]);
    let url = format!("quic://{}", server.address());
    let flags = "--perf -k -q -t 2 -c 4 -R 200 -d 60s --interval 100ms --series -";
    let flags: Vec<&str> = flags.split(' ').collect();
    let mut load = Running::start(&[&["load", &url][..], &flags].concat());
    let mut series = load.stdout();
    let mut next = || {
        let mut line = String::new();
        series.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()
    };
    for at in 0..3 {
        let line = next();
        assert_eq!(line["start_s"].as_f64(), Some(f64::from(at) / 10.0), "{line}");
        assert!(line["due"] == 20 && line["latency_us"]["p99"].is_u64(), "of both workers: {line}");
    }
    load.signal("INT");
    // What is left comes at the end, and all of it is the run.
    let mut text = String::new();
    series.read_to_string(&mut text).unwrap();
    let last = lines(&text).pop().unwrap();
    let outcome = load.wait();
    assert_eq!(outcome.code, 130, "{outcome:?}");
    let length = last["start_s"].as_f64().unwrap() + last["length_s"].as_f64().unwrap();
    assert!(length > 0.3, "{last}");
    assert!(outcome.stderr.contains(&format!("measured for {length:.2} s")), "{outcome:?}");
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

#[test]
fn objectives_decide_the_exit_code() {
    let server = Serve::start(&["-q", "--max-response", "1k"]);
    let kept = server.load("-n 50 --slo p99<60s,rate>0,errors<=0 --json");
    assert_eq!(kept.code, 0, "{kept:?}");
    let slo = &kept.json()["slo"];
    assert_eq!((slo["kept"].as_bool(), slo["terms"].as_array().unwrap().len()), (Some(true), 3));
    let broken = server.load("-n 50 --slo p99<60s,p50<1ns");
    assert_eq!(broken.code, 3, "{broken:?}");
    for words in ["BROKEN", "kept       p99<60s", "broken     p50<1ns"] {
        assert!(broken.stdout.contains(words), "{words}: {broken:?}");
    }
    // All fail. Who excuses that has measured no latency, and an objective of none is broken.
    let fail = "-n 5 --response-size 2k";
    assert_eq!(server.load(fail).code, 1);
    assert_eq!(server.load(&format!("{fail} --slo errors<=5")).code, 0);
    assert_eq!(server.load(&format!("{fail} --slo errors<=5,p99<60s")).code, 3);
    assert_eq!(server.load(&format!("{fail} --slo handshakes>0")).code, 1, "says nothing of them");
    assert_eq!(server.load(&format!("{fail} --slo errors<5")).code, 3);
}

#[test]
fn an_interrupted_run_keeps_and_breaks_nothing() {
    let server = Serve::start(&["-q"]);
    let url = format!("quic://{}", server.address());
    let flags = ["load", &url, "--perf", "-k", "--json", "-d", "60s", "--slo", "p50<1ns"];
    let mut load = Running::start(&flags);
    load.until("requests/s");
    load.signal("INT");
    let outcome = load.wait();
    assert_eq!(outcome.code, 130, "{outcome:?}");
    assert!(outcome.json()["slo"]["kept"].is_null(), "{outcome:?}");
}

#[test]
fn objectives_that_cannot_be_are_usage_errors() {
    for (slo, words) in [
        ("p99", "p99<250ms"),
        ("speed>1", "p50, p90, p95"),
        ("ttfb.p99<1s", "over https:// alone"),
        ("rate>99%", "needs --rate"),
    ] {
        let outcome = line(&format!("load quic://127.0.0.1:1 --perf -k -q --slo {slo}"));
        assert_eq!(outcome.code, 2, "{outcome:?}");
        for words in [words, slo] {
            assert!(outcome.stderr.contains(words), "{words}: {outcome:?}");
        }
    }
}

#[test]
fn a_page_needs_nothing_else_and_shows_what_was_said_as_text() {
    let server = Serve::start(&["-q"]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("run.html");
    let page = path.to_str().unwrap();
    let (ok, fails) =
        ["bytes/9", "status/404"].map(|path| format!("https://{}/{path}", server.address())).into();
    let flags = "-k -q -c 2 -R 400 -d 1s --interval 100ms --json --report";
    let flags: Vec<&str> = flags.split(' ').chain([page]).collect();
    let more = ["-H", "x-note: <script>it's</script>", "--slo", "p99<60s,errors<1%"];
    let outcome = quiclane(&[&["load", &ok, &fails][..], &flags, &more].concat());
    // On a machine that is too busy for the rate the run is invalid, and the page says that.
    let verdict = if outcome.code == 4 { "Invalid: the generator" } else { "Objectives broken" };
    assert!([3, 4].contains(&outcome.code), "{outcome:?}");
    let text = fs::read_to_string(page).unwrap();
    for words in [
        "<!doctype html>",
        "Latency over time, from when a request was due",
        "Per second",
        "Percentiles",
        "first byte",
        verdict,
        "p99&lt;60s",
        "status_4xx",
        "&#39;x-note: &lt;script&gt;it&#39;\\&#39;&#39;s&lt;/script&gt;&#39;",
        "kernel",
        "</html>",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    // Ten intervals, so ten points of each line.
    let p50 = text.split("line q0\" d=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(p50.matches(['M', 'L']).count(), 10, "{p50}");
    for fetched in ["<script", " src=", " href=", "url(", "@import"] {
        assert!(!text.contains(fetched), "{fetched}: {text}");
    }
    for (open, close) in [("<section>", "</section>"), ("<table>", "</table>"), ("<svg", "</svg>")]
    {
        assert_eq!(text.matches(open).count(), text.matches(close).count(), "{open}");
    }
}

#[test]
fn the_highest_rate_that_keeps_the_objectives_is_found() {
    let server = Serve::start(&["-q"]);
    // One at a time, and each takes 20 ms: 50 a second, and a little more for half a second.
    let url = format!("https://{}/delay/20ms", server.address());
    let search = "-k -q -c 1 -m 1 -d 500ms --find-max --first-rate 5 --precision 40%";
    let flags = format!("load {url} {search} --slo p99<200ms,errors<1%");
    let outcome = line(&format!("{flags} --json"));
    // On a machine that is too busy for that, nobody can say.
    assert!([0, 3, 4].contains(&outcome.code), "{outcome:?}");
    let found = outcome.json();
    if outcome.code == 0 {
        assert!(found["trials"].as_array().unwrap().len() >= 2, "{found}");
        let met = found["met"].as_f64().unwrap();
        assert!((5.0..=100.0).contains(&met) && found["conclusion"] == "found", "{found}");
        assert!(found["broken"].as_f64().unwrap() > met, "{found}");
        assert_eq!(found["report"]["slo"]["kept"], true);
    }
    let hopeless = line(&flags.replace("200ms", "1us"));
    assert_eq!(hopeless.code, 3, "{hopeless:?}");
    let nobody = flags.replace(server.address(), "127.0.0.1:9");
    let nobody = line(&nobody);
    // Not once more at another rate. What was not measured keeps no objective.
    assert!(nobody.code == 3 && nobody.stderr.contains("no connection could"), "{nobody:?}");
    assert_eq!(nobody.stdout, "");
    for (wrong, words) in [
        ("load https://127.0.0.1:1 --find-max", "--slo"),
        ("load https://127.0.0.1:1 --slo p99<1s --find-max -R 5", "--rate"),
        ("load https://127.0.0.1:1 --slo p99<1s --find-max --precision 5", "0.1% to 50%"),
    ] {
        let outcome = line(wrong);
        assert!(outcome.code == 2 && outcome.stderr.contains(words), "{outcome:?}");
    }
}
