//! text writes a report for people: one line per quantity, numbers in columns.

use std::fmt::{self, Write};
use std::time::Duration;

use crate::report::{IdleReport, LatencyReport, Report, SATURATED, ScheduleReport};
use crate::setup::Unit;
use crate::tally::{ClassCount, Counts, EarlyData};

/// Writes `report`, without a newline at the end.
pub(crate) fn write(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let detail = &report.detail;
    let is_handshakes = report.setup.unit == Unit::Handshakes;
    headline(report, f)?;
    if let Some(idle) = &report.idle {
        held(report, idle, f)?;
    } else if is_handshakes {
        counts("handshakes", report.counts.handshakes, report.handshakes_per_s, f)?;
        if let Some(of) = &report.schedule {
            schedule(of, f)?;
        }
    } else if let Some(datagrams) = &report.datagrams {
        line("datagrams", &datagrams.to_string(), f)?;
        if let Some(of) = &report.schedule {
            schedule(of, f)?;
        }
        bytes(report, f)?;
        connections(report, f)?;
    } else {
        counts("requests", report.counts.requests, report.requests_per_s, f)?;
        if let Some(of) = &report.schedule {
            schedule(of, f)?;
        }
        bytes(report, f)?;
        connections(report, f)?;
    }
    if let Some(status) = &report.status {
        let counts = status.iter().filter(|(_, count)| **count > 0);
        let text: Vec<String> =
            counts.map(|(class, count)| format!("{class} {}", group(*count))).collect();
        let text = if text.is_empty() { "none complete".to_owned() } else { text.join("   ") };
        line("status", &format!("     {text}"), f)?;
    }
    if let Some(first) = &report.ttfb_us {
        latency("first byte", first, f)?;
    }
    let is_handshake = report.setup.unit.is_handshakes();
    let what = match report.datagrams {
        Some(_) => "delay",
        None if is_handshake => "handshake",
        None => "latency",
    };
    latency(what, &report.latency_us, f)?;
    if report.schedule.is_some() && report.datagrams.is_none() {
        latency("service", &report.service_us, f)?;
    }
    if !is_handshake {
        latency("handshake", &report.handshake_us, f)?;
    }
    transport(report, f)?;
    if let Some(busy) = report.busy {
        let verdict = match (report.saturated, busy > SATURATED) {
            (false, _) => "not saturated",
            (true, true) => "saturated",
            (true, false) => "late",
        };
        line("generator", &format!("{:>15.0} % busy  {verdict}", busy * 100.0), f)?;
    }
    failures(report, f)?;
    if let Some(slo) = &report.slo {
        write!(f, "\n{slo}")?;
    }
    for note in &detail.notes {
        write!(f, "\nnote: {note}")?;
    }
    Ok(())
}

/// What QUIC went through, and what was done to connections.
fn transport(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if report.quic.connections > 0 {
        latency("rtt", &report.quic.rtt_us, f)?;
        line("quic", &report.quic.to_string(), f)?;
    }
    if let Some(limit) = &report.stream_limit {
        line("streams", &format!("     {limit}"), f)?;
    }
    if let Some(migrations) = report.migrations {
        line("migrations", &format!("{:>15} to another socket", group(migrations)), f)?;
    }
    if let Some(updates) = report.key_updates {
        line("new keys", &format!("{:>15} key updates", group(updates)), f)?;
    }
    Ok(())
}

/// What failed, by class.
fn failures(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let detail = &report.detail;
    classes("requests failed", &detail.request_errors, f)?;
    classes("handshakes failed", &detail.handshake_errors, f)?;
    classes("idle connections lost", &detail.idle_losses, f)?;
    classes("not done to connections", &detail.upkeep_errors, f)?;
    let known = [
        &detail.request_errors,
        &detail.handshake_errors,
        &detail.idle_losses,
        &detail.upkeep_errors,
    ];
    if known.into_iter().all(Vec::is_empty) {
        // A report that was read does not know which is which.
        let by_class = report.errors.by_class.iter();
        let classes: Vec<String> =
            by_class.map(|(class, count)| format!("\n  {:>15} {class}", group(*count))).collect();
        if !classes.is_empty() {
            write!(f, "\nfailed:{}", classes.concat())?;
        }
    }
    Ok(())
}

