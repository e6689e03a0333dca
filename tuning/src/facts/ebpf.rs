//! ebpf tries whether the kernel takes our programs, and finds those that interfaces have.
//!
//! The real programs are loaded, as a server does it, and the selecting one is put in front of a
//! socket of our own. None gets on an interface, and all are let go at once.

use quiclane_datapath::{Socket, SocketOptions};
use quiclane_ebpf::{AttachError, Capacity, Program, Steering, SteeringError, attached_programs};

use super::files::Unread;
use super::interface::Interfaces;
use super::link::Peer;
use super::trial::ANYWHERE;

/// What the kernel said to each program, with its reason where it said no.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ebpf {
    /// The program for interfaces.
    pub(crate) xdp: Result<Verified, String>,
    /// The program for sockets.
    pub(crate) reuseport: Result<Verified, String>,
}

/// A program that the verifier took.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Verified {
    pub(crate) program: Program,
    /// How many instructions the verifier looked at. Known since Linux 5.16.
    pub(crate) instructions: Option<u32>,
}

impl Ebpf {
    /// Loads the programs of a server with `listeners` addresses.
    pub(super) fn load(listeners: usize) -> Self {
        let listeners = u32::try_from(listeners.max(1)).unwrap_or(u32::MAX);
        match Steering::load(&Capacity { listeners, ..Capacity::default() }) {
            Ok(mut programs) => Self {
                xdp: verify(&mut programs, Program::Steer),
                reuseport: verify(&mut programs, Program::Select)
                    .and_then(|verified| select(&mut programs).map(|()| verified)),
            },
            Err(error) => {
                let why = error.in_short();
                Self { xdp: Err(why.clone()), reuseport: Err(why) }
            }
        }
    }
}

fn verify(programs: &mut Steering, program: Program) -> Result<Verified, String> {
    let instructions = programs.verified_instructions(program);
    let instructions = instructions.map_err(|error| error.in_short())?;
    let copies = program == Program::Steer && programs.copies();
    Ok(Verified { program: if copies { Program::SteerCopied } else { program }, instructions })
}

/// Puts the selecting program in front of a socket that nobody sends to. It leaves with it.
fn select(programs: &mut Steering) -> Result<(), String> {
    let options = SocketOptions { reuseport: true, ..SocketOptions::default() };
    let socket = Socket::bind(ANYWHERE, &options).map_err(|error| error.to_string())?;
    programs.attach_group(&socket).map_err(|error: SteeringError| error.in_short())
}

/// Finds the programs on the chosen interfaces and at the other ends of their cables.
pub(super) fn find_programs(interfaces: &mut Interfaces, unread: &mut Vec<Unread>) {
    let peer = |peer| if let Peer::Here(index) = peer { Some(index) } else { None };
    let targets = interfaces.targets.names.iter().filter_map(|name| interfaces.by_name(name));
    let wanted: Vec<u32> = interfaces
        .present()
        .chain(targets)
        .flat_map(|one| [Some(one.link.index), one.link.peer.and_then(peer)])
        .flatten()
        .collect();
    for interface in &mut interfaces.all {
        let name = &interface.link.name;
        if !wanted.contains(&interface.link.index) {
            continue;
        }
        match attached_programs(name) {
            Ok(programs) => interface.programs = programs,
            // It went away since it was listed.
            Err(AttachError::UnknownInterface { .. }) => {}
            Err(error) => {
                let fact = format!("XDP programs on {name}");
                unread.push(Unread { fact, why: error.to_string() });
            }
        }
    }
    if interfaces.present().flat_map(|one| &one.programs).any(|one| one.name.is_none()) {
        let fact = "names of the attached XDP programs".to_owned();
        unread.push(Unread { fact, why: "asking takes cap_sys_admin".to_owned() });
    }
}
