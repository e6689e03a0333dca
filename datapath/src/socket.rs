//! socket opens UDP sockets with every option the engine relies on.
//!
//! What correctness needs (ECN, local address, no fragmentation) must be granted; what is only fast
//! (GRO, big buffers) may be refused and is then readable.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use libc::c_int;
use socket2::{Domain, Protocol, Type};

use crate::address::Family;
use crate::error::SocketError;
use crate::sys;

/// What a socket is opened with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SocketOptions {
    /// Share the address with other sockets of this user (SO_REUSEPORT): one per worker. Default
    /// off, because a second process could silently join.
    pub reuseport: bool,
    /// Let the kernel merge datagrams of one sender into trains (UDP_GRO). Default on; off only to
    /// measure what it is worth.
    pub gro: bool,
    /// Bytes of the receive queue, as the kernel accounts them (a 1,200 B datagram costs about
    /// 2,300). Default 4 MiB, about 1,800 datagrams: 18 ms at 100,000/s. More survives longer
    /// stalls and adds latency, less drops bursts.
    pub recv_buffer_bytes: usize,
    /// Bytes of the send queue. Default 4 MiB: the network card's queue is the limit, not this.
    pub send_buffer_bytes: usize,
    /// Datagrams with a payload shorter than this are dropped by the kernel (SO_ATTACH_FILTER).
    /// Default 0: none. No QUIC packet is shorter than 21 bytes, and every empty datagram ends an
    /// io_uring multishot receive, so servers want 21.
    pub drop_shorter_than: usize,
    /// Whether an IPv6 socket also serves IPv4 peers. Default on. Set explicitly either way, so
    /// that `sysctl net.ipv6.bindv6only` does not matter.
    pub dual_stack: bool,
    /// The one peer of the socket. Default none: it serves everybody. With one the kernel drops
    /// what others send, and tells when nothing listens there: see
    /// [`Datapath::refused`](crate::Datapath::refused).
    pub peer: Option<SocketAddr>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            reuseport: false,
            gro: true,
            recv_buffer_bytes: 4 << 20,
            send_buffer_bytes: 4 << 20,
            drop_shorter_than: 0,
            dual_stack: true,
            peer: None,
        }
    }
}

/// One instruction of a classic BPF program, as plain data. See `linux/filter.h`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FilterInstruction {
    /// Operation, `BPF_LD | BPF_B | BPF_ABS` and so on.
    pub code: u16,
    /// Instructions to skip when a condition holds.
    pub jump_true: u8,
    /// Instructions to skip when it does not.
    pub jump_false: u8,
    /// Operand.
    pub value: u32,
}

/// A bound UDP socket that nobody watches yet.
///
/// Sockets of one reuseport group get their index in the order they are bound, so they are made
/// one after another and then moved to their workers.
#[derive(Debug)]
pub struct Socket {
    inner: socket2::Socket,
    local: SocketAddr,
    gro: bool,
    recv_buffer_bytes: usize,
    send_buffer_bytes: usize,
}

