//! simulation runs whole loads under virtual time, where a rate can be told to the request.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failed test")]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use quiclane::apps::Echo;
use quiclane::sim::{Delivery, Faults, Simulation};
use quiclane::{
    App, ClientTls, CloseReason, Config, Conn, ConnId, Lane, Provider, Read, Resume, ServerConfig,
    ServerTls, StreamId, Target, Trust,
};
use quiclane_loadgen::{
    Arrivals, Body, ECHO_ALPN, Ending, Interval, LoadConfig, OpenInterval, PERF_ALPN, Pace,
    Protocol, Rate, Replay, Report, Simulated, Stage, Stop, Workload,
};
use rustls::pki_types::PrivatePkcs8KeyDer;

/// A server of small `perf` responses, which answers nothing in `stall` (since the first request)
/// and everything at its end.
struct Moody {
    stall: Option<(Duration, Duration)>,
    began: Option<Instant>,
    waiting: Vec<(ConnId, StreamId, usize)>,
}

impl Moody {
    fn stalls_until(&self, now: Instant) -> Option<Instant> {
        let (wait, length) = self.stall?;
        let from = self.began? + wait;
        (from..from + length).contains(&now).then_some(from + length)
    }

    fn respond(conn: &mut Conn<'_>, stream: StreamId, size: usize) {
        let _ = conn.write(stream, &mut vec![0; size].into());
        let _ = conn.finish(stream);
    }
}

impl App for Moody {
    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let mut request = Vec::new();
        let read = conn.read(stream, usize::MAX, |chunk| request.extend_from_slice(&chunk));
        // The client may have closed meanwhile; small requests come at once.
        let Ok(Read::Finished) = read else { return };
        let now = conn.now();
        self.began.get_or_insert(now);
        let size = u64::from_be_bytes(request[..8].try_into().unwrap());
        let size = usize::try_from(size).unwrap();
        if self.stalls_until(now).is_some() {
            self.waiting.push((conn.id(), stream, size));
        } else {
            Self::respond(conn, stream, size);
        }
    }

    fn turn(&mut self, lane: &mut Lane<'_>) {
        if let Some(end) = self.stalls_until(lane.now()) {
            return lane.wake_at(end);
        }
        for (id, stream, size) in self.waiting.drain(..) {
            if let Some(mut conn) = lane.conn(id) {
                Self::respond(&mut conn, stream, size);
            }
        }
    }

    fn closed(&mut self, _id: ConnId, _reason: &CloseReason) {}
}

fn target() -> Target {
    let tls = ClientTls::new(Provider::default(), Trust::Insecure, Vec::new(), Resume::Off);
    let address = SocketAddr::from(([10, 0, 0, 1], 443));
    Target { address, server_name: "localhost".into(), tls: tls.unwrap(), local: None }
}

/// Runs a load of two workers against one worker, so near that a backlog is gone in no time.
fn run(stall: Option<(Duration, Duration)>, pace: Pace, streams: u32, stop: Stop) -> Report {
    run_with(stall, pace, stop, |config| LoadConfig { streams, ..config })
}

/// The same with a configuration that is changed once more.
fn run_with(
    stall: Option<(Duration, Duration)>,
    pace: Pace,
    stop: Stop,
    change: impl FnOnce(LoadConfig) -> LoadConfig,
) -> Report {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let (provider, alpn) = (Provider::default(), || vec![PERF_ALPN.to_vec()]);
    let served = vec![made.cert.der().clone()];
    let server = ServerTls::new(provider, served, key.into(), alpn(), false).unwrap();
    let tls = ClientTls::new(provider, Trust::Insecure, alpn(), Resume::Off).unwrap();
    let address = SocketAddr::from(([10, 0, 0, 1], 443));
    let delay = Duration::from_micros(10);
    let mut sim = Simulation::new(1, Faults { delay, ..Faults::default() });
    let server = ServerConfig::new(address, server);
    let server = Config { server: Some(server), workers: 1, ..Config::default() };
    let moody = |_| Moody { stall, began: None, waiting: Vec::new() };
    sim.server(&server, Delivery::Hash, moody).unwrap();

    let target = Target { address, server_name: "localhost".into(), tls, local: None };
    let workload = Workload::Requests { request_size: 100, response_size: 1_000 };
    let config = LoadConfig {
        connections: 4,
        pace: Some(pace),
        ..LoadConfig::new(vec![target], workload, stop)
    };
    let config = change(config);
    let host = IpAddr::from([10, 0, 0, 2]);
    let load = Simulated::new(&mut sim, host, config, 2, 7).unwrap();
    let group = load.group();
    assert!(sim.run(Duration::from_secs(600), |sim| sim.is_finished(group)).unwrap());
    let report = load.report();
    assert!(report.counts.requests.is_balanced(), "{report}");
    report
}

