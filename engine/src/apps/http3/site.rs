//! site is the service that comes with the server: paths to try and to measure clients with, and
//! the files of a folder.
//!
//! ```text
//!   /bytes/N       N zeroes                          GET, HEAD
//!   /echo          the request's content, as it comes  any method but CONNECT
//!   /delay/TIME    an answer after TIME: 100ms, 2s   GET, HEAD
//!   /status/CODE   an answer with that status        any
//!   all else       files, if there is a folder       GET, HEAD
//! ```

use std::time::{Duration, Instant};

use quiclane_http3::{Fields, Invalid, Prepared};

use super::body::Body;
use super::date::Date;
use super::files::Files;
use super::page::{self, Page};
use super::request::Request;
use super::response::{Head, Response, TEXT};
use super::service::{Content, Exchange, Next, Reply, Service};
use crate::apps::generated;

/// Choices of a [`Site`].
#[derive(Clone, Debug)]
pub struct SiteOptions {
    /// The largest generated response in bytes; beyond, the answer is 403. Default 16 GiB, as with
    /// the perf protocol.
    pub response_bytes_max: u64,
    /// The longest delay; beyond, the answer is 403. Default 1 min: more outlives the idle timeout
    /// of most clients.
    pub delay_max: Duration,
}

impl Default for SiteOptions {
    fn default() -> Self {
        Self { response_bytes_max: 16 << 30, delay_max: Duration::from_secs(60) }
    }
}

/// Paths to try and to measure clients with, and the files of a folder.
#[derive(Debug)]
pub struct Site {
    files: Option<Files>,
    options: SiteOptions,
    /// Responses that were asked for lately, by their size.
    cache: [Option<Cached>; CACHE_ENTRIES],
}

#[derive(Debug)]
struct Cached {
    bytes: u64,
    date: Date,
    response: Response,
}

impl Site {
    /// For one worker. Without `files`, `/` says which paths there are.
    #[must_use]
    pub fn new(files: Option<Files>, options: SiteOptions) -> Self {
        Self { files, options, cache: [const { None }; CACHE_ENTRIES] }
    }

    fn bytes(&mut self, request: &Request<'_>, bytes: u64) -> Reply {
        if !is_get(request) {
            return only_get(request);
        }
        if bytes > self.options.response_bytes_max {
            let text = format!("at most {} bytes\n", self.options.response_bytes_max);
            return page::of(request, &Page::text(403, &text)).into();
        }
        let date = request.date();
        if bytes > CACHED_BYTES_MAX {
            let head =
                zeroes_head(date).and_then(|head| head.with("content-length", bytes.to_string()));
            return match head {
                Ok(head) => Reply::exchange(Zeroes { head: Some(head), left: bytes }),
                Err(invalid) => Reply::Whole(Err(invalid).into()),
            };
        }
        let entry = usize::try_from(bytes).unwrap_or_default() % CACHE_ENTRIES;
        let Some(entry) = self.cache.get_mut(entry) else { return only_get(request) };
        if let Some(cached) = entry
            && cached.bytes == bytes
            && cached.date.unix() == date.unix()
        {
            return Reply::Whole(cached.response.clone());
        }
        let made = zeroes_head(date).and_then(|head| Response::new(head, generated::zeroes(bytes)));
        let response = Response::from(made);
        *entry = Some(Cached { bytes, date, response: response.clone() });
        Reply::Whole(response)
    }

    fn delay(&self, request: &Request<'_>, delay: Duration) -> Reply {
        if !is_get(request) {
            return only_get(request);
        }
        if delay > self.options.delay_max {
            let text = format!("at most {:?}\n", self.options.delay_max);
            return page::of(request, &Page::text(403, &text)).into();
        }
        let text = format!("{delay:?} later\n");
        Reply::exchange(Delay { until: request.now() + delay, text })
    }
}

impl Service for Site {
    fn request(&mut self, request: &Request<'_>) -> Reply {
        let path = request.path();
        if let Some(bytes) = generated::wanted(path) {
            return self.bytes(request, bytes);
        }
        if path == b"/echo" {
            return Echo::reply(request);
        }
        if let Some(delay) = path.strip_prefix(b"/delay/").and_then(time) {
            return self.delay(request, delay);
        }
        if let Some(status) = path.strip_prefix(b"/status/").and_then(status) {
            return page::of(request, &Page::status(status)).into();
        }
        match &mut self.files {
            Some(files) => files.request(request),
            None if path == b"/" && is_get(request) => {
                page::of(request, &Page::text(200, INDEX)).into()
            }
            None if path == b"/" => only_get(request),
            None => page::of(request, &Page::status(404)).into(),
        }
    }
}

/// So many zeroes.
struct Zeroes {
    head: Option<Head>,
    left: u64,
}

impl Exchange for Zeroes {
    fn next(&mut self, _: &mut Body<'_>) -> Next {
        if let Some(head) = self.head.take() {
            return Next::Head(head);
        }
        let piece = generated::zeroes(self.left);
        self.left -= piece.len() as u64;
        if piece.is_empty() { Next::End } else { Next::Data(piece) }
    }
}

