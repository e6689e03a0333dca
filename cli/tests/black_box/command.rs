//! command runs the built binary and looks at what comes out of it.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::io::{BufRead, BufReader, Read};
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use std::{env, fs, process, thread};

use serde_json::Value;

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Says that `test` cannot run here, so that `cargo xtask test` lists it; with CI=true it fails.
pub(crate) fn skip(test: &str, why: &str) {
    assert!(env::var("CI").as_deref() != Ok("true"), "{test}: {why}");
    println!("skipped: {test}: {why}");
}

/// Runs `quiclane` with `arguments` to its end.
pub(crate) fn quiclane(arguments: &[&str]) -> Outcome {
    Running::start(arguments).wait()
}

/// Runs `quiclane` with the words of `line`.
pub(crate) fn line(line: &str) -> Outcome {
    quiclane(&line.split_whitespace().collect::<Vec<_>>())
}

/// Runs a shell with `script` in which `$quiclane` is a copy of the command that everybody may
/// run; as another user if asked for.
pub(crate) fn shell(script: &str, user: Option<u32>) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("quiclane");
    // By another process: a file that any thread of ours has open for writing when one starts a
    // command cannot be run until that command has begun (ETXTBSY).
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_quiclane")).arg(&program).status();
    assert!(copied.unwrap().success());
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("quiclane", &program).stdin(Stdio::null());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let output = command.output().unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Whether this is root; otherwise says that `test` is skipped.
pub(crate) fn root(test: &str) -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if !root {
        skip(test, "not root");
    }
    root
}

/// A command that still runs; killed when dropped.
pub(crate) struct Running {
    child: Child,
    stderr: Option<BufReader<ChildStderr>>,
}

impl Running {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_quiclane"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().map(BufReader::new);
        Self { child, stderr }
    }

    pub(crate) fn stdout(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.child.stdout.take().unwrap())
    }

    /// Waits for a line on stderr that contains `word`; returns it.
    pub(crate) fn until(&mut self, word: &str) -> String {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            let read = self.stderr.as_mut().unwrap().read_line(&mut line).unwrap();
            assert_ne!(read, 0, "ended without {word:?} on stderr");
        }
        line
    }

    /// Its number.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// The processes that it has started and that still run.
    pub(crate) fn children(&self) -> Vec<u32> {
        let process = self.child.id();
        let text = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap();
        text.split_whitespace().map(|number| number.parse().unwrap()).collect()
    }

    /// How many files it has open.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Whether it is over.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Sends a signal by its name, without its SIG.
    pub(crate) fn signal(&self, name: &str) {
        // The shell's own kill is there even where /bin/kill is not.
        let command = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    pub(crate) fn wait(mut self) -> Outcome {
        let stdout = self.child.stdout.take().map(|pipe| thread::spawn(|| read(pipe)));
        let stderr = self.stderr.take().map(|pipe| thread::spawn(|| read(pipe)));
        let status = self.finish();
        Outcome {
            code: status.code().unwrap_or(-1),
            stdout: stdout.map(|thread| thread.join().unwrap()).unwrap_or_default(),
            stderr: stderr.map(|thread| thread.join().unwrap()).unwrap_or_default(),
        }
    }

    fn finish(&mut self) -> ExitStatus {
        for _ in 0..PATIENCE_MS / 10 {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("still running after {PATIENCE_MS} ms");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it is over already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read(mut pipe: impl Read) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).unwrap();
    text
}

/// A server on a free port of loopback.
pub(crate) struct Serve {
    running: Running,
    rest: BufReader<ChildStdout>,
    /// The line that said it was ready.
    pub(crate) ready: String,
}

impl Serve {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_on("127.0.0.1:0", arguments)
    }

    /// The same on `listen`, an address of loopback.
    pub(crate) fn start_on(listen: &str, arguments: &[&str]) -> Self {
        let common = ["serve", "--listen", listen, "--workers", "2"];
        let mut running = Running::start(&[&common, arguments].concat());
        let mut rest = running.stdout();
        let mut ready = String::new();
        rest.read_line(&mut ready).unwrap();
        assert!(ready.starts_with("ready listen=127.0.0.1:"), "{ready:?} {:?}", running.wait());
        Self { running, rest, ready }
    }

    /// The same on an address that a second start will find free as well: its port is none of those
    /// that the system gives to whoever asks for any.
    pub(crate) fn start_again_and_again(arguments: &[&str]) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(0);
        let first = 20_000 + u16::try_from(process::id() % 5_000).unwrap();
        loop {
            let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
            if UdpSocket::bind(("127.0.0.1", port)).is_ok() {
                return Self::start_on(&format!("127.0.0.1:{port}"), arguments);
            }
        }
    }

    /// The address it listens on.
    pub(crate) fn address(&self) -> &str {
        let value = self.ready.split_whitespace().find_map(|word| word.strip_prefix("listen="));
        value.unwrap()
    }

    /// `quiclane load` against it, with the words of `flags`.
    pub(crate) fn load(&self, flags: &str) -> Outcome {
        line(&format!("load quic://{} --perf -k -q -t 1 {flags}", self.address()))
    }

    /// Waits for a line of the log that contains `word`; returns it.
    pub(crate) fn until(&mut self, word: &str) -> String {
        self.running.until(word)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        self.running.signal(signal);
    }

    /// Sends a signal and waits; stdout is what came after the ready line.
    pub(crate) fn stop(mut self, signal: &str) -> Outcome {
        self.running.signal(signal);
        let outcome = self.running.wait();
        let mut stdout = String::new();
        self.rest.read_to_string(&mut stdout).unwrap();
        Outcome { stdout, ..outcome }
    }
}

