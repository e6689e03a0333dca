//! text writes the result of a test for people.

use std::fmt;
use std::time::Duration;

use super::phase::PhaseReport;
use super::report::{AbuseReport, CloseLayer, DefenceReport};
use crate::report::LatencyReport;
use crate::tally::Ending;
use crate::text::{group, line, plural, rate, size, time};

impl fmt::Display for DefenceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { defence, target, .. } = self;
        let length = Duration::try_from_secs_f64(self.length_s).unwrap_or_default();
        write!(
            f,
            "defence test {defence} against {target}: {} {}/s for {length:?}",
            group(self.rate),
            defence.unit()
        )?;
        if let Some(abuse) = &self.abuse {
            done(abuse, defence.unit(), f)?;
            came_back(abuse, f)?;
        }
        let probe = &self.probe;
        let phases = [("before", Some(&probe.before)), ("during", probe.during.as_ref())];
        for (name, phase) in phases.into_iter().chain([("after", probe.after.as_ref())]) {
            if let Some(phase) = phase {
                write_phase(name, phase, f)?;
            }
        }
        if let Some(slo) = &self.slo {
            for term in &slo.terms {
                let kept = match term.kept {
                    Some(true) => "kept",
                    Some(false) => "broken",
                    None => "not judged",
                };
                let text = format!("{}: {kept} ({})", term.wanted, term.measured_text());
                line("objective", &text, f)?;
            }
        }
        line("verdict", &self.conclusion(), f)
    }
}

impl DefenceReport {
    /// The verdict, or why there is none.
    fn conclusion(&self) -> String {
        let Some(verdict) = self.verdict else {
            return match (self.ending, self.saturated) {
                (Ending::Interrupted, _) => "none: interrupted",
                (Ending::Complete, true) => {
                    "none: this generator was the bottleneck; give it a lower --rate, or cores or \
                     a machine of its own"
                }
                (Ending::Complete, false) => {
                    "none: nothing failed, but before the abuse something was left unfinished, so \
                     that there is nothing to compare with; give a longer --calm, or see whether \
                     the server is calm when nobody abuses it"
                }
                _ => {
                    "none: no probe was answered before the abuse, which was not begun: see \
                     whether the server answers at all"
                }
            }
            .to_owned();
        };
        match self.recovered {
            Some(true) => format!("{verdict}; afterwards as before"),
            Some(false) => format!("{verdict}; NOT as before afterwards"),
            None => verdict.to_string(),
        }
    }
}

/// What was done.
fn done(abuse: &AbuseReport, unit: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = format!(
        "{} of {} {unit} due, {}/s",
        group(abuse.done),
        group(abuse.due),
        rate(abuse.done_per_s)
    );
    if abuse.held_back > 0 {
        let held_back = group(abuse.held_back);
        text += &format!("; {held_back} held back: no stream or connection free");
    }
    if abuse.is_behind() {
        text += &format!("; {} not kept up with", group(abuse.not_kept_up()));
    }
    line("abuse", &text, f)?;
    let sent = abuse.sent;
    let mut text = format!("{}, {}", plural(sent.datagrams, "datagram"), size(sent.bytes));
    if abuse.not_taken > 0 {
        text += &format!("; {} that this host did not take", group(abuse.not_taken));
    }
    line("sent", &text, f)
}

/// What came back.
fn came_back(abuse: &AbuseReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let back = abuse.received;
    let (datagrams, bytes) = (plural(back.datagrams, "datagram"), size(back.bytes));
    let mut text = format!("{datagrams}, {bytes}");
    if abuse.answers.is_some() {
        text += &format!(": {:.2} x what was sent", abuse.amplification);
    }
    if abuse.amplified {
        text += ", MORE THAN 3 x BEFORE THE ADDRESS WAS VALIDATED (RFC 9000 section 8)";
    }
    line("came back", &text, f)?;
    if let Some(answers) = abuse.answers {
        let text = format!(
            "{} Retry, {} Version Negotiation, {} handshakes begun, {} like stateless resets",
            group(answers.retries),
            group(answers.version_negotiations),
            group(answers.flights),
            group(abuse.stateless_resets)
        );
        line("answers", &text, f)?;
    } else if abuse.stateless_resets > 0 {
        line("resets", &plural(abuse.stateless_resets, "stateless reset"), f)?;
    }
    if let Some(connections) = abuse.connections {
        let text = format!(
            "{} tried, {} opened, {} refused, {} failed, {} open at the end",
            group(connections.tried),
            group(connections.opened),
            group(connections.refused),
            group(connections.failed),
            group(connections.open_at_end)
        );
        line("connected", &text, f)?;
    }
    if let Some(streams) = abuse.streams {
        let mut text = format!("{} opened", group(streams.opened));
        let allowed = [("bidi", streams.allowed_bidi), ("uni", streams.allowed_uni)];
        for (dir, allowed) in allowed.into_iter().filter(|(_, allowed)| *allowed > 0) {
            text += &format!(", {} {dir} allowed on a connection", group(allowed));
        }
        let [ended, open] = [streams.ended_by_server, streams.open_at_end].map(group);
        text += &format!(", {ended} ended by the server, {open} open at the end");
        line("streams", &text, f)?;
    }
    for close in &abuse.closes {
        let layer = match close.layer {
            CloseLayer::Transport => "transport",
            CloseLayer::Application => "application",
        };
        let code = close.code.map(|code| format!("code {code:#x}"));
        let code = code.unwrap_or_else(|| "other codes".into());
        let name = close.name.map(|name| format!(" {name}")).unwrap_or_default();
        line("closed", &format!("{} x {layer} {code}{name}", group(close.count)), f)?;
    }
    for (class, count) in &abuse.ended {
        line("ended", &format!("{} x {class}", group(*count)), f)?;
    }
    Ok(())
}

fn write_phase(name: &str, phase: &PhaseReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let outcome = |ok, failed, unfinished| {
        let unfinished = match unfinished {
            0 => String::new(),
            unfinished => format!(", {} unfinished", group(unfinished)),
        };
        format!("{} ok, {} failed{unfinished}", group(ok), group(failed))
    };
    let PhaseReport { requests_ok, requests_failed, requests_unfinished, .. } = *phase;
    let requests = outcome(requests_ok, requests_failed, requests_unfinished);
    line(name, &format!("requests   {requests}: {}", times(&phase.latency_us)), f)?;
    let PhaseReport { handshakes_ok, handshakes_failed, handshakes_unfinished, .. } = *phase;
    let handshakes = outcome(handshakes_ok, handshakes_failed, handshakes_unfinished);
    line("", &format!("handshakes {handshakes}: {}", times(&phase.handshake_us)), f)?;
    for (class, count) in &phase.errors {
        line("", &format!("{} x {class}", group(*count)), f)?;
    }
    Ok(())
}

fn times(times: &LatencyReport) -> String {
    let LatencyReport { p50, p99, max, .. } = *times;
    if max == 0 {
        return "none measured".into();
    }
    let [p50, p99, max] = [p50, p99, max].map(|us| time(Duration::from_micros(us)));
    format!("p50 {p50}, p99 {p99}, max {max}")
}