fn headline(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let setup = &report.setup;
    let (connections, streams) = (setup.connections, setup.streams);
    f.write_str(&setup.workload)?;
    match setup.unit {
        Unit::Connections => write!(f, ", {} asked for", group(connections))?,
        Unit::Handshakes => {
            let most = if report.schedule.is_some() { "up to " } else { "" };
            write!(f, ", {most}{} in flight", group(connections))?;
        }
        Unit::Datagrams => write!(f, ", {}", plural(connections, "connection"))?,
        Unit::Requests => {
            let streams = plural(u64::from(streams), "stream");
            let most = if report.schedule.is_some() { "up to " } else { "" };
            write!(f, ", {} x {most}{streams}", plural(connections, "connection"))?;
        }
    }
    let workers = plural(setup.workers, "worker");
    write!(f, ", {workers} on {}, measured for {:.2} s", report.io, report.duration_s)
}

fn counts(what: &str, counts: Counts, per_s: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let Counts { started: _, ok, failed, cancelled } = counts;
    let mut text =
        format!("{:>15} ok    {:>13}/s    {} failed", group(ok), rate(per_s), group(failed));
    if cancelled > 0 {
        write!(text, ", {} cancelled at the end", group(cancelled))?;
    }
    line(what, &text, f)
}

fn schedule(schedule: &ScheduleReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let ScheduleReport { due, due_per_s, sent_per_s, not_sent, .. } = *schedule;
    let mut text = format!(
        "{:>15} due   {:>13}/s    {}/s sent",
        group(due),
        rate(due_per_s),
        rate(sent_per_s)
    );
    if not_sent > 0 {
        write!(text, ", {} not sent", group(not_sent))?;
    }
    line("schedule", &text, f)?;
    latency("lag", &schedule.lag_us, f)
}

fn held(report: &Report, idle: &IdleReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let handshakes = report.counts.handshakes;
    let text = format!(
        "{:>15} in {}    {:>13}/s    {} failed",
        group(idle.opened),
        time(seconds(report.connecting_s)),
        rate(report.handshakes_per_s),
        group(handshakes.failed),
    );
    line("opened", &text, f)?;
    line("held", &format!("{:>15} at the end", group(idle.held)), f)?;
    if idle.lost == 0 {
        return Ok(());
    }
    let resets = group(report.stateless_resets);
    line("lost", &format!("{:>15}, {resets} by stateless reset", group(idle.lost)), f)?;
    let mut text = format!("{:>15}", group(report.reconnects));
    if let Some(seconds) = idle.back_s {
        let back = time(self::seconds(seconds));
        write!(text, ", all back {back} after the first loss")?;
    }
    line("replaced", &text, f)?;
    if report.reconnects > 0 { latency("outage", &idle.outage_us, f) } else { Ok(()) }
}

fn bytes(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (what, bytes) in [("down", report.bytes_down), ("up", report.bytes_up)] {
        if bytes > 0 {
            let mib_s = bytes as f64 / f64::from(1 << 20) / report.duration_s.max(1e-9);
            let gbit_s = bytes as f64 * 8.0 / 1e9 / report.duration_s.max(1e-9);
            let size = size(bytes);
            line(what, &format!("{size:>18}    {mib_s:>9.1} MiB/s   {gbit_s:.3} Gbit/s"), f)?;
        }
    }
    Ok(())
}

fn connections(report: &Report, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let handshakes = report.counts.handshakes;
    let mut text = format!(
        "{:>15} ok    {:>13}/s    {} failed, first ones in {}",
        group(handshakes.ok),
        rate(report.handshakes_per_s),
        group(handshakes.failed),
        time(seconds(report.connecting_s)),
    );
    if report.reconnects > 0 || report.stateless_resets > 0 {
        let (reconnects, resets) = (group(report.reconnects), group(report.stateless_resets));
        write!(text, ", {reconnects} reconnects, {resets} stateless resets")?;
    }
    if let Some(goaways) = report.goaways.filter(|goaways| *goaways > 0) {
        write!(text, ", {} ended by GOAWAY", group(goaways))?;
    }
    line("handshakes", &text, f)?;
    let EarlyData { sent, accepted } = report.early_data;
    if sent > 0 {
        let text = format!("{:>15} sent  {:>15} accepted", group(sent), group(accepted));
        line("0-RTT", &text, f)?;
    }
    Ok(())
}

