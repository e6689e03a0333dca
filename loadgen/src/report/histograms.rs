//! histograms are the whole distributions behind the percentiles.

use serde::{Deserialize, Serialize};

use crate::config::{LoadConfig, Workload};
use crate::packed::Packed;
use crate::tally::Tally;

/// Whole distributions, in nanoseconds.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Histograms {
    /// That of `latency_us`.
    pub latency: Packed,
    /// That of `service_us`.
    pub service: Packed,
    /// That of `ttfb_us`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttfb: Option<Packed>,
    /// That of `handshake_us`.
    pub handshake: Packed,
    /// That of `lag_us`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<Packed>,
    /// That of `quic.rtt_us`; absent in reports of versions that did not count it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt: Option<Packed>,
    /// That of `outage_us`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outage: Option<Packed>,
}

impl Histograms {
    pub(super) fn new(config: &LoadConfig, tally: &Tally) -> Self {
        let is_open = config.is_open_loop();
        let is_http = config.workload == Workload::Http;
        let service = if is_open { &tally.service } else { &tally.latency };
        Self {
            latency: Packed::new(&tally.latency),
            service: Packed::new(service),
            ttfb: is_http.then(|| Packed::new(&tally.first_byte)),
            handshake: Packed::new(&tally.handshake_times),
            outage: config.workload.is_idle().then(|| Packed::new(&tally.outages)),
            rtt: Some(Packed::new(&tally.rtt)),
            lag: is_open.then(|| Packed::new(&tally.lag)),
        }
    }
}
