//! files: what is set and put back, whole runs without an accident.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::host::{DEMUX, Host, MTU, WISHES, WISHES_COUNT, inside, read};
use super::killed::wait_until;
use crate::command::line;

#[test]
fn what_is_set_is_put_back_byte_by_byte() {
    inside("tune::files::what_is_set_is_put_back_byte_by_byte", |host| {
        let before = host.state();
        assert_eq!(host.tune("status").stdout.trim_end(), nothing(host));
        let plan = line(&format!("tune plan {WISHES}"));
        assert!(plan.stdout.contains(": 13 changes\n"), "{plan:?}");
        assert!(plan.stdout.contains("ethtool -K veth0 rx-gro on\n"), "{plan:?}");
        assert_eq!(host.state(), before, "a plan changes nothing");
        let apply = host.tune(&format!("apply {WISHES}"));
        assert_eq!(apply.code, 0, "{apply:?}");
        assert_eq!(apply.stdout.matches(")  set\n").count(), WISHES_COUNT, "{apply:?}");
        assert_eq!((read(MTU).as_str(), read(DEMUX).as_str()), ("1400\n", "0\n"));
        let now = host.state();
        let differ = before.iter().zip(&now).filter(|(before, now)| before != now).count();
        assert!(differ > 10, "{now:?}");
        let status = host.tune("status --json").json();
        assert_eq!(status["session"]["state"], "applied");
        assert_eq!(status["session"]["values"].as_array().unwrap().len(), WISHES_COUNT);
        let shown = host.tune("show").stdout;
        assert!(shown.contains("is in place") && shown.contains("tune revert"), "{shown}");
        let revert = host.tune("revert --json").json();
        assert_eq!((&revert["ok"], revert["values"].as_array().unwrap().len()), (&true.into(), 13));
        assert_eq!(host.state(), before);
        assert!(host.is_closed());
        assert_eq!(host.tune("revert").stdout, "nothing is set\n");
        // A guard without a deadline has nothing to wait for.
        wait_until(|| host.guards().is_empty());
    });
}

fn nothing(host: &Host) -> String {
    format!("nothing is set ({})", host.journal.display())
}

#[test]
fn what_somebody_else_changes_is_left_alone_and_said() {
    inside("tune::files::what_somebody_else_changes_is_left_alone_and_said", |host| {
        assert_eq!(
            host.tune(
                "apply --interface veth0 --set udp_early_demux=0 \
             --set tx_queue_length=500"
            )
            .code,
            0
        );
        fs::write("/sys/class/net/veth0/tx_queue_len", "77").unwrap();
        let status = host.tune("status").stdout;
        assert!(status.contains("differs: it is 77 now"), "{status}");
        assert!(status.contains("1 changed since by somebody else"), "{status}");
        let plan = host.tune("plan --interface veth0 --set gro=on");
        assert!(plan.stdout.starts_with("warning tuned: udp_early_demux=0, "), "{plan:?}");
        let again = host.tune("apply --interface veth0 --set gro=on");
        assert_eq!(again.code, 1);
        for words in
            ["udp_early_demux=0, tx_queue_length=500 is in place", "tune revert", "since 2"]
        {
            assert!(again.stderr.contains(words), "{words}: {again:?}");
        }
        let revert = host.tune("revert");
        assert_eq!(revert.code, 0);
        assert!(
            revert.stdout.contains("left alone: somebody else set it to 77 since"),
            "{revert:?}"
        );
        assert_eq!(read("/sys/class/net/veth0/tx_queue_len"), "77\n");
        assert_eq!(read(DEMUX), "1\n");
    });
}

#[test]
fn numbers_of_a_driver_are_set_and_put_back() {
    inside("tune::files::numbers_of_a_driver_are_set_and_put_back", |host| {
        let make = "link add many0 numrxqueues 4 numtxqueues 4 type veth peer name many1";
        assert!(Command::new("ip").args(make.split(' ')).status().unwrap().success());
        let channels = || {
            let show = line("tune show --json --interface many0").json();
            let rows = show["knobs"].as_array().unwrap().clone();
            rows.into_iter().find(|row| row["id"] == "channels_rx").unwrap()["values"][0].clone()
        };
        let before = channels();
        let apply = "apply --interface many0 --allow-link-reset --set channels_rx=2";
        let apply = host.tune(apply);
        assert!(apply.stdout.contains("do:  ethtool -L many0 rx 2\n"), "{apply:?}");
        assert_eq!((apply.code, &channels()["value"]), (0, &"2".into()), "{apply:?} {before}");
        assert_eq!(host.tune("revert").code, 0);
        assert_eq!(channels(), before);
        // More than the device has.
        let apply = host.tune("apply --interface many0 --allow-link-reset --set channels_rx=99");
        assert_eq!(apply.code, 1);
        assert!(apply.stdout.contains("REFUSED: Invalid argument"), "{apply:?}");
        assert!(host.is_closed());
    });
}

