//! host says where and by which command a run was made.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};
use std::{env, fs, thread};

use quiclane_loadgen::{About, Report};

/// What a page says of a run beyond its report.
pub(super) fn about(report: &Report, target: &str) -> About {
    let words: Vec<String> =
        env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let started = SystemTime::UNIX_EPOCH + Duration::from_millis(report.started_unix_ms);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let mut about = About::default();
    about.target = target.into();
    about.command = words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    about.host = vec![
        ("started", humantime::format_rfc3339_seconds(started).to_string()),
        ("program", concat!("quiclane ", env!("CARGO_PKG_VERSION")).into()),
        ("name", read("/proc/sys/kernel/hostname")),
        ("kernel", format!("Linux {}", read("/proc/sys/kernel/osrelease"))),
        ("processor", processor(&read("/proc/cpuinfo"))),
        ("cores for this process", cores.to_string()),
        ("io", report.io.clone()),
    ];
    about
}

/// The model, as the kernel names it; on some architectures it does not.
fn processor(cpuinfo: &str) -> String {
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    model.map_or_else(|| env::consts::ARCH.into(), |(_, name)| name.trim().into())
}

/// A word as a shell takes it.
fn quoted(word: &str) -> Cow<'_, str> {
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
