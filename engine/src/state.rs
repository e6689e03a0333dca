//! state is what a server keeps between its starts: the master key and the epochs.
//!
//! ```text
//! VERSION        "1"; its flock serialises starts
//! master         32 bytes, mode 0600
//! epoch          the last epoch taken, decimal
//! lock.<epoch>   flock held by its owner; without an owner: "retired <unix seconds>"
//! ```
//!
//! Invariant: an epoch is retired only when its flock is free, so a packet of a process that still
//! runs is never taken for an orphan; and a low byte is not reused while peers may hold it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use quiclane_wire::{EpochEntry, EpochState, EpochTable};

use crate::clock::unix_time;
use crate::error::StateError;
use crate::keys::{EpochKeys, Master};

/// The identity of one start.
pub(crate) struct State {
    pub(crate) master: Master,
    pub(crate) epoch: u64,
    /// Epochs that packets may still carry, this one included.
    pub(crate) epochs: Vec<(u64, EpochState)>,
    /// Held for the life of the process.
    _lock: Option<File>,
}

impl State {
    /// A start that leaves nothing behind.
    pub(crate) fn in_memory(seed: Option<u64>) -> Self {
        let (master, epoch) = (Master::generate(seed), 1);
        Self { master, epoch, epochs: vec![(epoch, EpochState::Live)], _lock: None }
    }

    /// The next start of the server that owns `directory`, which is created if needed.
    pub(crate) fn open(directory: &Path, retired_for: Duration) -> Result<Self, StateError> {
        fs::create_dir_all(directory).map_err(io("creating", directory))?;
        let _starting = lock_version(directory)?;
        let master = load_or_create_master(directory)?;
        let last = read_epoch(directory)?;
        let mut epochs = survey(directory, retired_for)?;
        // An epoch file that was lost or restored must not lead back to a byte in use.
        let last = epochs.iter().map(|(epoch, _)| *epoch).chain([last]).max().unwrap_or(last);
        if last > EPOCH_MAX {
            let what = format!("{last} is no epoch that this program took");
            return Err(StateError::Damaged { path: directory.join("epoch"), what });
        }
        let taken = |byte: u8| epochs.iter().any(|(epoch, _)| low_byte(*epoch) == byte);
        let epoch = (last + 1..=last + 256)
            .find(|epoch| !taken(low_byte(*epoch)))
            .ok_or_else(|| StateError::NoEpoch(directory.to_owned()))?;
        let lock = own(directory, epoch)?;
        write_atomically(directory, "epoch", format!("{epoch}\n").as_bytes(), 0o644)?;
        epochs.push((epoch, EpochState::Live));
        Ok(Self { master, epoch, epochs, _lock: Some(lock) })
    }

    /// What `route` and the kernel program need to know about every epoch.
    pub(crate) fn table(&self, server_id: &[u8], workers: u8) -> EpochTable {
        let mut table = EpochTable::unknown();
        for (epoch, state) in &self.epochs {
            let EpochKeys { check, reset_root, .. } = self.master.epoch_keys(server_id, *epoch);
            // Older epochs may have had more workers: their packets are not routed here anyway.
            let workers = if *state == EpochState::Live { workers } else { u8::MAX };
            let entry = EpochEntry { state: *state, check_key: check, reset_root, workers };
            table.set(low_byte(*epoch), entry);
        }
        table
    }
}

/// The part of an epoch that connection IDs carry.
#[expect(clippy::cast_possible_truncation, reason = "the low byte is what is wanted")]
pub(crate) fn low_byte(epoch: u64) -> u8 {
    epoch as u8
}

/// Creates or checks VERSION and holds its flock while the caller keeps the file.
fn lock_version(directory: &Path) -> Result<File, StateError> {
    let path = directory.join("VERSION");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io("opening", &path))?;
    file.lock().map_err(io("locking", &path))?;
    let mut found = String::new();
    file.read_to_string(&mut found).map_err(io("reading", &path))?;
    match found.trim() {
        "1" => Ok(file),
        "" if !directory.join("master").exists() => {
            file.write_all(b"1\n").map_err(io("writing", &path))?;
            Ok(file)
        }
        _ => Err(StateError::Version { path, found }),
    }
}

fn load_or_create_master(directory: &Path) -> Result<Master, StateError> {
    let path = directory.join("master");
    match File::open(&path) {
        Ok(mut file) => {
            let mode = file.metadata().map_err(io("reading", &path))?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(StateError::Exposed { path, mode });
            }
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(io("reading", &path))?;
            let length = bytes.len();
            bytes.try_into().map(Master).map_err(|_| StateError::Damaged {
                path,
                what: format!("{length} bytes instead of 32"),
            })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            // With epochs but without a master, peers hold connection IDs that nobody can verify.
            if directory.join("epoch").exists() {
                let what = "missing, but there are epochs".to_owned();
                return Err(StateError::Damaged { path, what });
            }
            let master = Master::generate(None);
            write_atomically(directory, "master", &master.0, 0o600)?;
            Ok(master)
        }
        Err(error) => Err(io("opening", &path)(error)),
    }
}

fn read_epoch(directory: &Path) -> Result<u64, StateError> {
    let path = directory.join("epoch");
    match fs::read_to_string(&path) {
        Ok(text) => text.trim().parse().map_err(|_| StateError::Damaged {
            what: format!("{:?} is not a number", text.trim()),
            path,
        }),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(io("reading", &path)(error)),
    }
}

