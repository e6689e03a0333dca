//! keylog looks whether SSLKEYLOGFILE can be written: rustls would go on without a word.

use std::fs::OpenOptions;

use crate::output;

/// Warns when the environment asks for a key log that cannot be written. An empty name means
/// none, as in other tools.
pub(crate) fn check() {
    let Some(path) = std::env::var_os("SSLKEYLOGFILE").filter(|path| !path.is_empty()) else {
        return;
    };
    // The file is made, as rustls would a moment later.
    if let Err(error) = OpenOptions::new().append(true).create(true).open(&path) {
        output::log(format_args!(
            "warning: SSLKEYLOGFILE {}: {error}; no keys are logged: name a file that this user \
             may write",
            path.display()
        ));
    }
}
