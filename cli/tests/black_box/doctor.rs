//! doctor: what it says as root and as nobody, in a namespace, and when something is in the way.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::io::BufRead;
use std::net::UdpSocket;
use std::process::Command;

use serde_json::Value;

use crate::command::{NOBODY, Outcome, Running, assert_fields, line, root, shell, skip};
use crate::refused::without_uring;

/// Asserts that the report is the contract and returns its checks.
fn checks(outcome: &Outcome) -> Vec<Value> {
    let report = outcome.json();
    assert_fields(&report, &["schema", "ok", "checks"]);
    assert_eq!(report["schema"], 1);
    let checks = report["checks"].as_array().unwrap().clone();
    for check in &checks {
        assert_fields(check, &["id", "scope", "status", "found", "why", "mend"]);
        for field in ["id", "scope", "found", "why"] {
            assert!(!check[field].as_str().unwrap().is_empty(), "{field}: {check}");
        }
        let status = check["status"].as_str().unwrap();
        assert!(["ok", "warning", "problem"].contains(&status), "{check}");
        assert!(check["mend"].is_string() || check["mend"].is_null(), "{check}");
        let scope = check["scope"].as_str().unwrap();
        assert!(["host", "process"].contains(&scope) || scope.starts_with("interface:"), "{check}");
    }
    let problem = checks.iter().any(|check| check["status"] == "problem");
    assert_eq!(report["ok"], !problem);
    assert_eq!(outcome.code, i32::from(problem), "{outcome:?}");
    checks
}

/// The status of check `id`, with what was found.
fn status<'c>(checks: &'c [Value], id: &str) -> (&'c str, &'c str) {
    let check = checks.iter().find(|check| check["id"] == id);
    let check = check.unwrap_or_else(|| panic!("no {id} in {checks:?}"));
    (check["status"].as_str().unwrap(), check["found"].as_str().unwrap())
}

/// The command that mends what check `id` found.
fn mend<'c>(checks: &'c [Value], id: &str) -> &'c str {
    let check = checks.iter().find(|check| check["id"] == id).unwrap();
    check["mend"].as_str().unwrap_or_else(|| panic!("{check}"))
}

#[test]
fn the_json_is_the_contract() {
    let outcome = line("doctor --json");
    let checks = checks(&outcome);
    assert_eq!(outcome.stderr, "");
    for id in ["kernel", "cores", "capabilities", "steering", "io", "gso", "socket_buffers"] {
        status(&checks, id);
    }
}

#[test]
fn the_text_ends_with_a_summary_and_has_no_colours_in_a_pipe() {
    let outcome = line("doctor");
    assert!([0, 1].contains(&outcome.code), "{outcome:?}");
    assert!(!outcome.stdout.contains('\x1b'), "{outcome:?}");
    let last = outcome.stdout.lines().next_back().unwrap();
    for word in [" ok, ", " warning", " problem", ": steering ", ", io "] {
        assert!(last.contains(word), "{word}: {last}");
    }
    let verbose = line("doctor --verbose").stdout;
    assert!(verbose.matches("why: ").count() > outcome.stdout.matches("why: ").count());
}

#[test]
fn an_interface_that_does_not_exist_is_a_problem() {
    let outcome = line("doctor --json --interface nosuch --interface lo");
    let checks = checks(&outcome);
    assert_eq!(outcome.code, 1);
    let problem = checks.iter().find(|check| check["status"] == "problem").unwrap();
    assert_eq!(problem["scope"], "interface:nosuch");
    assert!(problem["found"].as_str().unwrap().contains("lo"), "{problem}");
    assert!(checks.iter().any(|check| check["scope"] == "interface:lo"), "{checks:?}");
}

#[test]
fn a_taken_port_is_a_problem_and_a_free_one_stays_free() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let outcome = line(&format!("doctor --json --listen {address}"));
    let found = checks(&outcome);
    assert_eq!(status(&found, "listen").0, "problem");
    assert!(status(&found, "listen").1.contains(&address.to_string()), "{found:?}");
    drop(taken);
    let found = checks(&line(&format!("doctor --json --listen {address}")));
    assert_eq!(status(&found, "listen").0, "ok");
    UdpSocket::bind(address).unwrap();
}

