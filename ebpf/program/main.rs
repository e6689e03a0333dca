//! main is what the kernel calls: one entry for each program, and nothing else.
//!
//! ```text
//!   frame ──► quiclane_xdp ──► worker's core ──► UDP ──► quiclane_select ──► worker's socket
//!                  '- drop
//! ```
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::macros::{sk_reuseport, xdp};
use aya_ebpf::programs::{SkReuseportContext, XdpContext};

mod answer;
mod budget;
mod maps;
mod memory;
mod reuseport;
mod signer;
mod steer;

use memory::{Copied, Direct};

/// In front of the network stack. Frames of several pieces (large MTUs, GRO) are welcome.
#[xdp(frags)]
fn quiclane_xdp(ctx: XdpContext) -> u32 {
    steer::steer::<Direct>(&ctx)
}

/// The same where the loader has no CAP_PERFMON.
#[xdp(frags)]
fn quiclane_xdp_copy(ctx: XdpContext) -> u32 {
    steer::steer::<Copied>(&ctx)
}

/// In front of the sockets of a reuseport group.
#[sk_reuseport]
fn quiclane_select(ctx: SkReuseportContext) -> u32 {
    reuseport::select(&ctx)
}

/// Passes everything: the yardstick of the figures, and what the peer of a veth needs so that
/// frames sent from XDP arrive.
#[xdp]
fn quiclane_pass(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_PASS
}

/// The kernel's check for helpers that only GPL-compatible programs may call.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Nothing here panics; the verifier would refuse the loop.
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
