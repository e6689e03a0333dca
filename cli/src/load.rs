//! load offers load to a server and reports what came back.

mod hint;

use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};
use quiclane::{ClientTls, Resume, Target, Trust};
use quiclane_loadgen::{Ending, Load, LoadConfig, PERF_ALPN, Report, Stop, Workload};
use rustls::pki_types::ServerName;

use crate::certificate::{seed, trust_file, trust_system};
use crate::exit::{Exit, Failure};
use crate::flags::{positive, positive_time, positive_u32, positive_usize, size, time};
use crate::options::{TransportOptions, WorkerOptions};
use crate::progress::Meter;
use crate::target::Url;
use crate::{output, signals};
use hint::hint;

/// Offer load to a QUIC server and measure what comes back
///
/// A closed loop: each connection keeps -m requests in flight and starts the next one when one
/// ends. The definition of every number is in loadgen/README.md.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
#[command(group(ArgGroup::new("protocol").required(true)))]
#[command(group(ArgGroup::new("stop")))]
#[command(group(ArgGroup::new("work")))]
pub(crate) struct LoadArgs {
    /// Server, as quic://HOST:PORT; IPv6 addresses in brackets
    #[arg(value_name = "URL")]
    url: Url,

    /// Speak `perf` (draft-banks-quic-performance), as quiclane serve, msquic and quinn do
    #[arg(long, group = "protocol")]
    perf: bool,

    /// Connections in all, spread over the workers; never more than -n [default: 10]
    #[arg(short, long, visible_alias = "clients", value_name = "N",
          value_parser = positive_usize)]
    connections: Option<usize>,

    /// Requests in flight on each connection
    #[arg(short = 'm', long, visible_alias = "max-concurrent-streams", value_name = "N",
          default_value = "1", value_parser = positive_u32)]
    streams: u32,

    /// Close each connection after this many requests and open another one [default: never]
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "handshakes")]
    requests_per_conn: Option<u64>,

    /// Stop after this many requests in all (handshakes with --handshakes), for example 10k
    #[arg(short = 'n', long, value_name = "N", group = "stop", value_parser = positive)]
    requests: Option<u64>,

    /// Stop after this time, for example 30s [default: 10s; with --download and --upload one
    /// stream on each of -c times -m; with --idle not before it is interrupted]
    #[arg(short, long, value_name = "TIME", group = "stop", value_parser = positive_time)]
    duration: Option<Duration>,

    /// Offer load this long before measuring; needs a duration
    #[arg(long, visible_alias = "warm-up-time", value_name = "TIME", default_value = "0",
          conflicts_with = "requests", value_parser = time)]
    warmup: Duration,

    /// How long a handshake may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = positive_time)]
    connect_timeout: Duration,

    /// How long a request may take; 0 = as long as it likes [default: 10s; with --download and
    /// --upload 0]
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,

    /// The report as JSON on stdout
    #[arg(long)]
    json: bool,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    work: WorkOptions,

    #[command(flatten)]
    trust: TrustOptions,

    #[command(flatten)]
    workers: WorkerOptions,

    #[command(flatten)]
    transport: TransportOptions,
}

/// What each connection does.
#[derive(Args, Debug)]
#[command(next_help_heading = "Workload")]
struct WorkOptions {
    /// Payload bytes of a request, beside the 8 that name the response size
    #[arg(long, value_name = "SIZE", default_value = "0", value_parser = size,
          conflicts_with = "work")]
    request_size: u64,

    /// Bytes of a response
    #[arg(long, value_name = "SIZE", default_value = "1k", value_parser = size,
          conflicts_with = "work")]
    response_size: u64,

    /// Streams that bring this many bytes down, for example 1g
    #[arg(long, value_name = "SIZE", value_parser = size, group = "work")]
    download: Option<u64>,

    /// Streams that take this many bytes up, for example 1g
    #[arg(long, value_name = "SIZE", value_parser = size, group = "work")]
    upload: Option<u64>,

    /// Connect, close and connect again, with -c handshakes in flight
    #[arg(long, group = "work", conflicts_with = "streams")]
    handshakes: bool,

    /// Open N connections and hold them without requests for -d TIME, or until interrupted.
    /// A lost one is counted by what ended it and not replaced; when none is left the run ends
    #[arg(long, value_name = "N", group = "work", value_parser = positive_usize,
          conflicts_with_all = ["connections", "streams", "requests", "requests_per_conn",
                                "warmup", "timeout"])]
    idle: Option<usize>,

    /// With --idle: replace connections that end or fail, after 10 ms, doubling to 1 s, half of it
    /// random. The run is a success when all N are open at its end. All other workloads replace
    /// lost connections anyway
    #[arg(long, requires = "idle")]
    reconnect: bool,
}

