//! killed: SIGKILL while something is set or put back, with the guard and without it.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::host::{DEMUX, Host, WISHES, WISHES_COUNT, inside, read};
use crate::command::Running;

/// Records of a whole apply: begin, intent and done of each, applied.
const RECORDS: usize = 2 + 2 * WISHES_COUNT;

#[test]
fn a_guard_puts_back_what_a_killed_apply_leaves() {
    inside("tune::killed::a_guard_puts_back_what_a_killed_apply_leaves", |host| {
        let before = host.state();
        let mut halves = 0;
        for records in 1..=RECORDS {
            kill_at(host, &format!("apply {WISHES}"), records);
            if host.records() == RECORDS {
                assert_eq!(host.tune("revert").code, 0);
            } else {
                halves += 1;
                // Killed before the guard was there, it has only begun, and set nothing.
                wait_until(|| host.is_closed() || host.records() < 2 && host.guards().is_empty());
                assert_eq!(host.state(), before, "killed at {records} records");
                assert_eq!(host.tune("revert").code, 0);
            }
            assert_eq!(host.state(), before, "killed at {records} records");
            wait_until(|| host.guards().is_empty());
        }
        assert!(halves > RECORDS / 3, "most kills came in the middle: {halves} of {RECORDS}");
    });
}

#[test]
fn without_its_guard_a_killed_apply_is_put_back_by_hand() {
    inside("tune::killed::without_its_guard_a_killed_apply_is_put_back_by_hand", |host| {
        let before = host.state();
        let mut halves = 0;
        // From the second record on there is a guard to kill.
        for records in 2..=RECORDS {
            let mut apply = start(host, &format!("apply {WISHES}"));
            wait_for_records(host, &mut apply, records);
            // The guard first: else it would do its work.
            for guard in host.guards() {
                kill(guard);
            }
            let mid = host.records() < RECORDS;
            drop(apply);
            if mid && !host.is_closed() {
                halves += 1;
                let status = host.tune("status --json").json();
                let state = status["session"]["state"].as_str().unwrap().to_owned();
                assert!(["unfinished", "applied"].contains(&state.as_str()), "{status}");
                let again = host.tune("apply --interface veth1 --set gro=on");
                assert_eq!(again.code, 1, "{again:?}");
                assert!(again.stderr.contains("first `quiclane tune revert"), "{again:?}");
            }
            assert_eq!(host.tune("revert").code, 0);
            assert_eq!(host.state(), before, "killed at {records} records");
            assert!(host.is_closed());
        }
        assert!(halves > 3, "some kills came in the middle: {halves} of {RECORDS}");
    });
}

#[test]
fn a_killed_revert_is_finished_by_another() {
    inside("tune::killed::a_killed_revert_is_finished_by_another", |host| {
        let before = host.state();
        let mut halves = 0;
        for records in 0..=WISHES_COUNT {
            assert_eq!(host.tune(&format!("apply {WISHES}")).code, 0);
            kill_at(host, "revert", RECORDS + records);
            halves += usize::from(!host.is_closed());
            assert_eq!(host.tune("revert").code, 0);
            assert_eq!(host.state(), before, "killed at {records} records");
        }
        assert!(halves > 3, "some kills came in the middle: {halves} of {WISHES_COUNT}");
    });
}

#[test]
fn what_is_set_for_a_command_goes_with_it_and_with_its_runner() {
    inside("tune::killed::what_is_set_for_a_command_goes_with_it_and_with_its_runner", |host| {
        let before = host.state();
        let demux = "/proc/sys/net/ipv4/udp_early_demux";
        let run = host.tune_while(&format!("cat {demux}"));
        assert_eq!((run.code, run.stdout.as_str()), (0, "0\n"), "{run:?}");
        assert!(run.stderr.contains("it stays while cat runs"), "{run:?}");
        assert!(run.stderr.contains("1 of 1 as before"), "{run:?}");
        assert_eq!((host.state(), host.is_closed()), (before.clone(), true));
        assert_eq!(host.tune_while("false").code, 1);
        let missing = host.tune_while("/no/such/program");
        assert_eq!(missing.code, 1);
        assert!(missing.stderr.contains("/no/such/program: No such file"), "{missing:?}");
        assert_eq!((host.state(), host.is_closed()), (before.clone(), true));
        // The runner is killed while the command runs.
        let line = host.while_line("sleep 60");
        let runner = Running::start(&line.split_whitespace().collect::<Vec<_>>());
        wait_until(|| read(demux) == "0\n");
        wait_until(|| host.records() == 4);
        let command = runner.children().into_iter().find(|child| !host.guards().contains(child));
        let is_set =
            format!("udp_early_demux=0 is set while sleep (process {}) runs", command.unwrap());
        let status = host.tune("status").stdout;
        assert!(status.starts_with(&format!("{is_set}\n")), "{status}");
        assert_eq!(host.tune("status --json").json()["session"]["state"], "runs");
        let show = host.tune("show").stdout;
        assert!(show.contains(&format!("warning tuned: {is_set} (")), "{show}");
        let mend = host.with_journal("do:  quiclane tune status");
        assert!(show.contains(&format!("{mend}\n")), "it cannot be reverted: {show}");
        let busy = host.tune("revert");
        assert_eq!(busy.code, 1);
        assert!(busy.stderr.contains("is held by process"), "{busy:?}");
        wait_until(|| host.guards().len() == 1);
        let (children, guards) = (runner.children(), host.guards());
        assert_eq!(children.len(), 2, "the guard and the command");
        drop(runner);
        wait_until(|| host.is_closed());
        assert_eq!(host.state(), before);
        children.into_iter().filter(|child| !guards.contains(child)).for_each(kill);
    });
}

