//! crates keeps the arrows between the workspace's packages pointing one way.

use super::{Finding, Tree, report};

/// Every package of ours, and which of ours it may depend on.
const PACKAGES: &[(&str, &[&str])] = &[
    ("quiclane-wire", &[]),
    ("quiclane-datapath", &[]),
    ("quiclane-ebpf", &["quiclane-wire"]),
    ("quiclane-http3", &[]),
    ("quiclane", &["quiclane-wire", "quiclane-datapath", "quiclane-ebpf", "quiclane-http3"]),
    ("quiclane-loadgen", &["quiclane", "quiclane-http3"]),
    ("quiclane-tuning", &["quiclane-datapath", "quiclane-ebpf"]),
    ("quiclane-cli", &["quiclane", "quiclane-loadgen", "quiclane-tuning"]),
    ("xtask", &[]),
];

/// What a Cargo.toml says about its dependencies.
#[derive(Debug)]
pub(super) struct Manifest {
    pub(super) path: String,
    /// Empty for a workspace without a root package.
    pub(super) package: String,
    pub(super) dependencies: Vec<Dependency>,
}

/// One line of a dependency table.
#[derive(Debug)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) line: usize,
    /// Whether only tests, benches and examples see it.
    pub(super) dev: bool,
}

impl Manifest {
    /// Reads the few lines of TOML that matter here; cargo checks the rest.
    pub(super) fn new(path: &str, text: &str) -> Self {
        let mut manifest =
            Self { path: path.to_owned(), package: String::new(), dependencies: Vec::new() };
        let mut table = String::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(header) = line.strip_prefix('[') {
                table = header.trim_end_matches(']').to_owned();
                if let Some((kind, name)) = table.rsplit_once('.') {
                    manifest.depend(kind, name, at + 1);
                }
            } else if let Some((key, value)) = line.split_once('=') {
                let key = key.trim();
                if table == "package" && key == "name" {
                    manifest.package = value.trim().trim_matches('"').to_owned();
                }
                manifest.depend(&table, key.split('.').next().unwrap_or(key), at + 1);
            }
        }
        manifest
    }

    fn depend(&mut self, table: &str, name: &str, line: usize) {
        let dev = table.ends_with("dev-dependencies");
        if table.ends_with("dependencies") && table != "workspace.dependencies" {
            let name = name.trim_matches('"').to_owned();
            self.dependencies.push(Dependency { name, line, dev });
        }
    }
}

/// Whether a package is one of the workspace's own.
pub(super) fn is_ours(package: &str) -> bool {
    PACKAGES.iter().any(|(name, _)| *name == package)
}

pub(super) fn edges(tree: &Tree, findings: &mut Vec<Finding>) {
    for manifest in tree.manifests.iter().filter(|manifest| !manifest.package.is_empty()) {
        let package = manifest.package.as_str();
        let Some((_, allowed)) = PACKAGES.iter().find(|(name, _)| *name == package) else {
            let message = format!("package {package}: add it to PACKAGES in tidy/crates.rs");
            report(findings, &manifest.path, 1, message);
            continue;
        };
        for dependency in &manifest.dependencies {
            let name = dependency.name.as_str();
            // A package may name itself, to give its own tests a feature.
            if is_ours(name) && name != package && !allowed.contains(&name) {
                let message = format!("{package} may not know {name}: move what is shared down");
                report(findings, &manifest.path, dependency.line, message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tests::places;

    #[test]
    fn arrows_point_down_only() {
        let wire =
            "[package]\nname = \"quiclane-wire\"\n[dependencies]\nquiclane = { path = \"\" }\n";
        let engine =
            "[package]\nname = \"quiclane\"\n[dependencies]\nquiclane-wire.workspace = true\n";
        let files = [("wire/Cargo.toml", wire), ("engine/Cargo.toml", engine)];
        assert_eq!(places(edges, &files), ["wire/Cargo.toml:4"]);
    }

    #[test]
    fn test_dependencies_follow_the_arrows_too() {
        let text = "[package]\nname = \"xtask\"\n[dev-dependencies.quiclane]\nworkspace = true\n";
        assert_eq!(places(edges, &[("xtask/Cargo.toml", text)]), ["xtask/Cargo.toml:3"]);
    }

    #[test]
    fn a_new_package_has_to_be_placed() {
        let text = "[package]\nname = \"helpers\"\n";
        assert_eq!(places(edges, &[("helpers/Cargo.toml", text)]), ["helpers/Cargo.toml:1"]);
    }

    #[test]
    fn every_form_of_a_dependency_is_read() {
        let text = "[package]\nname = \"a\"\n[dependencies]\nb = \"1\"\nc.workspace = true\n\
            [dependencies.d]\nversion = \"1\"\n[target.'cfg(unix)'.dependencies]\ne = \"1\"\n\
            [dev-dependencies]\nf = \"1\"\n[features]\ng = []\n";
        let manifest = Manifest::new("a/Cargo.toml", text);
        let names: Vec<_> =
            manifest.dependencies.iter().map(|d| (d.name.as_str(), d.dev)).collect();
        assert_eq!(names, [("b", false), ("c", false), ("d", false), ("e", false), ("f", true)]);
    }
}
