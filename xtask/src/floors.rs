//! floors lists what `cargo xtask test` runs, from the cheapest proof to the dearest.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Duration;
use std::{env, fs};

use crate::debian::{in_ci, install_packages, said};
use crate::test::{Run, Stop, has_cargo, wait_at_most};
use crate::tidy;
use crate::{clients, ebpf};

/// One kind of test, with what it proves.
#[derive(Debug)]
pub(crate) struct Floor {
    pub(crate) name: &'static str,
    pub(crate) proves: &'static str,
    pub(crate) run: fn(&mut Run) -> Result<(), Stop>,
}

pub(crate) const FLOORS: &[Floor] = &[
    Floor { name: "fmt", proves: "rustfmt would change nothing", run: fmt },
    Floor { name: "tidy", proves: "the house rules hold", run: tidy },
    Floor { name: "clippy", proves: "no compiler or clippy warning", run: clippy },
    Floor { name: "unit", proves: "unit, property and integration tests pass", run: unit },
    Floor { name: "ebpf", proves: "the BPF object is what its source builds to", run: ebpf::check },
    Floor {
        name: "peers",
        proves: "clients of other stacks are served, and learn of a restart",
        run: peers,
    },
    Floor { name: "doctests", proves: "the examples in the docs work", run: doctests },
    Floor { name: "sim", proves: "1,000 seeds of simulated networks do no harm", run: simulation },
    Floor { name: "flood", proves: "a minute of random datagrams does no harm", run: flood },
    Floor { name: "doc", proves: "the docs build without a broken link", run: doc },
    Floor { name: "examples", proves: "every example builds", run: examples },
    Floor { name: "demo", proves: "the command serves without privileges", run: demo },
];

/// The packet fixtures that the tests of several rooms share. Named in every build of the
/// workspace, so that nothing is compiled twice.
const FEATURES: &str = "--features=quiclane-wire/fixtures";

/// What quiche builds its TLS library with: programs, and Debian's packages of the same names.
const BORINGSSL_BUILDERS: [&str; 2] = ["cmake", "g++"];

/// Enough that a fault of one in a hundred runs shows every time; about a minute on two cores.
const SIMULATION_SEEDS: &str = "1000";

/// For each datapath.
const FLOOD_SECONDS: &str = "60";

/// The demo takes about 15 s; a machine ten times slower still passes, a hanging demo does not
/// stop CI for long.
const DEMO_TIME_MAX: Duration = Duration::from_secs(180);

/// `nobody` on Debian, Fedora, Arch and Alpine.
const NOBODY: u32 = 65_534;

fn fmt(run: &mut Run) -> Result<(), Stop> {
    need("fmt", "rustfmt")?;
    run.cargo(&["fmt", "--all", "--check"], &[])
}

fn tidy(run: &mut Run) -> Result<(), Stop> {
    let findings = tidy::check(&run.root)?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => Err(Stop::Failed(format!("{count} findings"))),
    }
}

fn clippy(run: &mut Run) -> Result<(), Stop> {
    need("clippy", "clippy")?;
    let arguments = ["clippy", "--workspace", "--all-targets", FEATURES, "--", "-D", "warnings"];
    run.cargo(&arguments, &[])
}

fn unit(run: &mut Run) -> Result<(), Stop> {
    let arguments = ["test", "--workspace", "--tests", FEATURES, "--no-fail-fast", "--"];
    // Somewhere else the tests that need them say what is missing.
    for (program, version, package) in PROGRAMS {
        if in_ci() && said(Command::new(program).arg(version)).is_none() {
            install_packages(&[package])?;
        }
    }
    let python = clients::python(run)?;
    let python = python.as_ref().and_then(|path| path.to_str());
    let clients: Vec<_> = python.map(|path| ("QUICLANE_PYTHON", path)).into_iter().collect();
    run.cargo_test(&[&arguments[..], &["--show-output"]].concat(), &clients)
}

/// What tests start, how it says that it is there, and the package that it is in.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("chromium", "--version", "chromium"),
    ("caddy", "version", "caddy"),
    ("udevadm", "--version", "udev"),
    ("systemd-analyze", "--version", "systemd"),
];

