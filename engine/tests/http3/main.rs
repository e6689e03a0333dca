//! HTTP/3 with the h3 crate as the client, and with hand-made streams for what no client does.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]
#![expect(clippy::print_stdout, reason = "clients name their version, skipped tests say so")]

#[path = "../common/mod.rs"]
mod common;

mod client;
mod files;
mod handlers;
mod hostile;
mod memory;
mod meter;
mod python;
mod raw;
mod requests;
mod stalled;
mod stopping;
mod waiting;
