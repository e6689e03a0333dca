//! serve runs the engine with the protocols that come with it, until a signal stops it.

mod budgets;
mod limits;
mod offer;
mod rings;
mod watch;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use clap::{Args, ValueEnum};

use quiclane::{Config, Engine, Retry, ServerConfig, ServerTls, Xdp, clock};

use crate::certificate::{Identity, NAMES, seed};
use crate::exit::{Exit, Failure};
use crate::flags::{Bytes, address, hex, positive_time, time};
use crate::metrics::MetricsServer;
use crate::options::{
    RedirectFlag, SteeringFlag, TransportOptions, WorkerOptions, check_xdp_flags,
};
use crate::{output, signals};
use budgets::BudgetOptions;
use limits::LimitOptions;
pub(crate) use limits::Switch;
use offer::{Offer, Protocol};
use rings::RingOptions;
use watch::Watch;

/// Serve QUIC until SIGINT or SIGTERM
///
/// When it is ready, stdout gets exactly one line:
///   ready listen=ADDR[,ADDR] workers=N io=... steering=... epoch=...
/// The log on stderr says what was chosen and why. The first signal lets open connections finish
/// for --drain, the second closes them at once.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment, after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Address to listen on; may be repeated. Port 0 takes a free one; [::] takes IPv4 too
    #[arg(long, value_name = "ADDR", default_value = "[::]:4433", value_parser = address)]
    listen: Vec<SocketAddr>,

    /// Application protocols, best first [default: h3,perf,echo,hq-interop]
    #[arg(long, value_enum, value_name = "LIST", value_delimiter = ',')]
    alpn: Vec<Protocol>,

    /// Certificate chain, PEM [default: one for localhost is made in memory]
    #[arg(long, value_name = "FILE")]
    cert: Option<PathBuf>,

    /// Private key of --cert, PEM
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,

    /// Offer HTTP/3 alone, as --alpn h3
    #[arg(long, conflicts_with = "alpn")]
    h3: bool,

    /// Folder whose files HTTP/3 and hq-interop serve: all in it, also those whose names begin with
    /// a dot
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Follow symbolic links that lead out of --root; whoever can write there can then show every
    /// file that the server may read
    #[arg(long, requires = "root")]
    follow_links: bool,

    /// Accept 0-RTT data of resumed connections; it can be replayed
    #[arg(long)]
    early_data: bool,

    /// Where the keys of connection IDs and tokens survive a restart [default: in memory]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,

    /// How long packets of a process that is gone are recognised and answered with a reset, counted
    /// from the first start after it; as long as a client may keep a dead connection alive. Within
    /// that time there can be 255 more starts
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = positive_time,
          requires = "state_dir")]
    retired_for: Duration,

    /// QUIC-LB server ID at the front of connection IDs, up to 8 bytes, for example 0a1b
    #[arg(long, value_name = "HEX", default_value = "", hide_default_value = true,
          value_parser = hex)]
    server_id: Bytes,

    /// How a packet finds its worker
    #[arg(long, value_enum, default_value_t = SteeringFlag::Auto, value_name = "WAY")]
    steering: SteeringFlag,

    /// Put the XDP program on this interface, with --steering auto, xdp and xdp-generic; may be
    /// repeated [default: those that own the listen addresses, loopback left out]
    #[arg(long, value_name = "NAME")]
    interface: Vec<String>,

    /// Whether XDP moves packets to the core of their worker, with --steering auto and xdp; it pays
    /// where the device has fewer receive queues than there are workers
    #[arg(long, value_enum, default_value_t = RedirectFlag::Off, value_name = "WHERE")]
    xdp_redirect: RedirectFlag,

    /// Keep the capabilities after the start: kernels before 5.19 want CAP_BPF and CAP_NET_ADMIN of
    /// a server that follows its host, when an interface comes back, an address comes, or an epoch
    /// ends
    #[arg(long)]
    keep_capabilities: bool,

    /// When clients must prove their address before anything is spent on them
    #[arg(long, value_enum, default_value_t = RetryFlag::Auto, value_name = "WHEN")]
    retry: RetryFlag,

    /// Answer Prometheus here, for example 127.0.0.1:9433 [default: nowhere]
    #[arg(long, value_name = "ADDR", value_parser = address)]
    metrics: Option<SocketAddr>,

    /// After the first signal, how long open connections may go on
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    drain: Duration,

    /// Log nothing but warnings and errors
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    workers: WorkerOptions,

    #[command(flatten)]
    ring: RingOptions,

    #[command(flatten)]
    transport: TransportOptions,

    #[command(flatten)]
    limits: LimitOptions,

    #[command(flatten)]
    budgets: BudgetOptions,
}

