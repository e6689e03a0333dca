//! read takes reports back from their JSON. A file may come from anywhere: everything in it that
//! could lead astray is refused with one line that says why.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::marker::PhantomData;

use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::packed::within;
use crate::partition::PARTS_MAX;
use crate::report::{Report, SCHEMA, UnitCounts};
use crate::series::{INTERVAL_MIN, INTERVALS_MAX};
use crate::tally::Counts;

/// Why a file is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Longer than any report.
    #[error("is longer than {} MiB, which no report is", BYTES_MAX >> 20)]
    TooLong,
    /// No JSON, or other JSON.
    #[error("is no report of `quiclane load --json`: {0}")]
    Json(#[from] serde_json::Error),
    /// A report of another version.
    #[error("has schema {0}, and this program reads {SCHEMA}: use the version that wrote it")]
    Schema(u64),
    /// Counts that no run ends with.
    #[error("has counts that contradict one another: {0}")]
    Counts(String),
    /// Intervals that cannot be.
    #[error("has intervals that do not follow one another: {0}")]
    Intervals(String),
}

impl Report {
    /// Reads what was written as JSON. Its text names no examples, and has no notes.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read(from: impl Read) -> Result<Self, ReadError> {
        let mut bytes = Vec::new();
        from.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > BYTES_MAX {
            return Err(ReadError::TooLong);
        }
        let Head { schema } = serde_json::from_slice(&bytes)?;
        if let Some(schema) = schema.filter(|schema| *schema != u64::from(SCHEMA)) {
            return Err(ReadError::Schema(schema));
        }
        // Before anything is kept, and without keeping anything.
        let Bounded = serde_json::from_slice(&bytes)?;
        let report = within(HISTOGRAM_BYTES_MAX, || serde_json::from_slice(&bytes))?;
        check_counts(&report)?;
        check_intervals(&report)?;
        Ok(report)
    }
}

#[derive(Deserialize)]
struct Head {
    schema: Option<u64>,
}

/// Any JSON whose numbers are such that no sum over files overflows.
struct Bounded;

