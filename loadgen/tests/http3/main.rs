//! http3 runs the load generator over HTTP/3: against servers of others (the crate `h3`, aioquic,
//! Caddy), and against servers that write frames by hand, right and wrong ones.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]
#![expect(clippy::print_stdout, reason = "a test says which versions it met, or why it is skipped")]

mod aioquic;
mod caddy;
mod foreign;
mod goaway;
mod peers;
mod server;
mod silent;
mod wrong;

use std::time::Duration;

use quiclane::Target;
use quiclane_loadgen::{Body, HttpRequest, Load, LoadConfig, Protocol, Report, Stop, Workload};

use server::Server;

/// `method` for `path`.
fn request(method: &str, path: &str, body: Body) -> HttpRequest {
    HttpRequest::new(method, "localhost", path, body).unwrap()
}

fn get(path: &str) -> HttpRequest {
    request("GET", path, Body::None)
}

/// So many requests on each of two connections of two workers, two in flight.
fn config(server: &Server, requests: Vec<HttpRequest>, stop: Stop) -> LoadConfig {
    config_for(server.target(quiclane::Resume::Off), requests, stop)
}

fn config_for(target: Target, requests: Vec<HttpRequest>, stop: Stop) -> LoadConfig {
    LoadConfig {
        protocol: Protocol::Http3(requests),
        connections: 2,
        workers: 2,
        streams: 2,
        connect_timeout: Duration::from_secs(5),
        request_timeout: Some(Duration::from_secs(10)),
        ..LoadConfig::new(vec![target], Workload::Http, stop)
    }
}

/// The report of a run, in which the laws hold.
fn run(config: LoadConfig) -> Report {
    let stop = config.stop;
    let report = Load::start(config).unwrap().join().unwrap();
    holds(&report);
    if let Stop::Requests(requests) = stop {
        assert_eq!(report.requests, requests, "{report}");
    }
    report
}

/// Nothing is lost or counted twice.
fn holds(report: &Report) {
    let detail = &report.detail;
    assert!(report.counts.requests.is_balanced(), "{:?}", report.counts.requests);
    assert!(report.counts.handshakes.is_balanced(), "{:?}", report.counts.handshakes);
    let lost: u64 = detail.idle_losses.iter().map(|class| class.count).sum();
    let failed = report.counts.requests.failed + report.counts.handshakes.failed + lost;
    assert_eq!(report.errors.total, failed, "{report}");
}

/// The error classes with their counts.
fn classes(report: &Report) -> Vec<(&str, u64)> {
    report.errors.by_class.iter().map(|(class, count)| (class.as_str(), *count)).collect()
}
