//! doors lets each third-party crate in through few files, so that it can be replaced there.
//!
//! Only shipped code counts: tests may use what they like.

use super::crates::is_ours;
use super::source::{Source, is_identifier};
use super::{Finding, Tree, report};

/// Which files may name which crate. A path that ends in `/` is a folder.
const DOORS: &[(&str, &[&str])] = &[
    ("aya", &["ebpf/src/"]),
    ("aya_ebpf", &["ebpf/program/"]),
    ("base64", &["loadgen/src/packed.rs"]),
    ("cap_std", &["engine/src/apps/root.rs"]),
    ("caps", &["engine/src/privileges.rs"]),
    ("clap", &["cli/src/"]),
    ("core_affinity", &["engine/src/placement.rs"]),
    ("crossbeam", &["engine/src/toss.rs"]),
    ("flate2", &["loadgen/src/packed.rs"]),
    (
        "hdrhistogram",
        &[
            "loadgen/src/export.rs",
            "loadgen/src/page.rs",
            "loadgen/src/packed.rs",
            "loadgen/src/report.rs",
            "loadgen/src/series.rs",
            "loadgen/src/spectrum.rs",
            "loadgen/src/tally.rs",
        ],
    ),
    ("humantime", &["cli/src/"]),
    ("if_addrs", &["engine/src/steer/interfaces.rs"]),
    ("indicatif", &["cli/src/"]),
    ("io_uring", &["datapath/src/"]),
    ("libc", &["datapath/src/"]),
    ("mimalloc", &["cli/src/main.rs"]),
    ("netlink_packet_core", &["tuning/src/device.rs", "tuning/src/facts/"]),
    ("netlink_packet_route", &["tuning/src/facts/link.rs"]),
    ("netlink_sys", &["tuning/src/facts/netlink.rs"]),
    (
        "quinn_proto",
        &[
            "engine/src/app.rs",
            "engine/src/cid.rs",
            "engine/src/congestion.rs",
            "engine/src/congestion/",
            "engine/src/endpoint.rs",
            "engine/src/endpoint/",
            "engine/src/engine.rs",
            "engine/src/identity.rs",
            "engine/src/reset.rs",
            "engine/src/tls.rs",
            "engine/src/transport.rs",
            // Handshakes that nobody means to complete, without an engine behind them.
            "loadgen/src/defence/initials.rs",
        ],
    ),
    ("ratatui", &["cli/src/progress/view.rs"]),
    ("rcgen", &["cli/src/"]),
    ("ring", &["cli/src/certificate.rs", "engine/src/keys.rs"]),
    (
        "rustix",
        &[
            "cli/src/rlimits.rs",
            // Signals for a child.
            "cli/src/tune/attended.rs",
            "cli/src/tune/cell.rs",
            "cli/src/tune/experiment/course.rs",
            "cli/src/tune/experiment/process.rs",
            "cli/src/tune/guard.rs",
            "engine/src/privileges.rs",
        ],
    ),
    ("rustls", &["cli/src/", "engine/src/error.rs", "engine/src/tls.rs"]),
    ("rustls_native_certs", &["cli/src/"]),
    ("signal_hook", &["cli/src/"]),
    ("socket2", &["datapath/src/", "ebpf/src/netlink.rs"]),
];

/// Crates that are vocabulary, not machinery: allowed wherever a manifest lists them.
const ANYWHERE: &[&str] = &["bytes", "serde", "serde_json", "thiserror"];

pub(super) fn every_dependency_has_one(tree: &Tree, findings: &mut Vec<Finding>) {
    for manifest in &tree.manifests {
        for dependency in manifest.dependencies.iter().filter(|dependency| !dependency.dev) {
            let name = dependency.name.replace('-', "_");
            let known = ANYWHERE.contains(&name.as_str()) || DOORS.iter().any(|(c, _)| *c == name);
            if !known && !is_ours(&dependency.name) {
                let message = format!("{name} has no door: add one to DOORS in tidy/doors.rs");
                report(findings, &manifest.path, dependency.line, message);
            }
        }
    }
}

pub(super) fn only_through_doors(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in &tree.sources {
        for (name, doors) in DOORS {
            let through_door = doors.iter().any(|door| {
                source.path == *door || (door.ends_with('/') && source.path.starts_with(door))
            });
            if through_door {
                continue;
            }
            for line in uses(source, name) {
                let message = format!("{name} enters only through {}", doors.join(", "));
                report(findings, &source.path, line, message);
            }
        }
    }
}

/// Lines whose code has a path that starts with `name`.
fn uses(source: &Source, name: &str) -> impl Iterator<Item = usize> {
    source.shipped_code().filter(move |(_, code)| names_crate(code, name)).map(|(line, _)| line)
}

/// `name::` that continues no longer path or word, or `use name`.
fn names_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let continues = before.ends_with(is_identifier) || before.trim_end().ends_with("::");
        !continues && (after.starts_with("::") || (before == "use " && after.starts_with(';')))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::places;

    #[test]
    fn crates_enter_through_their_doors() {
        let text = "use ring::hmac;\nlet a = rustls::crypto::ring::b();\nlet c = ring::hmac::d;\n";
        let files = [("engine/src/keys.rs", "use ring::hmac;\n"), ("engine/src/tls.rs", text)];
        let found = places(only_through_doors, &files);
        assert_eq!(found, ["engine/src/tls.rs:1", "engine/src/tls.rs:3"]);
    }

    #[test]
    fn a_folder_can_be_a_door() {
        let text = "use libc::c_int;\n";
        let files = [("datapath/src/a/b.rs", text), ("engine/src/a.rs", text)];
        assert_eq!(places(only_through_doors, &files), ["engine/src/a.rs:1"]);
    }

    #[test]
    fn tests_use_what_they_like() {
        let text = "#[cfg(test)]\nmod tests {\nuse rcgen::generate;\n}\n";
        let files = [("engine/src/a.rs", text), ("engine/tests/b.rs", "use rcgen::generate;\n")];
        assert!(places(only_through_doors, &files).is_empty());
    }

    #[test]
    fn a_new_dependency_needs_a_door() {
        let text = "[package]\nname = \"a\"\n[dependencies]\nbytes = \"1\"\nleft-pad = \"1\"\n\
            [dev-dependencies]\nquinn = \"1\"\n";
        let files = [("engine/Cargo.toml", text)];
        assert_eq!(places(every_dependency_has_one, &files), ["engine/Cargo.toml:5"]);
    }
}