fn even(per_s: f64) -> Pace {
    Pace { rate: Rate::constant(per_s).unwrap(), arrivals: Arrivals::Constant }
}

fn seconds(seconds: u64) -> Stop {
    Stop::Duration(Duration::from_secs(seconds))
}

/// The delays of those that were due in the stall fall evenly from its length to 0. They are 2,000
/// of 20,000, so one in 100 of all waited for 1.8 s or longer, and one in 200 for 1.9 s.
#[test]
fn a_stall_of_the_server_is_in_the_latencies_of_all_who_met_it() {
    let stall = Some((Duration::from_secs(6), Duration::from_secs(2)));
    for streams in [1, 100] {
        let report = run(stall, even(1_000.0), streams, seconds(20));
        let at = |quantile| {
            report.histograms.latency.histogram().value_at_quantile(quantile) as f64 / 1e9
        };
        for (quantile, expected) in [(0.99, 1.8), (0.995, 1.9)] {
            let found = at(quantile);
            assert!((found / expected - 1.0).abs() < 0.005, "{quantile}: {found} s\n{report}");
        }
        let schedule = report.schedule.unwrap();
        assert_eq!((schedule.due, schedule.not_sent), (20_000, 0), "{report}");
        assert!(schedule.lag_us.max < 1_000, "{report}");
        if streams == 1 {
            // One in flight on each connection: four met it, and the others were not sent.
            assert!(report.service_us.p999 < 20_000, "what a closed loop would say\n{report}");
        }
    }
}

/// Who was due in the last moments is seen to the end, and nobody is asked afterwards.
#[test]
fn a_run_that_lingers_cuts_off_nobody_whom_the_server_answers_in_time() {
    let stall = Some((Duration::from_millis(1_100), Duration::from_millis(1_800)));
    let lingers = |linger_ms| {
        let linger = Duration::from_millis(linger_ms);
        run_with(stall, even(100.0), seconds(2), |config| LoadConfig { linger, ..config })
    };
    let report = lingers(1_000);
    assert_eq!(report.schedule.unwrap().due, 200, "{report}");
    assert_eq!((report.counts.requests.ok, report.errors.total), (200, 0), "{report}");
    assert!((1_790_000..1_810_000).contains(&report.latency_us.max), "{report}");
    assert!((1.99..2.01).contains(&report.duration_s), "{report}");
    for linger_ms in [0, 500] {
        let report = lingers(linger_ms);
        assert_eq!(report.schedule.unwrap().due, 200, "{report}");
        assert!((100..120).contains(&report.counts.requests.ok), "{report}");
    }
}

#[test]
fn a_rate_is_kept_to_the_request() {
    for (per_s, due) in [(1_000.0, 5_000), (0.5, 3), (333.3, 1_667)] {
        let report = run(None, even(per_s), 100, seconds(5));
        let schedule = report.schedule.unwrap();
        assert_eq!((schedule.due, schedule.not_sent), (due, 0), "{report}");
        assert_eq!(report.latency_us, report.service_us, "{report}");
        assert_eq!(schedule.lag_us.max, 0, "{report}");
    }
}

