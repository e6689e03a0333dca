//! files reads /proc and /sys, below a root, so that recorded trees can stand in for them.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fs, io};

/// Something this process could not find out. It is reported, never guessed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Unread {
    /// What is not known.
    pub(crate) fact: String,
    /// Why not.
    pub(crate) why: String,
}

/// A file system, or the record of one.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    unread: RefCell<Vec<Unread>>,
}

impl Files {
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), unread: RefCell::default() }
    }

    /// The content of `path`, trimmed. `None` when there is no such file: the kernel has no such
    /// thing. Any other error is remembered as [`Unread`].
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        match fs::read(self.full(path)) {
            Ok(bytes) => Some(String::from_utf8_lossy(&bytes).trim().to_owned()),
            Err(error) => self.note(path, &error),
        }
    }

    /// Whether there is anything at `path`.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.full(path).exists()
    }

    /// The content of `path`, parsed.
    pub(crate) fn value<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// The names in the folder `path`, in order.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let entries = match fs::read_dir(self.full(path)) {
            Ok(entries) => entries,
            Err(error) => return self.note(path, &error).unwrap_or_default(),
        };
        let mut names: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into()).collect();
        names.sort();
        names
    }

    /// The last part of what the symbolic link `path` points to.
    pub(crate) fn target(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.full(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into())
    }

    /// Gives away what could not be read so far.
    pub(crate) fn take_unread(&self) -> Vec<Unread> {
        self.unread.take()
    }

    /// Where `path` is.
    pub(crate) fn full(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn note<T>(&self, path: &str, error: &io::Error) -> Option<T> {
        // EINVAL is what sysfs answers for values that do not apply, such as a link's speed.
        let absent = [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::InvalidInput];
        if !absent.contains(&error.kind()) {
            let fact = Path::new(path).display().to_string();
            self.unread.borrow_mut().push(Unread { fact, why: error.to_string() });
        }
        None
    }
}

/// Numbers as the kernel lists CPUs and nodes: `0-3,8`.
pub(crate) fn number_list(text: &str) -> Vec<usize> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<usize>(), last.parse::<usize>()) {
            numbers.extend(first..=last.min(first.saturating_add(NUMBERS_MAX)));
        }
    }
    numbers
}

/// The inverse of [`number_list`], for ascending numbers.
pub(crate) fn write_list(numbers: &[usize]) -> String {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for number in numbers.iter().copied() {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let part = |(first, last): &(usize, usize)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    };
    runs.iter().map(part).collect::<Vec<_>>().join(",")
}

/// No kernel knows as many CPUs.
const NUMBERS_MAX: usize = 65_536;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        assert_eq!(number_list("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert!(number_list("").is_empty());
        assert_eq!(number_list("x,2,5-"), [2]);
        assert!(number_list("4-2").is_empty());
        assert_eq!(write_list(&[0, 1, 2, 3, 8]), "0-3,8");
        assert_eq!(write_list(&[]), "");
    }

    #[test]
    fn what_is_absent_is_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), "7\n").unwrap();
        let files = Files::at(folder.path());
        assert_eq!(files.value::<u32>("/a"), Some(7));
        assert!(files.exists("/a") && !files.exists("/b"));
        assert_eq!(files.text("/b"), None);
        assert_eq!(files.text("/a/b"), None);
        assert!(files.names("/c").is_empty());
        assert!(files.take_unread().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::at(folder.path());
        fs::create_dir(folder.path().join("d")).unwrap();
        assert_eq!(files.text("/d"), None);
        let unread = files.take_unread();
        assert_eq!(unread.len(), 1);
        assert_eq!(unread[0].fact, "/d");
        assert!(files.take_unread().is_empty());
    }
}
