//! generated is content without a meaning, for those who measure.

use bytes::Bytes;

/// At most `bytes_max` zeroes, in memory that nobody has to fill.
pub(super) fn zeroes(bytes_max: u64) -> Bytes {
    let bytes = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(ZEROES.len());
    Bytes::from_static(ZEROES.get(..bytes).unwrap_or_default())
}

/// How many bytes `/bytes/1024` or `/bytes/1g` asks for.
pub(super) fn wanted(path: &[u8]) -> Option<u64> {
    size(path.strip_prefix(b"/bytes/")?)
}

/// A size as the flags of the command have it: `4096`, `64k`, `1m`, `2g`, with k = 1,024. What is
/// beyond all numbers is the largest.
pub(super) fn size(text: &[u8]) -> Option<u64> {
    let (unit, digits) = text.split_last()?;
    let shift = match unit.to_ascii_lowercase() {
        b'k' => 10,
        b'm' => 20,
        b'g' => 30,
        _ => return number(text),
    };
    Some(number(digits)?.saturating_mul(1 << shift))
}

/// A number in plain digits. What is beyond all numbers is the largest.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let mut digits = text.iter().map(|byte| byte.is_ascii_digit().then(|| u64::from(byte - b'0')));
    let number = |number: u64, digit| Some(number.saturating_mul(10).saturating_add(digit?));
    if text.is_empty() { None } else { digits.try_fold(0, number) }
}

static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_a_size() {
        for (path, bytes) in [
            ("/bytes/0", 0),
            ("/bytes/3k", 3 << 10),
            ("/bytes/64M", 64 << 20),
            ("/bytes/1g", 1 << 30),
            ("/bytes/18446744073709551615", u64::MAX),
            ("/bytes/18446744073709551616", u64::MAX),
            ("/bytes/99999999999999g", u64::MAX),
        ] {
            assert_eq!(wanted(path.as_bytes()), Some(bytes), "{path}");
        }
        for path in ["/bytes/", "/bytes/+1", "/bytes/-1", "/bytes/k", "/bytes/1t", "/b/1"] {
            assert_eq!(wanted(path.as_bytes()), None, "{path}");
        }
    }

    #[test]
    fn zeroes_come_in_pieces() {
        assert_eq!(zeroes(0).len(), 0);
        assert_eq!(zeroes(1_000).len(), 1_000);
        assert_eq!(zeroes(u64::MAX).len(), ZEROES.len());
    }
}
