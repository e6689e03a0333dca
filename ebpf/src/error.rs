//! error says what the kernel refused, and what can be done about it.

use std::error::Error;
use std::fmt;
use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;
use thiserror::Error;

use crate::Mode;

/// Why the programs or their maps could not be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SteeringError {
    /// The process lacks the privileges.
    #[error(
        "{what}: not permitted: grant CAP_BPF and CAP_NET_ADMIN (sudo, setcap, or docker run \
         --cap-add), outside of user namespaces"
    )]
    NotPermitted {
        /// What was being done.
        what: &'static str,
    },
    /// The maps could not be created.
    #[error(
        "creating the BPF maps: {0}: {cause}: raise `ulimit -n` if files ran out, else see dmesg \
         and the memory limit of the control group", cause = first_cause(&**.0)
    )]
    Maps(#[source] Box<EbpfError>),
    /// The kernel did not take a program.
    #[error("loading {program}: {reason}: Linux 5.18 is the oldest kernel that can take it")]
    Program {
        /// The name of the program.
        program: &'static str,
        /// What the kernel said, in short.
        reason: String,
        /// All of what it said.
        source: Box<ProgramError>,
    },
    /// The kernel did not take a map entry.
    #[error("writing the BPF map {map}: {source}")]
    Map {
        /// The name of the map.
        map: &'static str,
        /// What the kernel said.
        source: Box<MapError>,
    },
    /// The object does not have what this library expects in it.
    #[error("the BPF object has no {0}: it is not of this version; run cargo xtask ebpf")]
    Missing(&'static str),
    /// More listeners than the maps were made for.
    #[error("{given} listen addresses, but Capacity::listeners is {limit}: raise it")]
    TooManyListeners {
        /// How many there would be.
        given: u32,
        /// How many there is room for.
        limit: u32,
    },
    /// More addresses of the host than the maps were made for.
    #[error(
        "{given} addresses of this host, counted for each wildcard, and room for {limit}: frames \
         to the others pass untouched; listen on those that matter by name"
    )]
    TooManyAddresses {
        /// How many there are.
        given: usize,
        /// How many there is room for.
        limit: usize,
    },
    /// A worker on a core that the machine does not have.
    #[error("no core {cpu}: this machine has cores 0 to {}", limit - 1)]
    NoSuchCore {
        /// The core.
        cpu: u32,
        /// How many cores the machine can have.
        limit: u32,
    },
    /// A capacity that no map can have.
    #[error("{what} of {given}: must be between 1 and {limit}")]
    Capacity {
        /// The field of the capacity.
        what: &'static str,
        /// Its value.
        given: u32,
        /// The largest value that works.
        limit: u32,
    },
}

impl SteeringError {
    /// The error in one line: of what the verifier wrote, what it objects to.
    pub fn in_short(&self) -> String {
        let Self::Program { program, source, .. } = self else { return self.to_string() };
        let ProgramError::LoadError { io_error, verifier_log } = &**source else {
            return self.to_string();
        };
        match objection(&verifier_log.to_string()) {
            Some(objection) if objection.ends_with(FOR_PERFMON) => {
                format!("loading {program}: grant CAP_PERFMON; the verifier: {objection}")
            }
            Some(objection) => format!("loading {program}: {io_error}: {objection}"),
            None => format!("loading {program}: {io_error}"),
        }
    }
}

/// What an error comes from in the end.
fn first_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// The last line of a verifier's log that is no statistics.
fn objection(log: &str) -> Option<&str> {
    let statistics = ["verification time ", "stack depth ", "processed "];
    let says = |line: &&str| !line.is_empty() && !statistics.iter().any(|s| line.starts_with(s));
    log.lines().map(str::trim).rfind(says)
}

/// What the verifier says of pointers that could leak memory by speculation. It means those without
/// CAP_PERFMON.
const FOR_PERFMON: &str = "prohibited for !root";

/// Why a program could not be put on an interface.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AttachError {
    /// Another program is there already. It stays.
    #[error("{interface} already runs the XDP program {program}: detach it, or use another rung")]
    Occupied {
        /// The interface.
        interface: String,
        /// Whose program it is.
        program: ForeignProgram,
    },
    /// There is no such interface.
    #[error("there is no interface {interface}: `ip link` lists them")]
    UnknownInterface {
        /// The name.
        interface: String,
    },
    /// The driver cannot do it in this mode, or not with its present settings.
    #[error(
        "{interface} takes no XDP program in {mode} mode: {source}: generic mode works on every \
         interface, native mode with drivers that have it, and many of them only up to an MTU of \
         about 3,500"
    )]
    Unsupported {
        /// The interface.
        interface: String,
        /// The mode that was asked for.
        mode: Mode,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel is too old for links, which vanish with their process.
    #[error("{interface}: this kernel has no bpf_link for XDP: Linux 5.9 has")]
    NoLink {
        /// The interface.
        interface: String,
    },
    /// The process lacks the privileges.
    #[error("attaching to {interface}: not permitted: grant CAP_BPF and CAP_NET_ADMIN")]
    NotPermitted {
        /// The interface.
        interface: String,
    },
    /// The program itself could not be set up.
    #[error("{}", .0.in_short())]
    Steering(#[from] SteeringError),
    /// Anything else.
    #[error("attaching to {interface}: {source}")]
    Other {
        /// The interface.
        interface: String,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
}

/// A program that somebody else has attached.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForeignProgram {
    /// Its id, as `bpftool prog` shows it.
    pub id: u32,
    /// Where it runs.
    pub mode: Mode,
    /// Its name, which may be empty; `None` if this process may not ask for it, which takes
    /// CAP_SYS_ADMIN.
    pub name: Option<String>,
}

impl fmt::Display for ForeignProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) if !name.is_empty() => write!(f, "{name:?} (id {})", self.id),
            _ => write!(f, "with id {}", self.id),
        }
    }
}

/// The error of the system call at the bottom of a chain of errors.
pub(crate) fn system_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error);
        }
        next = error.source();
    }
    None
}

/// Whether a chain of errors ends in a lack of privileges. EACCES is the verifier's word for a
/// program that it does not take.
pub(crate) fn is_not_permitted(error: &(dyn Error + 'static)) -> bool {
    system_error(error).is_some_and(|error| error.raw_os_error() == Some(EPERM))
}

const EPERM: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_verifiers_log_its_objection_is_found() {
        let log = "53: (0f) r7 += r4\nR4 has pointer with unsupported alu operation\n\
            verification time 977 usec\nstack depth 48\nprocessed 80 insns (limit 1000000)\n\n";
        assert_eq!(objection(log), Some("R4 has pointer with unsupported alu operation"));
        assert_eq!(objection("processed 80 insns\n"), None);
    }

    #[test]
    fn a_program_without_a_name_has_its_id() {
        let mut program = ForeignProgram { id: 7, mode: Mode::Native, name: Some("a".into()) };
        assert_eq!(program.to_string(), "\"a\" (id 7)");
        program.name = Some(String::new());
        assert_eq!(program.to_string(), "with id 7");
    }
}
