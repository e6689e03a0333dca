//! plan makes every choice once: what was asked for, what this host can do, and why they differ.

use quiclane_datapath::Uring;

use crate::config::{Config, Io};
use crate::error::{ConfigError, StartError};
use crate::placement;

/// What an engine runs with.
#[derive(Clone, Debug)]
pub struct Plan {
    workers: usize,
    cores: Vec<Option<usize>>,
    backend: Backend,
    steering: &'static str,
    epoch: u64,
    notes: Vec<String>,
}

/// A datapath; never "auto".
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Backend {
    Uring,
    Epoll,
}

impl Plan {
    /// Decides about threads and I/O. Steering and epoch follow when the sockets are bound.
    pub(crate) fn resolve(config: &Config) -> Result<Self, StartError> {
        let allowed = placement::allowed();
        let workers = match config.workers {
            0 if config.cores.is_empty() => allowed.len().clamp(1, WORKERS_MAX),
            0 => config.cores.len(),
            workers => workers,
        };
        if workers > WORKERS_MAX {
            return Err(ConfigError::TooManyWorkers(workers).into());
        }
        let cores = placement::place(workers, &config.cores, &allowed)?;
        let mut notes = Vec::new();
        if cores.iter().any(Option::is_none) {
            notes.push(format!(
                "cores: {workers} workers on {} cores, so none is pinned",
                allowed.len()
            ));
        }
        let backend = match config.io {
            Io::Epoll => Backend::Epoll,
            Io::Uring => {
                Uring::probe()?;
                Backend::Uring
            }
            Io::Auto => match Uring::probe() {
                Ok(()) => Backend::Uring,
                Err(error) => {
                    notes.push(format!("io_uring: {error}; using epoll"));
                    Backend::Epoll
                }
            },
        };
        Ok(Self { workers, cores, backend, steering: "none", epoch: 0, notes })
    }

    pub(crate) fn steered(&mut self, rung: &'static str, note: Option<String>, epoch: u64) {
        self.steering = rung;
        self.epoch = epoch;
        self.notes.extend(note);
    }

    pub(crate) fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    pub(crate) fn backend(&self) -> Backend {
        self.backend
    }

    /// Number of workers.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The core of each worker; `None` where it is not pinned.
    #[must_use]
    pub fn cores(&self) -> &[Option<usize>] {
        &self.cores
    }

    /// The datapath: `io_uring` or `epoll`.
    #[must_use]
    pub fn io(&self) -> &'static str {
        match self.backend {
            Backend::Uring => "io_uring",
            Backend::Epoll => "epoll",
        }
    }

    /// The rung of the steering ladder, `none` for a client.
    #[must_use]
    pub fn steering(&self) -> &'static str {
        self.steering
    }

    /// This start's epoch, 0 for a client.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// One line for each rung that was stepped down, and why.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// One byte of the connection ID names the worker; 255 stays free.
const WORKERS_MAX: usize = 255;
