//! load offers load to a server and reports what came back.

mod check;
mod files;
mod hint;
mod host;
mod http;
mod pace;
mod part;
mod protocol;
mod reports;
mod script;
mod search;
mod sockets;
mod trust;
mod work;

use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use quiclane::{ClientTls, Target};
use quiclane_loadgen::{
    Body, Ending, Load, LoadConfig, Protocol, Replay, Report, Slo, SloReport, Stop, Workload,
};
use rustls::pki_types::ServerName;

use crate::certificate::seed;
use crate::exit::{Exit, Failure};
use crate::flags::{positive, positive_time, positive_u32, positive_usize, time};
use crate::options::{TransportOptions, WorkerOptions};
use crate::progress::Meter;
use crate::target::Url;
use crate::{output, signals};
use files::FileOptions;
use hint::hint;
use http::HttpOptions;
use pace::PaceOptions;
use part::PartOptions;
use protocol::{ProtocolOptions, Speaks};
use reports::{CompareArgs, MergeArgs};
use search::SearchOptions;
use sockets::{KeyOptions, SocketOptions};
use trust::TrustOptions;
use work::WorkOptions;

/// Offer load to a QUIC server and measure what comes back
///
/// A closed loop: each connection keeps -m requests in flight and starts the next one when one
/// ends. With --rate, --stages or --replay an open loop: requests are sent when they are due. The
/// definition of every number is in loadgen/README.md.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(subcommand_negates_reqs = true, subcommand_value_name = "COMMAND")]
#[command(group(ArgGroup::new("stop")))]
#[command(group(ArgGroup::new("work")))]
pub(crate) struct LoadArgs {
    #[command(subcommand)]
    command: Option<ReportCommand>,

    /// What to load: https://HOST[:PORT][/PATH] over HTTP/3, or quic://HOST:PORT with --perf.
    /// IPv6 addresses in brackets
    #[arg(value_name = "URL", required = true)]
    url: Option<Url>,

    /// More URLs of the same server, taken in turn by each worker
    #[arg(value_name = "MORE URLS", conflicts_with_all = ["input_file", "replay"])]
    more: Vec<Url>,

    #[command(flatten)]
    protocol: ProtocolOptions,

    /// Connections in all, spread over the workers; never more than -n [default: 10; with
    /// --handshakes --connect-rate 1000]
    #[arg(short, long, visible_alias = "clients", value_name = "N",
          value_parser = positive_usize)]
    connections: Option<usize>,

    /// Requests in flight on each connection [default: 1; with --rate, --stages and --replay up to
    /// 100]
    #[arg(short = 'm', long, visible_alias = "max-concurrent-streams", value_name = "N",
          value_parser = positive_u32)]
    streams: Option<u32>,

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
    /// --upload 0]. Not with --handshakes, whose limit is --connect-timeout
    #[arg(long, value_name = "TIME", value_parser = time)]
    timeout: Option<Duration>,

    /// What the run has to keep, exit code 3 when it does not: METRIC OP VALUE, comma between them,
    /// for example p99<250ms,errors<1%,rate>50k. Metrics are p50, p90, p95, p99, p99.9, p99.99,
    /// p99.999, max and mean of the latency (service., ttfb. and handshake. before it: of these),
    /// errors (a number, or % of what was tried), rate (requests a second, or % of what was due),
    /// not_sent, handshakes. With a term for errors they are no failure beyond it
    #[arg(long, value_name = "OBJECTIVES")]
    slo: Option<Slo>,

    /// The report as JSON on stdout
    #[arg(long)]
    json: bool,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,

    /// Show progress in lines, on a terminal too
    #[arg(long, visible_alias = "no-tui", conflicts_with = "quiet")]
    plain: bool,

    #[command(flatten)]
    work: WorkOptions,

    #[command(flatten)]
    pace: PaceOptions,

    #[command(flatten)]
    http: HttpOptions,

    #[command(flatten)]
    files: FileOptions,

    #[command(flatten)]
    part: PartOptions,

    #[command(flatten)]
    trust: TrustOptions,

    #[command(flatten)]
    search: SearchOptions,

    #[command(flatten)]
    sockets: SocketOptions,

    #[command(flatten)]
    keys: KeyOptions,

    #[command(flatten)]
    workers: WorkerOptions,

    #[command(flatten)]
    transport: TransportOptions,
}