fn latency(what: &str, times: &LatencyReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let LatencyReport { p50, p90, p99, p999, p9999, p99999, max } = *times;
    if max == 0 {
        return line(what, "     none measured", f);
    }
    let mut times = vec![("p50", p50), ("p90", p90), ("p99", p99), ("p99.9", p999)];
    // Of few times these are the longest one, which is there anyway.
    times.extend([("p99.99", p9999), ("p99.999", p99999)].iter().filter(|(_, us)| *us < max));
    times.push(("max", max));
    let times = times.into_iter();
    let text: Vec<String> =
        times.map(|(name, us)| format!("{name} {}", time(Duration::from_micros(us)))).collect();
    let text = text.join("   ");
    line(what, &format!("     {text}"), f)
}

fn classes(what: &str, classes: &[ClassCount], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if classes.is_empty() {
        return Ok(());
    }
    write!(f, "\n{what}:")?;
    for ClassCount { class, count, example } in classes {
        write!(f, "\n  {:>15} {class}", group(*count))?;
        // Some classes say it all.
        if let Some(example) = example.as_ref().filter(|text| **text != class.replace('_', " ")) {
            write!(f, "  (first: {example})")?;
        }
    }
    Ok(())
}

pub(crate) fn line(what: &str, text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "\n{what:<11}{text}")
}

/// A number with its thousands set apart: 1234567 as `1,234,567`.
#[must_use]
pub fn group(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// A rate, with a decimal only where it matters.
pub(crate) fn rate(per_s: f64) -> String {
    if per_s < 100.0 {
        return format!("{per_s:.1}");
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a positive rate far below 2^64"
    )]
    group(per_s.round() as u64)
}

pub(crate) fn plural(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", group(count), if count == 1 { "" } else { "s" })
}

/// Bytes in binary units.
pub(crate) fn size(bytes: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if bytes >= 1 << shift {
            let value = bytes as f64 / (1_u64 << shift) as f64;
            let decimals = if bytes.trailing_zeros() >= shift { 0 } else { 2 };
            return format!("{value:.decimals$} {unit}");
        }
    }
    format!("{bytes} B")
}

/// The same of nanoseconds.
#[must_use]
pub fn nanoseconds(ns: u64) -> String {
    time(Duration::from_nanos(ns))
}

/// A time with three significant digits or so, in the unit that suits it.
pub(crate) fn time(time: Duration) -> String {
    let us = time.as_secs_f64() * 1e6;
    match us {
        0.0..1_000.0 => format!("{us:.0} us"),
        1_000.0..10_000.0 => format!("{:.2} ms", us / 1e3),
        10_000.0..1_000_000.0 => format!("{:.1} ms", us / 1e3),
        _ => format!("{:.2} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(group(0), "0");
        assert_eq!(group(999), "999");
        assert_eq!(group(1_000), "1,000");
        assert_eq!(group(1_234_567), "1,234,567");
        assert_eq!(rate(99.94), "99.9");
        assert_eq!(rate(12_345.6), "12,346");
    }

    #[test]
    fn sizes_and_times_use_the_unit_that_suits() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1_024), "1 KiB");
        assert_eq!(size(1_536), "1.50 KiB");
        assert_eq!(size(5 << 30), "5 GiB");
        assert_eq!(time(Duration::from_micros(87)), "87 us");
        assert_eq!(time(Duration::from_micros(1_234)), "1.23 ms");
        assert_eq!(time(Duration::from_millis(45)), "45.0 ms");
        assert_eq!(time(Duration::from_secs(3)), "3.00 s");
        assert_eq!(plural(1, "stream"), "1 stream");
        assert_eq!(plural(2_000, "stream"), "2,000 streams");
    }
}
