//! load runs the clients on an engine and gathers what they counted.

use std::fs;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use quiclane::{Config, Engine, Limits, Ring, Transport, clock};

use crate::client::{Client, Job};
use crate::config::{LoadConfig, LoadError, Stop};
use crate::feed::Feed;
use crate::live::{Live, Progress};
use crate::protocol::Protocol;
use crate::report::Report;
use crate::series::Interval;
use crate::tally::Tally;

/// A run under way.
#[derive(Debug)]
pub struct Load {
    engine: Engine,
    job: Arc<Job>,
    results: Receiver<Tally>,
    feed: Option<Feed>,
}

impl Load {
    /// Starts a run.
    ///
    /// # Errors
    /// When `config` asks for something impossible or the engine does not start.
    pub fn start(config: LoadConfig) -> Result<Self, LoadError> {
        let config = config.own_part()?;
        config.check(open_files_max())?;
        let workers = workers(&config);
        let engine = engine_config(&config, workers);
        if let Some(locals) = &config.locals {
            locals.check(config.connections as u64)?;
        }
        let seed = u64::from(clock::unix_time().subsec_nanos());
        let mut job = Job::new(config, workers, seed);
        let feed = job.config.live_intervals.then(|| {
            let (sender, feed) = Feed::new(workers);
            job.feed = Some(sender);
            feed
        });
        let job = Arc::new(job);
        let (sender, results) = mpsc::channel();
        let shared = Arc::clone(&job);
        let engine = Engine::start(engine, move |worker| {
            Client::new(Arc::clone(&shared), worker.id, sender.clone())
        })?;
        Ok(Self { engine, job, results, feed })
    }

    /// Whether `config` can be started, as far as that is known before.
    ///
    /// # Errors
    /// When it asks for something impossible.
    pub fn check(config: &LoadConfig) -> Result<(), LoadError> {
        config.clone().own_part()?.check(open_files_max())
    }

    /// How far it has come.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Live::sum(&self.job.lives)
    }

    /// The intervals that have ended since the last call, in their order, of a run with
    /// [`LoadConfig::live_intervals`]: the first ones of [`Report::intervals`]. The last one ends
    /// with the run.
    pub fn intervals(&mut self) -> Vec<Interval> {
        self.feed.as_mut().map(Feed::take).unwrap_or_default()
    }

    /// Threads that offer load.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.job.workers
    }

    /// When this generator's part of the run is over.
    #[must_use]
    pub fn stop(&self) -> Stop {
        self.job.config.stop
    }

    /// Ends the run early, from any thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.job))
    }

    /// Whether [`join`](Self::join) would return at once.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.engine.is_finished()
    }

    /// Waits for the end and reports.
    ///
    /// # Errors
    /// When a worker could not go on.
    pub fn join(self) -> Result<Report, LoadError> {
        let io = self.engine.plan().io().to_owned();
        self.engine.join()?;
        Ok(report(&self.job, io, &self.results))
    }
}

/// Ends a run early.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<Job>);

impl Stopper {
    /// The workers notice within 50 ms, deliver what they have counted, and stop.
    pub fn stop(&self) {
        self.0.gate.stop();
    }
}

/// What all workers together counted.
pub(crate) fn report(job: &Job, io: String, results: &Receiver<Tally>) -> Report {
    let mut sum = Tally::new();
    for tally in results.try_iter() {
        sum.merge(&tally);
    }
    let started = sum.measured.map_or(job.made.0, |measured| measured.from);
    let report = Report::new(&job.config, job.workers, io, &sum);
    let mut report = Report { started_unix_ms: job.unix_ms(started), ..report };
    if let Some(late) = job.gate.late_by().filter(|late| *late > LATE_NOTE) {
        report.detail.notes.push(format!(
            "load was offered {:.1} s later than asked for: connecting took so long; ask for a \
             later time",
            late.as_secs_f64()
        ));
    }
    report
}

/// Threads for `config`: never more than connections.
pub(crate) fn workers(config: &LoadConfig) -> usize {
    let workers = match (config.workers, config.cores.len()) {
        (0, 0) => thread::available_parallelism().map_or(1, NonZero::get),
        (0, cores) => cores,
        (workers, _) => workers,
    };
    workers.min(config.connections)
}

/// What the engine needs for a load.
pub(crate) fn engine_config(config: &LoadConfig, workers: usize) -> Config {
    let mut cores = config.cores.clone();
    if config.workers == 0 || config.workers == cores.len() {
        // Fewer connections than cores leave the last ones without a worker.
        cores.truncate(workers);
    }
    Config {
        server: None,
        workers,
        cores,
        io: config.io,
        ring: Ring::default(),
        limits: Limits { handshake_deadline: config.connect_timeout, ..Limits::default() },
        transport: Transport {
            streams_bidi: 0,
            streams_uni: match config.protocol {
                // Servers answer on the streams they were asked on and open none.
                Protocol::Perf | Protocol::Hq(_) | Protocol::Echo(_) | Protocol::Raw { .. } => 0,
                Protocol::Http3(_) => HTTP3_STREAMS_UNI,
            },
            ..config.transport.clone()
        },
        seed: None,
    }
}

/// A start that is later than this is worth a note: parts of one run no longer fit together.
const LATE_NOTE: Duration = Duration::from_millis(10);

/// Streams that an HTTP/3 server may open at once: control, two of QPACK (RFC 9114 section 6.2
/// wants at least these), and some of types that mean nothing, as some servers do. No more than
/// `quiclane_http3` takes.
const HTTP3_STREAMS_UNI: u32 = 8;

/// The soft limit on open files; `None` when there is none or the kernel does not tell.
fn open_files_max() -> Option<usize> {
    parse_open_files(&fs::read_to_string("/proc/self/limits").ok()?)
}

fn parse_open_files(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_on_open_files_is_found() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             7823                 7823         processes\n\
                      Max open files            1024                 524288       files\n";
        assert_eq!(parse_open_files(limits), Some(1_024));
        assert_eq!(parse_open_files("Max open files            unlimited  unlimited"), None);
        assert_eq!(parse_open_files(""), None);
    }
}
