//! export writes distributions in the formats of HdrHistogram's tools.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogWriter, IntervalLogWriterBuilder, IntervalLogWriterError, Tag,
};

use crate::packed::Packed;
use crate::report::Report;

/// Writes an interval log (version 1.3, tagged): `latency` and `service` interval by interval, the
/// others once, for the whole run.
pub(crate) fn interval_log(report: &Report, to: &mut impl Write) -> io::Result<()> {
    let started = SystemTime::UNIX_EPOCH + Duration::from_millis(report.started_unix_ms);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment(concat!("[Logged with quiclane ", env!("CARGO_PKG_VERSION"), "]"))
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("Values are nanoseconds; those of Interval_Max are milliseconds")
        .with_start_time(started)
        .with_max_value_divisor(NANOSECONDS_PER_MS)
        .begin_log_with(to, &mut serializer)?;
    for interval in &report.intervals {
        let (start, length) = (seconds(interval.start_s), seconds(interval.length_s));
        entry(&mut log, "latency", &interval.latency, start, length)?;
        if let Some(service) = &interval.service {
            entry(&mut log, "service", service, start, length)?;
        }
    }
    let whole = seconds(report.duration_s);
    let histograms = &report.histograms;
    for (kind, packed) in [
        ("ttfb", &histograms.ttfb),
        ("handshake", &Some(histograms.handshake.clone())),
        ("lag", &histograms.lag),
    ] {
        if let Some(packed) = packed {
            entry(&mut log, kind, packed, Duration::ZERO, whole)?;
        }
    }
    Ok(())
}

fn entry<W: Write>(
    log: &mut IntervalLogWriter<'_, '_, W, V2DeflateSerializer>,
    kind: &str,
    packed: &Packed,
    start: Duration,
    length: Duration,
) -> io::Result<()> {
    let written = log.write_histogram(&packed.histogram(), start, length, Tag::new(kind));
    written.map_err(|error| match error {
        IntervalLogWriterError::IoError(error) => error,
        IntervalLogWriterError::SerializeError(error) => io::Error::other(error),
    })
}

/// Writes the percentile distribution of `nanoseconds` in milliseconds, as `hgrm` files have it.
pub(crate) fn percentiles(nanoseconds: &Histogram<u64>, to: &mut impl Write) -> io::Result<()> {
    let ms = |ns: f64| ns / NANOSECONDS_PER_MS;
    writeln!(to, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", INVERSE)?;
    let mut count = 0;
    for step in nanoseconds.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        count += step.count_since_last_iteration();
        let (value, quantile) = (ms(step.value_iterated_to() as f64), step.quantile_iterated_to());
        write!(to, "{value:>12.6} {quantile:>2.12} {count:>10}")?;
        if quantile < 1.0 {
            write!(to, " {:>14.2}", 1.0 / (1.0 - quantile))?;
        }
        writeln!(to)?;
    }
    let (mean, deviation) = (ms(nanoseconds.mean()), ms(nanoseconds.stdev()));
    let (max, count) = (ms(nanoseconds.max() as f64), nanoseconds.len());
    writeln!(to, "#[Mean    = {mean:>12.6}, StdDeviation   = {deviation:>12.6}]")?;
    writeln!(to, "#[Max     = {max:>12.6}, Total count    = {count:>12}]")?;
    writeln!(to, "#[Buckets = {BUCKETS:>12}, SubBuckets     = {SUB_BUCKETS:>12}]")
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

const INVERSE: &str = "1/(1-Percentile)";

/// As all of HdrHistogram's tools have it.
pub(crate) const TICKS_PER_HALF_DISTANCE: u32 = 5;

const NANOSECONDS_PER_MS: f64 = 1e6;

/// Of a histogram of 1 ns to 1 h with 3 digits.
const BUCKETS: usize = 32;
const SUB_BUCKETS: usize = 2_048;

#[cfg(test)]
mod tests {
    use crate::packed::new_histogram;

    use super::*;

    #[test]
    fn percentiles_are_those_of_the_classic_text() {
        let mut histogram = new_histogram();
        for us in 1..=1_000 {
            histogram.saturating_record(us * 1_000);
        }
        let mut text = Vec::new();
        percentiles(&histogram, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[1], "");
        let fields: Vec<Vec<f64>> = lines[2..]
            .iter()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_whitespace().map(|field| field.parse().unwrap()).collect())
            .collect();
        let half = fields.iter().find(|fields| fields[1] >= 0.5).unwrap();
        assert!((half[0] - 0.5).abs() < 0.001 && half[2] == 500.0 && half[3] == 2.0, "{half:?}");
        let last = fields.last().unwrap();
        assert!((last[0] - 1.0).abs() < 0.001 && last[1..] == [1.0, 1_000.0], "{last:?}");
        assert!(fields.iter().map(|fields| fields[2]).is_sorted());
        assert!(text.contains("Total count    =         1000]"), "{text}");
        let buckets = histogram.distinct_values() / (SUB_BUCKETS / 2) - 1;
        assert_eq!(buckets, BUCKETS);
    }

    #[test]
    fn of_nothing_there_is_a_text_too() {
        let mut text = Vec::new();
        percentiles(&new_histogram(), &mut text).unwrap();
        assert!(String::from_utf8(text).unwrap().contains("Total count    =            0]"));
    }
}
