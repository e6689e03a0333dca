//! meter is an allocator that knows how much memory a worker holds, and how much at most.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

/// What one thread holds.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    held: AtomicIsize,
    peak: AtomicIsize,
}

thread_local! {
    static METER: Cell<Option<&'static Meter>> = const { Cell::new(None) };
}

struct Metered;

#[global_allocator]
static ALLOCATOR: Metered = Metered;

// SAFETY: every call is handed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Metered {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        moved(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of `alloc`, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        moved(-layout.size().cast_signed());
        // SAFETY: `memory` came from the system allocator with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn moved(bytes: isize) {
    if let Some(meter) = METER.get() {
        let held = meter.held.fetch_add(bytes, Ordering::Relaxed) + bytes;
        meter.peak.fetch_max(held, Ordering::Relaxed);
    }
}

impl Meter {
    /// One that lives as long as the threads that use it may.
    pub(crate) fn new() -> &'static Self {
        Box::leak(Box::default())
    }

    /// Counts what this thread does from now on.
    pub(crate) fn watch(&'static self) {
        METER.set(Some(self));
    }

    /// What the thread holds now, from where its next peak counts.
    pub(crate) fn begin(&self) -> isize {
        let held = self.held.load(Ordering::Relaxed);
        self.peak.store(held, Ordering::Relaxed);
        held
    }

    pub(crate) fn peak(&self) -> isize {
        self.peak.load(Ordering::Relaxed)
    }
}
