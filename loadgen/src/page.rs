//! page shows a run as one self-contained page of HTML: nothing is fetched and no script runs, so
//! it can be mailed, archived and opened from anywhere.
//!
//! Invariant: whatever a server or a command line says is text there, and never markup.

mod markup;
mod plot;

use std::io::{self, Write};

use hdrhistogram::Histogram;

use crate::export::TICKS_PER_HALF_DISTANCE;
use crate::report::{LatencyReport, Report};
use crate::series::Interval;
use crate::slo::QUANTILES;
use crate::text::{group, nanoseconds};
pub use markup::escaped;
use plot::{Axis, Line, Plot};

/// What a page says about a run that is not in its report.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct About {
    /// What was loaded.
    pub target: String,
    /// The command, as a shell takes it.
    pub command: String,
    /// What is known of the host and the program: name and value.
    pub host: Vec<(&'static str, String)>,
}

/// Writes the page of `report`.
pub(crate) fn write(report: &Report, about: &About, to: &mut impl Write) -> io::Result<()> {
    let title = escaped(&about.target);
    writeln!(
        to,
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title} - quiclane load</title>\n<style>\n{PAGE_STYLE}</style>\n</head>\n\
         <body>\n<main>\n<header>\n<h1>{title}</h1>\n<p>{}</p>\n</header>",
        escaped(&headline(report))
    )?;
    verdict(report, to)?;
    tiles(report, to)?;
    over_time(report, to)?;
    distribution(report, to)?;
    objectives(report, to)?;
    errors(report, to)?;
    writeln!(
        to,
        "<section>\n<h2>How it was measured</h2>\n<pre>{}</pre>",
        escaped(&about.command)
    )?;
    let settings =
        report.setup.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let host = about.host.iter().map(|(name, value)| (*name, value.as_str()));
    writeln!(to, "<div class=\"pairs\">")?;
    pairs("Settings", settings, to)?;
    pairs("Host", host, to)?;
    writeln!(to, "</div>\n</section>\n</main>\n</body>\n</html>")
}

/// What was done, in a line.
fn headline(report: &Report) -> String {
    report.to_string().lines().next().unwrap_or_default().to_owned()
}

/// What a reader has to know before any number.
fn verdict(report: &Report, to: &mut impl Write) -> io::Result<()> {
    let is_broken = report.slo.as_ref().is_some_and(|slo| slo.is_broken());
    let (class, text) = match (report.is_invalid(), is_broken, report.ok) {
        (true, _, _) => ("bad", "Invalid: the generator was the bottleneck"),
        (_, true, _) => ("bad", "Objectives broken"),
        (_, _, false) => ("bad", "Not all went well"),
        _ if report.slo.as_ref().is_some_and(|slo| slo.kept == Some(true)) => {
            ("good", "All objectives kept")
        }
        _ => ("good", "All went well"),
    };
    writeln!(to, "<p class=\"verdict {class}\">{text}</p>")?;
    if report.detail.notes.is_empty() {
        return Ok(());
    }
    writeln!(to, "<ul class=\"notes\">")?;
    for note in &report.detail.notes {
        writeln!(to, "<li>{}</li>", escaped(note))?;
    }
    writeln!(to, "</ul>")
}

/// The numbers that most readers came for.
fn tiles(report: &Report, to: &mut impl Write) -> io::Result<()> {
    let us = |us: u64| nanoseconds(us.saturating_mul(1_000));
    let LatencyReport { p50, p99, p999, max, .. } = report.latency_us;
    let (rate, what) = match report.requests {
        0 if report.handshakes_per_s > 0.0 => (report.handshakes_per_s, "handshakes/s"),
        _ => (report.requests_per_s, "requests/s"),
    };
    let mut all = vec![(what, whole(rate))];
    let times = [("p50", p50), ("p99", p99), ("p99.9", p999), ("max", max)];
    all.extend(times.map(|(name, time)| (name, us(time))));
    all.push(("failed", group(report.errors.total)));
    writeln!(to, "<dl class=\"tiles\">")?;
    for (name, value) in all {
        writeln!(to, "<div><dt>{name}</dt><dd>{value}</dd></div>")?;
    }
    writeln!(to, "</dl>")
}