#[test]
fn stages_are_kept_to_the_request_behind_a_warm_up() {
    let stages = vec![Stage::new(2, 0.0, 500.0), Stage::new(2, 500.0, 500.0)];
    let rate = Rate::staged(stages).unwrap();
    let stop = Stop::Duration(rate.length().unwrap());
    let report = run(None, Pace { rate, arrivals: Arrivals::Constant }, 100, stop);
    assert_eq!(report.schedule.unwrap().due, 1_500, "{report}");
    assert!(report.ok, "{report}");
}

#[test]
fn random_arrivals_have_the_rate_on_average() {
    let pace = Pace { arrivals: Arrivals::Poisson, ..even(500.0) };
    let due = run(None, pace, 100, seconds(20)).schedule.unwrap().due as f64;
    // Four standard deviations.
    assert!((due - 10_000.0).abs() < 400.0, "{due}");
}

#[test]
fn what_waits_when_the_warm_up_ends_is_dropped_with_it() {
    let stall = Some((Duration::ZERO, Duration::from_millis(2_500)));
    let warm_up = Duration::from_secs(2);
    let report =
        run_with(stall, even(100.0), seconds(1), |config| LoadConfig { warm_up, ..config });
    let schedule = report.schedule.unwrap();
    assert_eq!((schedule.due, schedule.not_sent), (100, 0), "{report}");
    // Due in the measured part, and answered at the end of the stall; but for the four that were in
    // flight, which count where they end.
    assert!((400_000..=500_000).contains(&report.latency_us.p90), "{report}");
}

#[test]
fn a_rate_lower_than_any_patience_is_no_reason_to_give_up() {
    let silence = Some((Duration::ZERO, Duration::from_secs(100)));
    let change = |config| LoadConfig {
        connect_timeout: Duration::from_secs(1),
        request_timeout: Some(Duration::from_millis(100)),
        ..config
    };
    let report = run_with(silence, even(0.2), Stop::Requests(6), change);
    assert_eq!(report.ending, Ending::Complete, "{report}");
    assert_eq!(report.errors.by_class["timeout"], 6, "{report}");
}

#[test]
fn who_meets_the_end_in_line_has_not_failed() {
    // Nobody is answered for the last 300 ms: shorter than what counts as stalled.
    let stall = Some((Duration::from_millis(1_700), Duration::from_secs(9)));
    let report = run(stall, even(1_000.0), 1, seconds(2));
    assert!(report.ok, "{report}");
    let schedule = report.schedule.unwrap();
    assert_eq!(schedule.due, 2_000, "{report}");
    assert!((290..=300).contains(&schedule.not_sent), "{report}");
    assert_eq!(report.errors.total, 0, "{report}");
    let notes = &report.detail.notes;
    assert!(notes.iter().any(|note| note.contains("none of the times")), "{notes:?}");
}

#[test]
fn waiting_for_a_connection_is_not_the_lag_of_the_generator() {
    // Shorter than the longest time between two turns: nothing is looked at meanwhile.
    let stall = Some((Duration::from_secs(1), Duration::from_millis(20)));
    let report = run(stall, even(1_000.0), 1, seconds(2));
    assert!(report.ok, "{report}");
    assert!(report.latency_us.max > 10_000, "{report}");
    assert!(report.schedule.unwrap().lag_us.max < 1_000, "{report}");
}

