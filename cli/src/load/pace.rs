//! pace reads when requests shall be sent: rates, ramps and stages.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use quiclane_loadgen::{Arrivals, Pace, Rate, Stage};

use super::script::{Recording, recording};
use crate::exit::Failure;
use crate::flags::{count, positive_time, size};
use crate::target::Url;

/// When requests are sent, instead of when others have ended.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Open loop")]
pub(super) struct PaceOptions {
    /// Requests a second, all connections together, sent when they are due whatever became of
    /// those before; A:B goes evenly from A to B over the run. Latencies count from when a request
    /// was due. -m is then the most that may be in flight on a connection [default for -m: 100]
    #[arg(short = 'R', long, value_name = "N|A:B", value_parser = ramp,
          conflicts_with_all = ["handshakes", "idle"])]
    rate: Option<(f64, f64)>,

    /// The same in stages, one after another: TIME@RATE, comma between them, for example
    /// 30s@0:5k,1m@5k. They are the length of the run
    #[arg(long, value_name = "STAGES", value_parser = stages,
          conflicts_with_all = ["rate", "stop", "handshakes", "idle"])]
    stages: Option<Stages>,

    /// Requests at the times in FILE: each line has milliseconds from the start, and may have a tab
    /// and a path or URL of the same server [default: the URL]. Blank lines and those that begin
    /// with # are skipped. The run ends when the last one is answered; latencies count from when a
    /// request was due
    #[arg(long, value_name = "FILE",
          conflicts_with_all = ["rate", "stages", "stop", "warmup", "handshakes", "idle",
                                "input_file"])]
    replay: Option<PathBuf>,

    /// Replay so many times as fast, for example 2x or 0.5x
    #[arg(long, value_name = "FACTOR", default_value = "1x", requires = "replay",
          value_parser = speed)]
    replay_speed: f64,

    /// With --echo: unreliable datagrams a second instead of streams, all connections together,
    /// each of which the server sends back; N or A:B as with --rate. A datagram that is not back
    /// after two seconds is lost
    #[arg(long, value_name = "N|A:B", value_parser = ramp, group = "work", requires = "echo",
          conflicts_with_all = ["rate", "stages", "replay", "requests", "streams", "perf", "hq",
                                "raw"])]
    datagrams: Option<(f64, f64)>,

    /// Bytes of a datagram, at least 8
    #[arg(long, value_name = "SIZE", default_value = "64", requires = "datagrams",
          value_parser = datagram_size)]
    datagram_size: u64,

    /// Handshakes a second, all workers together. With --handshakes each begins when it is due
    /// and its latency counts from then, with at most -c under way; otherwise connections are
    /// opened, and replaced, no faster than that [default: as fast as handshakes end]
    #[arg(long, value_name = "N", value_parser = connect_rate)]
    connect_rate: Option<f64>,

    /// h2load's -r, whose meaning is split over two flags here.
    #[arg(short = 'r', hide = true, value_name = "N", value_parser = not_a_flag)]
    h2load_rate: Option<Infallible>,

    /// How requests, and handshakes of --connect-rate, are spread around the rate
    #[arg(long, value_enum, value_name = "HOW", default_value_t = ArrivalsFlag::Constant)]
    arrivals: ArrivalsFlag,
}

/// How requests are spread.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum ArrivalsFlag {
    /// With equal gaps
    Constant,
    /// Independent of each other, as many users are: exponential gaps
    Poisson,
}

/// What [`stages`] reads; a type of its own, because clap takes a list to be a repeated flag.
#[derive(Clone, Debug)]
struct Stages(Rate);

impl PaceOptions {
    /// Whether requests are sent by a schedule.
    pub(super) fn is_open(&self) -> bool {
        let others = self.replay.is_some() || self.datagrams.is_some();
        self.rate.is_some() || self.stages.is_some() || others
    }

    /// Bytes of a datagram, where those are the work.
    pub(super) fn datagram_size(&self) -> Option<u64> {
        self.datagrams.map(|_| self.datagram_size)
    }

    /// The recording to replay, if there is one, of requests to the server of `url`.
    pub(super) fn recording(&self, url: &Url) -> Result<Option<Recording>, Failure> {
        let Some(path) = &self.replay else { return Ok(None) };
        recording(path, url, self.replay_speed).map(Some)
    }

    /// How long the stages take; `None` without stages.
    pub(super) fn length(&self) -> Option<Duration> {
        self.stages.as_ref()?.0.length()
    }

    /// The schedule of a run of this `length`, if it has one.
    pub(super) fn pace(&self, length: Option<Duration>) -> Result<Option<Pace>, Failure> {
        let arrivals = self.arrivals();
        let rate = match (&self.stages, self.rate.or(self.datagrams), length) {
            (Some(Stages(rate)), ..) => rate.clone(),
            (None, Some((from, to)), _) if from == to => Rate::constant(from)?,
            (None, Some((from, to)), Some(_)) => Rate::staged(vec![Stage { length, from, to }])?,
            (None, Some((from, to)), None) => {
                let given = format!("--rate {from}:{to}");
                let needed = "-d TIME, over which the rate changes, instead of -n";
                return Err(Failure::Incomplete { given, needed });
            }
            (None, None, _) if arrivals == Arrivals::Poisson && self.connect_rate.is_none() => {
                let needed = "--rate N, --stages or --connect-rate N";
                return Err(Failure::Incomplete { given: "--arrivals poisson".into(), needed });
            }
            (None, None, _) => return Ok(None),
        };
        Ok(Some(Pace { rate, arrivals }))
    }