/// Finds every epoch that packets may still carry, retires ownerless ones and forgets expired
/// ones.
fn survey(directory: &Path, retired_for: Duration) -> Result<Vec<(u64, EpochState)>, StateError> {
    let mut epochs = Vec::new();
    for entry in fs::read_dir(directory).map_err(io("listing", directory))? {
        let path = entry.map_err(io("listing", directory))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(epoch) = name.strip_prefix("lock.").and_then(|epoch| epoch.parse().ok()) else {
            continue;
        };
        let mut file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(io("opening", &path))?;
        if file.try_lock().is_err() {
            epochs.push((epoch, EpochState::Draining));
            continue;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io("reading", &path))?;
        let now = unix_time();
        match text.strip_prefix("retired ").and_then(|since| since.trim().parse().ok()) {
            Some(since) if now >= Duration::from_secs(since).saturating_add(retired_for) => {
                fs::remove_file(&path).map_err(io("removing", &path))?;
                continue;
            }
            Some(_) => {}
            None => {
                let name = format!("lock.{epoch}");
                let text = format!("retired {}\n", now.as_secs());
                write_atomically(directory, &name, text.as_bytes(), 0o600)?;
            }
        }
        epochs.push((epoch, EpochState::Retired));
    }
    Ok(epochs)
}

fn own(directory: &Path, epoch: u64) -> Result<File, StateError> {
    let path = directory.join(format!("lock.{epoch}"));
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(io("creating", &path))?;
    file.lock().map_err(io("locking", &path))?;
    Ok(file)
}

/// Writes a file so that a crash leaves either the old or the new content.
fn write_atomically(
    directory: &Path,
    name: &str,
    bytes: &[u8],
    mode: u32,
) -> Result<(), StateError> {
    let (path, partial) = (directory.join(name), directory.join(format!("{name}.partial")));
    let write = || {
        let _ = fs::remove_file(&partial);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(io("writing", &path))
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StateError {
    let path: PathBuf = path.to_owned();
    move |source| StateError::Io { action, path, source }
}

/// More starts than any server will see; beyond it somebody else wrote the file.
const EPOCH_MAX: u64 = 1 << 48;
/// How long packets of a dead process are recognised: as long as a peer's keep-alive may hold on.
pub(crate) const RETIRED_FOR: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_follow_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let open = || State::open(directory.path(), RETIRED_FOR);
        let first = open().unwrap();
        let second = open().unwrap();
        assert_eq!((first.epoch, second.epoch), (1, 2));
        assert_eq!(first.master.0, second.master.0);
        assert_eq!(second.epochs, [(1, EpochState::Draining), (2, EpochState::Live)]);
        drop(first);
        let third = open().unwrap();
        let mut epochs = third.epochs.clone();
        epochs.sort_unstable_by_key(|(epoch, _)| *epoch);
        assert_eq!(
            epochs,
            [(1, EpochState::Retired), (2, EpochState::Draining), (3, EpochState::Live)]
        );
        let table = third.table(&[], 4);
        assert_eq!(table.get(1).state, EpochState::Retired);
        assert_eq!(table.get(3).workers, 4);
        assert_eq!(table.get(4).state, EpochState::Unknown);
    }

    #[test]
    fn a_crash_loop_never_reuses_a_byte() {
        let directory = tempfile::tempdir().unwrap();
        for start in 1..=255 {
            assert_eq!(State::open(directory.path(), RETIRED_FOR).unwrap().epoch, start);
        }
        assert_eq!(State::open(directory.path(), RETIRED_FOR).unwrap().epoch, 256);
        let error = State::open(directory.path(), RETIRED_FOR).err().unwrap();
        assert!(matches!(error, StateError::NoEpoch(_)), "{error}");
        let after = State::open(directory.path(), Duration::ZERO).unwrap();
        assert_eq!(after.epoch, 257, "expired epochs free their bytes, the count goes on");
    }

    #[test]
    fn damage_is_named() {
        let refuse = |file: &str, content: &[u8], words: &str| {
            let directory = tempfile::tempdir().unwrap();
            drop(State::open(directory.path(), RETIRED_FOR).unwrap());
            fs::write(directory.path().join(file), content).unwrap();
            let error = State::open(directory.path(), RETIRED_FOR).err().unwrap().to_string();
            assert!(error.contains(words) && error.contains(file), "{error}");
        };
        refuse("master", b"short", "5 bytes instead of 32");
        refuse("epoch", b"many", "not a number");
        refuse("epoch", b"18446744073709551615", "no epoch");
        refuse("VERSION", b"2\n", "\"2\\n\"");
        let directory = tempfile::tempdir().unwrap();
        drop(State::open(directory.path(), RETIRED_FOR).unwrap());
        let master = directory.path().join("master");
        fs::set_permissions(&master, fs::Permissions::from_mode(0o644)).unwrap();
        let error = State::open(directory.path(), RETIRED_FOR).err().unwrap().to_string();
        assert!(error.contains("mode 644"), "{error}");
        fs::remove_file(&master).unwrap();
        let error = State::open(directory.path(), RETIRED_FOR).err().unwrap().to_string();
        assert!(error.contains("missing"), "{error}");
    }
}
