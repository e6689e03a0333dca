//! cell becomes another program that ends when its parent does, in the namespaces of a process that
//! holds them: what a measurement starts is gone when the measurement is killed.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, parent_id};
use std::process::Command;

use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::exit::{Exit, Failure};

/// Be another program
#[derive(Args, Debug)]
pub(super) struct CellArgs {
    /// The process with which it ends
    #[arg(long, value_name = "PID")]
    parent: u32,

    /// A process whose network and mount namespaces it enters
    #[arg(long, value_name = "PID")]
    inside: Option<u32>,

    /// The program and its arguments
    #[arg(required = true, last = true)]
    command: Vec<OsString>,
}

/// `program` with `arguments`, in a process of its own that ends with this one.
pub(super) fn command(
    inside: Option<u32>,
    program: &str,
    arguments: &[String],
) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["tune", "cell", "--parent"]).arg(std::process::id().to_string());
    if let Some(holder) = inside {
        command.arg("--inside").arg(holder.to_string());
    }
    // A group of its own: Ctrl-C is for the one that measures.
    command.arg("--").arg(program).args(arguments).process_group(0);
    Ok(command)
}

/// Becomes the program.
pub(super) fn run(args: &CellArgs) -> Result<Exit, Failure> {
    match become_it(args) {
        Err(error) => Err(Failure::Cell(error)),
        Ok(never) => match never {},
    }
}

fn become_it(args: &CellArgs) -> io::Result<Infallible> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if parent_id() != args.parent {
        return Err(io::Error::other("whoever started it is gone"));
    }
    if let Some(holder) = args.inside {
        let open = |name: &str| File::open(format!("/proc/{holder}/ns/{name}"));
        let (network, mount) = (open("net")?, open("mnt")?);
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        move_into_link_name_space(mount.as_fd(), Some(LinkNameSpaceType::Mount))?;
    }
    let [program, arguments @ ..] = &args.command[..] else {
        return Err(io::Error::other("no program"));
    };
    Err(Command::new(program).args(arguments).exec())
}
