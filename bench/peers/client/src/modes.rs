//! The four kinds of work, each: connect, warm up, first edge, measure, last edge.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use quinn_proto::ConnectionHandle;

use crate::driver::{Driver, Outcome, Traffic};
use crate::perf::{HEADER_BYTES, Request};
use crate::usage::{Gauge, Reading, Usage};

/// What one run measured.
pub(crate) struct Measured {
    /// Bytes (bulk) or operations.
    pub(crate) units: u64,
    pub(crate) usage: Usage,
    pub(crate) traffic: Traffic,
    /// Nanoseconds per operation; bulk runs have only one and carry none.
    pub(crate) latency: Option<Histogram<u64>>,
}

/// A run that is counted by time: `settle` first, then `measure`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Phases {
    pub(crate) settle: Duration,
    pub(crate) measure: Duration,
}

/// Which way the bytes of a bulk run go.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Direction {
    Download,
    Upload,
}

impl Direction {
    fn request(self, bytes: u64) -> Request {
        match self {
            Self::Download => Request { send_bytes: HEADER_BYTES, answer_bytes: bytes },
            Self::Upload => Request { send_bytes: bytes.max(HEADER_BYTES), answer_bytes: 0 },
        }
    }
}

/// One connection, one stream of `warm_up_bytes`, then one of `bytes` that counts: from opening
/// the stream to reading the server's FIN.
pub(crate) fn bulk(
    driver: &mut Driver,
    gauge: &Gauge,
    direction: Direction,
    bytes: u64,
    warm_up_bytes: u64,
) -> Result<Measured> {
    let connection = connect(driver, 1)?[0];
    exchange(driver, connection, direction.request(warm_up_bytes))?;
    let edge = Edge::first(driver, gauge)?;
    exchange(driver, connection, direction.request(bytes))?;
    let measured = edge.last(driver, gauge, bytes)?;
    hang_up(driver, &[connection])?;
    Ok(measured)
}

/// A closed loop of small requests: each answer starts the next request on its connection.
pub(crate) fn requests(
    driver: &mut Driver,
    gauge: &Gauge,
    in_flight: usize,
    connections: usize,
    phases: Phases,
) -> Result<Measured> {
    ensure!(in_flight >= connections, "fewer requests in flight than connections");
    let handles = connect(driver, connections)?;
    for index in 0..in_flight {
        driver.request(handles[index % connections], SMALL)?;
    }
    let measured = closed_loop(driver, gauge, phases, |driver, outcome, done| {
        if let Outcome::Answered(handle, answer) = outcome {
            done(answer.latency);
            driver.request(handle, SMALL)?;
        }
        Ok(())
    })?;
    hang_up(driver, &handles)?;
    Ok(measured)
}

/// A closed loop of connections: connect, one tiny request, close, and the next.
///
/// One connection goes ahead of the loop: what a process does once is over before the settling time
/// starts. With aws-lc the first handshake costs tens of milliseconds of CPU more than the next.
pub(crate) fn handshakes(
    driver: &mut Driver,
    gauge: &Gauge,
    in_flight: usize,
    phases: Phases,
) -> Result<Measured> {
    let first = connect(driver, 1)?[0];
    exchange(driver, first, TINY)?;
    hang_up(driver, &[first])?;
    let mut started: Vec<Option<Instant>> = Vec::new();
    for _ in 0..in_flight {
        begin(driver, &mut started)?;
    }
    closed_loop(driver, gauge, phases, |driver, outcome, done| {
        match outcome {
            Outcome::Connected(handle) => driver.request(handle, TINY)?,
            Outcome::Answered(handle, _) => {
                if let Some(at) = started[handle.0].take() {
                    done(driver.now().saturating_duration_since(at));
                }
                driver.close(handle)?;
                begin(driver, &mut started)?;
            }
        }
        Ok(())
    })
}