#[test]
fn a_stall_is_in_the_intervals_in_which_it_happened() {
    let stall = Some((Duration::from_secs(2), Duration::from_secs(2)));
    let interval = Duration::from_millis(500);
    let report =
        run_with(stall, even(1_000.0), seconds(6), |config| LoadConfig { interval, ..config });
    assert_eq!((report.intervals.len(), report.interval_s), (12, 0.5), "{report}");
    let open = || report.intervals.iter().map(|of| of.open.unwrap());
    // Whatever the server does, so many are due; what waits is sent at the end of the stall.
    assert!(open().all(|open| open.due == 500), "{:?}", report.intervals);
    let of = |first: usize, last: usize| &report.intervals[first..=last];
    assert!(of(0, 3).iter().all(|of| (499..=501).contains(&of.ok)), "{:?}", of(0, 3));
    assert_eq!(of(5, 7).iter().map(|of| of.ok).sum::<u64>(), 0, "{:?}", of(5, 7));
    assert!(of(5, 7).iter().all(|of| of.length_s == 0.5 && of.latency.is_empty()));
    assert!((2_498..=2_502).contains(&of(8, 8)[0].ok), "{:?}", of(8, 8));
    assert!((0..).zip(&report.intervals).all(|(at, of)| of.start_s == f64::from(at) * 0.5));
    // Nothing is lost or counted twice.
    let sum = |what: fn(&Interval) -> u64| report.intervals.iter().map(what).sum::<u64>();
    assert_eq!(sum(|of| of.ok), report.counts.requests.ok, "{report}");
    assert_eq!(sum(|of| of.bytes_down), report.bytes_down);
    assert_eq!(sum(|of| of.bytes_up), report.bytes_up);
    let schedule = report.schedule.unwrap();
    let total = |what: fn(OpenInterval) -> u64| open().map(what).sum::<u64>();
    assert_eq!(total(|open| open.due), schedule.due, "{report}");
    assert_eq!(total(|open| open.sent), schedule.sent, "{report}");
    let mut latency = report.histograms.latency.histogram();
    for interval in &report.intervals {
        latency.subtract(interval.latency.histogram()).unwrap();
    }
    assert_eq!(latency.len(), 0, "the histograms are those of the run");
}

#[test]
fn the_last_interval_of_a_run_by_number_is_as_long_as_it_was() {
    let report = run(None, even(1_000.0), 100, Stop::Requests(1_300));
    let [_, last] = &report.intervals[..] else { panic!("{:?}", report.intervals) };
    assert!((0.299..0.301).contains(&last.length_s), "{last:?}");
    let due: u64 = report.intervals.iter().map(|of| of.open.unwrap().due).sum();
    assert_eq!((due, last.ok), (1_300, 300), "{report}");
}

#[test]
fn intervals_that_nobody_could_keep_are_refused_with_the_remedy() {
    let refused = |ms: u64, seconds: u64, words: &[&str]| {
        let interval = Duration::from_millis(ms);
        let stop = Stop::Duration(Duration::from_secs(seconds));
        let mut sim = Simulation::new(1, Faults::default());
        let workload = Workload::Download(1);
        let config = LoadConfig { interval, ..LoadConfig::new(vec![target()], workload, stop) };
        let host = IpAddr::from([10, 0, 0, 2]);
        let error = Simulated::new(&mut sim, host, config, 1, 7).unwrap_err().to_string();
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
    };
    refused(9, 1, &["9ms", "at least 10ms"]);
    refused(10, 1_001, &["100100 intervals", "--interval 11ms"]);
}

fn handshakes(connections: usize, per_s: f64, stop: Stop) -> Report {
    let change = |config| LoadConfig {
        connections,
        workload: Workload::Handshakes,
        pace: None,
        connect_pace: Some(even(per_s)),
        interval: Duration::from_millis(10),
        ..config
    };
    run_with(None, even(1.0), stop, change)
}

#[test]
fn a_rate_of_handshakes_is_kept_to_the_handshake() {
    let report = handshakes(20, 100.0, seconds(2));
    let schedule = report.schedule.unwrap();
    assert_eq!((schedule.due, schedule.not_sent, report.handshakes), (200, 0, 200), "{report}");
    assert_eq!((schedule.lag_us.max, report.latency_us), (0, report.service_us), "{report}");
    assert!(report.ok && report.requests == 0, "{report}");
    assert!(report.to_string().contains("handshakes, up to 20 in flight"), "{report}");
}

