//! flags reads the values of flags: sizes, counts, times, cores, bytes and addresses.

use std::fmt;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use quiclane::Budgets;

/// Bytes: `4096`, `64k`, `1m`, `2g`, with k = 1,024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let remedy = "bytes as 4096, 64k, 1m or 2g (k = 1,024 bytes)";
    scaled(text, 1_024, remedy)
}

/// A number of things: `1000`, `10k`, `2m`, with k = 1,000.
pub(crate) fn count(text: &str) -> Result<u64, String> {
    let remedy = "a number as 1000, 10k or 2m (k = 1,000)";
    scaled(text, 1_000, remedy)
}

/// [`count`] of at least one.
pub(crate) fn positive(text: &str) -> Result<u64, String> {
    match count(text)? {
        0 => Err("must be at least 1".into()),
        count => Ok(count),
    }
}

/// [`positive`] for tables in memory.
pub(crate) fn positive_usize(text: &str) -> Result<usize, String> {
    usize::try_from(positive(text)?).map_err(|_| "too large for this machine".into())
}

/// [`count`] for numbers of streams.
pub(crate) fn count_u32(text: &str) -> Result<u32, String> {
    u32::try_from(count(text)?).map_err(|_| format!("must be at most {}", u32::MAX))
}

/// [`positive`] for numbers of streams.
pub(crate) fn positive_u32(text: &str) -> Result<u32, String> {
    u32::try_from(positive(text)?).map_err(|_| format!("must be at most {}", u32::MAX))
}

/// A limit of things a second: `500`, `20k`, `unlimited`.
pub(crate) fn rate(text: &str) -> Result<Rate, String> {
    if text == "unlimited" {
        return Ok(Rate(None));
    }
    let rate = count(text).map_err(|error| format!("{error}, or unlimited"))?;
    match u32::try_from(rate) {
        Ok(0) => Err("0 would let nobody in: write at least 1, or unlimited for no limit".into()),
        Ok(rate) if rate <= Budgets::RATE_MAX => Ok(Rate(Some(rate))),
        _ => Err("must be at most 10m; write unlimited for no limit".into()),
    }
}

/// A limit of resets a second; 0: none at all.
pub(crate) fn reset_rate(text: &str) -> Result<u32, String> {
    match u32::try_from(count(text)?) {
        Ok(rate) if rate <= Budgets::RATE_MAX => Ok(rate),
        _ => Err("must be at most 10m".into()),
    }
}

/// What [`rate`] reads, for each second; a type of its own, because clap takes an option to be a
/// flag that may be absent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Rate(pub(crate) Option<u32>);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(rate) => write!(f, "{rate}"),
            None => f.write_str("unlimited"),
        }
    }
}

/// [`size`] for windows, which quinn-proto keeps in 32 bits here.
pub(crate) fn size_u32(text: &str) -> Result<u32, String> {
    u32::try_from(size(text)?).map_err(|_| "must be less than 4g".into())
}

/// [`size`] for socket buffers.
pub(crate) fn socket_buffer(text: &str) -> Result<u64, String> {
    match size(text)? {
        bytes @ 65_536..=1_073_741_824 => Ok(bytes),
        _ => Err("must be 64k to 1g".into()),
    }
}

/// [`size`] for header sections.
pub(crate) fn header_section(text: &str) -> Result<u32, String> {
    match u32::try_from(size(text)?) {
        Ok(bytes) if (1_024..=1 << 30).contains(&bytes) => Ok(bytes),
        _ => Err("must be 1k to 1g".into()),
    }
}

/// A time: `10s`, `500ms`, `1m30s`, or plain seconds.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(seconds.into()),
        Err(_) => humantime::parse_duration(text)
            .map_err(|error| format!("write a time as 10s, 500ms or 1m30s ({error})"))?,
    };
    if time > TIME_MAX {
        return Err("must be at most 365d".into());
    }
    Ok(time)
}

/// Longer than anything runs, and far from where clocks overflow.
const TIME_MAX: Duration = Duration::from_secs(365 * 86_400);

/// [`time`] of more than nothing.
pub(crate) fn positive_time(text: &str) -> Result<Duration, String> {
    match time(text)? {
        Duration::ZERO => Err("must be more than 0".into()),
        time => Ok(time),
    }
}

/// Cores: `0`, `0,2`, `0-3,6`.
pub(crate) fn cores(text: &str) -> Result<Cores, String> {
    let remedy = || "write cores as 0, 0,2 or 0-3,6".to_owned();
    let number = |text: &str| text.parse::<usize>().map_err(|_| remedy());
    let mut cores = Vec::new();
    for part in text.split(',') {
        match part.split_once('-') {
            None => cores.push(number(part)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if last < first || last - first >= CORES_MAX {
                    return Err(remedy());
                }
                cores.extend(first..=last);
            }
        }
    }
    match cores.iter().enumerate().find(|(at, core)| cores[..*at].contains(core)) {
        Some((_, core)) => Err(format!("core {core} is named twice")),
        None => Ok(Cores(cores)),
    }
}

/// What [`cores`] reads; a type of its own, because clap takes a list to be a repeated flag.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Cores(pub(crate) Vec<usize>);

