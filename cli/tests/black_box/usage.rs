//! usage: what the command says when it is asked for help, and when it is asked for nonsense.

use crate::command::{line, quiclane};

#[test]
fn every_command_has_help() {
    for (arguments, words) in [
        (vec!["--help"], vec!["demo", "serve", "load", "doctor", "Exit codes"]),
        (vec!["demo", "--help"], vec!["--json", "15 seconds"]),
        (
            vec!["serve", "--help"],
            vec!["ready listen=", "[::]:4433", "--max-streams-bidi", "--drain"],
        ),
        (vec!["doctor", "--help"], vec!["--interface", "--json", "Examples"]),
        (vec!["tune", "--help"], vec!["plan", "apply", "revert", "status", "export", "Examples"]),
        (vec!["tune", "apply", "--help"], vec!["--profile", "--set", "--for", "--journal"]),
        (vec!["load", "compare", "--help"], vec!["--margin", "--fail-on", "Exit codes", "before"]),
        (vec!["load", "merge", "--help"], vec!["--output", "--slo", "--partition I/N"]),
        (
            vec!["load", "defence", "--help"],
            vec!["initial-flood", "slow-reader", "--i-own-this-target", "--slo", "Exit codes"],
        ),
        (
            vec!["load", "--help"],
            vec![
                "--connections",
                "quic://HOST:PORT",
                "https://HOST",
                "--body",
                "--slo",
                "compare",
                "merge",
                "--partition",
                "--repeat",
                "--versus",
                "1,024",
                "Examples",
            ],
        ),
    ] {
        let outcome = quiclane(&arguments);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        for word in words {
            assert!(outcome.stdout.contains(word), "{arguments:?}: {word}\n{}", outcome.stdout);
        }
    }
}

#[test]
fn flags_for_protocols_that_are_not_offered_are_refused() {
    for (arguments, value, remedy) in [
        (
            "serve --alpn perf,echo --root . --request-timeout 90s",
            "--root ., --request-timeout 1m 30s: without effect with --alpn perf,echo",
            "which serves no files: leave out one or the other, or add h3 or hq-interop",
        ),
        (
            "serve --alpn hq-interop --root . --request-timeout 5s",
            "--request-timeout 5s: without effect with --alpn hq-interop",
            "or add h3",
        ),
        (
            "serve --alpn perf --max-header-section 1k",
            "--max-header-section 1024: without effect with --alpn perf",
            "or add h3",
        ),
    ] {
        refused(arguments, value, remedy);
    }
}

#[test]
fn wishes_that_cannot_be_understood_name_value_and_remedy() {
    for (arguments, value, remedy) in [
        ("tune plan", "nothing is asked for", "--profile NAME or --set KNOB=VALUE"),
        ("tune plan --set gro", "gro", "KNOB=VALUE, as gro=on"),
        ("tune plan --set nosuch=1", "nosuch", "tune show"),
        ("tune plan --set gro=yes", "\"yes\" is not on or off", "gro"),
        ("tune plan --set mitigations=off", "mitigations", "boot"),
        ("tune plan --set worker_cores=1", "worker_cores", "quiclane serve --cores"),
        ("tune plan --set gro=on --set gro=off", "gro is given twice", "leave one out"),
        ("tune plan --profile fast", "fast", "throughput"),
        ("tune plan --profile latency --skip mtu", "--skip mtu", "leave it out"),
        ("tune plan --profile latency --interface nosuch", "nosuch", "there are"),
        ("tune apply --profile latency --for 500ms", "--for", "whole seconds, as 30s"),
        ("tune export --profile latency", "--format", "Usage"),
        ("tune export --set gro=on --format sysctl --format udev", "--format", "--dir DIR"),
        ("tune show --verbose --json", "--verbose", "--json"),
        ("tune --json status", "--json", "status"),
        ("tune apply --set gro=on --for 5s -- true", "--for", "cannot be used with"),
        ("tune apply --set gro=on --json -- true", "--json", "cannot be used with"),
    ] {
        refused(arguments, value, remedy);
    }
}

