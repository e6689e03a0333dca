//! journal remembers what the host was like before it was tuned, whatever happens meanwhile.
//!
//! ```text
//! lock     flock held by who changes something, whom it names; free once they are dead
//! journal  a line of JSON for each record, on the disk before what it announces is done
//! last     the journal before, closed
//! guard    flock held by the guard process
//!
//! begin ─► (intent ─► the write ─► done | refused)*
//!       ─► (applied | runs) ─► settled* ─► closed ─► last
//! ```
//!
//! Invariant: a value is written only after its original is on the disk. A crash at any point
//! leaves either a value that nobody has touched, or a record that knows what it was. Only the last
//! line can be torn, and what it would have announced was not done.

mod record;
pub(crate) use record::{Begin, Entry, Log, Record, VERSION};

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::shell::word;

/// Why the journal cannot be used. Each message names the file and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file system said no.
    #[error("{doing} {path}: {source}{}", remedy(source))]
    Io {
        /// What was done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Others could write there.
    #[error(
        "{0} belongs to somebody else, or others may write there: what it says would be written to \
         the host; give --journal a folder of your own with mode 755"
    )]
    Unsafe(PathBuf),
    /// A record that nobody wrote.
    #[error(
        "{path}, line {line}: {why}; nothing was changed: put that line right, or restore by hand \
         what the others name as `original` and remove the file"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Somebody changes something at this moment.
    #[error("{lock} is held by {holder}: wait for it, or end it; what it set is then reverted")]
    Busy {
        /// The lock.
        lock: PathBuf,
        /// Who that is.
        holder: String,
    },
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            "; run as root (sudo), or give --journal DIR, a folder of your own"
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "; give --journal a folder",
        ErrorKind::StorageFull => "; make room there, or give --journal another folder",
        _ => "",
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { doing, path, source }
}

/// Where a journal is kept.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The one that is used unless somebody asks for another: a reboot empties it, as it does the
    /// values that it is about.
    pub const DEFAULT: &'static str = "/run/quiclane/tune";

    /// A folder that need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The flag that names it in a command, behind a blank; nothing for the usual one.
    #[must_use]
    pub fn flag(&self) -> String {
        match self.0.to_str() {
            Some(Self::DEFAULT) => String::new(),
            _ => format!(" --journal {}", word(&self.0.display().to_string())),
        }
    }

    /// What the journal says; `None`: nothing is set.
    pub(crate) fn read(&self) -> Result<Option<Log>, JournalError> {
        let Some(bytes) = self.bytes(JOURNAL)? else { return Ok(None) };
        let path = self.0.join(JOURNAL);
        if bytes.len() as u64 > JOURNAL_BYTES_MAX {
            let why = format!("longer than {JOURNAL_BYTES_MAX} bytes, which no journal is");
            return Err(JournalError::Damaged { path, line: 1, why });
        }
        Log::read(&bytes).map_err(|(line, why)| JournalError::Damaged { path, line, why })
    }

    /// What is in the file `name`, a byte more than [`JOURNAL_BYTES_MAX`] at most; `None`: it is
    /// not there.
    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, JournalError> {
        let path = self.0.join(name);
        match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            looked => looked.map_err(io_error("opening", &path))?,
        };
        // What somebody else put there is not even opened.
        self.check()?;
        is_regular(&path).map_err(io_error("opening", &path))?;
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(io_error("opening", &path))?,
        };
        let mut bytes = Vec::new();
        let read = file.take(JOURNAL_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(io_error("reading", &path))?;
        Ok(Some(bytes))
    }

    /// Takes the lock, for a while. `who` is what others are told meanwhile.
    pub(crate) fn hold(&self, who: &str, patience: Duration) -> Result<Held, JournalError> {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o755).create(&self.0);
        made.map_err(io_error("creating", &self.0))?;
        self.check()?;
        let path = self.0.join(LOCK);
        // Not for others to read: whoever can open it could hold it against us.
        let mut lock = open_or_create(&path, 0o600)?;
        let mut waited = Duration::ZERO;
        while let Err(error) = lock.try_lock() {
            match error {
                TryLockError::WouldBlock if waited >= patience => {
                    return Err(JournalError::Busy { lock: path, holder: self.holder() });
                }
                TryLockError::WouldBlock => thread::sleep(PAUSE),
                TryLockError::Error(error) => return Err(io_error("locking", &path)(error)),
            }
            waited += PAUSE;
        }
        // The name is for others to read. Where there is no room for it values are put back
        // nevertheless, and whoever has to wait hears of "another process".
        let _ = lock.set_len(0).and_then(|()| lock.write_all(who.as_bytes()));
        Ok(Held { folder: self.clone(), _lock: lock })
    }

    /// What the journal before this one said, as far as it can be understood.
    pub(crate) fn last(&self) -> Result<Option<Log>, JournalError> {
        let bytes = self.bytes(LAST)?;
        Ok(bytes.and_then(|bytes| Log::read(&bytes).ok()?))
    }

    /// Whether somebody changes something at this moment; `None`: only its owner may know.
    pub(crate) fn is_held(&self) -> Option<bool> {
        let path = self.0.join(LOCK);
        match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
            // A guard that only looks holds it for an instant.
            _ => Some((0..LOOKS).all(|_| {
                let locked = is_locked(&path);
                thread::sleep(if locked { PAUSE } else { Duration::ZERO });
                locked
            })),
        }
    }

    /// Who held the lock last.
    pub(crate) fn holder(&self) -> String {
        let mut text = String::new();
        let path = self.0.join(LOCK);
        let read = is_regular(&path).and_then(|()| File::open(path));
        let read = read.and_then(|file| file.take(HOLDER_BYTES_MAX).read_to_string(&mut text));
        match read {
            Ok(_) if !text.is_empty() => text.escape_default().to_string(),
            _ => "another process".to_owned(),
        }
    }

    /// Says that a guard watches, for as long as the file is kept.
    pub(crate) fn guard(&self) -> Result<File, JournalError> {
        let path = self.0.join(GUARD);
        let file = open_or_create(&path, 0o644)?;
        // A guard of an earlier run may be about to leave; its being there is said just as well.
        let _ = file.try_lock_shared();
        Ok(file)
    }

    /// Whether a guard watches.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        is_locked(&self.0.join(GUARD))
    }

    /// What a journal says is written to the host: nobody else may write there.
    fn check(&self) -> Result<(), JournalError> {
        let folder = fs::metadata(&self.0).map_err(io_error("looking at", &self.0))?;
        let this = fs::metadata("/proc/self").map_err(io_error("looking at", &self.0))?;
        let trusted = [this.uid(), 0].contains(&folder.uid());
        match trusted && folder.mode() & 0o022 == 0 {
            true => Ok(()),
            false => Err(JournalError::Unsafe(self.0.clone())),
        }
    }
}

