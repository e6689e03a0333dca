//! http3 speaks HTTP/3 (RFC 9114, QPACK RFC 9204) without I/O, for server and client.
//!
//! In come the bytes that QUIC streams carried, in order; out come [`Event`]s, and what to write.
//! There is no socket, no clock, no runtime and no dependency here. [`Connection`] says which call
//! belongs to what QUIC says.
//!
//! ```
//! use quiclane_http3::{Config, Connection, DataHeader, Event, Input, Prepared, Role};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut client = Connection::new(Role::Client, Config::default());
//! let mut server = Connection::new(Role::Server, Config::default());
//! // Encoded once, sent as often as wanted.
//! let get = Prepared::request("GET", "https", "example.org", "/")?.with("accept", "*/*")?;
//! let ok = Prepared::response(200)?.with("content-length", "5")?;
//!
//! // Stream 0: the client writes the frame and ends its side.
//! client.request(0, &get)?;
//! client.finished(0);
//!
//! // The server reads it,
//! server.opened(0)?;
//! let mut input = Input::last(get.frame());
//! while let Some(event) = server.recv(0, &mut input)? {
//!     if let Event::Request(request) = event {
//!         assert_eq!(request.path(), b"/");
//!     }
//! }
//! // and answers.
//! server.respond(0, &ok)?;
//! let answer = [ok.frame(), DataHeader::new(5).as_bytes(), b"hello"].concat();
//! server.finished(0);
//!
//! let mut content = Vec::new();
//! let mut input = Input::last(&answer);
//! while let Some(event) = client.recv(0, &mut input)? {
//!     match event {
//!         Event::Response(response) => assert_eq!(response.status(), 200),
//!         Event::Data(bytes) => content.extend_from_slice(bytes),
//!         _ => {}
//!     }
//! }
//! assert_eq!(content, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! Invariant: no input makes anything here panic; what a peer only announced is never allocated;
//! memory stays within [`Limits`]. A repeated exchange allocates nothing.
#![forbid(unsafe_code)]

mod code;
pub use code::Code;

mod connection;
pub use connection::Connection;

mod control;

mod event;
pub use event::{Datagram, Event, Input, Opened, Role, SendError};

mod exchange;

mod frame;
pub use frame::DataHeader;

#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;

mod glitch;
pub use glitch::Glitch;

mod limits;
pub use limits::{Config, Limits};

mod message;
pub use message::{Request, Response, SavedRequest};

mod prepared;
pub use prepared::{Invalid, Prepared};

mod qpack;
pub use qpack::{Field, Fields};

mod sections;

mod settings;
pub use settings::Settings;

mod validate;
mod varint;

mod violation;
pub use violation::{Scope, Violation};
