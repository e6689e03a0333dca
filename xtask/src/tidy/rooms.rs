//! rooms keeps the walls between the engine's modules: who may know whom.

use std::collections::BTreeMap;

use super::source::{Source, is_identifier};
use super::{Finding, Tree, report};

const ENGINE: &str = "engine/src/";

/// Every room of the engine and the rooms it may use. `lib` lists them all and is not checked.
const ROOMS: &[(&str, &[&str])] = &[
    ("app", &["endpoint", "error", "tls"]),
    ("apps", &["app", "clock", "reuse"]),
    ("cid", &[]),
    ("clock", &[]),
    ("config", &["tls"]),
    ("congestion", &["config"]),
    (
        "endpoint",
        &[
            "app",
            "config",
            "congestion",
            "error",
            "ip",
            "limits",
            "metrics",
            "reset",
            "timers",
            "tls",
        ],
    ),
    (
        "engine",
        &[
            "app",
            "clock",
            "config",
            "endpoint",
            "error",
            "identity",
            "ip",
            "keeper",
            "listen",
            "metrics",
            "notices",
            "placement",
            "plan",
            "privileges",
            "route",
            "steer",
            "toss",
            "transport",
            "worker",
        ],
    ),
    ("epochs", &[]),
    ("error", &[]),
    (
        "identity",
        &[
            "cid",
            "config",
            "endpoint",
            "epochs",
            "error",
            "ip",
            "keys",
            "reset",
            "route",
            "state",
            "steer",
            "transport",
        ],
    ),
    ("ip", &[]),
    ("keeper", &["identity", "notices", "steer"]),
    ("keys", &[]),
    ("limits", &[]),
    ("listen", &["config", "error"]),
    ("metrics", &["steer"]),
    ("notices", &[]),
    ("placement", &["error"]),
    ("plan", &["config", "error", "placement"]),
    ("pool", &["reuse"]),
    ("privileges", &["error"]),
    ("reset", &["config", "epochs"]),
    ("reuse", &[]),
    ("route", &["epochs"]),
    // The simulation is a second engine: it puts the same rooms together.
    (
        "sim",
        &[
            "app",
            "clock",
            "config",
            "endpoint",
            "engine",
            "error",
            "identity",
            "metrics",
            "toss",
            "transport",
            "worker",
        ],
    ),
    ("state", &["clock", "error", "keys"]),
    ("steer", &["config", "error", "notices"]),
    ("timers", &[]),
    ("tls", &["error"]),
    ("toss", &[]),
    ("transport", &["config", "congestion", "error", "ip"]),
    ("worker", &["app", "clock", "endpoint", "metrics", "pool", "route", "toss"]),
];

pub(super) fn edges(tree: &Tree, findings: &mut Vec<Finding>) {
    let exports = exports(tree);
    for source in &tree.sources {
        let Some(room) = room(&source.path) else { continue };
        let Some((_, allowed)) = ROOMS.iter().find(|(name, _)| *name == room) else {
            let message = format!("room {room}: add it to ROOMS in tidy/rooms.rs");
            report(findings, &source.path, 1, message);
            continue;
        };
        for (line, name) in references(source) {
            let target = exports.get(name.as_str()).map_or(name.as_str(), String::as_str);
            let known = ROOMS.iter().any(|(name, _)| *name == target);
            if known && target != room && !allowed.contains(&target) {
                let message =
                    format!("{room} may not know {target}: pass what it needs as a value");
                report(findings, &source.path, line, message);
            }
        }
    }
}

/// The room a file of the engine belongs to: `endpoint.rs` and `endpoint/*.rs` are one.
fn room(path: &str) -> Option<&str> {
    let inside = path.strip_prefix(ENGINE)?;
    let room = inside.split('/').next()?.trim_end_matches(".rs");
    (room != "lib").then_some(room)
}

