//! The measuring client: offers one kind of work to one server on loopback and says, in one line
//! of JSON on stdout, how fast it went and what both sides paid for it.

mod driver;
mod modes;
mod perf;
mod socket;
mod tls;
mod usage;

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use report::{Latency, Report, SCHEMA};

use crate::driver::Driver;
use crate::modes::{Direction, Measured, Phases};
use crate::usage::Gauge;

/// Less time in malloc on the side that is not measured.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures a server that speaks ALPN `perf` on loopback.
#[derive(Debug, Parser)]
struct Args {
    /// Address of the server.
    #[arg(long)]
    connect: SocketAddr,
    /// Process whose CPU time counts as the server's.
    #[arg(long)]
    server_pid: u32,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Debug, Subcommand)]
enum Mode {
    /// One connection, one answer of SIZE bytes.
    Download(Bulk),
    /// One connection, one request of SIZE bytes.
    Upload(Bulk),
    /// 1 KiB out, 1 KiB back, as often as possible.
    Requests {
        /// Requests in flight, over all connections.
        #[arg(long, default_value_t = 16)]
        in_flight: usize,
        /// Connections they are spread over.
        #[arg(long, default_value_t = 10)]
        connections: usize,
        #[command(flatten)]
        timing: Timing,
    },
    /// Connect, one tiny request, close, as often as possible.
    Handshakes {
        /// Connections in flight.
        #[arg(long, default_value_t = 32)]
        in_flight: usize,
        #[command(flatten)]
        timing: Timing,
    },
}

#[derive(Debug, clap::Args)]
struct Bulk {
    /// Bytes to measure, with an optional suffix KiB, MiB or GiB.
    #[arg(value_parser = parse_size, default_value = "1GiB")]
    size: u64,
    /// Bytes moved the same way before the measurement starts.
    #[arg(long, value_parser = parse_size, default_value = "64MiB")]
    warm_up: u64,
}

#[derive(Clone, Copy, Debug, clap::Args)]
struct Timing {
    /// Seconds to run before the measurement starts.
    #[arg(long, value_parser = parse_seconds, default_value = "0.5")]
    settle: Duration,
    /// Seconds to measure.
    #[arg(long, value_parser = parse_seconds, default_value = "2")]
    measure: Duration,
}

#[expect(clippy::print_stdout, reason = "the report is this program's output")]
fn main() -> Result<()> {
    let args = Args::parse();
    let gauge = Gauge::new(args.server_pid)?;
    let mut driver = Driver::new(args.connect)?;
    let (mode, measured) = run(&args.mode, &mut driver, &gauge)?;
    println!("{}", serde_json::to_string(&report(mode, &measured))?);
    Ok(())
}

fn run(mode: &Mode, driver: &mut Driver, gauge: &Gauge) -> Result<(&'static str, Measured)> {
    Ok(match mode {
        Mode::Download(Bulk { size, warm_up }) => {
            ("download", modes::bulk(driver, gauge, Direction::Download, *size, *warm_up)?)
        }
        Mode::Upload(Bulk { size, warm_up }) => {
            ("upload", modes::bulk(driver, gauge, Direction::Upload, *size, *warm_up)?)
        }
        Mode::Requests { in_flight, connections, timing } => {
            let measured =
                modes::requests(driver, gauge, *in_flight, *connections, timing.phases())?;
            ("requests", measured)
        }
        Mode::Handshakes { in_flight, timing } => {
            ("handshakes", modes::handshakes(driver, gauge, *in_flight, timing.phases())?)
        }
    })
}

fn report(mode: &str, measured: &Measured) -> Report {
    let Measured { units, usage, traffic, latency } = measured;
    let bulk = latency.is_none();
    let done = *units as f64;
    let (rate, cpu_per_unit) = if bulk {
        (done * 8.0 / 1e9 / usage.wall_s, usage.server_s / (done / GIB))
    } else {
        (done / usage.wall_s, usage.server_s * 1e6 / done)
    };
    Report {
        schema: SCHEMA,
        mode: mode.to_owned(),
        units: *units,
        seconds: usage.wall_s,
        rate,
        rate_unit: if bulk { "Gbit/s".to_owned() } else { format!("{mode}/s") },
        latency_us: latency.as_ref().map(|latency| Latency {
            p50: latency.value_at_quantile(0.5) as f64 / 1e3,
            p99: latency.value_at_quantile(0.99) as f64 / 1e3,
        }),
        client_cpu_s: usage.client_s,
        server_cpu_s: usage.server_s,
        server_cpu_per_unit: cpu_per_unit,
        cpu_unit: if bulk { "s/GiB" } else { "us/op" }.to_owned(),
        client_util: usage.client_s / usage.wall_s,
        server_util: usage.server_s / usage.wall_s,
        lost_packets: traffic.lost_packets,
        received_datagram_bytes: mean(traffic.received_bytes, traffic.received_datagrams),
        received_datagrams_per_message: mean(traffic.received_datagrams, traffic.received_messages),
        foreign_on_server_core: usage.foreign_on_server_core,
        foreign_on_client_core: usage.foreign_on_client_core,
    }
}

impl Timing {
    fn phases(self) -> Phases {
        Phases { settle: self.settle, measure: self.measure }
    }
}

fn mean(sum: u64, count: u64) -> f64 {
    sum as f64 / count.max(1) as f64
}

fn parse_size(text: &str) -> Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let shift = match suffix {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => anyhow::bail!("{suffix:?} is not KiB, MiB or GiB"),
    };
    let number: u64 = number.parse().context("not a size")?;
    let bytes = number.checked_mul(1 << shift).context("too large")?;
    ensure!(bytes > 0, "zero bytes cannot be measured");
    Ok(bytes)
}

fn parse_seconds(text: &str) -> Result<Duration> {
    Duration::try_from_secs_f64(text.parse()?).context("not a number of seconds")
}

const GIB: f64 = (1_u64 << 30) as f64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        assert_eq!(parse_size("256MiB").unwrap(), 256 << 20);
        assert_eq!(parse_size("17").unwrap(), 17);
        assert!(parse_size("1MB").is_err());
        assert!(parse_size("0").is_err());
        assert!(parse_size("99999999999GiB").is_err());
    }
}
