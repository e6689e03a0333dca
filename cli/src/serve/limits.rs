//! limits are the flags for the limits of a server; each is counted when it is reached.

use std::time::Duration;

use clap::{Args, ValueEnum};
use quiclane::apps::http3::{self, Options, SiteOptions};
use quiclane::apps::{HqOptions, PerfOptions};
use quiclane::{Limits, Transport};

use super::watch::Topic;
use crate::exit::Failure;
use crate::flags::{
    count_u32, header_section, positive_time, positive_u32, positive_usize, reset_rate, size,
    socket_buffer,
};

/// Limits of connections and workers.
#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitOptions {
    /// Connections per worker, closing ones included
    #[arg(long, value_name = "N", default_value = "100k", value_parser = positive_usize)]
    max_connections: usize,

    /// Unfinished handshakes per worker; beyond, first packets are dropped
    #[arg(long, value_name = "N", default_value = "4096", value_parser = positive_usize)]
    max_half_open: usize,

    /// Unfinished handshakes per worker above which --retry auto sends Retry
    #[arg(long, value_name = "N", default_value = "256", value_parser = positive_usize)]
    retry_above: usize,

    /// Time from the first packet to a complete handshake
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = positive_time)]
    handshake_timeout: Duration,

    /// Bidirectional streams a client may have open: with HTTP/3, requests at once
    #[arg(long, value_name = "N", default_value = "100", value_parser = positive_u32)]
    max_streams_bidi: u32,

    /// Unidirectional streams a client may have open; HTTP/3 needs 3
    #[arg(long, value_name = "N", default_value = "10", value_parser = count_u32)]
    max_streams_uni: u32,

    /// Largest generated response: perf resets requests for more with code 2, HTTP/3 answers 403
    #[arg(long, value_name = "SIZE", default_value = "16g", value_parser = size)]
    max_response: u64,

    /// Largest header section of an HTTP/3 request, with 32 bytes for each field; beyond, the
    /// answer is 431 [default: 64k]
    #[arg(long, value_name = "SIZE", value_parser = header_section)]
    max_header_section: Option<u32>,

    /// Time that an HTTP/3 client has for the whole head of a request, and for the next bytes of
    /// content and of a response; beyond, the stream is reset. It gets that time again while its
    /// connection moves 1 KiB/s, and for a request also while a handler leaves content unread
    /// [default: 1m]
    #[arg(long, value_name = "TIME", value_parser = positive_time)]
    request_timeout: Option<Duration>,

    /// Stateless resets a second to clients of a process that is gone, and as many at once, from
    /// all workers and from XDP, each; 0 = none
    #[arg(long, value_name = "N", default_value = "200k", value_parser = reset_rate)]
    max_resets: u32,

    /// The same to one source prefix, a /24 or a /56
    #[arg(long, value_name = "N", default_value = "20k", value_parser = reset_rate)]
    max_resets_per_prefix: u32,

    /// Kernel buffer per socket and direction
    #[arg(long, value_name = "SIZE", default_value = "4m", value_parser = socket_buffer)]
    socket_buffer: u64,

    /// Datagrams of a train that is sent (UDP_SEGMENT); 1 sends each on its own
    #[arg(long, value_name = "N", default_value_t = 128,
          value_parser = clap::value_parser!(u8).range(1..=128))]
    gso_segments: u8,

    /// Whether trains are received whole (UDP_GRO)
    #[arg(long, value_enum, value_name = "WHETHER", default_value_t = Switch::On)]
    gro: Switch,
}

/// --gro.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Switch {
    /// Where the kernel can
    On,
    /// Never
    Off,
}

