//! common loads the programs for the world of the fixtures, or says why it cannot.
#![expect(dead_code, reason = "each test binary uses a part of it")]
#![expect(clippy::print_stdout, reason = "a skipped test says so")]

use std::env;
use std::fs;
use std::process::Command;

use quiclane_ebpf::{Action, Budgets, Capacity, Count, Program, Settings, Steering, SteeringError};
use quiclane_wire::fixtures::{LISTENERS, LIVE_EPOCH, LIVE_WORKERS, world};

pub(crate) const XDP_DROP: u32 = 1;
pub(crate) const XDP_PASS: u32 = 2;
pub(crate) const XDP_TX: u32 = 3;
pub(crate) const XDP_REDIRECT: u32 = 4;

/// Another object than the committed one, for a fresh build that is not of the recorded toolchain.
const OBJECT: &str = "QUICLANE_EBPF_OBJECT";

/// The programs without settings. `None`, and a line that says so, if this process may not load
/// them; with CI=true that is a failure.
pub(crate) fn bare_steering(test: &str) -> Option<Steering> {
    let capacity = Capacity { listeners: 8, prefixes: 1_024, ..Capacity::default() };
    let loaded = match env::var_os(OBJECT) {
        Some(path) => Steering::load_object(&fs::read(path).unwrap(), &capacity),
        None => Steering::load(&capacity),
    };
    match loaded {
        Ok(steering) => Some(steering),
        Err(error @ SteeringError::NotPermitted { .. }) => {
            skip(test, &error.to_string());
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The programs in the world of the fixtures, without limits.
pub(crate) fn steering(test: &str) -> Option<Steering> {
    let mut steering = bare_steering(test)?;
    // With all privileges it is the direct program that stands the tests, not what replaces it.
    let direct = steering.verified_instructions(Program::Steer).unwrap().is_some();
    assert!(direct && (!steering.copies() || env::var_os(INSIDE).is_some()), "{test}: copied");
    steering.apply(&settings()).unwrap();
    steering.set_epochs(&world().2).unwrap();
    for listener in LISTENERS {
        steering.listen(listener, false).unwrap();
    }
    Some(steering)
}

/// The settings of the world of the fixtures.
pub(crate) fn settings() -> Settings {
    let (layout, spread_key, _) = world();
    Settings {
        layout,
        spread_key,
        live_epoch: LIVE_EPOCH,
        workers: LIVE_WORKERS,
        move_to_cores: false,
        budgets: Budgets::UNLIMITED,
        answers: None,
    }
}

/// What the program returns for frames of this count.
pub(crate) fn returned(count: Count) -> u32 {
    match count.action() {
        Action::Passed => XDP_PASS,
        Action::Dropped => XDP_DROP,
        Action::Answered => XDP_TX,
        Action::Redirected => XDP_REDIRECT,
    }
}

/// How often each count went up since `before`, without those that did not.
pub(crate) fn since(steering: &Steering, before: &[(Count, u64)]) -> Vec<(Count, u64)> {
    let now = steering.counts().unwrap();
    let deltas =
        now.into_iter().zip(before).map(|((count, now), (_, before))| (count, now - before));
    deltas.filter(|(_, delta)| *delta > 0).collect()
}

pub(crate) fn skip(test: &str, why: &str) {
    assert!(env::var("CI").as_deref() != Ok("true"), "{test}: {why}");
    println!("skipped: {test}: {why}");
}

/// Runs `body` in a process of its own, behind a command that changes what it may do. `test` is the
/// name that this binary knows the calling test by.
pub(crate) fn inside(command: &[&str], test: &str, body: impl FnOnce()) {
    if env::var(INSIDE).as_deref() == Ok(test) {
        body();
        return;
    }
    let probe = Command::new(command[0]).args(&command[1..]).arg("true").output();
    if !probe.as_ref().is_ok_and(|output| output.status.success()) {
        skip(test, &format!("{} is not permitted or not there", command.join(" ")));
        return;
    }
    let mut again = Command::new(command[0]);
    again.args(&command[1..]).arg(env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture"]).env(INSIDE, test);
    let output = again.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    // What it could not do there is skipped here, whatever it did then.
    if let Some((_, said)) = text.split_once("skipped: ") {
        skip(test, said.lines().next().unwrap_or_default());
        return;
    }
    assert!(output.status.success(), "{test}:\n{text}\n{errors}");
    assert!(text.contains("1 passed"), "{test} is not the name of a test:\n{text}\n{errors}");
}

/// Set for that process to the name of the test.
const INSIDE: &str = "QUICLANE_EBPF_INSIDE";
