//! attach puts the steering program on interfaces, by links that vanish with the process.

use std::fmt;
use std::io;

use aya::programs::links::FdLink;
use aya::programs::{ProgramError, XdpMode, loaded_programs};

use crate::error::system_error;
use crate::{AttachError, ForeignProgram, Program, Steering, netlink};

/// Where in the receive path of an interface a program runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    /// In the driver, before the kernel has a socket buffer.
    Native,
    /// In the network stack, for every driver: slower, and behind GRO.
    Generic,
    /// In the device itself. Somebody else's program may be there; the kernel refuses ours, which
    /// are not made for a device.
    Hardware,
}

impl Mode {
    /// The name as a metric label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Hardware => "hardware",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A program on an interface. Dropped, it is taken off.
#[derive(Debug)]
pub struct Attachment {
    interface: String,
    mode: Mode,
    /// The program's, by which it is found again.
    id: Option<u32>,
    is_veth: bool,
    _link: FdLink,
}

impl Attachment {
    /// The interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether what XDP sends is lost: a veth delivers that only if its other end, which may be in
    /// a namespace that nobody can look into from here, has an XDP program too.
    pub fn loses_answers(&self) -> bool {
        self.is_veth && self.mode == Mode::Native
    }

    /// Whether the program is on an interface of that name still: one that was removed and made
    /// again has none. True if the kernel does not answer.
    pub fn is_in_place(&self) -> bool {
        match netlink::link(&self.interface) {
            Ok(link) => link.programs.iter().any(|(_, id)| self.id.is_none_or(|own| own == *id)),
            Err(error) => {
                error.kind() != io::ErrorKind::NotFound && error.raw_os_error() != Some(ENODEV)
            }
        }
    }
}

impl Steering {
    /// Puts a program, [`Program::Steer`] or [`Program::Pass`], on an interface. Another program
    /// that is there stays and is reported.
    ///
    /// # Errors
    /// When the interface has a program, does not exist, or cannot do it in this mode.
    ///
    /// # Minimum kernel version
    /// 5.9 (bpf_link for XDP).
    pub fn attach_interface(
        &mut self,
        program: Program,
        interface: &str,
        mode: Mode,
    ) -> Result<Attachment, AttachError> {
        if let Some(program) = attached_programs(interface)?.into_iter().next() {
            return Err(AttachError::Occupied { interface: interface.to_owned(), program });
        }
        let flags = match mode {
            Mode::Native => XdpMode::Driver,
            Mode::Generic => XdpMode::Skb,
            Mode::Hardware => XdpMode::Hardware,
        };
        let xdp = self.xdp(program)?;
        let id = xdp.attach(interface, flags).map_err(|error| refused(interface, mode, error))?;
        let link = xdp.take_link(id).map_err(|error| refused(interface, mode, error))?;
        // Not a link: the kernel took the older way, which survives a crash. Dropped, it is off.
        let link = FdLink::try_from(link)
            .map_err(|_| AttachError::NoLink { interface: interface.to_owned() })?;
        let netlink::Link { programs, is_veth } = netlink::link(interface).unwrap_or_default();
        let id = programs.into_iter().find_map(|(of, id)| (of == mode).then_some(id));
        Ok(Attachment { interface: interface.to_owned(), mode, id, is_veth, _link: link })
    }
}

/// The XDP programs that an interface has, whoever attached them: one a mode at most.
///
/// # Errors
/// When there is no such interface or the kernel does not answer.
pub fn attached_programs(interface: &str) -> Result<Vec<ForeignProgram>, AttachError> {
    let link = netlink::link(interface).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => unknown(interface),
        _ if source.raw_os_error() == Some(ENODEV) => unknown(interface),
        _ => AttachError::Other {
            interface: interface.to_owned(),
            source: Box::new(ProgramError::IOError(source)),
        },
    })?;
    let foreign = |(mode, id)| ForeignProgram { id, mode, name: name_of(id) };
    Ok(link.programs.into_iter().map(foreign).collect())
}

fn name_of(id: u32) -> Option<String> {
    let named = loaded_programs().filter_map(Result::ok).find(|program| program.id() == id)?;
    named.name_as_str().map(str::to_owned)
}

fn first(interface: &str) -> Option<ForeignProgram> {
    attached_programs(interface).ok()?.into_iter().next()
}

fn unknown(interface: &str) -> AttachError {
    AttachError::UnknownInterface { interface: interface.to_owned() }
}

fn refused(interface: &str, mode: Mode, error: ProgramError) -> AttachError {
    let interface = interface.to_owned();
    match system_error(&error).and_then(io::Error::raw_os_error) {
        Some(code @ (EOPNOTSUPP | EINVAL | E2BIG | ERANGE)) => {
            let source = io::Error::from_raw_os_error(code);
            AttachError::Unsupported { interface, mode, source }
        }
        Some(EPERM) => AttachError::NotPermitted { interface },
        // Attached by somebody else since we looked.
        Some(EBUSY | EEXIST) if let Some(program) = first(&interface) => {
            AttachError::Occupied { interface, program }
        }
        _ => AttachError::Other { interface, source: Box::new(error) },
    }
}

const EPERM: i32 = 1;
const E2BIG: i32 = 7;
const EBUSY: i32 = 16;
const EEXIST: i32 = 17;
const ENODEV: i32 = 19;
const EINVAL: i32 = 22;
const ERANGE: i32 = 34;
const EOPNOTSUPP: i32 = 95;