/// What to do with reports instead of making one.
#[derive(Debug, Subcommand)]
enum ReportCommand {
    Compare(CompareArgs),
    Merge(MergeArgs),
}

/// Runs the command.
pub(crate) fn run(args: &LoadArgs) -> Result<Exit, Failure> {
    match &args.command {
        Some(ReportCommand::Compare(args)) => return reports::compare(args),
        Some(ReportCommand::Merge(args)) => return reports::merge(args),
        None => {}
    }
    args.check()?;
    let signals = signals::listen()?;
    let local = args.sockets.local_addr.as_ref().map(|locals| locals.nth(0));
    let addresses = args.url().resolve(local)?;
    let config = args.config(addresses[0])?;
    Load::check(&config)?;
    if args.search.find_max {
        return search::run(args, addresses[0], &signals);
    }
    let files = args.files.open()?;
    if let Some(start) = config.start_at
        && !part::wait(start, config.transport.idle_timeout, &signals)
    {
        output::log("interrupted before the start");
        return Ok(Exit::Interrupted);
    }
    if let (Some(asked), Some(requests)) = (args.connections, args.requests)
        && config.connections < asked
    {
        output::log(format_args!(
            "warning: -c {asked} is more than -n {requests}: only {requests} opened"
        ));
    }
    let workload = config.workload;
    let load = Load::start(config)?;
    let mut meter = args.meter(workload, load.stop());
    let report = watch(load, &signals, &mut meter)?;
    if args.json {
        output::json(&report)?;
        for note in &report.detail.notes {
            output::log(format_args!("note: {note}"));
        }
    } else {
        let urls: Vec<String> = args.urls().map(Url::to_string).collect();
        let verdict = if report.is_invalid() { INVALID } else { "" };
        let mut text = format!("{verdict}{} ({})\n{report}", urls.join(" "), addresses[0]);
        if args.files.latency {
            text.push_str(&format!("\n{}", report.spectrum()));
        }
        if args.files.takes_stdout() {
            output::log(text);
        } else {
            output::result(text)?;
        }
    }
    let urls: Vec<String> = args.urls().map(Url::to_string).collect();
    files.write(&report, &urls.join(" "))?;
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
                meter.clear();
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
    match report.ending {
        Ending::Interrupted => Exit::Interrupted,
        _ if report.is_invalid() => Exit::Invalid,
        _ if report.slo.as_ref().is_some_and(SloReport::is_broken) => Exit::Broken,
        _ if report.ok => Exit::Ok,
        // Who says how much may fail has said that so much is no failure.
        Ending::Complete
            if report.idle.is_none()
                && report.slo.as_ref().is_some_and(SloReport::excuses_errors) =>
        {
            Exit::Ok
        }
        _ => Exit::Failed,
    }
}

impl LoadArgs {
    /// The first URL.
    fn url(&self) -> &Url {
        // Required where there is no other command, and such a one asks for none.
        self.url.as_ref().unwrap_or_else(|| unreachable!("clap asks for it"))
    }

    fn urls(&self) -> impl Iterator<Item = &Url> {
        std::iter::once(self.url()).chain(&self.more)
    }

    /// What shows a run while it lasts.
    fn meter(&self, workload: Workload, stop: Stop) -> Meter {
        match self.plain {
            true => Meter::plain(self.quiet, workload, stop),
            false => Meter::live(self.quiet, workload, stop, &self.url().to_string()),
        }
    }

