//! identity is what the workers of one start have in common: keys, epoch, routing facts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quiclane_datapath::Socket;
use quiclane_wire::{EpochState, EpochTable, Key, Layout, ServerId, siphash128};
use quinn_proto::{EndpointConfig, TransportConfig};

use crate::cid::{Accepts, CidGenerator};
use crate::config::{Config, Limits, Retry, ServerConfig};
use crate::endpoint::Settings;
use crate::epochs::Epochs;
use crate::error::{ConfigError, StartError, StateError};
use crate::ip::ByVersion;
use crate::keys::{EpochKeys, Master, fill_random};
use crate::reset::{Rates, ResetKey, Resets};
use crate::route::Router;
use crate::state::{State, low_byte};
use crate::steer::Facts;
use crate::transport::MTU_MAX;

/// Keys and routing facts that all workers share.
pub(crate) struct Identity {
    pub(crate) layout: Layout,
    pub(crate) keys: EpochKeys,
    pub(crate) epoch: u64,
    epochs: Arc<Epochs>,
    /// A server's.
    rates: Option<Arc<Rates>>,
    server: Option<(ServerConfig, quinn_proto::ServerConfig)>,
    seed: Option<u64>,
    /// A server's; keeps the epoch's flock.
    state: Option<State>,
    workers: u8,
}

/// What became known of epochs.
pub(crate) struct Changed {
    /// By number.
    pub(crate) epochs: Vec<(u64, EpochState)>,
    pub(crate) table: Arc<EpochTable>,
}

impl Identity {
    pub(crate) fn server(
        server: &ServerConfig,
        config: &Config,
        workers: usize,
    ) -> Result<Self, StartError> {
        let server_id = ServerId::new(&server.server_id)
            .ok_or(ConfigError::ServerIdTooLong(server.server_id.len()))?;
        let state = match &server.state_dir {
            Some(directory) => {
                if server.drop_capabilities {
                    State::check_owner(directory)?;
                }
                State::open(directory, server.retired_for)?
            }
            None => State::in_memory(config.seed),
        };
        let workers = u8::try_from(workers).unwrap_or(u8::MAX);
        let crypto = server.tls.crypto();
        let token_key = state.master().token_key(&server.server_id);
        let mut proto = quinn_proto::ServerConfig::new(crypto, token_key);
        proto
            .max_incoming(config.limits.half_open)
            .incoming_buffer_size(INCOMING_BYTES)
            .incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
        let keys = state.master().epoch_keys(&server.server_id, state.epoch);
        let prefix_key = Key::from_bytes(siphash128(&keys.spread, b"reset prefixes"));
        Ok(Self {
            layout: Layout::new(server_id),
            keys,
            epoch: state.epoch,
            epochs: Epochs::new(state.known.table(&server.server_id, workers)),
            rates: Some(Arc::new(Rates::new(&config.limits, prefix_key))),
            server: Some((server.clone(), proto)),
            seed: config.seed,
            workers,
            state: Some(state),
        })
    }

    /// Looks at the state directory again and tells the workers what has changed since `known`.
    /// `None`: nothing.
    pub(crate) fn look_again(
        &self,
        known: &[(u64, EpochState)],
    ) -> Result<Option<Changed>, StateError> {
        let (Some(state), Some((server, _))) = (&self.state, &self.server) else { return Ok(None) };
        let Some(now) = state.look_again()? else { return Ok(None) };
        let mut epochs = now.epochs.clone();
        epochs.sort_unstable_by_key(|(epoch, _)| *epoch);
        if epochs == known {
            return Ok(None);
        }
        let mut table = now.table(&server.server_id, self.workers);
        // Whatever happens to the files: connection IDs are given out with the keys of the start.
        let own = low_byte(self.epoch);
        table.set(own, *self.epochs.table().get(own));
        self.epochs.set(table);
        Ok(Some(Changed { epochs, table: self.epochs.table() }))
    }

    /// To be called before the first connection ID is given out.
    pub(crate) fn serves(&self) {
        self.state.iter().for_each(State::serves);
    }

    /// Whether there is a state directory.
    pub(crate) fn outlives_the_process(&self) -> bool {
        self.state.as_ref().is_some_and(State::outlives_the_process)
    }

    /// The epochs whose process is gone, in their order.
    pub(crate) fn retired(&self) -> Vec<u64> {
        let is_retired = |(epoch, state)| (state == EpochState::Retired).then_some(epoch);
        self.known_epochs().into_iter().filter_map(is_retired).collect()
    }

    /// The epochs that were known at the start, in order.
    pub(crate) fn known_epochs(&self) -> Vec<(u64, EpochState)> {
        let mut epochs = self.state.as_ref().map(|state| state.known.epochs.clone());
        epochs.iter_mut().for_each(|epochs| epochs.sort_unstable_by_key(|(epoch, _)| *epoch));
        epochs.unwrap_or_default()
    }

