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
    /// Worker threads; `None`: one for each core this process may use.
    pub workers: Option<usize>,
    /// Connections that this host opens to others, a UDP port each. Default 0: none.
    pub connections: usize,
    /// Files that are open at once in all. Default 0: not judged.
    pub open_files: usize,
    /// Whether io_uring was asked for by name, so that epoll will not do. Default no.
    pub uring: bool,
    /// Bytes of each socket's receive and send queue. Default 0: not judged.
    pub socket_buffer_bytes: usize,
}
