//! script reads what to ask for, and when, from files: recordings and lists of URLs.
//!
//! ```text
//! --replay FILE        MILLISECONDS [URI]      when, and what if it is not the URL of the command
//! --input-file FILE    URL [WEIGHT]            what, and how often beside the others
//! ```
//! A URI is a path or a whole URL of the same server. Blank lines and those that begin with # are
//! skipped. Nothing is believed: every line, and the number of lines, has a limit.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use quiclane_loadgen::{REPLAY_MAX, Replay};

use crate::exit::Failure;
use crate::target::{Scheme, Url};

/// What to ask for, when a recording says when.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) replay: Replay,
    /// What the requests are for, each once.
    pub(super) urls: Vec<Url>,
}

/// Reads the recording at `path` of requests to the server of `url`, `speed` times as fast.
pub(super) fn recording(path: &Path, url: &Url, speed: f64) -> Result<Recording, Failure> {
    let mut urls = vec![url.clone()];
    let mut known: HashMap<String, u32> = HashMap::from([(url.path.clone(), 0)]);
    let mut times: Vec<(Duration, u32)> = Vec::new();
    let mut last_ms = 0.0;
    lines("--replay", path, REPLAY_MAX, |text| {
        let (time, uri) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let ms = time.parse::<f64>().ok().filter(|ms| (0.0..=TIME_MS_MAX).contains(ms));
        let ms = ms.ok_or_else(|| {
            format!("{time:?} is no time: write milliseconds from the start, then a tab and a URI")
        })?;
        if ms < last_ms {
            return Err(format!("{ms} ms is before the {last_ms} ms ahead of it: sort the lines"));
        }
        last_ms = ms;
        let which = match uri.trim() {
            "" => 0,
            uri if url.scheme == Scheme::Quic => {
                return Err(format!("{uri:?}: there are no paths over quic://: leave it out"));
            }
            uri => {
                let found = of_server(url, uri)?;
                match known.get(&found.path) {
                    Some(which) => *which,
                    None if urls.len() == URLS_MAX => {
                        return Err(format!("more than {URLS_MAX} URIs: replay in parts"));
                    }
                    None => {
                        let which = u32::try_from(urls.len()).unwrap_or(u32::MAX);
                        known.insert(found.path.clone(), which);
                        urls.push(found);
                        which
                    }
                }
            }
        };
        let seconds = Duration::try_from_secs_f64(ms / 1e3 / speed);
        times.push((seconds.unwrap_or(Duration::MAX), which));
        Ok(())
    })?;
    let replay = Replay::new(times).map_err(|error| Failure::Script {
        flag: "--replay",
        path: path.into(),
        why: error.to_string(),
    })?;
    Ok(Recording { replay, urls })
}

/// Reads the list of URLs at `path`, of the server of `url`, with their weights.
pub(super) fn list(path: &Path, url: &Url) -> Result<Vec<(Url, NonZero<u32>)>, Failure> {
    let mut urls = Vec::new();
    lines("--input-file", path, URLS_MAX, |text| {
        let (uri, weight) = text.split_once(char::is_whitespace).unwrap_or((text, "1"));
        let weight = weight.trim();
        let weight = weight.parse().map_err(|_| {
            format!("{weight:?} is no weight: write URL WEIGHT, a number from 1 on, or URL alone")
        })?;
        urls.push((of_server(url, uri)?, weight));
        Ok(())
    })?;
    if urls.is_empty() {
        let why = "no URL in it: write one in each line".into();
        return Err(Failure::Script { flag: "--input-file", path: path.into(), why });
    }
    Ok(urls)
}

/// What `uri`, a path or a whole URL, stands for beside `url`.
fn of_server(url: &Url, uri: &str) -> Result<Url, String> {
    let text = match uri.starts_with('/') {
        true => format!("https://{}{uri}", url.authority()),
        false => uri.to_owned(),
    };
    let mut found: Url = text.parse().map_err(|error| format!("{uri:?}: {error}"))?;
    if uri.starts_with('/') {
        // What the URL knows beside its authority: an interface.
        found.host.clone_from(&url.host);
    }
    match url.has_origin_of(&found) {
        true => Ok(found),
        false => Err(format!(
            "{uri:?} is not of {url}: the URLs of a run have scheme, host and port in common; run \
             one command for each server"
        )),
    }
}

/// Hands each line that says something to `sink`; what it says against one is said of that line.
fn lines(
    flag: &'static str,
    path: &Path,
    lines_max: usize,
    mut sink: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), Failure> {
    let path_of = || PathBuf::from(path);
    let unreadable = |source| Failure::ScriptFile { flag, path: path_of(), source };
    let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
    let (mut line, mut taken) = (Vec::new(), 0);
    for number in 1_u64.. {
        line.clear();
        let mut rest = (&mut reader).take(LINE_BYTES_MAX + 1);
        if rest.read_until(b'\n', &mut line).map_err(unreadable)? == 0 {
            return Ok(());
        }
        let refused = |why: String| {
            let why = format!("line {number}: {why}");
            Failure::Script { flag, path: path_of(), why }
        };
        if line.len() as u64 > LINE_BYTES_MAX {
            return Err(refused(format!("more than {LINE_BYTES_MAX} bytes: shorten it")));
        }
        let text = str::from_utf8(&line).map_err(|_| refused("not UTF-8: is it text?".into()))?;
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if taken == lines_max {
            let why = format!("more than {lines_max} lines: give the file in parts");
            return Err(refused(why));
        }
        taken += 1;
        sink(text).map_err(refused)?;
    }
    Ok(())
}

