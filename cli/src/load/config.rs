//! config makes of flags what the library takes.

use std::net::SocketAddr;
use std::num::NonZero;
use std::time::Duration;

use quiclane::{ClientTls, Target};
use quiclane_loadgen::{Body, LoadConfig, Protocol, Replay, Stop, Workload};

use super::LoadArgs;
use super::protocol::Speaks;
use crate::certificate::seed;
use crate::exit::Failure;
use crate::target::Url;

impl LoadArgs {
    /// A run against the server at `address`.
    pub(super) fn config(&self, address: SocketAddr) -> Result<LoadConfig, Failure> {
        let speaks = self.protocol.speaks(self.url())?;
        let workload = match self.pace.datagram_size() {
            Some(size) => Workload::Datagrams { size },
            None => self.work.workload(speaks),
        };
        let recording = self.pace.recording(self.url())?;
        let recorded: Option<Vec<&Url>> =
            recording.as_ref().map(|recording| recording.urls.iter().collect());
        let urls = || recorded.clone().unwrap_or_else(|| self.urls().collect()).into_iter();
        let protocol = match (speaks, workload) {
            (Speaks::Perf, _) => Protocol::Perf,
            (Speaks::Http3, Workload::Http) => Protocol::Http3(self.http.requests(urls())?),
            (Speaks::Http3, _) => Protocol::Http3(Vec::new()),
            (Speaks::Hq, Workload::Http) => Protocol::Hq(self.http.hq_requests(urls())?),
            (Speaks::Hq, _) => Protocol::Hq(Vec::new()),
            (Speaks::Echo, _) => Protocol::Echo(self.stream_body()?),
            (Speaks::Raw, _) => {
                let alpn = self.protocol.alpn(speaks).into();
                Protocol::Raw { alpn, body: self.stream_body()? }
            }
        };
        let provider = self.workers.provider.into();
        seed(provider);
        let alpn = vec![self.protocol.alpn(speaks).into()];
        let tls = ClientTls::new(provider, self.trust.trust()?, alpn, self.trust.resume.into())?;
        let target = Target {
            address,
            server_name: self.trust.server_name(self.url())?.into(),
            tls,
            local: None,
        };
        let replay = recording.map(|recording| recording.replay);
        let stop = match &replay {
            Some(replay) => Stop::Requests(replay.len() as u64),
            None => self.stop(workload),
        };
        let length = match stop {
            Stop::Duration(length) => Some(length),
            Stop::Requests(_) | Stop::Never => None,
        };
        Ok(LoadConfig {
            protocol,
            pace: match self.search.first(self.pace.arrivals())? {
                Some(pace) => Some(pace),
                None => self.pace.pace(length)?,
            },
            slo: self.slo.clone(),
            connections: self.connections().min(replay.as_ref().map_or(usize::MAX, Replay::len)),
            replay,
            connect_pace: self.pace.connect_pace()?,
            streams: self.streams(),
            requests_per_connection: self.requests_per_conn.and_then(NonZero::new),
            reconnect: self.work.reconnect,
            locals: self.sockets.local_addr.clone(),
            sockets: self.sockets.sockets(),
            migrate_every: self.sockets.migrate_every,
            key_updates: self.keys.key_update_every,
            warm_up: self.warmup,
            interval: self.files.interval,
            live_intervals: self.files.has_series(),
            partition: self.part.partition,
            start_at: self.part.start_at()?,
            connect_timeout: self.connect_timeout,
            request_timeout: self.request_timeout(workload),
            workers: self.workers.workers(),
            cores: self.workers.cores(),
            io: self.workers.io.into(),
            transport: self.transport.transport(),
            ..LoadConfig::new(vec![target], workload, stop)
        })
    }

    /// What a stream takes up where there is nothing but streams.
    fn stream_body(&self) -> Result<Body, Failure> {
        match self.http.has_body() {
            true => self.http.body(),
            false => Ok(Body::Zeros(self.work.request_size.unwrap_or(STREAM_BYTES))),
        }
    }

    /// Connections to open: one without a request would only cost the server a handshake, and
    /// in the report it would look as if it had carried load.
    fn connections(&self) -> usize {
        let default = match self.work.handshakes && self.pace.paces_handshakes() {
            true => HANDSHAKES_OPEN,
            false => CONNECTIONS,
        };
        let asked = self.work.idle.or(self.connections).unwrap_or(default);
        let requests = self.requests.and_then(|requests| usize::try_from(requests).ok());
        requests.map_or(asked, |requests| asked.min(requests))
    }

    /// Whether requests are sent by a schedule.
    fn is_open(&self) -> bool {
        self.pace.is_open() || self.search.find_max
    }

    /// A server that answers slowly holds back a schedule only when so many are in flight.
    fn streams(&self) -> u32 {
        self.streams.unwrap_or_else(|| if self.is_open() { STREAMS_OPEN } else { 1 })
    }

    fn stop(&self, workload: Workload) -> Stop {
        if let Some(length) = self.pace.length() {
            return Stop::Duration(length);
        }
        match (self.requests, self.duration, workload) {
            (None, None, _) if self.is_open() => Stop::Duration(DURATION),
            (Some(requests), ..) => Stop::Requests(requests),
            (_, Some(duration), _) => Stop::Duration(duration),
            (None, None, Workload::Download(_) | Workload::Upload(_)) => {
                Stop::Requests((self.connections() as u64).saturating_mul(self.streams().into()))
            }
            (None, None, Workload::Idle) => Stop::Never,
            (None, None, _) => Stop::Duration(DURATION),
        }
    }

