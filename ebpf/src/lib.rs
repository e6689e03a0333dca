//! ebpf puts every packet on its core and in front of its socket, before user space sees it.
//!
//! Two programs (`program/`, compiled for the kernel and committed as an object) and what belongs
//! to them in user space: the shape of their maps, their loader, their counters. The reading of
//! packets is that of `wire`, compiled for both.
//!
//! ```text
//!   interface ──► Steer (XDP) ──► UDP, GRO ──► Select (SK_REUSEPORT) ──► socket of the worker
//!                  |- drop: junk, forged, over budget   '- hash: no owner, or no socket of it
//!                  |- to the worker's core
//!                  '- pass: everything that is not understood
//! ```
//!
//! Steering is an optimisation. What XDP passes is chosen again by the selecting program, and what
//! that one hashes is tossed to its owner by the workers; each works without the other.
//!
//! ```no_run
//! # fn example(settings: &quiclane_ebpf::Settings, epochs: &quiclane_wire::EpochTable,
//! #     sockets: &[std::net::UdpSocket]) -> Result<(), Box<dyn std::error::Error>> {
//! use quiclane_ebpf::{Capacity, Mode, Program, Steering};
//!
//! let mut steering = Steering::load(&Capacity::default())?;
//! steering.apply(settings)?;
//! steering.set_epochs(epochs)?;
//! let listener = steering.listen("[::]:4433".parse()?, false)?;
//! for (worker, socket) in (0..).zip(sockets) {
//!     steering.set_socket(listener, settings.live_epoch, worker, socket)?;
//! }
//! steering.attach_group(&sockets[0])?;
//! // Gone when it is dropped, and when the process ends in any way.
//! let attachment = steering.attach_interface(Program::Steer, "eth0", Mode::Native)?;
//! # Ok(()) }
//! ```
#![cfg_attr(target_arch = "bpf", no_std)]

mod budget;
pub use budget::{Bucket, Budget};

mod count;
pub use count::{Action, Count, Selection, is_dropped};

mod layout;
pub use layout::{
    ADDRESSES_COMPARED, ANSWER_BUCKET, EpochValue, INITIAL_BUCKET, KeyValue, ListenerKey, NO_CPU,
    PORT_WORDS, PROVEN_BUCKET, PortWord, SHARED_BUCKETS, SOCKETS_OF_LISTENER, SettingsValue,
    socket_key,
};

#[cfg(not(target_arch = "bpf"))]
mod attach;
#[cfg(not(target_arch = "bpf"))]
pub use attach::{Attachment, Mode, attached_programs};

#[cfg(not(target_arch = "bpf"))]
mod error;
#[cfg(not(target_arch = "bpf"))]
pub use error::{AttachError, ForeignProgram, SteeringError};

#[cfg(not(target_arch = "bpf"))]
mod listeners;
#[cfg(not(target_arch = "bpf"))]
pub use listeners::Listener;

#[cfg(not(target_arch = "bpf"))]
mod netlink;

#[cfg(not(target_arch = "bpf"))]
mod runs;
#[cfg(not(target_arch = "bpf"))]
pub use runs::RunTimes;

#[cfg(not(target_arch = "bpf"))]
mod settings;
#[cfg(not(target_arch = "bpf"))]
pub use settings::{Answers, Budgets, Capacity, Settings};

#[cfg(not(target_arch = "bpf"))]
mod steering;
#[cfg(not(target_arch = "bpf"))]
pub use steering::{Program, Steering};

/// The programs, compiled for the kernel: `cargo xtask ebpf` makes them.
#[cfg(not(target_arch = "bpf"))]
pub static OBJECT: &[u8] = aya::include_bytes_aligned!("../object/steer.bpf.o");
