//! demo does the main job on any machine: a server and a load generator in one process.

mod report;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use clap::Args;
use quiclane::apps::http3::{Options, Site, SiteOptions};
use quiclane::apps::{Http3, Perf, PerfOptions, Protocols};
use quiclane::{
    App, ClientTls, Config, Engine, Provider, Resume, ServerConfig, ServerTls, Target, Trust, clock,
};
use quiclane_loadgen::{
    Body, Ending, H3_ALPN, HttpRequest, Load, LoadConfig, PERF_ALPN, Protocol, Report, Stop,
    Workload,
};

use crate::certificate::{Identity, seed};
use crate::exit::{Exit, Failure};
use crate::load::watch;
use crate::progress::Meter;
use crate::{output, signals};
use report::{DemoReport, WorkerReport};

/// Show what quiclane does, on this machine, in less than 15 seconds
///
/// Starts a server with one worker per core on a free port of 127.0.0.1 and drives it with the
/// load generator: many small requests, the same over HTTP/3, then bulk data in both directions,
/// then handshakes. Needs no privileges and no files. Server and generator share the cores: the
/// rates show that all is well, they are no benchmark.
#[derive(Args, Debug)]
pub(crate) struct DemoArgs {
    /// The report as JSON on stdout
    #[arg(long)]
    json: bool,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Runs the command.
pub(crate) fn run(args: &DemoArgs) -> Result<Exit, Failure> {
    let signals = signals::listen()?;
    let began = clock::now();
    seed(Provider::default());
    let identity = Identity::generate()?;
    let trust = identity.trust()?;
    let engine = start(identity)?;
    let address = engine.listen()[0];
    if args.json {
        output::warnings(engine.plan().notes());
    } else {
        output::result(report::introduction(&engine, address))?;
    }
    let stage = Stage { args, signals, address, trust, cores: engine.plan().workers() };
    let Some(perf) = stage.perf()? else { return Ok(Exit::Interrupted) };
    let Some(http3) = stage.http3()? else { return Ok(Exit::Interrupted) };
    let Some(bulk) = stage.bulk()? else { return Ok(Exit::Interrupted) };
    let Some(handshakes) = stage.handshakes()? else { return Ok(Exit::Interrupted) };
    let (plan, metrics) = (engine.plan().clone(), engine.metrics());
    engine.stop(Duration::ZERO);
    engine.join()?;
    let workers = WorkerReport::all(&plan, &metrics.snapshots());
    let duration = clock::now().saturating_duration_since(began);
    let report = DemoReport::new(&plan, workers, duration, [perf, http3, bulk, handshakes]);
    if args.json {
        output::json(&report)?;
    } else {
        output::result(format_args!("\n{report}"))?;
    }
    Ok(if report.is_ok() { Exit::Ok } else { Exit::Failed })
}

/// A server with one worker per core.
fn start(identity: Identity) -> Result<Engine, Failure> {
    let Identity { chain, key } = identity;
    let alpn = vec![PERF_ALPN.to_vec(), H3_ALPN.to_vec()];
    let tls = ServerTls::new(Provider::default(), chain, key, alpn, false)?;
    let server = ServerConfig::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls);
    let config = Config { server: Some(server), ..Config::default() };
    Ok(Engine::start(config, |_| {
        let perf: Box<dyn App> = Box::new(Perf::new(PerfOptions::default()));
        let site = Site::new(None, SiteOptions::default());
        let http3: Box<dyn App> = Box::new(Http3::serving(site, Options::default()));
        Protocols::new(vec![(PERF_ALPN.to_vec(), perf), (H3_ALPN.to_vec(), http3)])
    })?)
}

/// Where the runs take place.
struct Stage<'a> {
    args: &'a DemoArgs,
    signals: Receiver<()>,
    address: SocketAddr,
    trust: Trust,
    cores: usize,
}

impl Stage<'_> {
    fn perf(&self) -> Result<Option<Report>, Failure> {
        let workload = Workload::Requests { request_size: 100, response_size: 1 << 10 };
        self.run("1. Many small requests", Protocol::Perf, workload, 8 * self.cores, 8)
    }

    fn http3(&self) -> Result<Option<Report>, Failure> {
        let get = HttpRequest::new("GET", "localhost", "/bytes/1024", Body::None);
        let protocol = Protocol::Http3(vec![get.map_err(Failure::Http)?]);
        self.run("2. As many over HTTP/3", protocol, Workload::Http, 8 * self.cores, 8)
    }

    fn bulk(&self) -> Result<Option<Report>, Failure> {
        let workload = Workload::Requests { request_size: 4 << 20, response_size: 16 << 20 };
        let title = "3. Bulk data, up and then down on each stream";
        self.run(title, Protocol::Perf, workload, 2 * self.cores, 1)
    }

    fn handshakes(&self) -> Result<Option<Report>, Failure> {
        self.run("4. Handshakes", Protocol::Perf, Workload::Handshakes, 8 * self.cores, 1)
    }

    /// One run; `None` if it was interrupted.
    fn run(
        &self,
        title: &str,
        protocol: Protocol,
        workload: Workload,
        connections: usize,
        streams: u32,
    ) -> Result<Option<Report>, Failure> {
        let alpn = vec![protocol.alpn().to_vec()];
        let tls = ClientTls::new(Provider::default(), self.trust.clone(), alpn, Resume::Off)?;
        let server_name = "localhost".into();
        let target = Target { address: self.address, server_name, tls, local: None };
        let config = LoadConfig {
            protocol,
            connections,
            streams,
            request_timeout: Some(REQUEST_TIMEOUT),
            workers: self.cores,
            ..LoadConfig::new(vec![target], workload, Stop::Duration(RUN))
        };
        let mut meter = Meter::new(self.args.quiet, config.workload, config.stop);
        let report = watch(Load::start(config)?, &self.signals, &mut meter)?;
        if !self.args.json {
            output::result(format_args!("\n{title}\n{report}"))?;
        }
        Ok(Some(report).filter(|report| report.ending != Ending::Interrupted))
    }
}

/// Each run: four of them, start and stop stay under 15 s.
const RUN: Duration = Duration::from_millis(2_500);

/// On loopback nothing takes this long unless something is broken.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
