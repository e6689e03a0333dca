//! doctor says what this host can do for quiclane and what is in the way.

mod text;

use std::env;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;

use clap::Args;
use quiclane_loadgen::LoadConfig;
use quiclane_tuning::{Ask, doctor};

use crate::exit::{Exit, Failure};
use crate::flags::{address, positive_usize, size};
use crate::options::{IoFlag, SteeringFlag};
use crate::output;

/// Say what this host can do and what is in the way, with the commands that mend it
///
/// Looks at the kernel, this process's privileges and limits, and each network interface. Changes
/// nothing, sends nothing beyond loopback, needs no root; what it could not read it says. Give it
/// the flags of `serve` or `load` to judge what they need. A problem makes something asked for fail
/// or be silently wrong or slow; a warning leaves something unused.
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

    /// Worker threads [default: one per core this process may use]
    #[arg(short = 't', long, visible_alias = "threads", value_name = "N",
          value_parser = positive_usize)]
    workers: Option<usize>,

    /// Connections that `quiclane load` is to open
    #[arg(short, long, visible_alias = "clients", value_name = "N", value_parser = positive_usize)]
    connections: Option<usize>,

    /// How datagrams enter and leave
    #[arg(long, value_enum, default_value_t = IoFlag::Auto, value_name = "WAY")]
    io: IoFlag,

    /// Kernel buffer per socket and direction
    #[arg(long, value_name = "SIZE", default_value = "4m", value_parser = size)]
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
        let connections = self.connections.unwrap_or(0);
        Ask {
            listen: self.listen.clone(),
            interfaces: self.interface.clone(),
            steering: self.steering.into(),
            workers: self.workers,
            connections,
            open_files: self.connections.map_or(0, LoadConfig::open_files),
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
  quiclane doctor --steering xdp --io uring
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
        assert_eq!(ask.open_files, LoadConfig::open_files(1_000));
        assert_eq!(ask.listen, ["[::]:1".parse().unwrap()]);
        let asked = |way| Flags::parse_from(["doctor", "--steering", way]).doctor.ask().steering;
        for rung in [Rung::Xdp, Rung::XdpGeneric, Rung::Reuseport, Rung::Cbpf, Rung::Hash] {
            assert_eq!(asked(rung.name()), Some(rung));
        }
        assert_eq!(asked("auto"), None);
    }
}
