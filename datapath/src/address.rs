//! address turns socket addresses into the kernel's bytes and back.
//!
//! Above this room an IPv4 address is an IPv4 address. On an IPv6 socket the kernel knows it only
//! as v4-mapped (`::ffff:192.0.2.1`), so it is mapped on the way out and made canonical on the way
//! in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Room for the larger of sockaddr_in and sockaddr_in6.
pub(crate) const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

const NAME_V4_BYTES: usize = size_of::<libc::sockaddr_in>();
const _: () = assert!(NAME_V4_BYTES == 16 && NAME_BYTES == 28);

/// Address family of a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// `address` as a socket of this family knows it.
    pub(crate) fn mapped(self, address: SocketAddr) -> SocketAddr {
        match (self, address) {
            (Self::V6, SocketAddr::V4(v4)) => (v4.ip().to_ipv6_mapped(), v4.port()).into(),
            _ => address,
        }
    }
}

/// A sockaddr_in or sockaddr_in6 as the kernel reads and writes it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub(crate) struct Name {
    pub(crate) bytes: [u8; NAME_BYTES],
}

impl Name {
    pub(crate) const EMPTY: Self = Self { bytes: [0; NAME_BYTES] };

    /// Writes `address` for a socket of `family` and returns the number of bytes.
    pub(crate) fn encode(&mut self, address: SocketAddr, family: Family) -> u32 {
        self.bytes = [0; NAME_BYTES];
        self.bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
        match (address, family) {
            (SocketAddr::V4(v4), Family::V4) => {
                self.family(libc::AF_INET);
                self.bytes[4..8].copy_from_slice(&v4.ip().octets());
                16
            }
            (SocketAddr::V4(v4), Family::V6) => {
                self.family(libc::AF_INET6);
                self.bytes[8..24].copy_from_slice(&v4.ip().to_ipv6_mapped().octets());
                28
            }
            (SocketAddr::V6(v6), _) => {
                self.family(libc::AF_INET6);
                self.bytes[8..24].copy_from_slice(&v6.ip().octets());
                self.bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                28
            }
        }
    }

    fn family(&mut self, family: libc::c_int) {
        let family = libc::sa_family_t::try_from(family).unwrap_or_default();
        self.bytes[..2].copy_from_slice(&family.to_ne_bytes());
    }
}

/// Reads what the kernel wrote; `None` for anything but a complete IPv4 or IPv6 address.
pub(crate) fn decode(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*name.first_chunk()?);
    let port = u16::from_be_bytes(array(name, 2)?);
    match libc::c_int::from(family) {
        libc::AF_INET => Some(SocketAddr::from((Ipv4Addr::from(array::<4>(name, 4)?), port))),
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(array::<16>(name, 8)?);
            let scope = u32::from_ne_bytes(array(name, 24)?);
            Some(match canonical(ip) {
                IpAddr::V4(v4) => SocketAddr::from((v4, port)),
                IpAddr::V6(v6) => SocketAddrV6::new(v6, port, 0, scope).into(),
            })
        }
        _ => None,
    }
}

/// An IPv4 address for a v4-mapped one.
pub(crate) fn canonical(ip: Ipv6Addr) -> IpAddr {
    ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4)
}

/// `N` bytes at `at`, if they are all there.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trips_for_both_families(address: SocketAddr, scope: u32) {
            let address = match address {
                SocketAddr::V4(_) => address,
                SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_some() => return Ok(()),
                SocketAddr::V6(v6) => SocketAddrV6::new(*v6.ip(), v6.port(), 0, scope).into(),
            };
            for family in [Family::V4, Family::V6] {
                let mut name = Name::EMPTY;
                let bytes = name.encode(address, family) as usize;
                prop_assert_eq!(decode(&name.bytes[..bytes]), Some(address));
            }
        }

        #[test]
        fn agrees_with_the_sockaddr_of_socket2(address: SocketAddr) {
            let mut name = Name::EMPTY;
            let bytes = name.encode(address, Family::of(address));
            let theirs = socket2::SockAddr::from(address);
            prop_assert_eq!(bytes, theirs.len());
            prop_assert_eq!(
                SocketAddr::new(address.ip(), address.port()),
                theirs.as_socket().map(|a| SocketAddr::new(a.ip(), a.port())).unwrap()
            );
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn ipv4_is_mapped_on_an_ipv6_socket() {
        let mut name = Name::EMPTY;
        assert_eq!(name.encode("192.0.2.1:443".parse().unwrap(), Family::V6), 28);
        assert_eq!(name.bytes[18..24], [0xff, 0xff, 192, 0, 2, 1]);
    }
}
