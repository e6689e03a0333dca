//! load offers load to a server and reports what came back.

mod check;
mod config;
mod defence;
mod files;
mod hint;
mod host;
mod http;
mod pace;
mod part;
mod protocol;
mod repeat;
mod reports;
mod script;
mod search;
mod series;
mod sockets;
mod trust;
mod work;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use quiclane_loadgen::{Ending, Load, LoadConfig, Report, Slo, SloReport, Stop, Workload};

use crate::exit::{Exit, Failure};
use crate::flags::{positive, positive_time, positive_u32, positive_usize, time};
use crate::options::{TransportOptions, WorkerOptions};
use crate::progress::Meter;
use crate::target::Url;
use crate::{output, signals};
use defence::DefenceArgs;
use files::FileOptions;
use hint::hint;
use http::HttpOptions;
use pace::PaceOptions;
use part::PartOptions;
use protocol::ProtocolOptions;
use repeat::RepeatOptions;
use reports::{CompareArgs, MergeArgs};
use search::SearchOptions;
use series::SeriesOutput;
use sockets::{KeyOptions, SocketOptions};
use trust::TrustOptions;
use work::WorkOptions;

/// Offer load to a QUIC server and measure what comes back
///
/// A closed loop: each connection keeps -m requests in flight and starts the next one when one
/// ends. With --rate, --stages or --replay an open loop: requests are sent when they are due. The
/// definition of every number is in loadgen/README.md.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(subcommand_negates_reqs = true, subcommand_value_name = "COMMAND")]
#[command(group(ArgGroup::new("stop")))]
#[command(group(ArgGroup::new("work")))]
pub(crate) struct LoadArgs {
    #[command(subcommand)]
    command: Option<Command>,

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
    repeat: RepeatOptions,

    #[command(flatten)]
    sockets: SocketOptions,

    #[command(flatten)]
    keys: KeyOptions,

    #[command(flatten)]
    workers: WorkerOptions,

    #[command(flatten)]
    transport: TransportOptions,
}

/// What to do instead of offering load.
#[derive(Clone, Debug, Subcommand)]
enum Command {
    Compare(CompareArgs),
    Merge(MergeArgs),
    Defence(Box<DefenceArgs>),
}

/// Runs the command.
pub(crate) fn run(args: &LoadArgs) -> Result<Exit, Failure> {
    match &args.command {
        Some(Command::Compare(args)) => return reports::compare(args),
        Some(Command::Merge(args)) => return reports::merge(args),
        Some(Command::Defence(args)) => return defence::run(args),
        None => {}
    }
    args.check()?;
    let signals = signals::listen()?;
    if args.repeat.given().is_some() {
        return repeat::run(args, &signals);
    }
    let addresses = args.addresses()?;
    let config = args.config(addresses[0])?;
    Load::check(&config)?;
    if args.search.find_max {
        return search::run(args, addresses[0], &signals);
    }
    let mut files = args.files.open(None)?;
    if let Some(start) = config.start_at
        && !part::wait(start, config.transport.idle_timeout, &signals)
    {
        output::log("interrupted before the start");
        return Ok(Exit::Interrupted);
    }
    args.warn_of_fewer(&config);
    let workload = config.workload;
    let load = Load::start(config)?;
    let mut meter = args.meter(workload, load.stop());
    let (report, _) = watch_and_write(load, &signals, &mut meter, files.series.as_mut())?;
    if args.json {
        output::json(&report)?;
        for note in &report.detail.notes {
            output::log(format_args!("note: {note}"));
        }
    } else {
        let verdict = verdict(&report);
        let mut text = format!("{verdict}{} ({})\n{report}", args.title(), addresses[0]);
        if args.files.latency {
            text.push_str(&format!("\n{}", report.spectrum()));
        }
        if args.files.takes_stdout() {
            output::log(text);
        } else {
            output::result(text)?;
        }
    }
    files.write(&report, &args.title())?;
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
    Ok(watch_and_write(load, signals, meter, None)?.0)
}

