//! clients are the HTTP/3 clients of others in Python that tests of the engine run.
//!
//! They live in a folder of their own below the build output. People ask for them with
//! `cargo xtask clients`; CI installs what is missing by itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debian::{in_ci, install_packages, said, shown};
use crate::floors::target_folder;
use crate::test::{Run, Stop};

/// The Python that has them, for the tests that want it.
pub(crate) fn python(run: &Run) -> Result<Option<PathBuf>, Stop> {
    let python = folder(run).join("bin/python");
    if has_clients(&python) {
        return Ok(Some(python));
    }
    if !in_ci() {
        return Ok(None);
    }
    install(run)?;
    Ok(Some(python))
}

/// `cargo xtask clients`
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
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    shown(pip.args(CLIENTS))?;
    println!("{} are installed", CLIENTS.join(" and "));
    Ok(())
}

fn folder(run: &Run) -> PathBuf {
    target_folder(&run.root).join("clients")
}

fn has_clients(python: &Path) -> bool {
    CLIENTS.iter().all(|client| {
        let name = client.split_once('=').map_or(*client, |(name, _)| name);
        let script = format!("from importlib.metadata import version; print(version('{name}'))");
        let version = said(Command::new(python).args(["-c", &script]));
        version.is_some_and(|version| *client == format!("{name}=={}", version.trim()))
    })
}

/// The versions that the tests were written with. curl_cffi is libcurl with ngtcp2 and nghttp3:
/// the curl of Debian 12 has no HTTP/3.
const CLIENTS: [&str; 2] = ["aioquic==1.7.2", "curl_cffi==0.16.3"];
