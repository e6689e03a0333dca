//! read takes reports back from their JSON. A file may come from anywhere: everything in it that
//! could lead astray is refused with one line that says why.

use std::io::{self, Read};

use serde_json::Value;

use crate::report::{Report, SCHEMA};
use crate::series::{INTERVAL_MIN, INTERVALS_MAX};

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
    Schema(String),
    /// A number that nothing counts to.
    #[error("has the number {0}, which no run counts to")]
    Number(String),
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
        let value: Value = serde_json::from_slice(&bytes)?;
        drop(bytes);
        match value.get("schema") {
            Some(schema) if *schema != SCHEMA => return Err(ReadError::Schema(schema.to_string())),
            _ => {}
        }
        check_numbers(&value)?;
        let report: Self = serde_json::from_value(value)?;
        check_intervals(&report)?;
        Ok(report)
    }
}

/// So that no sum over files overflows.
fn check_numbers(value: &Value) -> Result<(), ReadError> {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(found) if (0.0..=NUMBER_MAX).contains(&found) => Ok(()),
            _ => Err(ReadError::Number(number.to_string())),
        },
        Value::Array(values) => values.iter().try_for_each(check_numbers),
        Value::Object(values) => values.values().try_for_each(check_numbers),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

fn check_intervals(report: &Report) -> Result<(), ReadError> {
    let wrong = |why: String| Err(ReadError::Intervals(why));
    let (length, intervals) = (report.interval_s, &report.intervals);
    if length < INTERVAL_MIN.as_secs_f64() {
        return wrong(format!("each has a length of {length} s"));
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

/// As far as an `f64` counts, with room for a thousand files.
const NUMBER_MAX: f64 = (1_u64 << 50) as f64;

/// Times are written to the microsecond.
const SLACK_S: f64 = 2e-6;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadConfig, Stop, Workload};
    use crate::series::Interval;
    use crate::tally::Tally;

    fn written() -> Value {
        let config = LoadConfig::new(Vec::new(), Workload::Download(1), Stop::Requests(10));
        let mut tally = Tally::new();
        tally.requests.ok = 7;
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
        // What a later version adds is no reason to refuse the rest.
        let mut more = written;
        more["something new"] = 5.into();
        assert!(read(&more).is_ok());
    }

    #[test]
    fn what_is_wrong_is_said() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 13] = [
            (|of| of["schema"] = 2.into(), "has schema 2, and this program reads 1"),
            (|of| of["schema"] = Value::Null, "has schema null"),
            (|of| *of = Value::Null, "is no report"),
            (|of| *of = serde_json::json!([1]), "is no report"),
            (|of| drop(of.as_object_mut().unwrap().remove("intervals")), "field `intervals`"),
            (|of| of["requests"] = "x".into(), "invalid type"),
            (|of| of["requests"] = (-1).into(), "has the number -1"),
            (|of| of["bytes_up"] = u64::MAX.into(), "has the number 18446744073709551615"),
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
