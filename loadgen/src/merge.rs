//! merge adds up the reports of several generators that loaded one server at the same time.
//!
//! Counts are added, distributions are added value by value, and percentiles are those of the sums:
//! a mean of percentiles would be nobody's. Intervals are put beside those of the same time by the
//! clocks of the machines.

use std::collections::BTreeMap;

use crate::packed::Packed;
use crate::partition::Parts;
use crate::report::{
    Detail, ErrorReport, Histograms, IdleReport, LatencyReport, Report, ScheduleReport, UnitCounts,
    gigabits, per_second, round,
};
use crate::series::{INTERVALS_MAX, Interval};
use crate::setup::{Setup, Unit};
use crate::slo::Slo;

/// Why reports are no parts of one run.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MergeError {
    /// Nothing to add.
    #[error("no report to merge: give at least one")]
    Nothing,
    /// Two loads, not two parts of one.
    #[error("reports 1 and {number} are of different loads, and their sum means nothing: {what}")]
    Different {
        /// Which one, counted from 1.
        number: usize,
        /// What differs.
        what: String,
    },
    /// The same report once more.
    #[error("reports {first} and {number} are the same: give each one once")]
    Twice {
        /// The first of the two, counted from 1.
        first: usize,
        /// The other one.
        number: usize,
    },
    /// Too far apart.
    #[error(
        "report {number} begins {apart_s} s after the first one, more than {INTERVALS_MAX} \
         intervals: merge runs of one time, or set the clocks of the machines"
    )]
    Apart {
        /// Which one, counted from 1.
        number: usize,
        /// How long after.
        apart_s: u64,
    },
}

impl Report {
    /// The sum of the reports of generators that ran at the same time, held against `slo`.
    ///
    /// # Errors
    /// When they cannot have been one run.
    pub fn merge(reports: Vec<Self>, slo: Option<&Slo>) -> Result<Self, MergeError> {
        let count = reports.len();
        let earliest = reports.iter().map(|of| of.started_unix_ms).min().unwrap_or_default();
        let latest_end_s = reports.iter().map(|of| of.end_s(earliest)).fold(0.0, f64::max);
        let overlap_s = overlap_s(&reports, earliest);
        let saturated = reports.iter().filter(|report| report.saturated).count();
        for (number, report) in (1..).zip(&reports) {
            check(&reports[0], report, number)?;
            let apart_ms = report.started_unix_ms - earliest;
            let intervals =
                apart_ms as f64 / 1e3 / report.interval_s + report.intervals.len() as f64;
            if intervals.round() > INTERVALS_MAX as f64 {
                return Err(MergeError::Apart { number, apart_s: apart_ms / 1_000 });
            }
        }
        check_once(&reports)?;
        check_parts(&reports)?;
        let mut parts = reports.into_iter();
        let mut sum = parts.next().ok_or(MergeError::Nothing)?;
        sum.intervals = aligned(&sum, earliest);
        for part in parts {
            sum.add(part, earliest);
        }
        sum.started_unix_ms = earliest;
        sum.duration_s = round(latest_end_s, 6);
        sum.complete();
        sum.detail = Detail::default();
        if count > 1 && overlap_s < sum.duration_s * OVERLAP_MIN {
            sum.detail.notes.push(format!(
                "the runs were under way together for {overlap_s:.1} of {:.1} s: rates are those \
                 of the whole time",
                sum.duration_s
            ));
        }
        if saturated > 0 {
            sum.detail.notes.push(format!(
                "{saturated} of {count} generators were at their limits: see their reports"
            ));
        }
        let missing = sum.setup.partition.as_ref().map(Parts::missing).unwrap_or_default();
        if !missing.is_empty() {
            let of = sum.setup.partition.as_ref().map_or(0, |parts| parts.of);
            let missing: Vec<String> = missing.iter().map(u64::to_string).collect();
            let missing = missing.join(", ");
            sum.detail.notes.push(format!("of {of} parts of the run these are missing: {missing}"));
        }
        sum.slo = slo.map(|slo| slo.judge(&sum));
        Ok(sum)
    }

