//! signals turns SIGINT and SIGTERM into messages, so that no work is done inside a handler.

use std::sync::mpsc::{self, Receiver};
use std::thread;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator;

use crate::exit::Failure;

/// Signals that ask the command to stop, one message for each.
pub(crate) fn listen() -> Result<Receiver<()>, Failure> {
    let mut signals = iterator::Signals::new([SIGINT, SIGTERM]).map_err(Failure::Signals)?;
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new()
        .name("quiclane-signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                if sender.send(()).is_err() {
                    break;
                }
            }
        })
        .map_err(Failure::Signals)?;
    Ok(receiver)
}
