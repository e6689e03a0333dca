//! defence: a server of one's own is abused, what is said about it, and how such a test ends.

use std::net::UdpSocket;

use crate::command::{Outcome, Running, Serve, assert_fields, line};

/// A short test of `server` with the words of `flags`.
fn defence(server: &Serve, kind: &str, flags: &str) -> Outcome {
    let url = format!("https://{}/", server.address());
    let outcome = line(&format!("load defence {kind} {url} -k -q -d 300ms --calm 200ms {flags}"));
    assert_eq!(outcome.stderr, "", "-q is quiet");
    outcome
}

#[test]
fn the_report_is_labelled_and_whole() {
    let server = Serve::start(&["-q"]);
    for (kind, parts) in [
        ("initial-flood", &["answers"][..]),
        ("handshake-abandon", &["answers"]),
        ("churn", &["connections"]),
        ("rapid-reset", &["connections", "streams"]),
        ("slow-reader", &["connections", "streams"]),
        ("stream-exhaustion", &["connections", "streams"]),
        ("junk", &["answers"]),
    ] {
        let outcome = defence(&server, kind, "-R 200 --json");
        let report = outcome.json();
        let is_saturated = report["saturated"] == true;
        assert_eq!(outcome.code, if is_saturated { 4 } else { 0 }, "{outcome:?}");
        let mut fields =
            vec!["schema", "defence", "target", "rate", "length_s", "ending", "saturated"];
        fields.extend(["abuse", "probe"]);
        // A late generator withholds them, and a small page leaves nothing lying.
        let is_judged = !is_saturated && kind != "slow-reader";
        assert!(report["verdict"].is_string() || !is_judged, "{kind}: {report}");
        assert!(report["recovered"].is_boolean() || is_saturated, "{kind}: {report}");
        let judged = ["verdict", "recovered"].into_iter();
        fields.extend(judged.filter(|field| !report[*field].is_null()));
        assert_fields(&report, &fields);
        assert_eq!((&report["schema"], &report["defence"]), (&1.into(), &kind.into()));
        assert_eq!((&report["rate"], &report["length_s"]), (&200.into(), &0.3.into()));
        assert_eq!(report["target"], server.address());
        let mut fields = vec!["duration_s", "due", "done", "held_back", "done_per_s", "sent"];
        fields.extend(["received", "amplification", "amplified", "not_taken", "closes", "ended"]);
        fields.push("stateless_resets");
        fields.extend(parts);
        assert_fields(&report["abuse"], &fields);
        assert!(report["abuse"]["done"].as_u64().unwrap() > 0, "{kind}: {report}");
        for phase in ["before", "during", "after"] {
            let phase = &report["probe"][phase];
            assert!(phase["lag_us"]["p99"].is_u64(), "{kind}: {report}");
            assert!(phase["requests_ok"].as_u64().unwrap() > 0, "{kind}: {report}");
            assert!(phase["handshakes_ok"].as_u64().unwrap() > 0, "{kind}: {report}");
        }
    }
    let outcome = defence(&server, "churn", "-R 50");
    let address = server.address();
    let label = format!("defence test churn against {address}: 50 handshakes/s for 300ms\n");
    let is_invalid = outcome.stdout.starts_with("INVALID: ");
    assert_eq!(outcome.code, if is_invalid { 4 } else { 0 }, "{outcome:?}");
    assert!(is_invalid || outcome.stdout.starts_with(&label), "{outcome:?}");
    assert!(outcome.stdout.contains(&label), "{outcome:?}");
    for word in ["\nabuse", "\nbefore", "\nduring", "\nafter", "\nverdict"] {
        assert!(outcome.stdout.contains(word), "{word}: {outcome:?}");
    }
}

#[test]
fn objectives_decide_over_the_time_of_the_abuse() {
    let server = Serve::start(&["-q"]);
    for (slo, kept) in [("errors<1%,p99<1us", false), ("rate>1,handshake.p99<60s", true)] {
        let outcome = defence(&server, "junk", &format!("--json --slo {slo}"));
        let report = outcome.json();
        assert_eq!(report["slo"]["kept"], kept, "{report}");
        let code = if kept { 0 } else { 3 };
        assert_eq!(outcome.code, if report["saturated"] == true { 4 } else { code }, "{report}");
        let text = defence(&server, "junk", &format!("--slo {slo}")).stdout;
        assert!(text.contains("objective"), "{text}");
    }
}

