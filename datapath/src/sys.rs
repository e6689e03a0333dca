//! sys makes one system call per function, with borrows where the kernel has pointers.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use libc::{c_int, c_void, socklen_t};

/// A nonblocking eventfd with count 0.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
    own(fd)
}

/// A new epoll instance.
pub(crate) fn epoll() -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
    own(fd)
}

/// Adds, changes or removes (`operation`) what `poll` watches of `fd`.
pub(crate) fn epoll_control(
    poll: BorrowedFd<'_>,
    operation: c_int,
    fd: BorrowedFd<'_>,
    events: u32,
    data: u64,
) -> io::Result<()> {
    let mut event = libc::epoll_event { events, u64: data };
    let (poll, fd) = (poll.as_raw_fd(), fd.as_raw_fd());
    // SAFETY: `event` lives across the call, which reads it only.
    let result = unsafe { libc::epoll_ctl(poll, operation, fd, &raw mut event) };
    check(result).map(|_| ())
}

/// Waits for events with a resolution of nanoseconds. Linux 5.11.
pub(crate) fn epoll_wait_precise<'e>(
    poll: BorrowedFd<'_>,
    events: &'e mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> io::Result<&'e [libc::epoll_event]> {
    let limit = timeout.map(timespec);
    let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
    let count = c_int::try_from(events.len()).unwrap_or(c_int::MAX);
    let (number, sigmask) = (libc::SYS_epoll_pwait2, ptr::null::<libc::sigset_t>());
    let (poll, first) = (poll.as_raw_fd(), events.as_mut_ptr());
    // SAFETY: at most `count` events are written to `events`; `limit` and a null signal mask of
    // size 0 are only read, and all live across the call.
    let found = unsafe { libc::syscall(number, poll, first, count, limit, sigmask, 0usize) };
    let found = if found < 0 {
        return Err(io::Error::last_os_error());
    } else {
        found
    };
    Ok(&events[..usize::try_from(found).unwrap_or(0)])
}

/// Waits for events with a resolution of milliseconds, rounded up: never too short.
pub(crate) fn epoll_wait<'e>(
    poll: BorrowedFd<'_>,
    events: &'e mut [libc::epoll_event],
    timeout: Option<Duration>,
) -> io::Result<&'e [libc::epoll_event]> {
    let limit = timeout.map_or(-1, |timeout| {
        let millis = timeout.as_nanos().div_ceil(1_000_000);
        c_int::try_from(millis).unwrap_or(c_int::MAX)
    });
    let count = c_int::try_from(events.len()).unwrap_or(c_int::MAX);
    let (poll, first) = (poll.as_raw_fd(), events.as_mut_ptr());
    // SAFETY: at most `count` events are written to `events`, which lives across the call.
    let found = unsafe { libc::epoll_wait(poll, first, count, limit) };
    check(found).map(|found| &events[..found])
}

/// Receives as many messages as there are headers and data, without waiting.
///
/// # Safety
/// Every pointer in `headers` must be valid for writes of the length beside it.
pub(crate) unsafe fn recvmmsg(
    fd: BorrowedFd<'_>,
    headers: &mut [libc::mmsghdr],
) -> io::Result<usize> {
    let count = u32::try_from(headers.len()).unwrap_or(u32::MAX);
    let (fd, first) = (fd.as_raw_fd(), headers.as_mut_ptr());
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: `headers` holds `count` headers, valid by the contract of this function.
    let received = unsafe { libc::recvmmsg(fd, first, count, flags as _, ptr::null_mut()) };
    check(received)
}

/// Sends messages in order, without waiting; says how many left.
///
/// # Safety
/// Every pointer in `headers` must be valid for reads of the length beside it.
pub(crate) unsafe fn sendmmsg(
    fd: BorrowedFd<'_>,
    headers: &mut [libc::mmsghdr],
) -> io::Result<usize> {
    let count = u32::try_from(headers.len()).unwrap_or(u32::MAX);
    let (fd, first) = (fd.as_raw_fd(), headers.as_mut_ptr());
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: `headers` holds `count` headers, valid by the contract of this function.
    let sent = unsafe { libc::sendmmsg(fd, first, count, flags as _) };
    check(sent)
}

/// Sets an option that the kernel reads as the bytes of `value`.
pub(crate) fn set_option<T: Copy>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    let bytes = socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    let (fd, value) = (fd.as_raw_fd(), ptr::from_ref(value).cast::<c_void>());
    // SAFETY: `value` is valid for reads of `bytes` and lives across the call.
    let result = unsafe { libc::setsockopt(fd, level, name, value, bytes) };
    check(result).map(|_| ())
}

/// Attaches a classic BPF program by one of the `SO_ATTACH_*` options.
pub(crate) fn attach(
    fd: BorrowedFd<'_>,
    name: c_int,
    program: &mut [libc::sock_filter],
) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    set_option(fd, libc::SOL_SOCKET, name, &program)
}

/// Reads an option that is an integer.
pub(crate) fn option(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<c_int> {
    let mut value: c_int = 0;
    let mut bytes = socklen_t::try_from(size_of::<c_int>()).unwrap_or(0);
    let (fd, into) = (fd.as_raw_fd(), (&raw mut value).cast::<c_void>());
    // SAFETY: `into` is valid for writes of `bytes`, and both live across the call.
    let result = unsafe { libc::getsockopt(fd, level, name, into, &raw mut bytes) };
    check(result).map(|_| value)
}

/// A message header that points to nothing.
pub(crate) fn empty_header() -> libc::msghdr {
    // SAFETY: a msghdr is integers and raw pointers, for which zero is a value. It cannot be
    // written out, some targets have private padding in it.
    unsafe { mem::zeroed() }
}

/// A timeout the kernel can add to its clock; a year and more is no limit.
pub(crate) fn finite(timeout: Option<Duration>) -> Option<Duration> {
    timeout.filter(|timeout| timeout.as_secs() < 365 * 24 * 3_600)
}

/// A duration as the kernel wants it.
pub(crate) fn timespec(duration: Duration) -> libc::timespec {
    let tv_sec = libc::time_t::try_from(duration.as_secs()).unwrap_or(libc::time_t::MAX);
    libc::timespec { tv_sec, tv_nsec: duration.subsec_nanos().into() }
}

fn own(fd: c_int) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the kernel just handed this descriptor out and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(result: c_int) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
