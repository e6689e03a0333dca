//! defence abuses a server of one's own and says what its users saw (`load defence`).

use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};
use quiclane::{ClientTls, Target};
use quiclane_loadgen::{
    Arrivals, Body, DEFENCE_RATE_MAX, Defence, DefenceConfig, DefenceEnding, DefenceReport, Kind,
    LoadConfig, Pace, Protocol, Rate, Slo, SloReport, Stop, Workload,
};

use super::INTERVAL;
use super::config::STREAM_BYTES;
use super::hint::{Asked, Trouble, remedy};
use super::http::HttpOptions;
use super::protocol::{ProtocolOptions, Speaks, without};
use super::trust::{ResumeFlag, TrustOptions};
use crate::certificate::seed;
use crate::exit::{Exit, Failure};
use crate::flags::{count, positive, positive_time, positive_u32, positive_usize, size};
use crate::options::{TransportOptions, WorkerOptions};
use crate::target::Url;
use crate::{output, signals};

/// Abuse a server of your own, within limits, and see whether its users notice
///
/// For -d TIME it does what KIND says, from this host's own addresses, while an ordinary user asks
/// at a low, constant rate, before, during and after: the difference is the finding. Against
/// loopback addresses; others need --i-own-this-target. Requests have no content; streams of --echo
/// and --raw take up 1 KiB. Definitions are in loadgen/README.md.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct DefenceArgs {
    /// What to do to the server
    #[arg(value_enum, value_name = "KIND")]
    kind: KindFlag,

    /// The server: https://HOST[:PORT][/PATH] over HTTP/3, or quic://HOST:PORT with --perf. What
    /// slow-reader leaves lying is PATH, so give one with a large response
    #[arg(value_name = "URL")]
    url: Url,

    /// Says that the server is yours, or that its owner has agreed to this test. Without it only
    /// loopback addresses are tested
    #[arg(long)]
    i_own_this_target: bool,

    /// How often a second, of what KIND counts: at most 100k
    #[arg(short = 'R', long, value_name = "N", default_value = "1k", value_parser = rate)]
    rate: u64,

    /// How long
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = positive_time)]
    duration: Duration,

    /// With rapid-reset, slow-reader and stream-exhaustion: connections in all [default: 10]. With
    /// churn: handshakes that may be under way [default: 100]
    #[arg(short, long, value_name = "N", value_parser = positive_usize)]
    connections: Option<usize>,

    /// With slow-reader: responses left lying on each connection [default: 10]
    #[arg(short = 'm', long, value_name = "N", value_parser = positive_u32)]
    streams: Option<u32>,

    /// With --perf, and rapid-reset or slow-reader: bytes of the responses that are asked for
    /// [default: 1k; with slow-reader 16m]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    response_size: Option<u64>,

    /// What the ordinary user asks for, on the same server [default: the URL]
    #[arg(long, value_name = "URL")]
    probe_url: Option<Url>,

    /// Requests a second of the ordinary user, on four connections; five newcomers a second come
    /// beside them
    #[arg(long, value_name = "N", default_value = "50", value_parser = probe_rate)]
    probe_rate: u64,

    /// How long the ordinary user is watched before, and after
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = positive_time)]
    calm: Duration,

    /// How long a handshake of the ordinary user may take
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = positive_time)]
    connect_timeout: Duration,

    /// How long a request of the ordinary user may take
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive_time)]
    timeout: Duration,

    /// What the ordinary user has to see during the abuse, exit code 3 if not: as with load, for
    /// example p99<50ms,errors<1%. handshake. is those of newcomers
    #[arg(long, value_name = "OBJECTIVES")]
    slo: Option<Slo>,

    /// The report as JSON on stdout
    #[arg(long)]
    json: bool,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    protocol: ProtocolOptions,

    #[command(flatten)]
    http: HttpOptions,

    #[command(flatten)]
    trust: TrustOptions,

    #[command(flatten)]
    workers: WorkerOptions,

    #[command(flatten)]
    transport: TransportOptions,
}

/// KIND.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum KindFlag {
    /// Sends first Initials, each with a whole ClientHello, and never goes on: checks the limit of
    /// half-open handshakes, and when a server asks for proof of an address (Retry)
    InitialFlood,
    /// Goes as far as the server's flight, following a Retry, and falls silent: checks the deadline
    /// of handshakes, and how many may be half open at proven addresses
    HandshakeAbandon,
    /// Completes handshakes and closes at once: checks the limit of new connections, and what
    /// closed ones still cost
    Churn,
    /// Sends requests and at once resets and stops them: checks the limit of requests given up
    /// (CVE-2023-44487)
    RapidReset,
    /// Asks for responses and takes a byte of each piece that comes: checks the limits of bytes
    /// kept for a client, and of time that it may take
    SlowReader,
    /// Opens all streams that the server allows, with one byte each and no end: checks the stream
    /// limits, and the deadline of requests
    StreamExhaustion,
    /// Sends random bytes, short headers with unknown IDs, unknown versions and cut Initials:
    /// checks that what is no connection costs next to nothing, and is answered with less
    Junk,
}

