//! files reads and writes the small files of a state directory.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::error::StateError;

/// Writes a file so that a crash leaves either the old or the new content.
pub(super) fn write_atomically(
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
        give(&file, directory)?;
        file.sync_all()?;
        fs::rename(&partial, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(io("writing", &path))
}

/// Gives a file to the owner of the directory: root may rotate the keys of a server that is not.
pub(super) fn give(file: &File, directory: &Path) -> std::io::Result<()> {
    let (of, is) = (fs::metadata(directory)?, file.metadata()?);
    if (of.uid(), of.gid()) == (is.uid(), is.gid()) || !is_root() {
        return Ok(());
    }
    fchown(file, Some(of.uid()), Some(of.gid()))
}

/// Refuses a directory that a process without capabilities cannot use, though root can: one with
/// files of other users. One that does not exist yet will be our own.
pub(super) fn check_owner(directory: &Path) -> Result<(), StateError> {
    if !is_root() || !directory.exists() {
        return Ok(());
    }
    let mut paths = vec![directory.to_owned()];
    for entry in fs::read_dir(directory).map_err(io("listing", directory))? {
        let path = entry.map_err(io("listing", directory))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if OURS.iter().any(|ours| name.starts_with(ours)) {
            paths.push(path);
        }
    }
    for path in paths {
        let owner = fs::metadata(&path).map_err(io("looking at", &path))?.uid();
        if owner != 0 {
            return Err(StateError::Owner { directory: directory.to_owned(), path, owner });
        }
    }
    Ok(())
}

/// Refuses a directory in which others may rename and remove files.
pub(super) fn check_directory(directory: &Path) -> Result<(), StateError> {
    let mode = fs::metadata(directory).map_err(io("looking at", directory))?.mode() & 0o7777;
    if mode & 0o022 == 0 {
        return Ok(());
    }
    let path = directory.to_owned();
    Err(StateError::Shared { path, mode, how: "changed", remedy: "go-w" })
}

/// Refuses a file that others may open: whoever can, can hold its lock.
pub(super) fn check_lockable(file: &File, path: &Path) -> Result<(), StateError> {
    let mode = file.metadata().map_err(io("looking at", path))?.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    Err(StateError::Shared { path: path.to_owned(), mode, how: "locked", remedy: "600" })
}

/// How the names of our files begin.
const OURS: [&str; 4] = ["VERSION", "master", "epoch", "lock."];

/// Nobody else may give files away.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The text of one of our files, whatever its bytes are.
pub(super) fn read_text(file: &File) -> std::io::Result<String> {
    Ok(String::from_utf8_lossy(&read_bytes(file)?).into_owned())
}

/// The beginning of a file, more than any of ours has.
pub(super) fn read_bytes(file: &File) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Every file whose name is `prefix` and the number of an epoch. Other names, an editor's copies
/// for example, are not ours.
pub(super) fn numbered(directory: &Path, prefix: &str) -> Result<Vec<(u64, PathBuf)>, StateError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(io("listing", directory))? {
        let path = entry.map_err(io("listing", directory))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(epoch) = name.strip_prefix(prefix).and_then(|epoch| epoch.parse().ok()) else {
            continue;
        };
        if name != format!("{prefix}{epoch}") {
            continue;
        }
        check_epoch(epoch, &path)?;
        found.push((epoch, path));
    }
    Ok(found)
}

/// Refuses numbers that no start has counted up to.
pub(super) fn check_epoch(epoch: u64, path: &Path) -> Result<u64, StateError> {
    if epoch <= EPOCH_MAX {
        return Ok(epoch);
    }
    let what = format!("{epoch} is no epoch that this program took");
    Err(StateError::damaged(path.to_owned(), &what))
}

pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StateError {
    let path: PathBuf = path.to_owned();
    move |source| StateError::Io { action, path, source }
}

/// None of our files has more; what is longer is not read to its end.
const FILE_BYTES_MAX: u64 = 64;
/// More starts than any server will see; beyond it somebody else wrote the file.
const EPOCH_MAX: u64 = 1 << 48;
