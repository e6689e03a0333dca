//! memory reads packets: the same parser as in user space over the kernel's two kinds of memory.
//!
//! Invariant: no byte is read that was not compared with the end of the packet on the same path.
//! Pointers are only ever compared, never subtracted: that would need CAP_PERFMON.

use core::arch::asm;
use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;
use aya_ebpf::programs::{SkReuseportContext, XdpContext};
use quiclane_wire::Bytes;

/// The bytes between `data` and `data_end` of an XDP context.
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    start: usize,
    end: usize,
    /// Any number that the verifier does not know, see [`Frame::forget`].
    unknown: usize,
}

impl Frame {
    /// The frame, of which the verifier does not know yet how long it is. It has to learn that
    /// again for each, but what it learned of another one splits no paths any more.
    #[inline(always)]
    pub(crate) fn new(ctx: &XdpContext) -> Self {
        // SAFETY: the kernel's own context, whose fields are always there.
        let start = unsafe { ptr::read_volatile(&raw const (*ctx.ctx).data) };
        // SAFETY: as above.
        let end = unsafe { ptr::read_volatile(&raw const (*ctx.ctx).data_end) };
        let unknown = ctx.rx_queue_index() as usize;
        Self { start: start as usize, end: end as usize, unknown }
    }

    /// The low 15 bits of a number, of which the verifier knows nothing else any more.
    ///
    /// It follows every combination of tags, IP version and options as a path of its own as long as
    /// it knows that they differ; afterwards one path stands for all of them. The bits hold any
    /// offset into a frame, and any length of what the programs look at.
    #[inline(always)]
    pub(crate) fn forget(&self, mut number: usize) -> usize {
        // SAFETY: exclusive-or with the same register twice leaves the number as it was.
        unsafe {
            asm!("{0} ^= {1}", "{0} ^= {1}", "{0} &= 0x7fff", inout(reg) number,
                in(reg) self.unknown, options(pure, nomem, nostack));
        }
        number
    }

    /// The UDP payload of `len` bytes from `at`.
    #[inline(always)]
    pub(crate) fn payload(self, at: usize, len: usize) -> Payload {
        let start = Self { start: self.start + at, ..self };
        Payload { bytes: start, len }
    }
}

impl Bytes for Frame {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut behind = self.start + at + N;
        if N == 1 {
            // Else the compiler says `start + at >= end`, which teaches the verifier nothing.
            // SAFETY: no instruction at all.
            unsafe { asm!("/* {0} */", inout(reg) behind, options(pure, nomem, nostack)) };
        }
        if behind > self.end {
            return None;
        }
        let from = (self.start + at) as *const [u8; N];
        // SAFETY: the comparison above: all N bytes lie in front of `data_end`.
        Some(unsafe { ptr::read_unaligned(from) })
    }

    /// Not used by a parser that asks [`Bytes::holds`].
    #[inline(always)]
    fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn holds(&self, len: usize) -> bool {
        len <= OFFSET_MAX && self.start + len <= self.end
    }
}

/// A UDP payload in a frame: bounded by what UDP says, and by the frame.
pub(crate) struct Payload {
    bytes: Frame,
    len: usize,
}

impl Bytes for Payload {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        if at + N > self.len {
            return None;
        }
        self.bytes.read(at)
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.len
    }
}

/// A UDP payload in a socket buffer, which need not lie in one piece: the kernel copies from it.
pub(crate) struct Buffer<'a>(pub(crate) &'a SkReuseportContext);

impl Bytes for Buffer<'_> {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let mut bytes = MaybeUninit::<[u8; N]>::uninit();
        let from = self.0.as_ptr();
        let to = bytes.as_mut_ptr().cast();
        // An N of 20 at most.
        let (at, len) = ((UDP_LEN + at) as u32, N as u32);
        // SAFETY: `to` has room for the `len` bytes that the kernel writes, or none if they are
        // not all there.
        let result = unsafe { bpf_skb_load_bytes(from.cast_const(), at, to, len) };
        if result != 0 {
            return None;
        }
        // SAFETY: the kernel says that it has written all of them.
        Some(unsafe { bytes.assume_init() })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.0.len().saturating_sub(UDP_LEN)
    }
}

/// Frames are shorter than this, and the verifier wants a bound on what it adds to a pointer.
const OFFSET_MAX: usize = 0x7fff;
/// A socket program is shown the UDP header in front of the payload.
const UDP_LEN: usize = 8;