impl From<KindFlag> for Kind {
    fn from(flag: KindFlag) -> Self {
        match flag {
            KindFlag::InitialFlood => Self::InitialFlood,
            KindFlag::HandshakeAbandon => Self::HandshakeAbandon,
            KindFlag::Churn => Self::Churn,
            KindFlag::RapidReset => Self::RapidReset,
            KindFlag::SlowReader => Self::SlowReader,
            KindFlag::StreamExhaustion => Self::StreamExhaustion,
            KindFlag::Junk => Self::Junk,
        }
    }
}

/// Runs `load defence`.
pub(super) fn run(args: &DefenceArgs) -> Result<Exit, Failure> {
    let config = args.config()?;
    config.check()?;
    let signals = signals::listen()?;
    let report = watch(Defence::start(config)?, &signals, args.quiet)?;
    if args.json {
        output::json(&report)?;
    } else {
        output::result(&report)?;
    }
    if let Some(hint) = args.hint(&report) {
        output::log(format_args!("hint: {hint}"));
    }
    Ok(exit(&report))
}

/// Waits for the end. The first signal ends the test early, with a report; the second at once.
fn watch(
    defence: Defence,
    signals: &Receiver<()>,
    is_quiet: bool,
) -> Result<DefenceReport, Failure> {
    let (mut asked, mut shown) = (false, "");
    while !defence.is_finished() {
        let phase = defence.phase();
        if phase != shown && !is_quiet {
            output::log(format_args!("{phase} the abuse"));
        }
        shown = phase;
        if signals.try_recv().is_ok() {
            if asked {
                std::process::exit(Exit::Interrupted as i32);
            }
            asked = true;
            defence.stop();
        }
        thread::sleep(INTERVAL);
    }
    Ok(defence.join()?)
}

/// The exit code of a test.
fn exit(report: &DefenceReport) -> Exit {
    let is_broken = report.slo.as_ref().is_some_and(SloReport::is_broken);
    exit_of(report.ending, report.saturated, is_broken)
}

fn exit_of(ending: DefenceEnding, is_saturated: bool, is_broken: bool) -> Exit {
    match ending {
        DefenceEnding::Interrupted => Exit::Interrupted,
        // Nothing was measured that could be invalid.
        ending if ending.is_unbegun() => Exit::Failed,
        _ if is_saturated => Exit::Invalid,
        _ if is_broken => Exit::Broken,
        _ => Exit::Ok,
    }
}

impl DefenceArgs {
    /// What helps where the abuse could not begin.
    fn hint(&self, report: &DefenceReport) -> Option<String> {
        let trouble = Trouble {
            by_class: &report.probe.before.errors,
            handshakes: &report.handshake_errors,
            is_deserted: report.ending == DefenceEnding::NothingConnected,
        };
        let addresses = &[report.target];
        let Self { url, protocol, trust, .. } = self;
        let asked = Asked { url, addresses, protocol, trust };
        if report.ending.is_unbegun() { remedy(&trouble, &asked) } else { None }
    }

    fn config(&self) -> Result<DefenceConfig, Failure> {
        self.check()?;
        let kind = Kind::from(self.kind);
        let address = self.url.resolve(None)?[0];
        let provider = self.workers.provider.into();
        seed(provider);
        let speaks = self.protocol.speaks(&self.url)?;
        let alpn = vec![self.protocol.alpn(speaks).into()];
        let tls = ClientTls::new(provider, self.trust.trust()?, alpn, self.trust.resume.into())?;
        let server_name = self.trust.server_name(&self.url)?.into();
        let target = Target { address, server_name, tls, local: None };

        let large = if kind == Kind::SlowReader { SLOW_RESPONSE_BYTES } else { RESPONSE_BYTES };
        let (protocol, workload) = self.asks(&self.url, self.response_size.unwrap_or(large))?;
        let base = LoadConfig {
            connect_timeout: self.connect_timeout,
            io: self.workers.io.into(),
            transport: self.transport.transport(),
            ..LoadConfig::new(vec![target], workload, Stop::Duration(self.duration))
        };
        let connections = if kind == Kind::Churn { HANDSHAKES } else { CONNECTIONS };
        let abuse = LoadConfig {
            protocol,
            connections: self.connections.unwrap_or(connections),
            streams: self.streams.unwrap_or(STREAMS),
            workers: self.workers.workers(),
            cores: self.workers.cores(),
            ..base.clone()
        };
        let url = self.probe_url.as_ref().unwrap_or(&self.url);
        let (protocol, workload) = self.asks(url, RESPONSE_BYTES)?;
        let rate = Rate::constant(self.probe_rate as f64)?;
        let probe = LoadConfig {
            protocol,
            workload,
            pace: Some(Pace { rate, arrivals: Arrivals::Constant }),
            connections: PROBE_CONNECTIONS,
            streams: PROBE_STREAMS,
            request_timeout: Some(self.timeout),
            slo: self.slo.clone(),
            workers: 1,
            ..base
        };
        let (length, is_own) = (self.duration, self.i_own_this_target);
        Ok(DefenceConfig { kind, rate: self.rate, length, calm: self.calm, is_own, abuse, probe })
    }

