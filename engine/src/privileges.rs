//! privileges gives up what a process no longer needs.

use caps::CapSet;

use crate::error::StartError;

/// Empties every capability set of this thread, and so of the threads that it starts later.
pub(crate) fn drop_all() -> Result<(), StartError> {
    // Permitted comes after effective, which must be part of it, and inheritable before ambient is
    // gone by itself.
    for set in [CapSet::Ambient, CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).map_err(|error| StartError::Capabilities(error.to_string()))?;
    }
    Ok(())
}
