//! usage: what the command says when it is asked for help, and when it is asked for nonsense.

use crate::command::{line, quiclane};

#[test]
fn every_command_has_help() {
    for (arguments, words) in [
        (vec!["--help"], vec!["demo", "serve", "load", "doctor", "Exit codes"]),
        (vec!["demo", "--help"], vec!["--json", "ten seconds"]),
        (
            vec!["serve", "--help"],
            vec!["ready listen=", "[::]:4433", "--max-streams-bidi", "--drain"],
        ),
        (vec!["doctor", "--help"], vec!["--interface", "--json", "Examples"]),
        (vec!["load", "--help"], vec!["--connections", "quic://HOST:PORT", "1,024", "Examples"]),
    ] {
        let outcome = quiclane(&arguments);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        for word in words {
            assert!(outcome.stdout.contains(word), "{arguments:?}: {word}\n{}", outcome.stdout);
        }
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
        ("load", "URL", "--perf"),
        ("load localhost:4433 --perf", "localhost:4433", "quic://HOST:PORT"),
        ("load https://localhost --perf", "https://", "quic://HOST:PORT"),
        ("load quic://localhost:4433", "--perf", "Usage"),
        ("load quic://localhost:4433 --perf -c 0", "0", "at least 1"),
        ("load quic://localhost:4433 --perf -n ten", "ten", "10k"),
        ("load quic://localhost:4433 --perf -n 1 -d 1s", "--duration", "cannot be used with"),
        ("load quic://localhost:4433 --perf --download 1q", "1q", "64k"),
        (
            "load quic://127.0.0.1:1 --perf --cacert /nowhere/ca.pem",
            "/nowhere/ca.pem",
            "No such file",
        ),
        (
            "load quic://127.0.0.1:1 --perf -k --local-addr ::1",
            "--local-addr ::1",
            "same IP version",
        ),
        ("serve --listen 127.0.0.1:0 --window 0", "window is 0", "at least 1"),
        ("serve --listen 127.0.0.1:0 --keep-alive 1ns", "1ns", "at least 1 ms"),
        ("serve --listen 127.0.0.1:0 --socket-buffer 0", "socket_buffer is 0", "64 KiB"),
        ("serve --listen [fe80::1%nowhere]:1", "%nowhere", "[fe80::1%eth0]"),
        ("load quic://127.0.0.1:1 --perf -k --sni a..b", "a..b", "--sni NAME"),
        ("load quic://127.1:1 --perf -k", "\"127.1\"", "--sni NAME"),
        ("load quic://127.0.0.1:1 --perf -k -c 100m", "100000000 connections", "ulimit -n"),
    ] {
        let outcome = line(arguments);
        assert_eq!(outcome.code, 2, "{arguments}: {outcome:?}");
        assert_eq!(outcome.stdout, "", "{arguments}");
        for word in [value, remedy] {
            assert!(outcome.stderr.contains(word), "{arguments}: {word}\n{}", outcome.stderr);
        }
    }
}

#[test]
fn a_name_that_does_not_resolve_is_a_failure() {
    let outcome = line("load quic://host.invalid:4433 --perf -k -n 1");
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains("host.invalid"), "{}", outcome.stderr);
}