/// Bytes in hexadecimal: `0a0b`.
pub(crate) fn hex(text: &str) -> Result<Bytes, String> {
    let remedy = || "write bytes as pairs of hexadecimal digits, for example 0a1b".to_owned();
    let digits: Vec<u8> = text
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()
        .ok_or_else(remedy)?;
    if !digits.len().is_multiple_of(2) {
        return Err(remedy());
    }
    Ok(Bytes(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()))
}

/// What [`hex`] reads.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

/// An address to listen on: `0.0.0.0:4433`, `[::]:4433`.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().or_else(|_| {
        scoped(text).ok_or_else(|| {
        "write an address as 0.0.0.0:4433 or [::1]:4433, a link-local one as [fe80::1%eth0]:4433"
            .into()
    })
    })
}

/// `[fe80::1%eth0]:4433`: std reads interfaces only by their number.
fn scoped(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.strip_prefix('[')?.split_once("]:")?;
    let (address, _) = host.split_once('%')?;
    address.parse::<Ipv6Addr>().ok()?;
    (host, port.parse().ok()?).to_socket_addrs().ok()?.next()
}

fn scaled(text: &str, kilo: u64, remedy: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|suffix: char| suffix.is_ascii_alphabetic());
    let factor = match text[digits.len()..].to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => kilo,
        "m" => kilo.pow(2),
        "g" => kilo.pow(3),
        _ => return Err(format!("write {remedy}")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("write {remedy}"))?;
    number.checked_mul(factor).ok_or_else(|| "too large".into())
}

/// More than any machine has; keeps a typing error from filling memory.
const CORES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("4096"), Ok(4_096));
        assert_eq!(size("64k"), Ok(65_536));
        assert_eq!(size("1M"), Ok(1_048_576));
        assert_eq!(size("2g"), Ok(2_147_483_648));
        for wrong in ["", "k", "-1", "1.5m", "1kb", "1 k", "ten", "1\u{e9}"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!(size("99999999999g"), Err("too large".into()));
        assert!(size_u32("4g").is_err());
        assert_eq!(header_section("64k"), Ok(65_536));
        assert!(header_section("0").is_err() && header_section("2g").is_err());
    }

    #[test]
    fn counts_are_decimal() {
        assert_eq!(count("10k"), Ok(10_000));
        assert_eq!(count("2m"), Ok(2_000_000));
        assert!(positive("0").is_err());
        assert_eq!(positive("1"), Ok(1));
        assert!(positive_u32("5g").is_err());
    }

    #[test]
    fn rates_are_counts_or_unlimited() {
        assert_eq!(rate("20k"), Ok(Rate(Some(20_000))));
        assert_eq!(rate("10m"), Ok(Rate(Some(Budgets::RATE_MAX))));
        assert_eq!(rate("unlimited"), Ok(Rate(None)));
        for (wrong, words) in [
            ("0", "write at least 1, or unlimited"),
            ("10000001", "at most 10m"),
            ("9g", "at most 10m"),
            ("-1", "or unlimited"),
            ("none", "or unlimited"),
        ] {
            let error = rate(wrong).unwrap_err();
            assert!(error.contains(words), "{wrong}: {error}");
        }
        for text in ["500", "unlimited"] {
            assert_eq!(rate(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn times_have_units_or_are_seconds() {
        assert_eq!(time("10"), Ok(Duration::from_secs(10)));
        assert_eq!(time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(time("1m30s"), Ok(Duration::from_secs(90)));
        assert!(time("soon").unwrap_err().contains("500ms"));
        assert!(time("-1s").is_err());
        assert!(positive_time("0s").is_err());
    }

    #[test]
    fn cores_are_numbers_and_ranges() {
        assert_eq!(cores("0"), Ok(Cores(vec![0])));
        assert_eq!(cores("0-2,6"), Ok(Cores(vec![0, 1, 2, 6])));
        for wrong in ["", "a", "3-1", "0,", "0-99999999999", "-1"] {
            assert!(cores(wrong).is_err(), "{wrong}");
        }
        assert!(cores("1,0-2").unwrap_err().contains("core 1"));
    }

    #[test]
    fn bytes_are_hexadecimal() {
        assert_eq!(hex(""), Ok(Bytes(vec![])));
        assert_eq!(hex("0aFf"), Ok(Bytes(vec![0x0a, 0xff])));
        assert!(hex("abc").is_err());
        assert!(hex("zz").is_err());
    }

    #[test]
    fn addresses_have_a_port() {
        assert!(address("127.0.0.1:0").is_ok());
        assert!(address("[::]:4433").is_ok());
        let scoped = address("[fe80::1%lo]:4433").unwrap();
        assert!(matches!(scoped, SocketAddr::V6(v6) if v6.scope_id() > 0), "{scoped}");
        for wrong in ["[fe80::1%nowhere]:1", "[host%lo]:1", "[fe80::1%lo]:", "[fe80::1%lo]:70000"] {
            assert!(address(wrong).unwrap_err().contains("%eth0"), "{wrong}");
        }
        assert!(address("localhost:1").unwrap_err().contains("[::1]:4433"));
    }
}
