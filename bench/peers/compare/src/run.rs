//! One measurement: a fresh server, one client, and another try when the machine was not quiet.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use report::Report;
use serde::Serialize;

use crate::args::Args;
use crate::peers::Peer;
use crate::process::Server;
use crate::rows::Work;

/// The outcome of one measurement.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) peer: String,
    pub(crate) work: &'static str,
    /// From 1.
    pub(crate) repetition: usize,
    /// Something else used too much of a core in every try: left out of the tables.
    pub(crate) disturbed: bool,
    /// What the server said of itself.
    pub(crate) about: String,
    pub(crate) report: Report,
}

/// What all measurements share.
pub(crate) struct Bench<'a> {
    pub(crate) args: &'a Args,
    client: PathBuf,
    cert: PathBuf,
    key: PathBuf,
    log: PathBuf,
}

impl<'a> Bench<'a> {
    /// Makes the certificate (ECDSA P-256, the same for every server) in `scratch`; `bin` holds
    /// the programs of this workspace.
    pub(crate) fn new(args: &'a Args, bin: &Path, scratch: &Path) -> Result<Self> {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made =
            rcgen::generate_simple_self_signed(names).context("cannot make a certificate")?;
        let (cert, key) = (scratch.join("cert.pem"), scratch.join("key.pem"));
        fs::write(&cert, made.cert.pem())?;
        fs::write(&key, made.signing_key.serialize_pem())?;
        Ok(Self { args, client: bin.join("client"), cert, key, log: scratch.join("server.log") })
    }

    /// Measures one peer once, with as many tries as it takes and is allowed.
    pub(crate) fn measure(&self, peer: &Peer, work: &Work, repetition: usize) -> Result<Run> {
        let mut tried = 1;
        loop {
            let run = self.measure_once(peer, work, repetition)?;
            if !run.disturbed || tried >= self.args.tries {
                return Ok(run);
            }
            let share = run.report.foreign_max() * 100.0;
            eprintln!("  something else used {share:.0} % of a core: once more");
            tried += 1;
        }
    }

    fn measure_once(&self, peer: &Peer, work: &Work, repetition: usize) -> Result<Run> {
        let command = peer.command(&self.cert, &self.key);
        let mut server = Server::start(command, self.args.server_core, &self.log)?;
        let report = server.measure(&self.client, &work.args, self.args.client_core)?;
        Ok(Run {
            peer: peer.name.clone(),
            work: work.name,
            repetition,
            disturbed: report.foreign_max() > self.args.foreign_max,
            about: server.about.clone(),
            report,
        })
    }
}
