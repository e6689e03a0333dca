//! traffic is what passes between the engine and a backend: trains in, transmits out.

use std::net::{IpAddr, SocketAddr};

/// Names one open socket of one datapath. Ids of closed sockets are reused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SocketId(pub u32);

/// The ECN codepoint of an IP packet, RFC 3168. Not-ECT is `None` wherever this is optional.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[repr(u8)]
pub enum Ecn {
    /// ECT(1)
    Ect1 = 0b01,
    /// ECT(0)
    Ect0 = 0b10,
    /// Congestion experienced
    Ce = 0b11,
}

impl Ecn {
    /// Reads the low two bits of a TOS or traffic class byte.
    #[must_use]
    pub fn from_bits(tos: u8) -> Option<Self> {
        match tos & 0b11 {
            0b01 => Some(Self::Ect1),
            0b10 => Some(Self::Ect0),
            0b11 => Some(Self::Ce),
            _ => None,
        }
    }
}

/// What the kernel tells about a train of datagrams.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Meta {
    /// The socket it arrived on.
    pub socket: SocketId,
    /// Who sent it, canonical.
    pub source: SocketAddr,
    /// The local address it was sent to, canonical.
    pub target: Option<IpAddr>,
    /// One codepoint for the whole train: GRO does not merge packets with different ones.
    pub ecn: Option<Ecn>,
    /// Bytes of every datagram but the last, which may be shorter. Equals the length of the train
    /// when it is a single datagram.
    pub stride: usize,
}

/// One or more datagrams of one sender, lent for the duration of a call.
#[derive(Clone, Copy, Debug)]
pub struct Train<'b> {
    /// The payloads, back to back.
    pub bytes: &'b [u8],
    /// Where they came from.
    pub meta: Meta,
}

impl<'b> Train<'b> {
    /// The datagrams one by one. An empty datagram counts as one.
    pub fn datagrams(&self) -> impl Iterator<Item = &'b [u8]> + use<'b> {
        let empty = self.bytes.is_empty().then_some(self.bytes);
        empty.into_iter().chain(self.bytes.chunks(self.meta.stride.max(1)))
    }
}

/// Where and how a slot's payload leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Transmit {
    /// The socket to send from.
    pub socket: SocketId,
    /// Receiver, canonical.
    pub target: SocketAddr,
    /// The local address to send from; `None` leaves it to the routing table.
    pub source: Option<IpAddr>,
    /// ECN codepoint, `None` is Not-ECT.
    pub ecn: Option<Ecn>,
    /// With `Some(n)` the payload is a train of datagrams of `n` bytes, the last may be shorter.
    pub segment: Option<usize>,
}
