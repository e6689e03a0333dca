//! protocols: what `load` speaks beside HTTP/3 and `perf`, against `serve`.

use crate::command::{Outcome, Serve, assert_load_report, line};

fn load(server: &Serve, scheme: &str, path: &str, flags: &str) -> Outcome {
    line(&format!("load {scheme}://{}{path} -k -q -t 1 --json {flags}", server.address()))
}

#[test]
fn http_0_9_asks_for_files() {
    let server = Serve::start(&["-q", "--alpn", "hq-interop"]);
    let report = load(&server, "https", "/bytes/5000", "--hq -c 3 -m 4 -n 200").json();
    assert_load_report(&report);
    assert_eq!((&report["ok"], &report["requests"]), (&true.into(), &200.into()));
    assert_eq!(report["bytes_down"], 200 * 5_000);
    assert!(report["ttfb_us"]["p50"].as_u64().unwrap_or_default() > 0, "{report}");
    // There is no status: what is not there is a reset.
    let report = load(&server, "https", "/no/such/file", "--hq -n 3").json();
    assert_eq!(report["errors"]["by_class"]["reset"], 3, "{report}");
    // Others speak HTTP/3.
    let refused = load(&server, "https", "/", "-n 1");
    assert!(refused.stderr.contains("does not speak HTTP/3"), "{refused:?}");
}

#[test]
fn an_echo_comes_back_whole() {
    let server = Serve::start(&["-q", "--alpn", "echo"]);
    for (flags, bytes) in [
        ("--echo -c 2 -n 50", 1 << 10),
        ("--echo -c 2 -n 50 --request-size 100k", 100 << 10),
        ("--echo -c 2 -n 50 --body abc", 3),
        ("--echo -c 2 -n 50 -R 500 --body-size 2k", 2 << 10),
        ("--alpn echo --raw -c 2 -n 50 --request-size 7", 7),
        // It is the name that goes into the handshake, whatever is spoken then.
        ("--alpn echo --echo -c 2 -n 50", 1 << 10),
    ] {
        let report = load(&server, "quic", "", flags).json();
        assert_load_report(&{
            let mut closed = report.clone();
            // What an open loop says of its schedule is its own affair.
            let _ = closed.as_object_mut().map(|fields| fields.remove("schedule"));
            closed
        });
        assert_eq!((&report["ok"], &report["requests"]), (&true.into(), &50.into()), "{flags}");
        let moved = (&report["bytes_up"], &report["bytes_down"]);
        assert_eq!(moved, (&(50 * bytes).into(), &(50 * bytes).into()), "{flags}");
    }
    for (scheme, flags) in [
        ("quic", "--alpn other --raw -n 1"),
        ("quic", "--alpn other --echo -n 1"),
        ("quic", "--alpn other --perf -n 1"),
        ("https", "--alpn other --hq -n 1"),
        ("https", "--alpn other -n 1"),
    ] {
        let refused = load(&server, scheme, "", flags);
        assert!(refused.stderr.contains("ALPN other"), "{refused:?}");
    }
}

#[test]
fn datagrams_come_back_or_are_lost() {
    let server = Serve::start(&["-q", "--alpn", "echo"]);
    let flags = "--echo -c 3 --datagrams 200 --datagram-size 200 --warmup 200ms -d 1s";
    let report = load(&server, "quic", "", flags).json();
    let datagrams = &report["datagrams"];
    let count = |name: &str| datagrams[name].as_u64().unwrap_or_default();
    assert_eq!(count("sent") + count("dropped"), report["schedule"]["sent"], "{report}");
    assert_eq!(count("received") + count("lost"), count("sent"), "{report}");
    assert_eq!(report["schedule"]["due"], 200, "{report}");
    // How many is for the machine to say.
    let delay = datagrams["delay_us"]["p50"].as_u64().unwrap_or_default();
    assert!(count("received") > 0 && delay > 0, "{report}");
    assert_eq!((&report["ok"], &report["requests"]), (&true.into(), &0.into()), "{report}");
    assert_eq!(report["bytes_up"], 200 * count("sent"), "{report}");
    // Larger than what any path takes: none is sent, and that is said.
    let report = load(&server, "quic", "", "--echo --datagrams 50 --datagram-size 60k -d 300ms");
    assert_eq!(report.code, 1, "{report:?}");
    let classes = &report.json()["errors"]["by_class"];
    assert!(classes["datagram_too_large"].as_u64().unwrap_or_default() > 0, "{report:?}");
    // Too small to be numbered.
    let refused = load(&server, "quic", "", "--echo --datagrams 5 --datagram-size 7");
    assert_eq!(refused.code, 2, "{refused:?}");
}
