//! slo holds a run against what was promised: service level objectives such as
//! `p99<250ms,errors<1%,rate>50k`.
//!
//! ```text
//! OBJECTIVES = TERM{,TERM}      TERM = METRIC OP VALUE      OP = < <= > >=
//! ```
//!
//! What was not measured is broken: a run in which nothing was answered keeps no promise.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::packed::Packed;
use crate::report::Report;
use crate::tally::Ending;
use crate::text::{group, nanoseconds};

/// What a run has to keep, all of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Slo(Vec<Term>);

/// One objective.
#[derive(Clone, Debug, PartialEq)]
struct Term {
    /// As it was written, without spaces.
    text: String,
    metric: Metric,
    relation: Relation,
    value: Value,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Metric {
    Time {
        kind: Kind,
        statistic: Statistic,
    },
    /// What failed: a number, or a share of what was tried.
    Errors,
    /// Units of work per second: a number, or a share of what was due.
    Rate,
    NotSent,
    Handshakes,
}

/// Which time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Latency,
    Service,
    FirstByte,
    Handshake,
}

/// What of its distribution.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Statistic {
    Quantile(f64),
    Mean,
    Max,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Relation {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

/// A bound, or what was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Value {
    Nanoseconds(f64),
    Number(f64),
    /// 1 is all of it.
    Share(f64),
}

/// Why a text names no objectives.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SloError {
    /// No `METRIC OP VALUE`.
    #[error(
        "{0:?} is no objective: write METRIC OP VALUE with <, <=, > or >=, for example p99<250ms"
    )]
    Term(String),
    /// Something else before the sign.
    #[error("{metric:?} in {term:?} is nothing that is measured: write {METRICS}")]
    Metric {
        /// What stands there.
        metric: String,
        /// In which term.
        term: String,
    },
    /// Something else after the sign.
    #[error("{value:?} in {term:?} is no {wanted}")]
    Value {
        /// What stands there.
        value: String,
        /// In which term.
        term: String,
        /// What should, with examples.
        wanted: &'static str,
    },
}

/// What became of the objectives.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SloReport {
    /// All are kept; `None`: the run was interrupted, and nothing was judged.
    pub kept: Option<bool>,
    /// Each of them.
    pub terms: Vec<TermReport>,
    /// Whether one of them says how much may fail.
    #[serde(skip)]
    judges_errors: bool,
}

impl SloReport {
    /// Whether a term is broken.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.kept == Some(false)
    }

    /// Whether it was said how much may fail, and no more did.
    #[must_use]
    pub fn excuses_errors(&self) -> bool {
        self.judges_errors && self.kept == Some(true)
    }
}

/// What became of one objective.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TermReport {
    /// What was wanted, as it was written.
    pub wanted: String,
    /// What was measured; `None`: nothing, or a time that has no end.
    pub measured: Option<f64>,
    /// In which unit: `us`, `per_s`, `count`, or `share` (of 1) where the bound is in per cent.
    pub unit: &'static str,
    /// Whether it is kept; `None`: not judged.
    pub kept: Option<bool>,
    /// What was measured, for people.
    #[serde(skip)]
    text: String,
}

impl TermReport {
    /// What was measured, for people.
    pub(crate) fn measured_text(&self) -> &str {
        &self.text
    }
}

impl Slo {
    /// Holds a run against it.
    #[must_use]
    pub fn judge(&self, report: &Report) -> SloReport {
        let judges = report.ending != Ending::Interrupted;
        let term = |term: &Term| {
            let measured = term.measure(report);
            let kept = measured.is_some_and(|measured| term.keeps(measured));
            TermReport {
                wanted: term.text.clone(),
                measured: measured.map(Value::number).filter(|number| number.is_finite()),
                unit: term.unit(),
                kept: judges.then_some(kept),
                text: measured.map_or_else(|| "nothing".into(), |measured| measured.to_string()),
            }
        };
        let terms: Vec<TermReport> = self.0.iter().map(term).collect();
        let kept = judges.then(|| terms.iter().all(|term| term.kept == Some(true)));
        let judges_errors = self.0.iter().any(|term| term.metric == Metric::Errors);
        SloReport { kept, terms, judges_errors }
    }