impl WorkOptions {
    fn workload(&self) -> Workload {
        let Self { request_size, response_size, .. } = *self;
        if self.idle.is_some() {
            return Workload::Idle;
        }
        match (self.download, self.upload, self.handshakes) {
            (Some(bytes), ..) => Workload::Download(bytes),
            (_, Some(bytes), _) => Workload::Upload(bytes),
            (.., true) => Workload::Handshakes,
            (None, None, false) => Workload::Requests { request_size, response_size },
        }
    }
}

/// Whom to trust and how to get there.
#[derive(Args, Debug)]
#[command(next_help_heading = "Trust and addresses")]
struct TrustOptions {
    /// Trust any certificate: for servers of your own
    #[arg(short = 'k', long)]
    insecure: bool,

    /// Trust the certificates in this PEM file instead of those of the system
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    cacert: Option<PathBuf>,

    /// Name to ask for and to expect in the certificate [default: the host of the URL]
    #[arg(long, value_name = "NAME")]
    sni: Option<String>,

    /// Local address to send from [default: any]
    #[arg(long, value_name = "IP")]
    local_addr: Option<IpAddr>,

    /// Resume TLS sessions when connecting again, with the first requests as 0-RTT data if asked
    #[arg(long, value_enum, value_name = "HOW", default_value_t = ResumeFlag::Off,
          conflicts_with = "handshakes")]
    resume: ResumeFlag,
}

/// What to do with session tickets.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum ResumeFlag {
    /// Every handshake is a full one
    Off,
    /// Resume sessions
    Ticket,
    /// Resume sessions and send 0-RTT data where the server allows it
    #[value(name = "0rtt")]
    ZeroRtt,
}

impl From<ResumeFlag> for Resume {
    fn from(flag: ResumeFlag) -> Self {
        match flag {
            ResumeFlag::Off => Self::Off,
            ResumeFlag::Ticket => Self::Ticket,
            ResumeFlag::ZeroRtt => Self::ZeroRtt,
        }
    }
}

impl TrustOptions {
    fn trust(&self) -> Result<Trust, Failure> {
        Ok(match (&self.cacert, self.insecure) {
            (Some(path), _) => trust_file(path)?,
            (None, true) => Trust::Insecure,
            (None, false) => trust_system()?,
        })
    }
}

/// Runs the command.
pub(crate) fn run(args: &LoadArgs) -> Result<Exit, Failure> {
    let signals = signals::listen()?;
    let addresses = args.url.resolve(args.trust.local_addr)?;
    let config = args.config(addresses[0])?;
    if let (Some(asked), Some(requests)) = (args.connections, args.requests)
        && config.connections < asked
    {
        output::log(format_args!(
            "warning: -c {asked} is more than -n {requests}: only {requests} opened"
        ));
    }
    let mut meter = Meter::new(args.quiet, config.workload, config.stop);
    let load = Load::start(config)?;
    let report = watch(load, &signals, &mut meter)?;
    if args.json {
        output::json(&report)?;
        for note in &report.detail.notes {
            output::log(format_args!("note: {note}"));
        }
    } else {
        output::result(format_args!("{} ({})\n{report}", args.url, addresses[0]))?;
    }
    if let Some(hint) = hint(&report, args, &addresses) {
        output::log(format_args!("hint: {hint}"));
    }
    Ok(exit(&report))
}