/// Runs the command.
pub(crate) fn run(args: &ServeArgs) -> Result<Exit, Failure> {
    check_xdp_flags(args.steering, &args.interface, args.xdp_redirect)?;
    let identity = args.identity()?;
    let key = if args.cert.is_none() { identity.key_fingerprint() } else { None };
    let protocols = args.protocols();
    let is_browsable = protocols.contains(&Protocol::H3);
    let metrics = args.metrics.map(MetricsServer::bind).transpose()?;
    let config = args.config(identity, &protocols)?;
    let offer = Arc::new(Offer::new(protocols, args)?);
    let workers = Arc::clone(&offer);
    let engine = Engine::start(config, move |worker| workers.apps(worker.id))?;
    // Not before: this thread then has no more capabilities than the others.
    let signals = signals::listen()?;
    // By now its capabilities are gone, and with them what they alone had opened.
    args.root_within_reach()?;
    args.log_plan(&engine);
    if let (true, Some(key), [address, ..]) = (is_browsable, key, engine.listen()) {
        args.note(browser(*address, &key));
    }
    if let Some(server) = metrics {
        args.note(format_args!("metrics: http://{}/metrics", server.address()));
        let metrics = engine.metrics();
        server.serve(move || metrics.text() + &offer.metrics())?;
    }
    output::result(ready_line(&engine))?;
    let exit = wait(&engine, &signals, args);
    engine.join()?;
    args.note(format_args!("stopped"));
    Ok(exit)
}

impl ServeArgs {
    fn identity(&self) -> Result<Identity, Failure> {
        match (&self.cert, &self.key) {
            (Some(certificate), Some(key)) => Ok(Identity::read(certificate, key)?),
            (Some(certificate), None) => Err(Failure::Incomplete {
                given: format!("--cert {}", certificate.display()),
                needed: "--key FILE, the private key that belongs to it",
            }),
            (None, Some(key)) => Err(Failure::Incomplete {
                given: format!("--key {}", key.display()),
                needed: "--cert FILE, the certificate chain it belongs to",
            }),
            (None, None) => {
                let identity = Identity::generate()?;
                self.note(format_args!(
                    "certificate: self-signed, in memory, for {}; SHA-256 {}",
                    NAMES.join(", "),
                    identity.fingerprint()
                ));
                Ok(identity)
            }
        }
    }

    /// Whether the folder of --root can still be entered.
    fn root_within_reach(&self) -> Result<(), Failure> {
        let Some(path) = &self.root else { return Ok(()) };
        let beyond = |source| Failure::RootBeyondReach { path: path.clone(), source };
        fs::metadata(path.join(".")).map(drop).map_err(beyond)
    }

    /// The protocols to offer, best first.
    fn protocols(&self) -> Vec<Protocol> {
        match (self.h3, self.alpn.is_empty()) {
            (true, _) => vec![Protocol::H3],
            (false, false) => self.alpn.clone(),
            (false, true) => Protocol::value_variants().to_vec(),
        }
    }

    fn config(&self, identity: Identity, protocols: &[Protocol]) -> Result<Config, Failure> {
        let Identity { chain, key } = identity;
        let alpn = protocols.iter().map(|protocol| protocol.name().to_vec()).collect();
        let provider = self.workers.provider.into();
        seed(provider);
        let tls = ServerTls::new(provider, chain, key, alpn, self.early_data)?;
        let server = ServerConfig {
            listen: self.listen.clone(),
            tls,
            steering: self.steering.into(),
            xdp: Xdp {
                interfaces: self.interface.clone(),
                redirect: matches!(self.xdp_redirect, RedirectFlag::Cpu),
                budgets: self.budgets.budgets(),
            },
            drop_capabilities: !self.keep_capabilities,
            retry: self.retry.into(),
            state_dir: self.state_dir.clone(),
            retired_for: self.retired_for,
            server_id: self.server_id.0.clone(),
        };
        Ok(Config {
            server: Some(server),
            workers: self.workers.workers(),
            cores: self.workers.cores(),
            io: self.workers.io.into(),
            ring: self.ring.ring(self.workers.io)?,
            limits: self.limits.limits(),
            transport: self.limits.streams(self.transport.transport()),
            seed: None,
        })
    }