/// Asserts that `value` is a `load` object of the contract.
pub(crate) fn assert_load_report(value: &Value) {
    let mut fields = vec![
        "schema",
        "ok",
        "duration_s",
        "requests",
        "requests_per_s",
        "errors",
        "handshakes",
        "early_data",
        "handshakes_per_s",
        "bytes_down",
        "bytes_up",
        "gbit_s",
        "stateless_resets",
        "reconnects",
        "latency_us",
        "service_us",
        "saturated",
        "quic",
        "io",
        "ending",
        "counts",
        "connecting_s",
        "busy",
        "setup",
        "handshake_us",
        "histograms",
        "started_unix_ms",
        "interval_s",
        "intervals",
    ];
    if !value["status"].is_null() {
        // Requests over HTTP/3.
        fields.extend(["status", "goaways"]);
    }
    if !value["schedule"].is_null() {
        fields.push("schedule");
    }
    fields.extend((!value["datagrams"].is_null()).then_some("datagrams"));
    fields.extend((!value["ttfb_us"].is_null()).then_some("ttfb_us"));
    fields.extend((!value["stream_limit"].is_null()).then_some("stream_limit"));
    assert_fields(value, &fields);
    assert_eq!(value["schema"], 1);
    assert!(value["ok"].is_boolean() && value["saturated"].is_boolean() && value["io"].is_string());
    for field in ["duration_s", "requests_per_s", "handshakes_per_s", "gbit_s"] {
        assert!(value[field].is_number(), "{field}");
    }
    for field in ["requests", "handshakes", "bytes_down", "bytes_up", "stateless_resets"] {
        assert!(value[field].is_u64(), "{field}");
    }
    let by_class = value["errors"]["by_class"].as_object().unwrap();
    let sum: u64 = by_class.values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(value["errors"]["total"], sum);
    for times in ["latency_us", "service_us", "handshake_us"] {
        let order = ["p50", "p90", "p99", "p999", "p9999", "p99999", "max"];
        assert_fields(&value[times], &order);
        let order = order.map(|field| value[times][field].as_u64().unwrap());
        assert!(order.is_sorted(), "{times}: {order:?}");
    }
}

/// Asserts that `value` has exactly `fields`.
pub(crate) fn assert_fields(value: &Value, fields: &[&str]) {
    let mut expected = fields.to_vec();
    expected.sort_unstable();
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    assert_eq!(object.keys().map(String::as_str).collect::<Vec<_>>(), expected);
}

/// Far longer than any command of the tests takes.
const PATIENCE_MS: u64 = 60_000;

/// `nobody` on Debian, Fedora, Arch and Alpine.
pub(crate) const NOBODY: u32 = 65_534;