/// Clients of other stacks live in a workspace of their own, and get our command as it is built
/// here.
fn peers(run: &mut Run) -> Result<(), Stop> {
    let missing = |program| said(Command::new(program).arg("--version")).is_none();
    if BORINGSSL_BUILDERS.into_iter().any(missing) {
        let packages = BORINGSSL_BUILDERS.join(" ");
        if !in_ci() {
            return Err(Stop::Skipped(format!("BoringSSL needs apt-get install {packages}")));
        }
        install_packages(&BORINGSSL_BUILDERS)?;
    }
    let program = program(run)?;
    let target = target_folder(&run.root);
    // The same target folder: crates that both workspaces have are built once.
    let folders = [("CARGO_TARGET_DIR", target), ("QUICLANE_PROGRAM", program)];
    let folders = folders.each_ref().map(|(name, path)| (*name, path.to_string_lossy()));
    let env = folders.each_ref().map(|(name, path)| (*name, path.as_ref()));
    let arguments = ["test", "--manifest-path=bench/peers/Cargo.toml", "--locked"];
    let packages = ["--package=resets", "--package=http3", "--", "--show-output"];
    run.cargo_test(&[&arguments[..], &packages].concat(), &env)
}

fn doctests(run: &mut Run) -> Result<(), Stop> {
    run.cargo_test(&["test", "--workspace", "--doc", FEATURES], &[])
}

fn simulation(run: &mut Run) -> Result<(), Stop> {
    let arguments = ["test", "--workspace", "--test=sim", FEATURES];
    run.cargo_test(&arguments, &[("QUICLANE_SIM_SEEDS", SIMULATION_SEEDS)])
}

fn flood(run: &mut Run) -> Result<(), Stop> {
    let arguments = ["test", "--workspace", "--test=flood", FEATURES, "--", "--show-output"];
    run.cargo_test(&arguments, &[("QUICLANE_FLOOD_SECONDS", FLOOD_SECONDS)])
}

fn doc(run: &mut Run) -> Result<(), Stop> {
    // Libraries only: the command and the engine share a name, and so would their pages.
    let arguments = ["doc", "--workspace", "--lib", "--no-deps", FEATURES];
    run.cargo(&arguments, &[("RUSTDOCFLAGS", "-D warnings")])
}

fn examples(run: &mut Run) -> Result<(), Stop> {
    run.cargo(&["build", "--workspace", "--examples", FEATURES], &[])
}

/// Copies the command to a folder everybody can read and runs its demo there, as nobody if we
/// are root: what works then needs no privilege and no file.
fn demo(run: &mut Run) -> Result<(), Stop> {
    let built = program(run)?;
    let folder = Scratch::new()?;
    let program = folder.0.join("quiclane");
    fs::copy(built, &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let mut command = Command::new(&program);
    command.arg("demo").current_dir(&folder.0).env_clear();
    if fs::metadata("/proc/self")?.uid() == 0 {
        println!("$ quiclane demo  (as uid {NOBODY}, which drops every capability)");
        command.uid(NOBODY).gid(NOBODY);
    } else {
        println!("$ quiclane demo");
    }
    wait_at_most(&mut command.spawn()?, DEMO_TIME_MAX)
}

/// Our command, as the unit tests have it: a plain build's dependencies have other features, and a
/// release's are built again, for minutes.
fn program(run: &Run) -> Result<PathBuf, Stop> {
    run.cargo(&["test", "--workspace", "--tests", FEATURES, "--no-run", "--quiet"], &[])?;
    Ok(target_folder(&run.root).join("debug/quiclane"))
}

/// Skips the floor when a component of the toolchain is missing.
fn need(command: &str, component: &str) -> Result<(), Stop> {
    if has_cargo(command) {
        return Ok(());
    }
    Err(Stop::Skipped(format!("{component} is missing: rustup component add {component}")))
}

/// Where cargo builds: two folders above our own program.
pub(crate) fn target_folder(root: &Path) -> PathBuf {
    let own = env::current_exe().ok();
    let folder = own.as_deref().and_then(|program| program.ancestors().nth(2));
    folder.map_or_else(|| root.join("target"), Path::to_path_buf)
}

/// A folder that goes away with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, Stop> {
        let path = env::temp_dir().join(format!("quiclane-demo-{}", process::id()));
        fs::create_dir(&path)?;
        let folder = Self(path);
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o755))?;
        Ok(folder)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left behind it would only take room in the temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}
