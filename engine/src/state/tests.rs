//! tests starts servers on directories in every state, and looks at what is kept and refused.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

const RETIRED_FOR: Duration = Duration::from_secs(3_600);

/// One that gave out connection IDs.
fn start(directory: &Path, retired_for: Duration) -> Result<State, StateError> {
    State::open(directory, retired_for).inspect(State::serves)
}

#[test]
fn a_start_that_came_to_nothing_gives_its_epoch_back() {
    let directory = tempfile::tempdir().unwrap();
    for epoch in 1..=300 {
        assert_eq!(State::open(directory.path(), RETIRED_FOR).unwrap().epoch, epoch);
    }
    let next = start(directory.path(), RETIRED_FOR).unwrap();
    assert_eq!(next.known.epochs, [(301, EpochState::Live)]);
}

#[test]
fn who_holds_the_directory_is_not_waited_for_without_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    drop(start(path, RETIRED_FOR).unwrap());
    let version = path.join("VERSION");
    assert_eq!(fs::metadata(&version).unwrap().mode() & 0o777, 0o600);
    let held = File::open(&version).unwrap();
    held.lock().unwrap();
    let errors = [start(path, RETIRED_FOR).err(), rotate_keys(path).err()];
    for error in errors.map(|error| error.unwrap().to_string()) {
        assert!(error.contains("VERSION is locked") && error.contains("fuser"), "{error}");
    }
}

#[test]
fn what_others_may_change_or_lock_is_refused() {
    let directory = used();
    let path = directory.path();
    for (name, exposed, remedy) in
        [("", 0o777, "chmod go-w"), ("VERSION", 0o644, "chmod 600"), ("lock.1", 0o606, "600")]
    {
        let path = path.join(name);
        let mode = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(exposed)).unwrap();
        let error = refusal(directory.path());
        for words in [&format!("(mode {exposed:o})"), remedy] {
            assert!(error.contains(words), "{name}: {error}");
        }
        fs::set_permissions(&path, mode).unwrap();
    }
    drop(start(path, RETIRED_FOR).unwrap());
    let made = path.join("deeper/still");
    drop(start(&made, RETIRED_FOR).unwrap());
    assert_eq!(fs::metadata(made).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn half_a_number_and_a_time_to_come_are_not_believed() {
    let directory = used();
    let path = directory.path();
    fs::write(path.join("epoch"), "2").unwrap();
    assert!(refusal(path).contains("ends without a line break"));
    fs::write(path.join("epoch"), "1\n").unwrap();
    let lock = fs::read_to_string(path.join("lock.1")).unwrap();
    let master = lock.lines().find(|line| line.starts_with("master ")).unwrap();
    fs::write(path.join("lock.1"), format!("retired 99999999999\n{master}\n")).unwrap();
    drop(start(path, RETIRED_FOR).unwrap());
    let lock = fs::read_to_string(path.join("lock.1")).unwrap();
    let since = lock.lines().next().unwrap().strip_prefix("retired ").unwrap();
    assert!(since.parse::<u64>().unwrap() <= unix_time().as_secs(), "{lock}");
}

/// Starts that fail and starts that look at the directory meanwhile.
#[test]
fn starts_at_the_same_time_do_not_harm_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    thread::scope(|scope| {
        let come_and_go = || {
            for _ in 0..100 {
                drop(State::open(path, RETIRED_FOR).unwrap());
            }
        };
        (0..4).for_each(|_| drop(scope.spawn(come_and_go)));
    });
    let next = start(path, RETIRED_FOR).unwrap();
    assert_eq!(next.known.epochs, [(next.epoch, EpochState::Live)]);
}