#[test]
fn more_connections_than_files_and_ports_are_problems() {
    let outcome = shell("ulimit -n 256; exec $quiclane doctor --json -c 1000", None);
    let found = checks(&outcome);
    assert_eq!(status(&found, "open_files").0, "problem");
    assert!(status(&found, "open_files").1.contains("256"), "{found:?}");
    assert!(status(&found, "open_files").1.contains("the load generator"), "{found:?}");
    let idle = shell("ulimit -n 256; exec $quiclane doctor --json --idle 1000", None);
    assert_eq!(status(&checks(&idle), "open_files"), status(&found, "open_files"));
    // A soft limit is raised to the hard one.
    let raised = shell("ulimit -S -n 100; exec $quiclane doctor --json -c 1000", None);
    assert_eq!(status(&checks(&raised), "open_files").0, "ok");
    let outcome = shell("ulimit -n 256; exec $quiclane doctor --json -c 100", None);
    assert_eq!(status(&checks(&outcome), "open_files").0, "ok");
    let found = checks(&line("doctor --json -c 100000"));
    assert_eq!(status(&found, "local_ports").0, "problem");
}

#[test]
fn workers_and_cores_that_no_server_takes_are_problems() {
    for (flags, words, mend_words) in [
        ("--workers 300", "300 workers: an engine has at most 255", "--workers "),
        ("--workers 2 --cores 0", "1 core (0) for 2 workers", "--workers 1 --cores 0"),
        ("--cores 5000", "not CPU 5000", "--workers 1"),
    ] {
        let doctor = line(&format!("doctor --json {flags}"));
        let found = checks(&doctor);
        let (status_of, found_of) = status(&found, "cores");
        assert!(status_of == "problem" && found_of.contains(words), "{flags}: {found_of}");
        assert!(mend(&found, "cores").contains(mend_words), "{flags}: {found:?}");
        let serve = line(&format!("serve --listen 127.0.0.1:0 {flags}"));
        assert_eq!((doctor.code, serve.code), (1, 2), "{flags}: {serve:?}");
    }
}

