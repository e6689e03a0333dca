//! host says on what, and by which command, something was measured.

use std::borrow::Cow;
use std::{env, fs, thread};

/// The command, as a shell takes it.
pub(crate) fn command() -> String {
    let words: Vec<String> =
        env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// What is known of the host and the program: name and value.
pub(crate) fn facts() -> Vec<(&'static str, String)> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    vec![
        ("program", concat!("quiclane ", env!("CARGO_PKG_VERSION")).into()),
        ("name", read("/proc/sys/kernel/hostname")),
        ("kernel", format!("Linux {}", read("/proc/sys/kernel/osrelease"))),
        ("processor", processor(&read("/proc/cpuinfo"))),
        ("cores for this process", cores.to_string()),
    ]
}

/// The content of a file, trimmed; empty if there is none.
pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// The model, as the kernel names it; on some architectures it does not.
fn processor(cpuinfo: &str) -> String {
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| env::consts::ARCH.into(), |(_, name)| name.trim().into())
}

/// A word as a shell takes it.
pub(crate) fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,[]".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => Cow::Borrowed(word),
        false => Cow::Owned(format!("'{}'", word.replace('\'', "'\\''"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_would_take_the_words_as_they_were() {
        assert_eq!(quoted("--rate"), "--rate");
        assert_eq!(quoted(""), "''");
        assert_eq!(quoted("p99<250ms"), "'p99<250ms'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }

    #[test]
    fn a_processor_without_a_name_has_that_of_its_kind() {
        assert_eq!(processor("processor\t: 0\nmodel name\t: Fast 9000\n"), "Fast 9000");
        assert_eq!(processor("processor\t: 0\n"), env::consts::ARCH);
    }
}