/// It goes on with the keys it has, and says so.
#[test]
fn a_directory_that_is_replaced_is_not_looked_at() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    let first = start(&path, RETIRED_FOR).unwrap();
    fs::remove_dir_all(&path).unwrap();
    assert!(first.look_again().is_err());
    drop(start(&path, RETIRED_FOR).unwrap());
    let error = first.look_again().err().unwrap().to_string();
    assert!(error.contains("lock.1 is not this process's any more"), "{error}");
    let lock = path.join("lock.1");
    drop(first);
    assert!(lock.exists(), "another's");
    let second = start(&path, RETIRED_FOR).unwrap();
    fs::remove_file(path.join("lock.2")).unwrap();
    rotate_keys(&path).unwrap();
    assert!(second.look_again().is_err(), "its own lock was lost");
}

#[test]
fn a_lost_former_master_is_no_fresh_start() {
    let directory = used();
    let path = directory.path();
    rotate_keys(path).unwrap();
    let former = fs::read(path.join("master.1")).unwrap();
    fs::remove_file(path.join("master.1")).unwrap();
    let error = refusal(path);
    assert!(error.contains("lock.1") && error.contains("restore it"), "{error}");
    let error = rotate_keys(path).unwrap_err().to_string();
    assert!(error.contains("lock.1"), "{error}");
    fs::write(path.join("master.1"), former).unwrap();
    fs::set_permissions(path.join("master.1"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(start(path, RETIRED_FOR).unwrap().known.epochs.len(), 2);
}

#[test]
fn epochs_follow_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let open = || start(directory.path(), RETIRED_FOR);
    let first = open().unwrap();
    let second = open().unwrap();
    assert_eq!((first.epoch, second.epoch), (1, 2));
    assert_eq!(first.master().0, second.master().0);
    assert_eq!(second.known.epochs, [(1, EpochState::Draining), (2, EpochState::Live)]);
    drop(first);
    let third = open().unwrap();
    let mut epochs = third.known.epochs.clone();
    epochs.sort_unstable_by_key(|(epoch, _)| *epoch);
    assert_eq!(
        epochs,
        [(1, EpochState::Retired), (2, EpochState::Draining), (3, EpochState::Live)]
    );
    let table = third.known.table(&[], 4);
    assert_eq!(table.get(1).state, EpochState::Retired);
    assert_eq!(table.get(3).workers, 4);
    assert_eq!(table.get(4).state, EpochState::Unknown);
}

#[test]
fn a_crash_loop_never_reuses_a_byte() {
    let directory = tempfile::tempdir().unwrap();
    for epoch in 1..=255 {
        assert_eq!(start(directory.path(), RETIRED_FOR).unwrap().epoch, epoch);
    }
    assert_eq!(start(directory.path(), RETIRED_FOR).unwrap().epoch, 256);
    for _ in 257..=300 {
        let error = start(directory.path(), RETIRED_FOR).err().unwrap();
        assert!(matches!(error, StateError::NoEpoch(_)), "{error}");
    }
    let after = start(directory.path(), Duration::ZERO).unwrap();
    assert_eq!(after.epoch, 257, "expired epochs free their bytes, the count goes on");
}

/// What a running server learns about the others.
#[test]
fn epochs_that_end_or_expire_are_seen_by_those_that_run() {
    let directory = tempfile::tempdir().unwrap();
    let open = || start(directory.path(), RETIRED_FOR).unwrap();
    let [first, second] = [open(), open()];
    let states = |of: &State| {
        let mut epochs = of.look_again().unwrap().unwrap().epochs;
        epochs.sort_unstable_by_key(|(epoch, _)| *epoch);
        epochs.into_iter().map(|(_, state)| state).collect::<Vec<_>>()
    };
    assert_eq!(states(&first), [EpochState::Live, EpochState::Draining], "a later one");
    drop(first);
    assert_eq!(states(&second), [EpochState::Retired, EpochState::Live]);
    let lock = directory.path().join("lock.1");
    assert!(fs::read_to_string(&lock).unwrap().starts_with("retired "));
    fs::write(&lock, "retired 1000\n").unwrap();
    assert_eq!(states(&second), [EpochState::Live], "long ago");
    assert!(!lock.exists());
    let starting = lock_version(directory.path()).unwrap();
    let error = second.look_again().err().unwrap().to_string();
    assert!(error.contains("VERSION is locked"), "another one starts: {error}");
    drop(starting);
    fs::remove_file(directory.path().join("VERSION")).unwrap();
    assert!(second.look_again().is_err());
    assert!(State::in_memory(None).look_again().unwrap().is_none());
}

#[test]
fn a_rotation_changes_the_keys_of_the_next_epoch_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let error = rotate_keys(path).unwrap_err().to_string();
    assert!(error.contains("no server has used"), "{error}");
    let open = |retired_for| start(path, retired_for).unwrap();
    let first = open(RETIRED_FOR);
    let check = |table: &EpochTable, epoch| {
        let EpochEntry { check_key, state, .. } = table.get(epoch);
        ((check_key.k0, check_key.k1), *state)
    };
    let (before, _) = check(&first.known.table(&[], 4), 1);
    // Twice: the one in between was in no epoch.
    for _ in 0..2 {
        assert_eq!(rotate_keys(path).unwrap(), 1);
    }
    let again = first.look_again().unwrap().unwrap().table(&[], 4);
    assert_eq!(check(&again, 1), (before, EpochState::Live), "a running one is left alone");
    let second = open(RETIRED_FOR);
    assert_ne!(second.master().0, first.master().0);
    drop(first);
    assert_eq!(rotate_keys(path).unwrap(), 2);
    let third = open(RETIRED_FOR);
    let table = third.known.table(&[], 4);
    assert_eq!(check(&table, 1), (before, EpochState::Retired));
    let (of_second, _) = check(&second.known.table(&[], 4), 2);
    assert_eq!(check(&table, 2), (of_second, EpochState::Draining));
    let mode = fs::metadata(path.join("master.1")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop((second, third));
    // Retired by the first, forgotten by the second.
    drop((open(Duration::ZERO), open(Duration::ZERO)));
    assert!(!path.join("master.1").exists() && !path.join("master.2").exists());
    assert!(path.join("master").exists());
}

#[test]
fn damage_is_named() {
    let refuse = |file: &str, content: &[u8], words: &str| {
        let directory = used();
        fs::write(directory.path().join(file), content).unwrap();
        let error = refusal(directory.path());
        assert!(error.contains(words) && error.contains(file), "{error}");
    };
    refuse("master", b"short", "5 bytes instead of 32");
    refuse("master", &[7; 1 << 20], "64 bytes instead of 32");
    refuse("epoch", b"many", "not a number");
    refuse("epoch", b"", "not a number");
    refuse("epoch", b"\xff\xfe", "not a number");
    refuse("epoch", b"18446744073709551615", "no epoch");
    refuse("VERSION", b"2\n", "\"2\\n\"");
    refuse("VERSION", b"\xff", "another --state-dir");
    refuse("VERSION", b"", "missing or empty");
    refuse("lock.18446744073709551615", b"", "no epoch");
    let directory = used();
    let master = directory.path().join("master");
    fs::set_permissions(&master, fs::Permissions::from_mode(0o644)).unwrap();
    let error = refusal(directory.path());
    assert!(error.contains("mode 644") && error.contains("chmod 600"), "{error}");
}

/// What was given out under an epoch must never be given out again, so losing any file but a
/// lock stops the next start, and the message says which and what to do.
#[test]
fn a_lost_file_is_never_mistaken_for_a_fresh_start() {
    for (lost, with_locks) in [
        ("epoch", true),
        ("epoch", false),
        ("master", true),
        ("master", false),
        ("VERSION", true),
        ("VERSION", false),
    ] {
        let directory = used();
        fs::remove_file(directory.path().join(lost)).unwrap();
        if with_locks {
            fs::remove_file(directory.path().join("lock.1")).unwrap();
        }
        for _ in 0..2 {
            let error = refusal(directory.path());
            let path = directory.path().join(lost);
            assert!(error.contains(&path.display().to_string()), "{error}");
            assert!(error.contains("missing") && error.contains("restore it"), "{error}");
        }
    }
    let directory = used();
    for lost in ["epoch", "master"] {
        fs::remove_file(directory.path().join(lost)).unwrap();
    }
    let error = refusal(directory.path());
    assert!(error.contains("epoch") && error.contains("missing"), "{error}");
}

#[test]
fn foreign_names_and_contents_of_locks_do_no_harm() {
    let directory = used();
    for name in ["lock.notanumber", "lock.", "lock.05", "lock.+5", "lock.9.partial", "lock"] {
        fs::write(directory.path().join(name), b"").unwrap();
    }
    let name = OsStr::from_bytes(b"lock.\xff9");
    fs::write(directory.path().join(name), b"").unwrap();
    fs::write(directory.path().join("lock.1"), b"\xff\xfe").unwrap();
    let second = start(directory.path(), RETIRED_FOR).unwrap();
    assert_eq!(second.known.epochs, [(1, EpochState::Retired), (2, EpochState::Live)]);
}

/// Every content that a directory has while the first start makes it.
#[test]
fn a_crash_of_the_first_start_is_completed_by_the_next() {
    let steps: [(&str, &[u8]); 9] = [
        ("VERSION", b""),
        ("VERSION", b"1\n"),
        ("epoch.partial", b""),
        ("epoch", b"0\n"),
        ("master.partial", b"half"),
        ("master", &[7; 32]),
        ("lock.1", b""),
        ("epoch.partial", b"1"),
        ("epoch", b"1\n"),
    ];
    for crash in 0..=steps.len() {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in &steps[..crash] {
            let path = directory.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let next = start(directory.path(), RETIRED_FOR).unwrap();
        assert_eq!(next.epoch, if crash < 7 { 1 } else { 2 }, "crash after step {crash}");
        assert_eq!(next.master().0 == [7; 32], crash >= 6);
        drop(next);
        let after = start(directory.path(), RETIRED_FOR).unwrap();
        assert!(after.epoch > 1);
    }
}

/// The order of the steps above is the real one: something in the way stops a start there.
#[test]
fn a_start_that_fails_half_way_leaves_what_the_next_one_completes() {
    for (obstacle, left) in
        [("epoch.partial", &["VERSION"][..]), ("master.partial", &["VERSION", "epoch"])]
    {
        let directory = tempfile::tempdir().unwrap();
        let obstacle = directory.path().join(obstacle);
        fs::create_dir(&obstacle).unwrap();
        refusal(directory.path());
        fs::remove_dir(&obstacle).unwrap();
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, left);
        assert_eq!(start(directory.path(), RETIRED_FOR).unwrap().epoch, 1);
    }
    let directory = used();
    let obstacle = directory.path().join("epoch.partial");
    fs::create_dir(&obstacle).unwrap();
    refusal(directory.path());
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(start(directory.path(), RETIRED_FOR).unwrap().epoch, 3);
}

#[test]
fn a_directory_that_cannot_be_used_has_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = refusal(&path);
        assert!(error.contains("file") && error.contains("not a file"), "{error}");
    }
    for (kind, words) in [
        (ErrorKind::PermissionDenied, "this user"),
        (ErrorKind::ReadOnlyFilesystem, "writable"),
        (ErrorKind::StorageFull, "free space"),
        (ErrorKind::Unsupported, "local file system"),
    ] {
        let error = io("creating", &file)(kind.into()).to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// A directory that one start has used.
fn used() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    drop(start(directory.path(), RETIRED_FOR).unwrap());
    directory
}

fn refusal(directory: &Path) -> String {
    start(directory, RETIRED_FOR).err().unwrap().to_string()
}
