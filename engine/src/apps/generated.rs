//! generated is content without a meaning, for those who measure.

use bytes::Bytes;

/// At most `bytes_max` zeroes, in memory that nobody has to fill.
pub(super) fn zeroes(bytes_max: u64) -> Bytes {
    let bytes = usize::try_from(bytes_max).unwrap_or(usize::MAX).min(ZEROES.len());
    Bytes::from_static(ZEROES.get(..bytes).unwrap_or_default())
}

/// The number in `/bytes/1024`, the path that asks for so many zeroes.
pub(super) fn wanted(path: &[u8]) -> Option<u64> {
    number(path.strip_prefix(b"/bytes/")?)
}

/// A number in plain digits.
pub(super) fn number(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    if is_number { str::from_utf8(text).ok()?.parse().ok() } else { None }
}

static ZEROES: [u8; 64 << 10] = [0; 64 << 10];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_names_a_number() {
        assert_eq!(wanted(b"/bytes/0"), Some(0));
        assert_eq!(wanted(b"/bytes/18446744073709551615"), Some(u64::MAX));
        for path in ["/bytes/", "/bytes/+1", "/bytes/1k", "/bytes/18446744073709551616", "/b/1"] {
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