#[test]
fn the_intervals_of_handshakes_count_from_when_they_were_due() {
    let report = handshakes(2, 200_000.0, Stop::Duration(Duration::from_millis(20)));
    let (mut latency, mut service) =
        (report.histograms.latency.histogram(), report.histograms.service.histogram());
    let schedule = report.schedule.unwrap();
    assert!(latency.max() > 100 * service.max(), "{report}");
    let (mut ok, mut due, mut sent) = (0, 0, 0);
    assert_eq!(report.intervals.len(), 2, "{report}");
    for interval in &report.intervals {
        latency.subtract(interval.latency.histogram()).unwrap();
        service.subtract(interval.service.as_ref().unwrap().histogram()).unwrap();
        let open = interval.open.unwrap();
        (ok, due, sent) = (ok + interval.ok, due + open.due, sent + open.sent);
    }
    assert_eq!((latency.len(), service.len()), (0, 0), "the histograms are those of the run");
    assert_eq!((ok, due, sent), (report.handshakes, schedule.due, schedule.sent), "{report}");
}

#[test]
fn handshakes_that_wait_for_their_turn_are_late_and_those_that_never_come_are_counted() {
    // Each worker has one under way, and each takes 20 us: half of what is asked for.
    let report = handshakes(2, 200_000.0, Stop::Duration(Duration::from_millis(20)));
    let schedule = report.schedule.unwrap();
    assert_eq!(schedule.due, 4_000, "{report}");
    assert!((1_900..=2_010).contains(&schedule.sent), "{report}");
    assert_eq!(schedule.sent + schedule.not_sent, schedule.due, "{report}");
    assert!(report.latency_us.p50 > 100 * report.service_us.p50, "{report}");
    let counted = report.counts.handshakes;
    assert!(counted.is_balanced(), "{counted:?}");
    assert!(report.detail.notes.iter().any(|note| note.contains("allow more with -c")), "{report}");
}

#[test]
fn connections_open_no_faster_than_asked_for() {
    let change = |config| LoadConfig {
        connections: 21,
        pace: None,
        connect_pace: Some(even(10.0)),
        ..config
    };
    let report = run_with(None, even(1.0), Stop::Requests(50), change);
    assert!(report.ok && report.schedule.is_none(), "{report}");
    assert_eq!((report.handshakes, report.requests), (21, 50), "{report}");
    let opening = report.connecting_s;
    assert!((2.0..2.01).contains(&opening), "{opening}\n{report}");
}

#[test]
fn connections_are_replaced_no_faster_than_they_are_opened() {
    let change = |config| LoadConfig {
        connections: 2,
        requests_per_connection: std::num::NonZero::new(1),
        pace: None,
        connect_pace: Some(even(20.0)),
        ..config
    };
    let report = run_with(None, even(1.0), seconds(3), change);
    // One request on each, and the schedule of openings is not made up for by a burst.
    assert!(report.ok, "{report}");
    assert!((58..=62).contains(&report.requests), "{report}");
}

#[test]
fn recorded_times_are_kept_to_the_request() {
    let times = [0, 0, 3, 500, 500, 500, 501, 2_000];
    let times = || times.into_iter().map(|ms| (Duration::from_millis(ms), 0));
    let (stall, answered) = ((Duration::from_millis(490), Duration::from_millis(100)), 590.0);
    let change = |config| LoadConfig {
        pace: None,
        replay: Some(Replay::new(times()).unwrap()),
        streams: 100,
        ..config
    };
    let report = run_with(Some(stall), even(1.0), Stop::Requests(8), change);
    let schedule = report.schedule.unwrap();
    assert_eq!((schedule.due, schedule.not_sent, report.requests), (8, 0, 8), "{report}");
    assert!(report.ok && schedule.lag_us.max == 0, "{report}");
    assert!((2.0..2.01).contains(&report.duration_s), "{report}");
    // Three that were due at 500 ms, and were answered at the end of the stall.
    let longest = report.latency_us.max as f64 / 1e3;
    assert!((longest - (answered - 500.0)).abs() < 1.0, "{longest}");
    assert!((89_000..91_000).contains(&report.latency_us.p90), "{report}");
    let open: Vec<_> = report.intervals.iter().map(|of| of.open.unwrap()).collect();
    let due: Vec<_> = open.iter().map(|open| (open.due, open.sent)).collect();
    assert_eq!(due[..2], [(7, 7), (0, 0)], "{report}");
    assert_eq!(due.iter().fold((0, 0), |(a, b), (c, d)| (a + c, b + d)), (8, 8), "{report}");
}

