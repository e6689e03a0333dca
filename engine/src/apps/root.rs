//! root is the folder whose files are served, and the only way to them.
//!
//! Files are read on the worker, in pieces. That is as quick as a copy while they are in the page
//! cache; a file that is not stalls the worker and all its connections for the time of the disk.
//! So serve what fits into memory, and no network file system.
//!
//! Invariant: no path leads out of the folder by `..`, and unless asked for by no symbolic link
//! (cap-std).

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{Dir as Folder, OpenOptions, OpenOptionsExt as _};

/// The folder that is served, opened once and shared by all workers.
#[derive(Clone, Debug)]
pub struct Root(Arc<Way>);

#[derive(Debug)]
enum Way {
    /// Links may lead anywhere inside.
    Confined(Folder),
    /// Links may lead anywhere.
    Following(PathBuf),
}

impl Root {
    /// Opens the folder. Relative symbolic links work as long as they stay inside.
    ///
    /// # Errors
    /// When it does not exist, is no folder, or may not be read.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        let folder = Folder::open_ambient_dir(path, ambient_authority())?;
        Ok(Self(Arc::new(Way::Confined(folder))))
    }

    /// Opens the folder, and follows symbolic links wherever they lead: whoever may write into
    /// the folder can show every file that the server may read.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_following(path: impl AsRef<Path>) -> io::Result<Self> {
        // Says what is wrong with it, and makes the path good for every working directory.
        let folder = path.as_ref().canonicalize()?;
        Folder::open_ambient_dir(&folder, ambient_authority())?;
        Ok(Self(Arc::new(Way::Following(folder))))
    }

    /// Opens a path that [`relative`] made.
    pub(super) fn file(&self, path: &[u8]) -> io::Result<(File, Metadata)> {
        let path = OsStr::from_bytes(path);
        let file = match &*self.0 {
            Way::Confined(folder) => {
                let mut options = OpenOptions::new();
                options.read(true).custom_flags(O_NONBLOCK);
                folder.open_with(path, &options)?.into_std()
            }
            Way::Following(folder) => {
                let mut options = File::options();
                options.read(true).custom_flags(O_NONBLOCK);
                options.open(folder.join(path))?
            }
        };
        let metadata = file.metadata()?;
        Ok((file, metadata))
    }
}

/// `path` without its empty parts and single dots; `None` if it goes upwards or has a NUL.
pub(super) fn relative(path: &[u8]) -> Option<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let parts: Vec<&[u8]> = parts.collect();
    if path.contains(&0) || parts.contains(&&b".."[..]) {
        return None;
    }
    Some(if parts.is_empty() { b".".to_vec() } else { parts.join(&b'/') })
}

/// The next piece of a file of which `left` bytes are still to be sent.
///
/// # Errors
/// Also when the file became shorter: to end there would pass for the whole.
pub(super) fn piece(file: &File, left: &mut u64) -> io::Result<Bytes> {
    let size = usize::try_from(*left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
    let mut piece = Vec::with_capacity(size);
    file.take(size as u64).read_to_end(&mut piece)?;
    if piece.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    *left -= piece.len() as u64;
    Ok(Bytes::from(piece))
}

/// What is read from a file at once, and thus what a stream that flow control blocks holds.
pub(super) const PIECE_BYTES: usize = 64 << 10;

/// So that opening a named pipe without a writer fails to be a file instead of blocking. The value
/// of x86-64, AArch64, RISC-V and every other Linux but Alpha, MIPS, PA-RISC and SPARC.
const O_NONBLOCK: i32 = 0o4000;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_stay_below_the_root() {
        assert_eq!(relative(b"a//./b/").as_deref(), Some(&b"a/b"[..]));
        assert_eq!(relative(b"").as_deref(), Some(&b"."[..]));
        assert_eq!(relative(b"/...").as_deref(), Some(&b"..."[..]));
        assert_eq!(relative(b"\xff").as_deref(), Some(&b"\xff"[..]));
        for path in [&b".."[..], b"a/..", b"../a", b"/a/../../b", b"a\0b"] {
            assert_eq!(relative(path), None, "{path:?}");
        }
    }

    #[test]
    fn links_lead_out_only_if_they_may() {
        let outer = tempfile::tempdir().unwrap();
        fs::write(outer.path().join("secret"), "secret").unwrap();
        let root = outer.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("a"), "a").unwrap();
        symlink("a", root.join("inside")).unwrap();
        symlink("../secret", root.join("outside")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let confined = Root::open(&root).unwrap();
        assert!(confined.file(b"inside").is_ok());
        assert!(confined.file(b"outside").is_err());
        let following = Root::open_following(&root).unwrap();
        assert!(following.file(b"inside").is_ok() && following.file(b"outside").is_ok());
        assert!(following.file(b"loop").is_err() && following.file(b"b").is_err());
        assert!(Root::open_following(root.join("a")).is_err(), "no folder");
    }

    #[test]
    fn a_file_is_read_in_pieces_and_must_not_shrink() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, vec![7; PIECE_BYTES + 1]).unwrap();
        let (file, metadata) = Root::open(folder.path()).unwrap().file(b"a").unwrap();
        let mut left = metadata.len();
        assert_eq!(piece(&file, &mut left).unwrap().len(), PIECE_BYTES);
        assert_eq!(left, 1);
        File::options().write(true).open(&path).unwrap().set_len(5).unwrap();
        assert!(piece(&file, &mut left).is_err());
    }
}
