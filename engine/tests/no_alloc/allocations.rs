//! allocations watches who allocates: every allocation while it looks is captured with its call
//! stack and charged to the innermost crate on it that is quinn-proto, rustls or ours.
//!
//! It looks [`LOOKS`] times. Tables and pools reach a new size whenever the machine lets more pile
//! up than ever before, which ends by itself: what allocates with the traffic does so in each look.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Watching;

thread_local! {
    static WATCHED: Cell<bool> = const { Cell::new(true) };
}

/// The look that is under way, or [`AWAY`].
static LOOK: AtomicUsize = AtomicUsize::new(AWAY);
static STACKS: Mutex<[Vec<Backtrace>; LOOKS]> = Mutex::new([const { Vec::new() }; LOOKS]);

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
    let look = LOOK.load(Ordering::Relaxed);
    if look >= LOOKS || !WATCHED.get() {
        return;
    }
    WATCHED.set(false);
    let stack = Backtrace::force_capture();
    let mut stacks = STACKS.lock().unwrap();
    stacks[look].push(stack);
    if stacks[look].len() == STACKS_MAX {
        // Unless the next one has begun meanwhile.
        let _ = LOOK.compare_exchange(look, AWAY, Ordering::Relaxed, Ordering::Relaxed);
    }
    drop(stacks);
    WATCHED.set(true);
}

/// Begins the given look, counted from 0, on all threads but those that [`look_away`]. After the
/// last of [`LOOKS`] nothing is captured.
pub(crate) fn begin(look: usize) {
    LOOK.store(look, Ordering::Relaxed);
}

/// What this thread allocates is not of interest: it only runs the test.
pub(crate) fn look_away() {
    WATCHED.set(false);
}

/// Ends the last look and fails if we allocated in all of them.
pub(crate) fn none_of_ours(what: &str) {
    begin(AWAY);
    let looks = std::mem::take(&mut *STACKS.lock().unwrap());
    let mut places = Vec::new();
    for stacks in &looks {
        let seen = stacks.len();
        assert!(seen > 100, "{what}: quinn-proto allocates; seeing {seen} times is not looking");
        let ours: Vec<_> = stacks.iter().filter_map(charged_to).collect();
        if ours.is_empty() {
            return;
        }
        places.extend(ours);
    }
    let counts: Vec<_> = looks.iter().map(Vec::len).collect();
    let total = places.len();
    places.sort_unstable();
    places.dedup();
    panic!("{what}: {total} of {counts:?} allocations are ours, some in each look: {places:#?}");
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
        let ours = ["./", "/engine/", "/datapath/", "/http3/", "/wire/", "/loadgen/"];
        let is_ours = |room: &&str| place.contains(&format!("{room}src/"));
        if ours.iter().any(is_ours) && !place.contains("/.cargo/") {
            return Some(place.to_owned());
        }
    }
    None
}

/// How often it looks.
pub(crate) const LOOKS: usize = 5;
/// Enough to see every place that allocates; each costs a stack walk.
const STACKS_MAX: usize = 1_500;
/// No look is under way.
const AWAY: usize = usize::MAX;
