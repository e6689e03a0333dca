//! shape keeps files short enough to be read whole, and says at their top what they are for.

use super::{Finding, Tree, report};

/// Aim at 300; beyond 500 a reader loses the thread. Tests do not count.
const FILE_LINES_MAX: usize = 500;

/// Two files side by side on one screen.
const LINE_COLUMNS_MAX: usize = 100;

pub(super) fn file_lengths(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in tree.sources.iter().filter(|source| !source.is_test()) {
        if source.shipped > FILE_LINES_MAX {
            let message = format!(
                "{} lines without tests, at most {FILE_LINES_MAX}: split off a room of its own",
                source.shipped
            );
            report(findings, &source.path, FILE_LINES_MAX + 1, message);
        }
    }
}

pub(super) fn line_lengths(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in &tree.sources {
        for (at, line) in source.lines.iter().enumerate() {
            let columns = line.chars().count();
            if columns > LINE_COLUMNS_MAX && !is_link(line) {
                let message = format!("{columns} columns, at most {LINE_COLUMNS_MAX}: wrap it");
                report(findings, &source.path, at + 1, message);
            }
        }
    }
}

pub(super) fn first_sentence(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in &tree.sources {
        let first = source.lines.iter().find(|line| !line.starts_with("#!"));
        if !first.is_some_and(|line| line.starts_with("//! ")) {
            let remedy = "start the file with //! and one sentence that says what it is for";
            report(findings, &source.path, 1, remedy);
        }
    }
}

/// A comment that is one link cannot be wrapped.
fn is_link(line: &str) -> bool {
    let words = line.trim_start().trim_start_matches('/').trim_start_matches(['!', '=']);
    words.contains("://") && words.split_whitespace().count() <= 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::places;

    #[test]
    fn long_files_are_found_and_tests_do_not_count() {
        let long = "fn f() {}\n".repeat(501);
        let tested = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "\n".repeat(600));
        let files =
            [("a/src/b.rs", long.as_str()), ("a/src/c.rs", &tested), ("a/tests/d.rs", &long)];
        assert_eq!(places(file_lengths, &files), ["a/src/b.rs:501"]);
    }

    #[test]
    fn long_lines_are_found_but_not_links() {
        let text = format!(
            "// {}\n// {}\n// https://{}\n",
            "a ".repeat(49),
            "\u{2500} ".repeat(48),
            "b".repeat(120)
        );
        assert_eq!(places(line_lengths, &[("a/src/b.rs", &text)]), ["a/src/b.rs:1"]);
    }

    #[test]
    fn a_file_says_what_it_is_for() {
        let files = [("a/src/b.rs", "use c;\n"), ("a/src/d.rs", "//! d does.\n"), ("e.rs", "")];
        assert_eq!(places(first_sentence, &files), ["a/src/b.rs:1", "e.rs:1"]);
    }
}
