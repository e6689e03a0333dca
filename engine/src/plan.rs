//! plan makes every choice once: what was asked for, what this host can do, and why they differ.

use std::net::SocketAddr;

use quiclane_datapath::Uring;

use crate::config::{Budgets, Config, Io, ServerConfig};
use crate::error::{ConfigError, StartError};
use crate::placement;

/// What an engine runs with.
#[derive(Clone, Debug)]
pub struct Plan {
    workers: usize,
    cores: Vec<Option<usize>>,
    backend: Backend,
    steering: &'static str,
    interfaces: Vec<(String, &'static str)>,
    epoch: u64,
    retired: Vec<u64>,
    notes: Vec<String>,
}

/// A datapath; never "auto".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Backend {
    Uring,
    Epoll,
}

impl Plan {
    /// Decides about threads and I/O. Steering and epoch follow when the sockets are bound.
    pub(crate) fn resolve(config: &Config) -> Result<Self, StartError> {
        if let Some(server) = &config.server {
            ServerConfig::check_listen(&server.listen)?;
            check_budgets(&server.xdp.budgets)?;
        }
        let allowed = placement::allowed();
        let workers = match config.workers {
            0 if config.cores.is_empty() => allowed.len().clamp(1, WORKERS_MAX),
            0 => config.cores.len(),
            workers => workers,
        };
        if workers > WORKERS_MAX {
            return Err(ConfigError::TooManyWorkers(workers).into());
        }
        let cores = placement::place(workers, &config.cores, &allowed)?;
        let mut notes = Vec::new();
        if cores.iter().any(Option::is_none) {
            notes.push(format!(
                "cores: {workers} workers on {} cores, so none is pinned",
                allowed.len()
            ));
        }
        let backend = match config.io {
            Io::Epoll => Backend::Epoll,
            Io::Uring => {
                Uring::probe(config.ring.mode)?;
                Backend::Uring
            }
            Io::Auto => match Uring::probe(config.ring.mode) {
                Ok(()) => Backend::Uring,
                Err(error) => {
                    notes.push(format!("io_uring: {error}; using epoll"));
                    Backend::Epoll
                }
            },
        };
        let (interfaces, retired) = (Vec::new(), Vec::new());
        Ok(Self { workers, cores, backend, steering: "none", interfaces, epoch: 0, retired, notes })
    }

    /// What steering came to: the rung, and where XDP was put in which mode.
    pub(crate) fn steered(
        &mut self,
        rung: &'static str,
        interfaces: Vec<(String, &'static str)>,
        notes: Vec<String>,
        epoch: u64,
        retired: Vec<u64>,
    ) {
        self.steering = rung;
        self.interfaces = interfaces;
        self.epoch = epoch;
        self.retired = retired;
        self.notes.extend(notes);
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(crate) fn backend(&self) -> Backend {
        self.backend
    }

    /// Number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The core of each worker; `None` where it is not pinned.
    #[must_use]
    pub fn cores(&self) -> &[Option<usize>] {
        &self.cores
    }

    /// The datapath: `io_uring` or `epoll`.
    #[must_use]
    pub fn io(&self) -> &'static str {
        match self.backend {
            Backend::Uring => "io_uring",
            Backend::Epoll => "epoll",
        }
    }

    /// The rung of the steering ladder, `none` for a client.
    #[must_use]
    pub fn steering(&self) -> &'static str {
        self.steering
    }

