//! abuse starts one kind of abuse, and brings home what it counted.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};

use quiclane::{Engine, Target};

use super::abuser::{Abuser, Task};
use super::report::AbuseReport;
use super::sender::Sender;
use super::switch::Switch;
use super::{DefenceConfig, DefenceError, Kind};
use crate::config::{LoadConfig, LoadError};
use crate::load::{engine_config, workers};
use crate::schedule::Rate;

/// Abuse under way.
pub(super) enum Abuse {
    /// On connections, by apps on workers.
    Connections { engine: Box<Engine>, results: Receiver<AbuseReport> },
    /// With datagrams, by a thread.
    Datagrams(JoinHandle<AbuseReport>),
}

impl Abuse {
    /// Starts it; it ends when `switch` says so.
    pub(super) fn start(
        config: &DefenceConfig,
        target: &Target,
        switch: &Arc<Switch>,
    ) -> Result<Self, DefenceError> {
        let rate =
            Rate::constant(config.rate as f64).map_err(|_| DefenceError::Rate(config.rate))?;
        if config.kind.is_datagrams() {
            let (sender, initials) = Sender::new(config.kind, &rate, target)?;
            let switch = Arc::clone(switch);
            return thread::Builder::new()
                .name("quiclane-abuse".into())
                .spawn(move || sender.run(initials, &switch))
                .map(Self::Datagrams)
                .map_err(DefenceError::Thread);
        }
        let (abuse, switch) = (prepared(config), Arc::clone(switch));
        let engine = engine_config(&abuse, workers(&abuse));
        let (sender, results) = mpsc::channel();
        let task = Arc::new(Task { config: abuse, kind: config.kind, rate, switch });
        let make = move |worker| Abuser::new(Arc::clone(&task), worker, sender.clone());
        let engine = Box::new(Engine::start(engine, make).map_err(LoadError::from)?);
        Ok(Self::Connections { engine, results })
    }

    /// Waits for its end. The switch has been closed.
    pub(super) fn join(self) -> Result<AbuseReport, DefenceError> {
        match self {
            Self::Datagrams(thread) => thread.join().map_err(|_| DefenceError::Panicked),
            Self::Connections { engine, results } => {
                engine.join().map_err(LoadError::from)?;
                let mut sum = AbuseReport::default();
                results.try_iter().for_each(|report| sum.add(report));
                Ok(sum)
            }
        }
    }
}

/// The connections of the abuse, as the kind wants them.
fn prepared(config: &DefenceConfig) -> LoadConfig {
    let mut abuse = config.abuse.clone();
    if config.kind == Kind::SlowReader {
        abuse.transport.stream_receive_window = SLOW_WINDOW_BYTES;
        abuse.transport.receive_window = SLOW_WINDOW_BYTES.saturating_mul(abuse.streams);
    }
    abuse
}

/// Enough for a response to begin; all else has to wait at the server.
const SLOW_WINDOW_BYTES: u32 = 16 << 10;
