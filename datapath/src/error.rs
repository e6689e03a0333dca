//! error says what the kernel refused and what the operator can do about it.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// A backend cannot be set up on this machine.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// A system call that every backend needs was refused.
    #[error("{call} was refused: {source}; {}", remedy(source))]
    Call {
        /// The system call.
        call: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// io_uring is switched off, filtered away or too old here.
    #[error("io_uring cannot be used: {step} was refused: {source}; {}", uring_remedy(source))]
    Uring {
        /// What was tried.
        step: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel's io_uring lacks an operation.
    #[error("io_uring cannot be used: this kernel lacks {name}; use Linux 6.1 or later, or epoll")]
    Operation {
        /// Name of the operation.
        name: &'static str,
    },
    /// The number of receive buffers is no power of two.
    #[error(
        "{given} receive buffers are not possible; use a power of two from 1 to 32768, such as {}",
        given.clamp(&1, &32_768).checked_next_power_of_two().unwrap_or(32_768)
    )]
    RecvBuffers {
        /// What was asked for.
        given: u16,
    },
}

impl SetupError {
    pub(crate) fn call(call: &'static str, source: io::Error) -> Self {
        Self::Call { call, source }
    }

    pub(crate) fn uring(step: &'static str, source: io::Error) -> Self {
        Self::Uring { step, source }
    }
}

/// A socket cannot be opened, configured or watched.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The address family is not available or the process is out of descriptors.
    #[error("cannot open a UDP socket for {address}: {source}; {}", remedy(source))]
    Open {
        /// Where it was meant to be bound.
        address: SocketAddr,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The address is taken, foreign or reserved.
    #[error("cannot bind UDP {address}: {source}; {}", bind_remedy(source))]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel answered.
        source: io::Error,
    },
    /// There is no way to the peer.
    #[error("cannot reach UDP {peer}: {source}; {}", connect_remedy(source))]
    Connect {
        /// The one peer of the socket.
        peer: SocketAddr,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A socket option that correct operation needs was refused.
    #[error("cannot set {option}: {source}; {}", remedy(source))]
    Option {
        /// Name of the option.
        option: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The bound socket does not tell its address.
    #[error("cannot read the local address of a socket: {source}; {}", remedy(source))]
    Address {
        /// What the kernel answered.
        source: io::Error,
    },
    /// A classic BPF program was refused.
    #[error(
        "cannot attach {option} with {instructions} instructions: {source}; {}",
        remedy(source)
    )]
    Program {
        /// Name of the option.
        option: &'static str,
        /// Length of the program.
        instructions: usize,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The backend cannot watch the socket.
    #[error("cannot watch a socket with {call}: {source}; {}", remedy(source))]
    Watch {
        /// The system call.
        call: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The backend ran out of ids for sockets.
    #[error("a worker holds at most {limit} sockets; start more workers")]
    TooMany {
        /// The most sockets one datapath can hold.
        limit: u32,
    },
}

/// A wait failed in a way the worker cannot survive.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WaitError {
    /// The kernel refuses to wait.
    #[error("{call} was refused: {source}; {}", remedy(source))]
    Call {
        /// The system call.
        call: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl WaitError {
    pub(crate) fn call(call: &'static str, source: io::Error) -> Self {
        Self::Call { call, source }
    }
}

/// What a person can do about an error of a socket or descriptor call.
fn remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => "choose another port or stop its owner (see `ss -lnup`)",
        Some(libc::EADDRNOTAVAIL) => "no interface has this address (see `ip address`)",
        Some(libc::EACCES) => {
            "ports below 1024 need CAP_NET_BIND_SERVICE or \
             `sysctl -w net.ipv4.ip_unprivileged_port_start=0`"
        }
        Some(libc::EPERM) => "run with the missing capability or relax the seccomp policy",
        Some(libc::EAFNOSUPPORT) => "this host has the address family switched off",
        Some(libc::EMFILE) => "raise the limit of open files (`ulimit -n`)",
        Some(libc::ENFILE) => "raise `sysctl fs.file-max`",
        Some(libc::ENOSPC) => "raise `sysctl fs.epoll.max_user_watches`",
        Some(libc::ENOMEM | libc::ENOBUFS) => {
            "free memory, or raise `sysctl net.core.optmem_max` or the limit of the cgroup"
        }
        Some(libc::ENOPROTOOPT | libc::ENOSYS) => "use a newer kernel: 6.1 or later is tested",
        _ => "please report it with the output of `uname -a`",
    }
}

/// What a person can do when an address cannot be had.
fn bind_remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EINVAL) => "a link-local address needs its interface, as in [fe80::1%eth0]:443",
        _ => remedy(source),
    }
}

/// What a person can do when a peer cannot even be sent to.
fn connect_remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EINVAL) => bind_remedy(source),
        Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EADDRNOTAVAIL) => {
            "no route leads there from the local address (see `ip route get`)"
        }
        Some(libc::EACCES) => "a broadcast address is nobody's own",
        _ => remedy(source),
    }
}

/// What a person can do to get io_uring.
fn uring_remedy(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "allow io_uring in the seccomp profile of the container, or `sysctl -w \
             kernel.io_uring_disabled=0`"
        }
        Some(libc::ENOSYS) => {
            "use a kernel built with CONFIG_IO_URING, 6.1 or later, or allow io_uring in the \
             seccomp profile of the sandbox"
        }
        Some(libc::ENOMEM) => "raise RLIMIT_MEMLOCK (`ulimit -l`) or the memory of the cgroup",
        Some(libc::EINVAL) => "use Linux 6.1 or later: DEFER_TASKRUN is since 6.1",
        _ => remedy(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_names_the_value_and_ends_with_the_remedy() {
        let address = "192.0.2.1:443".parse().unwrap();
        let source = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
        let text = SocketError::Bind { address, source }.to_string();
        assert!(text.contains("192.0.2.1:443"), "{text}");
        let peer = "[fe80::1]:443".parse().unwrap();
        let source = io::Error::from_raw_os_error(libc::EINVAL);
        let without_interface = SocketError::Connect { peer, source }.to_string();
        assert!(without_interface.contains("[fe80::1%eth0]"), "{without_interface}");
        assert!(text.ends_with("(see `ip address`)"), "{text}");
    }

    #[test]
    fn every_refusal_of_io_uring_has_its_own_remedy() {
        for (errno, remedy) in [
            (libc::EPERM, "kernel.io_uring_disabled=0"),
            (libc::ENOSYS, "CONFIG_IO_URING"),
            (libc::ENOMEM, "RLIMIT_MEMLOCK"),
            (libc::EINVAL, "since 6.1"),
            (libc::EMFILE, "ulimit -n"),
        ] {
            let source = io::Error::from_raw_os_error(errno);
            let text = SetupError::uring("io_uring_setup", source).to_string();
            assert!(text.contains("io_uring_setup was refused"), "{text}");
            assert!(text.contains(remedy), "{text}");
        }
        let text = SetupError::RecvBuffers { given: 33 }.to_string();
        assert!(text.ends_with("such as 64"), "{text}");
    }
}