#[test]
fn perf_is_abused_as_well() {
    let server = Serve::start(&["-q"]);
    let url = format!("quic://{} --perf", server.address());
    let flags = "-k -q -d 500ms --calm 300ms --json --response-size 1m -c 2 -m 2";
    let report = line(&format!("load defence slow-reader {url} {flags}")).json();
    assert_eq!(report["abuse"]["streams"]["open_at_end"], 4, "{report}");
    assert!(report["abuse"]["received"]["bytes"].as_u64().unwrap() < 1 << 20, "{report}");
}

#[test]
fn an_interrupted_test_has_a_report() {
    let server = Serve::start(&["-q"]);
    let url = format!("https://{}/", server.address());
    let flags = "-k --json -d 10m --calm 300ms";
    let arguments = format!("load defence churn {url} {flags}");
    let mut running = Running::start(&arguments.split(' ').collect::<Vec<_>>());
    running.until("before the abuse");
    running.until("during the abuse");
    running.signal("INT");
    let outcome = running.wait();
    assert_eq!(outcome.code, 130, "{outcome:?}");
    assert!(!outcome.stderr.contains("after the abuse"), "there was none: {outcome:?}");
    let report = outcome.json();
    assert_eq!(report["ending"], "interrupted");
    assert!(report["verdict"].is_null() && report["abuse"].is_object(), "{report}");
}

#[test]
fn a_server_that_answers_nobody_is_not_abused() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let flags = "-k -q --calm 300ms --connect-timeout 300ms";
    let outcome = line(&format!("load defence junk https://{address}/ {flags}"));
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stdout.contains("not begun"), "{outcome:?}");
}

/// The remedy is that of a load which fails in the same way.
#[test]
fn a_test_that_cannot_begin_says_what_helps() {
    let server = Serve::start(&["-q"]);
    let address = server.address();
    for (url, ending, class, words) in [
        (format!("https://{address}/"), "nothing_connected", "tls", "--cacert FILE"),
        (format!("quic://{address} -k --raw --alpn y"), "nothing_connected", "tls", "ALPN y"),
        ("https://127.0.0.1:9/ -k".into(), "nothing_connected", "port_unreachable", "UDP 127.0"),
        (format!("https://{address}/no -k"), "nothing_answered", "status_4xx", ""),
    ] {
        let flags = "-q --json --calm 300ms -d 300ms --connect-timeout 1s";
        let outcome = line(&format!("load defence churn {url} {flags}"));
        assert_eq!(outcome.code, 1, "{outcome:?}");
        let report = outcome.json();
        assert_eq!(report["ending"], ending, "{outcome:?}");
        assert!(report["probe"]["before"]["errors"][class].is_u64(), "{outcome:?}");
        assert_eq!(outcome.stderr.contains("hint: "), !words.is_empty(), "{outcome:?}");
        assert!(outcome.stderr.contains(words), "{outcome:?}");
    }
}

#[test]
fn servers_of_others_and_higher_rates_are_refused() {
    for (arguments, words) in [
        ("junk https://192.0.2.1/ -k", ["192.0.2.1:443", "loopback", "--i-own-this-target"]),
        ("churn https://[2001:db8::1]/ -k", ["[2001:db8::1]:443", "your own server", "--i-own"]),
        ("junk https://127.0.0.1/ -k -R 100001", ["100001", "--rate", "100k"]),
        ("junk https://127.0.0.1/ -k -R 0", ["'0'", "--rate", "100k"]),
        ("junk https://127.0.0.1/ -k --probe-rate 2k", ["2k", "--probe-rate", "at most 1k"]),
        ("nonsense https://127.0.0.1/ -k", ["nonsense", "initial-flood", "KIND"]),
    ] {
        let outcome = line(&format!("load defence {arguments}"));
        assert_eq!(outcome.code, 2, "{outcome:?}");
        for word in words {
            assert!(outcome.stderr.contains(word), "{word}: {outcome:?}");
        }
    }
}