    /// The term whose metric can never be measured in such a run, if there is one, and why.
    #[must_use]
    pub fn impossible(&self, is_http: bool, has_schedule: bool) -> Option<(&str, &'static str)> {
        self.0.iter().find_map(|term| {
            let why = match (term.metric, term.value) {
                (Metric::Time { kind: Kind::FirstByte, .. }, _) if !is_http => {
                    "is measured over https:// alone"
                }
                (Metric::NotSent, _) if !has_schedule => {
                    "needs --rate, --stages or --replay, with --handshakes --connect-rate"
                }
                (Metric::Rate, Value::Share(_)) if !has_schedule => {
                    "is a share of what is due, and needs --rate, --stages or --replay, with \
                     --handshakes --connect-rate; without them write a number, as rate>50k"
                }
                _ => return None,
            };
            Some((term.text.as_str(), why))
        })
    }
}

impl FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        text.split(',').map(|term| Term::parse(term.trim())).collect::<Result<_, _>>().map(Self)
    }
}

impl Term {
    fn parse(text: &str) -> Result<Self, SloError> {
        let no_term = || SloError::Term(text.to_owned());
        let at = text.find(['<', '>']).ok_or_else(no_term)?;
        let (metric, rest) = text.split_at(at);
        let (relation, value) = match (&rest[..1], rest[1..].strip_prefix('=')) {
            ("<", Some(value)) => (Relation::LessOrEqual, value),
            ("<", None) => (Relation::Less, &rest[1..]),
            (_, Some(value)) => (Relation::MoreOrEqual, value),
            (_, None) => (Relation::More, &rest[1..]),
        };
        let (name, value) = (metric.trim(), value.trim());
        if name.is_empty() || value.is_empty() {
            return Err(no_term());
        }
        let metric = Metric::parse(name)
            .ok_or_else(|| SloError::Metric { metric: name.into(), term: text.into() })?;
        let value = metric.bound(value).map_err(|wanted| SloError::Value {
            value: value.into(),
            term: text.into(),
            wanted,
        })?;
        Ok(Self { text: text.replace(' ', ""), metric, relation, value })
    }

    fn measure(&self, report: &Report) -> Option<Value> {
        let is_share = matches!(self.value, Value::Share(_));
        let units_ok = report.units_ok();
        match self.metric {
            Metric::Time { kind, statistic } => {
                let packed = kind.of(report)?;
                let endless = if kind == Kind::Latency { never_sent(report) } else { 0 };
                statistic.of(packed, endless).map(Value::Nanoseconds)
            }
            Metric::Errors => {
                let errors = report.errors.total;
                let tried = units_ok + errors;
                match (is_share, tried) {
                    (_, 0) => None,
                    (true, _) => Some(Value::Share(errors as f64 / tried as f64)),
                    (false, _) => Some(Value::Number(errors as f64)),
                }
            }
            Metric::Rate if is_share => {
                let due = report.schedule?.due;
                (due > 0).then(|| Value::Share(units_ok as f64 / due as f64))
            }
            Metric::Rate => {
                let measured = report.duration_s > 0.0;
                measured.then(|| Value::Number(units_ok as f64 / report.duration_s))
            }
            Metric::NotSent => Some(Value::Number(report.schedule?.not_sent as f64)),
            Metric::Handshakes => Some(Value::Number(report.handshakes as f64)),
        }
    }

    fn unit(&self) -> &'static str {
        match (self.metric, self.value) {
            (Metric::Time { .. }, _) => "us",
            (_, Value::Share(_)) => "share",
            (Metric::Rate, _) => "per_s",
            (Metric::Errors | Metric::NotSent | Metric::Handshakes, _) => "count",
        }
    }

    fn keeps(&self, measured: Value) -> bool {
        let (measured, bound) = (measured.raw(), self.value.raw());
        match self.relation {
            Relation::Less => measured < bound,
            Relation::LessOrEqual => measured <= bound,
            Relation::More => measured > bound,
            Relation::MoreOrEqual => measured >= bound,
        }
    }
}