    /// Whether requests are sent by a schedule.
    fn is_open(&self) -> bool {
        self.pace.is_open() || self.search.find_max
    }

    fn config(&self, address: SocketAddr) -> Result<LoadConfig, Failure> {
        let speaks = self.protocol.speaks(self.url())?;
        let workload = match self.pace.datagram_size() {
            Some(size) => Workload::Datagrams { size },
            None => self.work.workload(speaks),
        };
        let recording = self.pace.recording(self.url())?;
        let recorded: Option<Vec<&Url>> =
            recording.as_ref().map(|recording| recording.urls.iter().collect());
        let urls = || recorded.clone().unwrap_or_else(|| self.urls().collect()).into_iter();
        let protocol = match (speaks, workload) {
            (Speaks::Perf, _) => Protocol::Perf,
            (Speaks::Http3, Workload::Http) => Protocol::Http3(self.http.requests(urls())?),
            (Speaks::Http3, _) => Protocol::Http3(Vec::new()),
            (Speaks::Hq, Workload::Http) => Protocol::Hq(self.http.hq_requests(urls())?),
            (Speaks::Hq, _) => Protocol::Hq(Vec::new()),
            (Speaks::Echo, _) => Protocol::Echo(self.stream_body()?),
            (Speaks::Raw, _) => {
                let alpn = self.protocol.alpn(speaks).into();
                Protocol::Raw { alpn, body: self.stream_body()? }
            }
        };
        let provider = self.workers.provider.into();
        seed(provider);
        let alpn = vec![self.protocol.alpn(speaks).into()];
        let tls = ClientTls::new(provider, self.trust.trust()?, alpn, self.trust.resume.into())?;
        let target = Target { address, server_name: self.server_name()?.into(), tls, local: None };
        let replay = recording.map(|recording| recording.replay);
        let stop = match &replay {
            Some(replay) => Stop::Requests(replay.len() as u64),
            None => self.stop(workload),
        };
        let length = match stop {
            Stop::Duration(length) => Some(length),
            Stop::Requests(_) | Stop::Never => None,
        };
        Ok(LoadConfig {
            protocol,
            pace: match self.search.first(self.pace.arrivals())? {
                Some(pace) => Some(pace),
                None => self.pace.pace(length)?,
            },
            slo: self.slo.clone(),
            connections: self.connections().min(replay.as_ref().map_or(usize::MAX, Replay::len)),
            replay,
            connect_pace: self.pace.connect_pace()?,
            streams: self.streams(),
            requests_per_connection: self.requests_per_conn.and_then(NonZero::new),
            reconnect: self.work.reconnect,
            locals: self.sockets.local_addr.clone(),
            sockets: self.sockets.sockets(),
            migrate_every: self.sockets.migrate_every,
            key_updates: self.keys.key_update_every,
            warm_up: self.warmup,
            interval: self.files.interval,
            partition: self.part.partition,
            start_at: self.part.start_at()?,
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout(workload),
            workers: self.workers.workers(),
            cores: self.workers.cores(),
            io: self.workers.io.into(),
            transport: self.transport.transport(),
            ..LoadConfig::new(vec![target], workload, stop)
        })
    }

    /// What a stream takes up where there is nothing but streams.
    fn stream_body(&self) -> Result<Body, Failure> {
        match self.http.has_body() {
            true => self.http.body(),
            false => Ok(Body::Zeros(self.work.request_size.unwrap_or(STREAM_BYTES))),
        }
    }

    /// The name to ask for. The URL may be something that resolves and yet no name, such as 127.1.
    fn server_name(&self) -> Result<&str, Failure> {
        let name = self.trust.sni.as_deref().unwrap_or_else(|| self.url().name());
        match ServerName::try_from(name) {
            Ok(_) => Ok(name),
            Err(_) => Err(Failure::ServerName(name.into())),
        }
    }

