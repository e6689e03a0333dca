//! The protocol as peers see it: whole messages, every rule, every way to cut the bytes.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

mod characters;
mod cuts;
mod exchanges;
mod h3_memory;
mod oracles;
mod support;
mod violations;