/// The number of files that doctor says a server with these flags needs.
fn needed(flags: &str) -> usize {
    let found = checks(&line(&format!("doctor --json {flags}")));
    let (_, found_of) = status(&found, "open_files");
    assert!(found_of.contains(", a server with "), "{found_of}");
    found_of.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_server_opens_as_many_files_as_doctor_says() {
    let count = |flags: &str| {
        let words = ["serve"].into_iter().chain(flags.split(' ')).collect::<Vec<_>>();
        let mut server = Running::start(&words);
        let mut ready = String::new();
        server.stdout().read_line(&mut ready).unwrap();
        assert!(ready.starts_with("ready "), "{flags}: {ready:?} {:?}", server.wait());
        (needed(flags), server.open_files())
    };
    for io in ["uring", "epoll"] {
        let flags = |more: &str| format!("--listen 127.0.0.1:0 {more} --steering cbpf --io {io}");
        let (needed, opened) = count(&flags("--workers 1"));
        let beside = needed - opened;
        for more in ["--workers 3", "--workers 2 --listen [::1]:0 --listen 127.0.0.2:0"] {
            let (needed, opened) = count(&flags(more));
            assert_eq!(needed - opened, beside, "{io} {more}: {needed} said, {opened} open");
        }
    }
}

#[test]
fn nobody_is_told_what_it_takes_and_has_no_problem() {
    if !root("nobody_is_told_what_it_takes_and_has_no_problem") {
        return;
    }
    let outcome = shell("exec $quiclane doctor --json", Some(NOBODY));
    let found = checks(&outcome);
    assert_eq!(outcome.code, 0, "{found:?}");
    let (status_of, found_of) = status(&found, "capabilities");
    assert_eq!(status_of, "warning");
    assert!(found_of.starts_with("effective: none"), "{found_of}");
    assert_eq!(status(&found, "ebpf").0, "warning");
    let mend = mend(&found, "capabilities");
    // The second, where the container that tests run in lacks them too.
    let ways = ["setcap cap_bpf,cap_net_admin,cap_perfmon+ep /", "docker run --cap-add BPF"];
    assert!(ways.iter().any(|way| mend.starts_with(way)), "{mend}");
    assert!(status(&found, "steering").1.starts_with("up to cbpf"), "{found:?}");
}

#[test]
fn too_little_locked_memory_for_the_workers_is_a_problem() {
    let test = "too_little_locked_memory_for_the_workers_is_a_problem";
    if !root(test) {
        return;
    }
    // A user of its own, because the limit is on all that a user has locked.
    let run = |workers| {
        let doctor = format!("$quiclane doctor --json --io uring --workers {workers}");
        shell(&format!("ulimit -l 64; exec {doctor}"), Some(LOCKED_USER))
    };
    let (one, many) = (run(1), run(32));
    if status(&checks(&many), "io").0 == "ok" {
        // A kernel that charges rings to the control group alone: then there is nothing to mend.
        assert_eq!(status(&checks(&many), "locked_memory").0, "ok");
        return;
    }
    assert_eq!(status(&checks(&one), "locked_memory").0, "ok");
    let found = checks(&many);
    assert_eq!(status(&found, "locked_memory").0, "problem");
    assert_eq!(status(&found, "io").0, "problem");
}

#[test]
fn refused_io_uring_is_a_warning_unless_asked_for_by_name() {
    let (auto, named) =
        without_uring(EPERM, || (line("doctor --json"), line("doctor --json --io uring")));
    let found = checks(&auto);
    assert_eq!(status(&found, "io").0, "warning");
    assert!(status(&found, "io").1.contains("seccomp"), "{found:?}");
    assert_eq!(status(&found, "gso").0, "ok", "{found:?}");
    assert_eq!(status(&checks(&named), "io").0, "problem");
    assert_eq!(named.code, 1);
}

#[test]
fn a_rung_by_name_is_a_warning_no_more() {
    // Loopback has no driver: XDP in it is possible nowhere.
    let lo = "--listen 127.0.0.1:0 --interface lo";
    let auto = checks(&line(&format!("doctor --json {lo}")));
    assert!(["ok", "warning"].contains(&status(&auto, "steering").0), "{auto:?}");
    let outcome = line(&format!("doctor --json {lo} --steering xdp"));
    let found = checks(&outcome);
    let (status_of, found_of) = status(&found, "steering");
    assert_eq!((status_of, outcome.code), ("problem", 1));
    assert!(found_of.starts_with("xdp was asked for: "), "{found_of}");
    assert!(mend(&found, "steering").len() > 5, "{found:?}");
    let text = line(&format!("doctor {lo} --steering xdp")).stdout;
    assert!(text.contains(": steering xdp refused, io "), "{text}");
    for rung in ["cbpf", "hash"] {
        let found = checks(&line(&format!("doctor --json --steering {rung}")));
        let expected = format!("{rung}, as asked for");
        assert_eq!(status(&found, "steering"), ("ok", expected.as_str()));
        assert_eq!(status(&found, "ebpf").0, "ok");
    }
}

#[test]
fn nobody_cannot_have_what_takes_capabilities() {
    if !root("nobody_cannot_have_what_takes_capabilities") {
        return;
    }
    for rung in ["xdp", "xdp-generic", "reuseport"] {
        let outcome =
            shell(&format!("exec $quiclane doctor --json --steering {rung}"), Some(NOBODY));
        let found = checks(&outcome);
        assert_eq!(outcome.code, 1, "{rung}: {found:?}");
        for id in ["capabilities", "ebpf", "steering"] {
            assert_eq!(status(&found, id).0, "problem", "{rung} {id}: {found:?}");
            let mend = mend(&found, id);
            assert!(mend.contains("bpf") || mend.contains("BPF"), "{rung} {id}: {mend}");
        }
    }
    let outcome = shell("exec $quiclane doctor --json --steering cbpf", Some(NOBODY));
    let found = checks(&outcome);
    assert_eq!((outcome.code, status(&found, "capabilities").0), (0, "ok"), "{found:?}");
}

/// A network namespace with both ends of a veth pair, gone when dropped.
struct Namespace(String);

impl Namespace {
    fn new(name: &str) -> Option<Self> {
        let namespace = Self(format!("quiclane-{name}-{}", std::process::id()));
        let commands = [
            format!("netns add {namespace}", namespace = namespace.0),
            format!("-n {} link set lo up", namespace.0),
            format!("-n {} link add veth0 type veth peer name veth1", namespace.0),
            format!("-n {} link set veth0 up", namespace.0),
            format!("-n {} link set veth1 up", namespace.0),
        ];
        let made = commands.iter().all(|command| ip(command));
        if !made {
            skip(name, "no `ip` or no veth here");
        }
        made.then_some(namespace)
    }

    fn doctor(&self, flags: &str) -> Vec<Value> {
        let enter = format!("ip netns exec {} $quiclane doctor --json {flags}", self.0);
        checks(&shell(&enter, None))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&format!("netns delete {}", self.0));
    }
}

