//! gso knows how many datagrams one send may carry.

use std::net::UdpSocket;
use std::os::fd::AsFd;
use std::sync::OnceLock;

use libc::c_int;

use crate::address::{Family, Name};
use crate::cmsg::Control;
use crate::sys;

/// Bytes that fit one send over IPv4: 65,535 less the IP and UDP headers. IPv6 has 20 more, which
/// is not worth a second number.
const TRAIN_BYTES: usize = 65_507;

/// Segments per send that every kernel with GSO takes.
const SEGMENTS_OLD: usize = 64;
/// Segments per send that newer kernels take (6.18 does, 129 is EINVAL).
const SEGMENTS_NEW: usize = 128;

/// Whether trains may leave whole, per datapath and per socket.
///
/// A route without checksum offload refuses trains although the kernel as a whole can do them, so
/// GSO is switched off socket by socket. Only when it is off for all of them callers are told.
#[derive(Debug)]
pub(crate) struct Gso {
    segments: usize,
    sockets: usize,
    sockets_off: usize,
}

impl Gso {
    pub(crate) fn new() -> Self {
        static SEGMENTS: OnceLock<usize> = OnceLock::new();
        Self::with_segments(*SEGMENTS.get_or_init(probe))
    }

    pub(crate) fn with_segments(segments: usize) -> Self {
        Self { segments, sockets: 0, sockets_off: 0 }
    }

    /// From now on trains have at most `most` datagrams.
    pub(crate) fn limit(&mut self, most: usize) {
        self.segments = self.segments.min(most).max(1);
    }

    /// Whether a new socket may send trains.
    pub(crate) fn opened(&mut self) -> bool {
        let on = self.segments > 1;
        self.sockets += 1;
        self.sockets_off += usize::from(!on);
        on
    }

    /// A socket's route turned out to refuse trains.
    pub(crate) fn refused(&mut self) {
        self.sockets_off += 1;
    }

    /// A socket closes; `on` is what [`opened`](Self::opened) or the route said last.
    pub(crate) fn closed(&mut self, on: bool) {
        self.sockets -= 1;
        self.sockets_off -= usize::from(!on);
    }

    /// Whether the kernel cuts `bytes` into datagrams of `segment` bytes in one send.
    pub(crate) fn fits(&self, bytes: usize, segment: usize) -> bool {
        bytes <= TRAIN_BYTES && bytes.div_ceil(segment.max(1)) <= self.segments
    }

    /// See [`Datapath::segments_max`](crate::Datapath::segments_max).
    pub(crate) fn segments_max(&self, segment_bytes: usize) -> usize {
        if self.sockets > 0 && self.sockets_off == self.sockets {
            return 1;
        }
        self.segments.min(TRAIN_BYTES / segment_bytes.max(1)).max(1)
    }
}

/// Asks the kernel once by sending itself trains over loopback.
fn probe() -> usize {
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else {
        return 1;
    };
    if sys::option(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT).is_err() {
        return 1;
    }
    let takes = |segments| train(&socket, segments).is_ok();
    [SEGMENTS_NEW, SEGMENTS_OLD].into_iter().find(|segments| takes(*segments)).unwrap_or(1)
}

/// Sends `segments` datagrams of one byte to the socket itself.
fn train(socket: &UdpSocket, segments: usize) -> std::io::Result<()> {
    let target = socket.local_addr()?;
    let (mut name, mut control) = (Name::EMPTY, Control::EMPTY);
    let mut payload = vec![0u8; segments];
    control.encode(target.ip(), None, None, Some(1));
    let mut parts = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: segments };
    let mut header = sys::empty_header();
    header.msg_namelen = name.encode(target, Family::of(target));
    header.msg_name = name.bytes.as_mut_ptr().cast();
    header.msg_iov = &raw mut parts;
    header.msg_iovlen = 1;
    header.msg_controllen = control.train().len() as _;
    header.msg_control = control.train().as_mut_ptr().cast();
    let mut headers = [libc::mmsghdr { msg_hdr: header, msg_len: 0 as c_int as _ }];
    // SAFETY: the header points to `name`, `control`, `parts` and `payload`: they outlive the call.
    unsafe { sys::sendmmsg(socket.as_fd(), &mut headers) }.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trains_are_no_longer_than_was_asked_for() {
        let limited = |most| {
            let mut gso = Gso::with_segments(64);
            gso.limit(most);
            (gso.segments_max(100), gso.opened())
        };
        let expected = [(1, false), (1, false), (10, true), (64, true), (64, true)];
        assert_eq!([0, 1, 10, 64, 500].map(limited), expected);
    }

    #[test]
    fn segments_fit_one_send() {
        let mut gso = Gso::with_segments(128);
        assert_eq!(gso.segments_max(1_200), 54);
        assert_eq!(gso.segments_max(100), 128);
        assert_eq!(gso.segments_max(65_507), 1);
        assert_eq!(gso.segments_max(70_000), 1);
        assert_eq!(gso.segments_max(0), 128);
        assert!(gso.fits(65_507, 1_200) && gso.fits(1_280, 10));
        assert!(!gso.fits(65_508, 1_200) && !gso.fits(1_281, 10));
        assert!(gso.opened() && gso.opened());
        gso.refused();
        assert_eq!(gso.segments_max(1_200), 54);
        gso.closed(true);
        assert_eq!(gso.segments_max(1_200), 1);
        gso.closed(false);
        assert_eq!(gso.segments_max(1_200), 54);
    }

    #[test]
    fn the_probe_answers_with_a_known_limit() {
        assert!([1, SEGMENTS_OLD, SEGMENTS_NEW].contains(&probe()));
    }
}
