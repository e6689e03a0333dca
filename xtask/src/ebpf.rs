//! ebpf builds the programs of the kernel and checks that the committed object is up to date.
//!
//! A plain build needs none of this: it takes the object. Two toolchains can make it, tried in this
//! order, each with bpf-linker:
//!
//! ```text
//!   /usr/bin/rustc with its own core for BPF     Debian: rustc-web, libstd-rust-web-dev-bpf
//!   rustup's nightly, which builds core itself   rustup toolchain install nightly -c rust-src
//! ```
//!
//! Under the toolchain that is recorded beside the object, a fresh build must have the same bytes.
//! Other toolchains write other instructions; then the fresh build must agree with `wire` instead.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::debian::{in_ci, install_packages, said, shown};
use crate::test::{Run, Stop};

/// What the programs are compiled with.
#[derive(Debug)]
pub(crate) struct Toolchain {
    compiler: Compiler,
    linker: PathBuf,
    /// The versions of compiler, LLVM and linker, as they are recorded.
    versions: String,
}

#[derive(Clone, Copy, Debug)]
enum Compiler {
    /// `/usr/bin/rustc`.
    System,
    /// rustup's nightly.
    Nightly,
}

impl Toolchain {
    /// The first one that is there, or what is missing.
    fn find(run: &Run) -> Result<Self, String> {
        let (compiler, rustc) = Compiler::find()?;
        let installed = tools_folder(run).join("bin/bpf-linker");
        let linker = if installed.exists() { installed } else { "bpf-linker".into() };
        let version = said(Command::new(&linker).arg("--version"));
        let version = version.ok_or_else(|| format!("bpf-linker is missing: {INSTALL_LINKER}"))?;
        let kept = |line: &&str| line.starts_with("rustc ") || line.starts_with("LLVM ");
        let mut versions: Vec<&str> = rustc.lines().filter(kept).collect();
        versions.push(version.trim());
        let versions = versions.join("\n") + "\n";
        Ok(Self { compiler, linker, versions })
    }

    /// Installs what CI needs from Debian's packages; anything else is left to people.
    fn install(run: &Run) -> Result<(), Stop> {
        install_packages(&DEBIAN_PACKAGES)?;
        let tools = tools_folder(run);
        let mut linker = Command::new(crate::cargo());
        // LLVM does the work, and is optimised: a debug build saves CI two minutes.
        linker.args(["install", "--locked", "--quiet", "--debug", "bpf-linker@0.13.0"]);
        linker.args(["--no-default-features", "--features", "llvm-22", "--root"]).arg(&tools);
        linker.env("CARGO_TARGET_DIR", tools.join("build"));
        shown(linker.env("LLVM_PREFIX", "/usr/lib/llvm-22"))
    }

    /// Compiles the programs; returns where the object is.
    fn build(&self, run: &Run) -> Result<PathBuf, Stop> {
        let folder = crate::floors::target_folder(&run.root).join("bpf");
        let mut command = match self.compiler {
            Compiler::System => {
                let mut command = Command::new(crate::cargo());
                command.env("RUSTC", SYSTEM_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command.arg("build");
                command
            }
            Compiler::Nightly => {
                let mut command = Command::new("rustup");
                command.args(["run", "nightly", "cargo", "build", "-Zbuild-std=core"]);
                command.env_remove("RUSTC").env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
                command
            }
        };
        command.args(["--quiet", "--locked", "--profile=kernel", "--package=quiclane-ebpf"]);
        command.args(["--bin=steer", "--features=program", "--target", TARGET]);
        command.current_dir(&run.root).env("CARGO_TARGET_DIR", &folder).env_remove("RUSTFLAGS");
        command.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker);
        command.env("CARGO_ENCODED_RUSTFLAGS", flags(&run.root));
        shown(&mut command)?;
        Ok(folder.join(TARGET).join("kernel/steer"))
    }
}

impl Compiler {
    /// The compiler and what it says about itself.
    fn find() -> Result<(Self, String), String> {
        let sysroot = said(Command::new(SYSTEM_RUSTC).args(["--print", "sysroot"]));
        let core = sysroot.map(|path| Path::new(path.trim()).join("lib/rustlib").join(TARGET));
        if core.is_some_and(|folder| folder.join("lib").exists())
            && let Some(versions) = said(Command::new(SYSTEM_RUSTC).arg("-vV"))
        {
            return Ok((Self::System, versions));
        }
        let nightly = ["run", "nightly", "rustc"];
        let sysroot = said(Command::new("rustup").args(nightly).args(["--print", "sysroot"]));
        let source = sysroot.map(|path| Path::new(path.trim()).join("lib/rustlib/src/rust"));
        if source.is_some_and(|folder| folder.join("library/core").exists())
            && let Some(versions) = said(Command::new("rustup").args(nightly).arg("-vV"))
        {
            return Ok((Self::Nightly, versions));
        }
        let packages = DEBIAN_PACKAGES.join(" ");
        Err(format!(
            "no Rust compiler for BPF: apt-get install {packages}, or rustup toolchain install \
             nightly --component rust-src"
        ))
    }
}