impl Metric {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "errors" => return Some(Self::Errors),
            "rate" => return Some(Self::Rate),
            "not_sent" => return Some(Self::NotSent),
            "handshakes" => return Some(Self::Handshakes),
            _ => {}
        }
        let (kind, statistic) = match name.split_once('.') {
            Some(("service", rest)) => (Kind::Service, rest),
            Some(("ttfb", rest)) => (Kind::FirstByte, rest),
            Some(("handshake", rest)) => (Kind::Handshake, rest),
            Some(("latency", rest)) => (Kind::Latency, rest),
            _ => (Kind::Latency, name),
        };
        let statistic = match statistic {
            "max" => Statistic::Max,
            "mean" => Statistic::Mean,
            _ => Statistic::Quantile(
                QUANTILES.iter().find(|(known, _)| *known == statistic).map(|(_, of)| *of)?,
            ),
        };
        Some(Self::Time { kind, statistic })
    }

    /// The value that it is held against.
    fn bound(self, text: &str) -> Result<Value, &'static str> {
        let share = || text.strip_suffix('%').map(|number| number.trim().parse::<f64>());
        let (value, wanted) = match (self, share()) {
            (Self::Time { .. }, _) => {
                (nanoseconds_of(text).map(Value::Nanoseconds), "time: write 250us, 250ms or 2.5s")
            }
            (Self::Errors | Self::Rate, Some(percent)) => (
                percent.ok().map(|percent| Value::Share(percent / 100.0)),
                "share: write per cent as 1% or 99.9%",
            ),
            (Self::Errors, None) => {
                (number(text).map(Value::Number), "number or share: write 10 or 1%")
            }
            (Self::Rate, None) => (
                number(text).map(Value::Number),
                "rate: write a number as 500, 50k or 1.5m, or 99%",
            ),
            (Self::NotSent | Self::Handshakes, _) => {
                (number(text).map(Value::Number), "number: write 500, 50k or 1.5m")
            }
        };
        value.filter(|value| value.raw().is_finite() && value.raw() >= 0.0).ok_or(wanted)
    }
}

/// Requests that were due and never sent, if they are more than the end of a run leaves behind.
/// Their latency has no end: a server that serves one in twenty has no good percentile of all.
fn never_sent(report: &Report) -> u64 {
    let Some(schedule) = report.schedule else { return 0 };
    if schedule.not_sent * NEVER_SENT > schedule.due { schedule.not_sent } else { 0 }
}

impl Kind {
    fn of(self, report: &Report) -> Option<&Packed> {
        match self {
            Self::Latency => Some(&report.histograms.latency),
            Self::Service => Some(&report.histograms.service),
            Self::FirstByte => report.histograms.ttfb.as_ref(),
            Self::Handshake => Some(&report.histograms.handshake),
        }
    }
}

impl Statistic {
    /// In nanoseconds, with `endless` others that were never sent; `None` of nothing.
    fn of(self, packed: &Packed, endless: u64) -> Option<f64> {
        if packed.is_empty() {
            return None;
        }
        let times = packed.histogram();
        let all = (times.len() + endless) as f64 / times.len() as f64;
        Some(match self {
            Self::Quantile(quantile) if quantile * all <= 1.0 => {
                times.value_at_quantile(quantile * all) as f64
            }
            Self::Mean if endless == 0 => times.mean(),
            Self::Max if endless == 0 => times.max() as f64,
            _ => f64::INFINITY,
        })
    }
}

impl Value {
    fn raw(self) -> f64 {
        match self {
            Self::Nanoseconds(value) | Self::Number(value) | Self::Share(value) => value,
        }
    }

    /// As the JSON has it.
    fn number(self) -> f64 {
        match self {
            Self::Nanoseconds(ns) => (ns / 1e3).round(),
            Self::Number(number) => (number * 10.0).round() / 10.0,
            Self::Share(share) => (share * 1e6).round() / 1e6,
        }
    }
}

impl fmt::Display for Value {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Nanoseconds(f64::INFINITY) => f.write_str("no end: too many were never sent"),
            Self::Nanoseconds(ns) => f.write_str(&nanoseconds(ns as u64)),
            Self::Number(number) if number < 100.0 && number.fract() > 0.0 => {
                write!(f, "{number:.1}")
            }
            Self::Number(number) => f.write_str(&group(number.round() as u64)),
            Self::Share(share) => write!(f, "{:.3} %", share * 100.0),
        }
    }
}

impl fmt::Display for SloReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "objectives ")?;
        match self.kept {
            None => write!(f, "     not judged: the run was interrupted")?,
            Some(true) => write!(f, "     all kept")?,
            Some(false) => write!(f, "     BROKEN")?,
        }
        for TermReport { wanted, kept, text, .. } in &self.terms {
            let verdict = match kept {
                Some(true) => "kept",
                Some(false) => "broken",
                None => "not judged",
            };
            write!(f, "\n  {verdict:<10} {wanted:<24} measured: {text}")?;
        }
        Ok(())
    }
}

/// One request in this many that was never sent counts in the times.
const NEVER_SENT: u64 = 100;

/// A time: a number with its unit.
fn nanoseconds_of(text: &str) -> Option<f64> {
    let units = [("ns", 1.0), ("us", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9)];
    let (unit, factor) = units.iter().find(|(unit, _)| text.ends_with(unit))?;
    plain(text.strip_suffix(unit)?.trim()).map(|number| number * factor)
}

