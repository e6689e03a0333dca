//! debian runs the programs that floors need beside cargo, and installs missing ones in CI.
//!
//! Never done here: installing anything on a machine that belongs to somebody.

use std::env;
use std::process::Command;

use crate::test::Stop;

/// Installs what CI needs from Debian's packages; anything else is left to people.
pub(crate) fn install_packages(packages: &[&str]) -> Result<(), Stop> {
    shown(Command::new("apt-get").args(["update", "-qq"]))?;
    let mut install = Command::new("apt-get");
    install.args(["install", "-y", "-qq", "--no-install-recommends"]).args(packages);
    shown(install.env("DEBIAN_FRONTEND", "noninteractive"))
}

pub(crate) fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| value == "true")
}

/// What a command writes, if it succeeds.
pub(crate) fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// Runs a command whose output is for the reader.
pub(crate) fn shown(command: &mut Command) -> Result<(), Stop> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| Stop::Failed(format!("{name}: {error}")))?;
    if status.success() { Ok(()) } else { Err(Stop::Failed(format!("{name}: {status}"))) }
}