/// Whoever opened a pipe to read it would wait for somebody to write.
fn is_regular(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(about) if !about.is_file() => Err(io::Error::other("it is no regular file: remove it")),
        // It may have gone meanwhile, which opening it says as well.
        _ => Ok(()),
    }
}

fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
        || matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

fn open_or_create(path: &Path, mode: u32) -> Result<File, JournalError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(mode);
    options.open(path).map_err(io_error("opening", path))
}

/// The lock of a folder; free again when dropped, also by SIGKILL.
pub(crate) struct Held {
    folder: Folder,
    _lock: File,
}

impl Held {
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Removes a journal that was not even begun: its first line is torn.
    pub(crate) fn sweep(self) -> Result<Self, JournalError> {
        let path = self.folder.0.join(JOURNAL);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(io_error("removing", &path)(error))
            }
            _ => Ok(self),
        }
    }

    /// Begins a journal. There must be none.
    pub(crate) fn begin(self, begin: Begin) -> Result<Journal, JournalError> {
        let path = self.folder.0.join(JOURNAL);
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o644);
        let file = options.open(&path).map_err(io_error("creating", &path))?;
        let mut journal = Journal { held: self, file, path, bytes: 0 };
        journal.add(&Record::Begin(begin))?;
        Ok(journal)
    }

    /// Goes on with the journal that `log` was read from, behind its last whole record.
    pub(crate) fn resume(self, log: &Log) -> Result<Journal, JournalError> {
        let path = self.folder.0.join(JOURNAL);
        let mut file =
            OpenOptions::new().write(true).open(&path).map_err(io_error("opening", &path))?;
        let cut = file.set_len(log.bytes).and_then(|()| file.seek(SeekFrom::End(0)));
        cut.map_err(io_error("writing", &path))?;
        Ok(Journal { held: self, file, path, bytes: log.bytes })
    }
}

/// A journal that is written.
pub(crate) struct Journal {
    held: Held,
    file: File,
    path: PathBuf,
    /// Length of the whole records.
    bytes: u64,
}

impl Journal {
    /// Puts a record on the disk; only then it returns. After an error it is as if nobody had
    /// tried, and the next one may be added.
    pub(crate) fn add(&mut self, record: &Record) -> Result<(), JournalError> {
        let line = serde_json::to_vec(record).map_err(io::Error::from);
        let written = line.and_then(|mut line| {
            line.push(b'\n');
            self.file.write_all(&line)?;
            self.file.sync_all()?;
            File::open(&self.held.folder.0)?.sync_all()?;
            Ok(line.len() as u64)
        });
        match written {
            Ok(length) => {
                self.bytes += length;
                Ok(())
            }
            Err(error) => {
                // A full disk takes half a record, and a shorter one may still fit behind it. A
                // file that cannot even be cut takes no further record either.
                let cut = self.file.set_len(self.bytes);
                let _ = cut.and_then(|()| self.file.seek(SeekFrom::Start(self.bytes)));
                Err(io_error("writing", &self.path)(error))
            }
        }
    }

    /// From here on there is no room for records.
    #[cfg(test)]
    pub(crate) fn fill_disk(&mut self) {
        self.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
    }

