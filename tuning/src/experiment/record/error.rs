//! error says why a file of records cannot be read or written, and what to do.

use std::io;
use std::path::{Path, PathBuf};

use super::FILE_BYTES_MAX;

/// Why a file is no record. Each message names the file and the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file system.
    #[error("{path}: {source}: {}", remedy(source))]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The folder of a new file.
    #[error("{path}: {source}: {folder} is no folder within reach: make it, or name another one")]
    Folder {
        /// The file.
        path: PathBuf,
        /// Where it was to be.
        folder: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A pipe, a device or a folder: reading it might never end.
    #[error("{0}: is no regular file: give one that `tune experiment` or `bench matrix` wrote")]
    Irregular(PathBuf),
    /// Too much of it.
    #[error("{0}: more than {max} MiB, which no experiment writes", max = FILE_BYTES_MAX >> 20)]
    Large(PathBuf),
    /// A line that says something else.
    #[error(
        "{path}, line {line}: {why}: give a file that `tune experiment` or `bench matrix` wrote"
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// Others can have written what would be done.
    #[error(
        "{0}: others may write it, and it says which commands are run: chown and chmod go-w it"
    )]
    Foreign(PathBuf),
    /// Another process is at it.
    #[error("{0}: another quiclane is writing it: wait for it, or give another file")]
    Busy(PathBuf),
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::AlreadyExists => {
            "give another -o FILE, or go on with it by --resume: measurements are not overwritten"
        }
        io::ErrorKind::NotFound => "give a file that `tune experiment` or `bench matrix` wrote",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "give a file in a folder of yours"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free space there",
        _ => "give another file",
    }
}

pub(super) fn at(path: &Path, source: io::Error) -> RecordError {
    RecordError::File { path: path.into(), source }
}
