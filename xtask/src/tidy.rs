//! tidy checks the house rules that no compiler and no clippy checks.
//!
//! In: the tree. Out: findings, each with `file:line` and the remedy. Every rule is one function
//! over the same [`Tree`], with a test that shows it can fail.

use std::path::Path;
use std::{fmt, fs, io};

mod crates;
mod doors;
mod rooms;
mod shape;
mod source;
mod words;

use crates::Manifest;
use source::{Source, is_apart};

/// What is wrong, where, and what to do about it.
#[derive(Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Everything the rules look at.
#[derive(Debug, Default)]
struct Tree {
    sources: Vec<Source>,
    manifests: Vec<Manifest>,
    /// Every text file, Rust included: path and content.
    texts: Vec<(String, String)>,
}

type Rule = fn(&Tree, &mut Vec<Finding>);

const RULES: &[Rule] = &[
    shape::file_lengths,
    shape::line_lengths,
    shape::first_sentence,
    words::clock,
    words::unsafe_code,
    words::host_writes,
    words::open_ends,
    words::bare_allow,
    words::machine_paths,
    words::language,
    crates::edges,
    doors::every_dependency_has_one,
    doors::only_through_doors,
    rooms::edges,
];

/// Runs every rule over the tree at `root`.
pub(crate) fn check(root: &Path) -> io::Result<Vec<Finding>> {
    let mut tree = Tree::default();
    tree.walk(root, "")?;
    Ok(tree.findings(RULES))
}

impl Tree {
    fn walk(&mut self, folder: &Path, prefix: &str) -> io::Result<()> {
        let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() && !FOLDERS_SKIPPED.contains(&name) {
                self.walk(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file() && is_text(&path) {
                let bytes = fs::read(entry.path())?;
                self.add(path, String::from_utf8_lossy(&bytes).into_owned());
            }
        }
        Ok(())
    }

    fn add(&mut self, path: String, text: String) {
        if path.ends_with(".rs") {
            self.sources.push(Source::new(&path, &text));
        }
        if path.ends_with("/Cargo.toml") && !is_apart(&path) {
            self.manifests.push(Manifest::new(&path, &text));
        }
        self.texts.push((path, text));
    }

    fn findings(&self, rules: &[Rule]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for rule in rules {
            rule(self, &mut findings);
        }
        findings.sort();
        findings
    }
}

/// Notes a finding; lines count from 1.
fn report(findings: &mut Vec<Finding>, path: &str, line: usize, message: impl Into<String>) {
    findings.push(Finding { path: path.to_owned(), line, message: message.into() });
}

fn is_text(path: &str) -> bool {
    const ENDINGS: [&str; 8] = [".rs", ".toml", ".md", ".sh", ".yml", ".yaml", ".py", ".service"];
    path.starts_with(".ci/") || ENDINGS.iter().any(|ending| path.ends_with(ending))
}

/// Build output and what belongs to git.
const FOLDERS_SKIPPED: [&str; 2] = ["target", ".git"];

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `rule` over files given as (path, text) and returns `path:line` of each finding.
    pub(super) fn places(rule: Rule, files: &[(&str, &str)]) -> Vec<String> {
        let mut tree = Tree::default();
        for (path, text) in files {
            tree.add((*path).to_owned(), (*text).to_owned());
        }
        let findings = tree.findings(&[rule]);
        findings.iter().map(|finding| format!("{}:{}", finding.path, finding.line)).collect()
    }

    #[test]
    fn a_finding_reads_like_a_compiler_message() {
        let mut findings = Vec::new();
        report(&mut findings, "wire/src/cid.rs", 7, "too long; split it");
        assert_eq!(findings[0].to_string(), "wire/src/cid.rs:7: too long; split it");
    }

    #[test]
    fn only_text_is_read() {
        assert!(is_text("engine/src/lib.rs"));
        assert!(is_text(".ci/run"));
        assert!(!is_text("ebpf/steer.o"));
    }

    #[test]
    fn workspaces_of_their_own_keep_their_manifests_to_themselves() {
        let mut tree = Tree::default();
        for path in ["wire/Cargo.toml", "bench/peers/Cargo.toml", "bench/peers/a/Cargo.toml"] {
            tree.add(path.to_owned(), String::new());
        }
        assert_eq!(tree.manifests.len(), 1);
    }
}
