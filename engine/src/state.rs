//! state is what a server keeps between its starts: the master keys and the epochs.
//!
//! ```text
//! VERSION        "1"; its flock serialises starts
//! epoch          the last epoch taken, decimal; 0 before the first
//! master         32 bytes, mode 0600
//! master.<epoch> the same, from before a rotation: of epochs up to this one
//! lock.<epoch>   flock held by its owner; "master <its name>", and without an owner in front of
//!                that "retired <unix seconds>"
//! ```
//!
//! They are made in this order, each on the disk before the next: a crash at any point leaves a
//! directory that the next start completes, and a master without an epoch was never left by a
//! crash. Then somebody lost the count, and a start that counted from 1 again would give out
//! connection IDs, and so reset tokens, that peers already know.
//!
//! Invariant: an epoch is retired only when its flock is free, so a packet of a process that still
//! runs is never taken for an orphan; and a low byte is not reused while peers may hold it.

mod files;
mod masters;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use quiclane_wire::{EpochEntry, EpochState, EpochTable};

use crate::clock::unix_time;
use crate::error::StateError;
use crate::keys::{EpochKeys, Master};
use files::{
    check_directory, check_epoch, check_lockable, give, io, numbered, read_text, write_atomically,
};
use masters::Masters;

/// The identity of one start.
pub(crate) struct State {
    pub(crate) epoch: u64,
    pub(crate) known: Known,
    /// `None`: nothing outlives the process.
    directory: Option<Owned>,
}

/// The epochs of a state directory at one moment.
pub(crate) struct Known {
    /// Epochs that packets may still carry, this one included.
    pub(crate) epochs: Vec<(u64, EpochState)>,
    masters: Masters,
}

/// A directory, and what makes one of its epochs this process's.
struct Owned {
    path: PathBuf,
    retired_for: Duration,
    /// Held for the life of the process.
    lock: File,
    lock_path: PathBuf,
    /// Whether connection IDs of the epoch may have been given out.
    has_served: AtomicBool,
}

