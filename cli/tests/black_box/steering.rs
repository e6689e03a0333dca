//! steering serves in a network namespace of its own and looks at what the kernel does there.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::command::skip;

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
            skip(test, "needs root for network namespaces, and `ip`");
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
        self.load_with(host, port, "-c 20 -n 500");
    }

    /// A run that must succeed.
    fn load_with(&self, host: &str, port: u16, flags: &str) {
        let url = format!("quic://{host}:{port}");
        let mut command = inside(&self.client, &[env!("CARGO_BIN_EXE_quiclane")]);
        command.args(["load", &url]).args("--perf -k -q".split(' '));
        let output = command.args(flags.split(' ')).output().unwrap();
        assert!(output.status.success(), "{url}: {output:?}");
    }

    /// How many frames XDP counted for `reason`, by the server's metrics at this address.
    fn frames(&self, metrics: &str, reason: &str) -> u64 {
        let text = self.metrics(metrics);
        let name = format!("quiclane_ebpf_frames_total{{reason=\"{reason}\",");
        let labels = text.lines().find_map(|line| line.strip_prefix(&name));
        let labels = labels.unwrap_or_else(|| panic!("no {reason}: {text}"));
        labels.rsplit_once(' ').unwrap().1.parse().unwrap()
    }

    /// The server's metrics at this address.
    fn metrics(&self, address: &str) -> String {
        let (host, port) = address.split_once(':').unwrap();
        let request = r"GET /metrics HTTP/1.1\r\n\r\n";
        let script = format!("exec 3<>/dev/tcp/{host}/{port}; printf '{request}' >&3; cat <&3");
        let output = inside(&self.server, &["bash", "-c", &script]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// What `quiclane doctor --json` says there, behind a command that changes what it may do.
    fn doctor(&self, behind: &[&str], flags: &str) -> Report {
        let program = [behind, &[env!("CARGO_BIN_EXE_quiclane")]].concat();
        let mut command = inside(&self.server, &program);
        command.args(["doctor", "--json", "--workers", "2"]).args(flags.split_whitespace());
        let output = command.output().unwrap();
        let report = serde_json::from_slice(&output.stdout);
        Report(report.unwrap_or_else(|error| panic!("{error}: {output:?}")))
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

/// What the doctor said.
#[derive(Debug)]
struct Report(Value);

impl Report {
    /// The status, the finding and the remedy of a check.
    fn check(&self, id: &str) -> [&str; 3] {
        let checks = self.0["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["id"] == id);
        let check = check.unwrap_or_else(|| panic!("no {id}: {checks:?}"));
        ["status", "found", "mend"].map(|field| check[field].as_str().unwrap_or_default())
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
    let mut server = link.serve("--listen [::]:4433 --metrics 127.0.0.1:9433");
    assert_eq!(server.steering(), "xdp");
    let place = "quiclane_engine_steering{rung=\"xdp\",interface=\"veth0\",mode=\"native\"} 1\n";
    let metrics = link.metrics("127.0.0.1:9433");
    assert!(metrics.contains(place), "{metrics}");
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
    assert!(!log.contains("warning: "), "{log}");
    assert!(log.contains("; steering xdp (native on veth0); "), "{log}");
    assert!(!link.device().contains("xdp"), "{}", link.device());
}

#[test]
fn each_interface_takes_the_best_mode_that_it_has() {
    let Some(link) = Link::new("modes") else { return };
    for command in
        ["link add br0 type bridge", "link set br0 up", "address add 10.96.0.1/24 dev br0"]
    {
        assert!(ip(&format!("-n {} {command}", link.server)));
    }
    let found = link.doctor(&[], "--listen [::]:4433").check("steering")[1].to_owned();
    assert!(found.starts_with("up to xdp (native on veth0; generic on br0)"), "{found}");
    let mut server = link.serve("--listen [::]:4433 --metrics 127.0.0.1:9433");
    let metrics = link.metrics("127.0.0.1:9433");
    for labels in [r#"interface="veth0",mode="native""#, r#"interface="br0",mode="generic""#] {
        let line = format!("quiclane_engine_steering{{rung=\"xdp\",{labels}}} 1\n");
        assert!(metrics.contains(&line), "{line}: {metrics}");
    }
    let log = server.kill();
    assert!(log.contains("; steering xdp (native on veth0; generic on br0); "), "{log}");
    assert!(log.contains("warning: steering: no xdp on br0: br0 takes no XDP program"), "{log}");
}

#[test]
fn somebody_elses_program_stays_and_is_named() {
    let Some(link) = Link::new("foreign") else { return };
    let first = link.serve("--listen 10.99.0.1:4433 --steering xdp-generic");
    assert_eq!(first.steering(), "xdp-generic");
    let mut second = link.serve("--listen 10.99.0.1:4434");
    assert_eq!(second.steering(), "reuseport");
    let report = link.doctor(&[], "--interface veth0");
    let [status, found, mend] = report.check("xdp_program");
    assert_eq!(status, "warning");
    assert!(found.contains("(quiclane_xdp), generic"), "{found}");
    assert!(mend.starts_with("ip link set dev veth0 xdpgeneric off"), "{mend}");
    assert!(report.check("steering")[1].starts_with("up to reuseport"), "{report:?}");
    let report = link.doctor(&[], "--listen 10.99.0.1:4434 --steering xdp-generic");
    for id in ["xdp_program", "steering"] {
        let [status, _, mend] = report.check(id);
        assert_eq!(status, "problem", "{id}");
        assert!(mend.starts_with("ip link set dev veth0 xdpgeneric off"), "{id}: {mend}");
    }
    link.load("10.99.0.1", 4433);
    link.load("10.99.0.1", 4434);
    let log = second.kill();
    let step = "warning: steering: no xdp, xdp-generic on veth0: veth0 already runs the XDP \
                program \"quiclane_xdp\" (id ";
    assert_eq!(log.matches(step).count(), 1, "{log}");
}

#[test]
fn without_capabilities_the_server_runs_on_classic_bpf_and_says_why() {
    let Some(link) = Link::new("bare") else { return };
    let bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let mut server = Serving::start(&link.server, &bare, "--listen 10.99.0.1:4433");
    assert_eq!(server.steering(), "cbpf");
    link.load("10.99.0.1", 4433);
    let log = server.kill();
    assert!(
        log.contains("warning: steering: no xdp, xdp-generic, reuseport: ")
            && log.contains("CAP_BPF"),
        "{log}"
    );
}

#[test]
fn a_budget_drops_what_is_over_it_and_the_log_names_the_flag() {
    let Some(link) = Link::new("budget") else { return };
    let Link { server, client } = &link;
    // Each client comes from the prefix that it shares with its server's address.
    for (namespace, device, host) in [(server, "veth0", 1), (client, "veth1", 2)] {
        assert!(ip(&format!("-n {namespace} address add 10.98.0.{host}/24 dev {device}")));
    }
    let metrics = "10.99.0.1:9433";
    let flags = "--listen 0.0.0.0:4433 --max-initials-per-prefix 6";
    let mut serving = link.serve(&format!("{flags} --metrics {metrics}"));
    assert_eq!(serving.steering(), "xdp");
    link.load_with("10.98.0.1", 4433, "-c 1 -n 10");
    assert_eq!(link.frames(metrics, "prefix_budget"), 0);
    let before = link.frames(metrics, "initial");
    // Initials from the other prefix, with nothing in them that could be decrypted.
    let packet = r"'\xc0\x00\x00\x00\x01\x08AAAAAAAA\x00\x00\x44\xb0%01200d' 0";
    let flood = format!("printf {packet} >/dev/udp/10.99.0.1/4433");
    let flood = format!("for i in {{1..300}}; do {flood}; done");
    assert!(inside(client, &["bash", "-c", &flood]).status().unwrap().success());
    let passed = link.frames(metrics, "initial") - before;
    let dropped = link.frames(metrics, "prefix_budget");
    assert!(passed >= 6 && dropped > 100, "{passed} passed, {dropped} dropped");
    assert_eq!((passed + dropped, link.frames(metrics, "initial_budget")), (300, 0));
    // Within its budget the first prefix has lost nothing by it; the other is welcome again.
    link.load_with("10.98.0.1", 4433, "-c 1 -n 10");
    std::thread::sleep(Duration::from_secs(2));
    link.load_with("10.99.0.1", 4433, "-c 1 -n 10");
    assert_eq!(link.frames(metrics, "prefix_budget"), dropped);
    let log = serving.kill();
    let warnings = log.lines().filter(|line| line.starts_with("warning: over budget"));
    let [warning] = warnings.collect::<Vec<_>>().try_into().unwrap();
    assert!(warning.contains("(--max-initials-per-prefix 6)"), "{warning}");
}

#[test]
fn doctor_says_which_rung_a_server_takes() {
    let Some(link) = Link::new("doctor") else { return };
    for held in ["", ",+bpf", ",+bpf,+perfmon", ",+bpf,+net_admin", ",+bpf,+net_admin,+perfmon"] {
        let bounding = format!("--bounding-set=-all{held}");
        let behind = ["setpriv", &bounding, "--inh-caps=-all"];
        let report = link.doctor(&behind, "--listen 10.99.0.1:4433");
        assert!(!link.device().contains("xdp"), "{held}: {}", link.device());
        let server = Serving::start(&link.server, &behind, "--listen 10.99.0.1:4433");
        let found = report.check("steering")[1];
        let words: Vec<&str> = found.split([' ', ';']).collect();
        // The program that copies is said to be one.
        let copies = report.check("ebpf")[1].contains("copies the front of each frame");
        assert_eq!(copies, held == ",+bpf,+net_admin", "{held}: {:?}", report.check("ebpf"));
        assert_eq!(words[..3], ["up", "to", server.steering()], "{held}: {found}");
    }
}

#[test]
fn with_as_many_files_as_doctor_says_the_server_takes_every_rung() {
    let Some(link) = Link::new("files") else { return };
    let flags = "--listen 10.99.0.1:4433 --listen [fd99::1]:4433 --interface veth0";
    let [_, found, _] = link.doctor(&[], flags).check("open_files").map(str::to_owned);
    let needed = found.rsplit(' ').next().unwrap();
    let limit = format!("ulimit -n {needed}; exec \"$0\" \"$@\"");
    let state = tempfile::tempdir().unwrap();
    let beside = format!("--metrics 127.0.0.1:9545 --state-dir {}", state.path().display());
    let flags = format!("{flags} --xdp-redirect cpu {beside}");
    let server = Serving::start(&link.server, &["bash", "-c", &limit], &flags);
    assert_eq!(server.steering(), "xdp");
    assert!(link.metrics("127.0.0.1:9545").contains("quiclane_engine_steering"));
}

#[test]
fn what_is_for_xdp_and_does_nothing_is_named() {
    let Some(link) = Link::new("idle") else { return };
    let bare = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let flags = "--listen 10.99.0.1:4433 --interface veth0 --xdp-redirect cpu";
    let mut server = Serving::start(&link.server, &bare, flags);
    let log = server.kill();
    let line = "warning: without effect: --interface veth0, --xdp-redirect cpu: steering is cbpf";
    assert!(log.contains(line), "{log}");
    let found = link.doctor(&bare, flags).check("steering")[1].to_owned();
    assert!(found.ends_with("; without effect: --interface veth0, --xdp-redirect cpu"), "{found}");
    let mut server = link.serve(&format!("{flags} --interface nosuch"));
    let log = server.kill();
    assert!(log.contains("no xdp, xdp-generic on nosuch: there is no interface nosuch"), "{log}");
    assert!(log.contains("of several named interfaces all are taken or none"), "{log}");
}

#[test]
fn what_passes_through_the_host_is_left_alone() {
    let Some(link) = Link::new("transit") else { return };
    let _server = link.serve("--listen [::]:4433 --metrics 127.0.0.1:9544");
    // To a port of the server, but of another host: forwarding is the kernel's business.
    assert!(ip(&format!("-n {} route add 10.97.0.0/24 via 10.99.0.1", link.client)));
    let send = "for i in {1..100}; do printf '@12345678901234567890123' > /dev/udp/$0/4433; done";
    for target in ["10.97.0.9", "10.99.0.1"] {
        let command = &["bash", "-c", send, target];
        assert!(inside(&link.client, command).status().unwrap().success());
    }
    let count = |reason| link.frames("127.0.0.1:9544", reason);
    assert_eq!((count("other_address"), count("foreign_layout")), (100, 100));
    let metrics = link.metrics("127.0.0.1:9544");
    for labels in [
        r#"reason="foreign_layout",action="dropped""#,
        r#"reason="other_address",action="passed""#,
        r#"reason="answered",action="answered""#,
        r#"reason="live_moved",action="redirected""#,
    ] {
        assert!(metrics.contains(&format!("quiclane_ebpf_frames_total{{{labels}}} ")), "{labels}");
    }
}

#[test]
fn redirecting_needs_native_mode_and_says_so() {
    let Some(link) = Link::new("moved") else { return };
    let flags = "--listen [::]:4433 --steering xdp-generic --interface veth0 --xdp-redirect cpu";
    let mut server = link.serve(flags);
    link.load("10.99.0.1", 4433);
    let log = server.kill();
    assert!(log.contains("moving them needs native mode"), "{log}");
    assert!(log.contains("; steering xdp-generic (generic on veth0); "), "{log}");
    assert!(!log.contains("veth0 is virtual"), "nothing is moved: {log}");
    let mut server = link.serve("--listen [::]:4433 --xdp-redirect cpu");
    let log = server.kill();
    assert!(log.contains("veth0 is virtual") && log.contains("tx off"), "{log}");
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
        // What serve refuses, doctor has a problem with, and says how to do without.
        let report = link.doctor(&[], flags);
        let [status, found, mend] = report.check("steering");
        assert!(found.starts_with("xdp was asked for: "), "{flags}: {found}");
        assert_eq!((status, mend.is_empty()), ("problem", false), "{flags}: {found}");
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
