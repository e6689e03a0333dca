//! keys: a rotation is said, and the next start does not mind.

use std::fs;

use crate::command::{Serve, line};

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
