//! The generators: how each is told the same, and what it says in the end.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::Args;

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    /// draft-banks-quic-performance.
    Perf,
    /// GET `/bytes/1024`.
    Http3,
}

impl Protocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Perf => "perf",
            Self::Http3 => "HTTP/3",
        }
    }
}

/// A program that offers load.
#[derive(Debug)]
pub(crate) enum Generator {
    /// `quiclane load`, one worker, a socket for each connection as it is by default.
    Quiclane(PathBuf),
    /// The same with one socket for all connections, as the others have.
    Shared(PathBuf),
    /// `quinn-client` of this workspace.
    Quinn(PathBuf),
    /// oha, one thread.
    Oha(PathBuf),
}

impl Generator {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Quiclane(_) => "quiclane load",
            Self::Shared(_) => "quiclane load --sockets per-core",
            Self::Quinn(_) => "stock quinn, h3 0.0.8",
            Self::Oha(_) => "oha",
        }
    }

    /// Adds the program and its arguments.
    pub(crate) fn arguments(
        &self,
        command: &mut Command,
        protocol: Protocol,
        address: &str,
        args: &Args,
    ) {
        let [requests, connections, streams] =
            [args.requests, args.connections.into(), args.streams.into()].map(|n| n.to_string());
        let web = format!("https://{address}/bytes/1024");
        match (self, protocol) {
            (Self::Quiclane(program) | Self::Shared(program), _) => {
                command.arg(program).arg("load");
                match protocol {
                    Protocol::Perf => command.args([&format!("quic://{address}"), "--perf"]),
                    Protocol::Http3 => command.arg(web),
                };
                command.args(["-k", "-q", "--json", "--workers", "1"]);
                command.args(["--cores", &args.client_core.to_string()]);
                if let Self::Shared(_) = self {
                    command.args(["--sockets", "per-core"]);
                }
            }
            (Self::Quinn(program), _) => {
                let protocol = match protocol {
                    Protocol::Perf => "perf",
                    Protocol::Http3 => "http3",
                };
                command.arg(program).args([address, "--protocol", protocol]);
            }
            (Self::Oha(program), _) => {
                command.arg(program).args(["--http-version", "3", "--insecure", "--no-tui"]);
                command.args(["--output-format", "json", "--disable-color", &web]);
                // One after the other on each connection: of HTTP/2 alone it sends several at once.
                command.args(["-n", &requests, "-c", &connections, "-p", &streams]);
                return;
            }
        }
        command.args(["-n", &requests, "-c", &connections, "-m", &streams]);
    }

    /// How many requests it says were answered.
    pub(crate) fn answered(&self, stdout: &[u8]) -> Result<u64> {
        if let Self::Quinn(_) = self {
            return Ok(String::from_utf8_lossy(stdout).trim().parse()?);
        }
        let report: Value = serde_json::from_slice(stdout)?;
        match self {
            Self::Oha(_) => report["statusCodeDistribution"]["200"].as_u64(),
            _ => report["requests"].as_u64().filter(|_| report["ok"] == true),
        }
        .context("a report without the number of answers")
    }
}
