//! buffers is the memory the kernel receives into, and the ring by which it learns of it.
//!
//! ```text
//! commit ─► the kernel's ─► completion: ours ─► bytes() lent to the sink ─► give_back ─► commit
//! ```
//!
//! Invariant: a buffer belongs to exactly one of {kernel, us}, and `bytes` is only called for ours.
//! The buffers are not incremental (IOU_PBUF_RING_INC): Linux 6.18 would cut one datagram per
//! buffer where its end is.

use std::alloc::{self, Layout};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;

use super::recv::HEADER_BYTES;
use crate::arrival::PAYLOAD_BYTES_MAX;

/// Group id of the one buffer ring.
pub(super) const GROUP: u16 = 0;

/// Bytes per buffer: a whole GRO train with the headers before it. A smaller one would cut trains.
const BUFFER_BYTES: u32 = 66 << 10;
const STRIDE: usize = BUFFER_BYTES as usize;
const _: () = assert!(HEADER_BYTES + PAYLOAD_BYTES_MAX <= STRIDE);
const _: () = assert!(size_of::<BufRingEntry>() == 16);

/// The kernel wants its ring at a page boundary.
const PAGE_BYTES: usize = 4096;

/// Fixed buffers and their ring.
#[derive(Debug)]
pub(super) struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    /// Number of the next entry to write.
    tail: u16,
    /// Buffers that are ours, given back or not yet committed ones included.
    ours: u16,
    /// The kernel may still write to them: they are never freed.
    leaked: bool,
}

impl Buffers {
    /// Memory for `count` buffers, a power of two; all of them are ours.
    pub(super) fn new(count: u16) -> io::Result<Self> {
        debug_assert!(count.is_power_of_two());
        let entries = allocate(ring_layout(count)?)?.cast();
        let memory = match memory_layout(count).and_then(allocate) {
            Ok(memory) => memory,
            Err(error) => {
                release(entries.cast(), ring_layout(count));
                return Err(error);
            }
        };
        let mut buffers = Self { entries, memory, count, tail: 0, ours: count, leaked: false };
        for id in 0..count {
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    /// Tells the kernel about the ring and hands all buffers over.
    pub(super) fn register(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.entries.as_ptr() as u64;
        // SAFETY: the ring is page aligned, holds `count` entries and is only freed after the
        // kernel forgot it (or never, see `leak`).
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, GROUP, 0) }?;
        self.commit();
        Ok(())
    }

    /// The kernel filled a buffer: it is ours now.
    pub(super) fn arrived(&mut self) {
        self.ours += 1;
    }

    /// Buffers the kernel can fill.
    pub(super) fn available(&self) -> u16 {
        self.count - self.ours
    }

    /// The first `bytes` of a buffer that is ours.
    pub(super) fn bytes(&self, id: u16, bytes: usize) -> &[u8] {
        debug_assert!(id < self.count && self.ours > 0);
        let at = usize::from(id.min(self.count - 1)) * STRIDE;
        // SAFETY: `at` is inside the allocation, which holds `count` buffers.
        let first = unsafe { self.memory.add(at) };
        // SAFETY: the buffer is initialised (zeroed at first), inside the allocation, and ours: its
        // completion was taken and it is given back only through `&mut self`.
        unsafe { std::slice::from_raw_parts(first.as_ptr(), bytes.min(STRIDE)) }
    }

    /// Puts a buffer into the ring; the kernel sees it after the next `commit`.
    pub(super) fn give_back(&mut self, id: u16) {
        let at = usize::from(self.tail & (self.count - 1));
        // SAFETY: the index is below `count`.
        let mut entry = unsafe { self.entries.add(at) };
        // SAFETY: the entry is initialised (zeroed at first). The kernel reads entries only up to
        // the committed tail, and at most `count` buffers exist, so this one it has read already.
        let entry = unsafe { entry.as_mut() };
        // SAFETY: `id` is below `count`, so the sum is inside the allocation.
        let buffer = unsafe { self.memory.add(usize::from(id) * STRIDE) };
        entry.set_addr(buffer.as_ptr() as u64);
        entry.set_len(BUFFER_BYTES);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Hands everything given back to the kernel.
    pub(super) fn commit(&mut self) {
        // SAFETY: this is the first entry of the ring, where the tail lies.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail is aligned and valid as long as the ring; we are its only writer.
        let shared = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Only the owner writes it, so it still says what was committed last.
        let given = self.tail.wrapping_sub(shared.load(Ordering::Relaxed));
        shared.store(self.tail, Ordering::Release);
        self.ours -= given;
    }

    /// Never frees the memory.
    pub(super) fn leak(&mut self) {
        self.leaked = true;
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        release(self.entries.cast(), ring_layout(self.count));
        release(self.memory, memory_layout(self.count));
    }
}

fn ring_layout(count: u16) -> io::Result<Layout> {
    layout(usize::from(count) * size_of::<BufRingEntry>())
}

fn memory_layout(count: u16) -> io::Result<Layout> {
    layout(usize::from(count) * STRIDE)
}

fn layout(bytes: usize) -> io::Result<Layout> {
    Layout::from_size_align(bytes.max(PAGE_BYTES), PAGE_BYTES)
        .map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Zeroed memory.
fn allocate(layout: Layout) -> io::Result<NonNull<u8>> {
    // SAFETY: `layout` never asks for zero bytes.
    let memory = unsafe { alloc::alloc_zeroed(layout) };
    NonNull::new(memory).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
}

fn release(memory: NonNull<u8>, layout: io::Result<Layout>) {
    let Ok(layout) = layout else { return };
    // SAFETY: the memory came from `allocate` with this very layout, and nobody uses it any more.
    unsafe { alloc::dealloc(memory.as_ptr(), layout) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_buffer_is_handed_over_once_and_comes_back() {
        let mut buffers = Buffers::new(4).unwrap();
        assert_eq!(buffers.available(), 0);
        buffers.commit();
        assert_eq!(buffers.available(), 4);
        for round in 0..100_000u32 {
            buffers.arrived();
            buffers.arrived();
            assert_eq!(buffers.available(), 2);
            assert!(buffers.bytes((round % 4) as u16, 100).iter().all(|byte| *byte == 0));
            buffers.give_back((round % 4) as u16);
            buffers.give_back(((round + 1) % 4) as u16);
            buffers.commit();
            assert_eq!(buffers.available(), 4);
        }
    }

    #[test]
    fn entries_say_where_the_buffers_are() {
        let buffers = Buffers::new(8).unwrap();
        for id in 0..8u16 {
            // SAFETY: the ring has 8 entries, all written by `new`.
            let entry = unsafe { buffers.entries.add(usize::from(id)) };
            // SAFETY: as above; nobody writes to it now.
            let entry = unsafe { entry.as_ref() };
            assert_eq!(entry.bid(), id);
            assert_eq!(entry.len(), BUFFER_BYTES);
            let at = entry.addr() - buffers.memory.as_ptr() as u64;
            assert_eq!(at, u64::from(id) * u64::from(BUFFER_BYTES));
        }
    }
}
