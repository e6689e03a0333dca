//! tune: what it shows to anybody, what it sets and puts back in a namespace of its own, and what
//! SIGKILL leaves.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod export;
mod files;
pub(crate) mod host;
pub(crate) mod killed;
mod traps;

use std::time::Duration;

use quiclane::clock::now;
use serde_json::Value;

use crate::command::{NOBODY, Outcome, assert_fields, line, root, shell};

fn rows(outcome: &Outcome) -> Vec<Value> {
    let picture = outcome.json();
    assert_fields(&picture, &["schema", "traps", "knobs"]);
    assert_eq!(picture["schema"], 1);
    let rows = picture["knobs"].as_array().unwrap().clone();
    assert!(rows.len() >= 47, "{}", rows.len());
    let fields = [
        "id",
        "subject",
        "reach",
        "title",
        "default",
        "candidates",
        "mechanism",
        "effect",
        "since",
        "access",
        "care",
        "place",
        "presence",
        "values",
    ];
    for row in &rows {
        assert_fields(row, &fields);
        assert!(!row["place"].as_str().unwrap().is_empty(), "{row}");
        for value in row["values"].as_array().unwrap() {
            assert_fields(value, &["interface", "place", "value", "why"]);
        }
    }
    rows
}

#[test]
fn anybody_gets_a_picture_in_two_seconds() {
    let start = now();
    let outcome = line("tune");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{outcome:?}");
    assert_eq!(line("tune show").stdout.lines().count(), outcome.stdout.lines().count());
    // Every line of a knob names a file or a command.
    let lines: Vec<&str> = outcome.stdout.lines().filter(|line| line.starts_with("  ")).collect();
    assert!(lines.len() > 60, "{outcome:?}");
    let sources = ["/", "quiclane ", "by the engine: ", "ethtool ", "ip ", "tc ", "systemctl "];
    let sources = [&sources[..], &["sysctl ", "ynl ", "ps ", "nft ", "cat ", "od ", "why: "]];
    for line in lines {
        assert!(sources.concat().iter().any(|source| line.contains(source)), "{line}");
    }
    let verbose = line("tune show --verbose").stdout;
    assert_eq!(verbose.matches("for QUIC: ").count(), rows(&line("tune --json")).len());
    assert!(verbose.contains("default ") && verbose.contains("worth trying "));
}

#[test]
fn nobody_plans_and_is_told_what_applying_takes() {
    if !root("tune::nobody_plans_and_is_told_what_applying_takes") {
        return;
    }
    let nobody = |flags: &str| shell(&format!("exec $quiclane tune {flags}"), Some(NOBODY));
    let shown = nobody("show --json");
    assert!(rows(&shown).iter().all(|row| row["presence"] != "settable"), "{shown:?}");
    let traps = shown.json()["traps"].to_string();
    assert!(traps.contains("permission") || traps.contains("read_only"), "{traps}");
    let plan = nobody("plan --profile latency --interface lo");
    assert_eq!(plan.code, 0, "{plan:?}");
    assert!(plan.stdout.contains("nothing was changed") || plan.stdout.contains("nothing would"));
    let apply = nobody("apply --set stat_interval=7 --journal /tmp/quiclane-nobody");
    assert_eq!(apply.code, 1, "{apply:?}");
    assert!(apply.stderr.contains("nothing can be set: not permitted: run as root"), "{apply:?}");
    assert_eq!(nobody("status --journal /nowhere").code, 0);
    let status = line("tune status --journal /etc/passwd");
    assert_eq!(status.code, 1);
    assert!(status.stderr.contains("give --journal a folder"), "{status:?}");
}

#[test]
fn an_unknown_interface_is_named_with_those_that_are_there() {
    for command in ["show", "plan", "apply", "export --format tuned"] {
        let wishes = if command == "show" { "" } else { "--set gro=on" };
        let outcome = line(&format!("tune {command} {wishes} --interface nosuch0"));
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{command}: {outcome:?}");
        let words = "--interface nosuch0: no such interface; there are lo";
        assert!(outcome.stderr.contains(words), "{command}: {outcome:?}");
    }
}

#[test]
fn plans_and_exports_are_json_too() {
    let plan = line("tune plan --profile overload --interface lo --json").json();
    assert_fields(&plan, &["schema", "asked", "changes", "kept", "traps"]);
    assert_eq!(plan["asked"], "profile overload");
    for change in plan["changes"].as_array().unwrap() {
        let fields =
            ["knob", "scope", "interface", "place", "from", "to", "why", "command", "undo"];
        assert_fields(change, &fields);
        assert_ne!(change["from"], change["to"], "{change}");
    }
    for kept in plan["kept"].as_array().unwrap() {
        assert_fields(kept, &["knob", "interface", "place", "value", "wanted", "reason"]);
    }
    let export = line("tune export --set udp_early_demux=0 --format sysctl --json").json();
    let text = export["files"][0]["text"].as_str().unwrap();
    assert!(text.contains("\nnet.ipv4.udp_early_demux = 0\n"), "{text}");
}

#[test]
fn every_profile_and_reader_has_its_name() {
    for profile in ["throughput", "latency", "overload", "balanced"] {
        let plan = line(&format!("tune plan --profile {profile}"));
        assert!(plan.stdout.contains(&format!("profile {profile}: ")), "{plan:?}");
        for reader in ["sysctl", "udev", "systemd", "tuned"] {
            let flags = format!("--profile {profile} --format {reader}");
            let export = line(&format!("tune export {flags}"));
            let words = format!("# quiclane tune export: profile {profile}\n# /etc/");
            assert!(export.stdout.starts_with(&words), "{flags}: {export:?}");
        }
    }
    let plan = line("tune plan --profile balanced --skip rmem_max --set gro=off --interface lo");
    assert!(plan.stdout.contains("profile balanced, gro=off, without rmem_max"), "{plan:?}");
    assert!(!plan.stdout.contains("\n  rmem_max"), "{plan:?}");
}
