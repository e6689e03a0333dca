//! listen binds the sockets of a server: one a worker and address, in worker order.

use std::io::ErrorKind;
use std::net::SocketAddr;

use quiclane_datapath::{Socket, SocketError, SocketOptions};

use crate::config::{Limits, ServerConfig};
use crate::error::StartError;

/// The sockets of a server.
pub(crate) struct Bound {
    /// By worker, then by listen address.
    pub(crate) sockets: Vec<Vec<Socket>>,
    /// The listen addresses with their real ports.
    pub(crate) listen: Vec<SocketAddr>,
}

/// Binds one socket a worker and address, in worker order.
pub(crate) fn bind(
    server: &ServerConfig,
    limits: &Limits,
    workers: usize,
) -> Result<Bound, StartError> {
    let options = SocketOptions {
        reuseport: true,
        gro: limits.gro,
        recv_buffer_bytes: limits.socket_buffer_bytes,
        send_buffer_bytes: limits.socket_buffer_bytes,
        drop_shorter_than: quiclane_wire::SHORT_DATAGRAM_LEN_MIN,
        ..SocketOptions::default()
    };
    let mut by_worker: Vec<Vec<Socket>> = (0..workers).map(|_| Vec::new()).collect();
    let mut listen = Vec::new();
    for asked in &server.listen {
        let (address, group) = bind_group(*asked, workers, &options)?;
        listen.push(address);
        for (sockets, socket) in by_worker.iter_mut().zip(group) {
            sockets.push(socket);
        }
    }
    Ok(Bound { sockets: by_worker, listen })
}

/// A socket for each worker, all on one address.
fn bind_group(
    asked: SocketAddr,
    workers: usize,
    options: &SocketOptions,
) -> Result<(SocketAddr, Vec<Socket>), StartError> {
    let mut tries = 0;
    loop {
        let address = reserve(asked, options)?;
        let group = (0..workers).map(|_| Socket::bind(address, options));
        match group.collect::<Result<Vec<_>, _>>() {
            Ok(group) => return Ok((address, group)),
            // Between the two somebody else was given the port, which any other would do for.
            Err(SocketError::Bind { source, .. })
                if source.kind() == ErrorKind::AddrInUse && asked.port() == 0 && tries < 8 =>
            {
                tries += 1;
            }
            Err(source) => return Err(StartError::Listen { address: asked, source }),
        }
    }
}

/// Makes sure that nobody else receives on `address`, and finds a port if it has none.
///
/// A reuseport socket would silently join the group of another server of the same user and take
/// part of its packets, so the address is first bound without the option.
fn reserve(address: SocketAddr, options: &SocketOptions) -> Result<SocketAddr, StartError> {
    let alone = SocketOptions { reuseport: false, ..options.clone() };
    match Socket::bind(address, &alone) {
        Ok(socket) => Ok(socket.local_addr()),
        Err(SocketError::Bind { source, .. }) if source.kind() == ErrorKind::AddrInUse => {
            Err(StartError::InUse(address))
        }
        Err(source) => Err(StartError::Listen { address, source }),
    }
}
