//! serve: the ready line, the log, metrics, certificates and the ways to stop.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::time::Duration;

use crate::command::{Running, Serve, line, skip};

#[test]
fn stdout_has_one_line_and_the_log_the_plan() {
    let server = Serve::start(&[]);
    let keys: Vec<&str> =
        server.ready.split_whitespace().map(|word| word.split('=').next().unwrap()).collect();
    assert_eq!(keys, ["ready", "listen", "workers", "io", "steering", "epoch"]);
    assert!(server.ready.contains(" workers=2 "), "{}", server.ready);
    let outcome = server.stop("TERM");
    assert_eq!((outcome.code, outcome.stdout.as_str()), (0, ""), "{outcome:?}");
    for word in ["SHA-256", "spki-list=", "plan: 2 workers", "stopping", "stopped"] {
        assert!(outcome.stderr.contains(word), "{word}: {}", outcome.stderr);
    }
}

#[test]
fn quiet_leaves_only_warnings() {
    let outcome = Serve::start(&["--quiet"]).stop("INT");
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let is_warning = |line: &str| line.starts_with("warning: ");
    assert!(outcome.stderr.lines().all(is_warning), "{}", outcome.stderr);
    // More workers than cores are not pinned: that is worth a warning.
    let workers = 1 + std::thread::available_parallelism().map_or(1, usize::from);
    let workers = workers.to_string();
    let args = ["serve", "-q", "--listen", "127.0.0.1:0", "--workers", &workers];
    let mut server = Running::start(&args);
    server.until(&format!("warning: cores: {workers} workers"));
    server.signal("TERM");
    assert_eq!(server.wait().code, 0);
}

#[test]
fn several_addresses_are_served() {
    let server = Serve::start(&["--listen", "127.0.0.1:0", "-q"]);
    let addresses: Vec<String> = server.address().split(',').map(String::from).collect();
    assert_eq!(addresses.len(), 2);
    for address in addresses {
        let outcome = line(&format!("load quic://{address} --perf -k -q -c 2 -n 10"));
        assert_eq!(outcome.code, 0, "{outcome:?}");
    }
}

#[test]
fn resets_have_limits_that_the_log_shows() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().to_str().unwrap();
    let limits = ["--max-resets", "500", "--max-resets-per-prefix", "2"];
    let arguments = [&["--steering", "hash", "--state-dir", state], &limits[..]].concat();
    let server = Serve::start_again_and_again(&arguments);
    let address = server.address().to_owned();
    let url = format!("quic://{address}");
    let held = ["load", &url, "--perf", "-k", "--idle", "30", "--keep-alive", "200ms"];
    let mut load = Running::start(&held);
    load.until("30 connections held");
    drop(server);
    let mut server = Serve::start_on(&address, &arguments);
    let plan = server.until("plan: ");
    assert!(plan.contains("; at most 500 resets/s, 2/s to one source prefix"), "{plan}");
    let warning = server.until("warning: resets refused by limit");
    for words in ["to clients of one source prefix (--max-resets-per-prefix 2)", "raise it"] {
        assert!(warning.contains(words), "{words}: {warning}");
    }
    assert!(!warning.contains("--max-resets 500"), "that one was not reached: {warning}");
    // More are refused, and a minute has not passed.
    std::thread::sleep(Duration::from_secs(2));
    let outcome = server.stop("TERM");
    assert!(!outcome.stderr.contains("resets refused"), "{}", outcome.stderr);
}

#[test]
fn budgets_that_nobody_keeps_are_warned_of() {
    let server = Serve::start(&["--steering", "hash", "--max-initials", "unlimited"]);
    let outcome = server.stop("INT");
    assert!(outcome.stderr.contains("warning: budgets: XDP keeps them"), "{}", outcome.stderr);
    let outcome = line("serve --max-initials-per-prefix 0");
    assert_eq!(outcome.code, 2);
    for words in ["'0'", "--max-initials-per-prefix", "or unlimited for no limit"] {
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }
}

