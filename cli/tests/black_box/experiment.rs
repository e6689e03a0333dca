//! experiment: real measurements that are too short to say much, their files and pages, and what is
//! left of one that is killed.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::command::{NOBODY, Outcome, Running, assert_fields, line, root, shell};
use crate::tune::host::{Host, inside, read};
use crate::tune::killed::{wait_until, wait_within};

/// As short as it gets, on a machine where other tests run.
const SHORT: &str = "--budget 3m --cell 100ms --seed 7 --guard steal=10 --guard others=10 \
    --guard generator=1 --guard softirq=1 --guard drops=1 --guard errors=1 --guard backlog=1000000";

/// Of --json.
const FIELDS: &[&str] = &[
    "schema",
    "what",
    "command",
    "at_s",
    "device",
    "host",
    "smallest_effect",
    "workloads",
    "skipped",
    "unfinished",
    "calibrations",
    "effects",
    "void",
    "by_chance",
    "apply",
    "undo",
];

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn records(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Many blocks fit three minutes: fewer are as good a test, however long a busy machine takes.
fn shorten(path: &Path, calibrate: u32, screen: u32) {
    let mut all = records(path);
    let blocks = serde_json::json!({"calibrate": calibrate, "screen": screen, "confirm": 0});
    all[0]["blocks"] = blocks;
    all[0]["budget_s"] = serde_json::json!(3_600.0);
    let lines: Vec<String> = all.iter().map(|record| format!("{record}\n")).collect();
    fs::write(path, lines.concat()).unwrap();
}

/// Begins a run, which is interrupted before its first block is whole.
fn begin(path: &Path, flags: &str) {
    let start = format!("tune {flags} {SHORT} -o {}", path.display());
    let mut running = Running::start(&words(&start));
    running.until("block 1 of");
    running.signal("INT");
    assert_eq!(running.wait().code, 130);
}

fn cells(path: &Path) -> usize {
    records(path).iter().filter(|record| record["record"] == "cell").count()
}

#[test]
fn an_experiment_is_measured_interrupted_resumed_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    let file = path.display();
    let start = format!("tune experiment --knob io=epoll {SHORT} -o {file}");
    let mut running = Running::start(&words(&start));
    running.until("block 3 of");
    running.signal("INT");
    let outcome = running.wait();
    assert_eq!(outcome.code, 130, "{outcome:?}");
    assert!(outcome.stderr.contains("go on with --resume"), "{outcome:?}");
    let kept = records(&path);
    let before = cells(&path);
    assert!(before >= 8 && before.is_multiple_of(4), "{before}");
    let outcome = line(&format!("tune report {file}"));
    let far = format!("unfinished: {} of ", before / 4);
    assert!(outcome.stdout.contains(&far) && outcome.stdout.contains(&format!("--resume {file}")));
    shorten(&path, 3, 3);
    let outcome = line(&format!("tune experiment --resume {file} --json"));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(cells(&path), 24, "{outcome:?}");
    assert_eq!(records(&path)[1..=before], kept[1..=before], "measured once");
    let found = outcome.json();
    assert_fields(&found, FIELDS);
    assert_eq!((&found["schema"], &found["unfinished"]), (&1.into(), &Value::Null));
    let effect = &found["effects"][0];
    assert_eq!(
        (effect["name"].as_str(), effect["workload"].as_str()),
        (Some("io=epoll"), Some("requests"))
    );
    assert_eq!(effect["verdict"], "inconclusive", "three blocks say nothing: {effect}");
    let page = folder.path().join("run.html");
    let outcome = line(&format!("tune report {file} -o {}", page.display()));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    for words in
        ["requests (requests/s)", "io=epoll", "inconclusive", "nothing to apply", "at least 6"]
    {
        assert!(outcome.stdout.contains(words), "{words}: {}", outcome.stdout);
    }
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && page.contains("io=epoll") && !page.contains("<script"));
    let again = line(&format!("tune report {file} --json"));
    assert_eq!(again.json(), found);
}

#[test]
fn a_run_without_any_block_of_the_knob_is_no_measurement() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    let file = path.display();
    let start = format!("tune experiment --knob io=epoll {SHORT} -o {file}");
    let mut running = Running::start(&words(&start));
    running.until("block 2 of");
    running.signal("INT");
    assert_eq!(running.wait().code, 130);
    // The first block alone took longer.
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"budget_s\":180.0", "\"budget_s\":0.5")).unwrap();
    let outcome = line(&format!("tune experiment --resume {file} -q"));
    assert_eq!(outcome.code, 4, "{outcome:?}");
    let words = "no block that is fit for use was measured of io=epoll (requests)";
    assert!(outcome.stderr.contains(words), "{outcome:?}");
    assert!(outcome.stderr.contains("give a longer --budget"), "{outcome:?}");
}

