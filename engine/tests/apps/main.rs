//! A stock quinn client speaks hq-interop and echo to our server, and ALPN tells them apart.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

#[path = "../common/mod.rs"]
mod common;

mod alpn;

mod echo;

mod hq;