impl Socket {
    /// Opens a socket and binds it. Port 0 lets the kernel choose.
    ///
    /// # Errors
    /// When the address cannot be had or the kernel refuses an option that correctness needs.
    pub fn bind(address: SocketAddr, options: &SocketOptions) -> Result<Self, SocketError> {
        let SocketOptions { reuseport, gro, dual_stack, .. } = *options;
        let family = Family::of(address);
        let kind = Type::DGRAM.nonblocking();
        let inner = socket2::Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))
            .map_err(|source| SocketError::Open { address, source })?;
        if family == Family::V6 {
            require("IPV6_V6ONLY", inner.set_only_v6(!dual_stack))?;
        }
        if reuseport {
            require("SO_REUSEPORT", inner.set_reuse_port(true))?;
        }
        match family {
            Family::V4 => set_all(inner.as_fd(), &[OPTIONS_V4, &[PKTINFO_V4]])?,
            Family::V6 if dual_stack => set_all(inner.as_fd(), &[OPTIONS_V4, OPTIONS_V6])?,
            Family::V6 => set_all(inner.as_fd(), &[OPTIONS_V6])?,
        }
        let gro = gro && sys::set_option(inner.as_fd(), libc::SOL_UDP, libc::UDP_GRO, &1).is_ok();
        let recv_buffer_bytes = buffer(inner.as_fd(), &RECV_BUFFER, options.recv_buffer_bytes)?;
        let send_buffer_bytes = buffer(inner.as_fd(), &SEND_BUFFER, options.send_buffer_bytes)?;
        // Only a counter is lost without it: the kernel then does not tell what it dropped.
        let _ = sys::set_option(inner.as_fd(), libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &1);
        if options.drop_shorter_than > 0 {
            // Before bind: not one short datagram may slip in.
            attach_length_filter(inner.as_fd(), options.drop_shorter_than)?;
        }
        inner.bind(&address.into()).map_err(|source| SocketError::Bind { address, source })?;
        let local = inner.local_addr().map_err(|source| SocketError::Address { source })?;
        let local = local.as_socket().ok_or_else(|| SocketError::Address {
            source: io::Error::from_raw_os_error(libc::EAFNOSUPPORT),
        })?;
        if let Some(peer) = options.peer {
            let fail = |source| SocketError::Connect { peer, source };
            inner.connect(&family.mapped(peer).into()).map_err(fail)?;
        }
        Ok(Self { inner, local, gro, recv_buffer_bytes, send_buffer_bytes })
    }

    /// Where it is bound, with the port the kernel chose.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Whether the kernel merges datagrams into trains.
    #[must_use]
    pub fn gro(&self) -> bool {
        self.gro
    }

    /// Bytes of the receive queue that were obtained. Without CAP_NET_ADMIN the kernel stops at
    /// `sysctl net.core.rmem_max`.
    #[must_use]
    pub fn recv_buffer_bytes(&self) -> usize {
        self.recv_buffer_bytes
    }

    /// Bytes of the send queue that were obtained, limited by `sysctl net.core.wmem_max`.
    #[must_use]
    pub fn send_buffer_bytes(&self) -> usize {
        self.send_buffer_bytes
    }

    /// Lets a classic BPF program choose the socket of the whole reuseport group by returning its
    /// index. Offsets in the program start at the UDP payload. Needs no privilege.
    ///
    /// # Errors
    /// When the program is invalid or the socket is in no reuseport group.
    pub fn attach_reuseport_cbpf(&self, program: &[FilterInstruction]) -> Result<(), SocketError> {
        let option = ("SO_ATTACH_REUSEPORT_CBPF", libc::SO_ATTACH_REUSEPORT_CBPF);
        attach(self.as_fd(), option, program)
    }

    /// What the socket speaks, whatever its peers are.
    pub(crate) fn family(&self) -> Family {
        Family::of(self.local)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

/// Name, level, number and value of an option.
type Setting = (&'static str, c_int, c_int, c_int);

/// For IPv4 peers, on sockets of either family. Errors from ICMP stay off: one "port unreachable"
/// about some other peer would end a multishot receive. A socket with one peer gets them anyway.
const OPTIONS_V4: &[Setting] = &[
    ("IP_MTU_DISCOVER", libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
    ("IP_RECVTOS", libc::IPPROTO_IP, libc::IP_RECVTOS, 1),
    ("IP_RECVERR", libc::IPPROTO_IP, libc::IP_RECVERR, 0),
];

/// For IPv4 sockets. An IPv6 socket tells IPv4 targets too, by IPV6_RECVPKTINFO.
const PKTINFO_V4: Setting = ("IP_PKTINFO", libc::IPPROTO_IP, libc::IP_PKTINFO, 1);

/// For IPv6 peers.
const OPTIONS_V6: &[Setting] = &[
    ("IPV6_MTU_DISCOVER", libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
    ("IPV6_RECVTCLASS", libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1),
    ("IPV6_RECVPKTINFO", libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
    ("IPV6_RECVERR", libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 0),
];

fn set_all(fd: BorrowedFd<'_>, settings: &[&[Setting]]) -> Result<(), SocketError> {
    for (option, level, name, value) in settings.iter().copied().flatten() {
        require(option, sys::set_option(fd, *level, *name, value))?;
    }
    Ok(())
}

fn require(option: &'static str, result: io::Result<()>) -> Result<(), SocketError> {
    result.map_err(|source| SocketError::Option { option, source })
}

/// The privileged option without a limit, the plain one, and the plain one's name.
struct Buffer {
    force: c_int,
    plain: c_int,
    option: &'static str,
}

const RECV_BUFFER: Buffer =
    Buffer { force: libc::SO_RCVBUFFORCE, plain: libc::SO_RCVBUF, option: "SO_RCVBUF" };
const SEND_BUFFER: Buffer =
    Buffer { force: libc::SO_SNDBUFFORCE, plain: libc::SO_SNDBUF, option: "SO_SNDBUF" };

/// Sets the size of a queue as far as allowed and returns what was obtained.
fn buffer(fd: BorrowedFd<'_>, buffer: &Buffer, bytes: usize) -> Result<usize, SocketError> {
    let Buffer { force, plain, option } = *buffer;
    // The kernel doubles the value for its own bookkeeping.
    let wanted = c_int::try_from(bytes).unwrap_or(c_int::MAX).min(c_int::MAX / 2);
    if sys::set_option(fd, libc::SOL_SOCKET, force, &wanted).is_err() {
        require(option, sys::set_option(fd, libc::SOL_SOCKET, plain, &wanted))?;
    }
    let obtained = sys::option(fd, libc::SOL_SOCKET, plain)
        .map_err(|source| SocketError::Option { option, source })?;
    Ok(usize::try_from(obtained / 2).unwrap_or(0))
}

/// Keeps only datagrams whose payload has at least `payload_bytes`.
fn attach_length_filter(fd: BorrowedFd<'_>, payload_bytes: usize) -> Result<(), SocketError> {
    let packet_bytes = payload_bytes.saturating_add(UDP_HEADER_BYTES);
    let value = u32::try_from(packet_bytes).unwrap_or(u32::MAX);
    let program = [
        FilterInstruction { code: LOAD_LENGTH, jump_true: 0, jump_false: 0, value: 0 },
        FilterInstruction { code: JUMP_IF_AT_LEAST, jump_true: 0, jump_false: 1, value },
        FilterInstruction { code: RETURN, jump_true: 0, jump_false: 0, value: u32::MAX },
        FilterInstruction { code: RETURN, jump_true: 0, jump_false: 0, value: 0 },
    ];
    attach(fd, ("SO_ATTACH_FILTER", libc::SO_ATTACH_FILTER), &program)
}

fn attach(
    fd: BorrowedFd<'_>,
    (option, name): (&'static str, c_int),
    program: &[FilterInstruction],
) -> Result<(), SocketError> {
    let mut filter: Vec<_> = program
        .iter()
        .map(|instruction| {
            let FilterInstruction { code, jump_true, jump_false, value } = *instruction;
            libc::sock_filter { code, jt: jump_true, jf: jump_false, k: value }
        })
        .collect();
    sys::attach(fd, name, &mut filter).map_err(|source| {
        let instructions = program.len();
        SocketError::Program { option, instructions, source }
    })
}

const UDP_HEADER_BYTES: usize = 8;
/// BPF_LD | BPF_W | BPF_LEN: bytes of the packet from its UDP header on.
const LOAD_LENGTH: u16 = 0x80;
/// BPF_JMP | BPF_JGE | BPF_K
const JUMP_IF_AT_LEAST: u16 = 0x35;
/// BPF_RET | BPF_K: bytes of the packet to keep.
const RETURN: u16 = 0x06;

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(text: &str) -> Socket {
        Socket::bind(text.parse().unwrap(), &SocketOptions::default()).unwrap()
    }

    #[test]
    fn both_families_forbid_fragmentation_and_leave_icmp_errors_off() {
        let (v4, v6) = (loopback("127.0.0.1:0"), loopback("[::1]:0"));
        for (socket, settings) in [(&v4, OPTIONS_V4), (&v6, OPTIONS_V4), (&v6, OPTIONS_V6)] {
            for (option, level, name, value) in settings {
                let now = sys::option(socket.as_fd(), *level, *name).unwrap();
                assert_eq!(now, *value, "{option}");
            }
        }
    }

    #[test]
    fn dual_stack_is_explicit() {
        for dual_stack in [true, false] {
            let options = SocketOptions { dual_stack, ..SocketOptions::default() };
            let socket = Socket::bind("[::]:0".parse().unwrap(), &options).unwrap();
            assert_eq!(socket.inner.only_v6().unwrap(), !dual_stack);
        }
    }

    #[test]
    fn obtained_buffers_are_readable() {
        let options = SocketOptions {
            recv_buffer_bytes: 128 << 10,
            send_buffer_bytes: 64 << 10,
            ..SocketOptions::default()
        };
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        assert_eq!(socket.recv_buffer_bytes(), 128 << 10);
        assert_eq!(socket.send_buffer_bytes(), 64 << 10);
        assert!(socket.gro());
    }

    #[test]
    fn a_taken_port_is_named_with_the_remedy() {
        let first = loopback("127.0.0.1:0");
        let second = Socket::bind(first.local_addr(), &SocketOptions::default());
        let text = second.unwrap_err().to_string();
        assert!(text.contains(&first.local_addr().to_string()), "{text}");
        assert!(text.contains("choose another port"), "{text}");
    }

    #[test]
    fn an_invalid_program_is_refused() {
        let socket = loopback("127.0.0.1:0");
        let text = socket.attach_reuseport_cbpf(&[]).unwrap_err().to_string();
        assert!(text.contains("SO_ATTACH_REUSEPORT_CBPF with 0 instructions"), "{text}");
    }

    const fn assert_send<T: Send>() {}
    const _: () = assert_send::<Socket>();
}
