//! target finds the server that a URL names.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// A server as the user writes it: `quic://HOST:PORT`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Url {
    /// A name or an address; IPv6 without its brackets, with its interface if it has one.
    pub(crate) host: String,
    /// UDP port.
    pub(crate) port: u16,
}

impl Url {
    /// What the certificate calls it: the host without an interface.
    pub(crate) fn name(&self) -> &str {
        self.host.split('%').next().unwrap_or_default()
    }

    /// The addresses it stands for, best first. With `local`, only those it can reach.
    pub(crate) fn resolve(&self, local: Option<IpAddr>) -> Result<Vec<SocketAddr>, TargetError> {
        let found: Vec<SocketAddr> = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|source| TargetError::Unknown { host: self.host.clone(), source })?
            .collect();
        let reachable: Vec<SocketAddr> = found
            .iter()
            .copied()
            .filter(|address| local.is_none_or(|local| local.is_ipv4() == address.is_ipv4()))
            .collect();
        match (reachable.is_empty(), found.first(), local) {
            (true, Some(&address), Some(local)) => {
                Err(TargetError::Family { local, host: self.host.clone(), address })
            }
            (true, ..) => Err(TargetError::NoAddress(self.host.clone())),
            (false, ..) => Ok(reachable),
        }
    }
}

impl FromStr for Url {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let remedy = "write quic://HOST:PORT, for example quic://localhost:4433 or \
                      quic://[::1]:4433";
        let (scheme, rest) = text.split_once("://").ok_or(remedy)?;
        if !scheme.eq_ignore_ascii_case("quic") {
            return Err(format!("{scheme}:// is not known: {remedy}"));
        }
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(remedy)?;
                // RFC 4007: fe80::1%eth0. Whether there is such an interface the resolver knows.
                let address = host.split_once('%').map_or(host, |(address, _)| address);
                address
                    .parse::<Ipv6Addr>()
                    .map_err(|_| format!("{host} is not an IPv6 address: {remedy}"))?;
                (host, port.strip_prefix(':').ok_or_else(|| no_port(remedy))?)
            }
            None => authority.rsplit_once(':').ok_or_else(|| no_port(remedy))?,
        };
        if host.is_empty() || (host.contains(':') && !authority.starts_with('[')) {
            return Err(remedy.into());
        }
        if host.contains(['/', '?', '#', '@', ' ']) || port.contains('/') {
            return Err(format!("only a host and a port are possible: {remedy}"));
        }
        match port.parse() {
            Ok(0) | Err(_) => Err(format!("port {port:?} is not a number from 1 to 65535")),
            Ok(port) => Ok(Self { host: host.into(), port }),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "quic://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "quic://{}:{}", self.host, self.port)
        }
    }
}

fn no_port(remedy: &str) -> String {
    format!("the port is missing: {remedy}")
}

/// Why a server cannot be found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// The resolver's answer.
    #[error("host {host}: {source}; check the name, or give an address")]
    Unknown {
        /// The name.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// A name without addresses.
    #[error("host {0} has no address")]
    NoAddress(String),
    /// --local-addr is of the other IP version.
    #[error("--local-addr {local} cannot reach {host} ({address}): use the same IP version")]
    Family {
        /// What was asked for.
        local: IpAddr,
        /// The name.
        host: String,
        /// One of its addresses.
        address: SocketAddr,
    },
}

impl TargetError {
    /// Whether the command line is to blame, rather than the network.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(self, Self::Family { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(host: &str, port: u16) -> Url {
        Url { host: host.into(), port }
    }

    #[test]
    fn urls_name_a_host_and_a_port() {
        assert_eq!("quic://localhost:4433".parse(), Ok(url("localhost", 4_433)));
        assert_eq!("QUIC://127.0.0.1:1/".parse(), Ok(url("127.0.0.1", 1)));
        assert_eq!("quic://[::1]:4433".parse(), Ok(url("::1", 4_433)));
        assert_eq!(url("::1", 1).to_string(), "quic://[::1]:1");
        assert_eq!("quic://[::1%lo]:1".parse(), Ok(url("::1%lo", 1)));
        assert_eq!(url("fe80::1%lo", 1).name(), "fe80::1");
    }

    #[test]
    fn other_urls_are_refused_with_the_remedy() {
        for wrong in [
            "localhost:4433",
            "http://localhost:4433",
            "quic://localhost",
            "quic://:1",
            "quic://::1:4433",
            "quic://[::1]",
            "quic://[nonsense]:1",
            "quic://a:0",
            "quic://a:b",
            "quic://a:70000",
            "quic://a:1/path",
            "quic://",
            "",
            "quic://u@h:1",
        ] {
            let error = wrong.parse::<Url>().unwrap_err();
            assert!(error.contains("quic://") || error.contains("port"), "{wrong}: {error}");
        }
    }

    #[test]
    fn addresses_resolve_to_themselves() {
        let address = url("127.0.0.1", 5).resolve(None).unwrap();
        assert_eq!(address, ["127.0.0.1:5".parse().unwrap()]);
        let scoped = url("fe80::1%lo", 5).resolve(None).unwrap();
        assert!(matches!(scoped[..], [SocketAddr::V6(v6)] if v6.scope_id() > 0), "{scoped:?}");
        assert!(url("fe80::1%nowhere", 5).resolve(None).is_err());
        let local = Some("::1".parse().unwrap());
        let error = url("127.0.0.1", 5).resolve(local).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains("::1"));
    }
}