#[test]
fn a_folder_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().to_str().unwrap();
    for flags in [&["--h3", "--root", root][..], &["--h3", "--root", root, "--follow-links"]] {
        let outcome = Serve::start(flags).stop("TERM");
        assert_eq!(outcome.code, 0, "{outcome:?}");
    }
    // Who offers HTTP/3 alone speaks nothing else.
    let server = Serve::start(&["-q", "--h3"]);
    assert_eq!(server.load("-c 1 -n 1").code, 1);
    let outcome = line("serve --listen 127.0.0.1:0 --root /nowhere --follow-links");
    assert!(outcome.code == 2 && outcome.stderr.contains("/nowhere"), "{outcome:?}");
}

#[test]
fn an_address_in_use_is_named() {
    let server = Serve::start(&["-q"]);
    let outcome = line(&format!("serve -q --listen {}", server.address()));
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stderr.contains(server.address()), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("in use"), "{}", outcome.stderr);
}

#[test]
fn metrics_are_answered_over_http() {
    // Found free; nobody else on this machine is after it in the next moment.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Serve::start(&["-q", "--metrics", &free.to_string()]);
    assert_eq!(server.load("-c 2 -n 20").code, 0);
    // One that never ends its request, a byte at a time, is not waited for.
    let mut slow = TcpStream::connect(free).unwrap();
    std::thread::spawn(move || {
        while slow.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let mut client = TcpStream::connect(free).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    for name in ["route_received", "http3_requests", "http3_cancelled_requests"] {
        let line = format!("quiclane_{name}_total{{worker=\"0\"}} ");
        assert!(response.contains(&line), "{line}: {response}");
    }
    let outcome = line(&format!("serve -q --listen 127.0.0.1:0 --metrics {free}"));
    assert_eq!(outcome.code, 1, "{outcome:?}");
    // Whoever was killed a moment ago is waited for.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(other);
    });
    assert_eq!(Serve::start(&["-q", "--metrics", &taken]).stop("TERM").code, 0);
    assert!(outcome.stderr.contains(&format!("--metrics {free}")), "{}", outcome.stderr);
}

#[test]
fn a_certificate_of_ones_own_is_used_and_trusted_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
    let made = rcgen::generate_simple_self_signed(vec!["quic.example".to_owned()]).unwrap();
    fs::write(&certificate, made.cert.pem()).unwrap();
    fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let server = Serve::start(&["-q", "--cert", certificate, "--key", key]);
    let load = |flags: &str| {
        line(&format!("load quic://{} --perf -q -t 1 -c 1 -n 5 {flags}", server.address()))
    };
    let trusted = load(&format!("--cacert {certificate} --sni quic.example"));
    assert_eq!(trusted.code, 0, "{trusted:?}");
    let other_name = load(&format!("--cacert {certificate}"));
    assert_eq!(other_name.code, 1, "{other_name:?}");
    assert!(other_name.stdout.contains("tls"), "{other_name:?}");
    assert!(other_name.stderr.contains("--sni NAME"), "{other_name:?}");
    assert!(other_name.stderr.contains("127.0.0.1"), "{other_name:?}");
    let swapped =
        line(&format!("serve --listen 127.0.0.1:0 --cert {certificate} --key {certificate}"));
    assert_eq!(swapped.code, 2, "{swapped:?}");
    assert!(swapped.stderr.contains("no private key"), "{swapped:?}");
    let other_key = directory.path().join("other.pem");
    let other = rcgen::KeyPair::generate().unwrap();
    fs::write(&other_key, other.serialize_pem()).unwrap();
    let other_key = other_key.to_str().unwrap();
    let mixed = line(&format!("serve --listen 127.0.0.1:0 --cert {certificate} --key {other_key}"));
    assert_eq!(mixed.code, 2, "{mixed:?}");
    assert!(mixed.stderr.contains("the key that the certificate was made with"), "{mixed:?}");
}

#[test]
fn listen_addresses_that_clash_are_both_named() {
    for (flags, words) in [
        ("--listen 127.0.0.1:4567 --listen 127.0.0.1:4567", "overlap"),
        ("--listen [::]:4567 --listen 127.0.0.1:4567", "[::]:4567 and on 127.0.0.1:4567"),
    ] {
        let outcome = line(&format!("serve {flags}"));
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{outcome:?}");
        assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    }
}

