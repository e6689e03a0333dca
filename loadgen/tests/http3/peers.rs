//! peers is what every server of others has to complete with us, whatever it is made of.
//!
//! Each has `/bytes/N` with so many bytes and `/echo` with what came; some have `/trailers`, five
//! bytes and trailers, and `/never`, which is not answered.

use std::time::Duration;

use quiclane::Target;
use quiclane_loadgen::{Body, HttpRequest, LoadConfig, Report, Stop};

use crate::{classes, config_for, get, request, run};

/// A server of others.
pub(crate) struct Peer {
    /// With its version.
    pub(crate) name: String,
    pub(crate) target: Target,
}

impl Peer {
    /// GET, HEAD, a body of 10 MB both ways, a hundred requests at once, and a download of so many
    /// bytes.
    pub(crate) fn completes_all(&self, download: u64) {
        let report = self.step("GET", get("/bytes/1000"), 50, 2);
        assert_eq!(report.bytes_down, 50 * 1_000);
        let report = self.step("HEAD", request("HEAD", "/bytes/1000", Body::None), 50, 2);
        assert_eq!(report.bytes_down, 0);
        let body = Body::Zeros(TEN_MB);
        let report = self.step("POST of 10 MB", request("POST", "/echo", body), 2, 1);
        assert_eq!((report.bytes_up, report.bytes_down), (2 * TEN_MB, 2 * TEN_MB));
        let report = self.step("100 at once", get("/bytes/10000"), 500, 100);
        assert_eq!(report.bytes_down, 500 * 10_000);
        let report = self.step("download", get(&format!("/bytes/{download}")), 1, 1);
        assert_eq!(report.bytes_down, download);
    }

    /// Content, then trailers.
    pub(crate) fn sends_trailers(&self) {
        assert_eq!(self.step("trailers", get("/trailers"), 10, 2).bytes_down, 10 * 5);
    }

    /// Requests that are not answered in time are cancelled; the others of the connection, and the
    /// connection itself, know nothing of it.
    pub(crate) fn survives_cancelled_requests(&self) {
        let requests = vec![get("/never"), get("/bytes/1000")];
        let config = LoadConfig {
            request_timeout: Some(Duration::from_millis(500)),
            ..self.config(requests, Stop::Requests(12), 2)
        };
        let report = self.say("cancelled", run(config));
        assert_eq!(classes(&report), [("timeout", 6)], "{report}");
        assert_eq!((report.handshakes, report.reconnects), (1, 0), "{report}");
        assert_eq!(report.bytes_down, 6 * 1_000, "{report}");
    }

    /// So many requests on one connection, all of which succeed.
    fn step(&self, what: &str, request: HttpRequest, requests: u64, streams: u32) -> Report {
        let config = self.config(vec![request], Stop::Requests(requests), streams);
        let report = self.say(what, run(config));
        assert!(report.ok && report.handshakes == 1, "{report}");
        assert_eq!(report.status.as_ref().unwrap()["2xx"], requests, "{report}");
        report
    }

    pub(crate) fn config(
        &self,
        requests: Vec<HttpRequest>,
        stop: Stop,
        streams: u32,
    ) -> LoadConfig {
        LoadConfig {
            connections: 1,
            workers: 1,
            streams,
            request_timeout: Some(REQUEST_TIMEOUT),
            ..config_for(self.target.clone(), requests, stop)
        }
    }

    /// Says how `what` went.
    pub(crate) fn say(&self, what: &str, report: Report) -> Report {
        let (requests, bytes) = (report.counts.requests.ok, report.bytes_down);
        let (name, duration) = (&self.name, report.duration_s);
        println!("{name}: {what}: {requests} answered, {bytes} bytes in {duration:.3} s");
        report
    }
}

const TEN_MB: u64 = 10_000_000;

pub(crate) const GB: u64 = 1_000_000_000;

/// Python takes a minute or two for 1 GB.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