    fn log_plan(&self, engine: &Engine) {
        let plan = engine.plan();
        self.note(format_args!(
            "plan: {} worker{} on {}; io {}; steering {}{}; epoch {}{}; {}",
            plan.workers(),
            if plan.workers() == 1 { "" } else { "s" },
            cores(plan.cores()),
            plan.io(),
            plan.steering(),
            match plan.steering() {
                "hash" if plan.workers() == 1 => ", a single worker needs none".to_owned(),
                _ => places(plan.interfaces()),
            },
            plan.epoch(),
            retired(plan.retired_epochs()),
            self.limits.resets()
        ));
        if self.state_dir.is_none() {
            self.note(
                "state: in memory; keys and tokens will not survive a restart (give --state-dir)",
            );
        }
        output::warnings(plan.notes());
    }

    fn note(&self, text: impl std::fmt::Display) {
        if !self.quiet {
            output::log(text);
        }
    }
}

/// The command that opens what a self-signed server serves on `address`: without the second flag a
/// browser tries TCP first, without the third it does not trust the server.
fn browser(address: SocketAddr, key: &str) -> String {
    let port = address.port();
    let place = if address.ip().is_unspecified() {
        format!("localhost:{port}")
    } else {
        address.to_string()
    };
    format!(
        "browser: chromium --user-data-dir=/tmp/quiclane --origin-to-force-quic-on={place} \
         --ignore-certificate-errors-spki-list={key} https://{place}/"
    )
}

/// The cores of the workers, in their order. They are pinned all or none.
fn cores(cores: &[Option<usize>]) -> String {
    let pinned: Vec<String> = cores.iter().flatten().map(ToString::to_string).collect();
    match pinned.len() {
        0 => "any core".to_owned(),
        1 => format!("core {}", pinned[0]),
        _ => format!("cores {}", pinned.join(",")),
    }
}