#[test]
fn after_a_reboot_nothing_is_written() {
    inside("tune::files::after_a_reboot_nothing_is_written", |host| {
        assert_eq!(host.tune("apply --set udp_early_demux=0").code, 0);
        let boot = read("/proc/sys/kernel/random/boot_id");
        let path = host.journal.join("journal");
        let other = "00000000-0000-0000-0000-000000000000";
        fs::write(&path, read(path.to_str().unwrap()).replace(boot.trim(), other)).unwrap();
        let status = host.tune("status").stdout;
        assert!(status.contains("was set before the host booted, and is gone"), "{status}");
        assert!(!host.tune("show").stdout.contains("is in place"));
        let revert = host.tune("revert");
        assert_eq!(revert.code, 0);
        assert!(revert.stdout.contains("the host has booted since"), "{revert:?}");
        assert!(host.is_closed() && read(DEMUX) == "0\n");
        fs::write(DEMUX, "1").unwrap();
    });
}

#[test]
fn a_guard_puts_back_at_the_deadline() {
    inside("tune::files::a_guard_puts_back_at_the_deadline", |host| {
        let before = host.state();
        let apply = host.tune(&format!("apply {WISHES} --for 3s"));
        assert!(apply.stdout.contains("a guard puts it back in 3s"), "{apply:?}");
        assert_ne!(host.state(), before);
        assert_eq!(host.guards().len(), 1);
        let status = host.tune("status").stdout;
        assert!(status.contains("a guard puts it back at 20"), "{status}");
        wait_until(|| host.is_closed());
        assert_eq!(host.state(), before);
        // Nobody saw what the guard said; the journal has it.
        let status = host.tune("status").stdout;
        assert!(status.contains("13 of 13 as before\nnothing is set"), "{status}");
        // By hand before the deadline: the guard has nothing left to do.
        host.tune(&format!("apply {WISHES} --for 1h"));
        assert_eq!(host.tune("revert").code, 0);
        wait_until(|| host.guards().is_empty());
        assert_eq!(host.state(), before);
    });
}

#[test]
fn what_set_names_and_cannot_have_is_a_failure_and_no_command_is_run() {
    inside(
        "tune::files::what_set_names_and_cannot_have_is_a_failure_and_no_command_is_run",
        |host| {
            let before = host.state();
            // A veth without GRO has nothing to poll, and MTUs may take links down.
            for missed in ["--set threaded_napi=1", "--set mtu=9000"] {
                let flags = format!("apply --interface veth0 --set udp_early_demux=0 {missed}");
                let flags = host.with_journal(&flags);
                let run = line(&format!("tune {flags} -- echo it runs"));
                assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{run:?}");
                assert!(run.stderr.contains("echo was not run"), "{run:?}");
                assert!(host.state() == before && host.is_closed(), "{run:?}");
                let applied = line(&format!("tune {flags} --json"));
                let answer = applied.json();
                assert_eq!((applied.code, &answer["ok"]), (1, &false.into()), "{applied:?}");
                assert_eq!(answer["results"], serde_json::json!(["set"]), "{applied:?}");
                assert_eq!(answer["kept"].as_array().unwrap().len(), 1, "{applied:?}");
                assert!(answer["traps"].is_array(), "{applied:?}");
                assert_eq!(host.tune("revert").code, 0);
            }
            // What the kernel refuses is found out only when it is written.
            let flags = host.with_journal("apply --set local_ports='1 0'");
            let program = env!("CARGO_BIN_EXE_quiclane");
            let script = format!("exec {program} tune {flags} -- echo it runs");
            let run = Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!((run.status.code(), run.stdout.as_slice()), (Some(1), &b""[..]), "{run:?}");
            assert!(host.state() == before && host.is_closed(), "{run:?}");
        },
    );
}

