//! steer decides which worker's socket the kernel gives a packet to.
//!
//! Steering is an optimisation: `route` looks at every datagram and tosses strays, so every rung
//! of the ladder is correct. A rung is chosen once, at start.

mod cbpf;

use quiclane_datapath::{Socket, SocketError};
use quiclane_wire::Layout;

use crate::config::Steering;

/// A rung of the ladder; never "auto".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rung {
    Cbpf,
    Hash,
}

impl Rung {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cbpf => "cbpf",
            Self::Hash => "hash",
        }
    }
}

/// Applies the choice to the reuseport group of one listen address, whose `sockets` are bound in
/// worker order. Returns the rung and, if it is not the best, the reason.
///
/// # Errors
/// When a rung was asked for by name and the kernel refuses it.
pub(crate) fn steer(
    choice: Steering,
    sockets: &[Socket],
    layout: &Layout,
) -> Result<(Rung, Option<String>), SocketError> {
    let Some(first) = sockets.first() else { return Ok((Rung::Hash, None)) };
    match choice {
        Steering::Hash => Ok((Rung::Hash, Some("cbpf: not asked for".into()))),
        Steering::Cbpf => {
            first.attach_reuseport_cbpf(&cbpf::program(layout))?;
            Ok((Rung::Cbpf, None))
        }
        // Nothing to choose from: that is no step down.
        Steering::Auto if sockets.len() == 1 => Ok((Rung::Hash, None)),
        Steering::Auto => match first.attach_reuseport_cbpf(&cbpf::program(layout)) {
            Ok(()) => Ok((Rung::Cbpf, None)),
            Err(error) => Ok((Rung::Hash, Some(format!("cbpf: {error}")))),
        },
    }
}