/// The same, and writes its `series`. Says, too, whether there was a signal: the run may have come
/// to its end all the same.
fn watch_and_write(
    mut load: Load,
    signals: &Receiver<()>,
    meter: &mut Meter,
    mut series: Option<&mut SeriesOutput>,
) -> Result<(Report, bool), Failure> {
    let mut asked = false;
    while !load.is_finished() {
        meter.show(load.progress());
        if let Some(series) = &mut series {
            series.add(&load.intervals());
        }
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
    Ok((load.join()?, asked))
}

/// What a result begins with that nobody may rely on.
fn verdict(report: &Report) -> String {
    if report.is_invalid() { format!("INVALID: {BOTTLENECK}\n") } else { String::new() }
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

    /// All URLs, as they would be written.
    fn title(&self) -> String {
        self.urls().map(Url::to_string).collect::<Vec<_>>().join(" ")
    }

    /// The addresses of the server that can be reached, best first.
    fn addresses(&self) -> Result<Vec<SocketAddr>, Failure> {
        let local = self.sockets.local_addr.as_ref().map(|locals| locals.nth(0));
        Ok(self.url().resolve(local)?)
    }

    /// Says that fewer connections are opened than were asked for.
    fn warn_of_fewer(&self, config: &LoadConfig) {
        if let (Some(asked), Some(requests)) = (self.connections, self.requests)
            && config.connections < asked
        {
            output::log(format_args!(
                "warning: -c {asked} is more than -n {requests}: only {requests} opened"
            ));
        }
    }

    /// What shows a run while it lasts.
    fn meter(&self, workload: Workload, stop: Stop) -> Meter {
        // Lines of a series on a terminal show how far it is, and would be drawn over.
        let quiet = self.quiet || (self.files.takes_stdout() && io::stdout().is_terminal());
        match self.plain {
            true => Meter::plain(quiet, workload, stop),
            false => Meter::live(quiet, workload, stop, &self.url().to_string()),
        }
    }
}

/// How often the end of the run and signals are looked for.
const INTERVAL: Duration = Duration::from_millis(10);

/// Why nobody may rely on a result.
const BOTTLENECK: &str =
    "the generator was the bottleneck, these are its own times as much as the server's";

const EXAMPLES: &str = "\
Sizes take k, m, g (k = 1,024 bytes), numbers k, m (k = 1,000), times s, ms, m.

Examples:
  quiclane load https://localhost:4433/ -k -c 100 -m 10 -d 30s
  quiclane load https://localhost:4433/a https://localhost:4433/b -k -H 'accept: */*'
  quiclane load https://localhost:4433/form -k -n 1k --body @form.json -H 'x-key: 1'
  quiclane load https://localhost:4433/ -k -R 20k --arrivals poisson -d 1m --report run.html
  quiclane load https://localhost:4433/ -k --stages 30s@0:5k,1m@5k,10s@5k:0
  quiclane load https://localhost:4433/ -k --replay times.tsv --replay-speed 2x
  quiclane load https://localhost:4433/ -k -R 20k -d 1m --slo 'p99<250ms,errors<1%,rate>99%'
  quiclane load https://localhost:4433/ -k -d 20s --slo 'p99<50ms,errors<1%' --find-max
  quiclane load https://localhost:4433/ -k -c 50 --repeat 5
  quiclane load https://localhost:4433/ -k -c 50 --versus https://localhost:4434/
  quiclane load https://localhost:4433/ -k -R 20k -d 1m --partition 1/2 --start-at +30s --json
  quiclane load https://localhost:4433/ -k --handshakes --connect-rate 500 -d 30s
  quiclane load https://localhost:4433/ -k -c 1k --local-addr 127.1.0.0/24 --migrate-every 10s
  quiclane load https://localhost:4433/bytes/1024 --hq -k -c 10
  quiclane load quic://localhost:4433 --perf -k -c 4 --download 1g
  quiclane load quic://localhost:4433 --perf -k -c 50 --requests-per-conn 10 --resume 0rtt
  quiclane load quic://localhost:4433 --perf -k --idle 10k --keep-alive 5s --reconnect
  quiclane load quic://localhost:4433 --echo -k --request-size 4k -c 10 -R 1k
  quiclane load compare before.json after.json
  quiclane load defence initial-flood https://localhost:4433/ -k

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

    /// `load` of a `perf` server with `flags`.
    pub(super) fn parse(flags: &str) -> Result<LoadArgs, clap::Error> {
        let words = "load quic://localhost:1 --perf".split(' ').chain(flags.split_whitespace());
        Flags::try_parse_from(words).map(|flags| flags.load)
    }

    #[test]
    fn every_example_can_be_given_and_each_kind_of_run_has_one() {
        let lines = EXAMPLES.lines().filter_map(|line| line.strip_prefix("  quiclane "));
        for line in lines {
            // What is in quotes is one word.
            let words = line.split('\'').enumerate().flat_map(|(at, part)| match at % 2 {
                0 => part.split_whitespace().collect(),
                _ => vec![part],
            });
            assert!(Flags::try_parse_from(words).is_ok(), "{line}");
        }
        for flag in [
            " --find-max",
            " --replay ",
            " --stages ",
            " --slo ",
            " --report ",
            " --migrate-every ",
            " --local-addr ",
            " --versus ",
            " --repeat ",
        ] {
            assert!(EXAMPLES.contains(flag), "{flag}");
        }
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
            "--hlog -",
            "--hgrm -",
            "--report -",
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