/// Shows the run until it is over. The first signal ends it early, with a report; the second at
/// once.
pub(crate) fn watch(
    load: Load,
    signals: &Receiver<()>,
    meter: &mut Meter,
) -> Result<Report, Failure> {
    let mut asked = false;
    while !load.is_finished() {
        meter.show(load.progress());
        if signals.try_recv().is_ok() {
            if asked {
                std::process::exit(Exit::Interrupted as i32);
            }
            asked = true;
            load.stopper().stop();
        }
        thread::sleep(INTERVAL);
    }
    meter.clear();
    Ok(load.join()?)
}

/// The exit code of a run.
pub(crate) fn exit(report: &Report) -> Exit {
    match report.detail.ending {
        Ending::Interrupted => Exit::Interrupted,
        _ if report.ok => Exit::Ok,
        _ => Exit::Failed,
    }
}

impl LoadArgs {
    fn config(&self, address: SocketAddr) -> Result<LoadConfig, Failure> {
        let workload = self.work.workload();
        let provider = self.workers.provider.into();
        seed(provider);
        let alpn = vec![PERF_ALPN.to_vec()];
        let tls = ClientTls::new(provider, self.trust.trust()?, alpn, self.trust.resume.into())?;
        let target = Target {
            address,
            server_name: self.server_name()?.into(),
            tls,
            local: self.trust.local_addr.map(|ip| SocketAddr::new(ip, 0)),
        };
        Ok(LoadConfig {
            connections: self.connections(),
            streams: self.streams,
            requests_per_connection: self.requests_per_conn.and_then(NonZero::new),
            reconnect: self.work.reconnect,
            warm_up: self.warmup,
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout(workload),
            workers: self.workers.workers(),
            cores: self.workers.cores(),
            io: self.workers.io.into(),
            transport: self.transport.transport(),
            ..LoadConfig::new(vec![target], workload, self.stop(workload))
        })
    }

    /// The name to ask for. The URL may be something that resolves and yet no name, such as 127.1.
    fn server_name(&self) -> Result<&str, Failure> {
        let name = self.trust.sni.as_deref().unwrap_or_else(|| self.url.name());
        match ServerName::try_from(name) {
            Ok(_) => Ok(name),
            Err(_) => Err(Failure::ServerName(name.into())),
        }
    }

    /// Connections to open: one without a request would only cost the server a handshake, and
    /// in the report it would look as if it had carried load.
    fn connections(&self) -> usize {
        let asked = self.work.idle.or(self.connections).unwrap_or(CONNECTIONS);
        let requests = self.requests.and_then(|requests| usize::try_from(requests).ok());
        requests.map_or(asked, |requests| asked.min(requests))
    }

    fn stop(&self, workload: Workload) -> Stop {
        match (self.requests, self.duration, workload) {
            (Some(requests), ..) => Stop::Requests(requests),
            (_, Some(duration), _) => Stop::Duration(duration),
            (None, None, Workload::Download(_) | Workload::Upload(_)) => {
                Stop::Requests((self.connections() as u64).saturating_mul(self.streams.into()))
            }
            (None, None, Workload::Idle) => Stop::Never,
            (None, None, _) => Stop::Duration(DURATION),
        }
    }

    fn request_timeout(&self, workload: Workload) -> Option<Duration> {
        let default = match workload {
            Workload::Download(_) | Workload::Upload(_) => Duration::ZERO,
            _ => TIMEOUT,
        };
        Some(self.timeout.unwrap_or(default)).filter(|timeout| !timeout.is_zero())
    }
}

/// How often the end of the run and signals are looked for.
const INTERVAL: Duration = Duration::from_millis(10);

/// Enough to keep a few cores busy.
const CONNECTIONS: usize = 10;

/// Long enough for rates to settle.
const DURATION: Duration = Duration::from_secs(10);

/// A request that takes longer has failed for whoever waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);

const EXAMPLES: &str = "\
Sizes take k, m, g (k = 1,024 bytes), numbers k, m (k = 1,000), times s, ms, m.

Examples:
  quiclane load quic://localhost:4433 --perf -k -c 100 -m 10 -d 30s
  quiclane load quic://localhost:4433 --perf -k -c 4 --download 1g
  quiclane load quic://localhost:4433 --perf -k -c 50 --handshakes -d 10s --json
  quiclane load quic://localhost:4433 --perf -k -c 50 --requests-per-conn 10 --resume 0rtt
  quiclane load quic://localhost:4433 --perf -k --idle 10k --keep-alive 5s --reconnect

