//! memory reads packets: the same parser as in user space over the kernel's kinds of memory.
//!
//! ```text
//!   Direct   where the driver put the frame       needs CAP_PERFMON: computed packet pointers
//!   Copied   a copy of its front in a map         for programs without that
//!   Buffer   the kernel copies what is read       a socket buffer need not lie in one piece
//! ```
//!
//! Invariant: no byte is read that was not compared with the end of the packet on the same path.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::EbpfContext;
use aya_ebpf::helpers::generated::{bpf_skb_load_bytes, bpf_xdp_get_buff_len, bpf_xdp_load_bytes};
use aya_ebpf::programs::{SkReuseportContext, XdpContext};
use quiclane_wire::Bytes;

use crate::maps::{self, SCRATCH};

/// A frame, or its end behind some byte.
pub(crate) trait Frame: Bytes + Copy {
    /// Whether answers can be written into it.
    const WRITABLE: bool;

    /// The frame of a run; `None` if it cannot be read.
    fn new(ctx: &XdpContext) -> Option<Self>;

    /// The same frame, of which the verifier does not know yet how long it is. It has to learn that
    /// again for each, but what it learned of another one splits no paths any more.
    fn again(self, ctx: &XdpContext) -> Self;

    /// The same frame, of whose end the verifier has forgotten what the paths to here learned.
    fn forget_end(self) -> Self;

    /// What lies behind the first `at` bytes.
    fn behind(self, at: usize) -> Self;

    /// Whether a part of the frame is out of reach, in another piece of memory.
    fn is_in_pieces(self, ctx: &XdpContext) -> bool;

    /// Any number that the verifier does not know.
    fn unknown(self) -> usize;

    /// The low 15 bits of a number, of which the verifier knows nothing else any more.
    ///
    /// It follows every combination of tags, IP version and options as a path of its own as long as
    /// it knows that they differ; afterwards one path stands for all of them. The bits hold any
    /// offset into a frame, and any length of what the programs look at.
    #[inline(always)]
    fn forget(self, number: usize) -> usize {
        forget(number, self.unknown()) & 0x7fff
    }
}

/// The same number, of which the verifier knows nothing any more.
#[inline(always)]
fn forget(mut number: usize, unknown: usize) -> usize {
    // SAFETY: exclusive-or with the same register twice leaves the number as it was.
    unsafe {
        asm!("{0} ^= {1}", "{0} ^= {1}", inout(reg) number, in(reg) unknown,
            options(pure, nomem, nostack));
    }
    number
}

/// The bytes between `data` and `data_end` of an XDP context.
#[derive(Clone, Copy)]
pub(crate) struct Direct {
    start: usize,
    end: usize,
    unknown: usize,
}

impl Frame for Direct {
    const WRITABLE: bool = true;

    #[inline(always)]
    fn new(ctx: &XdpContext) -> Option<Self> {
        // SAFETY: the kernel's own context, whose fields are always there.
        let start = unsafe { ptr::read_volatile(&raw const (*ctx.ctx).data) };
        // SAFETY: as above.
        let end = unsafe { ptr::read_volatile(&raw const (*ctx.ctx).data_end) };
        let unknown = ctx.rx_queue_index() as usize;
        Some(Self { start: start as usize, end: end as usize, unknown })
    }

    #[inline(always)]
    fn again(self, ctx: &XdpContext) -> Self {
        Self::new(ctx).unwrap_or(self)
    }

    #[inline(always)]
    fn forget_end(self) -> Self {
        // A pointer, which is read anew instead: see `again`.
        self
    }

    #[inline(always)]
    fn behind(self, at: usize) -> Self {
        Self { start: self.start + at, ..self }
    }

    #[inline(always)]
    fn is_in_pieces(self, ctx: &XdpContext) -> bool {
        // SAFETY: the context is the kernel's own.
        let all = unsafe { bpf_xdp_get_buff_len(ctx.ctx) } as usize;
        let again = self.again(ctx);
        all > OFFSET_MAX || again.start + all > again.end
    }

    #[inline(always)]
    fn unknown(self) -> usize {
        self.unknown
    }
}

impl Bytes for Direct {
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

    /// Not used by a parser that asks [`Bytes::holds`]: subtracting pointers needs CAP_PERFMON.
    #[inline(always)]
    fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline(always)]
    fn holds(&self, len: usize) -> bool {
        len <= OFFSET_MAX && self.start + len <= self.end
    }
}

/// The first [`SCRATCH_LEN`] bytes of a frame, copied. No header that the programs read ends later;
/// what does is as good as not there.
#[derive(Clone, Copy)]
pub(crate) struct Copied {
    front: *const [u8; SCRATCH_LEN],
    /// Where in the frame it begins.
    start: usize,
    /// Where the frame ends, copied or not.
    end: usize,
    unknown: usize,
}

