//! server is `quiclane serve --h3` in a process of its own, with a certificate in files.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts it, and waits until it is ready.
    pub(crate) fn start() -> Self {
        let program = env::var_os(PROGRAM).unwrap_or_else(|| {
            panic!("{PROGRAM} names no server: run cargo xtask test --floor peers")
        });
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let [certificate, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let mut command = Command::new(program);
        command.args(["serve", "--h3", "--workers", "2", "--listen", "127.0.0.1:0"]);
        command.args(["--drain", "20s", "--cert"]).arg(certificate).arg("--key").arg(key);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        // What it says belongs to the test, and must not fill the pipe.
        thread::spawn(move || {
            log.lines().map_while(Result::ok).for_each(|line| eprintln!("{line}"))
        });
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let address = ready.split_once("ready listen=").unwrap().1.split_once(' ').unwrap().0;
        Self { address: address.parse().unwrap(), child, folder }
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    /// Asks it to stop gracefully.
    pub(crate) fn ask_to_stop(&self) {
        // The shell's own kill is there even where /bin/kill is not.
        let command = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    /// Waits for its end, which is a good one.
    pub(crate) fn ends(mut self) {
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it is over already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server's program: a build of this very tree.
const PROGRAM: &str = "QUICLANE_PROGRAM";
