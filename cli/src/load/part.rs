//! part says which part of a run this generator has, and when all of them begin.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use clap::Args;
use quiclane::clock;
use quiclane_loadgen::{PARTS_MAX, Partition};

use crate::exit::Failure;
use crate::flags::time;
use crate::output;

/// One of several generators.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Several generators")]
pub(super) struct PartOptions {
    /// Do part I of N, from 1/N to N/N: the parts of -c, -n and --rate are exactly the whole. Give
    /// every generator the same flags otherwise, and merge the reports
    #[arg(long, value_name = "I/N", value_parser = partition)]
    pub(super) partition: Option<Partition>,

    /// Offer load at this time by the clock of this machine: 2026-01-31T12:00:00Z, seconds since
    /// 1970, or +30s from now. Connections are opened up to 5 seconds before
    #[arg(long, value_name = "TIME", value_parser = start)]
    start_at: Option<Start>,
}

/// When to begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Start {
    /// Since 1970.
    At(Duration),
    /// From when the command was given.
    In(Duration),
}

impl PartOptions {
    /// When to begin, since 1970.
    pub(super) fn start_at(&self) -> Result<Option<Duration>, Failure> {
        let now = clock::unix_time();
        let at = match self.start_at {
            None => return Ok(None),
            Some(Start::In(time)) => now + time,
            Some(Start::At(at)) => at,
        };
        match at.checked_sub(now) {
            None => Err(Failure::Past((now - at).as_secs_f64())),
            Some(left) if left > AHEAD_MAX => Err(Failure::Ahead),
            Some(_) => Ok(Some(at)),
        }
    }
}

/// Waits until it is time to connect; false if a signal came first. Not longer than needed: who
/// connects and then says nothing is dropped by a server some time.
pub(super) fn wait(start: Duration, idle_timeout: Duration, signals: &Receiver<()>) -> bool {
    let connect_at = start.saturating_sub(CONNECT_AHEAD.min(idle_timeout / 2));
    let left = connect_at.saturating_sub(clock::unix_time());
    if !left.is_zero() {
        output::log(format_args!("waiting for --start-at: {:.0} s", left.as_secs_f64()));
    }
    loop {
        let left = connect_at.saturating_sub(clock::unix_time());
        if left.is_zero() {
            return true;
        }
        // In steps: the clock may be set meanwhile.
        match signals.recv_timeout(left.min(STEP)) {
            Ok(()) => return false,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return true,
        }
    }
}

/// `2/3`.
fn partition(text: &str) -> Result<Partition, String> {
    let numbers = text.split_once('/').map(|(index, of)| (index.parse(), of.parse()));
    match numbers {
        Some((Ok(index), Ok(of))) => Partition::new(index, of),
        _ => None,
    }
    .ok_or_else(|| {
        format!("write I/N with I from 1 to N, as 1/3, 2/3 and 3/3; N at most {PARTS_MAX}")
    })
}

/// A time of day, or one from now.
fn start(text: &str) -> Result<Start, String> {
    let remedy = || {
        "write a time as 2026-01-31T12:00:00Z, 2026-01-31T13:00:00+01:00, seconds since \
                     1970 or +30s"
            .to_owned()
    };
    if let Some(later) = text.strip_prefix('+') {
        return time(later).map(Start::In);
    }
    if let Ok(seconds) = text.parse::<f64>() {
        let at = Duration::try_from_secs_f64(seconds).map_err(|_| remedy())?;
        return Ok(Start::At(at));
    }
    let (text, offset) = offset(text).ok_or_else(remedy)?;
    let at = humantime::parse_rfc3339(&text).map_err(|_| remedy())?;
    let at = at.duration_since(SystemTime::UNIX_EPOCH).map_err(|_| remedy())?;
    let ahead = Duration::from_secs(offset.unsigned_abs());
    let at = if offset < 0 { at.checked_add(ahead) } else { at.checked_sub(ahead) };
    at.map(Start::At).ok_or_else(remedy)
}

