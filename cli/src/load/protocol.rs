//! protocol is the flags that say what is spoken, and which other flags fit it.

use clap::{ArgGroup, Args};

use super::LoadArgs;
use crate::exit::Failure;
use crate::target::{Scheme, Url};

/// What is spoken.
#[derive(Args, Clone, Debug)]
#[command(group(ArgGroup::new("protocol")))]
pub(super) struct ProtocolOptions {
    /// With quic://: speak `perf` (draft-banks-quic-performance), as quiclane serve, msquic and
    /// quinn do
    #[arg(long, group = "protocol")]
    perf: bool,

    /// With https://: speak HTTP/0.9 over QUIC (hq-interop) instead of HTTP/3: paths, and nothing
    /// else
    #[arg(long, group = "protocol")]
    hq: bool,

    /// With quic://: speak `echo`, as quiclane serve --alpn echo does: what a stream takes up comes
    /// back. --request-size, or --body, says how much [default: 1k]
    #[arg(long, group = "protocol")]
    echo: bool,

    /// With quic:// and --alpn: open streams, send --request-size or --body [default: 1k] and FIN,
    /// and count what comes back until FIN
    #[arg(long, group = "protocol", requires = "alpn")]
    raw: bool,

    /// The name of the protocol in the TLS handshake, where the server has another one for it, as
    /// hq-29 is HTTP/0.9 [default: h3, hq-interop, perf or echo]
    #[arg(long, value_name = "NAME", value_parser = alpn)]
    alpn: Option<String>,
}

/// A protocol, with all that flags say about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Speaks {
    /// `perf`.
    Perf,
    /// HTTP/3.
    Http3,
    /// HTTP/0.9.
    Hq,
    /// `echo`.
    Echo,
    /// Streams of a protocol that is only known by name.
    Raw,
}

impl ProtocolOptions {
    /// The name in the TLS handshake of what is spoken.
    pub(super) fn alpn(&self, speaks: Speaks) -> &str {
        self.alpn.as_deref().unwrap_or_else(|| match speaks {
            Speaks::Perf => "perf",
            Speaks::Http3 => "h3",
            Speaks::Hq => "hq-interop",
            Speaks::Echo => "echo",
            Speaks::Raw => unreachable!("clap asks for --alpn"),
        })
    }

    /// What is spoken with the server of `url`.
    pub(super) fn speaks(&self, url: &Url) -> Result<Speaks, Failure> {
        let Self { perf, hq, echo, raw, alpn: _ } = *self;
        let given = [(perf, "--perf"), (hq, "--hq"), (echo, "--echo"), (raw, "--raw")];
        let given = given.iter().find(|(is_given, _)| *is_given).map(|(_, flag)| *flag);
        let unfit = |flag: &str, why, remedy| {
            let (flags, beside) = (flag.to_owned(), url.to_string());
            Failure::WithoutEffect { flags, beside, why, remedy }
        };
        match (url.scheme, given) {
            (Scheme::Https, None) => Ok(Speaks::Http3),
            (Scheme::Https, Some("--hq")) => Ok(Speaks::Hq),
            (Scheme::Https, Some(flag)) => {
                let remedy = "write quic://HOST:PORT with it (HTTP/3 has --body-size, and paths)";
                Err(unfit(flag, "which speaks HTTP/3", remedy))
            }
            (Scheme::Quic, Some("--hq")) => {
                let remedy = "write https://HOST:PORT/PATH with it";
                Err(unfit("--hq", "which has no paths", remedy))
            }
            (Scheme::Quic, None) => {
                let needed = "--perf, the protocol to speak (or --echo, or --alpn NAME --raw); or \
                              write https://HOST:PORT/PATH for HTTP/3";
                Err(Failure::Incomplete { given: url.to_string(), needed })
            }
            (Scheme::Quic, Some("--echo")) => Ok(Speaks::Echo),
            (Scheme::Quic, Some("--raw")) => Ok(Speaks::Raw),
            (Scheme::Quic, Some(_)) => Ok(Speaks::Perf),
        }
    }
}

impl LoadArgs {
    /// Refuses what does not fit what is spoken.
    pub(super) fn check_protocol(&self) -> Result<(), Failure> {
        let speaks = self.protocol.speaks(self.url())?;
        let more = self.more.iter().map(Url::to_string);
        let http = self.http.given_for_http().into_iter().chain(self.http.given_bodies());
        match speaks {
            Speaks::Http3 => {
                let flags = self.work.given_for_perf().into_iter().chain(self.work.request_size());
                let remedy =
                    "write quic://HOST:PORT with --perf (HTTP/3 has --body-size, and paths)";
                return without(flags, &self.url().to_string(), "which speaks HTTP/3", remedy);
            }
            Speaks::Hq => {
                let flags = self.work.given_for_perf().into_iter().chain(self.work.request_size());
                let flags = flags.chain(self.http.given_head()).chain(self.http.given_bodies());
                let remedy = "leave out --hq for HTTP/3";
                without(flags, "--hq", "whose requests are paths alone", remedy)?;
            }
            Speaks::Perf => {
                let remedy =
                    "write https://HOST:PORT/PATH without --perf; its payload is --request-size";
                without(http.chain(more), "--perf", "which has no such requests", remedy)?;
            }
            Speaks::Echo | Speaks::Raw => {
                let beside = if speaks == Speaks::Echo { "--echo" } else { "--raw" };
                let flags = self.work.given_for_perf().into_iter();
                let flags = flags.chain(self.http.given_for_http()).chain(more);
                let remedy = "say what to send with --request-size or --body";
                without(flags, beside, "which has streams and no such requests", remedy)?;
                if self.pace.datagram_size().is_some() {
                    let remedy = "say how large they are with --datagram-size";
                    let flags = self.http.given_bodies();
                    without(flags, "--datagrams", "which are no streams", remedy)?;
                }
                if self.http.has_body() {
                    let remedy = "it says what to send as well";
                    let flags = self.work.request_size().into_iter();
                    without(flags, "--body or --body-size", "which says that", remedy)?;
                }
            }
        }
        let is_alone = self.work.reconnect && self.work.idle.is_none();
        let needed = "--idle N, or https://: other workloads replace lost connections anyway";
        match is_alone {
            true => Err(Failure::Incomplete { given: "--reconnect".into(), needed }),
            false => Ok(()),
        }
    }
}

/// Refuses `flags` beside another one, if there are any.
pub(super) fn without(
    flags: impl IntoIterator<Item = String>,
    beside: &str,
    why: &'static str,
    remedy: &'static str,
) -> Result<(), Failure> {
    let flags: Vec<String> = flags.into_iter().collect();
    match flags.is_empty() {
        true => Ok(()),
        false => Err(Failure::WithoutEffect {
            flags: flags.join(", "),
            beside: beside.into(),
            why,
            remedy,
        }),
    }
}

/// RFC 7301 section 3.1: 1 to 255 bytes.
fn alpn(text: &str) -> Result<String, String> {
    match text.len() {
        1..=255 => Ok(text.to_owned()),
        _ => Err("a name has 1 to 255 bytes".into()),
    }
}