impl LimitOptions {
    /// As the engine wants them.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            connections: self.max_connections,
            half_open: self.max_half_open,
            half_open_retry: self.retry_above,
            handshake_deadline: self.handshake_timeout,
            resets_per_s: self.max_resets,
            prefix_resets_per_s: self.max_resets_per_prefix,
            socket_buffer_bytes: usize::try_from(self.socket_buffer).unwrap_or(usize::MAX),
            gso_segments: self.gso_segments.into(),
            gro: self.gro == Switch::On,
            ..Limits::default()
        }
    }

    /// How many resets there are at most, for the plan.
    pub(crate) fn resets(&self) -> String {
        let Self { max_resets, max_resets_per_prefix, .. } = self;
        if *max_resets == 0 || *max_resets_per_prefix == 0 {
            return "no resets".into();
        }
        format!("at most {max_resets} resets/s, {max_resets_per_prefix}/s to one source prefix")
    }

    /// The limits of resets, by the reason of what they refused in the metrics. Who wants no resets
    /// is not told that there are none.
    pub(crate) fn reset_topics(&self) -> Vec<Topic> {
        let Self { max_resets, max_resets_per_prefix, .. } = self;
        if *max_resets == 0 || *max_resets_per_prefix == 0 {
            return Vec::new();
        }
        vec![
            Topic::new(
                "prefix_budget",
                "to clients of one source prefix",
                format!("--max-resets-per-prefix {max_resets_per_prefix}"),
            ),
            Topic::new("reset_budget", "to all clients", format!("--max-resets {max_resets}")),
        ]
    }

    /// As the `perf` protocol wants them.
    pub(crate) fn perf(&self) -> PerfOptions {
        PerfOptions { response_bytes_max: self.max_response, ..PerfOptions::default() }
    }

    /// As the `hq-interop` protocol wants them.
    pub(crate) fn hq(&self) -> HqOptions {
        HqOptions { response_bytes_max: self.max_response, ..HqOptions::default() }
    }

    /// As HTTP/3 wants them.
    pub(crate) fn http3(&self) -> Options {
        let defaults = http3::Limits::default();
        let streams = usize::try_from(self.max_streams_bidi).unwrap_or(usize::MAX);
        let limits = http3::Limits {
            field_section_bytes_max: self
                .max_header_section
                .unwrap_or(defaults.field_section_bytes_max),
            // QUIC's limit, of which the client is told, is the one that it meets.
            requests_max: defaults.requests_max.max(streams),
            ..defaults
        };
        let options = Options { limits, ..Options::default() };
        let request_timeout = self.request_timeout.unwrap_or(options.request_timeout);
        Options { request_timeout, ..options }
    }

    /// HTTP/3 has a control stream and two of QPACK (RFC 9114 section 6.2).
    pub(super) fn check_for_http3(&self) -> Result<(), Failure> {
        match self.max_streams_uni {
            few @ 0..3 => Err(Failure::Incomplete {
                given: format!("--max-streams-uni {few}"),
                needed: "at least 3 with HTTP/3, for its control stream and QPACK's; or --alpn \
                         without h3",
            }),
            _ => Ok(()),
        }
    }

    /// The flags that were given and are for HTTP/3 alone, with their values.
    pub(super) fn given_for_http3(&self) -> Vec<String> {
        let section = self.max_header_section.map(|size| format!("--max-header-section {size}"));
        let timeout = self.request_timeout.map(humantime::format_duration);
        let timeout = timeout.map(|time| format!("--request-timeout {time}"));
        section.into_iter().chain(timeout).collect()
    }

    /// As the handlers of HTTP/3 want them.
    pub(crate) fn site(&self) -> SiteOptions {
        SiteOptions { response_bytes_max: self.max_response, ..SiteOptions::default() }
    }

    /// `transport` with the stream limits.
    pub(crate) fn streams(&self, transport: Transport) -> Transport {
        Transport {
            streams_bidi: self.max_streams_bidi,
            streams_uni: self.max_streams_uni,
            ..transport
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        limits: LimitOptions,
    }

    #[test]
    fn the_plan_says_how_many_resets_there_are() {
        let resets = |flags: &str| {
            let words = ["serve"].into_iter().chain(flags.split_whitespace());
            let limits = Flags::parse_from(words).limits;
            (limits.resets(), limits.reset_topics().len())
        };
        let default = "at most 200000 resets/s, 20000/s to one source prefix";
        assert_eq!(resets(""), (default.into(), 2));
        let fewer = "at most 50 resets/s, 7/s to one source prefix";
        assert_eq!(resets("--max-resets 50 --max-resets-per-prefix 7"), (fewer.into(), 2));
        assert_eq!(resets("--max-resets 0"), ("no resets".into(), 0));
        assert_eq!(resets("--max-resets-per-prefix 0"), ("no resets".into(), 0));
    }

    #[test]
    fn trains_are_as_long_as_was_said() {
        let limits = |flags: &str| {
            let words = ["serve"].into_iter().chain(flags.split_whitespace());
            Flags::try_parse_from(words).map(|flags| flags.limits.limits())
        };
        let of = |flags| limits(flags).map(|limits| (limits.gso_segments, limits.gro)).unwrap();
        assert_eq!((of(""), of("--gso-segments 1 --gro off")), ((128, true), (1, false)));
        for wrong in ["--gso-segments 0", "--gso-segments 129", "--gro maybe"] {
            assert!(limits(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_defaults_are_those_of_the_engine() {
        let flags = Flags::parse_from(["serve"]).limits;
        assert_eq!(format!("{:?}", flags.limits()), format!("{:?}", Limits::default()));
        assert_eq!(format!("{:?}", flags.perf()), format!("{:?}", PerfOptions::default()));
        assert_eq!(format!("{:?}", flags.hq()), format!("{:?}", HqOptions::default()));
        assert_eq!(format!("{:?}", flags.http3()), format!("{:?}", Options::default()));
        assert_eq!(format!("{:?}", flags.site()), format!("{:?}", SiteOptions::default()));
        let transport = flags.streams(Transport::default());
        assert_eq!(format!("{transport:?}"), format!("{:?}", Transport::default()));
    }

    #[test]
    fn a_request_may_take_as_long_as_was_said() {
        let flags = Flags::parse_from(["serve", "--request-timeout", "1m30s"]).limits;
        assert_eq!(flags.http3().request_timeout, Duration::from_secs(90));
        for wrong in ["0", "-1s", "soon"] {
            let flag = format!("--request-timeout={wrong}");
            let error = Flags::try_parse_from(["serve", &flag]).unwrap_err().to_string();
            assert!(error.contains("--request-timeout <TIME>"), "{error}");
        }
    }
}
