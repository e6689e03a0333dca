//! rlimits takes what the system allows this process: the hard limits.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limits of open files and locked memory to the hard ones. Distributions leave
/// the soft ones low for programs that use select(2) and the like; a connection of the load
/// generator is a file, and a worker's ring is locked memory.
pub(crate) fn raise() {
    for (resource, enough) in [(Resource::Nofile, FILES_ENOUGH), (Resource::Memlock, u64::MAX)] {
        let Rlimit { current, maximum } = getrlimit(resource);
        let wanted = maximum.unwrap_or(enough).min(enough);
        if current.is_some_and(|current| current < wanted) {
            // Refused, the soft limit stays; whoever needs more says so.
            let _ = setrlimit(resource, Rlimit { current: Some(wanted), maximum });
        }
    }
}

/// The kernel's own limit of what can be asked for, `fs.nr_open`, is this by default.
const FILES_ENOUGH: u64 = 1 << 20;