    /// Refuses flags that the kind has no use for.
    fn check_kind(&self) -> Result<(), Failure> {
        let kind = Kind::from(self.kind);
        if kind.is_datagrams() {
            let threads = self.workers.workers.map(|workers| format!("-t {workers}"));
            let cores = self.workers.cores.as_ref().map(|_| "--cores".to_owned());
            let connections = self.connections.map(|connections| format!("-c {connections}"));
            let flags = connections.into_iter().chain(threads).chain(cores);
            let why = "whose datagrams come from one thread and 16 ports";
            without(flags, kind.name(), why, "say how many with --rate")?;
            let resume = (self.trust.resume != ResumeFlag::Off).then(|| "--resume".to_owned());
            let why = "which completes no handshake, so that no server gives it a ticket";
            without(resume, kind.name(), why, "use churn to resume sessions")?;
        }
        if kind != Kind::SlowReader {
            let streams = self.streams.map(|streams| format!("-m {streams}"));
            let why = "which leaves no number of responses lying";
            without(streams, kind.name(), why, "say how many with --rate")?;
        }
        if !matches!(kind, Kind::RapidReset | Kind::SlowReader) {
            let size = self.response_size.map(|size| format!("--response-size {size}"));
            let why = "which asks for no response";
            without(size, kind.name(), why, "use rapid-reset or slow-reader")?;
        }
        Ok(())
    }

    /// Refuses what makes no sense together.
    fn check(&self) -> Result<(), Failure> {
        self.check_kind()?;
        let speaks = self.protocol.speaks(&self.url)?;
        let remedy = "use load without defence for them";
        without(self.http.given_bodies(), "defence", "whose requests have no content", remedy)?;
        let url = self.probe_url.as_ref();
        if let Some(other) = url.filter(|other| !self.url.has_origin_of(other)) {
            let (url, other) = (self.url.to_string(), other.to_string());
            return Err(Failure::Origins { url, other });
        }
        if !matches!(speaks, Speaks::Http3 | Speaks::Hq) {
            let url = url.map(|url| format!("--probe-url {url}"));
            let flags = self.http.given_for_http().into_iter().chain(url);
            let remedy = "write https://HOST:PORT/PATH";
            without(flags, &self.url.to_string(), "which has no paths", remedy)?;
        }
        if speaks == Speaks::Hq {
            let remedy = "leave out --hq for HTTP/3";
            without(self.http.given_head(), "--hq", "whose requests are paths alone", remedy)?;
        }
        if speaks != Speaks::Perf {
            let flags = self.response_size.map(|size| format!("--response-size {size}"));
            let remedy = "give a URL whose response is so large";
            without(flags, &self.url.to_string(), "which does not say it", remedy)?;
        }
        Ok(())
    }

    /// What is asked for.
    fn asks(&self, url: &Url, response_size: u64) -> Result<(Protocol, Workload), Failure> {
        let urls = || std::iter::once(url);
        let body = Body::Zeros(STREAM_BYTES);
        let speaks = self.protocol.speaks(&self.url)?;
        Ok(match speaks {
            Speaks::Perf => (Protocol::Perf, Workload::Requests { request_size: 0, response_size }),
            Speaks::Http3 => (Protocol::Http3(self.http.requests(urls())?), Workload::Http),
            Speaks::Hq => (Protocol::Hq(self.http.hq_requests(urls())?), Workload::Http),
            Speaks::Echo => (Protocol::Echo(body), Workload::Streams),
            Speaks::Raw => {
                let alpn = self.protocol.alpn(speaks).into();
                (Protocol::Raw { alpn, body }, Workload::Streams)
            }
        })
    }
}

