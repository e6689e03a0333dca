//! The steering ladder end to end: a server behind a veth pair, clients in another namespace.
//!
//! Each test runs again in a process in a network namespace of its own; what it makes there goes
//! away with it. Without root, or without `ip` and `unshare`, a test says that it was skipped; with
//! CI=true that is a failure.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]
#![expect(clippy::print_stdout, reason = "a skipped test says so, and figures are worth reading")]

#[path = "../common/mod.rs"]
mod common;
mod harness;

mod fixtures;
mod flood;
mod host;
mod interrupted;
mod nat;
mod replay;
mod spread;