#[test]
fn usage_errors_exit_with_2_and_name_value_and_remedy() {
    for (arguments, value, remedy) in [
        ("", "Usage", "serve"),
        ("nonsense", "nonsense", "--help"),
        ("serve --listen here", "here", "0.0.0.0:4433"),
        ("serve --alpn perf,gopher", "gopher", "hq-interop"),
        ("serve --h3 --alpn perf", "--h3", "cannot be used with"),
        ("serve --follow-links", "--follow-links", "--root <DIR>"),
        ("serve --max-header-section 100", "100", "1k to 1g"),
        ("serve --cert c.pem", "--cert c.pem", "--key FILE"),
        ("serve --key k.pem", "--key k.pem", "--cert FILE"),
        ("serve --cert /nowhere/c.pem --key /nowhere/k.pem", "/nowhere/c.pem", "No such file"),
        ("serve --listen 127.0.0.1:0 --root /nowhere", "/nowhere", "--root"),
        ("serve --server-id 0g", "0g", "hexadecimal"),
        ("serve --listen 127.0.0.1:0 --server-id 001122334455667788", "9 bytes", "at most 8"),
        ("serve --listen 127.0.0.1:0 --workers 256", "256", "at most 255"),
        (
            "serve --listen 127.0.0.1:0 --workers 1 --cores 0,1",
            "2 cores",
            "one core for each worker",
        ),
        ("serve --listen 127.0.0.1:0 --cores 5000", "5000", "may use"),
        ("serve --steering cbpf --interface eth0", "--interface eth0", "--steering auto, xdp or"),
        (
            "serve --steering reuseport --interface eth0 --interface eth1 --xdp-redirect cpu",
            "--interface eth0, --interface eth1, --xdp-redirect cpu: without effect",
            "--steering reuseport, which puts no program on interfaces",
        ),
        ("serve --steering hash --xdp-redirect cpu", "--xdp-redirect cpu", "--steering hash"),
        ("doctor --steering hash --interface eth0", "--interface eth0", "--steering hash"),
        ("doctor --idle 1 -c 1", "--idle", "--connections"),
        ("serve --drain soon", "soon", "500ms"),
        ("serve --mtu-max 100", "100", "1200..=65527"),
        ("doctor --listen here", "here", "0.0.0.0:4433"),
        ("doctor -c 0", "0", "at least 1"),
        ("doctor eth0", "eth0", "Usage"),
        ("load", "<URL>", "Usage"),
        ("load localhost:4433 --perf", "localhost:4433", "quic://HOST:PORT"),
        ("load https://localhost --perf", "https://", "quic://HOST:PORT"),
        ("load localhost --perf", "localhost", "for HTTP/3 https://HOST"),
        ("load http://localhost", "http://", "https://HOST"),
        ("load quic://localhost:4433", "quic://localhost:4433 needs --perf", "https://HOST"),
        ("load quic://localhost:4433 --perf -c 0", "0", "at least 1"),
        ("load quic://localhost:4433 --perf -n ten", "ten", "10k"),
        ("load quic://localhost:4433 --perf -n 1 -d 1s", "--duration", "cannot be used with"),
        ("load quic://localhost:4433 --perf --download 1q", "1q", "64k"),
        (
            "load quic://127.0.0.1:1 --perf --cacert /nowhere/ca.pem",
            "/nowhere/ca.pem",
            "No such file",
        ),
        ("serve --listen 127.0.0.1:0 --window 0", "window is 0", "at least 1"),
        ("serve --listen 127.0.0.1:0 --keep-alive 1ns", "1ns", "at least 1 ms"),
        ("load https://127.0.0.1:1 -q --plain", "--quiet", "cannot be used with"),
        ("serve --h3 --max-streams-uni 2", "--max-streams-uni 2", "at least 3 with HTTP/3"),
        ("serve --max-streams-bidi 0", "--max-streams-bidi", "at least 1"),
        ("doctor --socket-buffer 2g", "--socket-buffer", "must be 64k to 1g"),
        ("doctor --listen [::]:4433 --listen 127.0.0.1:4433", "they overlap", "leave one out"),
        ("serve --listen 127.0.0.1:0 --socket-buffer 0", "--socket-buffer", "must be 64k to 1g"),
        ("serve --listen [fe80::1%nowhere]:1", "%nowhere", "[fe80::1%eth0]"),
        ("load quic://127.0.0.1:1 --perf -k --sni a..b", "a..b", "--sni NAME"),
        ("load quic://127.1:1 --perf -k", "\"127.1\"", "--sni NAME"),
        ("load quic://127.0.0.1:1 --perf -k -c 100m", "100000000 connections", "ulimit -n"),
    ] {
        refused(arguments, value, remedy);
    }
}

