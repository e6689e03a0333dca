//! setup is what was asked for, as a report remembers it: two runs are only worth comparing, or
//! adding up, when they asked for the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use quiclane::Congestion;
use serde::{Deserialize, Serialize};

use crate::config::{KeyUpdates, LoadConfig, Sockets, Stop, Workload};
use crate::partition::Parts;
use crate::protocol::Protocol;
use crate::read::few_names;
use crate::schedule::Arrivals;
use crate::text::{group, size};

/// What was asked for.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Setup {
    /// What each connection does, in words.
    pub workload: String,
    /// What is counted.
    pub unit: Unit,
    /// Connections kept; of a part of a run those of that part.
    pub connections: u64,
    /// Requests in flight on each, at most so many in an open loop.
    pub streams: u32,
    /// Threads that offered load.
    pub workers: u64,
    /// When the run was to end.
    pub stop: String,
    /// Which parts of a run it was; absent where it was all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<Parts>,
    /// Everything else that changes numbers, by name.
    #[serde(deserialize_with = "few_names")]
    pub settings: BTreeMap<String, String>,
}

/// What a run is made of.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Requests.
    #[default]
    Requests,
    /// Handshakes, one after another.
    Handshakes,
    /// Connections that are only held.
    Connections,
    /// Unreliable datagrams.
    Datagrams,
}

impl Unit {
    /// Whether times are those of handshakes.
    pub(crate) fn is_handshakes(self) -> bool {
        matches!(self, Self::Handshakes | Self::Connections)
    }
}

impl Setup {
    pub(crate) fn new(config: &LoadConfig, workers: usize) -> Self {
        Self {
            workload: workload(config),
            unit: match config.workload {
                Workload::Handshakes => Unit::Handshakes,
                Workload::Idle => Unit::Connections,
                Workload::Datagrams { .. } => Unit::Datagrams,
                _ => Unit::Requests,
            },
            connections: config.connections as u64,
            streams: config.streams,
            workers: workers as u64,
            stop: match config.stop {
                Stop::Requests(number) => format!("after {}", group(number)),
                Stop::Duration(time) => format!("after {time:?}"),
                Stop::Never => "when stopped".into(),
            },
            partition: config.partition.map(Parts::new),
            settings: settings(config),
        }
    }

    /// Whether load was offered before measuring.
    pub(crate) fn has_warm_up(&self) -> bool {
        self.settings.contains_key(WARM_UP)
    }

    /// What differs from `other` and changes numbers, with both values.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let Self { workload, connections, streams, workers, .. } = self;
        let found = [
            ("workload", workload.clone(), other.workload.clone()),
            ("connections", group(*connections), group(other.connections)),
            ("streams", streams.to_string(), other.streams.to_string()),
            ("workers", group(*workers), group(other.workers)),
        ];
        let found = found.into_iter().filter(|(_, a, b)| a != b);
        let found = found.map(|(name, a, b)| format!("{name}: {a} and {b}"));
        found.chain(self.settings_by_name(other, |_| true)).collect()
    }

    /// The same of the settings that parts of one run have in common: all but what each has of its
    /// own, a part of what was recorded, and addresses of its own host.
    pub(crate) fn settings_that_differ(&self, other: &Self) -> Vec<String> {
        self.settings_by_name(other, |name| !OF_EACH_PART.contains(&name))
    }

    fn settings_by_name(&self, other: &Self, is_wanted: fn(&str) -> bool) -> Vec<String> {
        let names = self.settings.keys().chain(other.settings.keys());
        let names: BTreeSet<&String> = names.filter(|name| is_wanted(name)).collect();
        let value = |of: &Self, name| of.settings.get(name).map_or("none", |v| v).to_owned();
        let found = names.into_iter().map(|name| (name, value(self, name), value(other, name)));
        let found = found.filter(|(_, a, b)| a != b);
        found.map(|(name, a, b)| format!("{name}: {a} and {b}")).collect()
    }
}