    /// Connections to open: one without a request would only cost the server a handshake, and
    /// in the report it would look as if it had carried load.
    fn connections(&self) -> usize {
        let default = match self.work.handshakes && self.pace.paces_handshakes() {
            true => HANDSHAKES_OPEN,
            false => CONNECTIONS,
        };
        let asked = self.work.idle.or(self.connections).unwrap_or(default);
        let requests = self.requests.and_then(|requests| usize::try_from(requests).ok());
        requests.map_or(asked, |requests| asked.min(requests))
    }

    /// A server that answers slowly holds back a schedule only when so many are in flight.
    fn streams(&self) -> u32 {
        self.streams.unwrap_or_else(|| if self.is_open() { STREAMS_OPEN } else { 1 })
    }

    fn stop(&self, workload: Workload) -> Stop {
        if let Some(length) = self.pace.length() {
            return Stop::Duration(length);
        }
        match (self.requests, self.duration, workload) {
            (None, None, _) if self.is_open() => Stop::Duration(DURATION),
            (Some(requests), ..) => Stop::Requests(requests),
            (_, Some(duration), _) => Stop::Duration(duration),
            (None, None, Workload::Download(_) | Workload::Upload(_)) => {
                Stop::Requests((self.connections() as u64).saturating_mul(self.streams().into()))
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

/// A small message.
const STREAM_BYTES: u64 = 1 << 10;

/// As many as most servers allow at once by default.
const STREAMS_OPEN: u32 = 100;

/// Handshakes that may be under way when they begin by a schedule: a second of a thousand a second.
const HANDSHAKES_OPEN: usize = 1_000;

/// How often the end of the run and signals are looked for.
const INTERVAL: Duration = Duration::from_millis(10);

/// Enough to keep a few cores busy.
const CONNECTIONS: usize = 10;

/// Long enough for rates to settle.
const DURATION: Duration = Duration::from_secs(10);

/// A request that takes longer has failed for whoever waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a result begins with that nobody may rely on.
const INVALID: &str =
    "INVALID: the generator was the bottleneck, these are its own times as much as the server's\n";

const EXAMPLES: &str = "\
Sizes take k, m, g (k = 1,024 bytes), numbers k, m (k = 1,000), times s, ms, m.

Examples:
  quiclane load https://localhost:4433/ -k -c 100 -m 10 -d 30s
  quiclane load https://localhost:4433/ -k -R 20k --arrivals poisson -d 1m
  quiclane load https://localhost:4433/ -k -R 20k -d 1m --slo 'p99<250ms,errors<1%,rate>99%'
  quiclane load https://localhost:4433/a https://localhost:4433/b -k -H 'accept: */*'
  quiclane load https://localhost:4433/ -k --replay times.tsv --replay-speed 2x
  quiclane load https://localhost:4433/ -k --handshakes --connect-rate 500 -d 30s
  quiclane load https://localhost:4433/form -k -n 1k --body @form.json -H 'x-key: 1'
  quiclane load quic://localhost:4433 --perf -k -c 100 -m 10 -d 30s
  quiclane load quic://localhost:4433 --perf -k -c 4 --download 1g
  quiclane load quic://localhost:4433 --perf -k -c 50 --handshakes -d 10s --json
  quiclane load quic://localhost:4433 --perf -k -c 50 --requests-per-conn 10 --resume 0rtt
  quiclane load quic://localhost:4433 --perf -k --idle 10k --keep-alive 5s --reconnect
  quiclane load https://localhost:4433/ -k -R 20k -d 1m --partition 1/2 --start-at +30s --json
  quiclane load quic://localhost:4433 --echo -k --request-size 4k -c 10 -R 1k
  quiclane load https://localhost:4433/bytes/1024 --hq -k -c 10
  quiclane load compare before.json after.json

Exit codes: 0 all was done and nothing failed, 1 something failed, 2 usage, 3 an objective of --slo
was broken, 4 in an open loop the generator was the bottleneck, 130 interrupted. When
several hold, the first of 2, 130, 4, 3, 1.";

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
        let workload = args.work.workload(Speaks::Perf);
        assert_eq!(workload, Workload::Requests { request_size: 0, response_size: 1_024 });
        assert_eq!(args.stop(workload), Stop::Duration(DURATION));
        assert_eq!(args.request_timeout(workload), Some(TIMEOUT));
        assert!(args.config("127.0.0.1:1".parse().unwrap()).is_ok() || !args.trust.insecure);
    }

    #[test]
    fn bulk_runs_are_one_stream_on_each_and_have_no_time_limit() {
        let args = parse("--download 1g -c 3 -m 2").unwrap();
        let workload = args.work.workload(Speaks::Perf);
        assert_eq!(workload, Workload::Download(1 << 30));
        assert_eq!(args.stop(workload), Stop::Requests(6));
        assert_eq!(args.request_timeout(workload), None);
        assert_eq!(
            parse("--upload 1m -d 5").unwrap().work.workload(Speaks::Perf),
            Workload::Upload(1 << 20)
        );
    }

    #[test]
    fn idle_connections_are_held_until_the_time_is_over_or_somebody_interrupts() {
        let args = parse("--idle 10k --keep-alive 500ms --reconnect").unwrap();
        assert_eq!(
            (args.work.workload(Speaks::Perf), args.connections()),
            (Workload::Idle, 10_000)
        );
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
            ("--handshakes", 10),
            ("--connect-rate 5", 10),
            ("--handshakes --connect-rate 5", 1_000),
            ("--handshakes --connect-rate 5 -c 20", 20),
        ] {
            assert_eq!(parse(flags).unwrap().connections(), connections, "{flags}");
        }
    }

    #[test]
    fn a_zero_timeout_is_none() {
        let args = parse("--timeout 0").unwrap();
        assert_eq!(args.request_timeout(args.work.workload(Speaks::Perf)), None);
        let args = parse("--timeout 250ms").unwrap();
        let workload = args.work.workload(Speaks::Perf);
        assert_eq!(args.request_timeout(workload), Some(Duration::from_millis(250)));
        let args = parse("--handshakes -n 10k").unwrap();
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
            "--resume sometimes",
            "--local-addr nonsense",
            "--local-addr 127.0.0.1,::1",
            "--local-addr 127.0.0.1/8",
            "--sockets some",
            "--migrate-every 0",
            "--key-update-every 0",
            "--key-update-every 5 --handshakes",
            "--cc brutal",
            "--hq",
            "--echo",
            "--raw",
            "--datagrams 5",
            "--migrate-every 99ms",
            "--migrate-every 1s --handshakes",
            "--connect-rate 0",
            "--replay x -R 5",
            "--replay x --stages 1s@5",
            "--replay x -n 5",
            "--replay x -d 5s",
            "--replay x --warmup 1s",
            "--replay x --handshakes",
            "--replay x --idle 5",
            "--replay x --input-file y",
            "--replay-speed 2x",
            "--replay x --replay-speed 0",
            "-r 5",
        ] {
            assert!(parse(flags).is_err(), "{flags}");
        }
    }

