//! check refuses what cannot be: intervals, mixes of requests, recordings, and sockets.

use std::time::Duration;

use super::{
    DATAGRAM_MAX, KeyUpdates, LoadConfig, LoadError, MIGRATE_EVERY_MIN, ROUND_MAX, Sockets, Stop,
    Workload,
};
use crate::client::round;
use crate::protocol::Protocol;
use crate::series::{INTERVAL_MIN, INTERVALS_MAX, intervals};

impl LoadConfig {
    /// Whether the intervals can be kept.
    pub(super) fn check_interval(&self) -> Result<(), LoadError> {
        let interval = self.interval;
        if interval < INTERVAL_MIN {
            return Err(LoadError::IntervalTooShort { interval });
        }
        let Stop::Duration(length) = self.stop else { return Ok(()) };
        let count = intervals(length, interval);
        if count <= INTERVALS_MAX {
            return Ok(());
        }
        // Whole milliseconds are easy to write.
        let ms = intervals(length, Duration::from_millis(INTERVALS_MAX));
        Err(LoadError::Intervals { count, interval, remedy: Duration::from_millis(ms) })
    }

    /// Whether datagrams, if they are the work, can be sent and come back.
    pub(super) fn check_datagrams(&self) -> Result<(), LoadError> {
        let Some(size) = self.workload.datagram_size() else { return Ok(()) };
        let is_echoed = matches!(self.protocol, Protocol::Echo(_));
        let has_time = matches!(self.stop, Stop::Duration(_));
        let is_paced = self.pace.is_some() && self.replay.is_none();
        match (8..=DATAGRAM_MAX).contains(&size) && is_echoed && has_time && is_paced {
            true => Ok(()),
            false => Err(LoadError::Datagrams),
        }
    }

    /// Whether the mix of requests, or their recording, can be had.
    pub(super) fn check_requests(&self) -> Result<(), LoadError> {
        let mut weights = self.protocol.weights();
        weights.retain(|_| self.workload == Workload::Http);
        let round = round(weights.iter().copied());
        if round > ROUND_MAX {
            return Err(LoadError::Weights { round });
        }
        let Some(replay) = &self.replay else { return Ok(()) };
        let is_enough = match self.stop {
            Stop::Requests(requests) => requests <= replay.len() as u64,
            Stop::Duration(_) | Stop::Never => true,
        };
        let makes_requests = !self.workload.is_handshakes() && !self.workload.is_idle();
        let is_alone = self.pace.is_none() && self.warm_up.is_zero();
        let is_known = (replay.which_max() as usize) < weights.len().max(1);
        match makes_requests && is_alone && is_known && is_enough {
            true => Ok(()),
            false => Err(LoadError::Replay),
        }
    }

    /// Whether connections can come from where they shall.
    pub(super) fn check_sockets(&self) -> Result<(), LoadError> {
        if let Some(locals) = &self.locals
            && let Some(target) = self
                .targets
                .iter()
                .find(|target| target.address.ip().to_canonical().is_ipv4() != locals.is_ipv4())
        {
            let (local, target) = (locals.nth(0), target.address);
            return Err(LoadError::LocalFamily { local, target });
        }
        let is_empty = match self.key_updates {
            Some(KeyUpdates::Every(period)) => period < MIGRATE_EVERY_MIN,
            Some(KeyUpdates::Requests(_)) => self.workload.is_idle(),
            None => false,
        };
        if is_empty || (self.key_updates.is_some() && self.workload.is_handshakes()) {
            return Err(LoadError::KeyUpdates);
        }
        let Some(every) = self.migrate_every else { return Ok(()) };
        let is_possible = self.sockets == Sockets::PerConnection;
        match is_possible && !self.workload.is_handshakes() && every >= MIGRATE_EVERY_MIN {
            true => Ok(()),
            false => Err(LoadError::Migration),
        }
    }

    /// Files that are open at once.
    pub(super) fn open_files_needed(&self) -> usize {
        if self.sockets == Sockets::PerWorker {
            return Self::open_files(0);
        }
        // The engine hears the socket that a connection left for another second.
        let left = self.migrate_every.map_or(0.0, |every| 1.0 / every.as_secs_f64());
        let left = left * self.connections as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it saturates, as it shall"
        )]
        Self::open_files(self.connections).saturating_add(left as usize)
    }
}