#[test]
fn what_has_no_meaning_for_several_runs_is_refused() {
    let url = "load https://127.0.0.1:1 -k";
    for (flags, value, remedy) in [
        ("--repeat 0", "'0'", "at least 1"),
        ("--repeat 1001", "'1001'", "at most 1000"),
        ("--repeat 2 --series -", "--series -: without effect with --repeat 2", "--series FILE"),
        ("--repeat 2 --idle 3", "--repeat 2 needs -d TIME", "--idle"),
        ("--repeat 2 --find-max --slo p99<1s", "--repeat", "--find-max"),
        ("--repeat 2 --start-at +3s", "--repeat", "--start-at"),
        ("--repeat 2 --partition 1/2", "--repeat", "--partition"),
        ("--repeat 2 -L", "--repeat", "--latency"),
        ("--repeat 2 --hlog /nowhere/run.hlog", "--hlog /nowhere/run.1.hlog", "may write"),
        ("--versus quic://a:1", "--versus quic://a:1: https://127.0.0.1:1/", "two with quic://"),
        ("--versus a:1", "a:1", "write quic://HOST:PORT"),
        ("--versus https://a https://127.0.0.1:1/b", "--versus", "MORE URLS"),
        ("--versus https://a -i f", "--versus", "--input-file"),
        ("--versus https://a --replay f", "--versus", "--replay"),
        ("--versus https://a --series -", "--series -", "--versus https://a/"),
        ("--versus https://a --idle 3", "--versus https://a/ needs -d TIME", "--idle"),
        ("--versus https://a --find-max --slo p99<1s", "--versus", "--find-max"),
        ("--versus https://a --start-at +3s", "--versus", "--start-at"),
        ("--versus https://a --partition 1/2", "--versus", "--partition"),
        ("--versus https://a -L", "--versus", "--latency"),
    ] {
        refused(&format!("{url} {flags}"), value, remedy);
    }
    refused("load compare a b --repeat 2", "--repeat", "Usage");
    refused("load merge a b --versus https://a", "--versus", "Usage");
}

#[test]
fn rates_that_cannot_be_read_are_named() {
    for (arguments, value, remedy) in [
        ("load https://127.0.0.1:1 -k -r 50", "-r of h2load", "--connect-rate 50"),
        ("load https://127.0.0.1:1 -k --connect-rate x", "\"x\"", "handshakes a second"),
        ("load https://127.0.0.1:1 -k --arrivals poisson", "poisson", "--connect-rate N"),
    ] {
        refused(arguments, value, remedy);
    }
}

