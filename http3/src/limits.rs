//! limits bounds what a peer can make a connection hold and do.
//!
//! With the defaults a connection holds under 1 MB whatever its peer sends: at most
//! 2 x [`Limits::unfinished_bytes_max`] of header sections that are still arriving,
//! 4 x [`Limits::field_section_bytes_max`] of the section that is being decoded, about 200 bytes
//! for each of [`Limits::requests_max`]. After warm-up a usual one holds a few KiB.

/// What a peer may ask of one connection. Everything is per connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The largest field section in bytes, as RFC 9114 section 4.2.2 counts them: name, value and
    /// 32 for each field. Announced as SETTINGS_MAX_FIELD_SECTION_SIZE. Also the longest HEADERS
    /// frame, which is never longer than the section inside unless it wastes bytes.
    ///
    /// Default 64 KiB: browsers stay under 16 KiB, other servers allow 8 to 64 KiB. A request
    /// beyond is answered with 431. At most 1 GiB.
    pub field_section_bytes_max: u32,
    /// Field lines in a section. Default 128: a browser sends under 30, most servers allow 100.
    /// More costs time for each field that is looked at; a request beyond is answered with 431.
    pub fields_max: usize,
    /// Bytes of HEADERS frames that have begun to arrive and are not complete, on all streams
    /// together. Default 256 KiB: 100 requests at once with 2.5 KiB of fields, each cut by the
    /// end of a packet. Beyond, the connection is closed.
    pub unfinished_bytes_max: usize,
    /// Requests at once. Default 256: above the 100 streams that QUIC servers usually allow, so
    /// that QUIC's limit, of which the peer is told, is the one that it meets. A request beyond
    /// is refused with H3_REQUEST_REJECTED.
    pub requests_max: usize,
    /// Unidirectional streams of the peer at once whose type is not known or that matter to us.
    /// Default 8: three have a meaning, others are ended as soon as they say what they are.
    pub uni_streams_max: usize,
    /// Pairs in a SETTINGS frame. Default 32: fewer than ten are defined, some peers add reserved
    /// ones. Beyond, the connection is closed.
    pub settings_max: usize,
    /// Points for what costs more than it carries, see [`Glitch`](crate::Glitch). A completed
    /// exchange takes one off, and so does [`Connection::forgive`](crate::Connection::forgive).
    ///
    /// Default 1,000: 200 cancelled requests more than completed ones, or 1,000 empty frames. A
    /// browser that leaves a page cancels up to 100. Beyond, the connection is closed with
    /// H3_EXCESSIVE_LOAD.
    pub glitches_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            field_section_bytes_max: 64 << 10,
            fields_max: 128,
            unfinished_bytes_max: 256 << 10,
            requests_max: 256,
            uni_streams_max: 8,
            settings_max: 32,
            glitches_max: 1000,
        }
    }
}

/// How a connection behaves.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Config {
    /// What the peer may ask.
    pub limits: Limits,
    /// Whether a server takes extended CONNECT (RFC 9220: CONNECT-UDP, WebSocket) and says so in
    /// its SETTINGS. Default no: such a request is refused with 501. The handler that takes them
    /// has to refuse the protocols that it does not know with 501 itself.
    pub extended_connect: bool,
    /// Whether a server takes plain CONNECT requests. Default no: refused with 501.
    pub connect: bool,
    /// Whether HTTP datagrams (RFC 9297) are taken, which SETTINGS then say. Default no. Needs
    /// QUIC datagrams: without them the peer has to close the connection.
    pub datagrams: bool,
}