impl Owned {
    /// Whether the directory is still the one that this process started with.
    fn is_ours(&self) -> std::io::Result<bool> {
        let of = |is: fs::Metadata| (is.dev(), is.ino());
        match fs::metadata(&self.lock_path) {
            Ok(there) => Ok(of(there) == of(self.lock.metadata()?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Owned {
    /// A start that came to nothing gives its epoch back: a restart loop must not use them up.
    fn drop(&mut self) {
        if *self.has_served.get_mut() {
            return;
        }
        let version = self.path.join("VERSION");
        // Not beside a start that looks at the same file. What is left behind by an error counts
        // as an epoch that has ended, which harms nobody.
        if let Ok(file) = File::open(&version)
            && lock(&file, &version, LOOK_PATIENCE).is_ok()
            && self.is_ours().unwrap_or(false)
        {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

impl State {
    /// A start that leaves nothing behind.
    pub(crate) fn in_memory(seed: Option<u64>) -> Self {
        let epoch = 1;
        let masters = Masters::only(Master::generate(seed));
        let known = Known { epochs: vec![(epoch, EpochState::Live)], masters };
        Self { epoch, known, directory: None }
    }

    /// The next start of the server that owns `directory`, which is created if needed.
    pub(crate) fn open(directory: &Path, retired_for: Duration) -> Result<Self, StateError> {
        let mut builder = fs::DirBuilder::new();
        let builder = builder.recursive(true).mode(0o700);
        builder.create(directory).map_err(io("creating", directory))?;
        check_directory(directory)?;
        let _starting = lock_version(directory)?;
        let (masters, last) = load_or_create(directory)?;
        let mut epochs = survey(directory, retired_for, &masters)?;
        // An epoch file that was restored must not lead back to a byte in use, or to a key of old.
        let last = epochs.iter().map(|(epoch, _)| *epoch).fold(last, u64::max);
        let last = last.max(masters.last_former());
        let taken = |byte: u8| epochs.iter().any(|(epoch, _)| low_byte(*epoch) == byte);
        let epoch = (last + 1..=last + 256)
            .find(|epoch| !taken(low_byte(*epoch)))
            .ok_or_else(|| StateError::NoEpoch(directory.to_owned()))?;
        let (lock_path, lock) = own(directory, epoch, masters.of(epoch))?;
        write_atomically(directory, "epoch", format!("{epoch}\n").as_bytes(), 0o644)?;
        epochs.push((epoch, EpochState::Live));
        masters.forget_unused(directory, &epochs)?;
        let (path, has_served) = (directory.to_owned(), AtomicBool::new(false));
        let owned = Owned { path, retired_for, lock, lock_path, has_served };
        Ok(Self { epoch, known: Known { epochs, masters }, directory: Some(owned) })
    }

    /// Refuses what [`look_again`](Self::look_again) could not read once the capabilities of the
    /// process are dropped, before anything is written there.
    pub(crate) fn check_owner(directory: &Path) -> Result<(), StateError> {
        files::check_owner(directory)
    }

    /// Looks at the directory again: epochs whose process has ended since, that have expired, or
    /// that were taken since. `None` if there is no directory.
    pub(crate) fn look_again(&self) -> Result<Option<Known>, StateError> {
        let Some(owned) = &self.directory else { return Ok(None) };
        let Owned { path, retired_for, lock_path, .. } = owned;
        let version = path.join("VERSION");
        let file = File::open(&version).map_err(io("opening", &version))?;
        lock(&file, &version, LOOK_PATIENCE)?;
        if !owned.is_ours().map_err(io("looking for", lock_path))? {
            return Err(StateError::Replaced(lock_path.clone()));
        }
        let masters = Masters::read(path)?.ok_or_else(|| masters::missing(path))?;
        let mut epochs = survey(path, *retired_for, &masters)?;
        epochs.retain(|(epoch, _)| *epoch != self.epoch);
        epochs.push((self.epoch, EpochState::Live));
        masters.forget_unused(path, &epochs)?;
        Ok(Some(Known { epochs, masters }))
    }

    /// To be called before the first connection ID of the epoch is given out.
    pub(crate) fn serves(&self) {
        if let Some(owned) = &self.directory {
            owned.has_served.store(true, Ordering::Relaxed);
        }
    }

    /// Whether there is a directory.
    pub(crate) fn outlives_the_process(&self) -> bool {
        self.directory.is_some()
    }

    /// The key that everything of this start is derived from.
    pub(crate) fn master(&self) -> &Master {
        self.known.masters.of(self.epoch)
    }
}

impl Known {
    /// What `route` and the kernel program need to know about every epoch.
    pub(crate) fn table(&self, server_id: &[u8], workers: u8) -> EpochTable {
        let mut table = EpochTable::unknown();
        for (epoch, state) in &self.epochs {
            let master = self.masters.of(*epoch);
            let EpochKeys { check, reset_root, .. } = master.epoch_keys(server_id, *epoch);
            // Older epochs may have had more workers: their packets are not routed here anyway.
            let workers = if *state == EpochState::Live { workers } else { u8::MAX };
            let entry = EpochEntry { state: *state, check_key: check, reset_root, workers };
            table.set(low_byte(*epoch), entry);
        }
        table
    }
}

/// Makes the next start of the server that owns `directory` use a new master key. Epochs that were
/// taken keep theirs, so that their connections are still ended by resets; Retry and NEW_TOKEN
/// tokens of old are refused from then on. Returns the last epoch with the old key.
///
/// # Errors
/// When no server has used the directory, or it cannot be read or written.
pub fn rotate_keys(directory: &Path) -> Result<u64, StateError> {
    let version = directory.join("VERSION");
    if !version.try_exists().map_err(io("looking for", &version))? {
        return Err(StateError::Unused(directory.to_owned()));
    }
    let _starting = lock_version(directory)?;
    let (masters, last) = load_or_create(directory)?;
    // Expired ones stay for the next start to remove: how long they are kept is not known here.
    let epochs = survey(directory, Duration::MAX, &masters)?;
    let last = epochs.iter().map(|(epoch, _)| *epoch).fold(last, u64::max);
    masters.rotate(directory, last)?;
    Ok(last)
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
        .mode(0o600)
        .open(&path)
        .map_err(io("opening", &path))?;
    check_lockable(&file, &path)?;
    lock(&file, &path, START_PATIENCE)?;
    let found = read_text(&file).map_err(io("reading", &path))?;
    match found.trim() {
        "1" => Ok(file),
        "" if is_new(directory)? => {
            let write = |file: &mut File| {
                file.write_all(b"1\n")?;
                give(file, directory)?;
                file.sync_all()?;
                File::open(directory)?.sync_all()
            };
            write(&mut file).map_err(io("writing", &path))?;
            Ok(file)
        }
        "" => Err(StateError::damaged(path, "missing or empty, but the directory was in use")),
        _ => Err(StateError::Version { path, found }),
    }
}

/// Waits for the flock of a file. It has no waiting call with an end.
fn lock(file: &File, path: &Path, patience: Duration) -> Result<(), StateError> {
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if waited < patience => {
                thread::sleep(LOCK_INTERVAL);
                waited += LOCK_INTERVAL;
            }
            Err(TryLockError::WouldBlock) => return Err(StateError::Busy(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(io("locking", path)(error)),
        }
    }
}

/// Whether nothing but VERSION was made yet.
fn is_new(directory: &Path) -> Result<bool, StateError> {
    let absent = |name: &str| {
        let path = directory.join(name);
        path.try_exists().map(|exists| !exists).map_err(io("looking for", &path))
    };
    Ok(absent("epoch")? && absent("master")? && locks(directory)?.is_empty())
}

/// The master keys and the last epoch taken.
fn load_or_create(directory: &Path) -> Result<(Masters, u64), StateError> {
    if is_new(directory)? {
        write_atomically(directory, "epoch", b"0\n", 0o644)?;
    }
    let last = read_epoch(directory)?;
    if let Some(masters) = Masters::read(directory)? {
        return Ok((masters, last));
    }
    if last > 0 || !locks(directory)?.is_empty() {
        return Err(masters::missing(directory));
    }
    Ok((Masters::create(directory)?, last))
}

fn read_epoch(directory: &Path) -> Result<u64, StateError> {
    let path = directory.join("epoch");
    let text = match File::open(&path).and_then(|file| read_text(&file)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let what = "missing: epochs that peers remember would be taken again";
            return Err(StateError::damaged(path, what));
        }
        Err(error) => return Err(io("reading", &path)(error)),
    };
    match text.trim().parse() {
        Ok(epoch) => match check_epoch(epoch, &path)? {
            epoch if text.ends_with('\n') => Ok(epoch),
            // Of 25 there may only be the 2 left.
            _ => Err(StateError::damaged(path, &format!("{text:?} ends without a line break"))),
        },
        Err(_) => Err(StateError::damaged(path, &format!("{:?} is not a number", text.trim()))),
    }
}

/// Every lock file with its epoch.
fn locks(directory: &Path) -> Result<Vec<(u64, PathBuf)>, StateError> {
    numbered(directory, "lock.")
}

/// Finds every epoch that packets may still carry, retires ownerless ones and forgets expired
/// ones.
fn survey(
    directory: &Path,
    retired_for: Duration,
    masters: &Masters,
) -> Result<Vec<(u64, EpochState)>, StateError> {
    let mut epochs = Vec::new();
    for (epoch, path) in locks(directory)? {
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            // Its start came to nothing.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(io("opening", &path)(error)),
        };
        check_lockable(&file, &path)?;
        let is_owned = match file.try_lock() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock) => true,
            Err(TryLockError::Error(error)) => return Err(io("locking", &path)(error)),
        };
        let text = read_text(&file).map_err(io("reading", &path))?;
        let now = unix_time();
        let since =
            text.strip_prefix("retired ").and_then(|rest| rest.lines().next()?.parse().ok());
        // Not yet: somebody wrote it, or the clock was set back. It is retired from now on.
        let since = since.filter(|since| *since <= now.as_secs());
        let expired = since
            .is_some_and(|since| now >= Duration::from_secs(since).saturating_add(retired_for));
        if expired && !is_owned {
            fs::remove_file(&path).map_err(io("removing", &path))?;
            continue;
        }
        // Of an earlier version or not ours: then nobody knows.
        let master = text.lines().find_map(|line| line.strip_prefix("master "));
        if master.is_some_and(|name| name != masters.of(epoch).name()) {
            return Err(StateError::Master(path));
        }
        // Its owner has gone since the last look: retired from now on.
        if since.is_none() && !is_owned {
            let master = masters.of(epoch).name();
            let text = format!("retired {}\nmaster {master}\n", now.as_secs());
            write_atomically(directory, &format!("lock.{epoch}"), text.as_bytes(), 0o600)?;
        }
        epochs.push((epoch, if is_owned { EpochState::Draining } else { EpochState::Retired }));
    }
    Ok(epochs)
}

fn own(directory: &Path, epoch: u64, master: &Master) -> Result<(PathBuf, File), StateError> {
    let path = directory.join(format!("lock.{epoch}"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(io("creating", &path))?;
    file.lock().map_err(io("locking", &path))?;
    let mut write = || {
        file.write_all(format!("master {}\n", master.name()).as_bytes())?;
        give(&file, directory)?;
        file.sync_all()
    };
    write().map_err(io("writing", &path))?;
    Ok((path, file))
}

/// A start has the directory for milliseconds, so that one who has it for long does not go on.
const START_PATIENCE: Duration = Duration::from_secs(5);
/// Of those who can come again.
const LOOK_PATIENCE: Duration = Duration::from_millis(500);
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests;
