//! text writes the result of a test for people.

use std::fmt;
use std::time::Duration;

use super::Kind;
use super::ending::DefenceEnding;
use super::phase::PhaseReport;
use super::report::{AbuseReport, CloseLayer, DefenceReport, ProbeReport};
use crate::report::LatencyReport;
use crate::text::{group, line, plural, rate, size, time};

impl fmt::Display for DefenceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { defence, target, .. } = self;
        if let Some(why) = self.invalid() {
            writeln!(f, "INVALID: {why}")?;
        }
        let length = Duration::try_from_secs_f64(self.length_s).unwrap_or_default();
        write!(
            f,
            "defence test {defence} against {target}: {} {}/s for {length:?}",
            group(self.rate),
            defence.unit()
        )?;
        if let Some(abuse) = &self.abuse {
            done(abuse, *defence, f)?;
            came_back(abuse, f)?;
        }
        for (name, phase) in self.phases() {
            write_phase(name, phase, f)?;
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
    /// The parts that were seen.
    fn phases(&self) -> impl Iterator<Item = (&'static str, &PhaseReport)> {
        let ProbeReport { before, during, after } = &self.probe;
        let later = [("during", during.as_ref()), ("after", after.as_ref())];
        let later = later.into_iter().filter_map(|(name, phase)| Some((name, phase?)));
        std::iter::once(("before", before)).chain(later)
    }

    /// Why times are the generator's own as much as the server's, and what helps; `None`: they are
    /// not, or nobody asks because the abuse was not begun.
    fn invalid(&self) -> Option<String> {
        if !self.saturated || self.ending.is_unbegun() {
            return None;
        }
        let mut why = Vec::new();
        if let Some(abuse) = self.abuse.as_ref().filter(|abuse| abuse.is_behind()) {
            let (missing, due) = (group(abuse.not_kept_up()), group(abuse.due));
            why.push(format!("{missing} of {due} {} were not kept up with", self.defence.unit()));
        }
        let is_late = !why.is_empty();
        for (name, phase) in self.phases().filter(|(_, phase)| phase.saturated) {
            let [p90, max] = [phase.lag_us.p90, phase.lag_us.max].map(Duration::from_micros);
            let busy = phase.busy.map(|busy| format!(", busy for {:.0} % of the time", busy * 1e2));
            why.push(format!(
                "the probe of {name:?} was late by itself (p90 {}, max {}{})",
                time(p90),
                time(max),
                busy.unwrap_or_default()
            ));
        }
        let remedy = if is_late { "a lower --rate, or " } else { "" };
        let why = why.join("; ");
        Some(format!("{why}: give this generator {remedy}cores or a machine of its own"))
    }

    /// The verdict, or why there is none.
    fn conclusion(&self) -> String {
        let Some(verdict) = self.verdict else {
            return match self.ending {
                DefenceEnding::Interrupted => "none: interrupted",
                DefenceEnding::Complete if self.left_nothing_lying() => {
                    "none: nothing was left lying, because the responses fit in the window of \
                     16 KiB; give a larger PATH (with --perf, a larger --response-size)"
                }
                DefenceEnding::Complete if self.saturated => {
                    "none: nothing failed, but the times are this generator's own as much as the \
                     server's"
                }
                DefenceEnding::Complete => {
                    "none: nothing failed, but before the abuse something was left unfinished, so \
                     that there is nothing to compare with; give a longer --calm, or see whether \
                     the server is calm when nobody abuses it"
                }
                DefenceEnding::NothingConnected => {
                    "none: no probe was connected before the abuse, which was not begun: see \
                     whether the server is there at all"
                }
                DefenceEnding::NothingAnswered => {
                    "none: probes were connected before the abuse, but none was answered as it \
                     should be, and it was not begun: see the errors above, and give a URL that \
                     the server answers (the probe's own with --probe-url)"
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
fn done(abuse: &AbuseReport, kind: Kind, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let unit = kind.unit();
    let mut text = format!("{} of {} {unit} due", group(abuse.done), group(abuse.due));
    if matches!(kind, Kind::Churn | Kind::HandshakeAbandon) {
        text += " begun";
    }
    if let Some(connections) = abuse.connections.filter(|_| kind == Kind::Churn) {
        text += &format!(", {} completed", group(connections.opened));
    }
    text += &format!(", {}/s", rate(abuse.done_per_s));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defence::{Calmness, ConnectionCounts};

    /// A test that is invalid for these reasons.
    fn report(done: u64, is_late: bool) -> DefenceReport {
        let abuse = AbuseReport { due: 1_000, done, ..AbuseReport::default() };
        let mut late = PhaseReport { saturated: is_late, ..PhaseReport::default() };
        late.lag_us = LatencyReport { p90: 8_000, max: 21_000, ..LatencyReport::default() };
        let probe = ProbeReport { during: Some(late), ..ProbeReport::default() };
        DefenceReport {
            schema: 1,
            defence: Kind::Junk,
            target: ([127, 0, 0, 1], 4433).into(),
            rate: 1_000,
            length_s: 1.0,
            ending: DefenceEnding::Complete,
            verdict: None,
            recovered: None,
            saturated: is_late || abuse.is_behind(),
            abuse: Some(abuse),
            probe,
            slo: None,
            handshake_errors: Vec::new(),
        }
    }

    #[test]
    fn what_nobody_may_rely_on_begins_with_why_and_what_helps() {
        let first =
            |report: &DefenceReport| report.to_string().lines().next().map(str::to_owned).unwrap();
        assert!(first(&report(1_000, false)).starts_with("defence test junk"));
        let late = first(&report(1_000, true));
        let part = "INVALID: the probe of \"during\" was late by itself (p90 8.00 ms, max 21.0 ms)";
        assert!(late.starts_with(part), "{late}");
        assert!(!late.contains("--rate") && late.contains("cores"), "{late}");
        let behind = first(&report(900, false));
        let words = "INVALID: 100 of 1,000 datagrams were not kept up with: give this generator a \
                     lower --rate";
        assert!(behind.starts_with(words), "{behind}");
        let both = first(&report(900, true));
        assert!(both.contains("--rate") && both.contains("during"), "{both}");
    }

    #[test]
    fn a_failure_is_told_though_the_times_are_not() {
        let none = report(1_000, true);
        assert!(none.to_string().contains("none: nothing failed"), "{none}");
        let down = DefenceReport { verdict: Some(Calmness::Down), ..report(1_000, true) };
        let text = down.to_string();
        assert!(text.starts_with("INVALID: ") && text.contains("down: no probe"), "{text}");
        let unbegun = DefenceReport { ending: DefenceEnding::NothingConnected, ..none };
        assert!(!unbegun.to_string().contains("INVALID"), "{unbegun}");
    }

    #[test]
    fn handshakes_that_were_begun_need_not_be_complete() {
        let mut churn = DefenceReport { defence: Kind::Churn, ..report(1_000, false) };
        if let Some(abuse) = &mut churn.abuse {
            let (tried, opened, failed) = (1_000, 40, 960);
            let counts = ConnectionCounts { tried, opened, failed, ..Default::default() };
            abuse.connections = Some(counts);
        }
        let text = churn.to_string();
        assert!(text.contains("1,000 of 1,000 handshakes due begun, 40 completed"), "{text}");
    }
}
