//! output writes results to stdout and the log to stderr; neither ever panics.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use crate::exit::Failure;

/// Writes `text` and a newline to stdout. A reader that went away wants to know nothing: that is
/// no failure.
pub(crate) fn result(text: impl Display) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    unless_gone(writeln!(stdout, "{text}").and_then(|()| stdout.flush()))
}

/// What became of writing to stdout.
pub(crate) fn unless_gone(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::Output(error)),
        _ => Ok(()),
    }
}

/// Writes `value` as JSON to stdout.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::Output(error.into()))?;
    result(text)
}

/// A line of the log.
pub(crate) fn log(text: impl Display) {
    // Nobody to tell when stderr is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What a user should know even with --quiet: what this host did not grant.
pub(crate) fn warnings(notes: &[String]) {
    for note in notes {
        log(format_args!("warning: {note}"));
    }
}

/// What ended the command.
pub(crate) fn error(failure: &Failure) {
    log(format_args!("error: {failure}"));
}