/// What each connection does, in words.
fn workload(config: &LoadConfig) -> String {
    match (config.workload, &config.protocol) {
        (Workload::Requests { request_size, response_size }, _) => {
            format!("perf requests, {} up, {} down", size(request_size), size(response_size))
        }
        (Workload::Download(bytes), _) => format!("perf download, {} per stream", size(bytes)),
        (Workload::Upload(bytes), _) => format!("perf upload, {} per stream", size(bytes)),
        (Workload::Http, protocol) => http(config, protocol),
        (Workload::Datagrams { size: bytes }, protocol) => {
            format!("{} datagrams, {} each", protocol.name(), size(bytes))
        }
        (Workload::Streams, protocol) => {
            let name = protocol.name();
            let up = protocol.body_bytes().filter(|bytes| *bytes > 0);
            up.map_or_else(
                || format!("{name} streams"),
                |bytes| format!("{name} streams, {} up", size(bytes)),
            )
        }
        (Workload::Handshakes, _) => "handshakes".into(),
        (Workload::Idle, _) => "idle connections".into(),
    }
}

fn http(config: &LoadConfig, protocol: &Protocol) -> String {
    let (method, body_bytes, requests) = match protocol {
        Protocol::Http3(requests) => match requests.first() {
            Some(first) => (first.method(), first.body_bytes(), requests.len()),
            None => return protocol.name(),
        },
        Protocol::Hq(requests) if !requests.is_empty() => ("GET", 0, requests.len()),
        Protocol::Perf | Protocol::Hq(_) | Protocol::Echo(_) | Protocol::Raw { .. } => {
            return protocol.name();
        }
    };
    let mut text = format!("{} {method}", protocol.name());
    if body_bytes > 0 {
        text.push_str(&format!(", {} up", size(body_bytes)));
    }
    if requests > 1 {
        let how = if config.replay.is_some() { "as recorded" } else { "in turn" };
        text.push_str(&format!(", {requests} URLs {how}"));
    }
    text
}

