//! masters keeps the master keys of a state directory: the current one and those from before
//! rotations, for as long as packets may carry their epochs.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use quiclane_wire::EpochState;

use super::files::{io, numbered, read_bytes, write_atomically};
use crate::error::StateError;
use crate::keys::Master;

/// Which master an epoch's keys come from.
pub(super) struct Masters {
    current: Master,
    /// By the last epoch that has it.
    former: BTreeMap<u64, Master>,
}

impl Masters {
    /// One that was never rotated.
    pub(super) fn only(current: Master) -> Self {
        Self { current, former: BTreeMap::new() }
    }

    /// `None` if there is no current one.
    pub(super) fn read(directory: &Path) -> Result<Option<Self>, StateError> {
        let Some(current) = read(&directory.join(CURRENT))? else { return Ok(None) };
        let mut former = BTreeMap::new();
        for (last, path) in numbered(directory, FORMER)? {
            // Gone in between only if somebody else removed it.
            former.extend(read(&path)?.map(|master| (last, master)));
        }
        Ok(Some(Self { current, former }))
    }

    /// The first one of a directory.
    pub(super) fn create(directory: &Path) -> Result<Self, StateError> {
        let current = Master::generate(None);
        write(directory, CURRENT, &current)?;
        Ok(Self::only(current))
    }

    /// Replaces the current one; epochs up to `last` keep it.
    pub(super) fn rotate(&self, directory: &Path, last: u64) -> Result<(), StateError> {
        // Without an epoch since the last rotation nobody has seen the current one.
        if last > self.last_former() {
            write(directory, &format!("{FORMER}{last}"), &self.current)?;
        }
        write(directory, CURRENT, &Master::generate(None))
    }

    /// The one that the keys of `epoch` come from.
    pub(super) fn of(&self, epoch: u64) -> &Master {
        self.former.range(epoch..).next().map_or(&self.current, |(_, master)| master)
    }

    /// The last epoch of a former one; 0 if there is none.
    pub(super) fn last_former(&self) -> u64 {
        self.former.last_key_value().map_or(0, |(last, _)| *last)
    }

    /// Removes those that no epoch in `epochs` needs any more.
    pub(super) fn forget_unused(
        &self,
        directory: &Path,
        epochs: &[(u64, EpochState)],
    ) -> Result<(), StateError> {
        let mut first = 0;
        for last in self.former.keys() {
            let is_used = epochs.iter().any(|(epoch, _)| (first..=*last).contains(epoch));
            if !is_used {
                let path = directory.join(format!("{FORMER}{last}"));
                fs::remove_file(&path).map_err(io("removing", &path))?;
            }
            first = last + 1;
        }
        Ok(())
    }
}

/// There are epochs, but no master: peers hold connection IDs that nobody can verify.
pub(super) fn missing(directory: &Path) -> StateError {
    StateError::damaged(directory.join(CURRENT), "missing, but there are epochs")
}

fn read(path: &Path) -> Result<Option<Master>, StateError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io("opening", path)(error)),
    };
    let mode = file.metadata().map_err(io("reading", path))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StateError::Exposed { path: path.to_owned(), mode });
    }
    let bytes = read_bytes(&file).map_err(io("reading", path))?;
    let length = bytes.len();
    let what = format!("{length} bytes instead of 32");
    let key = bytes.try_into().map_err(|_| StateError::damaged(path.to_owned(), &what))?;
    Ok(Some(Master(key)))
}

fn write(directory: &Path, name: &str, master: &Master) -> Result<(), StateError> {
    write_atomically(directory, name, &master.0, 0o600)
}

const CURRENT: &str = "master";
const FORMER: &str = "master.";