#[test]
fn a_command_that_is_asked_to_end_keeps_what_is_set_until_it_has() {
    inside("tune::killed::a_command_that_is_asked_to_end_keeps_what_is_set_until_it_has", |host| {
        let before = host.state();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        // It says which signal it got, and what is set after a while of draining.
        let script = format!(
            "cd {}; drain() {{ echo $1 > signal; sleep 0.3; cat {DEMUX} > seen; exit 0; }}; \
             trap 'drain INT' INT; trap 'drain TERM' TERM; trap 'drain HUP' HUP; touch ready; \
             while :; do sleep 0.05; done",
            folder.path().display()
        );
        for name in ["INT", "TERM", "HUP"] {
            let flags = host.with_journal("apply --set udp_early_demux=0");
            let words: Vec<&str> = ["tune"].into_iter().chain(flags.split(' ')).collect();
            // A group of its own, as a shell gives to what is typed in.
            // Whoever runs the tests in the background ignores some signals, and so would it.
            let mut runner = Command::new("env")
                .args(["--default-signal=INT,QUIT,TERM,HUP", env!("CARGO_BIN_EXE_quiclane")])
                .args(words)
                .args(["--", "sh", "-c", &script])
                .stderr(Stdio::null())
                .process_group(0)
                .spawn()
                .unwrap();
            wait_until(|| file("ready").exists());
            // The terminal gives SIGINT to the whole group; all else comes to one process.
            let to =
                if name == "INT" { format!("-{}", runner.id()) } else { runner.id().to_string() };
            let kill = ["-s", name, "--", &to];
            assert!(Command::new("kill").args(kill).status().unwrap().success());
            assert_eq!(runner.wait().unwrap().code(), Some(0), "{name}");
            let said = |name| fs::read_to_string(file(name)).unwrap();
            assert_eq!((said("signal").trim(), said("seen").as_str()), (name, "0\n"));
            assert_eq!((host.state(), host.is_closed()), (before.clone(), true), "{name}");
            for name in ["ready", "signal", "seen"] {
                fs::remove_file(file(name)).unwrap();
            }
        }
        // With nohup the command stays deaf to it, too.
        let program = env!("CARGO_BIN_EXE_quiclane");
        let flags = host.with_journal("apply --set udp_early_demux=0");
        let apply = format!("trap '' HUP; exec {program} tune {flags} -- sh -c \"$0\"");
        let mut runner = Command::new("sh").args(["-c", &apply, &script]).spawn().unwrap();
        wait_until(|| file("ready").exists());
        signal(runner.id(), Signal::HUP);
        sleep(Duration::from_millis(300));
        assert!(!file("signal").exists(), "SIGHUP was to be ignored");
        signal(runner.id(), Signal::TERM);
        assert_eq!(runner.wait().unwrap().code(), Some(0));
        assert_eq!((host.state(), host.is_closed()), (before, true));
    });
}

#[test]
fn a_guard_outlives_who_started_it_and_keeps_its_deadline() {
    inside("tune::killed::a_guard_outlives_who_started_it_and_keeps_its_deadline", |host| {
        let before = host.state();
        // A whole group dies, as when a terminal closes.
        let program = env!("CARGO_BIN_EXE_quiclane");
        let folder = host.journal.parent().unwrap().display();
        let apply = format!("{program} tune apply {WISHES} --for 3s --journal tune");
        let script = format!("cd {folder} && {apply} > /dev/null; kill -9 0");
        let status = Command::new("setsid").args(["--wait", "sh", "-c", &script]).status().unwrap();
        assert!(!status.success());
        assert_ne!(host.state(), before);
        wait_until(|| host.is_closed());
        assert_eq!(host.state(), before);
        // A guard that dies leaves what is set, and says so.
        assert_eq!(host.tune("apply --set udp_early_demux=0 --for 1h").code, 0);
        for guard in host.guards() {
            kill(guard);
        }
        wait_until(|| host.guards().is_empty());
        let status = host.tune("status").stdout;
        let revert = format!("quiclane tune revert --journal {}", host.journal.display());
        assert!(
            status.contains(&format!("its guard is gone: put it back with {revert}")),
            "{status}"
        );
        assert_eq!(read("/proc/sys/net/ipv4/udp_early_demux"), "0\n");
        assert_eq!(host.tune("revert").code, 0);
        assert_eq!(host.state(), before);
    });
}

/// Starts it and kills it once the journal has so many records.
fn kill_at(host: &Host, flags: &str, records: usize) {
    let mut running = start(host, flags);
    wait_for_records(host, &mut running, records);
    // Dropped is killed.
}

fn start(host: &Host, flags: &str) -> Running {
    let line = format!("tune {}", host.with_journal(flags));
    Running::start(&line.split_whitespace().collect::<Vec<_>>())
}

fn wait_for_records(host: &Host, running: &mut Running, records: usize) {
    while host.records() < records && !running.has_ended() {}
    // It waits there for what the test does next.
    signal(running.process(), Signal::STOP);
}

fn kill(process: u32) {
    signal(process, Signal::KILL);
}

fn signal(process: u32, signal: Signal) {
    let process = Pid::from_raw(process.try_into().unwrap()).unwrap();
    // It may have ended by itself.
    let _ = kill_process(process, signal);
}

/// Waits, as long as a slow machine may need.
pub(crate) fn wait_until(done: impl Fn() -> bool) {
    wait_within(20, done);
}

/// Waits for so many seconds at most.
pub(crate) fn wait_within(seconds: u32, done: impl Fn() -> bool) {
    for _ in 0..seconds * 100 {
        if done() {
            return;
        }
        sleep(Duration::from_millis(10));
    }
    panic!("not within {seconds} s");
}
