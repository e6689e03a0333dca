//! date writes and reads the time as HTTP has it (RFC 9110 section 5.6.7).

use std::cell::Cell;
use std::fmt;
use std::time::{Duration, Instant};

use crate::clock;

/// A time of the kind `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Date {
    seconds: u64,
    text: [u8; TEXT_BYTES],
}

impl Date {
    /// From seconds since the beginning of 1970. From the year 10000 on it stands still.
    #[must_use]
    pub fn from_unix(seconds: u64) -> Self {
        let seconds = seconds.min(SECONDS_MAX);
        let days = seconds / DAY_S;
        let (year, month, day) = civil(days);
        let mut text = *b"Thu, 01 Jan 1970 00:00:00 GMT";
        let of_day = seconds % DAY_S;
        put(&mut text, 0, WEEKDAYS[usize::try_from(days % 7).unwrap_or_default()].as_bytes());
        put(&mut text, 5, &two_digits(day));
        put(&mut text, 8, MONTHS[usize::try_from(month).unwrap_or_default() % 12].as_bytes());
        put(&mut text, 12, &two_digits(year / 100));
        put(&mut text, 14, &two_digits(year % 100));
        put(&mut text, 17, &two_digits(of_day / 3600));
        put(&mut text, 20, &two_digits(of_day / 60 % 60));
        put(&mut text, 23, &two_digits(of_day % 60));
        Self { seconds, text }
    }

    /// Seconds since the beginning of 1970.
    #[must_use]
    pub fn unix(&self) -> u64 {
        self.seconds
    }

    /// Reads any of the three forms; `None` for anything else.
    //= https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7
    //# A recipient that parses a timestamp value in an HTTP field MUST
    //# accept all three HTTP-date formats.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = str::from_utf8(text).ok()?;
        let words: Vec<&str> =
            text.split([' ', '-', ',']).filter(|word| !word.is_empty()).collect();
        let (year, month, day, time) = match words[..] {
            // Sun, 06 Nov 1994 08:49:37 GMT, and Sunday, 06-Nov-94 08:49:37 GMT
            [_, day, month, year, time, "GMT"] if text.contains(',') => (year, month, day, time),
            // Sun Nov  6 08:49:37 1994
            [_, month, day, time, year] => (year, month, day, time),
            _ => return None,
        };
        let (year, digits) = (number(year)?, year.len());
        let year = match digits {
            4 => year,
            // Whoever still sends two digits means a past that is near: files are not older.
            2 if year >= 70 => 1900 + year,
            2 => 2000 + year,
            _ => return None,
        };
        let month = MONTHS.iter().position(|name| *name == month)? as u64;
        let day = number(day).filter(|day| (1..=31).contains(day))?;
        let mut parts = time.split(':');
        let mut part = |max| parts.next().and_then(number).filter(|value| *value <= max);
        let (hour, minute, second) = (part(23)?, part(59)?, part(60)?);
        if parts.next().is_some() || year < 1970 {
            return None;
        }
        let seconds = days_before(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second;
        Some(Self::from_unix(seconds))
    }
}

impl AsRef<[u8]> for Date {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(str::from_utf8(&self.text).unwrap_or_default())
    }
}

impl fmt::Debug for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The date now, made once a second.
#[derive(Debug)]
pub(super) struct Dates(Cell<Option<(Instant, Date)>>);

impl Dates {
    pub(super) const fn new() -> Self {
        Self(Cell::new(None))
    }

    pub(super) fn at(&self, now: Instant) -> Date {
        if let Some((until, date)) = self.0.get()
            && now < until
        {
            return date;
        }
        let unix = clock::unix_time();
        let left = Duration::from_secs(1) - Duration::from_nanos(unix.subsec_nanos().into());
        let date = Date::from_unix(unix.as_secs());
        self.0.set(Some((now + left, date)));
        date
    }
}

fn put(text: &mut [u8; TEXT_BYTES], at: usize, part: &[u8]) {
    for (to, from) in text.iter_mut().skip(at).zip(part) {
        *to = *from;
    }
}

fn two_digits(number: u64) -> [u8; 2] {
    let digit = |number: u64| b'0' + u8::try_from(number % 10).unwrap_or_default();
    [digit(number / 10), digit(number)]
}

fn number(text: &str) -> Option<u64> {
    let is_number = text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// Year, month from 0 and day of a day after 1970-01-01.
fn civil(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_before(year + 1, 0, 1) <= days {
        year += 1;
    }
    let month = (0..12).rev().find(|month| days_before(year, *month, 1) <= days).unwrap_or(0);
    (year, month, 1 + days - days_before(year, month, 1))
}

/// Days from 1970-01-01 to a day of a year from 1970 on; months count from 0, days from 1.
fn days_before(year: u64, month: u64, day: u64) -> u64 {
    const BEFORE: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let is_leap = leaps(year) > leaps(year - 1);
    let in_year = BEFORE.get(usize::try_from(month).unwrap_or(12)).copied().unwrap_or(365);
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
        + in_year
        + u64::from(is_leap && month > 1)
        + (day - 1)
}

const TEXT_BYTES: usize = 29;
const DAY_S: u64 = 86_400;
/// The last second of 9999.
const SECONDS_MAX: u64 = 253_402_300_799;
/// From the first day of 1970 on.
const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_is_read_in_all_forms() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            let date = Date::parse(text.as_bytes()).unwrap();
            assert_eq!(date.unix(), 784_111_777, "{text}");
            assert_eq!(date.to_string(), "Sun, 06 Nov 1994 08:49:37 GMT");
        }
    }

    #[test]
    fn dates_come_back_as_they_were() {
        // `date -u -d @...` says so.
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_798_761_599, "Thu, 31 Dec 2026 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (SECONDS_MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ] {
            assert_eq!(Date::from_unix(seconds).to_string(), text);
        }
        for day in 0..60_000 {
            let date = Date::from_unix(day * DAY_S + day % DAY_S);
            assert_eq!(Date::parse(date.as_ref()), Some(date), "{date}");
        }
        assert_eq!(Date::from_unix(u64::MAX), Date::from_unix(SECONDS_MAX));
    }

    #[test]
    fn nonsense_is_no_date() {
        for text in [
            "",
            "now",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT",
            "Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37:1 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(Date::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Date::parse(b"\xff"), None);
    }
}
