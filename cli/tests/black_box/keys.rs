//! keys: a rotation is said, and the next start does not mind.

use std::fs;

use crate::command::{Running, Serve, line};

#[test]
fn a_rotation_is_for_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state").display().to_string();
    let outcome = line(&format!("keys rotate --state-dir {state}"));
    assert_eq!(outcome.code, 1, "{outcome:?}");
    for words in [state.as_str(), "no server has used", "--state-dir"] {
        assert!(outcome.stderr.contains(words), "{words}: {}", outcome.stderr);
    }
    let epoch_of = || {
        let server = Serve::start(&["-q", "--state-dir", &state]);
        let epoch = server.ready.rsplit_once("epoch=").unwrap().1.trim().to_owned();
        assert_eq!(server.load("-c 2 -n 20").code, 0);
        assert_eq!(server.stop("INT").code, 0);
        epoch
    };
    assert_eq!(epoch_of(), "1");
    let master = || fs::read(folder.path().join("state/master")).unwrap();
    let before = master();
    let outcome = line(&format!("keys rotate --state-dir {state}"));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(outcome.stdout.contains("epochs up to 1 keep the old one"), "{outcome:?}");
    assert_ne!(master(), before);
    assert_eq!(fs::read(folder.path().join("state/master.1")).unwrap(), before);
    assert_eq!(epoch_of(), "2");
}

/// A server goes on with the keys that it started with, whatever becomes of the files.
#[test]
fn a_state_directory_that_is_replaced_harms_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let start = || Serve::start(&["--state-dir", &state.display().to_string()]);
    drop(start());
    let mut server = start();
    server.until("epoch 2, resets for 1");
    let url = format!("quic://{}", server.address());
    let flags = "--perf -k --json --idle 20 --keep-alive 200ms --idle-timeout 2s -d 7s";
    let flags: Vec<_> = flags.split(' ').collect();
    let mut load = Running::start(&[&["load", &url], &flags[..]].concat());
    load.until("20 connections held");
    fs::remove_dir_all(&state).unwrap();
    // Its first epoch has other keys now.
    let [_one, _two] = [start(), start()];
    server.until("start it again soon");
    let report = load.wait().json();
    assert_eq!((report["idle"]["held"].as_u64(), report["ok"].as_bool()), (Some(20), Some(true)));
    assert_eq!(server.load("-c 2 -n 20").code, 0, "and takes new ones");
}