/// Content and trailers back to where they came from, as they come.
struct Echo {
    head: Option<Head>,
    trailers: Option<Prepared>,
}

impl Echo {
    fn reply(request: &Request<'_>) -> Reply {
        let head = || -> Result<Head, Invalid> {
            let mut head = Head::new(200)?.with("date", request.date())?;
            if let Some(kind) = request.field(b"content-type") {
                head.push(b"content-type", kind)?;
            }
            match request.content_length() {
                Some(bytes) => head.with("content-length", bytes.to_string()),
                None if request.is_complete() => head.with("content-length", "0"),
                None => Ok(head),
            }
        };
        match head() {
            Ok(head) => Reply::exchange(Self { head: Some(head), trailers: None }),
            Err(invalid) => Reply::Whole(Err(invalid).into()),
        }
    }
}

impl Exchange for Echo {
    fn next(&mut self, content: &mut Body<'_>) -> Next {
        if let Some(head) = self.head.take() {
            return Next::Head(head);
        }
        loop {
            match content.pull() {
                Content::Piece(piece) => return Next::Data(piece),
                Content::Wait => return Next::Wait,
                Content::Trailers(fields) => self.trailers = Some(copied(&fields)),
                Content::End => return self.trailers.take().map_or(Next::End, Next::Trailers),
            }
        }
    }
}

fn copied(fields: &Fields) -> Prepared {
    let mut trailers = Prepared::trailers();
    for field in fields.iter() {
        // What may come may also be sent.
        let _ = trailers.push(field.name, field.value);
    }
    trailers
}

/// An answer later.
struct Delay {
    until: Instant,
    text: String,
}

impl Exchange for Delay {
    fn next(&mut self, content: &mut Body<'_>) -> Next {
        if content.now() < self.until {
            return Next::WaitUntil(self.until);
        }
        let head = Head::new(200).and_then(|head| head.with("date", content.date()));
        let head = head.and_then(|head| head.with("content-type", TEXT));
        Next::Whole(head.and_then(|head| Response::new(head, &self.text)).into())
    }
}

fn is_get(request: &Request<'_>) -> bool {
    matches!(request.method(), b"GET" | b"HEAD")
}

fn only_get(request: &Request<'_>) -> Reply {
    page::of(request, &Page::status(405).with("allow", "GET, HEAD")).into()
}

/// Zeroes are of no media type, and who measures small responses would pay for the name of one.
fn zeroes_head(date: Date) -> Result<Head, Invalid> {
    Head::new(200)?.with("date", date)
}

/// `250ms`, `2s`, `1m`, or plain seconds.
fn time(text: &[u8]) -> Option<Duration> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (count, unit) = text.split_at_checked(digits)?;
    let count = generated::number(count)?;
    match unit {
        b"us" => Some(Duration::from_micros(count)),
        b"ms" => Some(Duration::from_millis(count)),
        b"s" | b"" => Some(Duration::from_secs(count)),
        b"m" | b"min" => Some(Duration::from_secs(count.saturating_mul(60))),
        b"h" => Some(Duration::from_secs(count.saturating_mul(3_600))),
        _ => None,
    }
}

/// A final status.
fn status(text: &[u8]) -> Option<u16> {
    generated::number(text)
        .and_then(|status| u16::try_from(status).ok())
        .filter(|status| (200..=599).contains(status))
}

const INDEX: &str = "\
quiclane

/bytes/N       N zeroes; 64k, 1m and 1g are sizes too
/echo          what was sent, as it comes
/delay/TIME    an answer after TIME, such as 100ms or 2s
/status/CODE   an answer with that status

With --root DIR the files of a folder are here.
";

/// Responses up to this size are kept for the next one who asks.
const CACHED_BYTES_MAX: u64 = 16 << 10;

/// How many are kept: those who measure ask for few different sizes. 256 KiB at most.
const CACHE_ENTRIES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units_or_are_seconds() {
        assert_eq!(time(b"100ms"), Some(Duration::from_millis(100)));
        assert_eq!(time(b"7us"), Some(Duration::from_micros(7)));
        assert_eq!([time(b"2s"), time(b"2")], [Some(Duration::from_secs(2)); 2]);
        assert_eq!([time(b"2m"), time(b"2min")], [Some(Duration::from_secs(120)); 2]);
        assert_eq!(time(b"1h"), Some(Duration::from_secs(3_600)));
        for text in ["99999999999999999999s", "99999999999999999999h"] {
            assert_eq!(time(text.as_bytes()), Some(Duration::from_secs(u64::MAX)), "{text}");
        }
        for text in ["", "ms", "-1s", "1.5s", "1d", "1 s"] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn statuses_are_final_ones() {
        assert_eq!(status(b"204"), Some(204));
        for text in ["", "199", "600", "2e2", "65836"] {
            assert_eq!(status(text.as_bytes()), None, "{text}");
        }
    }
}
