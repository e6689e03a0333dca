//! Medians and Markdown.

use std::fmt::Write as _;

use report::Report;

use crate::run::Run;

/// The table of one kind of work: a line per peer, ratios to the first peer that has figures.
pub(crate) fn table(title: &str, work: &str, peers: &[&str], runs: &[Run]) -> String {
    let rows: Vec<(&str, Vec<&Report>)> = peers
        .iter()
        .map(|&peer| {
            let of_peer = runs.iter().filter(|run| run.peer == peer && run.work == work);
            (peer, of_peer.filter(|run| !run.disturbed).map(|run| &run.report).collect())
        })
        .collect();
    let Some((base_name, base)) = rows.iter().find(|(_, reports)| !reports.is_empty()) else {
        return format!("### {title}\n\nNo undisturbed run.\n");
    };
    let bulk = base[0].latency_us.is_none();
    let mut text = format!("### {title}\n\n{}", head(base[0], base_name, bulk));
    for (peer, reports) in &rows {
        let line = if reports.is_empty() {
            format!("| {peer} | no undisturbed run |\n")
        } else {
            line(peer, reports, base, bulk)
        };
        text.push_str(&line);
    }
    text
}

fn head(sample: &Report, base: &str, bulk: bool) -> String {
    let Report { rate_unit, cpu_unit, .. } = sample;
    let mut columns = vec![
        "peer".to_owned(),
        format!("{rate_unit} median (min-max)"),
        format!("rate / {base}"),
        format!("server CPU {cpu_unit} (min-max)"),
        format!("CPU / {base}"),
        "server util".to_owned(),
        "client util".to_owned(),
    ];
    let rest: &[&str] = if bulk {
        &["B/datagram in", "datagrams/burst in", "lost out"]
    } else {
        &["p50 us", "p99 us", "lost out"]
    };
    columns.extend(rest.iter().map(|&column| column.to_owned()));
    let rule = "---|".repeat(columns.len());
    format!("| {} |\n|{rule}\n", columns.join(" | "))
}

fn line(peer: &str, reports: &[&Report], base: &[&Report], bulk: bool) -> String {
    let rate = Spread::of(reports, |report| report.rate);
    let cpu = Spread::of(reports, |report| report.server_cpu_per_unit);
    let base_rate = Spread::of(base, |report| report.rate);
    let base_cpu = Spread::of(base, |report| report.server_cpu_per_unit);
    let median = |figure: fn(&Report) -> f64| Spread::of(reports, figure).median;
    let mut text = format!(
        "| {peer} | {} | {:.2} | {} | {:.2} | {:.2} | {:.2} |",
        rate.show(if bulk { 2 } else { 0 }),
        rate.median / base_rate.median,
        cpu.show(if bulk { 3 } else { 2 }),
        cpu.median / base_cpu.median,
        median(|report| report.server_util),
        median(|report| report.client_util),
    );
    let written = if bulk {
        let bytes = median(|report| report.received_datagram_bytes);
        let burst = median(|report| report.received_datagrams_per_message);
        write!(text, " {bytes:.0} | {burst:.1} |")
    } else {
        let p50 = Spread::of(reports, |report| report.latency_us.map_or(0.0, |us| us.p50));
        let p99 = Spread::of(reports, |report| report.latency_us.map_or(0.0, |us| us.p99));
        write!(text, " {:.0} | {} |", p50.median, p99.show(0))
    };
    // Writing to a string cannot fail.
    let _ = written;
    let lost = reports.iter().map(|report| report.lost_packets).max().unwrap_or(0);
    text.push_str(&format!(" {lost} |\n"));
    text
}

/// Median with the extremes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    /// Of at least one report.
    fn of(reports: &[&Report], figure: impl Fn(&Report) -> f64) -> Self {
        let figures = reports.iter().map(|report| figure(report)).collect();
        Self::of_figures(figures)
    }

    fn of_figures(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let median = if figures.len().is_multiple_of(2) {
            f64::midpoint(figures[middle - 1], figures[middle])
        } else {
            figures[middle]
        };
        Self { median, min: figures[0], max: figures[figures.len() - 1] }
    }

    fn show(self, digits: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.digits$} ({min:.digits$}-{max:.digits$})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even_counts() {
        let odd = Spread::of_figures(vec![3.0, 1.0, 2.0]);
        assert_eq!(odd, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of_figures(vec![4.0, 1.0, 2.0, 9.0]).median, 3.0);
        assert_eq!(odd.show(1), "2.0 (1.0-3.0)");
    }

    #[test]
    fn table_takes_ratios_to_the_first_peer_and_leaves_disturbed_runs_out() {
        let runs = [
            run("quinn", 10.0, false),
            run("ours", 15.0, false),
            run("ours", 1.0, true),
            run("late", 1.0, true),
        ];
        let text = table("T", "download", &["quinn", "ours", "late"], &runs);
        assert!(text.contains("| quinn | 10.00 (10.00-10.00) | 1.00 |"), "{text}");
        assert!(text.contains("| ours | 15.00 (15.00-15.00) | 1.50 |"), "{text}");
        assert!(text.contains("| late | no undisturbed run |"), "{text}");
    }

    fn run(peer: &str, rate: f64, disturbed: bool) -> Run {
        let report = Report {
            schema: report::SCHEMA,
            mode: "download".to_owned(),
            units: 1,
            seconds: 1.0,
            rate,
            rate_unit: "Gbit/s".to_owned(),
            latency_us: None,
            client_cpu_s: 1.0,
            server_cpu_s: 1.0,
            server_cpu_per_unit: 1.0,
            cpu_unit: "s/GiB".to_owned(),
            client_util: 1.0,
            server_util: 1.0,
            lost_packets: 0,
            received_datagram_bytes: 1452.0,
            received_datagrams_per_message: 10.0,
            foreign_on_server_core: None,
            foreign_on_client_core: None,
        };
        let (peer, about) = (peer.to_owned(), String::new());
        Run { peer, work: "download", repetition: 1, disturbed, about, report }
    }
}
