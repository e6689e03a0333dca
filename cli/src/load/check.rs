//! check refuses flags that are right each and make no sense together.

use super::LoadArgs;
use crate::exit::Failure;
use crate::target::{Scheme, Url};

impl LoadArgs {
    /// Refuses what makes no sense together.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let url = self.url().to_string();
        let beside = |flags: Vec<String>, beside: &str, why, remedy| match flags.is_empty() {
            true => Ok(()),
            false => Err(Failure::WithoutEffect {
                flags: flags.join(", "),
                beside: beside.into(),
                why,
                remedy,
            }),
        };
        if self.json && self.files.takes_stdout() {
            let flags = vec!["--series -".to_owned()];
            beside(flags, "--json", "which takes stdout for the report", "give --series FILE")?;
        }
        if let Some(other) = self.more.iter().find(|other| !self.url().has_origin_of(other)) {
            return Err(Failure::Origins { url, other: other.to_string() });
        }
        if let Some(instead) = self.work.instead_of_requests() {
            let more = self.more.iter().map(Url::to_string);
            let flags = self.http.given().into_iter().chain(more).collect();
            beside(flags, &instead, "which makes no requests", "make requests")?;
        }
        if self.work.handshakes {
            let timeout = self.timeout.map(humantime::format_duration);
            let timeout = timeout.map(|timeout| format!("--timeout {timeout}"));
            let remedy = "give --connect-timeout, the limit of a handshake";
            let flags = timeout.into_iter().collect();
            beside(flags, "--handshakes", "which makes no requests", remedy)?;
            let reconnect = self.work.reconnect.then(|| "--reconnect".to_owned());
            let why = "which always connects again";
            let flags = reconnect.into_iter().collect();
            beside(flags, "--handshakes", why, "hold connections with --idle N")?;
        }
        let migrates = self.sockets.migrates_shared().into_iter().collect();
        let why = "where no connection has a socket to leave";
        beside(migrates, "--sockets per-core", why, "give each its own with per-conn")?;
        if self.url().scheme == Scheme::Https {
            let perf = self.perf.then(|| "--perf".to_owned());
            let flags = perf.into_iter().chain(self.work.given_for_perf()).collect();
            let remedy = "write quic://HOST:PORT with --perf (HTTP/3 has --body-size, and paths)";
            return beside(flags, &url, "which speaks HTTP/3", remedy);
        }
        if !self.perf {
            let needed =
                "--perf, the protocol to speak; or write https://HOST:PORT/PATH for HTTP/3";
            return Err(Failure::Incomplete { given: url, needed });
        }
        let more = self.more.iter().map(Url::to_string);
        let flags = self.http.given().into_iter().chain(more).collect();
        let remedy = "write https://HOST:PORT/PATH without --perf; its payload is --request-size";
        beside(flags, "--perf", "which has no such requests", remedy)?;
        let is_alone = self.work.reconnect && self.work.idle.is_none();
        let needed = "--idle N, or https://: other workloads replace lost connections anyway";
        match is_alone {
            true => Err(Failure::Incomplete { given: "--reconnect".into(), needed }),
            false => Ok(()),
        }
    }
}