/// Latency and rate, interval by interval.
fn over_time(report: &Report, to: &mut impl Write) -> io::Result<()> {
    let intervals = &report.intervals;
    let Some(last) = intervals.last().filter(|_| intervals.len() > 1) else { return Ok(()) };
    let end = last.start_s + last.length_s;
    let middle = |of: &Interval| of.start_s + of.length_s / 2.0;
    let step = intervals.len().div_ceil(POINTS_MAX);
    // Of a long run each point is several intervals.
    let spans: Vec<&[Interval]> = intervals.chunks(step).collect();
    let times: Vec<(f64, Histogram<u64>)> = spans
        .iter()
        .map(|span| {
            let mut sum = span[0].latency.histogram();
            for of in &span[1..] {
                // All have the same bounds.
                let _ = sum.add(of.latency.histogram());
            }
            (middle(&span[span.len() / 2]), sum)
        })
        .collect();
    let at = |quantile: f64| {
        let point = |(x, times): &(f64, Histogram<u64>)| {
            let time = times.value_at_quantile(quantile) as f64;
            (!times.is_empty()).then_some((*x, time))
        };
        times.iter().map(point).collect::<Vec<_>>()
    };
    let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
    let lines: Vec<Line> = quantiles
        .iter()
        .enumerate()
        .map(|(rank, (name, quantile))| Line::new(name, format!("q{rank}"), at(*quantile)))
        .collect();
    let y = Axis::times(lines.iter().flat_map(Line::values));
    let title = match report.schedule {
        Some(_) => "Latency over time, from when a request was due",
        None => "Latency over time",
    };
    plot(title, &Plot { x: Axis::seconds(end), y, lines }, to)?;
    let rate = |count: &dyn Fn(&Interval) -> Option<u64>| {
        let of = |span: &&[Interval]| {
            let length: f64 = span.iter().map(|of| of.length_s).sum();
            let sum: u64 = span.iter().map(count).sum::<Option<u64>>()?;
            (length > 0.0).then(|| (middle(&span[span.len() / 2]), sum as f64 / length))
        };
        spans.iter().map(of).collect::<Vec<_>>()
    };
    let mut lines = vec![Line::new("answered", "k0".into(), rate(&|of| Some(of.ok)))];
    if report.schedule.is_some() {
        lines.push(Line::new("due", "k1".into(), rate(&|of| of.open.map(|open| open.due))));
    }
    if intervals.iter().any(|of| of.failed > 0) {
        lines.push(Line::new("failed", "k3".into(), rate(&|of| Some(of.failed))));
    }
    let y = Axis::counts(lines.iter().flat_map(Line::values));
    plot("Per second", &Plot { x: Axis::seconds(end), y, lines }, to)
}

/// Whole distributions, the rarest times as wide as all others.
fn distribution(report: &Report, to: &mut impl Write) -> io::Result<()> {
    let of = &report.histograms;
    let is_open = report.schedule.is_some();
    let kinds = [
        ("latency", Some(&of.latency)),
        ("service", is_open.then_some(&of.service)),
        ("first byte", of.ttfb.as_ref()),
        ("handshake", Some(&of.handshake)),
        ("lag", of.lag.as_ref()),
    ];
    let kinds: Vec<(usize, &str, Histogram<u64>)> = kinds
        .into_iter()
        .enumerate()
        .filter_map(|(kind, (name, packed))| Some((kind, name, packed?.histogram())))
        .filter(|(.., times)| !times.is_empty())
        .collect();
    if kinds.is_empty() {
        return Ok(());
    }
    let lines: Vec<Line> = kinds
        .iter()
        .map(|(kind, name, times)| {
            let steps = times.iter_quantiles(TICKS_PER_HALF_DISTANCE);
            let points = steps.filter(|step| step.quantile_iterated_to() < 1.0).map(|step| {
                let inverse = 1.0 / (1.0 - step.quantile_iterated_to());
                Some((inverse, step.value_iterated_to().min(times.max()) as f64))
            });
            let last = Some((times.len().max(2) as f64, times.max() as f64));
            Line::new(name, format!("k{kind}"), points.chain([last]).collect())
        })
        .collect();
    let x = Axis::percentiles(kinds.iter().map(|(.., times)| times.len()).max().unwrap_or(0));
    let y = Axis::times(lines.iter().flat_map(Line::values));
    plot("Percentiles", &Plot { x, y, lines }, to)?;
    writeln!(to, "<div class=\"wide\"><table>\n<thead><tr><th></th>")?;
    for (_, name, _) in &kinds {
        writeln!(to, "<th>{name}</th>")?;
    }
    writeln!(to, "</tr></thead>\n<tbody>")?;
    let mut row = |name: &str, cell: &dyn Fn(&Histogram<u64>) -> String| {
        write!(to, "<tr><th>{name}</th>")?;
        kinds.iter().try_for_each(|(.., times)| write!(to, "<td>{}</td>", cell(times)))?;
        writeln!(to, "</tr>")
    };
    row("count", &|times| group(times.len()))?;
    for (name, quantile) in QUANTILES {
        row(name, &|times| nanoseconds(times.value_at_quantile(quantile)))?;
    }
    row("max", &|times| nanoseconds(times.max()))?;
    writeln!(to, "</tbody></table></div>\n</section>")
}