/// `cargo xtask ebpf`: rebuilds the object and records the toolchain.
pub(crate) fn rebuild(run: &Run) -> Result<(), Stop> {
    let toolchain = Toolchain::find(run).map_err(Stop::Failed)?;
    let built = toolchain.build(run)?;
    let object = run.root.join(OBJECT);
    let changed = fs::read(&object).ok() != Some(fs::read(&built)?);
    fs::copy(&built, &object)?;
    fs::write(run.root.join(RECORD), &toolchain.versions)?;
    println!("{OBJECT}: {}", if changed { "rebuilt" } else { "as it was" });
    Ok(())
}

/// `cargo xtask ebpf --check`: fails if the object is not what the source builds to.
pub(crate) fn check(run: &mut Run) -> Result<(), Stop> {
    let toolchain = match Toolchain::find(run) {
        Ok(toolchain) => toolchain,
        Err(missing) if !in_ci() => return Err(Stop::Skipped(missing)),
        Err(_) => {
            Toolchain::install(run)?;
            Toolchain::find(run).map_err(Stop::Failed)?
        }
    };
    let built = toolchain.build(run)?;
    let recorded = fs::read_to_string(run.root.join(RECORD))?;
    if toolchain.versions == recorded {
        if fs::read(&built)? == fs::read(run.root.join(OBJECT))? {
            println!("{OBJECT} is what its source builds to");
            return Ok(());
        }
        let message = format!("{OBJECT} is not what its source builds to: run cargo xtask ebpf");
        return Err(Stop::Failed(message));
    }
    println!("not of the recorded toolchain, so the fresh build is compared with wire:");
    print!("recorded:\n{recorded}here:\n{}", toolchain.versions);
    let object = built.to_string_lossy();
    let tests = ["test", "--package=quiclane-ebpf", "--tests", "--", "--show-output"];
    run.cargo_test(&tests, &[("QUICLANE_EBPF_OBJECT", &object)])
}

/// `cargo xtask ebpf --bench`: prints how long the programs take.
///
/// cargo runs as the user, whose it is, and only what it built as root: sudo finds no cargo of
/// rustup's, and root's build would leave files that the user cannot write.
pub(crate) fn bench(run: &Run) -> Result<(), Stop> {
    // Not a release build: the kernel measures, and it runs the same object.
    run.cargo(&["build", "--quiet", "--package=quiclane-ebpf", "--example=figures"], &[])?;
    let figures = crate::floors::target_folder(&run.root).join("debug/examples/figures");
    let mut command = as_root(&figures, fs::metadata("/proc/self")?.uid() == 0);
    let line = format!("{command:?}").replace('"', "");
    println!("$ {line}");
    shown(&mut command).map_err(|stop| match stop {
        Stop::Failed(why) => Stop::Failed(format!(
            "{why}; loading the programs takes root, or CAP_BPF and CAP_NET_ADMIN: run {} so",
            figures.display()
        )),
        skipped @ Stop::Skipped(_) => skipped,
    })
}

/// `program` by itself if we are root, else through sudo.
fn as_root(program: &Path, is_root: bool) -> Command {
    if is_root {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.arg(program);
    command
}

/// The compiler's flags. No path of this machine gets into the object.
fn flags(root: &Path) -> OsString {
    let mut flags = OsString::from(FLAGS.join(FLAG_SEPARATOR));
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    for (from, to) in [(Some(root.to_owned()), "."), (home, "cargo")] {
        let Some(from) = from else { continue };
        flags.push(FLAG_SEPARATOR);
        flags.push("--remap-path-prefix=");
        flags.push(from);
        flags.push("=");
        flags.push(to);
    }
    flags
}

fn tools_folder(run: &Run) -> PathBuf {
    crate::floors::target_folder(&run.root).join("bpf-tools")
}

const TARGET: &str = "bpfel-unknown-none";
const SYSTEM_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "libstd-rust-web-dev-bpf", "llvm-22-dev"];
const INSTALL_LINKER: &str = "cargo install bpf-linker@0.13.0 --no-default-features \
    --features llvm-22 with LLVM_PREFIX=/usr/lib/llvm-22; with its defaults for nightly";
const OBJECT: &str = "ebpf/object/steer.bpf.o";
const RECORD: &str = "ebpf/object/TOOLCHAIN";
/// The machine of Linux 5.12 (atomics), which reads packets at any address; everything is inlined,
/// for a function of the kernel's machine has five arguments.
const FLAGS: [&str; 3] = [
    "-Ctarget-cpu=v3",
    "-Ctarget-feature=+alu32,+allows-misaligned-mem-access",
    "-Clink-arg=--llvm-args=-inline-threshold=100000",
];
/// What cargo splits CARGO_ENCODED_RUSTFLAGS at.
const FLAG_SEPARATOR: &str = "\u{1f}";

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn only_what_was_built_runs_as_root() {
        let words = |is_root| {
            let command = as_root(Path::new("target/figures"), is_root);
            let words: Vec<&OsStr> =
                [command.get_program()].into_iter().chain(command.get_args()).collect();
            words.join(OsStr::new(" "))
        };
        assert_eq!(words(true), "target/figures");
        assert_eq!(words(false), "sudo target/figures");
    }
}