    fn request_timeout(&self, workload: Workload) -> Option<Duration> {
        let default = match workload {
            Workload::Download(_) | Workload::Upload(_) => Duration::ZERO,
            _ => TIMEOUT,
        };
        Some(self.timeout.unwrap_or(default)).filter(|timeout| !timeout.is_zero())
    }
}

/// A small message.
pub(super) const STREAM_BYTES: u64 = 1 << 10;

/// As many as most servers allow at once by default.
const STREAMS_OPEN: u32 = 100;

/// Handshakes that may be under way when they begin by a schedule: a second of a thousand a second.
const HANDSHAKES_OPEN: usize = 1_000;

/// Enough to keep a few cores busy.
const CONNECTIONS: usize = 10;

/// Long enough for rates to settle.
const DURATION: Duration = Duration::from_secs(10);

/// A request that takes longer has failed for whoever waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::super::tests::parse;
    use super::*;

    #[test]
    fn workloads_and_stop_rules_have_defaults() {
        let args = parse("").unwrap();
        let workload = args.work.workload(Speaks::Perf);
        assert_eq!(workload, Workload::Requests { request_size: 0, response_size: 1_024 });
        assert_eq!(args.stop(workload), Stop::Duration(DURATION));
        assert_eq!(args.request_timeout(workload), Some(TIMEOUT));
        assert!(args.config("127.0.0.1:1".parse().unwrap()).is_ok() || args.trust.insecure == 0);
    }

    #[test]
    fn bulk_runs_are_one_stream_on_each_and_have_no_time_limit() {
        let args = parse("--download 1g -c 3 -m 2").unwrap();
        let workload = args.work.workload(Speaks::Perf);
        assert_eq!(workload, Workload::Download(1 << 30));
        assert_eq!(args.stop(workload), Stop::Requests(6));
        assert_eq!(args.request_timeout(workload), None);
        assert_eq!(
            parse("--upload 1m -d 5").unwrap().work.workload(Speaks::Perf),
            Workload::Upload(1 << 20)
        );
    }

    #[test]
    fn idle_connections_are_held_until_the_time_is_over_or_somebody_interrupts() {
        let args = parse("--idle 10k --keep-alive 500ms --reconnect").unwrap();
        assert_eq!(
            (args.work.workload(Speaks::Perf), args.connections()),
            (Workload::Idle, 10_000)
        );
        assert_eq!(args.stop(Workload::Idle), Stop::Never);
        assert!(args.work.reconnect && !parse("--idle 1").unwrap().work.reconnect);
        let args = parse("--idle 3 -d 2s").unwrap();
        assert_eq!(args.stop(Workload::Idle), Stop::Duration(Duration::from_secs(2)));
    }

    #[test]
    fn there_are_no_more_connections_than_requests() {
        for (flags, connections) in [
            ("", 10),
            ("-n 1", 1),
            ("-c 10 -n 3", 3),
            ("-c 3 -n 10", 3),
            ("-c 4 -n 2 --handshakes", 2),
            ("-c 4 --download 1g", 4),
            ("-c 4 -n 100m", 4),
            ("--handshakes", 10),
            ("--connect-rate 5", 10),
            ("--handshakes --connect-rate 5", 1_000),
            ("--handshakes --connect-rate 5 -c 20", 20),
        ] {
            assert_eq!(parse(flags).unwrap().connections(), connections, "{flags}");
        }
    }

    #[test]
    fn a_zero_timeout_is_none() {
        let args = parse("--timeout 0").unwrap();
        assert_eq!(args.request_timeout(args.work.workload(Speaks::Perf)), None);
        let args = parse("--timeout 250ms").unwrap();
        let workload = args.work.workload(Speaks::Perf);
        assert_eq!(args.request_timeout(workload), Some(Duration::from_millis(250)));
        let args = parse("--handshakes -n 10k").unwrap();
        assert_eq!(args.stop(Workload::Handshakes), Stop::Requests(10_000));
    }

    #[test]
    fn the_words_of_other_tools_mean_the_same() {
        for (theirs, ours) in [
            ("--clients 3", "-c 3"),
            ("--max-concurrent-streams 4", "-m 4"),
            ("--threads 1", "--workers 1"),
            ("--warm-up-time 1s", "--warmup 1s"),
            ("--no-tui", "--plain"),
            ("--congestion newreno", "--cc newreno"),
            ("--method PUT", "-X PUT"),
            ("--header a:b", "-H a:b"),
            ("--insecure", "-k"),
        ] {
            let [theirs, ours] = [theirs, ours].map(|flags| format!("{:?}", parse(flags).unwrap()));
            assert_eq!(theirs, ours);
            assert_ne!(theirs, format!("{:?}", parse("").unwrap()));
        }
    }

    #[test]
    fn windows_reach_the_connections() {
        let config = |flags| parse(flags).unwrap().config("127.0.0.1:1".parse().unwrap()).unwrap();
        let transport = config("-k --window 3m --stream-window 2m --mtu-max 1300").transport;
        let windows = (transport.receive_window, transport.stream_receive_window);
        assert_eq!((windows, transport.mtu_max), ((3 << 20, 2 << 20), Some(1_300)));
    }
}