fn ip(command: &str) -> bool {
    let output = Command::new("ip").args(command.split(' ')).output();
    output.is_ok_and(|output| output.status.success())
}

#[test]
fn the_traps_of_veth_are_named() {
    if !root("the_traps_of_veth_are_named") {
        return;
    }
    let Some(namespace) = Namespace::new("veth") else { return };
    let found = namespace.doctor("--interface veth0");
    assert_eq!(status(&found, "link"), ("ok", "up, veth, MTU 1500"));
    assert_eq!(status(&found, "xdp").0, "ok");
    assert_eq!(status(&found, "xdp_program").0, "ok");
    assert_eq!(status(&found, "veth_checksum").0, "ok", "nothing is moved: {found:?}");
    let moving = namespace.doctor("--interface veth0 --xdp-redirect cpu --workers 2");
    assert_eq!(status(&moving, "veth_checksum").0, "problem");
    assert_eq!(mend(&moving, "veth_checksum"), "ethtool -K veth1 tx off");
    assert_eq!(status(&moving, "xdp_redirect"), ("ok", "1 receive queue for 2 workers"));
    let generic = "--interface veth0 --xdp-redirect cpu --steering xdp-generic";
    let generic = namespace.doctor(generic);
    assert_eq!(status(&generic, "xdp_redirect").0, "warning");
    assert_eq!(mend(&generic, "xdp_redirect"), "quiclane serve --xdp-redirect off");
    assert_eq!(status(&found, "device_gro"), ("warning", "GRO is off"));

    assert_eq!(status(&namespace.doctor("--interface veth0 --steering xdp"), "steering").0, "ok");

    assert!(ip(&format!("-n {} link set veth0 mtu 9000", namespace.0)));
    let found = namespace.doctor("--interface veth0 --steering xdp");
    assert_eq!((status(&found, "xdp_mtu").0, status(&found, "steering").0), ("ok", "ok"));

    assert!(ip(&format!("-n {} link add bridge type bridge", namespace.0)));
    let found = namespace.doctor("--interface bridge");
    assert_eq!((status(&found, "xdp").0, status(&found, "steering").0), ("warning", "warning"));
    let found = namespace.doctor("--interface bridge --steering xdp");
    assert_eq!((status(&found, "xdp").0, status(&found, "steering").0), ("problem", "problem"));
    let generic = "quiclane serve --steering xdp-generic --interface bridge";
    assert_eq!(mend(&found, "steering"), generic);
    let found = namespace.doctor("--interface bridge --steering xdp-generic");
    assert_eq!((status(&found, "xdp").0, status(&found, "steering").0), ("warning", "ok"));

    assert!(ip(&format!("-n {} link set veth0 down", namespace.0)));
    let found = namespace.doctor("--interface veth0");
    assert_eq!(status(&found, "link").0, "warning");
}

#[test]
fn the_other_end_of_a_veth_may_be_out_of_sight() {
    if !root("the_other_end_of_a_veth_may_be_out_of_sight") {
        return;
    }
    let Some(here) = Namespace::new("here") else { return };
    let Some(there) = Namespace::new("there") else { return };
    let move_away = format!("-n {} link set veth1 netns {} name far", here.0, there.0);
    assert!(ip(&move_away));
    assert_eq!(status(&here.doctor(""), "veth_peer").0, "ok", "no frame is to be moved");
    let found = here.doctor("--interface veth0 --xdp-redirect cpu");
    let (status_of, found_of) = status(&found, "veth_peer");
    assert!(status_of == "warning" && found_of.contains("another network namespace"), "{found:?}");
}

#[test]
fn loopback_that_is_down_is_recognised() {
    if !root("loopback_that_is_down_is_recognised") {
        return;
    }
    let Some(namespace) = Namespace::new("down") else { return };
    assert!(ip(&format!("-n {} link set lo down", namespace.0)));
    let found = namespace.doctor("");
    assert!(status(&found, "gso").1.contains("loopback is down"), "{found:?}");
    // Which is in the way of nothing else that is tried.
    assert_eq!(status(&found, "ebpf").0, "ok", "{found:?}");
    status(&found, "socket_buffers");
    let cbpf = namespace.doctor("--steering cbpf");
    assert_eq!(status(&cbpf, "steering").0, "ok", "{cbpf:?}");
}

/// Nobody at all.
const LOCKED_USER: u32 = 65_021;
const EPERM: u32 = 1;
