//! http is the flags that say what to ask for over HTTP.

use std::fs::File;
use std::io::Read;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use quiclane_loadgen::{Body, HqRequest, HttpError, HttpRequest};

use super::script::list;
use crate::exit::Failure;
use crate::flags::size;
use crate::target::Url;

/// What to ask for.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "HTTP/3 requests")]
pub(super) struct HttpOptions {
    /// Method of the requests [default: GET, with a body POST]
    #[arg(short = 'X', long, value_name = "METHOD")]
    method: Option<String>,

    /// A header field, as 'name: value'; can be repeated. Host takes the place of the URL's host
    /// in the request (:authority), user-agent that of quiclane/VERSION
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<Header>,

    /// Body of each request; @FILE is what stands in FILE, at most 1 GiB
    #[arg(long, value_name = "STRING|@FILE")]
    body: Option<String>,

    /// Body of so many zeros, for example 10m
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "body")]
    body_size: Option<u64>,

    /// Ask for the URLs in FILE instead: each line has a path or a URL of the same server, and may
    /// have a space and a weight [default: 1]. Each is asked for as often as its weight says, in
    /// turn; blank lines and those that begin with # are skipped
    #[arg(short, long, value_name = "FILE")]
    input_file: Option<PathBuf>,
}

/// --header.
#[derive(Clone, Debug)]
struct Header {
    name: String,
    value: String,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let remedy = "write 'name: value', for example 'accept: text/html'";
        let at = text.find(':').filter(|at| *at > 0);
        if text.starts_with(':') {
            return Err(format!("a name begins with no colon: change -X or the URL, or {remedy}"));
        }
        let (name, value) = text.split_at(at.ok_or(remedy)?);
        Ok(Self { name: name.trim().into(), value: value[1..].trim().into() })
    }
}

impl HttpOptions {
    /// The flags that were given for more than a path, but for bodies, as they would be written.
    pub(super) fn given_head(&self) -> Vec<String> {
        let Self { method, headers, body: _, body_size: _, input_file: _ } = self;
        let mut given = Vec::new();
        given.extend(method.iter().map(|method| format!("-X {method}")));
        given.extend(headers.iter().map(|Header { name, value }| format!("-H '{name}: {value}'")));
        given
    }

    /// All flags that were given, but for bodies, as they would be written.
    pub(super) fn given_for_http(&self) -> Vec<String> {
        let mut given = self.given_head();
        let files = self.input_file.iter();
        given.extend(files.map(|path| format!("--input-file {}", path.display())));
        given
    }

    /// The flags of bodies that were given, as they would be written.
    pub(super) fn given_bodies(&self) -> Vec<String> {
        let body = self.body.iter().map(|_| "--body".to_owned());
        body.chain(self.body_size.iter().map(|bytes| format!("--body-size {bytes}"))).collect()
    }

    /// Whether there is a body.
    pub(super) fn has_body(&self) -> bool {
        self.body.is_some() || self.body_size.is_some()
    }

    /// One request over HTTP/0.9 for each of `urls`, or of the list of those on their server.
    pub(super) fn hq_requests<'u>(
        &self,
        mut urls: impl Iterator<Item = &'u Url>,
    ) -> Result<Vec<HqRequest>, Failure> {
        let request = |url: &Url| HqRequest::new(&url.path).map_err(Failure::Http);
        match (&self.input_file, urls.next()) {
            (Some(path), Some(server)) => list(path, server)?
                .iter()
                .map(|(url, weight)| Ok(request(url)?.weighted(*weight)))
                .collect(),
            (_, first) => first.into_iter().chain(urls).map(request).collect(),
        }
    }

    /// One request for each of `urls`, or of the list of those that there are on their server.
    pub(super) fn requests<'u>(
        &self,
        mut urls: impl Iterator<Item = &'u Url>,
    ) -> Result<Vec<HttpRequest>, Failure> {
        let body = self.body()?;
        let request = |url: &Url| self.request(url, body.clone()).map_err(Failure::Http);
        let Some((path, server)) = self.input_file.as_deref().and_then(|path| {
            let server = urls.next()?;
            Some((path, server))
        }) else {
            return urls.map(request).collect();
        };
        let weigh = |(url, weight): &(Url, NonZero<u32>)| Ok(request(url)?.weighted(*weight));
        list(path, server)?.iter().map(weigh).collect()
    }

    fn request(&self, url: &Url, body: Body) -> Result<HttpRequest, HttpError> {
        let default = if matches!(body, Body::None) { "GET" } else { "POST" };
        let method = self.method.as_deref().unwrap_or(default);
        let is =
            |name: &'static str| move |header: &&Header| header.name.eq_ignore_ascii_case(name);
        let host = self.headers.iter().rfind(is("host")).map(|header| header.value.clone());
        let authority = host.unwrap_or_else(|| url.authority());
        let mut request = HttpRequest::new(method, &authority, &url.path, body)?;
        if !self.headers.iter().any(|header| is("user-agent")(&header)) {
            request = request.with("user-agent", USER_AGENT)?;
        }
        for header in self.headers.iter().filter(|header| !is("host")(header)) {
            request = request.with(&header.name, &header.value)?;
        }
        Ok(request)
    }

    pub(super) fn body(&self) -> Result<Body, Failure> {
        if let Some(bytes) = self.body_size {
            return Ok(Body::Zeros(bytes));
        }
        let Some(text) = &self.body else { return Ok(Body::None) };
        let bytes = match text.strip_prefix('@') {
            None => text.clone().into_bytes(),
            Some(path) => read(Path::new(path))?,
        };
        Ok(Body::Bytes(bytes.into()))
    }
}