/// What `lib.rs` re-exports at the root: name to room.
fn exports(tree: &Tree) -> BTreeMap<String, String> {
    let mut exports = BTreeMap::new();
    let Some(root) = tree.sources.iter().find(|source| source.path == "engine/src/lib.rs") else {
        return exports;
    };
    let code: String = root.shipped_code().flat_map(|(_, line)| [line, "\n"]).collect();
    for statement in code.split(';') {
        let Some((head, path)) = statement.split_once("use ") else { continue };
        let mut names = path.split(|c| !is_identifier(c)).filter(|name| !name.is_empty());
        if let Some(room) = names.next().filter(|_| head.trim_start().starts_with("pub")) {
            exports.extend(names.map(|name| (name.to_owned(), room.to_owned())));
        }
    }
    exports
}

/// Every name that the shipped code takes from the crate's root, with its line.
fn references(source: &Source) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let code: String = source.shipped_code().flat_map(|(_, line)| [line, "\n"]).collect();
    // In a file next to lib.rs, `super` is the root too.
    let at_top = !source.path[ENGINE.len()..].contains('/');
    for root in ["crate::", "super::"].iter().take(if at_top { 2 } else { 1 }) {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| is_identifier(c) || "$:".contains(c)) {
                continue;
            }
            for (offset, name) in names(&code[at + root.len()..]) {
                let line = 1 + code[..at + root.len() + offset].matches('\n').count();
                found.push((line, name));
            }
        }
    }
    found
}

/// The first names of a use tree: `a::b` has `a`, `{a::{b, c}, d}` has `a` and `d`.
fn names(tree: &str) -> Vec<(usize, String)> {
    let mut names = Vec::new();
    let (mut depth, mut fresh, mut at) = (0_usize, true, 0);
    while let Some(c) = tree[at..].chars().next() {
        let mut width = c.len_utf8();
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' => fresh = depth == 1,
            _ if fresh && is_identifier(c) => {
                let rest = &tree[at..];
                width = rest.find(|c| !is_identifier(c)).unwrap_or(rest.len());
                names.push((at, rest[..width].to_owned()));
                fresh = false;
            }
            _ => {}
        }
        at += width;
        if depth == 0 && !(fresh && c.is_whitespace()) {
            break;
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::places;

    fn first(tree: &str) -> Vec<String> {
        names(tree).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn use_trees_are_read() {
        assert_eq!(first("a::b;"), ["a"]);
        assert_eq!(first("{a::{b, c}, d};\nuse e;"), ["a", "d"]);
        assert_eq!(first("{\n    a,\n    b::c,\n};"), ["a", "b"]);
    }

    #[test]
    fn walls_hold() {
        let text = "use crate::engine::Engine;\nuse crate::metrics::Counters;\n\
            fn f() { crate::plan::g() }\nuse crate::{pool::Pool,\n steer::Rung};\n";
        let found = places(edges, &[("engine/src/worker.rs", text)]);
        let lines = ["engine/src/worker.rs:1", "engine/src/worker.rs:3", "engine/src/worker.rs:5"];
        assert_eq!(found, lines);
    }

    #[test]
    fn names_re_exported_at_the_root_belong_to_their_room() {
        let root = "pub use worker::{Turn,\n Worker};\nmod error;\npub use error::RunError;\n";
        let text = "use crate::Worker;\nuse crate::RunError;\nuse super::Turn;\n";
        let files = [("engine/src/lib.rs", root), ("engine/src/state.rs", text)];
        assert_eq!(places(edges, &files), ["engine/src/state.rs:1", "engine/src/state.rs:3"]);
    }

    #[test]
    fn a_new_room_has_to_be_placed() {
        assert_eq!(places(edges, &[("engine/src/attic.rs", "")]), ["engine/src/attic.rs:1"]);
    }

    #[test]
    fn every_room_that_a_row_names_exists() {
        for name in ROOMS.iter().flat_map(|(_, allowed)| allowed.iter()) {
            assert!(ROOMS.iter().any(|(room, _)| room == name), "{name}");
        }
    }
}
