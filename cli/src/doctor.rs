//! doctor says what this host can do for quiclane and what is in the way.

mod text;

use std::env;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;

use clap::Args;
use quiclane::{ServerConfig, StartError};
use quiclane_loadgen::LoadConfig;
use quiclane_tuning::{Ask, doctor};

use crate::exit::{Exit, Failure};
use crate::flags::{Cores, address, cores, positive_usize, socket_buffer};
use crate::options::{IoFlag, RedirectFlag, SteeringFlag, check_xdp_flags};
use crate::output;

/// Say what this host can do and what is in the way, with the commands that mend it
///
/// Looks at the kernel, this process's privileges and limits, and each network interface. Changes
/// nothing, sends nothing beyond loopback, needs no root; what it could not read it says. It takes
/// those flags of `serve` and `load` that the host has a say in, and judges what they need. A
/// problem makes something asked for fail or be silently wrong or slow; a warning leaves something
/// unused.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DoctorArgs {
    /// Address to listen on; may be repeated. Each is bound for a moment
    #[arg(long, value_name = "ADDR", value_parser = address)]
    listen: Vec<SocketAddr>,

    /// Interface that packets arrive on; may be repeated [default: the owner of each --listen,
    /// for a wildcard or none every interface that is up except lo]
    #[arg(long, value_name = "NAME")]
    interface: Vec<String>,

    /// How a packet is to find its worker. `auto` takes what this host allows; another one is had
    /// or a problem
    #[arg(long, value_enum, default_value_t = SteeringFlag::Auto, value_name = "WAY")]
    steering: SteeringFlag,

    /// Whether XDP is to move packets to the core of their worker
    #[arg(long, value_enum, default_value_t = RedirectFlag::Off, value_name = "WHERE")]
    xdp_redirect: RedirectFlag,

    /// Worker threads [default: one per core this process may use]
    #[arg(short = 't', long, visible_alias = "threads", value_name = "N",
          value_parser = positive_usize)]
    workers: Option<usize>,

    /// Cores to pin the workers to, in worker order [default: one each, if there are enough]
    #[arg(long, value_name = "LIST", value_parser = cores)]
    cores: Option<Cores>,

    /// Connections that `quiclane load` is to open
    #[arg(short, long, visible_alias = "clients", value_name = "N", value_parser = positive_usize)]
    connections: Option<usize>,

    /// Idle connections that `quiclane load` is to hold
    #[arg(long, value_name = "N", conflicts_with = "connections", value_parser = positive_usize)]
    idle: Option<usize>,

    /// How datagrams enter and leave
    #[arg(long, value_enum, default_value_t = IoFlag::Auto, value_name = "WAY")]
    io: IoFlag,

    /// Kernel buffer per socket and direction
    #[arg(long, value_name = "SIZE", default_value = "4m", value_parser = socket_buffer)]
    socket_buffer: u64,

    /// The report as JSON on stdout
    #[arg(long)]
    json: bool,

    /// Say of everything why it matters, not only of what is wrong
    #[arg(short, long, conflicts_with = "json")]
    verbose: bool,
}

/// Runs the command.
pub(crate) fn run(args: &DoctorArgs) -> Result<Exit, Failure> {
    check_xdp_flags(args.steering, &args.interface, args.xdp_redirect)?;
    if !args.listen.is_empty() {
        ServerConfig::check_listen(&args.listen).map_err(StartError::from)?;
    }
    let report = doctor(&args.ask());
    if args.json {
        output::json(&report)?;
    } else {
        output::result(text::Text { report: &report, verbose: args.verbose, colour: colour() })?;
    }
    Ok(if report.ok { Exit::Ok } else { Exit::Failed })
}

impl DoctorArgs {
    fn ask(&self) -> Ask {
        let connections = self.connections.or(self.idle);
        Ask {
            listen: self.listen.clone(),
            interfaces: self.interface.clone(),
            steering: self.steering.into(),
            redirect: self.xdp_redirect == RedirectFlag::Cpu,
            workers: self.workers,
            cores: self.cores.as_ref().map(|cores| cores.0.clone()).unwrap_or_default(),
            connections: connections.unwrap_or(0),
            load_files: connections.map_or(0, LoadConfig::open_files),
            uring: matches!(self.io, IoFlag::Uring),
            socket_buffer_bytes: usize::try_from(self.socket_buffer).unwrap_or(usize::MAX),
        }
    }
}

/// Colours are for terminals whose owner wants them, see no-color.org.
fn colour() -> bool {
    io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

const EXAMPLES: &str = "\
Examples:
  quiclane doctor
  quiclane doctor --listen [::]:4433 --interface eth0 --workers 4
  quiclane doctor --steering xdp --xdp-redirect cpu --io uring
  quiclane doctor --connections 10000 --json";

#[cfg(test)]
mod tests {
    use clap::Parser;
    use quiclane::Limits;
    use quiclane_tuning::Rung;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        doctor: DoctorArgs,
    }

    #[test]
    fn flags_mean_what_they_mean_to_serve_and_load() {
        let ask = Flags::parse_from(["doctor"]).doctor.ask();
        let socket_buffer_bytes = Limits::default().socket_buffer_bytes;
        assert_eq!(ask, Ask { socket_buffer_bytes, ..Ask::default() });
        let flags = ["doctor", "-c", "1k", "--io", "uring", "--listen", "[::]:1", "-t", "2"];
        let ask = Flags::parse_from(flags).doctor.ask();
        assert_eq!((ask.connections, ask.workers, ask.uring), (1_000, Some(2), true));
        assert_eq!(ask.load_files, LoadConfig::open_files(1_000));
        let idle = Flags::parse_from(["doctor", "--idle", "10k"]).doctor.ask();
        assert_eq!((idle.connections, idle.load_files), (10_000, LoadConfig::open_files(10_000)));
        let flags = ["doctor", "--cores", "0-2", "--xdp-redirect", "cpu"];
        let moving = Flags::parse_from(flags).doctor.ask();
        assert_eq!((moving.cores, moving.redirect), (vec![0, 1, 2], true));
        assert_eq!(ask.listen, ["[::]:1".parse().unwrap()]);
        let asked = |way| Flags::parse_from(["doctor", "--steering", way]).doctor.ask().steering;
        for rung in [Rung::Xdp, Rung::XdpGeneric, Rung::Reuseport, Rung::Cbpf, Rung::Hash] {
            assert_eq!(asked(rung.name()), Some(rung));
        }
        assert_eq!(asked("auto"), None);
    }
}