#[test]
fn while_a_link_is_down_what_its_threads_need_stays_and_later_all_is_put_back() {
    let test =
        "tune::files::while_a_link_is_down_what_its_threads_need_stays_and_later_all_is_put_back";
    inside(test, |host| {
        let before = host.state();
        let link = |to: &str| {
            let words = ["link", "set", "veth0", to];
            assert!(Command::new("ip").args(words).status().unwrap().success());
        };
        let apply = "apply --interface veth0 --set gro=on --set threaded_napi=1 --for 1s";
        assert_eq!(host.tune(apply).code, 0);
        link("down");
        wait_until(|| host.tune("status").stdout.contains("the guard tries again"));
        let status = host.tune("status").stdout;
        assert!(!status.contains("puts it back at"), "{status}");
        let revert = host.tune("revert");
        assert_eq!(revert.code, 1, "{revert:?}");
        assert!(revert.stdout.contains("threaded_napi needs it until"), "{revert:?}");
        link("up");
        // By the guard, or by hand.
        assert_eq!(host.tune("revert").code, 0);
        assert_eq!((host.state(), host.is_closed()), (before.clone(), true));
        // Without GRO there is nothing left to end.
        assert_eq!(host.tune("apply --interface veth0 --set gro=on --set threaded_napi=1").code, 0);
        let other = host.journal.with_extension("other");
        let other = format!("--journal {}", other.display());
        let off = "tune apply --interface veth0 --set gro=off --set threaded_napi=0";
        let off = line(&format!("{off} {other}"));
        assert_eq!(off.code, 0, "{off:?}");
        assert_eq!(line(&format!("tune revert {other}")).code, 0);
        assert_eq!(host.tune("revert").code, 0);
        assert_eq!(host.state(), before);
    });
}

#[test]
fn files_of_another_namespace_are_not_touched() {
    inside("tune::files::files_of_another_namespace_are_not_touched", |host| {
        // As `nsenter --net` does it: /sys stays that of the namespace before.
        assert!(host.is_closed());
        let flags = "plan --interface lo --set gro_flush_timeout=5000";
        let program = env!("CARGO_BIN_EXE_quiclane");
        let output = Command::new("unshare")
            .args(["--net", "sh", "-c", &format!("ip link set lo up; {program} tune {flags}")])
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("/sys/class/net shows the interfaces of another"), "{text}");
        assert!(text.contains("0 changes") && text.contains("not on this host"), "{text}");
    });
}

#[test]
fn values_of_another_namespace_wait_there() {
    inside("tune::files::values_of_another_namespace_wait_there", |host| {
        assert_eq!(host.tune("apply --interface veth0 --set udp_early_demux=0").code, 0);
        let program = env!("CARGO_BIN_EXE_quiclane");
        let flags = host.with_journal("revert");
        let elsewhere = |flags: &str| {
            let words: Vec<&str> = flags.split(' ').collect();
            let mut command = Command::new("unshare");
            let output = command.args(["--net", program, "tune"]).args(words).output().unwrap();
            (output.status.code(), String::from_utf8(output.stdout).unwrap())
        };
        let (code, text) = elsewhere(&flags);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains("in another network namespace: nsenter --net=/proc/"), "{text}");
        assert!(!host.is_closed() && read(DEMUX) == "0\n");
        let (code, text) = elsewhere(&format!("{flags} --give-up"));
        assert_eq!(code, Some(0), "{text}");
        assert!(text.contains("given up, as asked") && host.is_closed(), "{text}");
        fs::write(DEMUX, "1").unwrap();
    });
}

#[test]
fn the_command_that_is_printed_for_another_namespace_puts_back() {
    let test = "tune::files::the_command_that_is_printed_for_another_namespace_puts_back";
    inside(test, |host| {
        let program = env!("CARGO_BIN_EXE_quiclane");
        let apply = host.with_journal("apply --interface lo --set tx_queue_length=500");
        let shell = |script: String| {
            let script = format!("exec 2>&1; {script}");
            let output = Command::new("sh").args(["-c", &script]).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        // Namespaces of network and mounts that end with the test: `cat` waits for its input.
        let mut holder = Command::new("unshare")
            .args(["--net", "--mount", "sh", "-c"])
            .arg("mount -t sysfs sysfs /sys && ip link set lo up && echo ready && exec cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        let enter = format!("nsenter --target {} --net --mount", holder.id());
        let text = shell(format!("{enter} {program} tune {apply}"));
        let file = || shell(format!("{enter} cat /sys/class/net/lo/tx_queue_len"));
        let set = file();
        let revert = host.tune("revert").stdout;
        let command = revert.split("nsenter ").nth(1).and_then(|rest| rest.split(", or").next());
        let journal = host.with_journal("");
        let command = format!("nsenter {}", command.unwrap_or("not printed"))
            .replace("quiclane tune revert", &format!("{program} tune revert{journal}"));
        // Without its /sys its files are out of reach, and not taken for gone.
        let plain = command.split(" unshare").next().unwrap().to_owned();
        let out_of_reach = shell(format!("{plain} {program} tune revert{journal}"));
        let (still, open) = (file(), !host.is_closed());
        let done = shell(command.clone());
        let after = file();
        drop(holder.stdin.take());
        assert!(holder.wait().unwrap().success());
        assert_eq!(set, "500\n", "{text}");
        assert!(out_of_reach.contains("shows another network namespace"), "{out_of_reach}");
        assert!(open && still == "500\n", "{out_of_reach}");
        assert_eq!(after, "1000\n", "{command}: {done} {revert}");
        assert!(host.is_closed());
    });
}