    /// Ends it: what was set is no longer.
    pub(crate) fn close(self) -> Result<Held, JournalError> {
        let last = self.held.folder.0.join(LAST);
        let moved = fs::rename(&self.path, &last)
            .and_then(|()| File::open(&self.held.folder.0)?.sync_all());
        moved.map_err(io_error("renaming", &self.path))?;
        Ok(self.held)
    }

    /// Ends it if nothing of it may be set. What was written and could not be read back may be.
    pub(crate) fn close_if_over(self) -> Result<Held, JournalError> {
        let over = self.held.folder.read()?.is_none_or(|log| log.is_over());
        if over { self.close() } else { Ok(self.leave()) }
    }

    /// Lets go of it: what was set stays.
    pub(crate) fn leave(self) -> Held {
        self.held
    }
}

const LOCK: &str = "lock";
const JOURNAL: &str = "journal";
const LAST: &str = "last";
const GUARD: &str = "guard";

/// How often a lock is looked at before it counts as held.
const LOOKS: u32 = 3;

/// How long to wait before the lock is tried again.
const PAUSE: Duration = Duration::from_millis(20);

/// Far more than all knobs of a host with hundreds of queues take.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;

/// More than any of us says of itself.
const HOLDER_BYTES_MAX: u64 = 200;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;
    use std::process::Command;

    use super::*;
    use crate::revert::Outcome;

    fn folder() -> (tempfile::TempDir, Folder) {
        let keeps = tempfile::tempdir().unwrap();
        let folder = Folder::new(keeps.path());
        (keeps, folder)
    }

    fn begin() -> Begin {
        let (boot, by) = ("one".into(), "test".into());
        Begin { version: VERSION, boot, namespace: 7, pid: 1, by, at_s: 0, for_s: None }
    }

    fn intent(seq: u32) -> Record {
        let (knob, path) = ("rmem_max".into(), Some("/rmem".into()));
        let (original, wanted) = ("1\n".into(), "2".into());
        Record::Intent { seq, knob, interface: None, path, original, wanted }
    }

    #[test]
    fn pipes_are_not_waited_for() {
        for name in [JOURNAL, LOCK] {
            let (keeps, folder) = folder();
            let path = keeps.path().join(name);
            assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
            match name {
                LOCK => assert_eq!(folder.holder(), "another process"),
                _ => {
                    let error = folder.read().unwrap_err().to_string();
                    assert!(error.contains("it is no regular file: remove it"), "{error}");
                }
            }
        }
    }

    #[test]
    fn what_a_stranger_put_there_is_not_even_opened() {
        for name in [JOURNAL, LAST] {
            let (keeps, folder) = folder();
            // As little to be opened as a pipe that nobody writes to, and nobody has to wait.
            let _socket = UnixListener::bind(keeps.path().join(name)).unwrap();
            let read = || folder.read().and_then(|log| Ok((log, folder.last()?)));
            assert!(matches!(read(), Err(JournalError::Io { doing: "opening", .. })), "{name}");
            fs::set_permissions(keeps.path(), fs::Permissions::from_mode(0o777)).unwrap();
            let read = read();
            assert!(matches!(read, Err(JournalError::Unsafe(_))), "{name}: {read:?}");
        }
    }

    #[test]
    fn the_lock_is_taken_even_where_nobody_can_say_who_has_it() {
        let (keeps, folder) = folder();
        symlink("/dev/full", keeps.path().join(LOCK)).unwrap();
        let held = folder.hold("test", Duration::from_secs(10)).unwrap();
        assert!(matches!(folder.hold("other", Duration::ZERO), Err(JournalError::Busy { .. })));
        drop(held);
    }

    #[test]
    fn a_record_that_was_half_written_is_in_nobodys_way() {
        let (_keeps, folder) = folder();
        let mut journal = folder.hold("test", Duration::ZERO).unwrap().begin(begin()).unwrap();
        journal.add(&intent(0)).unwrap();
        let resumed = |journal: Journal| {
            let held = journal.leave();
            let log = folder.read().unwrap().unwrap();
            held.resume(&log).unwrap()
        };
        for settles in 1..4_u32 {
            let whole = fs::read(folder.path().join(JOURNAL)).unwrap();
            // What a disk that got full has taken, and then the error.
            journal.file.write_all(b"{\"record\":\"sett").unwrap();
            let there = std::mem::replace(&mut journal.held.folder.0, "/nowhere".into());
            let settled = Record::Settled { seq: 0, outcome: Outcome::Restored };
            let error = journal.add(&settled).unwrap_err();
            assert!(error.to_string().starts_with("writing "), "{error}");
            journal.held.folder.0 = there;
            assert_eq!(fs::read(folder.path().join(JOURNAL)).unwrap(), whole);
            journal.add(&intent(settles)).unwrap();
            journal = resumed(journal);
        }
        let log = folder.read().unwrap().unwrap();
        assert_eq!(log.entries.len(), 4);
        assert!(log.entries.iter().all(Entry::is_open), "{log:?}");
    }
}
