//! limits say what a cell may have of everything that is watched. What is beyond makes its block
//! void, unless it is what the arm does: see `fitness`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Workload;

/// What is watched during each cell.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Guard {
    /// Share of the CPU time that the hypervisor gave to others.
    Steal,
    /// Share of the CPU time that other processes of this host took.
    Others,
    /// Share of the CPU time in softirq.
    Softirq,
    /// Share of the UDP datagrams that a full socket or a bad checksum dropped.
    Drops,
    /// Packets that a full queue of a CPU dropped (softnet), a second.
    Backlog,
    /// Share of the time in which the generator had no time to wait: 1, it was the bottleneck.
    Generator,
    /// Share of the requests that failed.
    Errors,
    /// The hottest sensor, degrees Celsius.
    Temperature,
}

impl Guard {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Steal,
        Self::Others,
        Self::Softirq,
        Self::Drops,
        Self::Backlog,
        Self::Generator,
        Self::Errors,
        Self::Temperature,
    ];

    /// As `--guard` takes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steal => "steal",
            Self::Others => "others",
            Self::Softirq => "softirq",
            Self::Drops => "drops",
            Self::Backlog => "backlog",
            Self::Generator => "generator",
            Self::Errors => "errors",
            Self::Temperature => "temperature",
        }
    }

    /// The most that is fine, unless somebody says otherwise.
    #[must_use]
    pub const fn default_limit(self) -> f64 {
        match self {
            // What a neighbour takes of one core is missing in one cell and not in the next.
            Self::Steal => 0.02,
            // A background job of a tenth of the host already moves a cell by a few percent.
            Self::Others => 0.10,
            // Beyond, hardly anything else runs, and small differences decide who does.
            Self::Softirq => 0.75,
            // One in a thousand, and congestion control is what is measured.
            Self::Drops => 0.001,
            Self::Backlog => 0.0,
            // A generator that never waits measures itself.
            Self::Generator => 0.99,
            Self::Errors => 0.001,
            // Where most processors begin to slow down.
            Self::Temperature => 90.0,
        }
    }

    /// Whether it is a share, and printed in percent.
    #[must_use]
    pub const fn is_share(self) -> bool {
        !matches!(self, Self::Backlog | Self::Temperature)
    }

    /// Whether no setting does it: somebody else is on the host, or it is hot.
    pub(super) const fn is_of_the_host(self) -> bool {
        matches!(self, Self::Steal | Self::Others | Self::Temperature)
    }

    /// Whether it is expected in `workload`, and void of meaning there.
    const fn belongs_to(self, workload: Workload) -> bool {
        // More is offered than can be taken: that is the point.
        matches!(workload, Workload::Overload)
            && matches!(self, Self::Drops | Self::Backlog | Self::Errors | Self::Softirq)
    }

    /// A reading or limit for people.
    #[must_use]
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Temperature => format!("{value:.0} C"),
            Self::Backlog => format!("{value:.0}/s"),
            _ => format!("{:.1} %", value * 100.0),
        }
    }
}

/// The most that is fine, by guard.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Limits(pub BTreeMap<Guard, f64>);

impl Default for Limits {
    fn default() -> Self {
        Self(Guard::ALL.map(|guard| (guard, guard.default_limit())).into())
    }
}

/// A reading beyond its limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Breach {
    /// Which one.
    pub guard: Guard,
    /// What was read.
    pub found: f64,
}

impl Limits {
    /// What in `readings` is beyond its limit. What could not be read holds nothing up.
    #[must_use]
    pub fn breaches(&self, readings: &BTreeMap<Guard, f64>, workload: Workload) -> Vec<Breach> {
        let beyond = |(guard, found): (&Guard, &f64)| {
            let limit = self.0.get(guard)?;
            let is_beyond = *found > *limit && !guard.belongs_to(workload);
            is_beyond.then_some(Breach { guard: *guard, found: *found })
        };
        readings.iter().filter_map(beyond).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_guard_has_a_limit_and_breaks_above_it() {
        let limits = Limits::default();
        for guard in Guard::ALL {
            let limit = guard.default_limit();
            let at = |value| limits.breaches(&[(guard, value)].into(), Workload::Requests);
            assert!(at(limit).is_empty(), "{guard:?}");
            assert_eq!(at(limit + 0.5), [Breach { guard, found: limit + 0.5 }]);
        }
        assert!(limits.breaches(&BTreeMap::new(), Workload::Bulk).is_empty(), "not readable");
    }

    #[test]
    fn overload_drops() {
        let readings = [(Guard::Drops, 0.4), (Guard::Errors, 0.4), (Guard::Steal, 0.4)].into();
        let breaches = Limits::default().breaches(&readings, Workload::Overload);
        assert_eq!(breaches, [Breach { guard: Guard::Steal, found: 0.4 }]);
    }
}
