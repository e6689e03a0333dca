//! aioquic is the HTTP/3 client and server of others that tests need, and its installation.
//!
//! It lives in a folder of its own below the build output. People ask for it with
//! `cargo xtask aioquic`; CI installs what is missing by itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debian::{in_ci, install_packages, said, shown};
use crate::floors::target_folder;
use crate::test::{Run, Stop};

/// The Python that has aioquic, for the tests that want it.
pub(crate) fn python(run: &Run) -> Result<Option<PathBuf>, Stop> {
    let python = folder(run).join("bin/python");
    if has_aioquic(&python) {
        return Ok(Some(python));
    }
    if !in_ci() {
        return Ok(None);
    }
    install(run)?;
    Ok(Some(python))
}

/// `cargo xtask aioquic`
pub(crate) fn install(run: &Run) -> Result<(), Stop> {
    let folder = folder(run);
    let make = || shown(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder));
    if let Err(stop) = make() {
        if !in_ci() {
            return Err(stop);
        }
        // Debian has it in a package of its own.
        install_packages(&["python3-venv"])?;
        make()?;
    }
    let mut pip = Command::new(folder.join("bin/python"));
    shown(pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", AIOQUIC]))?;
    println!("{AIOQUIC} is installed");
    Ok(())
}

fn folder(run: &Run) -> PathBuf {
    target_folder(&run.root).join("aioquic")
}

fn has_aioquic(python: &Path) -> bool {
    let script = "from importlib.metadata import version; print('aioquic==' + version('aioquic'))";
    said(Command::new(python).args(["-c", script])).is_some_and(|said| said.trim() == AIOQUIC)
}

/// The version that the tests were written with.
const AIOQUIC: &str = "aioquic==1.7.2";
