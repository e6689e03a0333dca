//! http3 speaks HTTP/3 (RFC 9114) without I/O.
#![forbid(unsafe_code)]
#![expect(dead_code, reason = "the connection that uses it comes next")]

mod code;
pub use code::Code;

mod frame;
pub use frame::DataHeader;

mod qpack;
pub use qpack::{Field, Fields};

mod varint;

mod violation;
pub use violation::{Scope, Violation};
