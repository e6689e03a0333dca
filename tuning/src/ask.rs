//! ask is what somebody wants to run, as far as the host has a say in it.

use std::net::SocketAddr;

/// What the host is judged against.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Ask {
    /// Addresses to listen on; each is bound for a moment. Default none.
    pub listen: Vec<SocketAddr>,
    /// Interfaces that packets arrive on. Default (empty): the owners of `listen`; for wildcards
    /// and without addresses every interface that is up except loopback.
    pub interfaces: Vec<String>,
    /// The rung of the steering ladder that was asked for by name, so that no other one will do.
    /// Default none: the best one that works.
    pub steering: Option<Rung>,
    /// Whether XDP is to move frames to the core of their worker. Default no.
    pub redirect: bool,
    /// Worker threads; `None`: one for each of `cores`, else for each core this process may use.
    pub workers: Option<usize>,
    /// Cores to pin the workers to, in worker order. Default (empty): those this process may use,
    /// if there are enough.
    pub cores: Vec<usize>,
    /// Connections that this host opens to others, a UDP port each. Default 0: none.
    pub connections: usize,
    /// Files that the load generator has open at once for them. Default 0: it is not to run.
    pub load_files: usize,
    /// Whether io_uring was asked for by name, so that epoll will not do. Default no.
    pub uring: bool,
    /// Bytes of each socket's receive and send queue. Default 0: not judged.
    pub socket_buffer_bytes: usize,
}

impl Ask {
    /// How many workers a server starts if it may use the cores in `allowed`.
    pub(crate) fn workers_on(&self, allowed: &[usize]) -> usize {
        match (self.workers, self.cores.len()) {
            (Some(workers), _) => workers,
            (None, 0) => allowed.len().clamp(1, WORKERS_MAX),
            (None, cores) => cores,
        }
    }

    /// Whether XDP is taken if the host allows it.
    pub(crate) fn may_take_xdp(&self) -> bool {
        self.steering.is_none_or(Rung::is_xdp)
    }
}

/// The engine's: one byte of the connection ID names the worker, and 255 stays free.
pub(crate) const WORKERS_MAX: usize = 255;

/// A rung of the steering ladder, best first.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Rung {
    /// XDP in the driver.
    Xdp,
    /// XDP in the network stack.
    XdpGeneric,
    /// An eBPF program in front of the sockets.
    Reuseport,
    /// A classic BPF program in front of the sockets.
    Cbpf,
    /// The kernel's hash of addresses and ports.
    Hash,
}

impl Rung {
    /// As `quiclane serve --steering` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
            Self::XdpGeneric => "xdp-generic",
            Self::Reuseport => "reuseport",
            Self::Cbpf => "cbpf",
            Self::Hash => "hash",
        }
    }

    /// Whether programs are put on interfaces.
    pub(crate) const fn is_xdp(self) -> bool {
        matches!(self, Self::Xdp | Self::XdpGeneric)
    }
}
