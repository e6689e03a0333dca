//! simulated runs a load in the engine's simulation, under virtual time.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use quiclane::WorkerInfo;
use quiclane::sim::{GroupId, Simulation};

use crate::client::{Client, Job};
use crate::config::{LoadConfig, LoadError};
use crate::load::{engine_config, report};
use crate::report::Report;
use crate::tally::Tally;

/// A load on a simulated host.
#[derive(Debug)]
pub struct Simulated {
    job: Arc<Job>,
    group: GroupId,
    results: Receiver<Tally>,
}

impl Simulated {
    /// Adds a load of `workers` to a simulation, on a host of its own with the address `ip`. It is
    /// over when [`group`](Self::group) is finished. Random arrivals are those of `seed`.
    ///
    /// # Errors
    /// When `config` asks for something impossible, or for no worker.
    pub fn new(
        sim: &mut Simulation,
        ip: IpAddr,
        config: LoadConfig,
        workers: usize,
        seed: u64,
    ) -> Result<Self, LoadError> {
        let config = config.own_part()?;
        config.check(None)?;
        let workers = workers.clamp(1, config.connections);
        let engine = engine_config(&config, workers);
        let job = Arc::new(Job::new(config, workers, seed));
        let (sender, results) = mpsc::channel();
        let client = |worker: WorkerInfo| Client::new(Arc::clone(&job), worker.id, sender.clone());
        let group = sim.client(&engine, ip, client)?;
        Ok(Self { job, group, results })
    }

    /// Its name in the simulation.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// What it measured, in virtual time.
    #[must_use]
    pub fn report(self) -> Report {
        report(&self.job, "simulation".into(), &self.results)
    }
}