    #[test]
    fn what_belongs_to_one_protocol_is_refused_with_the_other() {
        let check = |line: &str| {
            let flags = Flags::try_parse_from(["load"].into_iter().chain(line.split(' ')));
            flags.unwrap().load.check().map_err(|error| error.to_string())
        };
        for right in [
            "https://a/ https://a:443/b -X PUT -H a:b --body c --reconnect",
            "https://a --idle 3 --reconnect",
            "https://a --handshakes",
            "https://a/b --hq -i urls",
            "https://a/b --hq --idle 3",
            "quic://a:1 --echo --body x",
            "quic://a:1 --alpn x --raw --request-size 7",
            "quic://a:1 --alpn perf-2 --perf",
            "https://a/b --alpn h3-29",
            "https://a/b --alpn hq-29 --hq",
            "quic://a:1 --echo --handshakes",
            "quic://a:1 --echo --datagrams 1k --datagram-size 100",
            "quic://a:1 --perf --request-size 1",
            "quic://a:1 --perf --idle 3 --reconnect",
            "https://a --local-addr 127.0.0.2,127.1.0.0/16 --migrate-every 100ms",
            "https://a --sockets per-core --local-addr ::/112",
        ] {
            assert_eq!(check(right), Ok(()));
        }
        for (line, words) in [
            ("https://a --hq -X PUT", ["-X PUT:", "--hq", "paths alone"]),
            ("https://a --hq --body-size 7", ["--body-size 7:", "--hq", "HTTP/3"]),
            ("https://a --hq --reconnect", ["--reconnect", "--idle N", "https://"]),
            ("https://a --echo", ["--echo:", "https://a/", "quic://HOST:PORT"]),
            ("quic://a:1 --hq", ["--hq:", "quic://a:1", "https://HOST"]),
            ("quic://a:1 --echo --response-size 7", ["--response-size 7:", "--echo", "--body"]),
            ("quic://a:1 --alpn x --raw -X PUT", ["-X PUT:", "--raw", "--request-size"]),
            (
                "quic://a:1 --echo --body x --request-size 7",
                ["--request-size 7:", "--body", "says"],
            ),
            ("https://a --perf", ["--perf:", "https://a/", "quic://HOST:PORT"]),
            ("https://a --download 1k", ["--download 1024:", "https://a/", "quic://HOST:PORT"]),
            ("https://a --response-size 1", ["--response-size 1:", "https://a/", "paths"]),
            ("quic://a:1 --perf -X PUT", ["-X PUT:", "--perf", "https://HOST"]),
            ("quic://a:1 --perf -H a:b", ["-H 'a: b':", "--perf", "https://HOST"]),
            ("quic://a:1 --perf -i urls", ["--input-file urls:", "--perf", "https://HOST"]),
            ("https://a --handshakes -i urls", ["--input-file urls:", "--handshakes", "requests"]),
            ("quic://a:1 --perf --body-size 7", ["--body-size 7:", "--perf", "--request-size"]),
            ("quic://a:1 --perf quic://a:1", ["quic://a:1:", "--perf", "https://HOST"]),
            ("quic://a:1 --perf --reconnect", ["--reconnect", "--idle N", "https://"]),
            ("quic://a:1", ["quic://a:1", "--perf", "https://HOST"]),
            ("https://a https://b", ["https://a/", "https://b/", "one command for each"]),
            ("https://a quic://a:443", ["https://a/", "quic://a:443", "scheme, host and port"]),
            (
                "https://a --sockets per-core --migrate-every 1s",
                ["--migrate-every 1s:", "--sockets per-core", "per-conn"],
            ),
            ("https://a --idle 3 --body b", ["--body:", "--idle 3", "no requests"]),
            ("https://a https://a/b --handshakes", ["https://a/b:", "--handshakes", "requests"]),
            ("https://a --handshakes --reconnect", ["--reconnect:", "--handshakes", "--idle N"]),
            ("quic://a:1 --perf --handshakes --reconnect", ["--reconnect:", "always", "--idle N"]),
            (
                "https://a --handshakes --resume 0rtt",
                ["--resume:", "--handshakes", "--requests-per-conn 1"],
            ),
            ("quic://a:1 --alpn x", ["quic://a:1", "--alpn NAME --raw", "https://HOST"]),
            ("https://a --handshakes --timeout 2s", ["--timeout 2s:", "--handshakes", "--connect"]),
            ("quic://a:1 --perf --handshakes --timeout 0", ["--timeout 0s:", "which", "--connect"]),
        ] {
            let error = check(line).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{line}: {word}: {error}");
            }
        }
    }
}
