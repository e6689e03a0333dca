//! options are the flags that several commands share, and what they mean to the engine.

use std::time::Duration;

use clap::{Args, ValueEnum};
use quiclane::{Congestion, Io, Provider, Steering, Transport};
use quiclane_tuning::Rung;

use crate::exit::Failure;
use crate::flags::{Cores, cores, positive_time, positive_usize, size, size_u32, time};

/// Threads, cores and I/O.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Threads and I/O")]
pub(crate) struct WorkerOptions {
    /// Worker threads [default: one per core this process may use]
    #[arg(short = 't', long, visible_alias = "threads", value_name = "N",
          value_parser = positive_usize)]
    pub(crate) workers: Option<usize>,

    /// Cores to pin the workers to, in worker order, for example 0-3,6 [default: one each, if
    /// there are enough]
    #[arg(long, value_name = "LIST", value_parser = cores)]
    pub(crate) cores: Option<Cores>,

    /// How datagrams enter and leave
    #[arg(long, value_enum, default_value_t = IoFlag::Auto, value_name = "WAY")]
    pub(crate) io: IoFlag,

    /// Cryptography behind TLS and packet protection
    #[arg(long, value_enum, default_value_t = ProviderFlag::AwsLcRs, value_name = "NAME")]
    pub(crate) provider: ProviderFlag,
}

impl WorkerOptions {
    /// Threads asked for; 0 leaves it to the engine.
    pub(crate) fn workers(&self) -> usize {
        self.workers.unwrap_or(0)
    }

    /// Cores asked for; empty leaves them to the engine.
    pub(crate) fn cores(&self) -> Vec<usize> {
        self.cores.as_ref().map(|cores| cores.0.clone()).unwrap_or_default()
    }
}

/// QUIC settings of each connection.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "QUIC")]
pub(crate) struct TransportOptions {
    /// Silence after which a connection is dropped
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = positive_time)]
    idle_timeout: Duration,

    /// Ping a peer after this much silence; less than --idle-timeout here and there, else it
    /// comes too late; 0 = never
    #[arg(long, value_name = "TIME", default_value = "0", value_parser = time)]
    keep_alive: Duration,

    /// Bytes a peer may have in flight on one stream [default: 1m]
    #[arg(long, value_name = "SIZE", value_parser = size_u32)]
    stream_window: Option<u32>,

    /// Bytes a peer may have in flight on all streams of a connection [default: 4m]
    #[arg(long, value_name = "SIZE", value_parser = size_u32)]
    window: Option<u32>,

    /// Largest UDP payload to try, in bytes; 1200 sends no larger ones and probes nothing
    /// [default: 1472 with IPv4, 1452 with IPv6]
    #[arg(long, value_name = "BYTES",
          value_parser = clap::value_parser!(u16).range(1_200..=65_527))]
    mtu_max: Option<u16>,

    /// Congestion control: cubic (RFC 9438), newreno (RFC 9002 section 7), bbr (experimental) or
    /// brutal=RATE, so many bytes a second whatever is lost, for example brutal=10m
    #[arg(long, visible_alias = "cc", default_value = "cubic", value_name = "NAME",
          value_parser = congestion)]
    congestion: Congestion,
}

impl TransportOptions {
    /// As the engine wants them.
    pub(crate) fn transport(&self) -> Transport {
        let default = Transport::default();
        Transport {
            idle_timeout: self.idle_timeout,
            keep_alive: (!self.keep_alive.is_zero()).then_some(self.keep_alive),
            stream_receive_window: self.stream_window.unwrap_or(default.stream_receive_window),
            receive_window: self.window.unwrap_or(default.receive_window),
            mtu_max: self.mtu_max,
            congestion: self.congestion,
            ..default
        }
    }
}

/// --io.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum IoFlag {
    /// io_uring where the kernel allows it, else epoll
    Auto,
    /// io_uring or fail
    Uring,
    /// epoll with recvmmsg and sendmmsg
    Epoll,
}

impl From<IoFlag> for Io {
    fn from(flag: IoFlag) -> Self {
        match flag {
            IoFlag::Auto => Self::Auto,
            IoFlag::Uring => Self::Uring,
            IoFlag::Epoll => Self::Epoll,
        }
    }
}

/// --steering.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SteeringFlag {
    /// The best way this host allows
    Auto,
    /// XDP in the driver, in front of reuseport
    Xdp,
    /// XDP in the network stack, in front of reuseport
    XdpGeneric,
    /// eBPF on the sockets verifies connection IDs
    Reuseport,
    /// Classic BPF reads the worker from the connection ID
    Cbpf,
    /// The kernel's hash of addresses and ports; workers carry strays to one another
    Hash,
}

