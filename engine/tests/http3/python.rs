//! python: clients in Python, if they are installed: aioquic, and libcurl as curl_cffi has it.
//! QUICLANE_PYTHON is the Python that has them.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use quiclane::Io;

use crate::common::law_holds;
use crate::requests::site;

/// Runs `script` against a server. It prints `ok NAME` for each of `steps`, and when the server is
/// to be stopped.
fn serves(script: &str, io: Io, download: &str, steps: &[&str]) {
    let Some(python) = env::var_os("QUICLANE_PYTHON") else {
        assert!(env::var("CI").as_deref() != Ok("true"), "no QUICLANE_PYTHON");
        println!("skipped: {script} has no client to run: cargo xtask clients");
        return;
    };
    let server = site(io);
    let folder = tempfile::tempdir().unwrap();
    server.certificate.save(folder.path());
    let mut client = Command::new(&python)
        .arg(format!("{}/tests/python/{script}", env!("CARGO_MANIFEST_DIR")))
        .arg(server.address().port().to_string())
        .arg(folder.path().join("certificate"))
        .arg(download)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut done = Vec::new();
    for line in BufReader::new(client.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        println!("{line}");
        done.extend(line.strip_prefix("ok ").map(str::to_owned));
        if line == "stop the server" {
            server.engine().stop(Duration::from_secs(20));
        }
    }
    assert!(client.wait().unwrap().success());
    assert_eq!(done, steps);
    law_holds(&server.finish());
}

#[test]
fn aioquic_gets_all_it_asks_for() {
    let steps = [
        "get_and_head",
        "post_10_mb",
        "trailers",
        "parallel_100",
        "download",
        "cancelled",
        "go_away_during_load",
    ];
    // It takes minutes for a gigabyte, which nobody has to wait for each time.
    let download = env::var("QUICLANE_AIOQUIC_BYTES").unwrap_or_else(|_| "50000000".to_owned());
    serves("aioquic_client.py", Io::Uring, &download, &steps);
    serves("aioquic_client.py", Io::Epoll, "1000000", &steps);
}

#[test]
fn curl_gets_all_it_asks_for() {
    let steps = [
        "get_and_head",
        "post_10_mb",
        "parallel_100",
        "download",
        "cancelled",
        "go_away_during_load",
    ];
    serves("curl_client.py", Io::Uring, "1000000", &steps);
    serves("curl_client.py", Io::Epoll, GIGABYTE, &steps);
}

const GIGABYTE: &str = "1073741824";
