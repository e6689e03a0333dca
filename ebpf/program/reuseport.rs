//! reuseport chooses the socket of the worker that owns a datagram.
//!
//! The key is (listener, epoch byte, worker), never an index into the reuseport group: closing one
//! socket renumbers a group. Where no socket is registered under the key the kernel's hash chooses,
//! and the worker that it chose tosses the datagram to its owner.

use core::ptr;

use aya_ebpf::bindings::sk_action::SK_PASS;
use aya_ebpf::programs::SkReuseportContext;
use quiclane_ebpf::{ListenerKey, Selection, socket_key};
use quiclane_wire::{Verdict, classify, worker_of_spread};

use crate::maps::{self, EpochMap, LISTENERS, SETTINGS, SOCKETS};
use crate::memory::Buffer;

#[inline(always)]
pub(crate) fn select(ctx: &SkReuseportContext) -> u32 {
    maps::count_selection(choose(ctx));
    // Passing without a choice leaves it to the hash; dropping is not ours to decide.
    SK_PASS
}

#[inline(always)]
fn choose(ctx: &SkReuseportContext) -> Selection {
    let settings = SETTINGS.get();
    let verdict = classify(&Buffer(ctx), &settings.layout(), &settings.spread_key.key(), &EpochMap);
    let (epoch, worker) = match verdict {
        Verdict::Live { worker } => (settings.live_epoch, worker),
        Verdict::Initial { spread } => {
            (settings.live_epoch, worker_of_spread(spread, settings.workers))
        }
        Verdict::Draining { epoch, worker } => (epoch, worker),
        Verdict::OtherLong | Verdict::Orphan { .. } | Verdict::Junk(_) => {
            return Selection::Nobodys;
        }
    };
    let key = bound_to(ctx);
    // SAFETY: user space never removes or changes a listener while its sockets are open.
    let Some(listener) = (unsafe { LISTENERS.get(&key) }) else { return Selection::NoListener };
    match SOCKETS.select_reuseport(ctx, socket_key(*listener, epoch, worker)) {
        Ok(()) => Selection::Owners,
        Err(_) => Selection::NoSocket,
    }
}

/// The address and port that the sockets of this group are bound to. A socket that takes both
/// families is bound to an IPv6 address, whatever the datagram is.
#[inline(always)]
fn bound_to(ctx: &SkReuseportContext) -> ListenerKey {
    let socket = ctx.sk().sock;
    // SAFETY: the kernel's socket outlives the call; the verifier checks each field.
    let (family, port) = unsafe { ((*socket).family, (*socket).src_port) };
    let port = port as u16;
    if family == AF_INET {
        // SAFETY: as above.
        let address = unsafe { (*socket).src_ip4 };
        return ListenerKey::v4(address.to_ne_bytes(), port);
    }
    let mut address = [0; 16];
    for (index, bytes) in address.as_chunks_mut().0.iter_mut().enumerate() {
        // SAFETY: as above. Word by word and volatile: the verifier allows no wider access, into
        // which the compiler would merge them.
        let word = unsafe { ptr::read_volatile(&raw const (*socket).src_ip6[index]) };
        *bytes = word.to_ne_bytes();
    }
    ListenerKey::v6(address, port)
}

const AF_INET: u32 = 2;