/// A number, maybe with k or m.
fn number(text: &str) -> Option<f64> {
    let (digits, factor) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (&text[..at], 1e3),
        (at, 'm' | 'M') => (&text[..at], 1e6),
        _ => (text, 1.0),
    };
    plain(digits).map(|number| number * factor)
}

/// Digits, with a point at most: what `f64` takes beyond that is nothing that people mean.
fn plain(text: &str) -> Option<f64> {
    let is_plain = text.starts_with(|first: char| first.is_ascii_digit())
        && text.chars().all(|each| each.is_ascii_digit() || each == '.');
    text.parse().ok().filter(|_| is_plain)
}

/// The percentiles that have a name, with their share of the requests.
pub(crate) const QUANTILES: [(&str, f64); 7] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p95", 0.95),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("p99.99", 0.999_9),
    ("p99.999", 0.999_99),
];

/// All that is known.
const METRICS: &str = "p50, p90, p95, p99, p99.9, p99.99, p99.999, max or mean (of the latency; \
                       with service., ttfb. or handshake. before it of these), errors, rate, \
                       not_sent or handshakes";

#[cfg(test)]
mod tests {
    use quiclane::clock;

    use super::*;
    use crate::config::{LoadConfig, Pace, Stop, Workload};
    use crate::schedule::{Arrivals, Rate};
    use crate::tally::{Counts, Span, Tally};

    fn slo(text: &str) -> Slo {
        text.parse().unwrap()
    }

    /// 100 answered in 1 to 100 ms, 4 failed, in 2 s; 110 were due.
    fn report(ending: Ending, ok: u64) -> Report {
        report_of(ending, ok, 1)
    }

    /// The same with `unsent` of those that were due.
    fn report_of(ending: Ending, ok: u64, unsent: u64) -> Report {
        let rate = Rate::constant(55.0).unwrap();
        let config = LoadConfig {
            pace: Some(Pace { rate, arrivals: Arrivals::Constant }),
            ..LoadConfig::new(Vec::new(), Workload::Download(1), Stop::Requests(110))
        };
        let mut tally = Tally::new();
        for ms in 1..=ok {
            tally.latency.saturating_record(ms * 1_000_000);
            tally.service.saturating_record(ms * 500_000);
        }
        tally.handshakes = Counts { started: 3, ok: 3, ..Counts::default() };
        tally.handshake_times.saturating_record(7_000_000);
        tally.requests = Counts { started: 110, ok, failed: 4, cancelled: 6 };
        tally.request_errors.note("reset", 4, || None);
        (tally.sent, tally.unsent, tally.ending) = (110 - unsent, unsent, ending);
        let from = clock::now();
        let to = from + std::time::Duration::from_secs(2);
        tally.measured = Some(Span { from, to });
        Report::new(&config, 1, "epoll".into(), &tally)
    }

    #[test]
    fn each_term_is_held_against_what_was_measured() {
        let report = report(Ending::Complete, 100);
        for (text, kept, measured) in [
            ("p50<50.1ms", true, 50_000.0),
            ("p50 < 49ms", false, 50_000.0),
            ("latency.p95<=95.1ms", true, 95_000.0),
            ("p99<99ms", false, 99_000.0),
            ("p99.999<=0.11s", true, 100_000.0),
            ("max<101000us", true, 100_000.0),
            ("mean>50ms", true, 50_500.0),
            ("service.p50<25.1ms", true, 25_000.0),
            ("handshake.max<7ms", false, 7_000.0),
            ("errors<4", false, 4.0),
            ("errors<=4", true, 4.0),
            ("errors<3.8%", false, 0.038_462),
            ("errors<4%", true, 0.038_462),
            ("rate>=50", true, 50.0),
            ("rate>0.05k", false, 50.0),
            ("rate>90%", true, 0.909_091),
            ("rate>91%", false, 0.909_091),
            ("not_sent<=1", true, 1.0),
            ("handshakes>=3", true, 3.0),
        ] {
            let judged = slo(text).judge(&report);
            assert_eq!(judged.kept, Some(kept), "{text}: {judged}");
            let found = judged.terms[0].measured.unwrap();
            assert!((found / measured - 1.0).abs() < 0.002, "{text}: {found}");
        }
    }

