//! privileges gives up what a process no longer needs.

use caps::CapSet;

use crate::error::StartError;

/// Empties every capability set of this thread, and so of the threads that it starts later, and
/// sees to it that no program which they run gets any back, not even as root.
pub(crate) fn drop_all() -> Result<(), StartError> {
    // Permitted comes after effective, which must be part of it, and inheritable before ambient is
    // gone by itself.
    for set in [CapSet::Ambient, CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        caps::clear(None, set).map_err(|error| StartError::Capabilities(error.to_string()))?;
    }
    rustix::thread::set_no_new_privs(true)
        .map_err(|error| StartError::Capabilities(error.to_string()))
}