#[test]
fn local_addresses_that_cannot_be_used_are_named() {
    for (flags, value, remedy) in [
        ("--local-addr ::1", "--local-addr ::1", "same IP version"),
        ("--local-addr 127.0.0.1,192.0.2.7", "192.0.2.7 cannot be bound", "ip addr"),
        ("--local-addr 127.0.0.1/8", "127.0.0.1/8", "the last 24 bits"),
        ("--migrate-every 5ms", "5ms", "at least 100ms"),
        ("--migrate-every 1s --sockets per-core", "--migrate-every 1s", "per-conn"),
    ] {
        refused(&format!("load quic://127.0.0.1:1 --perf -k {flags}"), value, remedy);
    }
}

#[test]
fn flags_that_do_not_fit_the_protocol_are_usage_errors() {
    for (arguments, value, remedy) in [
        ("load https://a --perf -n 1", "--perf: without effect with https://a/", "quic://HOST"),
        ("load https://a --download 1m", "--download 1048576", "quic://HOST:PORT with --perf"),
        ("load https://a --upload 1m", "--upload 1048576", "--body-size"),
        ("load https://a --request-size 5", "--request-size 5", "--body-size"),
        ("load https://a --response-size 5", "--response-size 5", "paths"),
        ("load quic://a:1 --perf -X PUT --body x", "-X PUT, --body", "https://HOST"),
        ("load quic://a:1 --perf -H a:b", "-H 'a: b'", "https://HOST"),
        ("load quic://a:1 --perf --body-size 5", "--body-size 5", "--request-size"),
        ("load quic://a:1 --perf --reconnect", "--reconnect", "--idle N"),
        ("load https://a --idle 1 -X PUT", "-X PUT", "--idle 1, which makes no requests"),
        ("load https://a --handshakes --body x", "--body", "--handshakes"),
        ("load https://a/x https://b/y", "https://a/x and https://b/y", "one command for each"),
        ("load https://a:1 https://a:2", "https://a:1/ and https://a:2/", "scheme, host and port"),
        ("load https://a https://a/b --input-file f", "MORE URLS", "cannot be used with"),
        ("load https://127.0.0.1:1 -k -i /nowhere/list", "--input-file /nowhere/list", "may read"),
        ("load https://127.0.0.1:1 -k --replay /nowhere/r", "--replay /nowhere/r", "may read"),
        ("load https://a --body x --body-size 5", "--body", "cannot be used with"),
        ("load https://a -H nonsense", "nonsense", "name: value"),
        ("load https://a -H :path:/", ":path:/", "change -X or the URL"),
        ("load https://127.0.0.1:1 -k -H connection:close", "\"connection\"", "leave it out"),
        ("load https://127.0.0.1:1 -k -H content-length:1", "\"content-length\"", "of the body"),
        ("load https://127.0.0.1:1 -k -H a(b):c", "\"a(b)\"", "letters, digits"),
        ("load https://127.0.0.1:1 -k -X G(T", "\"G(T\"", "such as GET"),
        ("load https://127.0.0.1:1 -k -X CONNECT", "\"CONNECT\"", "not possible"),
        ("load https://127.0.0.1:1 -k -H host:a/b", "\"a/b\"", "HOST:PORT"),
        ("load https://127.0.0.1:1 -k --body @/nowhere/b", "@/nowhere/b", "may read"),
        ("load https://u:p@127.0.0.1:1", "password", "https://HOST"),
    ] {
        refused(arguments, value, remedy);
    }
}

/// Asserts that a command line is a usage error that names `value` and `remedy`.
fn refused(arguments: &str, value: &str, remedy: &str) {
    let outcome = line(arguments);
    assert_eq!(outcome.code, 2, "{arguments}: {outcome:?}");
    assert_eq!(outcome.stdout, "", "{arguments}");
    for word in [value, remedy] {
        assert!(outcome.stderr.contains(word), "{arguments}: {word}\n{}", outcome.stderr);
    }
}

#[test]
fn a_name_that_does_not_resolve_is_a_failure() {
    let outcome = line("load quic://host.invalid:4433 --perf -k -n 1");
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("host.invalid"), "{}", outcome.stderr);
}