    #[test]
    fn all_terms_are_to_be_kept_and_each_is_said() {
        let judged = slo("p50<1s, errors<1%,rate>1").judge(&report(Ending::Complete, 100));
        assert_eq!(judged.kept, Some(false));
        let kept: Vec<_> = judged.terms.iter().map(|term| term.kept).collect();
        assert_eq!(kept, [Some(true), Some(false), Some(true)]);
        let text = judged.to_string();
        for words in ["BROKEN", "broken     errors<1%", "measured: 3.846 %", "kept       p50<1s"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let json = serde_json::to_value(&judged).unwrap();
        assert_eq!(json["terms"][0]["unit"], "us");
        assert_eq!(json["terms"][1]["wanted"], "errors<1%");
        assert_eq!(
            (json["kept"].as_bool(), json["terms"][2]["kept"].as_bool()),
            (Some(false), Some(true))
        );
    }

    #[test]
    fn what_was_not_measured_is_broken() {
        let nothing = report(Ending::Complete, 0);
        for text in ["p99<1h", "p99<60m", "mean>0ms", "service.max<1s", "ttfb.p50<1s"] {
            let Ok(slo) = text.parse::<Slo>() else { continue };
            let judged = slo.judge(&nothing);
            assert_eq!((judged.kept, judged.terms[0].measured), (Some(false), None), "{text}");
        }
        assert_eq!(slo("errors<1%").judge(&nothing).kept, Some(false), "all failed");
    }

    #[test]
    fn what_was_never_sent_is_longer_than_all() {
        let report = report_of(Ending::Complete, 100, 25);
        for (text, kept, measured) in [
            // Of 125 the middle is the 63rd.
            ("p50<63.1ms", true, Some(63_000.0)),
            ("p50<62ms", false, Some(63_000.0)),
            ("p90<60m", false, None),
            ("max<60m", false, None),
            ("mean<60m", false, None),
            // What was sent has its times.
            ("service.p99<50ms", true, Some(49_500.0)),
        ] {
            let judged = slo(text).judge(&report);
            assert_eq!(judged.kept, Some(kept), "{text}: {judged}");
            let found = judged.terms[0].measured;
            assert_eq!(found.is_some(), measured.is_some(), "{text}: {found:?}");
            if let (Some(found), Some(measured)) = (found, measured) {
                assert!((found / measured - 1.0).abs() < 0.002, "{text}: {found}");
            }
        }
        let text = slo("p90<60m").judge(&report).to_string();
        assert!(text.contains("no end: too many were never sent"), "{text}");
    }

    #[test]
    fn an_interrupted_run_is_not_judged() {
        let judged = slo("p50<1us").judge(&report(Ending::Interrupted, 100));
        assert_eq!((judged.kept, judged.terms[0].kept), (None, None));
        assert!(judged.to_string().contains("not judged: the run was interrupted"));
    }

    #[test]
    fn what_can_never_be_measured_is_known_before() {
        for (text, is_http, has_schedule, wrong) in [
            ("ttfb.p99<1s", false, true, Some("ttfb.p99<1s")),
            ("ttfb.p99<1s", true, false, None),
            ("p99<1s,rate>99%", true, false, Some("rate>99%")),
            ("rate>99%,not_sent<1", true, true, None),
            ("not_sent<1", true, false, Some("not_sent<1")),
            ("rate>5,errors<1%", false, false, None),
        ] {
            let slo = slo(text);
            let found = slo.impossible(is_http, has_schedule).map(|(term, _)| term);
            assert_eq!(found, wrong, "{text}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        for (text, words) in [
            ("", "write METRIC OP VALUE"),
            ("p99", "\"p99\" is no objective"),
            ("p99<", "\"p99<\" is no objective"),
            ("<5ms", "\"<5ms\" is no objective"),
            ("p99<1s,", "\"\" is no objective"),
            ("p99=1s", "\"p99=1s\" is no objective"),
            ("p98<1s", "\"p98\" in \"p98<1s\""),
            ("p99<1s,speed>5", "\"speed\" in \"speed>5\""),
            ("lag.p99<1s", "p99.999, max or mean"),
            ("service.errors<1", "with service., ttfb. or handshake."),
            ("p99<250", "\"250\" in \"p99<250\" is no time: write 250us"),
            ("p99<5%", "is no time"),
            ("p99<nans", "is no time"),
            ("p99<-1ms", "is no time"),
            ("p99<<1ms", "is no time"),
            ("errors<x%", "write per cent"),
            ("errors<1ms", "10 or 1%"),
            ("rate>1e9", "50k"),
            ("not_sent<1%", "no number"),
        ] {
            let error = text.parse::<Slo>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