/// What stands in the file of --body.
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let file =
        File::open(path).and_then(|file| file.take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes));
    match file {
        Ok(read) if read as u64 <= BODY_BYTES_MAX => Ok(bytes),
        Ok(_) => Err(Failure::BodyTooLarge(path.into())),
        Err(source) => Err(Failure::Body { path: path.into(), source }),
    }
}

/// A body from a file is kept in memory; /dev/zero has no end.
const BODY_BYTES_MAX: u64 = 1 << 30;

const USER_AGENT: &str = concat!("quiclane/", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Flags {
        #[command(flatten)]
        http: HttpOptions,
    }

    fn parse(flags: &[&str]) -> HttpOptions {
        Flags::try_parse_from([&["load"], flags].concat()).unwrap().http
    }

    fn request(flags: &[&str]) -> Result<HttpRequest, String> {
        let url = "https://localhost/".parse::<Url>().unwrap();
        let requests = parse(flags).requests([url].iter()).map_err(|error| error.to_string());
        requests.map(|mut requests| requests.remove(0))
    }

    #[test]
    fn the_method_follows_the_body_unless_it_is_given() {
        for (flags, method, bytes) in [
            (&[][..], "GET", 0),
            (&["--body", "abc"], "POST", 3),
            (&["--body", ""], "POST", 0),
            (&["--body-size", "10m"], "POST", 10 << 20),
            (&["-X", "PUT", "--body", "abc"], "PUT", 3),
            (&["-X", "HEAD"], "HEAD", 0),
        ] {
            let request = request(flags).unwrap();
            assert_eq!((request.method(), request.body_bytes()), (method, bytes));
        }
    }

    #[test]
    fn a_body_may_be_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("body");
        fs::write(&path, "12345").unwrap();
        let flag = format!("@{}", path.display());
        assert_eq!(request(&["--body", &flag]).unwrap().body_bytes(), 5);
        let error = request(&["--body", "@/nowhere/body"]).unwrap_err();
        assert!(error.contains("--body @/nowhere/body") && error.contains("No such"), "{error}");
        File::create(&path).unwrap().set_len(BODY_BYTES_MAX + 1).unwrap();
        let error = request(&["--body", &flag]).unwrap_err();
        assert!(error.contains("1 GiB") && error.contains("--body-size"), "{error}");
    }

    #[test]
    fn headers_are_judged_by_name() {
        assert!(request(&["-H", "a:b", "-H", "A : b:c", "-H", "User-Agent: x"]).is_ok());
        assert!(request(&["-H", "Host: example.org:1"]).is_ok());
        for (header, word) in [
            ("Host: a b", "authority \"a b\""),
            ("connection: close", "\"connection\""),
            ("a b: c", "\"a b\""),
        ] {
            let error = request(&["-H", header]).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
        for header in ["nonsense", ":path: /", ": x", ""] {
            let error = Flags::try_parse_from(["load", "-H", header]).unwrap_err().to_string();
            assert!(error.contains("name: value"), "{error}");
        }
    }
}