    /// When it ended, in seconds since `earliest`.
    fn end_s(&self, earliest: u64) -> f64 {
        (self.started_unix_ms - earliest) as f64 / 1e3 + self.duration_s
    }

    /// Adds what can be added; [`complete`](Self::complete) does the rest.
    #[expect(clippy::too_many_lines, reason = "half of them are the list of all fields")]
    fn add(&mut self, other: Self, earliest: u64) {
        let others = aligned(&other, earliest);
        // Every field, so that a new one is not forgotten.
        let Self {
            schema: _,
            ok,
            duration_s: _,
            requests,
            requests_per_s: _,
            errors,
            handshakes,
            handshakes_per_s,
            bytes_down,
            bytes_up,
            gbit_s: _,
            stateless_resets,
            reconnects,
            early_data,
            ending,
            counts,
            connecting_s,
            busy,
            setup,
            status,
            ttfb_us: _,
            goaways,
            migrations,
            key_updates,
            latency_us: _,
            service_us: _,
            handshake_us: _,
            schedule,
            stream_limit,
            quic,
            datagrams,
            saturated,
            io,
            histograms,
            started_unix_ms: _,
            interval_s: _,
            intervals: _,
            slo: _,
            idle,
            detail: _,
        } = other;
        self.ok &= ok;
        self.requests += requests;
        add_errors(&mut self.errors, errors);
        self.handshakes += handshakes;
        self.handshakes_per_s += handshakes_per_s;
        self.bytes_down += bytes_down;
        self.bytes_up += bytes_up;
        self.stateless_resets += stateless_resets;
        self.reconnects += reconnects;
        self.early_data.sent += early_data.sent;
        self.early_data.accepted += early_data.accepted;
        self.ending = self.ending.max(ending);
        let UnitCounts { requests, handshakes } = counts;
        self.counts.requests.add(requests);
        self.counts.handshakes.add(handshakes);
        self.connecting_s = self.connecting_s.max(connecting_s);
        self.busy = match (self.busy, busy) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        add_setup(&mut self.setup, &setup);
        if let (Some(own), Some(status)) = (&mut self.status, status) {
            add_classes(own, status);
        }
        self.goaways = self.goaways.zip(goaways).map(|(a, b)| a + b);
        self.migrations = self.migrations.zip(migrations).map(|(a, b)| a + b);
        self.key_updates = self.key_updates.zip(key_updates).map(|(a, b)| a + b);
        if let (Some(own), Some(schedule)) = (&mut self.schedule, schedule) {
            let ScheduleReport { due, due_per_s: _, sent, sent_per_s: _, not_sent, lag_us: _ } =
                schedule;
            own.due += due;
            own.sent += sent;
            own.not_sent += not_sent;
        }
        match (&mut self.stream_limit, stream_limit) {
            (Some(own), Some(limit)) => own.add(limit),
            (own, limit) => *own = own.or(limit),
        }
        self.quic.add(&quic);
        if let (Some(own), Some(datagrams)) = (&mut self.datagrams, datagrams) {
            own.add(datagrams);
        }
        self.saturated |= saturated;
        if !self.io.split(", ").any(|known| known == io) {
            self.io = format!("{}, {io}", self.io);
        }
        add_histograms(&mut self.histograms, &histograms);
        add_intervals(&mut self.intervals, others);
        if let (Some(own), Some(idle)) = (&mut self.idle, idle) {
            add_idle(own, idle);
        }
    }

