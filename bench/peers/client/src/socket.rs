//! The one UDP socket: whole bursts in (recvmmsg and GRO), whole bursts out (GSO).
//!
//! In: what quinn-proto wants sent. Out: receive buffers of equally long datagrams.
//! Invariant: nothing is dropped here in silence; a kernel that takes GSO away ends the run.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use quinn_udp::{EcnCodepoint, RecvMeta, Transmit, UdpSocketState};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockAddr, Socket as RawSocket, Type};

/// Datagrams in one send, the most of 1452 bytes that fit into the 64 KiB of one GSO message.
pub(crate) const SEND_SEGMENTS_MAX: usize = 44;

/// A non-blocking socket with the buffers to empty it into.
pub(crate) struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<u8>,
    metas: [RecvMeta; RECV_MESSAGES],
    filled: usize,
}

/// One receive buffer: datagrams of `stride` bytes each, the last one perhaps shorter.
pub(crate) struct Burst<'a> {
    pub(crate) from: SocketAddr,
    pub(crate) ecn: Option<quinn_proto::EcnCodepoint>,
    pub(crate) stride: usize,
    pub(crate) bytes: &'a [u8],
}

impl Socket {
    /// Binds a port of the kernel's choice on loopback.
    pub(crate) fn bind(server: SocketAddr) -> Result<Self> {
        ensure!(server.ip().is_loopback(), "{server} is not on loopback");
        let socket = RawSocket::new(Domain::for_address(server), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES)?;
        socket.set_send_buffer_size(SOCKET_BUFFER_BYTES)?;
        // Linux reports twice what was granted: it counts its own bookkeeping in.
        let got = socket.recv_buffer_size()?.min(socket.send_buffer_size()?) / 2;
        ensure!(
            got >= SOCKET_BUFFER_BYTES,
            "the host allows socket buffers of {got} bytes only; try sysctl -w \
             net.core.rmem_max={SOCKET_BUFFER_BYTES} net.core.wmem_max={SOCKET_BUFFER_BYTES}"
        );
        let local = SocketAddr::new(server.ip(), 0);
        socket.bind(&SockAddr::from(local)).with_context(|| format!("cannot bind {local}"))?;
        let socket = UdpSocket::from(socket);
        let state = UdpSocketState::new((&socket).into()).context("cannot prepare the socket")?;
        ensure!(
            state.max_gso_segments() >= SEND_SEGMENTS_MAX && state.gro_segments() > 1,
            "this kernel has no UDP GSO and GRO; Linux 5.0 or later has"
        );
        let buffers = vec![0; RECV_MESSAGES * RECV_MESSAGE_BYTES];
        Ok(Self { socket, state, buffers, metas: [RecvMeta::default(); RECV_MESSAGES], filled: 0 })
    }

    /// Takes what is there, without waiting, and says how many bursts that is.
    pub(crate) fn receive(&mut self) -> Result<usize> {
        let mut chunks = self.buffers.chunks_exact_mut(RECV_MESSAGE_BYTES);
        let mut slices: [IoSliceMut<'_>; RECV_MESSAGES] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        self.filled = match self.state.recv((&self.socket).into(), &mut slices, &mut self.metas) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error).context("cannot receive"),
        };
        Ok(self.filled)
    }

    /// The bursts of the last [`receive`](Self::receive).
    pub(crate) fn bursts(&self) -> impl Iterator<Item = Burst<'_>> {
        let filled = self.metas.iter().zip(self.buffers.chunks_exact(RECV_MESSAGE_BYTES));
        filled.take(self.filled).map(|(meta, buffer)| Burst {
            from: meta.addr,
            ecn: meta.ecn.and_then(|ecn| quinn_proto::EcnCodepoint::from_bits(ecn as u8)),
            stride: meta.stride.max(1),
            bytes: &buffer[..meta.len],
        })
    }

    /// Sends what quinn-proto wrote to `contents`. Loopback hands datagrams over at once, so the
    /// send buffer never fills; should it, waiting right here is the simplest truth.
    pub(crate) fn send(&self, transmit: &quinn_proto::Transmit, contents: &[u8]) -> Result<()> {
        let transmit = Transmit {
            destination: transmit.destination,
            ecn: transmit.ecn.and_then(|ecn| EcnCodepoint::from_bits(ecn as u8)),
            contents: &contents[..transmit.size],
            segment_size: transmit.segment_size,
            src_ip: transmit.src_ip,
        };
        loop {
            match self.state.try_send((&self.socket).into(), &transmit) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT, None)?;
                }
                Err(error) if transmit.segment_size.is_some() => {
                    bail!("cannot send a GSO burst to {}: {error}", transmit.destination);
                }
                Err(error) => bail!("cannot send to {}: {error}", transmit.destination),
            }
        }
    }

    /// Sleeps until something arrives, at most until `deadline`.
    pub(crate) fn wait_readable(&self, deadline: Option<Instant>) -> Result<()> {
        let timeout = deadline.map(|at| at.saturating_duration_since(Instant::now()));
        self.wait(PollFlags::IN, timeout)
    }

    fn wait(&self, flags: PollFlags, timeout: Option<Duration>) -> Result<()> {
        // ppoll, not epoll: the pacer's timers are shorter than epoll_wait's millisecond.
        let timeout = timeout.map(Timespec::try_from).transpose().context("timeout too long")?;
        match poll(&mut [PollFd::new(&self.socket, flags)], timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("cannot wait for the socket"),
        }
    }
}

/// Bursts taken in one go. Fewer means more system calls; many more and a whole round of
/// handshakes is answered before the first reply leaves, so that client and server take turns
/// being idle.
const RECV_MESSAGES: usize = 8;

/// The most that GRO joins into one receive.
const RECV_MESSAGE_BYTES: usize = 64 << 10;

/// As large as the servers' buffers.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;
