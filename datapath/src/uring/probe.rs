//! probe says whether this kernel and this container allow what the backend needs.

use std::io;

use io_uring::{Probe, opcode};

use super::RingMode;
use super::buffers::{Buffers, GROUP};
use super::driver::Driver;
use crate::error::SetupError;

/// Sets up a small ring with a buffer ring and takes it down again.
pub(super) fn probe(mode: RingMode) -> Result<(), SetupError> {
    let refused = |step| move |source: io::Error| SetupError::uring(step, source);
    let driver = Driver::open(8, 32, mode).map_err(refused("io_uring_setup"))?;
    let mut operations = Probe::new();
    let submitter = driver.submitter();
    submitter.register_probe(&mut operations).map_err(refused("IORING_REGISTER_PROBE"))?;
    for (name, code) in NEEDED {
        if !operations.is_supported(code) {
            return Err(SetupError::Operation { name });
        }
    }
    let mut buffers = Buffers::new(1).map_err(refused("allocating receive buffers"))?;
    buffers.register(&submitter).map_err(refused("IORING_REGISTER_PBUF_RING"))?;
    submitter.unregister_buf_ring(GROUP).map_err(|source| {
        buffers.leak();
        SetupError::uring("IORING_UNREGISTER_PBUF_RING", source)
    })
}

/// Multishot RECVMSG has no code of its own; it came with Linux 6.0, before SINGLE_ISSUER.
const NEEDED: [(&str, u8); 5] = [
    ("IORING_OP_RECVMSG", opcode::RecvMsgMulti::CODE),
    ("IORING_OP_SENDMSG", opcode::SendMsg::CODE),
    ("IORING_OP_POLL_ADD", opcode::PollAdd::CODE),
    ("IORING_OP_TIMEOUT", opcode::Timeout::CODE),
    ("IORING_OP_ASYNC_CANCEL", opcode::AsyncCancel::CODE),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_kernel_is_new_enough() {
        if let Err(error) = probe(RingMode::Defer) {
            println!("skipped: {error}");
        }
    }
}
