//! words keeps out what must not be written: clocks, unsafe, open ends, machine paths.

use super::source::{Source, find_word};
use super::{Finding, Tree, report};

/// Time comes in as an argument everywhere else. xtask times its floors and knows no engine.
const CLOCKS: [&str; 2] = ["engine/src/clock.rs", "xtask/src/test.rs"];

/// The rooms that talk to the kernel, and tests whose allocator counts; everything else forbids
/// unsafe code.
const UNSAFE_ROOMS: [&str; 5] = [
    "datapath/",
    "ebpf/",
    "engine/tests/http3/meter.rs",
    "engine/tests/no_alloc/",
    "http3/tests/no_alloc/",
];

/// What changes a host or its files, and the files of `tuning` that may: `system` writes to the
/// host, `journal` remembers, `experiment` keeps what it measured, and everything else only looks.
const HOST_WRITERS: &[(&str, &[&str])] = &[
    (
        "OpenOptions",
        &["tuning/src/experiment/record.rs", "tuning/src/journal.rs", "tuning/src/system.rs"],
    ),
    ("remove_file", &["tuning/src/journal.rs"]),
    ("rename(", &["tuning/src/journal.rs"]),
    ("set_feature(", &["tuning/src/device.rs", "tuning/src/system.rs"]),
    ("set_number(", &["tuning/src/device.rs", "tuning/src/system.rs"]),
    ("fs::write", &[]),
    ("File::create", &[]),
    ("create_dir", &[]),
    ("Command::new", &[]),
];

/// Modules of `tuning` that are compiled for tests alone.
const TUNING_TESTS: &[&str] = &[
    "tuning/src/experiment/synthetic.rs",
    "tuning/src/experiment/trials.rs",
    "tuning/src/killed.rs",
    "tuning/src/machine.rs",
    "tuning/src/recorded.rs",
];

/// The letters beyond ASCII that English technical prose needs.
const FOREIGN_LETTERS: [char; 2] = ['\u{b5}', '\u{3bc}'];

pub(super) fn clock(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in tree.sources.iter().filter(|source| !CLOCKS.contains(&source.path.as_str())) {
        for (line, code) in source.shipped_code() {
            if code.contains("Instant::now") || code.contains("SystemTime::now") {
                let remedy = "time comes in as an argument; its only door is engine/src/clock.rs";
                report(findings, &source.path, line, remedy);
            }
        }
    }
}

pub(super) fn unsafe_code(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in &tree.sources {
        if UNSAFE_ROOMS.iter().any(|room| source.path.starts_with(room)) {
            continue;
        }
        for (line, code) in source.all_code() {
            if find_word(code, "unsafe").is_some() {
                let remedy =
                    "unsafe code lives in datapath and ebpf only: give it a safe face there";
                report(findings, &source.path, line, remedy);
            }
        }
    }
}

pub(super) fn host_writes(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in tree.sources.iter().filter(|source| source.path.starts_with("tuning/src/")) {
        for (name, writers) in HOST_WRITERS {
            if writers.contains(&source.path.as_str()) || TUNING_TESTS.contains(&&*source.path) {
                continue;
            }
            for (line, _) in source.shipped_code().filter(|(_, code)| code.contains(name)) {
                let remedy = "only tuning/src/system.rs writes to the host, after the journal";
                report(findings, &source.path, line, remedy);
            }
        }
    }
}

pub(super) fn open_ends(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in &tree.sources {
        let in_code = source
            .all_code()
            .filter(|(_, code)| ["todo!", "unimplemented!"].iter().any(|name| code.contains(name)));
        let in_comments = comments(source).filter(|(_, text)| {
            ["FIXME", "XXX"].iter().any(|word| find_word(text, word).is_some())
        });
        for (line, _) in in_code.chain(in_comments) {
            report(findings, &source.path, line, "open end: finish it, or open an issue");
        }
    }
}

pub(super) fn bare_allow(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in &tree.sources {
        for (line, code) in source.all_code() {
            if code.contains("#[allow(") || code.contains("#![allow(") {
                let remedy = "use #[expect(lint, reason = \"...\")]: it complains once it is stale";
                report(findings, &source.path, line, remedy);
            }
        }
    }
}