impl From<SteeringFlag> for Steering {
    fn from(flag: SteeringFlag) -> Self {
        match flag {
            SteeringFlag::Auto => Self::Auto,
            SteeringFlag::Xdp => Self::Xdp,
            SteeringFlag::XdpGeneric => Self::XdpGeneric,
            SteeringFlag::Reuseport => Self::Reuseport,
            SteeringFlag::Cbpf => Self::Cbpf,
            SteeringFlag::Hash => Self::Hash,
        }
    }
}

impl From<SteeringFlag> for Option<Rung> {
    fn from(flag: SteeringFlag) -> Self {
        match flag {
            SteeringFlag::Auto => None,
            SteeringFlag::Xdp => Some(Rung::Xdp),
            SteeringFlag::XdpGeneric => Some(Rung::XdpGeneric),
            SteeringFlag::Reuseport => Some(Rung::Reuseport),
            SteeringFlag::Cbpf => Some(Rung::Cbpf),
            SteeringFlag::Hash => Some(Rung::Hash),
        }
    }
}

/// --xdp-redirect.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum RedirectFlag {
    /// Packets stay on the core that the device chose
    Off,
    /// To the core of their worker (CPUMAP)
    Cpu,
}

/// Refuses what is for XDP beside a way of steering that has none. With `auto` it is not known
/// before the start, and then the log says so.
pub(crate) fn check_xdp_flags(
    steering: SteeringFlag,
    interfaces: &[String],
    redirect: RedirectFlag,
) -> Result<(), Failure> {
    let beside = match steering {
        SteeringFlag::Auto | SteeringFlag::Xdp | SteeringFlag::XdpGeneric => return Ok(()),
        SteeringFlag::Reuseport => "--steering reuseport",
        SteeringFlag::Cbpf => "--steering cbpf",
        SteeringFlag::Hash => "--steering hash",
    };
    let mut flags: Vec<String> =
        interfaces.iter().map(|name| format!("--interface {name}")).collect();
    flags.extend((redirect == RedirectFlag::Cpu).then(|| "--xdp-redirect cpu".to_owned()));
    if flags.is_empty() {
        return Ok(());
    }
    Err(Failure::WithoutEffect {
        flags: flags.join(", "),
        beside: beside.to_owned(),
        why: "which puts no program on interfaces",
        remedy: "give --steering auto, xdp or xdp-generic",
    })
}

/// --provider.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProviderFlag {
    /// aws-lc-rs, the faster one
    AwsLcRs,
    /// ring
    Ring,
}

impl From<ProviderFlag> for Provider {
    fn from(flag: ProviderFlag) -> Self {
        match flag {
            ProviderFlag::AwsLcRs => Self::AwsLcRs,
            ProviderFlag::Ring => Self::Ring,
        }
    }
}

/// --congestion.
fn congestion(text: &str) -> Result<Congestion, String> {
    let remedy = "write cubic, newreno, bbr or brutal=RATE, bytes a second as 500k or 10m";
    match (text, text.split_once('=')) {
        ("cubic", _) => Ok(Congestion::Cubic),
        // As the flag was spelt first.
        ("newreno" | "new-reno", _) => Ok(Congestion::NewReno),
        ("bbr", _) => Ok(Congestion::Bbr),
        (_, Some(("brutal", rate))) => match size(rate) {
            Ok(bytes_per_s @ BRUTAL_MIN..=BRUTAL_MAX) => Ok(Congestion::Brutal { bytes_per_s }),
            _ => Err(format!("{rate:?} is no rate from 1k to 128g a second: {remedy}")),
        },
        _ => Err(remedy.into()),
    }
}

/// Less than a datagram a second is no connection.
const BRUTAL_MIN: u64 = 1 << 10;

/// A terabit.
const BRUTAL_MAX: u64 = 128 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn congestion_controllers_are_read() {
        for (text, expected) in [
            ("cubic", Congestion::Cubic),
            ("newreno", Congestion::NewReno),
            ("new-reno", Congestion::NewReno),
            ("bbr", Congestion::Bbr),
            ("brutal=10m", Congestion::Brutal { bytes_per_s: 10 << 20 }),
        ] {
            assert_eq!(congestion(text), Ok(expected));
        }
        for wrong in ["", "reno", "brutal", "brutal=", "brutal=0", "brutal=1t", "cubic=5"] {
            let error = congestion(wrong).unwrap_err();
            assert!(error.contains("brutal=RATE"), "{wrong}: {error}");
        }
    }
}
