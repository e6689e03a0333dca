//! allocations watches who allocates: every allocation while it looks is captured with its call
//! stack and charged to the innermost crate on it that is quinn-proto, rustls or ours.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

struct Watching;

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(true) };
}

static ARMED: AtomicBool = AtomicBool::new(false);
static STACKS: Mutex<Vec<Backtrace>> = Mutex::new(Vec::new());

#[global_allocator]
static ALLOCATOR: Watching = Watching;

// SAFETY: every call is handed on to the system allocator unchanged.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`, which is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: `memory` came from the system allocator with this layout.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn note() {
    if !ARMED.load(Ordering::Relaxed) || !WATCHED.get() {
        return;
    }
    WATCHED.set(false);
    let stack = Backtrace::force_capture();
    let mut stacks = STACKS.lock().unwrap();
    if stacks.len() < STACKS_MAX {
        stacks.push(stack);
    } else {
        ARMED.store(false, Ordering::Relaxed);
    }
    drop(stacks);
    WATCHED.set(true);
}

/// From now on allocations are captured, on all threads but those that [`look_away`].
pub(crate) fn arm() {
    ARMED.store(true, Ordering::Relaxed);
}

/// Ends what [`arm`] began.
pub(crate) fn disarm() {
    ARMED.store(false, Ordering::Relaxed);
}

/// What this thread allocates is not of interest: it only runs the test.
pub(crate) fn look_away() {
    WATCHED.set(false);
}

/// Fails if we allocate again and again. A table that reaches a new size now and then, because the
/// machine let more pile up than before, is no such thing.
pub(crate) fn none_of_ours(what: &str) {
    disarm();
    let stacks = std::mem::take(&mut *STACKS.lock().unwrap());
    assert!(stacks.len() > 100, "{what}: quinn-proto allocates; seeing nothing is not looking");
    let mut ours: Vec<_> = stacks.iter().filter_map(charged_to).collect();
    let total = ours.len();
    ours.sort_unstable();
    ours.dedup();
    let few = total <= stacks.len() / GROWTH_SHARE;
    assert!(few, "{what}: {total} of {} allocations are ours: {ours:#?}", stacks.len());
}

/// The place of ours that an allocation is charged to. Line tables name files, not crates.
fn charged_to(stack: &Backtrace) -> Option<String> {
    let text = stack.to_string();
    let places = text.lines().filter_map(|line| line.trim().strip_prefix("at "));
    for place in places {
        if place.contains("/quinn-proto-") || place.contains("/rustls-") {
            return None;
        }
        // The test's own app, but not what runs in every allocation.
        if place.contains("/tests/") && !place.contains("/allocations.rs") {
            return None;
        }
        let ours = ["./src/", "/engine/src/", "/datapath/src/", "/wire/src/", "/loadgen/src/"];
        if ours.iter().any(|room| place.contains(room)) && !place.contains("/.cargo/") {
            return Some(place.to_owned());
        }
    }
    None
}

/// Enough to see every place that allocates; each costs a stack walk.
const STACKS_MAX: usize = 4_000;
/// quinn-proto makes a few allocations for each message, so one of ours for each would be far more
/// than one in this many.
const GROWTH_SHARE: usize = 300;