/// A rate of abuse.
fn rate(text: &str) -> Result<u64, String> {
    match count(text)? {
        rate @ 1..=DEFENCE_RATE_MAX => Ok(rate),
        _ => Err("must be 1 to 100k: a server's limits show far below that".into()),
    }
}

/// A rate of the probe.
fn probe_rate(text: &str) -> Result<u64, String> {
    match positive(text)? {
        rate @ 1..=PROBE_RATE_MAX => Ok(rate),
        _ => Err("must be at most 1k: an ordinary user, not a load".into()),
    }
}

/// Beyond, the probe is a load itself.
const PROBE_RATE_MAX: u64 = 1_000;

/// When one is lost the others take its requests.
const PROBE_CONNECTIONS: usize = 4;

/// A server that stalls for a second holds back no request of the probe.
const PROBE_STREAMS: u32 = 100;

/// Each is a seat that a server has for clients.
const CONNECTIONS: usize = 10;

/// As many as browsers ask for at once.
const STREAMS: u32 = 10;

/// At a thousand a second they may take a tenth of a second each.
const HANDSHAKES: usize = 100;

/// A small page, as with load.
const RESPONSE_BYTES: u64 = 1 << 10;

/// More than any server keeps for a client that takes nothing.
const SLOW_RESPONSE_BYTES: u64 = 16 << 20;

const EXAMPLES: &str = "\
Sizes take k, m, g (k = 1,024 bytes), numbers k, m (k = 1,000), times s, ms, m.

Examples:
  quiclane load defence initial-flood https://localhost:4433/ -k
  quiclane load defence rapid-reset https://localhost:4433/ -k -R 5k --slo 'p99<50ms,errors<1%'
  quiclane load defence slow-reader https://localhost:4433/bytes/100000000 -k \\
      --probe-url https://localhost:4433/ -c 50
  quiclane load defence stream-exhaustion quic://localhost:4433 --perf -k --json
  quiclane load defence churn https://10.0.0.2/ -k --i-own-this-target

