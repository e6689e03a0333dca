//! cbpf is the classic BPF program that reads the worker byte of a short header.
//!
//! The kernel runs it on the UDP payload and takes the result as an index into the reuseport
//! group, whose sockets are bound in worker order. An index beyond the group makes the kernel fall
//! back to its hash (`run_bpf_filter` in net/core/sock_reuseport.c), which is what long headers
//! get: a classic program cannot verify a connection ID, so `route` does.
//!
//! Attaching needs no privilege.
//!
//! # Minimum kernel version
//! 4.5 (`SO_ATTACH_REUSEPORT_CBPF`).

use quiclane_datapath::FilterInstruction;
use quiclane_wire::{Layout, SHORT_HEADER_CID_AT};

/// The program for connection IDs of `layout`.
///
/// ```text
///     ldb  [0]                first byte
///     jset #0x80, hash        long header
///     ldb  [1 + worker_at]    worker byte; a shorter datagram ends the program with 0
///     ret  a
/// hash:
///     ret  #0xffffffff
/// ```
pub(super) fn program(layout: &Layout) -> [FilterInstruction; 5] {
    // Both offsets are below 20, the longest connection ID.
    let worker_at = u32::try_from(SHORT_HEADER_CID_AT + layout.worker_at()).unwrap_or(u32::MAX);
    [
        instruction(LOAD_BYTE, 0, 0, 0),
        instruction(JUMP_IF_SET, 2, 0, 0x80),
        instruction(LOAD_BYTE, 0, 0, worker_at),
        instruction(RETURN_A, 0, 0, 0),
        instruction(RETURN_CONSTANT, 0, 0, u32::MAX),
    ]
}

fn instruction(code: u16, jump_true: u8, jump_false: u8, value: u32) -> FilterInstruction {
    FilterInstruction { code, jump_true, jump_false, value }
}

/// BPF_LD | BPF_B | BPF_ABS
const LOAD_BYTE: u16 = 0x30;
/// BPF_JMP | BPF_JSET | BPF_K
const JUMP_IF_SET: u16 = 0x45;
/// BPF_RET | BPF_A
const RETURN_A: u16 = 0x16;
/// BPF_RET | BPF_K
const RETURN_CONSTANT: u16 = 0x06;
