//! aioquic is the Python server, if it is installed. QUICLANE_PYTHON is the Python that has it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use quiclane::Resume;
use quiclane_loadgen::{LoadConfig, Stop};
use tempfile::TempDir;

use crate::peers::Peer;
use crate::server::Certificate;
use crate::{classes, get, run};

/// A server in a process of its own, which ends with this value.
struct Aioquic {
    peer: Peer,
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
    _folder: TempDir,
}

impl Aioquic {
    fn start(python: &OsString) -> Self {
        let (certificate, folder) = (Certificate::generate(), tempfile::tempdir().unwrap());
        let (chain, key) = certificate.save(folder.path());
        let mut child = Command::new(python)
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/aioquic/server.py"))
            .args([chain, key])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let name = output.next().unwrap().unwrap();
        let port = output.next().unwrap().unwrap();
        let port: u16 = port.strip_prefix("port ").unwrap().parse().unwrap();
        let target = certificate.target(([127, 0, 0, 1], port).into(), Resume::Off);
        let (input, peer) = (child.stdin.take(), Peer { name, target });
        Self { peer, child, input, output, _folder: folder }
    }

    /// What came since the last time.
    fn seen(&mut self) -> BTreeMap<String, u64> {
        self.input.as_mut().unwrap().write_all(b"\n").unwrap();
        let line = self.output.next().unwrap().unwrap();
        serde_json::from_str(line.strip_prefix("saw ").unwrap()).unwrap()
    }
}

impl Drop for Aioquic {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

fn python(test: &str) -> Option<OsString> {
    let python = env::var_os("QUICLANE_PYTHON");
    if python.is_none() {
        assert!(env::var("CI").as_deref() != Ok("true"), "no QUICLANE_PYTHON");
        println!("skipped: {test}: aioquic is not installed: cargo xtask clients");
    }
    python
}

#[test]
fn aioquic_completes_all() {
    let Some(python) = python("aioquic_completes_all") else { return };
    let mut server = Aioquic::start(&python);
    // It takes minutes for a gigabyte, which nobody has to wait for each time.
    let download = env::var("QUICLANE_AIOQUIC_BYTES").map_or(50_000_000, |n| n.parse().unwrap());
    server.peer.completes_all(download);
    server.peer.sends_trailers();
    let seen = server.seen();
    let downloaded = format!("GET /bytes/{download} 0");
    let expected = [
        ("GET /bytes/1000 0", 50),
        ("HEAD /bytes/1000 0", 50),
        ("POST /echo 10000000", 2),
        ("GET /bytes/10000 0", 500),
        (&*downloaded, 1),
        ("GET /trailers 0", 10),
    ];
    assert_eq!(seen, expected.map(|(line, count)| (line.to_owned(), count)).into());
    server.peer.survives_cancelled_requests();
    assert_eq!(server.seen()["given up 0x10c"], 6, "each was told H3_REQUEST_CANCELLED");
}

#[test]
fn a_goaway_of_aioquic_loses_nothing() {
    let Some(python) = python("a_goaway_of_aioquic_loses_nothing") else { return };
    let mut server = Aioquic::start(&python);
    let requests = || vec![get("/goaway")];
    let config = server.peer.config(requests(), Stop::Requests(200), 4);
    let report = server.peer.say("GOAWAY", run(config));
    let [("going_away", refused)] = classes(&report)[..] else { panic!("{report}") };
    let answered = report.counts.requests.ok;
    assert!(refused > 0 && report.goaways.unwrap() > 5, "{report}");
    assert_eq!(answered + refused, 200, "{report}");
    assert_eq!(server.seen()["GET /goaway 0"], answered, "what was taken was answered");
    let config = server.peer.config(requests(), Stop::Requests(200), 4);
    let report = run(LoadConfig { reconnect: true, ..config });
    let report = server.peer.say("GOAWAY, sent again", report);
    assert!(report.ok && report.goaways.unwrap() >= 9, "{report}");
    assert_eq!(server.seen()["GET /goaway 0"], 200, "each was taken once");
}