Exit codes: 0 the test was done, whatever it found, 1 nobody was answered before the abuse, which
was not begun, or the test failed, 2 usage, 3 an objective of --slo was broken during the abuse,
4 this generator was the bottleneck, 130 interrupted. When several hold, the first of 2, 130, 4, 3,
1.";

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        defence: DefenceArgs,
    }

    fn config(line: &str) -> Result<DefenceConfig, String> {
        let flags = Flags::try_parse_from(["defence"].into_iter().chain(line.split_whitespace()));
        let flags = flags.map_err(|error| error.to_string())?;
        flags.defence.config().map_err(|error| error.to_string())
    }

    fn path(config: &LoadConfig) -> String {
        format!("{:?}", config.protocol)
    }

    #[test]
    fn flags_say_what_is_done_and_who_watches() {
        let of =
            |flags: &str| config(&format!("slow-reader https://127.0.0.1/a -k {flags}")).unwrap();
        let plain = of("");
        assert_eq!((plain.kind, plain.rate), (Kind::SlowReader, 1_000));
        assert_eq!((plain.length, plain.calm), (Duration::from_secs(10), Duration::from_secs(3)));
        assert_eq!((plain.abuse.connections, plain.abuse.streams), (10, 10));
        let (abuse, probe) = (path(&plain.abuse), path(&plain.probe));
        assert!(probe == abuse && !plain.is_own && plain.probe.slo.is_none());
        let pace = |rate| {
            let rate = Rate::constant(rate).unwrap();
            Some(Pace { rate, arrivals: Arrivals::Constant })
        };
        assert_eq!(plain.probe.pace, pace(50.0));
        assert_eq!(plain.probe.request_timeout, Some(Duration::from_secs(10)));
        assert_eq!(plain.probe.connect_timeout, Duration::from_secs(5));

        let given = of("-R 7k -d 2s --calm 1s -c 3 -m 4 -t 2 --cores 0,1");
        assert_eq!((given.rate, given.length), (7_000, Duration::from_secs(2)));
        assert_eq!(given.calm, Duration::from_secs(1));
        assert_eq!((given.abuse.connections, given.abuse.streams), (3, 4));
        assert_eq!((given.abuse.workers, given.abuse.cores), (2, vec![0, 1]));
        assert_eq!((given.probe.workers, given.probe.connections), (1, PROBE_CONNECTIONS));
        let given = of("--probe-url https://127.0.0.1/b --probe-rate 9 --slo p99<1s");
        assert!(path(&given.probe) != abuse && path(&given.abuse) == abuse);
        assert!(given.probe.pace == pace(9.0) && given.probe.slo.is_some());
        let given = of("--timeout 1s --connect-timeout 2s --idle-timeout 9s -H a:b");
        assert_eq!(given.probe.request_timeout, Some(Duration::from_secs(1)));
        assert_eq!(given.probe.connect_timeout, Duration::from_secs(2));
        assert_eq!(given.abuse.transport.idle_timeout, Duration::from_secs(9));
        assert_ne!(path(&given.abuse), abuse);
        assert_eq!(config("churn https://127.0.0.1 -k").unwrap().abuse.connections, HANDSHAKES);
    }

    #[test]
    fn responses_of_perf_have_a_size() {
        let size = |line: &str| {
            let config = config(&format!("{line} quic://127.0.0.1:1 --perf -k")).unwrap();
            [config.abuse, config.probe].map(|load| load.workload.sizes().unwrap().1)
        };
        assert_eq!(size("rapid-reset"), [RESPONSE_BYTES, RESPONSE_BYTES]);
        assert_eq!(size("slow-reader"), [SLOW_RESPONSE_BYTES, RESPONSE_BYTES]);
        assert_eq!(size("slow-reader --response-size 1g"), [1 << 30, RESPONSE_BYTES]);
    }

    #[test]
    fn somebody_has_to_say_that_a_server_is_theirs() {
        let own = "junk https://192.0.2.1/ -k --i-own-this-target";
        assert!(config(own).unwrap().check().is_ok());
        let error = config("junk https://192.0.2.1/ -k").unwrap().check().unwrap_err();
        assert_eq!(Failure::from(error).exit(), Exit::Usage);
    }

    #[test]
    fn a_test_that_was_not_begun_failed_however_late_the_probe_was() {
        for (ending, is_saturated, is_broken, code) in [
            (DefenceEnding::NothingConnected, true, false, Exit::Failed),
            (DefenceEnding::NothingAnswered, true, false, Exit::Failed),
            (DefenceEnding::Interrupted, true, true, Exit::Interrupted),
            (DefenceEnding::Complete, true, true, Exit::Invalid),
            (DefenceEnding::Complete, false, true, Exit::Broken),
            (DefenceEnding::Complete, false, false, Exit::Ok),
        ] {
            assert_eq!(exit_of(ending, is_saturated, is_broken), code, "{ending:?}");
        }
    }

    #[test]
    fn what_no_connection_can_be_made_with_is_refused_before_the_first() {
        let line = "junk https://127.0.0.1 -k --keep-alive 60s --idle-timeout 30s";
        let error = config(line).unwrap().check().unwrap_err();
        assert!(error.to_string().contains("less than idle_timeout"), "{error}");
        assert_eq!(Failure::from(error).exit(), Exit::Usage);
    }

    #[test]
    fn what_makes_no_sense_together_is_refused() {
        for (line, words) in [
            ("junk quic://127.0.0.1:1 -k", ["quic://127.0.0.1:1", "--perf"]),
            ("junk https://127.0.0.1 --perf -k", ["--perf", "quic://HOST"]),
            ("churn https://127.0.0.1 -k --body x", ["--body", "without defence"]),
            ("slow-reader https://127.0.0.1 -k --response-size 5", ["--response-size 5", "URL"]),
            ("churn quic://127.0.0.1:1 --perf -k --response-size 5", ["-size 5", "rapid-reset"]),
            ("churn https://127.0.0.1 -k -m 5", ["-m 5", "churn"]),
            ("junk https://127.0.0.1 -k -c 5", ["-c 5", "--rate"]),
            ("junk https://127.0.0.1 -k -t 5 --cores 0", ["-t 5, --cores", "junk"]),
            ("initial-flood https://127.0.0.1 -k --resume 0rtt", ["--resume", "churn"]),
            ("junk https://127.0.0.1 -k --resume ticket", ["--resume", "junk"]),
            ("churn https://127.0.0.1 -k --hq -X PUT", ["-X PUT", "--hq"]),
            ("churn quic://127.0.0.1:1 --perf -k -H a:b", ["-H 'a: b'", "https://HOST"]),
            (
                "churn https://127.0.0.1 -k --probe-url https://127.0.0.2",
                ["127.0.0.2", "one server"],
            ),
            ("churn https://127.0.0.1 -k -d 0", ["-d", "more than 0"]),
            ("churn https://127.0.0.1 -k --slo x", ["--slo", "x"]),
        ] {
            let error = config(line).unwrap_err();
            for word in words {
                assert!(error.contains(word), "{line}: {word}: {error}");
            }
        }
    }
}