fn objectives(report: &Report, to: &mut impl Write) -> io::Result<()> {
    let Some(slo) = &report.slo else { return Ok(()) };
    writeln!(to, "<section>\n<h2>Objectives</h2>\n<table>")?;
    writeln!(to, "<thead><tr><th>wanted</th><th>measured</th><th></th></tr></thead>\n<tbody>")?;
    for term in &slo.terms {
        let (class, word) = match term.kept {
            Some(true) => ("good", "kept"),
            Some(false) => ("bad", "broken"),
            None => ("", "not judged"),
        };
        let (wanted, measured) = (escaped(&term.wanted), escaped(term.measured_text()));
        writeln!(
            to,
            "<tr><th>{wanted}</th><td>{measured}</td><td class=\"{class}\">{word}</td></tr>"
        )?;
    }
    writeln!(to, "</tbody></table>\n</section>")
}

fn errors(report: &Report, to: &mut impl Write) -> io::Result<()> {
    let detail = &report.detail;
    let lists = [
        ("request", &detail.request_errors),
        ("handshake", &detail.handshake_errors),
        ("connection", &detail.idle_losses),
    ];
    writeln!(to, "<section>\n<h2>Errors</h2>")?;
    if lists.iter().all(|(_, list)| list.is_empty()) {
        return writeln!(to, "<p>None.</p>\n</section>");
    }
    writeln!(
        to,
        "<div class=\"wide\"><table>\n<thead><tr><th>class</th><th>of</th><th>number</th>"
    )?;
    writeln!(to, "<th>the first one</th></tr></thead>\n<tbody>")?;
    for (of, list) in lists {
        for error in list {
            writeln!(
                to,
                "<tr><th>{}</th><td>{of}</td><td>{}</td><td class=\"words\">{}</td></tr>",
                escaped(error.class),
                group(error.count),
                escaped(error.example.as_deref().unwrap_or_default())
            )?;
        }
    }
    writeln!(to, "</tbody></table></div>\n</section>")
}

/// A section with a plot; of the last one the caller writes the end.
fn plot(title: &str, plot: &Plot, to: &mut impl Write) -> io::Result<()> {
    let is_last = title == "Percentiles";
    writeln!(to, "<section>\n<h2>{title}</h2>\n<figure>{plot}</figure>")?;
    if is_last { Ok(()) } else { writeln!(to, "</section>") }
}

fn pairs<'a>(
    title: &str,
    pairs: impl Iterator<Item = (&'a str, &'a str)>,
    to: &mut impl Write,
) -> io::Result<()> {
    writeln!(to, "<div><h3>{title}</h3>\n<table><tbody>")?;
    for (name, value) in pairs {
        writeln!(to, "<tr><th>{}</th><td>{}</td></tr>", escaped(name), escaped(value))?;
    }
    writeln!(to, "</tbody></table></div>")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "far below 2^64")]
fn whole(number: f64) -> String {
    group(number.round() as u64)
}

/// How pages of results look, in light and in dark.
pub const PAGE_STYLE: &str = include_str!("page/style.css");

/// More points than that no screen shows apart.
const POINTS_MAX: usize = 600;