    /// The schedule of the handshakes, if they have one.
    pub(super) fn connect_pace(&self) -> Result<Option<Pace>, Failure> {
        let Some(rate) = self.connect_rate else { return Ok(None) };
        Ok(Some(Pace { rate: Rate::constant(rate)?, arrivals: self.arrivals() }))
    }

    /// Whether handshakes begin by a schedule.
    pub(super) fn paces_handshakes(&self) -> bool {
        self.connect_rate.is_some()
    }

    pub(super) fn arrivals(&self) -> Arrivals {
        match self.arrivals {
            ArrivalsFlag::Constant => Arrivals::Constant,
            ArrivalsFlag::Poisson => Arrivals::Poisson,
        }
    }
}

/// Handshakes a second.
fn connect_rate(text: &str) -> Result<f64, String> {
    let rate = rate(text).map_err(|error| error.replace("requests", "handshakes"))?;
    if rate == 0.0 { Err("at a rate of 0 nothing would be opened".into()) } else { Ok(rate) }
}

/// Bytes of a datagram.
fn datagram_size(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes @ 8..=65_527 => Ok(bytes),
        _ => Err("must be 8 to 65527: 8 bytes are its number".into()),
    }
}

/// `2x`, `0.5x` or `2`.
fn speed(text: &str) -> Result<f64, String> {
    let factor = text.strip_suffix('x').unwrap_or(text).parse::<f64>().ok();
    factor
        .filter(|factor| (SPEED_MIN..=SPEED_MAX).contains(factor))
        .ok_or_else(|| format!("write a factor as 2x or 0.5x, from {SPEED_MIN} to {SPEED_MAX}"))
}

/// A second becomes a quarter of an hour, and the other way round.
const SPEED_MIN: f64 = 0.001;

/// See [`SPEED_MIN`].
const SPEED_MAX: f64 = 1_000.0;

/// What somebody used to h2load wants instead.
fn not_a_flag(text: &str) -> Result<Infallible, String> {
    Err(format!(
        "-r of h2load is two flags here: --connect-rate {text} for so many new connections a \
         second, or --rate {text} (-R) for so many requests a second"
    ))
}

/// `5k`, `0.5`, or `100:5k`.
fn ramp(text: &str) -> Result<(f64, f64), String> {
    let (from, to) = text.split_once(':').unwrap_or((text, text));
    let (from, to) = (rate(from)?, rate(to)?);
    if from == 0.0 && to == 0.0 {
        return Err("at a rate of 0 nothing would be sent".into());
    }
    Ok((from, to))
}

/// `30s@0:5k,1m@5k`.
fn stages(text: &str) -> Result<Stages, String> {
    let stage = |text: &str| {
        let (length, rates) = text
            .split_once('@')
            .ok_or_else(|| format!("{text:?} is no stage: write TIME@RATE, for example 30s@5k"))?;
        let (from, to) = rates.split_once(':').unwrap_or((rates, rates));
        let length = Some(positive_time(length).map_err(|error| format!("{length:?}: {error}"))?);
        Ok::<_, String>(Stage { length, from: rate(from)?, to: rate(to)? })
    };
    let stages: Vec<Stage> = text.split(',').map(stage).collect::<Result<_, _>>()?;
    Rate::staged(stages).map(Stages).map_err(|error| error.to_string())
}

/// Requests a second: `5k`, or with a point `0.5`.
fn rate(text: &str) -> Result<f64, String> {
    let remedy = || format!("{text:?}: write requests a second as 500, 0.5 or 20k");
    let rate = match text.parse::<f64>() {
        Ok(rate) => rate,
        Err(_) => count(text).map_err(|_| remedy())? as f64,
    };
    if (0.0..=quiclane_loadgen::RATE_MAX).contains(&rate) {
        Ok(rate)
    } else {
        Err(remedy() + ", at most 1000m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_handshakes_are_read() {
        assert_eq!(connect_rate("2k"), Ok(2_000.0));
        for wrong in ["", "0", "-1", "x", "1:2"] {
            assert!(connect_rate(wrong).is_err(), "{wrong}");
        }
        assert!(connect_rate("x").unwrap_err().contains("handshakes a second"));
        let remedy = not_a_flag("50").unwrap_err();
        assert!(remedy.contains("--connect-rate 50") && remedy.contains("--rate 50"), "{remedy}");
    }

    #[test]
    fn speeds_are_read() {
        for (text, factor) in [("2x", 2.0), ("0.5x", 0.5), ("3", 3.0)] {
            assert_eq!(speed(text), Ok(factor));
        }
        for wrong in ["", "x", "0", "-1x", "2xx", "nan", "inf", "1e9x"] {
            assert!(speed(wrong).unwrap_err().contains("2x or 0.5x"), "{wrong}");
        }
    }

    #[test]
    fn rates_are_read() {
        assert_eq!(ramp("5k"), Ok((5_000.0, 5_000.0)));
        assert_eq!(ramp("0.5"), Ok((0.5, 0.5)));
        assert_eq!(ramp("0:20k"), Ok((0.0, 20_000.0)));
        for wrong in ["", "x", "0", "-1", "1:", ":1", "nan", "inf", "1e99", "5k:6k:7k", "2000m"] {
            assert!(ramp(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn stages_are_read() {
        let Stages(rate) = stages("30s@0:5k,1m@5k").unwrap();
        assert_eq!(rate.length(), Some(Duration::from_secs(90)));
        assert!((rate.expected(Duration::from_secs(90)) - 375_000.0).abs() < 1e-6);
        for wrong in ["", "5k", "@5k", "0s@5k", "1s@", "1s@x", "1s@5,", "1s@0", "1s@1 2s@1"] {
            assert!(stages(wrong).is_err(), "{wrong}");
        }
    }
}