impl<'de> Deserialize<'de> for Bounded {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Bounded {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("numbers that a run can count to")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self, E> {
        match text.chars().any(char::is_control) {
            // It could tell a terminal what to do.
            true => Err(E::custom(format_args!("no run writes {text:?}"))),
            false => Ok(self),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Self, E> {
        Err(E::custom(format_args!("no run counts to {number}")))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self, E> {
        self.visit_f64(number as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Self, E> {
        match (0.0..=NUMBER_MAX).contains(&number) {
            true => Ok(self),
            false => Err(E::custom(format_args!("no run counts to {number}"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self, A::Error> {
        while values.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Self, Self>()?.is_some() {}
        Ok(self)
    }
}

/// Reads a map of names, of which no run has many.
pub(crate) fn few_names<'de, D, V>(from: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    from.deserialize_map(Few(PhantomData))
}

/// The same where there may be none.
pub(crate) fn maybe_names<'de, D, V>(from: D) -> Result<Option<BTreeMap<String, V>>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    few_names(from).map(Some)
}

struct Few<V>(PhantomData<V>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Few<V> {
    type Value = BTreeMap<String, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {NAMES_MAX} names with values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut names = BTreeMap::new();
        while let Some((name, value)) = entries.next_entry()? {
            names.insert(name, value);
            if names.len() > NAMES_MAX {
                return Err(A::Error::custom(format_args!("more than {NAMES_MAX} names")));
            }
        }
        Ok(names)
    }
}

/// The laws of every run.
fn check_counts(report: &Report) -> Result<(), ReadError> {
    let UnitCounts { requests, handshakes } = report.counts;
    for (what, counts) in [("requests", requests), ("handshakes", handshakes)] {
        if !counts.is_balanced() {
            let Counts { started, ok, failed, cancelled } = counts;
            return Err(ReadError::Counts(format!(
                "{started} {what} were started, {ok} answered, {failed} failed and {cancelled} \
                 cancelled"
            )));
        }
    }
    Ok(())
}

fn check_intervals(report: &Report) -> Result<(), ReadError> {
    let wrong = |why: String| Err(ReadError::Intervals(why));
    let (length, intervals) = (report.interval_s, &report.intervals);
    if length < INTERVAL_MIN.as_secs_f64() {
        return wrong(format!("each has a length of {length} s"));
    }
    if let Some(parts) = &report.setup.partition
        && (parts.of > PARTS_MAX || parts.parts.len() as u64 > parts.of)
    {
        return wrong(format!("there are {} of {} parts", parts.parts.len(), parts.of));
    }
    if intervals.len() as u64 > INTERVALS_MAX {
        return wrong(format!("there are {}", intervals.len()));
    }
    for (at, interval) in intervals.iter().enumerate() {
        let expected = at as f64 * length;
        if (interval.start_s - expected).abs() > SLACK_S {
            return wrong(format!("number {at} begins at {} s", interval.start_s));
        }
        if at + 1 < intervals.len() && (interval.length_s - length).abs() > SLACK_S {
            return wrong(format!("number {at} has a length of {} s", interval.length_s));
        }
        if interval.open.is_some() != report.schedule.is_some() {
            return wrong(format!("number {at} has another schedule than the run"));
        }
    }
    Ok(())
}

/// A hundred thousand intervals with two histograms each have less.
const BYTES_MAX: u64 = 512 << 20;

/// A few kilobytes for each of them.
const HISTOGRAM_BYTES_MAX: u64 = 1 << 30;

/// Error classes, statuses and settings are a few dozen.
const NAMES_MAX: usize = 1_000;

/// As far as an `f64` counts, with room for a thousand files.
const NUMBER_MAX: f64 = (1_u64 << 50) as f64;

/// Times are written to the microsecond.
const SLACK_S: f64 = 2e-6;

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::compare::Comparison;
    use crate::config::{LoadConfig, Stop, Workload};
    use crate::random::Random;
    use crate::series::Interval;
    use crate::slo::Slo;
    use crate::tally::Tally;

    fn written() -> Value {
        let config = LoadConfig::new(Vec::new(), Workload::Download(1), Stop::Requests(10));
        let mut tally = Tally::new();
        tally.requests = Counts { started: 10, ok: 7, failed: 3, cancelled: 0 };
        tally.request_errors.note("reset", 3, || None);
        tally.latency.saturating_record(5_000_000);
        tally.intervals = vec![
            Interval { length_s: 1.0, ok: 7, ..Interval::default() },
            Interval { start_s: 1.0, length_s: 0.2, ..Interval::default() },
        ];
        serde_json::to_value(Report::new(&config, 1, "epoll".into(), &tally)).unwrap()
    }

    fn read(value: &Value) -> Result<Report, String> {
        Report::read(&serde_json::to_vec(value).unwrap()[..]).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_written_is_read() {
        let written = written();
        let report = read(&written).unwrap();
        assert_eq!(serde_json::to_value(&report).unwrap(), written);
        let text = report.to_string();
        for words in ["perf download", "7 ok", "failed:\n                3 reset", "5.00 ms"] {
            assert!(text.contains(words), "{words}: {text}");
        }
        // Nor does what an earlier one did not count.
        let mut fewer = written.clone();
        fewer.as_object_mut().unwrap().remove("quic");
        fewer["histograms"].as_object_mut().unwrap().remove("rtt");
        let report = read(&fewer).unwrap();
        assert_eq!(
            (report.quic.connections, report.migrations, report.stream_limit),
            (0, None, None)
        );
        // What a later version adds is no reason to refuse the rest.
        let mut more = written;
        more["something new"] = 5.into();
        assert!(read(&more).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 17] = [
            (|of| of["schema"] = 2.into(), "has schema 2, and this program reads 1"),
            (|of| of["schema"] = Value::Null, "invalid type: null"),
            (|of| of["schema"] = (-1).into(), "is no report"),
            (
                |of| of["errors"]["by_class"] = (0..1_001).map(|n| (n.to_string(), n)).collect(),
                "more than 1000 names",
            ),
            (|of| *of = Value::Null, "is no report"),
            (|of| *of = serde_json::json!([1]), "is no report"),
            (|of| drop(of.as_object_mut().unwrap().remove("intervals")), "field `intervals`"),
            (|of| of["requests"] = "x".into(), "invalid type"),
            (|of| of["requests"] = (-1).into(), "no run counts to -1"),
            (|of| of["bytes_up"] = u64::MAX.into(), "no run counts to 18446744073709552000"),
            (
                |of| of["counts"]["requests"]["ok"] = 5.into(),
                "10 requests were started, 5 answered, 3 failed and 0 cancelled",
            ),
            (|of| of["setup"]["workload"] = "\u{1b}[31m".into(), "no run writes \"\\u{1b}[31m\""),
            (|of| of["interval_s"] = 0.into(), "length of 0 s"),
            (|of| of["intervals"][1]["start_s"] = 7.into(), "number 1 begins at 7"),
            (|of| of["intervals"][0]["length_s"] = 7.into(), "number 0 has a length of 7"),
            (|of| of["histograms"]["latency"] = "AAAA".into(), "no deflated HdrHistogram"),
            (
                |of| {
                    of["intervals"][0]["due"] = 1.into();
                    of["intervals"][0]["sent"] = 1.into();
                    of["intervals"][0]["lag_max_us"] = 1.into();
                },
                "another schedule",
            ),
        ];
        for (change, words) in cases {
            let mut value = written();
            change(&mut value);
            let error = read(&value).unwrap_err();
            assert!(error.contains(words) && !error.contains('\n'), "{words}: {error}");
        }
    }

    /// Numbers and letters of a report, changed at random: read or refused, and what is read can be
    /// shown, merged and compared.
    #[test]
    fn what_was_tampered_with_does_no_harm() {
        let whole = serde_json::to_vec(&written()).unwrap();
        let mut random = Random::new(4);
        let (mut read, mut refused) = (0, 0);
        for _ in 0..2_000 {
            let mut bytes = whole.clone();
            for _ in 0..=random.below(3) {
                let at = random.below(bytes.len());
                bytes[at] = b"0123456789.-eE[]{},:\"nA/"[random.below(24)];
            }
            match Report::read(&bytes[..]) {
                Err(error) => {
                    refused += 1;
                    assert!(!error.to_string().contains('\n'), "{error}");
                }
                Ok(report) => {
                    read += 1;
                    let slo: Slo = "p99<1ms,errors<1%,rate>5".parse().unwrap();
                    let original = Report::read(&whole[..]).unwrap();
                    let both = vec![report.clone(), original.clone()];
                    let merged = Report::merge(both, Some(&slo)).map(|sum| sum.to_string());
                    drop((merged, report.to_string(), report.spectrum().to_string()));
                    Comparison::new(&[original], &[report], 0.05).to_string();
                }
            }
        }
        assert!(read > 40 && refused > 100, "{read} {refused}");
    }

    #[test]
    fn what_is_cut_off_or_endless_or_deep_is_refused() {
        let whole = serde_json::to_vec(&written()).unwrap();
        for length in (0..whole.len()).step_by(97) {
            assert!(Report::read(&whole[..length]).is_err(), "{length}");
        }
        let error = Report::read(io::repeat(b' ')).unwrap_err();
        assert!(matches!(error, ReadError::TooLong), "{error}");
        assert!(Report::read(io::repeat(b'[').take(1 << 20)).is_err());
    }
}