    /// The interfaces that the XDP program was put on at start, each with its mode, `native` or
    /// `generic`. Empty on the rungs without XDP.
    #[must_use]
    pub fn interfaces(&self) -> &[(String, &'static str)] {
        &self.interfaces
    }

    /// This start's epoch, 0 for a client.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Earlier starts whose process was gone at this start, in their order: who still has a
    /// connection of theirs gets a stateless reset.
    #[must_use]
    pub fn retired_epochs(&self) -> &[u64] {
        &self.retired
    }

    /// One line for each step down and why, and for each choice that has no effect.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl ServerConfig {
    /// Before a socket is bound or an epoch taken: how many addresses, and none of them twice.
    ///
    /// # Errors
    ///
    /// There are none, or too many, or two that a packet could be for at once.
    pub fn check_listen(listen: &[SocketAddr]) -> Result<(), ConfigError> {
        match listen.len() {
            0 => return Err(ConfigError::NoListen),
            1..=LISTEN_MAX => {}
            more => return Err(ConfigError::TooManyListen(more)),
        }
        for (at, one) in listen.iter().enumerate() {
            if let Some(other) = listen[..at].iter().find(|other| overlap(**other, *one)) {
                return Err(ConfigError::ListenTwice(*other, *one));
            }
        }
        Ok(())
    }
}

/// No budget of nothing, and no prefix longer than what it is the beginning of.
fn check_budgets(budgets: &Budgets) -> Result<(), ConfigError> {
    let Budgets {
        prefix_initials_per_s,
        initials_per_s,
        proven_initials_per_s,
        prefix_bits_v4,
        prefix_bits_v6,
    } = *budgets;
    let out_of_range = |name, value: u32, remedy| {
        Err(ConfigError::OutOfRange { name, value: value.to_string(), remedy })
    };
    for (name, rate) in [
        ("prefix_initials_per_s", prefix_initials_per_s),
        ("initials_per_s", initials_per_s),
        ("proven_initials_per_s", proven_initials_per_s),
    ] {
        match rate {
            Some(rate @ 0) => {
                return out_of_range(name, rate, "give at least 1, or None: no limit");
            }
            Some(rate) if rate > Budgets::RATE_MAX => {
                return out_of_range(name, rate, "give at most 10000000, or None: no limit");
            }
            Some(_) | None => {}
        }
    }
    if prefix_bits_v4 > 32 {
        return out_of_range("prefix_bits_v4", prefix_bits_v4.into(), "give 0 to 32");
    }
    if prefix_bits_v6 > 64 {
        return out_of_range("prefix_bits_v6", prefix_bits_v6.into(), "give 0 to 64");
    }
    Ok(())
}

/// Whether a packet could be for both. The IPv6 wildcard takes IPv4 too; port 0 is a free one.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let takes = |a: SocketAddr, b: SocketAddr| {
        a.ip().is_unspecified() && (a.is_ipv6() || b.ip().to_canonical().is_ipv4())
    };
    let scope = |address| match address {
        SocketAddr::V6(address) => address.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    let same = a.ip().to_canonical() == b.ip().to_canonical() && scope(a) == scope(b);
    a.port() == b.port() && a.port() != 0 && (same || takes(a, b) || takes(b, a))
}

/// One byte of the connection ID names the worker; 255 stays free.
const WORKERS_MAX: usize = 255;
/// One byte of a tossed datagram names the listener. Every address costs a socket per worker.
const LISTEN_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_addresses_are_refused_with_the_limit() {
        let listen = |count: u16| -> Vec<SocketAddr> {
            (1..=count).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect()
        };
        assert!(ServerConfig::check_listen(&listen(256)).is_ok());
        let error = ServerConfig::check_listen(&listen(257)).unwrap_err().to_string();
        assert!(error.contains("257") && error.contains("at most 256"), "{error}");
        assert!(matches!(ServerConfig::check_listen(&[]), Err(ConfigError::NoListen)));
    }

    #[test]
    fn budgets_out_of_range_are_refused_with_the_value() {
        let check = |change: fn(&mut Budgets)| {
            let mut budgets = Budgets::default();
            change(&mut budgets);
            check_budgets(&budgets).map_err(|error| error.to_string())
        };
        assert_eq!(check(|_| {}), Ok(()));
        assert_eq!(check(|one| one.prefix_initials_per_s = None), Ok(()));
        assert_eq!(check(|one| (one.prefix_bits_v4, one.prefix_bits_v6) = (0, 64)), Ok(()));
        for (change, words) in [
            ((|one| one.prefix_initials_per_s = Some(0)) as fn(&mut Budgets), "s is 0: give at l"),
            (|one| one.initials_per_s = Some(10_000_001), "is 10000001: give at most 10000000"),
            (|one| one.proven_initials_per_s = Some(0), "proven_initials_per_s is 0"),
            (|one| one.prefix_bits_v4 = 33, "prefix_bits_v4 is 33: give 0 to 32"),
            (|one| one.prefix_bits_v6 = 65, "prefix_bits_v6 is 65: give 0 to 64"),
        ] {
            let error = check(change).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn addresses_that_overlap_are_refused_with_both() {
        for (one, other, expected) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("[::]:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "[::]:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("0.0.0.0:1", "[::ffff:127.0.0.1]:1", true),
            ("127.0.0.1:1", "[::ffff:127.0.0.1]:1", true),
            ("[fe80::1%1]:1", "[fe80::1%2]:1", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            for listen in [[one, other], [other, one]] {
                let refused = ServerConfig::check_listen(&listen);
                assert_eq!(refused.is_err(), expected, "{listen:?}");
                if let Err(error) = refused {
                    assert!(error.to_string().contains(&other.to_string()), "{error}");
                }
            }
        }
    }
}
