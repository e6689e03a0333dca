//! page shows an experiment as one self-contained page of HTML, in the dress of the load
//! generator's: nothing is fetched and no script runs.
//!
//! Invariant: whatever a file of records says is text there, and never markup.

use std::fmt::{self, Display};
use std::path::Path;

use quiclane_loadgen::{PAGE_STYLE, escaped};
use quiclane_tuning::experiment::{Effect, Findings, Log, Verdict};

use super::advice::Advice;
use super::forest::Forest;
use super::table::{noise, sorted, unfinished, verdict};
use super::{figure, percent};
use crate::tune::text::time;

/// The whole page.
pub(super) struct Page<'l> {
    pub(super) log: &'l Log,
    pub(super) findings: &'l Findings,
    /// The file of records.
    pub(super) file: &'l Path,
}

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begin = &self.log.begin;
        let what = escaped(&begin.what);
        writeln!(
            f,
            "{START}\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>quiclane {what}</title>\n<style>\n{PAGE_STYLE}{STYLE}</style>\n</head>\n\
             <body>\n<main>\n<header>\n<h1>What settings are worth on this host</h1>"
        )?;
        let started = time(begin.at_s);
        writeln!(
            f,
            "<p>{what} of {started}, {}, seed {}, cells of {} s, smallest effect {} %</p>\n\
             </header>",
            escaped(&begin.device),
            begin.seed,
            begin.cell_s,
            begin.smallest_effect * 100.0
        )?;
        if let Some(words) = unfinished(self.log, self.file) {
            writeln!(f, "<p class=\"unfinished\">{}</p>", escaped(&words))?;
        }
        self.summary(f)?;
        self.workloads(f)?;
        self.advice(f)?;
        self.void(f)?;
        self.skipped(f)?;
        self.how(f)?;
        writeln!(f, "</main>\n</body>\n</html>")
    }
}