    /// Computes again what follows from sums.
    fn complete(&mut self) {
        let seconds = self.duration_s;
        let times = |packed: &Packed| LatencyReport::new(&packed.histogram());
        self.requests_per_s = per_second(self.counts.requests.ok, seconds);
        self.handshakes_per_s = match self.setup.unit {
            Unit::Handshakes => per_second(self.counts.handshakes.ok, seconds),
            // The connect phases were under way together.
            Unit::Requests | Unit::Connections | Unit::Datagrams => round(self.handshakes_per_s, 1),
        };
        self.gbit_s = gigabits(self.bytes_down + self.bytes_up, seconds);
        let Histograms { latency, service, ttfb, handshake, lag, rtt, outage } = &self.histograms;
        self.latency_us = times(latency);
        self.service_us = times(service);
        self.handshake_us = times(handshake);
        self.ttfb_us = ttfb.as_ref().map(times);
        self.quic.rtt_us = rtt.as_ref().map(times).unwrap_or_default();
        if let Some(datagrams) = &mut self.datagrams {
            datagrams.complete(self.service_us);
        }
        if let Some(schedule) = &mut self.schedule {
            schedule.due_per_s = per_second(schedule.due, seconds);
            schedule.sent_per_s = per_second(schedule.sent, seconds);
            schedule.lag_us = lag.as_ref().map(times).unwrap_or_default();
        }
        if let (Some(idle), Some(outage)) = (&mut self.idle, outage) {
            idle.outage_us = times(outage);
        }
        let last = self.intervals.len().saturating_sub(1);
        for interval in &mut self.intervals[..last] {
            interval.length_s = self.interval_s;
        }
    }
}

/// Refuses what cannot be a part of the same run.
fn check(first: &Report, other: &Report, number: usize) -> Result<(), MergeError> {
    let different = |what: String| Err(MergeError::Different { number, what });
    let (a, b) = (&first.setup, &other.setup);
    if (&a.workload, a.unit) != (&b.workload, b.unit) {
        return different(format!("workload: {} and {}", a.workload, b.workload));
    }
    if first.interval_s != other.interval_s {
        let (a, b) = (first.interval_s, other.interval_s);
        return different(format!("intervals of {a} s and {b} s"));
    }
    if let Some(what) = a.settings_that_differ(b).into_iter().next() {
        return different(what);
    }
    for (what, a, b) in [
        ("a schedule", first.schedule.is_some(), other.schedule.is_some()),
        ("statuses", first.status.is_some(), other.status.is_some()),
        ("datagrams", first.datagrams.is_some(), other.datagrams.is_some()),
        ("idle connections", first.idle.is_some(), other.idle.is_some()),
        ("handshake counts", first.goaways.is_some(), other.goaways.is_some()),
        ("migrations", first.migrations.is_some(), other.migrations.is_some()),
        ("key updates", first.key_updates.is_some(), other.key_updates.is_some()),
    ] {
        if a != b {
            return different(format!("only one of them has {what}"));
        }
    }
    Ok(())
}

/// Refuses a report that is there twice: no two generators see the same to the nanosecond.
fn check_once(reports: &[Report]) -> Result<(), MergeError> {
    let same = |a: &Report, b: &Report| {
        let is_empty = a.histograms.latency.is_empty();
        !is_empty && a.started_unix_ms == b.started_unix_ms && a.histograms == b.histograms
    };
    for (at, report) in reports.iter().enumerate() {
        if let Some(first) = reports[..at].iter().position(|other| same(other, report)) {
            return Err(MergeError::Twice { first: first + 1, number: at + 1 });
        }
    }
    Ok(())
}

/// Refuses a part that is there twice, and parts of different runs.
fn check_parts(reports: &[Report]) -> Result<(), MergeError> {
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    for (number, report) in (1..).zip(reports) {
        let Some(Parts { of, parts }) = &report.setup.partition else { continue };
        for part in parts {
            let what = match seen.insert(*part, *of) {
                Some(_) => format!("part {part} of {of} is there twice"),
                None if seen.values().any(|other| other != of) => {
                    format!("part {part} of {of} is one of another number of parts")
                }
                None => continue,
            };
            return Err(MergeError::Different { number, what });
        }
    }
    Ok(())
}