fn begin(driver: &mut Driver, started: &mut Vec<Option<Instant>>) -> Result<()> {
    let handle = driver.connect()?;
    if handle.0 >= started.len() {
        started.resize(handle.0 + 1, None);
    }
    started[handle.0] = Some(driver.now());
    Ok(())
}

/// Drives `step` through both phases; what it calls `done` on between the edges counts.
fn closed_loop(
    driver: &mut Driver,
    gauge: &Gauge,
    phases: Phases,
    mut step: impl FnMut(&mut Driver, Outcome, &mut dyn FnMut(Duration)) -> Result<()>,
) -> Result<Measured> {
    let mut outcomes = Vec::new();
    let mut edge: Option<Edge> = None;
    let mut until = driver.now() + phases.settle;
    let mut latency = Histogram::new_with_bounds(1, LATENCY_MAX_NS, LATENCY_DIGITS)?;
    loop {
        driver.flush()?;
        driver.gather(Some(until), &mut outcomes)?;
        if driver.now() >= until {
            if let Some(edge) = edge {
                let units = latency.len();
                ensure!(units > 0, "nothing was finished within {:?}", phases.measure);
                let measured = edge.last(driver, gauge, units)?;
                return Ok(Measured { latency: Some(latency), ..measured });
            }
            edge = Some(Edge::first(driver, gauge)?);
            until = driver.now() + phases.measure;
            latency.reset();
        }
        for outcome in outcomes.drain(..) {
            step(driver, outcome, &mut |took| latency.saturating_record(nanos(took)))?;
        }
    }
}

fn connect(driver: &mut Driver, count: usize) -> Result<Vec<ConnectionHandle>> {
    let handles = (0..count).map(|_| driver.connect()).collect::<Result<Vec<_>>>()?;
    let mut outcomes = Vec::new();
    let mut connected = 0;
    while connected < count {
        driver.flush()?;
        driver.gather(None, &mut outcomes)?;
        let news = outcomes.drain(..);
        connected += news.filter(|news| matches!(news, Outcome::Connected(_))).count();
    }
    Ok(handles)
}

fn exchange(driver: &mut Driver, connection: ConnectionHandle, request: Request) -> Result<()> {
    driver.request(connection, request)?;
    let mut outcomes = Vec::new();
    loop {
        driver.flush()?;
        driver.gather(None, &mut outcomes)?;
        if outcomes.drain(..).any(|news| matches!(news, Outcome::Answered(..))) {
            return Ok(());
        }
    }
}

/// Says goodbye, so that the server need not wait for its idle timer.
fn hang_up(driver: &mut Driver, connections: &[ConnectionHandle]) -> Result<()> {
    for connection in connections {
        driver.close(*connection)?;
    }
    driver.flush()
}

/// The first edge of the measured phase.
struct Edge {
    reading: Reading,
    traffic: Traffic,
}

impl Edge {
    fn first(driver: &Driver, gauge: &Gauge) -> Result<Self> {
        Ok(Self { traffic: driver.traffic(), reading: gauge.read()? })
    }

    fn last(self, driver: &Driver, gauge: &Gauge, units: u64) -> Result<Measured> {
        let usage = self.reading.until(gauge.read()?);
        let (before, after) = (self.traffic, driver.traffic());
        let traffic = Traffic {
            lost_packets: after.lost_packets - before.lost_packets,
            received_messages: after.received_messages - before.received_messages,
            received_datagrams: after.received_datagrams - before.received_datagrams,
            received_bytes: after.received_bytes - before.received_bytes,
        };
        Ok(Measured { units, usage, traffic, latency: None })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// 1 KiB each way, the header included.
const SMALL: Request = Request { send_bytes: 1024, answer_bytes: 1024 };

/// The least that proves a connection works in both directions.
const TINY: Request = Request { send_bytes: HEADER_BYTES, answer_bytes: 1 };

/// More than the driver's patience with a silent server.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// Three digits: 0.1 %, far below the spread between runs.
const LATENCY_DIGITS: u8 = 3;