impl Page<'_> {
    fn summary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "<dl class=\"tiles\">")?;
        for name in ["better", "worse", "equivalent", "inconclusive"] {
            let is = |effect: &&Effect| effect.verdict.name() == name && !self.is_open(effect);
            let count = self.findings.effects.iter().filter(is).count();
            writeln!(f, "<div><dt>{name}</dt><dd>{count}</dd></div>")?;
        }
        let open = self.findings.effects.iter().filter(|effect| self.is_open(effect)).count();
        if open > 0 {
            writeln!(f, "<div><dt>better, not measured again</dt><dd>{open}</dd></div>")?;
        }
        let skipped = self.log.begin.skipped.len();
        writeln!(f, "<div><dt>not measurable here</dt><dd>{skipped}</dd></div>\n</dl>")
    }

    /// Whether it would be better if it were confirmed.
    fn is_open(&self, effect: &Effect) -> bool {
        effect.verdict == Verdict::Better && !effect.is_better_for_sure(&self.log.begin)
    }

    fn workloads(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begin = &self.log.begin;
        for calibration in &self.findings.calibrations {
            let workload = calibration.workload;
            let (name, unit) = (workload.name(), workload.unit());
            let direction = if workload.sign() > 0.0 { "more" } else { "less" };
            writeln!(
                f,
                "<section>\n<h2>{name}: {unit}, {direction} is better</h2>\n\
                 <p class=\"quiet\">{}</p>",
                escaped(&noise(calibration))
            )?;
            let effects = sorted(self.findings, calibration);
            let smallest = begin.smallest_effect.ln_1p();
            let forest = Forest { calibration, effects: &effects, smallest };
            writeln!(f, "<figure>\n{forest}<figcaption>{CAPTION}</figcaption>\n</figure>")?;
            self.effects(&effects, f)?;
            writeln!(f, "</section>")?;
        }
        Ok(())
    }

    fn effects(&self, effects: &[&Effect], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "<div class=\"wide\"><table>\n<thead><tr><th>setting</th><th>effect</th>\
             <th>95 % interval</th><th>blocks</th><th>figure</th><th class=\"words\">verdict</th>\
             <th class=\"words\">what it does</th></tr></thead>\n<tbody>"
        )?;
        for effect in effects {
            let name = escaped(&effect.name);
            let about = self.log.begin.arms.get(effect.arm).map_or("", |arm| arm.about.as_str());
            let (shown, interval, blocks) = match &effect.estimate {
                None => ("-".into(), "-".into(), 0),
                Some(found) => {
                    let interval = format!("{} to {}", percent(found.low), percent(found.high));
                    (percent(found.effect), interval, found.blocks)
                }
            };
            let value = effect.figure.map_or_else(|| "-".into(), figure);
            let class = effect.verdict.name();
            writeln!(
                f,
                "<tr><th>{name}</th><td>{shown}</td><td>{interval}</td><td>{blocks}</td>\
                 <td>{value}</td><td class=\"words {class}\">{}</td>\
                 <td class=\"words\">{}</td></tr>",
                escaped(&verdict(effect)),
                escaped(about)
            )?;
        }
        writeln!(f, "</tbody></table></div>")
    }

    fn advice(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Advice { apply, undo } = Advice::new(self.log, self.findings);
        writeln!(f, "<section>\n<h2>What to apply</h2>")?;
        if apply.is_empty() {
            return writeln!(
                f,
                "<p>Nothing here is better than the baseline: there is nothing to apply.</p>\n\
                 </section>"
            );
        }
        let text = |lines: &[String]| escaped(&lines.join("\n")).into_owned();
        writeln!(f, "<pre>{}</pre>\n<h2 class=\"next\">How to undo it</h2>", text(&apply))?;
        writeln!(f, "<pre>{}</pre>\n</section>", text(&undo))
    }

    fn void(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Log { begin, blocks, .. } = self.log;
        let Findings { calibrations, effects, .. } = self.findings;
        let points = calibrations.iter().map(|of| &of.points);
        let points = points.chain(effects.iter().map(|of| &of.points)).flatten();
        let count = points.filter(|point| !point.breaches.is_empty()).count();
        writeln!(
            f,
            "<section>\n<h2>Guards</h2>\n<p>{count} of {} blocks are void.</p>",
            blocks.len()
        )?;
        writeln!(
            f,
            "<table>\n<thead><tr><th>guard</th><th>limit</th><th>blocks beyond it</th></tr></thead>\
             \n<tbody>"
        )?;
        for (guard, limit) in &begin.limits.0 {
            let (name, limit) = (guard.name(), guard.text(*limit));
            let void = self.findings.void.get(guard).copied().unwrap_or(0);
            writeln!(f, "<tr><th>{name}</th><td>{limit}</td><td>{void}</td></tr>")?;
        }
        writeln!(f, "</tbody></table>\n</section>")
    }

    fn skipped(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let skipped = &self.log.begin.skipped;
        if skipped.is_empty() {
            return Ok(());
        }
        writeln!(f, "<section>\n<h2>Not measurable here</h2>\n<table><tbody>")?;
        for of in skipped {
            let (name, why) = (escaped(&of.name), escaped(&of.why));
            writeln!(f, "<tr><th>{name}</th><td class=\"words\">{why}</td></tr>")?;
        }
        writeln!(f, "</tbody></table>\n</section>")
    }

    fn how(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begin = &self.log.begin;
        let command = escaped(&begin.command);
        writeln!(f, "<section>\n<h2>How it was measured</h2>\n<pre>{command}</pre>")?;
        writeln!(f, "<div class=\"pairs\"><div><h3>Host</h3><table><tbody>")?;
        for (name, value) in &begin.host {
            let (name, value) = (escaped(name), escaped(value));
            writeln!(f, "<tr><th>{name}</th><td>{value}</td></tr>")?;
        }
        let cores = |cores: &[usize]| format!("{cores:?}");
        for (name, value) in [
            ("server on cores", cores(&begin.server_cores)),
            ("generator on cores", cores(&begin.load_cores)),
        ] {
            writeln!(f, "<tr><th>{name}</th><td>{value}</td></tr>")?;
        }
        writeln!(f, "</tbody></table></div></div>\n</section>")
    }
}