/// Where XDP is: ` (native on eth0, eth1; generic on br0)`, or nothing.
fn places(interfaces: &[(String, &'static str)]) -> String {
    let on = |mode: &str| {
        let names = interfaces.iter().filter(|(_, of)| *of == mode).map(|(name, _)| name.as_str());
        let names: Vec<&str> = names.collect();
        (!names.is_empty()).then(|| format!("{mode} on {}", names.join(", ")))
    };
    let places: Vec<String> = ["native", "generic"].into_iter().filter_map(on).collect();
    if places.is_empty() { String::new() } else { format!(" ({})", places.join("; ")) }
}

/// The starts before this one whose clients get a reset: `, resets for 3,4`, or nothing. After a
/// crash loop only the last ones are named.
fn retired(epochs: &[u64]) -> String {
    let shown = &epochs[epochs.len().saturating_sub(RETIRED_SHOWN_MAX)..];
    let names: Vec<String> = shown.iter().map(ToString::to_string).collect();
    match epochs.len() - shown.len() {
        0 if epochs.is_empty() => String::new(),
        0 => format!(", resets for {}", names.join(",")),
        more => format!(", resets for {more} more and {}", names.join(",")),
    }
}

/// What `--quiet` and everything else leaves on stdout.
fn ready_line(engine: &Engine) -> String {
    let plan = engine.plan();
    let listen: Vec<String> = engine.listen().iter().map(ToString::to_string).collect();
    format!(
        "ready listen={} workers={} io={} steering={} epoch={}",
        listen.join(","),
        plan.workers(),
        plan.io(),
        plan.steering(),
        plan.epoch()
    )
}

/// The limits that an operator is told of when they are reached.
struct Watches {
    budgets: Watch,
    resets: Watch,
}

fn watches(args: &ServeArgs) -> Watches {
    let (now, advice) = (clock::now(), "raise it if they are of honest clients");
    let resets = "raise it, or these clients wait for their idle timeouts";
    Watches {
        budgets: Watch::new(args.budgets.topics(), "over budget, dropped in XDP", advice, now),
        resets: Watch::new(args.limits.reset_topics(), "resets refused by limit", resets, now),
    }
}

/// Waits until the engine has stopped, of itself or because of signals.
fn wait(engine: &Engine, signals: &Receiver<()>, args: &ServeArgs) -> Exit {
    let mut asked = 0;
    let mut watches = watches(args);
    let metrics = engine.metrics();
    let frames = || {
        let frames = metrics.kernel().map(|counts| counts.frames).unwrap_or_default();
        frames.into_iter().map(|one| (one.reason, one.count))
    };
    // XDP and the workers have a budget each.
    let unanswered = || {
        let by_xdp = frames().filter_map(|(name, n)| Some((name.strip_prefix("unanswered_")?, n)));
        by_xdp.chain(metrics.unanswered()).collect()
    };
    while !engine.is_finished() {
        for notice in engine.notices() {
            if notice.is_warning {
                output::warnings(&[notice.text]);
            } else {
                args.note(notice.text);
            }
        }
        let now = clock::now();
        let over = watches.budgets.look(now, || frames().collect());
        let warnings = [over, watches.resets.look(now, unanswered)];
        output::warnings(&warnings.into_iter().flatten().collect::<Vec<_>>());
        match signals.recv_timeout(INTERVAL) {
            Ok(()) => asked += 1,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => continue,
        }
        match asked {
            1 => {
                args.note(format_args!(
                    "stopping: open connections have {:?} to finish; a second signal closes them",
                    args.drain
                ));
                engine.stop(args.drain);
            }
            2 => engine.stop(Duration::ZERO),
            _ => return Exit::Interrupted,
        }
    }
    if asked > 1 { Exit::Interrupted } else { Exit::Ok }
}

/// --retry.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum RetryFlag {
    /// Never
    Off,
    /// While many handshakes are unfinished, see --retry-above
    Auto,
    /// Always
    Always,
}

impl From<RetryFlag> for Retry {
    fn from(flag: RetryFlag) -> Self {
        match flag {
            RetryFlag::Off => Self::Off,
            RetryFlag::Auto => Self::Auto,
            RetryFlag::Always => Self::Always,
        }
    }
}

/// Retired epochs that the log names.
const RETIRED_SHOWN_MAX: usize = 8;

/// How often the end of the engine is looked for.
const INTERVAL: Duration = Duration::from_millis(50);

const EXAMPLES: &str = "\
Examples:
  quiclane serve
  quiclane serve --listen 127.0.0.1:4433 --workers 2 --metrics 127.0.0.1:9433
  quiclane serve --h3 --root site --cert cert.pem --key key.pem";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_says_where_xdp_is_and_in_which_mode() {
        let named = |name: &str, mode| (name.to_owned(), mode);
        let all = [named("br0", "generic"), named("eth0", "native"), named("eth1", "native")];
        assert_eq!(places(&all), " (native on eth0, eth1; generic on br0)");
        assert_eq!(places(&all[..1]), " (generic on br0)");
        assert_eq!(places(&[]), "");
    }

    #[test]
    fn the_plan_says_whose_clients_get_a_reset() {
        let epochs: Vec<u64> = (3..=300).collect();
        assert_eq!(retired(&[]), "");
        assert_eq!(retired(&epochs[..2]), ", resets for 3,4");
        assert_eq!(retired(&epochs), ", resets for 290 more and 293,294,295,296,297,298,299,300");
    }

    #[test]
    fn a_browser_is_sent_to_where_somebody_listens() {
        for (listen, place) in [
            ("[::]:4433", "localhost:4433"),
            ("0.0.0.0:1", "localhost:1"),
            ("127.0.0.1:2", "127.0.0.1:2"),
            ("[::1]:3", "[::1]:3"),
        ] {
            let command = browser(listen.parse().unwrap(), "KEY=");
            for words in [
                &format!("--origin-to-force-quic-on={place} "),
                &format!(" https://{place}/"),
                "-spki-list=KEY= ",
            ] {
                assert!(command.contains(words), "{words}: {command}");
            }
        }
    }

    #[test]
    fn the_plan_says_which_cores() {
        assert_eq!(cores(&[Some(0)]), "core 0");
        assert_eq!(cores(&[Some(2), Some(0)]), "cores 2,0");
        assert_eq!(cores(&[None, None]), "any core");
    }
}