#[test]
fn a_root_that_only_capabilities_open_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    fs::write(directory.path().join("index.html"), "here").unwrap();
    if chown(path, Some(12_345), Some(12_345)).is_err() {
        return skip("a_root_that_only_capabilities_open", "needs root to give a folder away");
    }
    fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
    let outcome = line(&format!("serve --listen 127.0.0.1:0 --h3 --root {path}"));
    assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{outcome:?}");
    for words in [&format!("--root {path}: Permission denied"), "--keep-capabilities"] {
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }
    let started = Serve::start(&["--h3", "--root", path, "--keep-capabilities"]);
    assert_eq!(started.stop("TERM").code, 0);
}

#[test]
fn a_state_directory_of_somebody_else_is_refused_to_root() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let give = |path: &Path, user| chown(path, Some(user), Some(user));
    let started = Serve::start(&["--state-dir", path]);
    assert_eq!(started.stop("TERM").code, 0);
    if give(directory.path(), 12_345).is_err() {
        return skip("a_state_directory_of_somebody_else", "needs root to give a folder away");
    }
    let refused = |what: &str| {
        let outcome = line(&format!("serve --listen 127.0.0.1:0 --state-dir {path}"));
        assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "{outcome:?}");
        let remedy = format!("chown -R 0 {path}");
        for words in [what, "belongs to user 12345", &remedy, "as user 12345"] {
            assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
        }
    };
    refused(path);
    // Whoever keeps the capabilities can go on; what is made there belongs to the folder's owner.
    let started = Serve::start(&["--state-dir", path, "--keep-capabilities"]);
    assert!(started.ready.contains(" epoch=2"), "the refused start took none: {}", started.ready);
    assert_eq!(started.stop("TERM").code, 0);
    give(directory.path(), 0).unwrap();
    refused(&format!("{path}/"));
    for entry in fs::read_dir(directory.path()).unwrap() {
        give(&entry.unwrap().path(), 0).unwrap();
    }
    let mut started = Serve::start(&["--state-dir", path]);
    assert!(started.ready.contains(" epoch=3"), "{}", started.ready);
    // And it can look at the directory from then on.
    fs::remove_file(directory.path().join("lock.2")).unwrap();
    let forgotten = started.until("epoch 2: ");
    assert!(forgotten.contains("forgotten"), "{forgotten}");
    assert_eq!(started.stop("TERM").code, 0);
}

#[test]
fn a_state_directory_that_lost_a_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let started = Serve::start(&["--state-dir", path]);
    assert!(started.ready.contains(" epoch=1"), "{}", started.ready);
    assert_eq!(started.stop("TERM").code, 0);
    fs::remove_file(directory.path().join("epoch")).unwrap();
    fs::remove_file(directory.path().join("lock.1")).unwrap();
    let outcome = line(&format!("serve --listen 127.0.0.1:0 --state-dir {path}"));
    assert_eq!((outcome.code, outcome.stdout.as_str()), (1, ""), "{outcome:?}");
    for word in [&format!("{path}/epoch"), "missing", "restore it"] {
        assert!(outcome.stderr.contains(word), "{word}: {}", outcome.stderr);
    }
}

#[test]
fn a_signal_lets_connections_finish_and_a_second_one_does_not() {
    let mut server = Serve::start(&["--drain", "60s"]);
    let url = format!("quic://{}", server.address());
    let mut load = Running::start(&["load", &url, "--perf", "-k", "-d", "60s", "--json"]);
    load.until("requests/s");
    server.signal("TERM");
    server.until("stopping");
    load.until(" 10 connections, 0 failed");
    let outcome = server.stop("TERM");
    assert_eq!(outcome.code, 130, "{outcome:?}");
    load.until(" 0 connections");
    load.signal("INT");
    let outcome = load.wait();
    assert_eq!(outcome.code, 130, "{outcome:?}");
    let report = outcome.json();
    assert!(report["requests"].as_u64().unwrap() > 0, "{report}");
    assert!(report["errors"]["by_class"]["application_close"].as_u64().unwrap() > 0, "{report}");
}