impl Frame for Copied {
    /// The workers answer.
    const WRITABLE: bool = false;

    #[inline(always)]
    fn new(ctx: &XdpContext) -> Option<Self> {
        let front = maps::of_core(&SCRATCH, 0)?.as_ptr().cast::<[u8; SCRATCH_LEN]>();
        // 32 bits, so that all that is forgotten of it is the same on both paths below.
        // SAFETY: the context is the kernel's own.
        let end = unsafe { bpf_xdp_get_buff_len(ctx.ctx) } as u32 as usize;
        let mut copied = end;
        if copied > SCRATCH_LEN {
            copied = SCRATCH_LEN;
        }
        // SAFETY: no instruction at all: the bounds stay with the register that is passed.
        unsafe { asm!("/* {0} */", inout(reg) copied, options(pure, nomem, nostack)) };
        if copied == 0 || copied > SCRATCH_LEN {
            return None;
        }
        // SAFETY: `front` has room for `copied` bytes and is this core's own: nothing preempts a
        // program to run another one on it.
        let result = unsafe { bpf_xdp_load_bytes(ctx.ctx, 0, front.cast(), copied as u32) };
        let unknown = ctx.rx_queue_index() as usize;
        let end = forget(end, unknown);
        (result == 0).then_some(Self { front, start: 0, end, unknown })
    }

    #[inline(always)]
    fn again(self, _ctx: &XdpContext) -> Self {
        self
    }

    #[inline(always)]
    fn forget_end(self) -> Self {
        Self { end: forget(self.end, self.unknown), ..self }
    }

    #[inline(always)]
    fn behind(self, at: usize) -> Self {
        Self { start: self.start + at, ..self }
    }

    /// The kernel copied from all of them.
    #[inline(always)]
    fn is_in_pieces(self, _ctx: &XdpContext) -> bool {
        false
    }

    #[inline(always)]
    fn unknown(self) -> usize {
        self.unknown
    }
}

impl Copied {
    /// Whether the frame ends at `at` or behind it. By the sign of a difference: comparing the two
    /// would teach the verifier about the end, and on each path something else.
    #[inline(always)]
    fn reaches(&self, at: usize) -> bool {
        let mut rest = self.end.wrapping_sub(at);
        // Else the compiler makes it that comparison.
        // SAFETY: no instruction at all.
        unsafe { asm!("/* {0} */", inout(reg) rest, options(pure, nomem, nostack)) };
        rest as isize >= 0
    }
}

impl Bytes for Copied {
    #[inline(always)]
    fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        if !self.reaches(self.start + at + N) {
            return None;
        }
        // Without CAP_PERFMON an addition to a pointer is masked, and the same way on all paths: so
        // none of them may know which number it adds.
        let mut from = forget(self.start + at, self.unknown);
        // Not pure: a sum that an earlier read was allowed must not serve a wider one.
        // SAFETY: no instruction at all: the bounds stay with the register that is added.
        unsafe { asm!("/* {0} */", inout(reg) from, options(nomem, nostack)) };
        if from > SCRATCH_LEN - N {
            return None;
        }
        // SAFETY: the comparison above: all N bytes lie in the copy.
        Some(unsafe { ptr::read_unaligned(self.front.cast::<u8>().add(from).cast()) })
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    #[inline(always)]
    fn holds(&self, len: usize) -> bool {
        len <= OFFSET_MAX && self.reaches(self.start + len)
    }
}

/// Room for the front of a frame, on each core.
#[repr(transparent)]
pub(crate) struct Scratch(UnsafeCell<[u8; SCRATCH_LEN]>);

// SAFETY: each core has its own.
unsafe impl Sync for Scratch {}

/// A UDP payload in a frame: bounded by what UDP says, and by the frame.
pub(crate) struct Payload<F> {
    bytes: F,
    len: usize,
}

impl<F: Frame> Payload<F> {
    /// The payload of `len` bytes at `at`.
    #[inline(always)]
    pub(crate) fn new(frame: F, at: usize, len: usize) -> Self {
        Self { bytes: frame.behind(at), len }
    }
}

impl<F: Frame> Bytes for Payload<F> {
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

/// Ethernet with two tags, IPv4 with all options, UDP, and a long header up to the length of its
/// second connection ID: 14 + 8 + 60 + 8 + 27 bytes, in whole words.
const SCRATCH_LEN: usize = 120;
/// Frames are shorter than this, and the verifier wants a bound on what it adds to a pointer.
const OFFSET_MAX: usize = 0x7fff;
/// A socket program is shown the UDP header in front of the payload.
const UDP_LEN: usize = 8;
