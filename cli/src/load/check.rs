//! check refuses flags that are right each and make no sense together.

use super::LoadArgs;
use super::protocol::without;
use super::trust::ResumeFlag;
use crate::exit::Failure;
use crate::target::Url;

impl LoadArgs {
    /// Refuses what makes no sense together.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let url = self.url().to_string();
        if self.json && self.files.takes_stdout() {
            let flags = ["--series -".to_owned()];
            without(flags, "--json", "which takes stdout for the report", "give --series FILE")?;
        }
        self.check_repeat()?;
        if let Some(other) = self.more.iter().find(|other| !self.url().has_origin_of(other)) {
            return Err(Failure::Origins { url, other: other.to_string() });
        }
        if let Some(instead) = self.work.instead_of_requests() {
            let more = self.more.iter().map(Url::to_string);
            let http = self.http.given_for_http().into_iter().chain(self.http.given_bodies());
            without(http.chain(more), &instead, "which makes no requests", "make requests")?;
        }
        if self.work.handshakes {
            let timeout = self.timeout.map(humantime::format_duration);
            let timeout = timeout.map(|timeout| format!("--timeout {timeout}"));
            let remedy = "give --connect-timeout, the limit of a handshake";
            without(timeout, "--handshakes", "which makes no requests", remedy)?;
            let resume = (self.trust.resume != ResumeFlag::Off).then(|| "--resume".to_owned());
            let why = "whose connections are closed before a ticket can come";
            let remedy = "give --requests-per-conn 1 instead, which resumes sessions";
            without(resume, "--handshakes", why, remedy)?;
            let reconnect = self.work.reconnect.then(|| "--reconnect".to_owned());
            let why = "which always connects again";
            without(reconnect, "--handshakes", why, "hold connections with --idle N")?;
        }
        let migrates = self.sockets.migrates_shared();
        let why = "where no connection has a socket to leave";
        without(migrates, "--sockets per-core", why, "give each its own with per-conn")?;
        self.check_protocol()
    }

    /// Refuses what has no meaning for several runs.
    fn check_repeat(&self) -> Result<(), Failure> {
        let Some(given) = self.repeat.given() else { return Ok(()) };
        if self.files.takes_stdout() {
            let series = ["--series -".to_owned()];
            without(series, &given, "whose runs are told on stdout", "give --series FILE")?;
        }
        if self.work.idle.is_some() && self.duration.is_none() {
            let needed = "-d TIME beside --idle, which ends only when it is interrupted";
            return Err(Failure::Incomplete { given, needed });
        }
        match &self.repeat.versus {
            Some(other) if other.scheme != self.url().scheme => {
                let url = self.url().to_string();
                Err(Failure::Schemes { url, other: other.to_string() })
            }
            _ => Ok(()),
        }
    }
}
