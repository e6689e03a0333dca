//! guard starts and is the process that puts everything back when `apply` cannot.

use std::env;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use clap::Args;
use quiclane::clock::now;
use quiclane_tuning::{Folder, Guard, TuneError, Watch};

use super::Started;
use crate::exit::{Exit, Failure};
use crate::output;

/// Watch a journal
#[derive(Args, Debug)]
pub(super) struct GuardArgs {
    /// Folder of the journal
    #[arg(long, value_name = "DIR")]
    journal: PathBuf,
}

/// Starts a guard of `folder` and waits until it watches.
pub(super) fn start(folder: &Folder) -> Started {
    let mut child = Command::new(env::current_exe()?)
        .args(["tune", "guard", "--journal"])
        .arg(folder.path())
        // It keeps no file system from being unmounted.
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line)?;
    }
    match line.as_str() {
        WATCHES => Ok(()),
        _ => Err(io::Error::other("it ended before it watched")),
    }
}

/// Is the guard.
pub(super) fn run(args: &GuardArgs) -> Result<Exit, Failure> {
    // A session of its own: it outlives the terminal and what is sent to the runner's group.
    rustix::process::setsid().map_err(|error| Failure::Signals(error.into()))?;
    let Some(mut guard) = Guard::open(&Folder::new(&args.journal)).map_err(TuneError::from)? else {
        return Ok(Exit::Ok);
    };
    let mut stdout = io::stdout().lock();
    // A runner that is dead already does not read it: all the more to do.
    let _ = stdout.write_all(WATCHES.as_bytes()).and_then(|()| stdout.flush());
    drop(stdout);
    loop {
        // It tries again by itself, for an hour: what comes back here is the last word.
        match guard.look(now())? {
            Watch::Wait(time) => thread::sleep(time),
            Watch::Over => return Ok(Exit::Ok),
            Watch::Reverted(undone) => {
                output::log(super::text::PutBack(&undone));
                return Ok(if undone.ok { Exit::Ok } else { Exit::Failed });
            }
        }
    }
}

/// What a guard says once it watches.
const WATCHES: &str = "watching\n";
