//! idle is what became of connections that were only held.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{LatencyReport, round};
use crate::config::LoadConfig;
use crate::read::few_names;
use crate::tally::{Span, Tally};

/// Connections that were only held.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[non_exhaustive]
pub struct IdleReport {
    /// How many were asked for.
    pub connections: u64,
    /// How many the first attempts opened.
    pub opened: u64,
    /// From the first attempt to the end of the last connection's first attempt, in seconds.
    pub opening_s: f64,
    /// How many were open when the run ended.
    pub held: u64,
    /// How many ended in mid-run.
    pub lost: u64,
    /// How many of them in which way.
    #[serde(deserialize_with = "few_names")]
    pub lost_by_class: BTreeMap<String, u64>,
    /// The longest time for which connections were missing: from the first loss until the last
    /// one was re-established, in seconds. `None` when none was or not all are.
    pub back_s: Option<f64>,
    /// From the first attempt to the first loss of `back_s`, in seconds. `None` as there.
    pub lost_at_s: Option<f64>,
    /// From the loss of a connection until its successor was open.
    pub outage_us: LatencyReport,
}

impl IdleReport {
    pub(super) fn new(config: &LoadConfig, tally: &Tally) -> Self {
        let lost = tally.idle_losses.clone().sorted();
        let seconds = |span: Span| round(span.length().as_secs_f64(), 6);
        let absent = tally.absent.filter(|_| tally.missing == 0);
        let lost_at = absent
            .zip(tally.connecting)
            .map(|(absent, opening)| seconds(Span { from: opening.from, to: absent.from }));
        Self {
            connections: config.connections as u64,
            opened: tally.opened_first,
            opening_s: tally.connecting.map_or(0.0, seconds),
            held: tally.held,
            lost: tally.idle_losses.total(),
            lost_by_class: lost
                .into_iter()
                .map(|class| (class.class.to_owned(), class.count))
                .collect(),
            back_s: absent.map(seconds),
            lost_at_s: lost_at,
            outage_us: LatencyReport::new(&tally.outages),
        }
    }
}