#[test]
fn a_server_that_is_stopped_half_of_the_time_is_slower() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.jsonl");
    begin(&path, "experiment --handicap 50%");
    shorten(&path, 1, 4);
    let outcome = line(&format!("tune experiment --resume {} --json -q", path.display()));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(!outcome.stderr.contains("screen:"), "quiet: {outcome:?}");
    let found = outcome.json();
    let points = found["effects"][0]["points"].as_array().unwrap();
    let ratios: Vec<f64> = points.iter().map(|point| point["ratio"].as_f64().unwrap()).collect();
    let slower = ratios.iter().filter(|ratio| **ratio < -0.2).count();
    assert!(ratios.len() == 4 && slower >= 3, "half of the time is -0.69: {ratios:?}");
}

#[test]
fn what_is_killed_leaves_nothing() {
    inside("experiment::what_is_killed_leaves_nothing", |host| {
        let knob = "/proc/sys/net/ipv4/udp_early_demux";
        let before = read(knob);
        let path = host.journal.with_extension("jsonl");
        let flags = "experiment --knob udp_early_demux=0 --device host";
        begin(&path, &host.with_journal(flags));
        shorten(&path, 0, 8);
        let mut in_place = 0;
        for records in 1..=4 {
            let flags = format!("tune experiment --resume {} -q", path.display());
            let mut running = Running::start(&words(&host.with_journal(&flags)));
            // The host has its own value until the first cell of the arm.
            while host.records() < records && !running.has_ended() {}
            in_place += usize::from(read(knob) != before);
            drop(running);
            wait_until(|| of_ours("serve").is_empty() && of_ours("load").is_empty());
            assert_eq!(host.tune("revert").code, 0);
            assert_eq!(read(knob), before, "killed at {records} records");
        }
        assert!(in_place > 0, "never killed while it was set");
        // Whoever begins while the value of a killed one is in place would take it for the host's.
        kill_while_set(host, &path, knob);
        let refused = host.tune(&format!("experiment --resume {}", path.display()));
        assert!(refused.stderr.contains("will not stay"), "{refused:?}");
        assert_eq!(refused.code, 2);
        assert_eq!(host.tune("revert").code, 0);
        assert_eq!(read(knob), before);
        // What somebody has tuned is no baseline.
        assert_eq!(host.tune("apply --set udp_early_demux=0").code, 0);
        let refused = host.tune("experiment --knob ip_early_demux=0 --device host");
        assert!(refused.stderr.contains("first `quiclane tune revert"), "{refused:?}");
        assert_eq!((refused.code, read(knob).trim()), (2, "0"));
        assert_eq!(host.tune("revert").code, 0);
    });
}

/// One value is the host's, the other one of a namespace of the experiment: two journals, two
/// guards, and nobody who calls `tune revert`. It is killed when the second is about to be set.
#[test]
fn the_guards_of_a_killed_experiment_put_everything_back() {
    inside("experiment::the_guards_of_a_killed_experiment_put_everything_back", |host| {
        let knob = "/proc/sys/vm/stat_interval";
        let before = read(knob);
        let path = host.journal.with_extension("jsonl");
        let flags = "experiment --knob stat_interval=10,udp_early_demux=0 --device lo";
        begin(&path, &host.with_journal(flags));
        shorten(&path, 0, 1);
        let flags = format!("tune experiment --resume {} -q", path.display());
        let mut running = Running::start(&words(&host.with_journal(&flags)));
        while host.records() < 2 && !running.has_ended() {}
        drop(running);
        let inner = PathBuf::from(format!("{}-namespace/journal", host.journal.display()));
        let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        assert!(text(&inner).contains("\"record\":\"applied\""), "{}", text(&inner));
        // Half a minute and the length of a cell, and as long again on a busy machine.
        wait_within(60, || host.is_closed() && !inner.exists());
        assert_eq!(read(knob), before);
    });
}

/// Goes on with `path` and kills that while `knob` is set, neither being set nor put back.
fn kill_while_set(host: &Host, path: &Path, knob: &str) {
    let before = read(knob);
    for _ in 0..20 {
        let flags = format!("tune experiment --resume {} -q", path.display());
        let running = Running::start(&words(&host.with_journal(&flags)));
        wait_until(|| read(knob) != before);
        drop(running);
        let status = host.tune("status --json").json();
        if status["session"]["state"] == "applied" && read(knob) != before {
            return;
        }
        wait_until(|| of_ours("serve").is_empty() && of_ours("load").is_empty());
        assert_eq!(host.tune("revert").code, 0);
    }
    panic!("never killed while it was set");
}

