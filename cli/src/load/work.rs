//! work says what each connection does.

use clap::Args;
use quiclane_loadgen::Workload;

use super::protocol::Speaks;
use crate::flags::{positive_usize, size};

/// What each connection does.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Workload")]
pub(super) struct WorkOptions {
    /// With --perf: payload bytes of a request, beside the 8 that name the response size
    /// [default: 0]. With --echo and --raw: bytes of a stream [default: 1k]
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "work")]
    pub(super) request_size: Option<u64>,

    /// With --perf: bytes of a response [default: 1k]
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "work")]
    response_size: Option<u64>,

    /// With --perf: streams that bring this many bytes down, for example 1g
    #[arg(long, value_name = "SIZE", value_parser = size, group = "work")]
    download: Option<u64>,

    /// With --perf: streams that take this many bytes up, for example 1g
    #[arg(long, value_name = "SIZE", value_parser = size, group = "work")]
    upload: Option<u64>,

    /// Connect, close and connect again, with -c handshakes in flight
    #[arg(long, group = "work", conflicts_with = "streams")]
    pub(super) handshakes: bool,

    /// Open N connections and hold them without requests for -d TIME, or until interrupted.
    /// A lost one is counted by what ended it and not replaced; when none is left the run ends
    #[arg(long, value_name = "N", group = "work", value_parser = positive_usize,
          conflicts_with_all = ["connections", "streams", "requests", "requests_per_conn",
                                "warmup", "timeout"])]
    pub(super) idle: Option<usize>,

    /// With --idle: replace connections that end or fail, after 10 ms, doubling to 1 s, half of it
    /// random. The run is a success when all N are open at its end. All other workloads replace
    /// lost connections anyway. With https://: send requests that a server refuses with GOAWAY
    /// again on the next connection, instead of counting them as going_away
    #[arg(long)]
    pub(super) reconnect: bool,
}

impl WorkOptions {
    pub(super) fn workload(&self, speaks: Speaks) -> Workload {
        if self.idle.is_some() {
            return Workload::Idle;
        }
        match (self.download, self.upload, self.handshakes, speaks) {
            (Some(bytes), ..) => Workload::Download(bytes),
            (_, Some(bytes), ..) => Workload::Upload(bytes),
            (_, _, true, _) => Workload::Handshakes,
            (None, None, false, Speaks::Http3 | Speaks::Hq) => Workload::Http,
            (None, None, false, Speaks::Echo | Speaks::Raw) => Workload::Streams,
            (None, None, false, Speaks::Perf) => Workload::Requests {
                request_size: self.request_size.unwrap_or(REQUEST_BYTES),
                response_size: self.response_size.unwrap_or(RESPONSE_BYTES),
            },
        }
    }

    /// --request-size, as it would be written.
    pub(super) fn request_size(&self) -> Option<String> {
        self.request_size.map(|size| format!("--request-size {size}"))
    }

    /// The other flags of --perf that were given, as they would be written.
    pub(super) fn given_for_perf(&self) -> Vec<String> {
        let sizes = [
            ("--response-size", self.response_size),
            ("--download", self.download),
            ("--upload", self.upload),
        ];
        let given = sizes.into_iter().filter_map(|(flag, size)| Some((flag, size?)));
        given.map(|(flag, size)| format!("{flag} {size}")).collect()
    }

    /// What it does instead of making requests, if it does.
    pub(super) fn instead_of_requests(&self) -> Option<String> {
        let handshakes = self.handshakes.then(|| "--handshakes".to_owned());
        self.idle.map(|connections| format!("--idle {connections}")).or(handshakes)
    }
}

/// Payload of a `perf` request.
const REQUEST_BYTES: u64 = 0;

/// Bytes of a `perf` response: a small page.
const RESPONSE_BYTES: u64 = 1 << 10;
