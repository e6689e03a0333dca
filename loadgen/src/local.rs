//! local is the addresses that connections come from, taken in turn.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;

use crate::config::LoadError;

/// Local addresses, singly or in whole networks: `127.0.0.2,127.0.0.3`, `127.1.0.0/16`, `::/112`.
/// All of one IP version. However many they are, they take no memory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LocalAddresses(Vec<Network>);

/// All addresses that have so many leading bits in common with `first`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Network {
    first: IpAddr,
    /// How many addresses there are, less one.
    last: u128,
}

impl LocalAddresses {
    /// Whether they are of version 4.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.nth(0).is_ipv4()
    }

    /// Number `index`, beginning again after the last one.
    #[must_use]
    pub fn nth(&self, index: u64) -> IpAddr {
        let mut left = u128::from(index) % self.count();
        for network in &self.0 {
            if left <= network.last {
                return network.nth(left);
            }
            left -= network.last + 1;
        }
        // There is at least one network, and `left` is below the sum of all.
        self.0[0].first
    }

    /// How many there are; of more than anybody counts, that many.
    fn count(&self) -> u128 {
        self.0
            .iter()
            .fold(0, |sum: u128, network| sum.saturating_add(network.last.saturating_add(1)))
    }

    /// Binds to the first `wanted` addresses, and so to all that a run uses, for a moment each.
    pub(crate) fn check(&self, wanted: u64) -> Result<(), LoadError> {
        let wanted = u64::try_from(self.count()).unwrap_or(u64::MAX).min(wanted);
        for address in (0..wanted).map(|index| self.nth(index)) {
            UdpSocket::bind(SocketAddr::new(address, 0))
                .map_err(|source| LoadError::LocalAddress { address, source })?;
        }
        Ok(())
    }
}

impl Network {
    fn nth(&self, index: u128) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => {
                let index = u32::try_from(index).unwrap_or_default();
                IpAddr::V4(Ipv4Addr::from_bits(first.to_bits().wrapping_add(index)))
            }
            IpAddr::V6(first) => {
                IpAddr::V6(Ipv6Addr::from_bits(first.to_bits().wrapping_add(index)))
            }
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let remedy = || format!("{text:?}: write an address, or a network as 127.1.0.0/16");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| remedy())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits: u32 = bits.map_or(Ok(width), str::parse).map_err(|_| remedy())?;
        let free = width.checked_sub(bits).ok_or_else(remedy)?;
        let last = u128::MAX.checked_shr(128 - free).unwrap_or_default();
        let own = match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        if own & last != 0 {
            return Err(format!(
                "{text:?} is no network: the last {free} bits of its address are to be 0"
            ));
        }
        Ok(Self { first: address, last })
    }
}

impl FromStr for LocalAddresses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let networks: Vec<Network> =
            text.split(',').map(|part| part.trim().parse()).collect::<Result<_, _>>()?;
        let [first, rest @ ..] = networks.as_slice() else { return Err("no address".into()) };
        match rest.iter().find(|other| other.first.is_ipv4() != first.first.is_ipv4()) {
            Some(other) => Err(format!(
                "{} and {} are of two IP versions: give those of one",
                first.first, other.first
            )),
            None => Ok(Self(networks)),
        }
    }
}

impl fmt::Display for LocalAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Network { first, last }) in self.0.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            let width = if first.is_ipv4() { 32 } else { 128 };
            match last.count_ones() {
                0 => write!(f, "{comma}{first}")?,
                free => write!(f, "{comma}{first}/{}", width - free)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locals(text: &str) -> LocalAddresses {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_taken_in_turn() {
        let list = locals("127.0.0.2, 127.1.0.0/30,127.0.0.9");
        let taken: Vec<String> = (0..7).map(|index| list.nth(index).to_string()).collect();
        let expected = ["127.0.0.2", "127.1.0.0", "127.1.0.1", "127.1.0.2", "127.1.0.3"];
        assert_eq!(taken[..5], expected);
        assert_eq!(taken[5..], ["127.0.0.9", "127.0.0.2"]);
        assert_eq!(list.to_string(), "127.0.0.2,127.1.0.0/30,127.0.0.9");
        assert_eq!(locals("127.1.0.0/16").nth(65_535).to_string(), "127.1.255.255");
        assert_eq!(locals("127.1.0.0/16").nth(65_536).to_string(), "127.1.0.0");
        assert_eq!(locals("fd00::/112").nth(65_535).to_string(), "fd00::ffff");
        assert_eq!(locals("::/0").nth(u64::MAX).to_string(), "::ffff:ffff:ffff:ffff");
        assert_eq!(locals("0.0.0.0/0").nth(1 << 31).to_string(), "128.0.0.0");
    }

    #[test]
    fn what_is_no_list_of_addresses_is_refused() {
        for (text, word) in [
            ("", "127.1.0.0/16"),
            ("a", "\"a\""),
            ("127.0.0.1,", "\"\""),
            ("127.0.0.1/33", "/33"),
            ("::1/129", "/129"),
            ("127.0.0.1/x", "/x"),
            ("127.0.0.1/8", "no network: the last 24 bits"),
            ("127.0.0.1,::1", "two IP versions"),
        ] {
            let error = text.parse::<LocalAddresses>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn an_address_of_another_host_is_named() {
        assert!(locals("127.0.0.0/24").check(u64::from(u32::MAX)).is_ok());
        // RFC 5737: nobody has it.
        let error = locals("127.0.0.1,192.0.2.1").check(5).unwrap_err().to_string();
        assert!(error.contains("192.0.2.1") && error.contains("ip addr"), "{error}");
        assert!(locals("127.0.0.1,192.0.2.1").check(1).is_ok(), "the second one is not used");
    }
}