/// Processes of this network namespace that run this command of quiclane.
fn of_ours(command: &str) -> Vec<u32> {
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    let is_one = |process: u32| {
        let folder = format!("/proc/{process}");
        let words = fs::read(format!("{folder}/cmdline")).ok()?;
        let same = fs::read_link(format!("{folder}/ns/net")).ok()? == ours;
        let text = String::from_utf8_lossy(&words).into_owned();
        (same && text.contains("quiclane\0") && text.contains(&format!("\0{command}\0")))
            .then_some(process)
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(is_one).collect()
}

#[test]
fn without_privileges_it_measures_on_the_loopback_of_the_host() {
    let script = format!(
        "cd \"$(mktemp -d)\" && timeout -s INT 8 $quiclane tune experiment --knob gso_segments=1 \
         {SHORT} -o run.jsonl; echo code $?; head -1 run.jsonl"
    );
    let Outcome { stdout, stderr, .. } = shell(&script, Some(NOBODY));
    assert!(stdout.contains("shared with all others"), "{stdout} {stderr}");
    assert!(stderr.contains("calibrate: baseline"), "{stderr}");
    let script = "$quiclane tune experiment --knob udp_early_demux=0 --journal \"$(mktemp -d)\"";
    let outcome = shell(script, Some(NOBODY));
    assert_eq!(outcome.code, 2, "{outcome:?}");
    let words = "udp_early_demux=0: not measurable here: ";
    assert!(outcome.stderr.contains(words), "{outcome:?}");
}

#[test]
fn every_knob_is_an_arm_or_has_a_reason_and_flags_are_recorded() {
    if !root("experiment::every_knob_is_an_arm_or_has_a_reason_and_flags_are_recorded") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (path, journal) = (folder.path().join("all.jsonl"), folder.path().join("journal"));
    let start = format!(
        "tune experiment --all --device veth --workload bulk --workload latency --budget 300h \
         --smallest-effect 3% --cell 150ms --seed 11 --server-cores 0 --load-cores 0 \
         --guard steal=7% --journal {} -o {}",
        journal.display(),
        path.display()
    );
    let mut running = Running::start(&words(&start));
    running.until("calibrate: ");
    running.signal("INT");
    assert_eq!(running.wait().code, 130);
    let begin = records(&path).remove(0);
    for (field, value) in [
        ("device", serde_json::json!("veth")),
        ("workloads", serde_json::json!(["bulk", "latency"])),
        ("smallest_effect", serde_json::json!(0.03)),
        ("cell_s", serde_json::json!(0.15)),
        ("seed", serde_json::json!(11)),
        ("server_cores", serde_json::json!([0])),
        ("load_cores", serde_json::json!([0])),
        ("budget_s", serde_json::json!(1_080_000.0)),
    ] {
        assert_eq!(begin[field], value, "{field}");
    }
    assert_eq!(begin["limits"]["steal"], 0.07);
    let names = |field: &str| -> Vec<String> {
        let all = begin[field].as_array().unwrap().iter();
        all.map(|of| of["name"].as_str().unwrap().to_owned()).collect()
    };
    let (arms, skipped) = (names("arms"), names("skipped"));
    for name in ["gso_segments=1", "udp_gro=off", "gro=on", "udp_early_demux=0"] {
        assert!(arms.iter().any(|arm| arm == name), "{name}: {arms:?}");
    }
    assert!(skipped.iter().any(|name| name == "mitigations"), "{skipped:?}");
    let knobs = line("tune show --json").json();
    for knob in knobs["knobs"].as_array().unwrap() {
        let id = knob["id"].as_str().unwrap();
        let is_there = |name: &String| name == id || name.starts_with(&format!("{id}="));
        assert!(arms.iter().chain(&skipped).any(is_there), "{id} is nowhere");
    }
}

/// Numbers of namespaces come back: what was set in one that is gone is not set in the next.
#[test]
fn what_was_set_in_a_namespace_that_is_gone_holds_nothing_up() {
    if !root("experiment::what_was_set_in_a_namespace_that_is_gone_holds_nothing_up") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("j");
    let journal = journal.display();
    let set = format!("$quiclane tune apply --set udp_early_demux=0 --journal {journal}-namespace");
    let left = shell(&format!("unshare --net sh -c 'ip link set lo up; {set}'"), None);
    assert_eq!(left.code, 0, "{left:?}");
    let status = format!("tune status --json --journal {journal}-namespace");
    wait_until(|| line(&status).json()["session"]["guarded"] == false);
    let start = format!(
        "tune experiment --knob ip_early_demux=0 --journal {journal} {SHORT} -o {}",
        folder.path().join("run.jsonl").display()
    );
    let mut running = Running::start(&words(&start));
    running.until("calibrate: ");
    running.signal("INT");
    assert_eq!(running.wait().code, 130);
}

#[test]
fn a_matrix_has_the_same_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("matrix.jsonl");
    let start = format!(
        "bench matrix --io epoll --workers 1 --steering hash,xdp --mtu 1200 --gso-segments 1 \
         --gro off {SHORT} -o {}",
        path.display()
    );
    let mut running = Running::start(&words(&start));
    running.until("block 2 of");
    running.signal("INT");
    assert_eq!(running.wait().code, 130);
    let begin = records(&path).remove(0);
    assert_eq!(begin["what"], "matrix");
    let name = "io=epoll steering=hash workers=1 mtu=1200 gso=1 gro=off";
    assert_eq!(begin["arms"][1]["name"], name, "one worker needs no xdp");
    let flags = "--io epoll --steering hash --workers 1 --mtu-max 1200 --gso-segments 1 --gro off";
    let serve: Vec<&str> =
        begin["arms"][1]["serve"].as_array().unwrap().iter().map(|w| w.as_str().unwrap()).collect();
    assert_eq!(serve.join(" "), flags);
    let outcome = line(&format!("tune report {}", path.display()));
    assert!(outcome.stdout.contains(name), "{outcome:?}");
}