    /// A client's connection IDs are its own business: random keys, no epoch, no server ID.
    pub(crate) fn client(seed: Option<u64>) -> Self {
        Self {
            layout: Layout::new(ServerId::EMPTY),
            keys: Master::generate(seed).epoch_keys(&[], 0),
            epoch: 0,
            epochs: Epochs::new(EpochTable::unknown()),
            rates: None,
            server: None,
            seed,
            workers: 0,
            state: None,
        }
    }

    /// What the steering programs have to know.
    pub(crate) fn facts<'a>(
        &'a self,
        cores: &'a [Option<usize>],
        listen: &'a [SocketAddr],
        sockets: &'a [Vec<Socket>],
        limits: &'a Limits,
    ) -> Facts<'a> {
        Facts {
            layout: self.layout,
            spread_key: self.keys.spread,
            epochs: self.epochs.table(),
            epoch: low_byte(self.epoch),
            cores,
            listen,
            limits,
            sockets,
        }
    }

    pub(crate) fn router(&self, worker: u8, workers: u8) -> Router {
        if self.server.is_some() {
            Router::Server {
                layout: self.layout,
                spread_key: self.keys.spread,
                epochs: self.epochs.view(),
                worker,
                workers,
            }
        } else {
            Router::Client { layout: self.layout, check_key: self.keys.check }
        }
    }

    /// The endpoint settings of one worker.
    pub(crate) fn settings(
        &self,
        worker: u8,
        transport: &ByVersion<Arc<TransportConfig>>,
        limits: &Limits,
    ) -> Settings {
        let issued = Arc::new(AtomicU64::new(0));
        let (layout, epoch) = (self.layout, low_byte(self.epoch));
        let keys = (self.keys.check, self.keys.unique);
        let accepts = if self.server.is_some() { Accepts::Own } else { Accepts::Nothing };
        let seed = self.worker_seed(worker);
        let start = u64::from_le_bytes(std::array::from_fn(|i| seed[i]));
        let counted = Arc::clone(&issued);
        let mut endpoint =
            EndpointConfig::new(Arc::new(ResetKey::new(&self.keys.reset_root, worker)));
        endpoint
            .cid_generator(move || {
                let (issued, at) = (Arc::clone(&counted), (worker, epoch));
                Box::new(CidGenerator::new(layout, keys, at, start, issued, accepts))
            })
            .supported_versions(vec![quiclane_wire::VERSION_1])
            .rng_seed(Some(seed));
        // Buffers take any datagram: what a path does not carry its discovery does not find.
        let taken = endpoint.max_udp_payload_size(MTU_MAX);
        debug_assert!(taken.is_ok(), "1200 bytes at least");
        // How many are sent is for `reset` to say, and a client sends none, see `datagram`.
        // quinn-proto adds this to the time of the last one: it must not overflow the clock.
        endpoint.min_reset_interval(Duration::ZERO);
        let server = self.server.as_ref().map(|(_, proto)| {
            transport.map(|transport| {
                let mut proto = proto.clone();
                proto.transport_config(Arc::clone(transport));
                Arc::new(proto)
            })
        });
        Settings {
            endpoint: Arc::new(endpoint),
            server,
            transport: transport.clone(),
            limits: limits.clone(),
            retry: self.server.as_ref().map_or(Retry::Off, |(server, _)| server.retry),
            resets: self.resets(&seed),
            issued,
            initial_cids: self.initial_cids(worker),
        }
    }

    fn resets(&self, seed: &[u8; 32]) -> Option<Resets> {
        let rates = Arc::clone(self.rates.as_ref()?);
        let seed = std::array::from_fn(|at| seed[16 + at]);
        Some(Resets::new(rates, self.epochs.view(), self.layout.cid_len(), seed))
    }

    fn worker_seed(&self, worker: u8) -> [u8; 32] {
        let mut seed = [0; 32];
        match self.seed {
            Some(given) => {
                seed[..8].copy_from_slice(&given.to_le_bytes());
                seed[8] = worker;
            }
            None => fill_random(&mut seed),
        }
        seed
    }

    fn initial_cids(
        &self,
        worker: u8,
    ) -> Option<Arc<dyn Fn() -> quinn_proto::ConnectionId + Send + Sync>> {
        let seed = self.seed?;
        let (key, count) = (self.keys.spread, AtomicU64::new(0));
        Some(Arc::new(move || {
            let n = count.fetch_add(1, Ordering::Relaxed);
            let mut input = [0; 17];
            input[..8].copy_from_slice(&seed.to_le_bytes());
            input[8..16].copy_from_slice(&n.to_le_bytes());
            input[16] = worker;
            quinn_proto::ConnectionId::new(&siphash128(&key, &input))
        }))
    }
}

/// Bytes of Initial and 0-RTT packets kept for one connection before it is accepted.
const INCOMING_BYTES: u64 = 64 << 10;
/// The same for all of a worker together.
const INCOMING_BYTES_TOTAL: u64 = 16 << 20;
