//! qpack compresses field sections (RFC 9204) with the static table and the Huffman code alone.
//!
//! The capacity of the dynamic table is 0 in both directions. That is the protocol's default, no
//! request ever waits for another stream, and a section that is sent again is the same bytes.

pub(crate) mod decode;
pub(crate) mod encode;
mod fields;
pub use fields::{Field, Fields};

pub(crate) mod huffman;
pub(crate) mod instructions;
mod integer;
mod static_table;

#[cfg(test)]
mod tests;