#[test]
fn wrong_flags_name_the_value_and_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign");
    fs::write(&foreign, "{}\n").unwrap();
    let other = folder.path().join("other");
    fs::write(&other, "{}\n").unwrap();
    let (foreign, other) = (foreign.display(), other.display());
    for (flags, code, words) in [
        ("tune experiment".to_owned(), 2, "--knob"),
        ("tune experiment --knob nosuch=1".into(), 2, "tune show"),
        ("tune experiment --knob io=nonsense".into(), 2, "io=nonsense"),
        ("tune experiment --knob mitigations=off".into(), 2, "boot"),
        ("tune experiment --knob io=epoll --knob io=epoll".into(), 2, "twice"),
        ("tune experiment --knob io".into(), 2, "KNOB=VALUE"),
        ("tune experiment --handicap 60%".into(), 2, "50%"),
        ("tune experiment --all --smallest-effect 0%".into(), 2, "2%"),
        ("tune experiment --all --cell 1ms".into(), 2, "100ms"),
        ("tune experiment --all --guard steel=1".into(), 2, "steal"),
        ("tune experiment --all --workload nothing".into(), 2, "overload"),
        ("tune experiment --knob io=epoll --budget 1s".into(), 2, "give at least --budget"),
        ("tune experiment --knob io=epoll --load-cores 99".into(), 1, "99"),
        (format!("tune experiment --resume {foreign}"), 1, "line 1"),
        (format!("tune experiment --knob io=epoll --resume {foreign}"), 2, "without effect"),
        (format!("tune experiment --knob io=epoll -o {foreign}"), 1, "exists"),
        (
            format!("tune experiment --knob io=epoll -o {other}/no/x"),
            1,
            "is no folder within reach",
        ),
        (format!("tune experiment --resume {foreign} --budget 2h"), 2, "--budget"),
        (format!("tune experiment --resume {foreign} --cell 1s"), 2, "--cell"),
        (format!("bench matrix --resume {foreign} --io epoll"), 2, "--io"),
        (format!("tune report {foreign} -o {foreign}"), 2, "a name of its own"),
        (format!("tune report {foreign} -o {other}"), 2, "is no page"),
        (format!("tune report {foreign}"), 1, "tune experiment"),
        ("tune report nosuch".into(), 1, "nosuch"),
        ("bench matrix --io nothing".into(), 2, "epoll"),
        ("bench matrix --mtu 100".into(), 2, "1200"),
        ("bench matrix --gso-segments 0".into(), 2, "128"),
        ("bench matrix --steering quantum".into(), 2, "cbpf"),
        ("bench matrix --workers 0".into(), 2, "at least 1"),
        ("bench matrix --gro maybe".into(), 2, "off"),
        ("bench matrix --quick --budget 1s".into(), 2, "give at least --budget"),
    ] {
        let outcome = line(&flags);
        assert_eq!(outcome.code, code, "{flags}: {outcome:?}");
        assert!(outcome.stderr.contains(words), "{flags}: {words}: {}", outcome.stderr);
    }
}