/// A time of RFC 3339 without its offset, and the offset in seconds.
fn offset(text: &str) -> Option<(String, i64)> {
    if text.ends_with(['Z', 'z']) {
        return Some((text.to_uppercase(), 0));
    }
    let (time, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let sign = if offset.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = offset.strip_prefix(['+', '-'])?.split_once(':')?;
    let number = |text: &str, end| {
        let number = text.parse::<u8>().ok().filter(|number| *number < end);
        number.filter(|_| text.len() == 2)
    };
    let (hours, minutes) = (number(hours, 24)?, number(minutes, 60)?);
    Some((format!("{time}Z"), sign * (i64::from(hours) * 3_600 + i64::from(minutes) * 60)))
}

/// Long enough to open thousands of connections, and shorter than servers wait for a client that
/// says nothing.
const CONNECT_AHEAD: Duration = Duration::from_secs(5);

/// How often the clock is looked at.
const STEP: Duration = Duration::from_millis(200);

/// Further ahead it is a typing error.
const AHEAD_MAX: Duration = Duration::from_secs(7 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_counted_from_one() {
        assert_eq!(partition("2/3"), Ok(Partition::new(2, 3).unwrap()));
        for wrong in ["", "1", "0/3", "4/3", "1/0", "1/256", "-1/3", "a/b", "1/3/5"] {
            let error = partition(wrong).unwrap_err();
            assert!(error.contains("I from 1 to N"), "{wrong}: {error}");
        }
    }

    #[test]
    fn times_are_read() {
        let at = |seconds| Ok(Start::At(Duration::from_secs(seconds)));
        assert_eq!(start("+5s"), Ok(Start::In(Duration::from_secs(5))));
        assert_eq!(start("1769860800"), at(1_769_860_800));
        assert_eq!(start("0.5"), Ok(Start::At(Duration::from_millis(500))));
        assert_eq!(start("2026-01-31T12:00:00Z"), at(1_769_860_800));
        assert_eq!(start("2026-01-31t12:00:00z"), at(1_769_860_800));
        assert_eq!(start("2026-01-31T13:30:00+01:30"), at(1_769_860_800));
        assert_eq!(start("2026-01-31T07:00:00-05:00"), at(1_769_860_800));
        let half = Duration::from_millis(1_769_860_800_500);
        assert_eq!(start("2026-01-31T12:00:00.5Z"), Ok(Start::At(half)));
        for wrong in [
            "",
            "+",
            "+x",
            "noon",
            "-5",
            "nan",
            "inf",
            "1e300",
            "2026-01-31",
            "2026-13-01T00:00:00Z",
            "2026-01-31T12:00:00",
            "2026-01-31T12:00:00+25:00",
            "2026-01-31T12:00:00+1:000",
            "1969-12-31T23:00:00Z",
            "1970-01-01T00:00:00+05:00",
            "\u{e9}\u{e9}\u{e9}\u{e9}",
        ] {
            assert!(start(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_past_or_far_ahead_is_refused() {
        let options = |start_at| PartOptions { partition: None, start_at: Some(start_at) };
        let now = clock::unix_time();
        let ago = options(Start::At(now - Duration::from_secs(60))).start_at().unwrap_err();
        assert!(ago.to_string().contains("60"), "{ago}");
        let ahead = now + AHEAD_MAX + Duration::from_secs(60);
        assert!(options(Start::At(ahead)).start_at().is_err());
        let soon = Duration::from_secs(9);
        assert!(options(Start::In(soon)).start_at().unwrap().unwrap() >= now + soon);
    }

    #[test]
    fn a_signal_ends_the_wait() {
        let (sender, signals) = std::sync::mpsc::channel();
        let soon = clock::unix_time() + Duration::from_millis(300);
        assert!(wait(soon, Duration::from_millis(200), &signals));
        assert!(clock::unix_time() + Duration::from_millis(100) >= soon);
        sender.send(()).unwrap();
        let later = clock::unix_time() + Duration::from_secs(3_600);
        assert!(!wait(later, Duration::from_secs(30), &signals));
    }
}
