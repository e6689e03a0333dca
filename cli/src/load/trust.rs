//! trust says whose certificates count.

use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum};
use quiclane::{Resume, Trust};
use rustls::pki_types::ServerName;

use crate::certificate::{trust_file, trust_system};
use crate::exit::Failure;
use crate::target::Url;

/// Whom to trust.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Trust")]
pub(super) struct TrustOptions {
    /// Trust any certificate: for servers of your own. Twice (-kk), do not even check that the
    /// server holds its key, so that handshakes cost less here than there
    #[arg(short = 'k', long, action = ArgAction::Count)]
    pub(super) insecure: u8,

    /// Trust the certificates in this PEM file instead of those of the system
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(super) cacert: Option<PathBuf>,

    /// Name to ask for and to expect in the certificate [default: the host of the URL]
    #[arg(long, value_name = "NAME")]
    pub(super) sni: Option<String>,

    /// Resume TLS sessions when connecting again, with the first requests as 0-RTT data if asked.
    /// With --requests-per-conn 1 every connection but the first ones resumes
    #[arg(long, value_enum, value_name = "HOW", default_value_t = ResumeFlag::Off)]
    pub(super) resume: ResumeFlag,
}

/// What to do with session tickets.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum ResumeFlag {
    /// Every handshake is a full one
    Off,
    /// Resume sessions
    Ticket,
    /// Resume sessions and send 0-RTT data where the server allows it
    #[value(name = "0rtt")]
    ZeroRtt,
}

impl From<ResumeFlag> for Resume {
    fn from(flag: ResumeFlag) -> Self {
        match flag {
            ResumeFlag::Off => Self::Off,
            ResumeFlag::Ticket => Self::Ticket,
            ResumeFlag::ZeroRtt => Self::ZeroRtt,
        }
    }
}

impl TrustOptions {
    pub(super) fn trust(&self) -> Result<Trust, Failure> {
        Ok(match (&self.cacert, self.insecure) {
            (Some(path), _) => trust_file(path)?,
            (None, 0) => trust_system()?,
            (None, 1) => Trust::Insecure,
            (None, _) => Trust::Blind,
        })
    }

    /// The name to ask for. The URL may be something that resolves and yet no name, such as 127.1.
    pub(super) fn server_name<'a>(&'a self, url: &'a Url) -> Result<&'a str, Failure> {
        let name = self.sni.as_deref().unwrap_or_else(|| url.name());
        match ServerName::try_from(name) {
            Ok(_) => Ok(name),
            Err(_) => Err(Failure::ServerName(name.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        trust: TrustOptions,
    }

    #[test]
    fn trust_is_given_in_steps() {
        let of = |flags: &[&str]| {
            let words = ["load"].iter().chain(flags);
            Flags::parse_from(words).trust.trust().unwrap()
        };
        assert!(matches!(of(&["-k"]), Trust::Insecure));
        assert!(matches!(of(&["--insecure"]), Trust::Insecure));
        assert!(matches!(of(&["-kk"]), Trust::Blind));
        assert!(Flags::try_parse_from(["load", "-k", "--cacert", "x"]).is_err());
    }
}
