//! types tells the type of a file by the end of its name.

/// The type of a page.
pub(super) const HTML: &str = "text/html;charset=utf-8";

/// The type that a name stands for.
pub(super) fn of(path: &[u8]) -> &'static str {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let ending = match name.iter().rposition(|byte| *byte == b'.') {
        Some(at) => name.get(at + 1..).unwrap_or_default(),
        None => return UNKNOWN,
    };
    let known = TYPES.iter().find(|(known, _)| known.as_bytes().eq_ignore_ascii_case(ending));
    known.map_or(UNKNOWN, |(_, kind)| kind)
}

const UNKNOWN: &str = "application/octet-stream";

/// What pages are made of, and what people put beside them. Text is taken for UTF-8.
const TYPES: &[(&str, &str)] = &[
    ("html", HTML),
    ("css", "text/css;charset=utf-8"),
    ("js", "text/javascript;charset=utf-8"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("svg", "image/svg+xml"),
    ("json", "application/json"),
    ("txt", "text/plain;charset=utf-8"),
    ("avif", "image/avif"),
    ("csv", "text/csv;charset=utf-8"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", HTML),
    ("ico", "image/vnd.microsoft.icon"),
    ("jpeg", "image/jpeg"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4s", "video/iso.segment"),
    ("map", "application/json"),
    ("md", "text/markdown;charset=utf-8"),
    ("mjs", "text/javascript;charset=utf-8"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpd", "application/dash+xml"),
    ("ogg", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("tar", "application/x-tar"),
    ("ttf", "font/ttf"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xml", "application/xml"),
    ("zip", "application/zip"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_decides() {
        assert_eq!(of(b"a/b.html"), HTML);
        assert_eq!(of(b"B.PNG"), "image/png");
        assert_eq!(of(b"a.tar.gz"), "application/gzip");
        for unknown in [&b"a.html/b"[..], b"html", b"a.", b"", b"a.unheard-of"] {
            assert_eq!(of(unknown), UNKNOWN, "{unknown:?}");
        }
    }
}