#[test]
fn a_recording_that_is_cut_off_counts_what_was_not_sent() {
    let times = (0..1_000).map(|ms| (Duration::from_millis(ms), 0));
    let change =
        |config| LoadConfig { pace: None, replay: Some(Replay::new(times).unwrap()), ..config };
    let silence = Some((Duration::from_millis(400), Duration::from_secs(9)));
    let stop = Stop::Duration(Duration::from_millis(800));
    let report = run_with(silence, even(1.0), stop, change);
    let schedule = report.schedule.unwrap();
    assert_eq!(schedule.due, 800, "{report}");
    assert!((395..=400).contains(&schedule.not_sent), "{report}");
}

#[test]
fn connections_move_to_other_sockets_and_lose_nothing() {
    let change = |config| LoadConfig {
        migrate_every: Some(Duration::from_secs(1)),
        request_timeout: Some(Duration::from_millis(100)),
        ..config
    };
    // The sockets that they left are closed after a second: what came there would be missed.
    let report = run_with(None, even(200.0), seconds(5), change);
    assert!(report.ok, "{report}");
    assert_eq!((report.handshakes, report.schedule.unwrap().due), (4, 1_000), "{report}");
    let migrations = report.migrations.unwrap();
    assert!((19..=20).contains(&migrations), "{report}");
    assert!(report.latency_us.max < 1_000, "{report}");
}

#[test]
fn quic_counts_what_it_went_through() {
    let report = run(None, even(500.0), 100, seconds(2));
    let quic = report.quic;
    assert_eq!((quic.connections, quic.lost_packets, quic.congestion_events), (4, 0, 0));
    // Ten microseconds each way, and no stream was waited for.
    assert!((20..=2_000).contains(&quic.rtt_us.p50), "{quic:?}");
    assert!(quic.sent_packets > 1_000 && report.stream_limit.is_none(), "{report}");
}

/// One way in ten loses a datagram, so that 81 of 100 come back.
#[test]
fn datagrams_that_are_lost_are_counted_to_the_last() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let (provider, alpn) = (Provider::default(), || vec![ECHO_ALPN.to_vec()]);
    let served = vec![made.cert.der().clone()];
    let server = ServerTls::new(provider, served, key.into(), alpn(), false).unwrap();
    let tls = ClientTls::new(provider, Trust::Insecure, alpn(), Resume::Off).unwrap();
    let address = SocketAddr::from(([10, 0, 0, 1], 443));
    let delay = Duration::from_millis(5);
    let mut sim = Simulation::new(1, Faults { delay, loss: 100, ..Faults::default() });
    let server = ServerConfig::new(address, server);
    let server = Config { server: Some(server), workers: 1, ..Config::default() };
    sim.server(&server, Delivery::Hash, |_| Echo::new()).unwrap();
    let target = Target { address, server_name: "localhost".into(), tls, local: None };
    let config = LoadConfig {
        protocol: Protocol::Echo(Body::None),
        connections: 4,
        pace: Some(even(500.0)),
        warm_up: Duration::from_secs(1),
        ..LoadConfig::new(vec![target], Workload::Datagrams { size: 100 }, seconds(10))
    };
    let load = Simulated::new(&mut sim, IpAddr::from([10, 0, 0, 2]), config, 2, 7).unwrap();
    let group = load.group();
    assert!(sim.run(Duration::from_secs(600), |sim| sim.is_finished(group)).unwrap());
    let report = load.report();
    let datagrams = report.datagrams.unwrap();
    assert_eq!(report.schedule.unwrap().due, 5_000, "{report}");
    assert_eq!(datagrams.sent, datagrams.received + datagrams.lost, "{report}");
    assert_eq!(datagrams.sent + datagrams.dropped, 5_000, "{report}");
    assert!((0.15..0.23).contains(&datagrams.loss), "{report}");
    assert!((9_900..11_000).contains(&datagrams.delay_us.p50), "{report}");
    assert!((report.duration_s - 10.0).abs() < 1e-6, "the wait for the last ones is left out");
}
