//! aioquic: the Python client, if it is installed. QUICLANE_AIOQUIC is the Python that has it.

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use quiclane::Io;

use crate::common::law_holds;
use crate::requests::site;

#[test]
fn aioquic_gets_all_it_asks_for() {
    let Some(python) = env::var_os("QUICLANE_AIOQUIC") else {
        assert!(env::var("CI").as_deref() != Ok("true"), "no QUICLANE_AIOQUIC");
        println!("skipped: aioquic is not installed: cargo xtask aioquic");
        return;
    };
    for io in [Io::Epoll, Io::Uring] {
        let server = site(io);
        let folder = tempfile::tempdir().unwrap();
        server.certificate.save(folder.path());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/aioquic/client.py");
        let mut client = Command::new(&python)
            .arg(script)
            .arg(server.address().port().to_string())
            .arg(folder.path().join("certificate"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut steps = 0;
        for line in BufReader::new(client.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            println!("{line}");
            steps += usize::from(line.starts_with("ok "));
            if line == "stop the server" {
                server.engine().stop(Duration::from_secs(20));
            }
        }
        assert!(client.wait().unwrap().success());
        assert_eq!(steps, 7);
        law_holds(&server.finish());
    }
}
