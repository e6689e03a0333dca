//! Servers, clients and the network between them, in one thread under virtual time.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

#[path = "../common/mod.rs"]
mod common;

mod mirror;

mod scenarios;

mod seeds;