/// Far longer than servers take a URL to be.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Different URLs in one run: each worker keeps what it sends for each, half a kilobyte or so.
const URLS_MAX: usize = 250_000;

/// A year: longer than anything runs.
const TIME_MS_MAX: f64 = 365.0 * 86_400e3;

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn with<T>(text: &[u8], read: impl FnOnce(&Path) -> T) -> T {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text).unwrap();
        read(file.path())
    }

    fn https() -> Url {
        "https://a:4433/first".parse().unwrap()
    }

    fn replayed(text: &str, speed: f64) -> Result<Recording, String> {
        with(text.as_bytes(), |path| recording(path, &https(), speed))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn recordings_say_when_and_what() {
        let text = "# h2load's format\n0\t/a\n\n0.5\thttps://a:4433/b?c\n10\n10\t/a\n20 /first\n";
        let Recording { replay, urls } = replayed(text, 1.0).unwrap();
        let paths: Vec<&str> = urls.iter().map(|url| url.path.as_str()).collect();
        assert_eq!(paths, ["/first", "/a", "/b?c"]);
        assert_eq!((replay.len(), replay.length()), (5, Duration::from_millis(20)));
        let twice = replayed(text, 2.0).unwrap().replay;
        assert_eq!(twice.length(), Duration::from_millis(10));
        // The same without any URI, for a protocol that has none.
        let quic = "quic://a:1".parse().unwrap();
        let times = |text: &str| with(text.as_bytes(), |path| recording(path, &quic, 1.0));
        assert_eq!(times("1\n2\r\n3").unwrap().replay.len(), 3);
        assert!(
            times("1 /a").unwrap_err().to_string().contains("line 1: \"/a\": there are no paths")
        );
    }

    #[test]
    fn wrong_recordings_are_refused_by_the_line() {
        for (text, words) in [
            ("0\t/\n5\t/\n4\t/\n", ["line 3", "4 ms is before the 5 ms"]),
            ("0\t/\nx\t/\n", ["line 2", "\"x\" is no time"]),
            ("-1\n", ["line 1", "milliseconds"]),
            ("nan\n", ["line 1", "milliseconds"]),
            ("1e300\n", ["line 1", "milliseconds"]),
            ("0\thttps://b:4433/\n", ["line 1", "is not of https://a:4433/first"]),
            ("0\tftp://x\n", ["line 1", "ftp://"]),
            ("# nothing\n", ["nothing to replay", "at least one"]),
        ] {
            let error = replayed(text, 1.0).unwrap_err();
            for word in words {
                assert!(error.contains(word) && error.contains("--replay"), "{text}: {error}");
            }
        }
        let gone = recording(Path::new("/nowhere/r"), &https(), 1.0).unwrap_err().to_string();
        assert!(gone.contains("/nowhere/r") && gone.contains("may read"), "{gone}");
    }

    #[test]
    fn lists_have_weights() {
        let listed = |text: &[u8]| with(text, |path| list(path, &https()));
        let urls = listed(b"/a 3\n# c\nhttps://a:4433/b\n/c\t 2\n").unwrap();
        let urls: Vec<(&str, u32)> =
            urls.iter().map(|(url, weight)| (url.path.as_str(), weight.get())).collect();
        assert_eq!(urls, [("/a", 3), ("/b", 1), ("/c", 2)]);
        let long = [b"/", [b'a'; 70_000].as_slice()].concat();
        for (text, word) in [
            (&b"/a 0\n"[..], "\"0\" is no weight"),
            (b"/a 1 2\n", "\"1 2\" is no weight"),
            (b"/a 5000000000\n", "is no weight"),
            (b"\xff\xfe\n", "not UTF-8"),
            (&long, "shorten it"),
            (b"\n", "no URL in it"),
        ] {
            let error = listed(text).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("--input-file"), "{word}: {error}");
        }
    }

    #[test]
    fn files_have_a_limit() {
        let text = "0\n".repeat(5);
        let mut seen = 0;
        let mut read = |lines_max| {
            with(text.as_bytes(), |path| {
                lines("--replay", path, lines_max, |_| {
                    seen += 1;
                    Ok(())
                })
            })
        };
        assert!(read(5).is_ok());
        let error = read(4).unwrap_err().to_string();
        assert!(error.contains("line 5: more than 4 lines") && error.contains("parts"), "{error}");
        assert_eq!(seen, 9);
    }
}
