//! target finds the server that a URL names.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

/// What a URL says is spoken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scheme {
    /// Something over QUIC, which a flag names.
    Quic,
    /// HTTP/3.
    Https,
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Https => "https",
        }
    }
}

/// A server as the user writes it: `quic://HOST:PORT`, or with something to ask it for:
/// `https://HOST[:PORT][/PATH]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Url {
    /// What is spoken.
    pub(crate) scheme: Scheme,
    /// A name or an address; IPv6 without its brackets, with its interface if it has one.
    pub(crate) host: String,
    /// UDP port.
    pub(crate) port: u16,
    /// Path and query, as HTTP sends them; empty with `quic://`.
    pub(crate) path: String,
}

impl Url {
    /// What the certificate calls it: the host without an interface.
    pub(crate) fn name(&self) -> &str {
        self.host.split('%').next().unwrap_or_default()
    }

    /// Host and port as HTTP names them: without an interface, and without the usual port.
    pub(crate) fn authority(&self) -> String {
        let name = self.name();
        let name = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
        if self.port == HTTPS_PORT { name } else { format!("{name}:{}", self.port) }
    }

    /// Whether `other` leads to the same server, by the same protocol.
    pub(crate) fn has_origin_of(&self, other: &Self) -> bool {
        let is_host = self.host.eq_ignore_ascii_case(&other.host);
        is_host && (self.scheme, self.port) == (other.scheme, other.port)
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
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| format!("write {QUIC_OR_HTTPS}"))?;
        let (scheme, remedy) = match scheme {
            _ if scheme.eq_ignore_ascii_case("quic") => (Scheme::Quic, QUIC),
            _ if scheme.eq_ignore_ascii_case("https") => (Scheme::Https, HTTPS),
            _ => return Err(format!("{scheme}:// is not known: write {QUIC_OR_HTTPS}")),
        };
        let (authority, path) = match scheme {
            Scheme::Quic => (rest.strip_suffix('/').unwrap_or(rest), String::new()),
            Scheme::Https => {
                // What follows a # is for the reader of the answer.
                let rest = rest.split('#').next().unwrap_or_default();
                let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                (authority, encode(path))
            }
        };
        if authority.contains('@') {
            return Err(format!("a user or a password is not possible: {remedy}"));
        }
        if authority.contains(['/', '?', '#', ' ']) {
            return Err(format!("only a host and a port are possible: {remedy}"));
        }
        let (host, port) = match authority.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(remedy)?;
                // RFC 4007: fe80::1%eth0. Whether there is such an interface the resolver knows.
                let address = host.split_once('%').map_or(host, |(address, _)| address);
                address
                    .parse::<Ipv6Addr>()
                    .map_err(|_| format!("{host} is not an IPv6 address: {remedy}"))?;
                match port.strip_prefix(':') {
                    None if !port.is_empty() => return Err(remedy.into()),
                    port => (host, port),
                }
            }
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() || (host.contains(':') && !authority.starts_with('[')) {
            return Err(remedy.into());
        }
        let port = match (port, scheme) {
            (None, Scheme::Https) => HTTPS_PORT,
            (None, Scheme::Quic) => return Err(format!("the port is missing: {remedy}")),
            (Some(port), _) => match port.parse() {
                Ok(0) | Err(_) => {
                    return Err(format!("port {port:?} is not a number from 1 to 65535"));
                }
                Ok(port) => port,
            },
        };
        Ok(Self { scheme, host: host.into(), port, path })
    }
}

/// The path as HTTP sends it: never empty, bytes beyond ASCII as `%` and two digits. What was
/// encoded already stays as it is.
fn encode(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len() + 1);
    if !path.starts_with('/') {
        encoded.push('/');
    }
    for character in path.chars() {
        if character.is_ascii() {
            encoded.push(character);
        } else {
            let mut bytes = [0; 4];
            for byte in character.encode_utf8(&mut bytes).bytes() {
                encoded.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    encoded
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port, path } = self;
        let scheme = scheme.name();
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        match self.scheme {
            Scheme::Https if *port == HTTPS_PORT => write!(f, "{scheme}://{host}{path}"),
            Scheme::Https | Scheme::Quic => write!(f, "{scheme}://{host}:{port}{path}"),
        }
    }
}

/// RFC 9114 section 3.1.1: that of the scheme.
const HTTPS_PORT: u16 = 443;

const QUIC: &str = "write quic://HOST:PORT, for example quic://localhost:4433 or quic://[::1]:4433";

const HTTPS: &str =
    "write https://HOST[:PORT][/PATH], for example https://localhost:4433/index.html";

const QUIC_OR_HTTPS: &str = "quic://HOST:PORT, for example quic://localhost:4433 or \
                             quic://[::1]:4433, or for HTTP/3 https://HOST[:PORT][/PATH]";

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
        Url { scheme: Scheme::Quic, host: host.into(), port, path: String::new() }
    }

    fn https(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn https_names_a_server_and_something_to_ask_it_for() {
        for (text, authority, path) in [
            ("https://localhost", "localhost", "/"),
            ("HTTPS://localhost:443/", "localhost", "/"),
            ("https://a:4433/b/c?d=e#f", "a:4433", "/b/c?d=e"),
            ("https://a?b", "a", "/?b"),
            ("https://[::1]/x", "[::1]", "/x"),
            ("https://[fe80::1%lo]:1/x", "[fe80::1]:1", "/x"),
            ("https://a/\u{e4}%20", "a", "/%C3%A4%20"),
            ("https://a/b://c", "a", "/b://c"),
        ] {
            let url = https(text);
            assert_eq!((url.authority().as_str(), url.path.as_str()), (authority, path));
        }
        assert_eq!(https("https://a:443/b").to_string(), "https://a/b");
        assert_eq!(https("https://[::1]:4433").to_string(), "https://[::1]:4433/");
        assert!(https("https://A/b").has_origin_of(&https("https://a:443/c")));
        for other in ["https://a:4433/b", "https://b/b", "quic://a:443"] {
            assert!(!https("https://a/b").has_origin_of(&https(other)), "{other}");
        }
        for wrong in ["https://", "https:///x", "https://a:0", "https://u@a/", "https://[::1]x/"] {
            let error = wrong.parse::<Url>().unwrap_err();
            assert!(error.contains("https://HOST") || error.contains("port"), "{wrong}: {error}");
        }
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
