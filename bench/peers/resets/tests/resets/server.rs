//! server is `quiclane serve` in a process of its own, and the certificate it always has.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

/// A self-signed certificate for localhost, in files.
pub(crate) struct Certificate {
    folder: tempfile::TempDir,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(folder.path().join("cert.pem"), made.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem()).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }
}

/// Who answers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rung {
    /// The workers, on the lowest rung.
    Workers,
    /// The XDP program on loopback.
    Xdp,
}

impl Rung {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Workers => &["--steering", "hash"],
            Self::Xdp => &["--steering", "xdp-generic", "--interface", "lo"],
        }
    }

    /// The metric that counts its answers.
    pub(crate) fn answers(self) -> &'static str {
        match self {
            Self::Workers => "quiclane_endpoint_stateless_resets_total{",
            Self::Xdp => "quiclane_ebpf_frames_total{reason=\"answered\"",
        }
    }
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    metrics: SocketAddr,
}

impl Server {
    /// Starts it with the state of `state`, and waits until it is ready.
    pub(crate) fn start(
        certificate: &Certificate,
        state: &Path,
        listen: SocketAddr,
        rung: Rung,
    ) -> Self {
        let program = env::var_os(PROGRAM).unwrap_or_else(|| {
            panic!("{PROGRAM} names no server: run cargo xtask test --floor peers")
        });
        let mut command = Command::new(program);
        command.args(["serve", "--alpn", "perf", "--workers", "2", "--metrics", "127.0.0.1:0"]);
        command.args(["--listen", &listen.to_string()]).args(rung.flags());
        command.arg("--state-dir").arg(state);
        command.arg("--cert").arg(certificate.path()).arg("--key").arg(certificate.key());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let metrics = said(&mut log, "metrics: http://", "/metrics");
        // What else it says belongs to the test, and must not fill the pipe.
        thread::spawn(move || {
            log.lines().map_while(Result::ok).for_each(|line| eprintln!("{line}"))
        });
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let address = said(&mut stdout, "ready listen=", " ");
        Self { child, address, metrics }
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The sum of the samples that begin with `start`.
    pub(crate) fn metric(&self, start: &str) -> u64 {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let samples = text.lines().filter(|line| line.starts_with(start));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it is over already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address in the first line that has it between `before` and `after`.
fn said(output: &mut impl std::io::BufRead, before: &str, after: &str) -> SocketAddr {
    let mut seen = String::new();
    loop {
        let start = seen.len();
        assert_ne!(output.read_line(&mut seen).unwrap(), 0, "no {before:?} in {seen:?}");
        if let Some((_, rest)) = seen[start..].split_once(before) {
            return rest.split_once(after).unwrap().0.parse().unwrap();
        }
    }
}

/// Whether this is a network namespace of the test's own, whose loopback may have programs. If not,
/// the test was run in one, or says why it is skipped.
#[expect(clippy::print_stdout, reason = "a skipped test says so")]
pub(crate) fn in_namespace(test: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        return true;
    }
    let inside = |program: &OsStr, arguments: &[&str]| {
        let mut command = Command::new("unshare");
        let shell = "ip link set lo up && exec \"$@\"";
        command.args(["--net", "sh", "-c", shell, "sh"]).arg(program).args(arguments);
        command.env(INSIDE, "1").output()
    };
    if inside(OsStr::new("true"), &[]).is_ok_and(|output| output.status.success()) {
        let output = inside(env::current_exe().unwrap().as_os_str(), &["--exact", test]).unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{output:?}");
    } else {
        assert!(env::var("CI").as_deref() != Ok("true"), "no root, or no `ip`");
        println!("skipped: {test}: needs root for a network namespace, and `ip`");
    }
    false
}

/// The server's program: a build of this very tree.
const PROGRAM: &str = "QUICLANE_PROGRAM";
/// Set in the namespace.
const INSIDE: &str = "QUICLANE_TEST_INSIDE";
