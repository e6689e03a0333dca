//! attended is a command that is waited for, whatever its runner is told meanwhile: what is set for
//! it stays until it has ended.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

/// A command that runs.
pub(super) struct Attended {
    child: Child,
    signals: Signals,
}

impl Attended {
    pub(super) fn start(program: &OsStr, words: &[OsString]) -> io::Result<Self> {
        // What is ignored (nohup) stays so, in the command too.
        let ignored = ignored(&fs::read_to_string("/proc/self/status")?);
        let asking = [SIGINT, SIGQUIT, SIGTERM, SIGHUP].into_iter();
        let heard = asking.filter(|signal| ignored >> (signal - 1) & 1 == 0);
        // Before it can end.
        let signals = Signals::new(heard.chain([SIGCHLD]))?;
        let child = Command::new(program).args(words).spawn()?;
        Ok(Self { child, signals })
    }

    /// Its process.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended. SIGINT and SIGQUIT the terminal gives to it as well, and it may
    /// have something to finish; SIGTERM and SIGHUP are passed on.
    pub(super) fn wait(mut self) -> io::Result<ExitStatus> {
        loop {
            for signal in self.signals.wait() {
                match signal {
                    SIGCHLD => {
                        if let Some(status) = self.child.try_wait()? {
                            return Ok(status);
                        }
                    }
                    SIGTERM => self.pass_on(Signal::TERM),
                    SIGHUP => self.pass_on(Signal::HUP),
                    _ => {}
                }
            }
        }
    }

    /// Nobody else can have its number: it was not yet waited for.
    fn pass_on(&self, signal: Signal) {
        // It may have ended by itself, and its SIGCHLD follows.
        let _ = kill_process(Pid::from_child(&self.child), signal);
    }
}

/// The signals that a process ignores, the lowest bit for number 1.
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