pub(super) fn machine_paths(tree: &Tree, findings: &mut Vec<Finding>) {
    const FOLDERS: [&str; 4] = ["home/", "root/", "Users/", "work/"];
    let starts_path = |before: Option<char>| before.is_none_or(|c| " \t\"'`(=<[,:".contains(c));
    for (path, text) in &tree.texts {
        for (at, line) in text.lines().enumerate() {
            let found = line.match_indices('/').any(|(slash, _)| {
                FOLDERS.iter().any(|folder| line[slash + 1..].starts_with(folder))
                    && starts_path(line[..slash].chars().next_back())
            });
            if found {
                let remedy = "a path of one machine: make it relative, or a setting";
                report(findings, path, at + 1, remedy);
            }
        }
    }
}

pub(super) fn language(tree: &Tree, findings: &mut Vec<Finding>) {
    for (path, text) in &tree.texts {
        for (at, line) in text.lines().enumerate() {
            let foreign =
                |c: &char| !c.is_ascii() && c.is_alphabetic() && !FOREIGN_LETTERS.contains(c);
            if let Some(letter) = line.chars().find(foreign) {
                let message = format!("letter {letter:?}: write English; in a test use \\u{{..}}");
                report(findings, path, at + 1, message);
            }
        }
    }
}

fn comments(source: &Source) -> impl Iterator<Item = (usize, &str)> {
    source.comments.iter().enumerate().map(|(at, text)| (at + 1, text.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::places;

    #[test]
    fn clocks_are_found_outside_their_room_and_tests() {
        let text = "//! b\nlet a = Instant::now(); // Instant::now\nlet c = SystemTime::now();\n";
        let files =
            [("engine/src/clock.rs", text), ("engine/tests/b.rs", text), ("a/src/b.rs", text)];
        assert_eq!(places(clock, &files), ["a/src/b.rs:2", "a/src/b.rs:3"]);
    }

    #[test]
    fn unsafe_is_found_outside_the_datapath() {
        let text = "#![forbid(unsafe_code)]\nunsafe { f() }\n";
        let files = [("datapath/src/b.rs", text), ("a/src/b.rs", text)];
        assert_eq!(places(unsafe_code, &files), ["a/src/b.rs:2"]);
    }

    #[test]
    fn rooms_that_only_look_do_not_write() {
        let text =
            "fs::write(a, b);\nOpenOptions::new();\n#[cfg(test)]\nmod tests {\nfs::write(c)\n}\n";
        let files = [
            ("tuning/src/facts.rs", text),
            ("tuning/src/system.rs", text),
            ("tuning/src/killed.rs", text),
            ("cli/src/a.rs", text),
        ];
        let expected = ["tuning/src/facts.rs:1", "tuning/src/facts.rs:2", "tuning/src/system.rs:1"];
        assert_eq!(places(host_writes, &files), expected);
    }

    #[test]
    fn open_ends_are_found() {
        let text = "todo!();\nunimplemented!();\n// FIXME: later\n// XXX\n// \"todo\" XXXL\n";
        let found = places(open_ends, &[("a/src/b.rs", text)]);
        assert_eq!(found, ["a/src/b.rs:1", "a/src/b.rs:2", "a/src/b.rs:3", "a/src/b.rs:4"]);
    }

    #[test]
    fn bare_allow_is_found() {
        let text = "#[allow(dead_code)]\n#![allow(x)]\n#[expect(y, reason = \"#[allow(\")]\n";
        assert_eq!(places(bare_allow, &[("a/src/b.rs", text)]), ["a/src/b.rs:1", "a/src/b.rs:2"]);
    }

    #[test]
    fn machine_paths_are_found() {
        let home = format!("see /{}me/", "ho");
        let text = format!("{home}\nhttps://example.org/{}me/\n`/etc/hosts`\n", "ho");
        assert_eq!(places(machine_paths, &[("README.md", &text)]), ["README.md:1"]);
    }

    #[test]
    fn other_languages_are_found_but_pictures_are_not() {
        let text = "a \u{2500}\u{25ba} b, 3 \u{b5}s\nGr\u{fc}n\n";
        assert_eq!(places(language, &[("README.md", text)]), ["README.md:2"]);
    }
}
