//! ranges are parts of a file that a client asks for (RFC 9110 section 14).

/// What a `range` field comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    /// Everything: there is no range, it makes no sense, or there are several, which a server may
    /// ignore.
    All,
    /// Some bytes, at least one.
    Part { from: u64, bytes: u64 },
    /// A range that the file does not have.
    Nothing,
}

/// Reads the value of a `range` field, for a file of `length` bytes.
pub(super) fn wanted(value: &[u8], length: u64) -> Wanted {
    parse(value, length).unwrap_or(Wanted::All)
}

fn parse(value: &[u8], length: u64) -> Option<Wanted> {
    let (unit, range) = str::from_utf8(value).ok()?.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || range.contains(',') {
        return None;
    }
    let (first, last) = range.trim().split_once('-')?;
    if first.is_empty() {
        // The last so many bytes.
        let bytes = number(last)?.min(length);
        return Some(match bytes {
            0 if length == 0 => Wanted::All,
            0 => Wanted::Nothing,
            bytes => Wanted::Part { from: length - bytes, bytes },
        });
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    if first >= length {
        return Some(Wanted::Nothing);
    }
    Some(Wanted::Part { from: first, bytes: last.min(length - 1) - first + 1 })
}

/// Digits; more of them than anything has bytes are as good as all.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        let part = |from, bytes| Wanted::Part { from, bytes };
        for (value, expected) in [
            ("bytes=0-499", part(0, 500)),
            ("bytes=500-999", part(500, 500)),
            ("bytes=-500", part(9_500, 500)),
            ("bytes=9500-", part(9_500, 500)),
            ("bytes=0-0,-1", Wanted::All),
            ("bytes=0-0", part(0, 1)),
            ("bytes=-1", part(9_999, 1)),
            ("BYTES = 1-1", part(1, 1)),
        ] {
            assert_eq!(wanted(value.as_bytes(), 10_000), expected, "{value}");
        }
    }

    #[test]
    fn what_a_file_does_not_have() {
        for value in ["bytes=10-", "bytes=10-10", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(wanted(value.as_bytes(), 10), Wanted::Nothing, "{value}");
        }
        for value in ["bytes=0-99999999999999999999", "bytes=-99999999999999999999", "bytes=0-9"] {
            assert_eq!(wanted(value.as_bytes(), 10), Wanted::Part { from: 0, bytes: 10 });
        }
        assert_eq!(wanted(b"bytes=0-", 0), Wanted::Nothing);
        assert_eq!(wanted(b"bytes=-1", 0), Wanted::All);
    }

    #[test]
    fn nonsense_is_no_range() {
        for value in ["", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=2-1", "lines=0-1"] {
            assert_eq!(wanted(value.as_bytes(), 10), Wanted::All, "{value}");
        }
        assert_eq!(wanted(b"bytes=\xff-1", 10), Wanted::All);
    }
}