Exit codes: 0 all was done and nothing failed, 1 something failed, 2 usage, 130 interrupted.";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn parse(flags: &str) -> Result<LoadArgs, clap::Error> {
        let words = "load quic://localhost:1 --perf".split(' ').chain(flags.split_whitespace());
        Flags::try_parse_from(words).map(|flags| flags.load)
    }

    #[test]
    fn workloads_and_stop_rules_have_defaults() {
        let args = parse("").unwrap();
        let workload = args.work.workload();
        assert_eq!(workload, Workload::Requests { request_size: 0, response_size: 1_024 });
        assert_eq!(args.stop(workload), Stop::Duration(DURATION));
        assert_eq!(args.request_timeout(workload), Some(TIMEOUT));
        assert!(args.config("127.0.0.1:1".parse().unwrap()).is_ok() || !args.trust.insecure);
    }

    #[test]
    fn bulk_runs_are_one_stream_on_each_and_have_no_time_limit() {
        let args = parse("--download 1g -c 3 -m 2").unwrap();
        let workload = args.work.workload();
        assert_eq!(workload, Workload::Download(1 << 30));
        assert_eq!(args.stop(workload), Stop::Requests(6));
        assert_eq!(args.request_timeout(workload), None);
        assert_eq!(parse("--upload 1m -d 5").unwrap().work.workload(), Workload::Upload(1 << 20));
    }

    #[test]
    fn idle_connections_are_held_until_the_time_is_over_or_somebody_interrupts() {
        let args = parse("--idle 10k --keep-alive 500ms --reconnect").unwrap();
        assert_eq!((args.work.workload(), args.connections()), (Workload::Idle, 10_000));
        assert_eq!(args.stop(Workload::Idle), Stop::Never);
        assert!(args.work.reconnect && !parse("--idle 1").unwrap().work.reconnect);
        let args = parse("--idle 3 -d 2s").unwrap();
        assert_eq!(args.stop(Workload::Idle), Stop::Duration(Duration::from_secs(2)));
    }

    #[test]
    fn there_are_no_more_connections_than_requests() {
        for (flags, connections) in [
            ("", 10),
            ("-n 1", 1),
            ("-c 10 -n 3", 3),
            ("-c 3 -n 10", 3),
            ("-c 4 -n 2 --handshakes", 2),
            ("-c 4 --download 1g", 4),
            ("-c 4 -n 100m", 4),
        ] {
            assert_eq!(parse(flags).unwrap().connections(), connections, "{flags}");
        }
    }

    #[test]
    fn a_zero_timeout_is_none() {
        let args = parse("--timeout 0").unwrap();
        assert_eq!(args.request_timeout(args.work.workload()), None);
        let args = parse("--timeout 250ms --handshakes -n 10k").unwrap();
        assert_eq!(args.request_timeout(Workload::Handshakes), Some(Duration::from_millis(250)));
        assert_eq!(args.stop(Workload::Handshakes), Stop::Requests(10_000));
    }

    #[test]
    fn contradictions_are_refused() {
        for flags in [
            "-n 1 -d 1s",
            "--download 1 --upload 1",
            "--handshakes --download 1",
            "--request-size 1 --download 1",
            "-k --cacert x",
            "-n 1 --warmup 1s",
            "-c 0",
            "-m 0",
            "-n 0",
            "-d 0s",
            "--handshakes -m 2",
            "--handshakes --requests-per-conn 2",
            "--handshakes --resume ticket",
            "--requests-per-conn 0",
            "--idle 0",
            "--idle 1 -c 1",
            "--idle 1 -m 1",
            "--idle 1 -n 1",
            "--idle 1 --handshakes",
            "--idle 1 --download 1",
            "--idle 1 --response-size 1",
            "--idle 1 --requests-per-conn 1",
            "--idle 1 --warmup 1s",
            "--reconnect",
            "--resume sometimes",
            "--local-addr nonsense",
        ] {
            assert!(parse(flags).is_err(), "{flags}");
        }
        let without_protocol = Flags::try_parse_from(["load", "quic://localhost:1"]);
        assert!(without_protocol.unwrap_err().to_string().contains("--perf"));
    }
}
