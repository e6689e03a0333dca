//! open_loop sends requests when they are due, to servers that do not always keep up.

use std::time::Duration;

use quiclane_loadgen::{
    Arrivals, Ending, Load, LoadConfig, LoadError, Pace, Rate, Report, Stop, Workload,
};

use crate::own::Server;
use crate::servers::{Fault, start};

const SMALL: Workload = Workload::Requests { request_size: 100, response_size: 1_000 };

fn config(server: &Server, rate: Rate, stop: Stop) -> LoadConfig {
    LoadConfig {
        connections: 4,
        streams: 100,
        workers: 2,
        pace: Some(Pace { rate, arrivals: Arrivals::Constant }),
        ..LoadConfig::new(vec![server.target()], SMALL, stop)
    }
}

fn run(config: LoadConfig) -> Report {
    let report = Load::start(config).unwrap().join().unwrap();
    assert!(report.counts.requests.is_balanced(), "{:?}", report.counts.requests);
    let by_class: u64 = report.errors.by_class.values().sum();
    assert_eq!(by_class, report.errors.total);
    report
}

fn seconds(seconds: u64) -> Stop {
    Stop::Duration(Duration::from_secs(seconds))
}

fn rate(per_s: f64) -> Rate {
    Rate::constant(per_s).unwrap()
}

#[test]
fn the_rate_is_kept_and_every_request_is_accounted_for() {
    let server = start(Fault::None);
    let report = run(config(&server, rate(500.0), seconds(4)));
    assert!(report.ok, "{report}");
    let schedule = report.schedule.unwrap();
    assert_eq!(schedule.due, 2_000, "{report}");
    assert_eq!(schedule.sent + schedule.not_sent, schedule.due);
    // Those of the last moment may have met the end on their way out.
    assert!(schedule.sent >= 1_990, "{report}");
    assert_eq!(report.requests + report.counts.requests.cancelled, schedule.due);
    assert_eq!(report.errors.total, 0);
    assert!(report.latency_us.p50 >= report.service_us.p50, "{report}");
}

#[test]
fn what_never_left_is_counted() {
    let server = start(Fault::Silence);
    let report = run(LoadConfig { streams: 3, ..config(&server, rate(1_000.0), seconds(2)) });
    assert!(!report.ok);
    let schedule = report.schedule.unwrap();
    assert_eq!(schedule.sent, 12, "{report}");
    assert_eq!((schedule.not_sent, schedule.due), (1_988, 2_000), "{report}");
    // Those of the last second may have been cut off by the end alone.
    assert_eq!(report.errors.by_class["not_sent"], 988, "{report}");
    assert!(report.detail.notes.iter().any(|note| note.contains("no connection had room")));
}

#[test]
fn a_run_by_number_sends_that_many() {
    let server = start(Fault::None);
    let poisson = Pace { rate: rate(1_000.0), arrivals: Arrivals::Poisson };
    let report =
        run(LoadConfig { pace: Some(poisson), ..config(&server, rate(1.0), Stop::Requests(700)) });
    assert!(report.ok, "{report}");
    assert_eq!((report.requests, report.schedule.unwrap().sent), (700, 700));
    assert!((0.5..1.2).contains(&report.duration_s), "{report}");
}

#[test]
fn what_makes_no_requests_has_no_rate() {
    let server = start(Fault::None);
    for workload in [Workload::Handshakes, Workload::Idle] {
        let config = LoadConfig { workload, ..config(&server, rate(1.0), seconds(1)) };
        let error = Load::start(config).unwrap_err();
        assert!(matches!(error, LoadError::PaceNeedsRequests), "{error}");
    }
}

/// What was to be sent later is not due, and nothing is said of it.
#[test]
fn an_interruption_holds_nothing_against_anybody() {
    let server = start(Fault::None);
    for per_s in [40.0, 1_000.0] {
        let load = Load::start(config(&server, rate(per_s), seconds(60))).unwrap();
        while load.progress().requests < 20 {
            std::thread::sleep(Duration::from_millis(5));
        }
        load.stopper().stop();
        let report = load.join().unwrap();
        assert_eq!(report.ending, Ending::Interrupted);
        assert!(report.counts.requests.is_balanced(), "{report}");
        let schedule = report.schedule.unwrap();
        assert_eq!((schedule.not_sent, schedule.due), (0, schedule.sent), "{report}");
        let due: u64 = report.intervals.iter().map(|of| of.open.unwrap().due).sum();
        assert_eq!(due, schedule.due, "{report}");
        let notes = &report.detail.notes;
        assert!(!notes.iter().any(|note| note.contains("not sent")), "{notes:?}");
    }
}