/// How long all of them were under way.
fn overlap_s(reports: &[Report], earliest: u64) -> f64 {
    let starts = reports.iter().map(|of| (of.started_unix_ms - earliest) as f64 / 1e3);
    let ends = reports.iter().map(|of| of.end_s(earliest));
    (ends.fold(f64::INFINITY, f64::min) - starts.fold(0.0, f64::max)).max(0.0)
}

/// The intervals of a report, with as many empty ones before them as it began late.
fn aligned(report: &Report, earliest: u64) -> Vec<Interval> {
    let length_s = report.interval_s;
    let late_s = (report.started_unix_ms - earliest) as f64 / 1e3;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
    let late = (late_s / length_s).round() as usize;
    let empty = Interval {
        length_s,
        open: report.schedule.map(|_| Default::default()),
        service: report.schedule.map(|_| Packed::default()),
        ..Interval::default()
    };
    let all = std::iter::repeat_n(&empty, late).chain(&report.intervals);
    let placed = |(at, interval): (u32, &Interval)| Interval {
        start_s: round(f64::from(at) * length_s, 6),
        ..interval.clone()
    };
    (0..).zip(all).map(placed).collect()
}

fn add_intervals(own: &mut Vec<Interval>, others: Vec<Interval>) {
    for (at, interval) in others.into_iter().enumerate() {
        match own.get_mut(at) {
            Some(own) => own.add(&interval),
            None => own.push(interval),
        }
    }
}

fn add_errors(own: &mut ErrorReport, other: ErrorReport) {
    own.total += other.total;
    add_classes(&mut own.by_class, other.by_class);
}

fn add_classes(own: &mut BTreeMap<String, u64>, other: BTreeMap<String, u64>) {
    for (class, count) in other {
        *own.entry(class).or_default() += count;
    }
}

fn add_setup(own: &mut Setup, other: &Setup) {
    own.connections += other.connections;
    own.streams = own.streams.max(other.streams);
    own.workers += other.workers;
    own.partition = match (own.partition.take(), &other.partition) {
        (Some(mut own), Some(other)) => {
            own.parts.extend(&other.parts);
            own.parts.sort_unstable();
            Some(own)
        }
        // What is no part says nothing of which are there.
        _ => None,
    };
    if own.stop != other.stop {
        own.stop = format!("{}, {}", own.stop, other.stop);
    }
}

fn add_histograms(own: &mut Histograms, other: &Histograms) {
    let Histograms { latency, service, ttfb, handshake, lag, rtt, outage } = other;
    own.latency.add(latency);
    own.service.add(service);
    own.handshake.add(handshake);
    for (own, other) in
        [(&mut own.ttfb, ttfb), (&mut own.lag, lag), (&mut own.rtt, rtt), (&mut own.outage, outage)]
    {
        if let Some(other) = other {
            own.get_or_insert_default().add(other);
        }
    }
}

fn add_idle(own: &mut IdleReport, other: IdleReport) {
    let IdleReport {
        connections,
        opened,
        opening_s,
        held,
        lost,
        lost_by_class,
        back_s,
        lost_at_s,
        outage_us: _,
    } = other;
    own.connections += connections;
    own.opened += opened;
    own.opening_s = own.opening_s.max(opening_s);
    own.held += held;
    // All are back when those of each part are.
    let is_gone = |lost: u64, back_s: Option<f64>| lost > 0 && back_s.is_none();
    if is_gone(own.lost, own.back_s) || is_gone(lost, back_s) {
        (own.back_s, own.lost_at_s) = (None, None);
    } else if own.back_s < back_s {
        (own.back_s, own.lost_at_s) = (back_s, lost_at_s);
    }
    own.lost += lost;
    add_classes(&mut own.lost_by_class, lost_by_class);
}

/// Runs that were under way together for less of the time are worth a note.
const OVERLAP_MIN: f64 = 0.9;

#[cfg(test)]
mod tests;