/// How every page begins: what is overwritten is told by it.
pub(super) const START: &str = "<!doctype html>";

const CAPTION: &str = "Squares are effects, lines their 95 % intervals, dots single blocks: grey \
    ones are of the screening of what was measured again, hollow ones void. Within the band an \
    effect is too small to matter; one that is beyond the axis has its value written.";

const STYLE: &str = include_str!("style.css");

#[cfg(test)]
pub(super) mod tests {
    use quiclane_tuning::experiment::{
        Arm, Begin, Block, Blocks, Cell, Limits, Phase, Side, Skipped, Step, Workload,
    };

    use super::*;

    pub(in crate::tune::report) fn log() -> Log {
        let hostile = "<script src=\"https://evil.example/x\">&'";
        let arm = Arm { name: hostile.into(), about: hostile.into(), ..Arm::baseline() };
        let begin = Begin {
            schema: Begin::VERSION,
            what: hostile.into(),
            command: hostile.into(),
            at_s: u64::MAX,
            seed: 1,
            budget_s: 60.0,
            cell_s: 1.0,
            smallest_effect: 0.02,
            blocks: Blocks { calibrate: 6, screen: 6, confirm: 0 },
            workloads: vec![Workload::Requests, Workload::Latency],
            arms: vec![Arm::baseline(), Arm { serve: vec![hostile.into()], ..arm }],
            skipped: vec![Skipped { name: hostile.into(), why: hostile.into() }],
            limits: Limits::default(),
            reached: None,
            device: hostile.into(),
            server_cores: vec![0],
            load_cores: vec![1],
            host: vec![(hostile.into(), hostile.into())],
        };
        let mut log = Log::new(begin);
        for (number, phase) in [Phase::Calibrate, Phase::Screen].into_iter().enumerate() {
            for block in 0..6 {
                let step =
                    Step { phase, workload: Workload::Requests, arm: number, block, attempt: 0 };
                let cell = |side, figure| (side, Cell { figure, took_s: 1.0, ..Cell::default() });
                let b = if number == 1 { 120.0 } else { 100.0 } + f64::from(block) * 0.1;
                let cells = vec![
                    cell(Side::A, 100.0),
                    cell(Side::B, b),
                    cell(Side::B, b),
                    cell(Side::A, 100.2),
                ];
                log.blocks.push(Block { step, cells });
            }
        }
        log
    }

    fn shown(log: &Log) -> String {
        Page { log, findings: &Findings::new(log), file: Path::new("<run>") }.to_string()
    }

    #[test]
    fn a_page_of_a_run_that_is_not_done_says_so() {
        let mut log = log();
        log.begin.workloads.truncate(1);
        assert!(!shown(&log).contains("unfinished: "), "all 12 blocks are there");
        log.blocks.pop();
        let page = shown(&log);
        assert!(page.contains("unfinished: 11 of 12 blocks; "), "{page}");
        assert!(page.contains("quiclane tune experiment --resume &#39;&lt;run&gt;&#39;"), "{page}");
    }

    #[test]
    fn a_page_needs_nothing_else_and_runs_nothing() {
        let log = log();
        let page = shown(&log);
        for banned in ["<script", "http://", "src=", "href=", "url(", "@import", "NaN", "inf"] {
            let found = page.replace("https://evil.example/x", "").replace("src=&quot;", "");
            assert!(!found.contains(banned), "{banned}");
        }
        assert!(page.contains("&lt;script") && page.contains("prefers-color-scheme: dark"));
        for tag in ["section", "table", "tbody", "svg", "figure", "main", "dl", "pre", "tr", "text"]
        {
            let open = page.matches(&format!("<{tag}>")).count()
                + page.matches(&format!("<{tag} ")).count();
            assert_eq!(open, page.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert!(page.contains("+20.") && page.contains("class=\"words better\""), "{page}");
    }

    #[test]
    fn a_page_of_nothing_says_so() {
        let log = Log::new(log().begin);
        let page = shown(&log);
        assert!(page.contains("not measured") && page.contains("nothing to apply"));
    }
}