fn settings(config: &LoadConfig) -> BTreeMap<String, String> {
    let time = |time: Duration| format!("{time:?}");
    let transport = &config.transport;
    let (pace, connect_pace) = (config.pace.as_ref(), config.connect_pace.as_ref());
    let all = [
        (LOCAL_ADDRESSES, config.locals.as_ref().map(ToString::to_string)),
        (
            "sockets",
            match config.sockets {
                Sockets::PerConnection => None,
                Sockets::PerWorker => Some("one for each worker".into()),
            },
        ),
        ("migrate every", config.migrate_every.map(time)),
        (
            "key update every",
            config.key_updates.map(|of| match of {
                KeyUpdates::Every(period) => time(period),
                KeyUpdates::Requests(requests) => format!("{} requests", group(requests.get())),
            }),
        ),
        ("alpn", Some(String::from_utf8_lossy(config.protocol.alpn()).into_owned())),
        (
            "rate",
            match &config.replay {
                Some(_) => Some("as recorded".into()),
                None => pace.map(|pace| pace.rate.to_string()),
            },
        ),
        (
            RECORDING,
            config
                .replay
                .as_ref()
                .map(|replay| format!("{} in {:?}", group(replay.len() as u64), replay.length())),
        ),
        ("connect rate", connect_pace.map(|pace| pace.rate.to_string())),
        (
            "arrivals",
            pace.or(connect_pace).map(|pace| match pace.arrivals {
                Arrivals::Constant => "constant".into(),
                Arrivals::Poisson => "poisson".into(),
            }),
        ),
        (WARM_UP, Some(config.warm_up).filter(|time| !time.is_zero()).map(time)),
        ("requests per connection", config.requests_per_connection.map(|most| most.to_string())),
        ("reconnect", config.reconnect.then(|| "yes".into())),
        ("connect timeout", Some(time(config.connect_timeout))),
        ("request timeout", config.request_timeout.map(time)),
        ("idle timeout", Some(time(transport.idle_timeout))),
        ("keep-alive", transport.keep_alive.map(time)),
        ("congestion control", Some(congestion(transport.congestion))),
        ("stream window", Some(size(transport.stream_receive_window.into()))),
        ("window", Some(size(transport.receive_window.into()))),
        ("largest datagram", transport.mtu_max.map(|bytes| size(bytes.into()))),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn congestion(congestion: Congestion) -> String {
    match congestion {
        Congestion::Brutal { bytes_per_s } => format!("brutal, {} a second", size(bytes_per_s)),
        other => format!("{other:?}").to_lowercase(),
    }
}

const WARM_UP: &str = "warm-up";
const RECORDING: &str = "recording";
const LOCAL_ADDRESSES: &str = "local addresses";
const OF_EACH_PART: [&str; 2] = [RECORDING, LOCAL_ADDRESSES];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Pace;
    use crate::protocol::Body;
    use crate::schedule::{Rate, Replay, Stage};

    fn config() -> LoadConfig {
        LoadConfig::new(Vec::new(), Workload::Download(1 << 20), Stop::Requests(10))
    }

    #[test]
    fn what_changes_numbers_is_said_with_both_values() {
        let rate = Rate::staged(vec![Stage::new(30, 0.0, 500.0), Stage::new(60, 500.0, 500.0)]);
        let pace = Some(Pace { rate: rate.unwrap(), arrivals: Arrivals::Poisson });
        let (a, b) = (
            Setup::new(&config(), 2),
            Setup::new(&LoadConfig { pace, streams: 9, stop: Stop::Never, ..config() }, 2),
        );
        assert_eq!(
            a.differences(&b),
            [
                "streams: 1 and 9",
                "arrivals: none and poisson",
                "rate: none and 0:500 for 30s, 500 for 60s"
            ]
        );
        assert_eq!(a.differences(&a), Vec::<String>::new());
        let even =
            |per_s| Pace { rate: Rate::constant(per_s).unwrap(), arrivals: Arrivals::Constant };
        let paced =
            |per_s| Setup::new(&LoadConfig { connect_pace: Some(even(per_s)), ..config() }, 2);
        assert_eq!(paced(5.0).differences(&paced(7.0)), ["connect rate: 5 and 7"]);
        let from = |text: &str, sockets| {
            let locals = Some(text.parse().unwrap());
            Setup::new(&LoadConfig { locals, sockets, ..config() }, 2)
        };
        let (a, b) =
            (from("127.0.0.2", Sockets::PerConnection), from("127.1.0.0/16", Sockets::PerWorker));
        assert_eq!(
            a.differences(&b),
            [
                "local addresses: 127.0.0.2 and 127.1.0.0/16",
                "sockets: none and one for each worker"
            ]
        );
        assert_eq!(a.settings_that_differ(&b).len(), 1, "each host has its own addresses");
        let streams = |protocol| {
            Setup::new(&LoadConfig { protocol, workload: Workload::Streams, ..config() }, 2)
                .workload
        };
        assert_eq!(streams(Protocol::Echo(Body::Zeros(4_096))), "echo streams, 4 KiB up");
        let (alpn, body) = (b"x".to_vec(), Body::None);
        assert_eq!(streams(Protocol::Raw { alpn, body }), "raw x streams");
        let mut quic = config();
        quic.key_updates = std::num::NonZero::new(1_000).map(KeyUpdates::Requests);
        quic.transport.congestion = Congestion::Brutal { bytes_per_s: 10 << 20 };
        assert_eq!(
            Setup::new(&config(), 2).differences(&Setup::new(&quic, 2)),
            [
                "congestion control: cubic and brutal, 10 MiB a second",
                "key update every: none and 1,000 requests"
            ]
        );
        let replayed = |times: &[u64]| {
            let times = times.iter().map(|ms| (Duration::from_millis(*ms), 0));
            let replay = Some(Replay::new(times).unwrap());
            Setup::new(&LoadConfig { replay, ..config() }, 2)
        };
        let (a, b) = (replayed(&[0, 1_500]), replayed(&[2_000]));
        assert_eq!(a.differences(&b), ["recording: 2 in 1.5s and 1 in 2s"]);
        assert_eq!(a.settings_that_differ(&b), Vec::<String>::new(), "parts of one recording");
        assert_eq!(
            paced(5.0).settings_that_differ(&b),
            [
                "arrivals: constant and none",
                "connect rate: 5 and none",
                "rate: none and as recorded"
            ]
        );
        let json = serde_json::to_string(&a).unwrap();
        assert_eq!(serde_json::from_str::<Setup>(&json).unwrap(), a);
        assert!(json.contains("\"unit\":\"requests\""), "{json}");
    }
}
