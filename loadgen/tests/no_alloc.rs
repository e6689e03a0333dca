//! Under steady load neither the load generator nor the server allocates anything of ours; what
//! quinn-proto allocates is its own business.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

#[path = "../../engine/tests/no_alloc/allocations.rs"]
mod allocations;
#[path = "servers/http3.rs"]
mod http3;

use std::thread;
use std::time::Duration;

use allocations::LOOKS;
use http3::Http3;
use quiclane::App;
use quiclane::apps::{Perf, PerfOptions, Protocols};
use quiclane::{
    ClientTls, Config, Engine, Io, Provider, ServerConfig, ServerTls, Target, Trust, clock,
};
use quiclane_loadgen::{
    Body, H3_ALPN, HttpRequest, Load, LoadConfig, PERF_ALPN, Protocol, Stop, Workload,
};

/// What is asked for, and when it is looked at.
struct Steady {
    workload: Workload,
    /// Of HTTP requests.
    body: u64,
    streams: u32,
    /// Requests until all tables and queues have their size.
    warm_up: u64,
    /// Requests in each look.
    watched: u64,
}

const ALL: &[Steady] = &[
    Steady {
        workload: Workload::Requests { request_size: 100, response_size: 1_000 },
        streams: 10,
        body: 0,
        warm_up: 20_000,
        watched: 2_000,
    },
    Steady {
        workload: Workload::Requests { request_size: 20_000, response_size: 100_000 },
        streams: 4,
        body: 0,
        warm_up: 1_000,
        watched: 100,
    },
    Steady {
        workload: Workload::Download(10_000_000),
        streams: 1,
        body: 0,
        warm_up: 40,
        watched: 8,
    },
    Steady { workload: Workload::Upload(10_000_000), streams: 1, body: 0, warm_up: 40, watched: 8 },
    Steady { workload: Workload::Http, streams: 10, body: 0, warm_up: 20_000, watched: 2_000 },
    Steady { workload: Workload::Http, streams: 4, body: 20_000, warm_up: 2_000, watched: 200 },
];

/// GET without a body, two of them in turn; POST with one.
fn requests(body: u64) -> Vec<HttpRequest> {
    let paths = ["/", "/a/longer/path?with=a%20query"];
    let request = |path| match body {
        0 => HttpRequest::new("GET", "localhost", path, Body::None),
        body => HttpRequest::new("POST", "localhost", path, Body::Zeros(body)),
    };
    paths.map(|path| request(path).unwrap().with("user-agent", "test").unwrap()).into()
}

fn serve(io: Io, alpn: &[u8]) -> (Engine, Target) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = made.signing_key.serialize_der().try_into().unwrap();
    let (certificate, alpn) = (made.cert.der().clone(), vec![alpn.to_vec()]);
    let provider = Provider::AwsLcRs;
    let tls = ServerTls::new(provider, vec![certificate], key, alpn.clone(), false).unwrap();
    let server = ServerConfig::new("127.0.0.1:0".parse().unwrap(), tls);
    let config = Config { server: Some(server), workers: 1, io, ..Config::default() };
    let engine = Engine::start(config, |_| {
        let perf: Box<dyn App> = Box::new(Perf::new(PerfOptions::default()));
        let http3: Box<dyn App> = Box::new(Http3::new(1_000));
        Protocols::new(vec![(PERF_ALPN.to_vec(), perf), (H3_ALPN.to_vec(), http3)])
    })
    .unwrap();
    let tls = ClientTls::new(provider, Trust::Insecure, alpn, quiclane::Resume::Off).unwrap();
    let (address, server_name) = (engine.listen()[0], "localhost".into());
    (engine, Target { address, server_name, tls, local: None })
}

fn wait_for(load: &Load, requests: u64) {
    let began = clock::now();
    while load.progress().requests < requests {
        let waited = clock::now() - began;
        assert!(waited < Duration::from_secs(60), "{:?}", load.progress());
        thread::sleep(Duration::from_millis(1));
    }
}

fn run(steady: &Steady, io: Io) {
    let protocol = match steady.workload {
        Workload::Http => Protocol::Http3(requests(steady.body)),
        _ => Protocol::Perf,
    };
    let (server, target) = serve(io, protocol.alpn());
    let stop = Stop::Duration(Duration::from_secs(120));
    let mut config = LoadConfig::new(vec![target], steady.workload, stop);
    (config.io, config.workers, config.connections) = (io, 1, 4);
    (config.streams, config.protocol) = (steady.streams, protocol);
    // So that some end in each look.
    config.interval = Duration::from_millis(10);
    let load = Load::start(config).unwrap();
    wait_for(&load, steady.warm_up);
    for look in 0..LOOKS {
        allocations::begin(look);
        // Of what has come by now: this thread may be late.
        wait_for(&load, load.progress().requests + steady.watched);
    }
    allocations::begin(LOOKS);
    load.stopper().stop();
    let report = load.join().unwrap();
    assert_eq!(report.errors.total, 0, "{report}");
    server.stop(Duration::ZERO);
    server.join().unwrap();
    allocations::none_of_ours(&format!("{:?}, {io:?}", steady.workload));
}

#[test]
fn steady_load_allocates_nothing_of_ours() {
    allocations::look_away();
    for io in [Io::Epoll, Io::Uring] {
        for steady in ALL {
            run(steady, io);
        }
    }
}
