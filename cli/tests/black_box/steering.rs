//! steering serves in a network namespace of its own and looks at what the kernel does there.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};

/// Two namespaces joined by a veth pair; gone when dropped.
struct Link {
    server: String,
    client: String,
}

impl Link {
    /// `None`, and a line that says so, without the means; with CI=true that is a failure.
    fn new(test: &str) -> Option<Self> {
        let process = std::process::id();
        let name = |side: &str| format!("quiclane-{process}-{test}-{side}");
        let link = Self { server: name("s"), client: name("c") };
        if !ip(&format!("netns add {}", link.server)) {
            assert!(env::var("CI").as_deref() != Ok("true"), "{test}: no root, or no `ip`");
            println!("skipped: {test}: needs root for network namespaces, and `ip`");
            return None;
        }
        let Self { server, client } = &link;
        let queues = "numrxqueues 2 numtxqueues 2";
        for command in [
            format!("netns add {client}"),
            format!(
                "link add veth0 {queues} netns {server} type veth peer name veth1 {queues} netns \
                 {client}"
            ),
            format!("-n {server} address add 10.99.0.1/24 dev veth0"),
            format!("-n {client} address add 10.99.0.2/24 dev veth1"),
            format!("-n {server} address add fd99::1/64 dev veth0 nodad"),
            format!("-n {client} address add fd99::2/64 dev veth1 nodad"),
            format!("-n {server} link set lo up"),
            format!("-n {server} link set veth0 up"),
            format!("-n {client} link set veth1 up"),
        ] {
            assert!(ip(&command), "ip {command}");
        }
        Some(link)
    }

    fn serve(&self, flags: &str) -> Serving {
        Serving::start(&self.server, &[], flags)
    }

    /// A run of 500 requests that must succeed.
    fn load(&self, host: &str, port: u16) {
        let url = format!("quic://{host}:{port}");
        let mut command = inside(&self.client, &[env!("CARGO_BIN_EXE_quiclane")]);
        let run = "--perf -k -q -c 20 -n 500";
        let output = command.args(["load", &url]).args(run.split(' ')).output().unwrap();
        assert!(output.status.success(), "{url}: {output:?}");
    }

    /// What `ip link` says of the server's interface.
    fn device(&self) -> String {
        let output =
            Command::new("ip").args(["-n", &self.server, "link", "show", "veth0"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            ip(&format!("netns delete {namespace}"));
        }
    }
}

/// A server in a namespace; killed with SIGKILL when dropped.
struct Serving {
    child: Child,
    ready: String,
}

impl Serving {
    fn start(namespace: &str, behind: &[&str], flags: &str) -> Self {
        let program = [behind, &[env!("CARGO_BIN_EXE_quiclane")]].concat();
        let mut command = inside(namespace, &program);
        command.args(["serve", "--workers", "2", "--alpn", "perf"]).args(flags.split_whitespace());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        let mut serving = Self { child, ready };
        if !serving.ready.starts_with("ready ") {
            let log = serving.kill();
            panic!("not ready: {log}");
        }
        serving
    }

    fn steering(&self) -> &str {
        self.ready.split_whitespace().find_map(|word| word.strip_prefix("steering=")).unwrap()
    }

    /// The effective capabilities of each of its threads.
    fn capabilities(&self) -> Vec<String> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let status = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("status"));
        let texts = tasks.map(|task| status(task.unwrap()).unwrap());
        let line = |text: String| text.lines().find_map(|l| l.strip_prefix("CapEff:").map(trimmed));
        texts.map(|text| line(text).unwrap()).collect()
    }

    /// Ends it with SIGKILL and returns its log.
    fn kill(&mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut log = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        log
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Both fail only if it is over already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_veth_gets_a_native_program_that_dies_with_its_process() {
    let Some(link) = Link::new("native") else { return };
    let mut server = link.serve("--listen [::]:4433");
    assert_eq!(server.steering(), "xdp");
    assert!(link.device().contains(" xdp "), "{}", link.device());
    link.load("10.99.0.1", 4433);
    link.load("[fd99::1]", 4433);
    for capabilities in server.capabilities() {
        assert_eq!(capabilities, "0000000000000000");
    }
    // Down and up again: the program stays, and so do new connections.
    assert!(ip(&format!("-n {} link set veth0 down", link.server)));
    assert!(ip(&format!("-n {} link set veth0 up", link.server)));
    link.load("10.99.0.1", 4433);
    let log = server.kill();
    assert!(!log.contains("warning: xdp"), "{log}");
    assert!(!link.device().contains("xdp"), "{}", link.device());
}

#[test]
fn somebody_elses_program_stays_and_is_named() {
    let Some(link) = Link::new("foreign") else { return };
    let first = link.serve("--listen 10.99.0.1:4433 --steering xdp-generic");
    assert_eq!(first.steering(), "xdp-generic");
    let mut second = link.serve("--listen 10.99.0.1:4434");
    assert_eq!(second.steering(), "reuseport");
    link.load("10.99.0.1", 4433);
    link.load("10.99.0.1", 4434);
    let log = second.kill();
    assert!(log.contains("veth0 already runs the XDP program \"quiclane_xdp\" (id "), "{log}");
}

#[test]
fn without_capabilities_the_server_runs_on_classic_bpf_and_says_why() {
    let Some(link) = Link::new("bare") else { return };
    let bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let mut server = Serving::start(&link.server, &bare, "--listen 10.99.0.1:4433");
    assert_eq!(server.steering(), "cbpf");
    link.load("10.99.0.1", 4433);
    let log = server.kill();
    assert!(log.contains("warning: reuseport: ") && log.contains("CAP_BPF"), "{log}");
}

#[test]
fn two_capabilities_are_enough_for_native_xdp() {
    let Some(link) = Link::new("two") else { return };
    let two = ["setpriv", "--bounding-set=-all,+bpf,+net_admin", "--inh-caps=-all"];
    let mut server = Serving::start(&link.server, &two, "--listen [::]:4433");
    assert_eq!(server.steering(), "xdp");
    link.load("10.99.0.1", 4433);
    link.load("[fd99::1]", 4433);
    let log = server.kill();
    assert!(log.contains("copies the front of each frame") && log.contains("CAP_PERFMON"), "{log}");
}

#[test]
fn a_rung_that_was_asked_for_is_had_or_refused() {
    let Some(link) = Link::new("asked") else { return };
    for (flags, words) in [
        ("--steering xdp --interface nosuch", "there is no interface nosuch"),
        ("--steering xdp --interface lo", "lo takes no XDP program in native mode"),
        ("--steering xdp --listen 127.0.0.1:4433", "127.0.0.1 is on lo"),
    ] {
        let mut command = inside(&link.server, &[env!("CARGO_BIN_EXE_quiclane")]);
        let Output { status, stderr, .. } =
            command.arg("serve").args(flags.split(' ')).output().unwrap();
        let log = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(1), "{flags}: {log}");
        assert!(log.contains(words), "{flags}: {log}");
    }
}

/// A command in a network namespace.
fn inside(namespace: &str, program: &[&str]) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace]).args(program).stdin(Stdio::null());
    command
}

fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split_whitespace()).output();
    output.is_ok_and(|output| output.status.success())
}

fn trimmed(text: &str) -> String {
    text.trim().to_owned()
}
