//! offer is what a server speaks: its protocols, from which each worker makes its apps.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use clap::ValueEnum;
use quiclane::App;
use quiclane::apps::http3::{Counters, Files, FilesOptions, Options, Site, SiteOptions};
use quiclane::apps::{Echo, Hq, HqOptions, Http3, Perf, PerfOptions, Protocols, Root};

use super::ServeArgs;
use crate::exit::Failure;

/// The protocols of a server.
#[derive(Debug)]
pub(super) struct Offer {
    protocols: Vec<Protocol>,
    root: Option<Root>,
    perf: PerfOptions,
    hq: HqOptions,
    http3: Options,
    site: SiteOptions,
    /// By worker.
    counters: Mutex<Vec<Arc<Counters>>>,
}

impl Offer {
    pub(super) fn new(protocols: Vec<Protocol>, args: &ServeArgs) -> Result<Self, Failure> {
        check(&protocols, args)?;
        let open = |path: &Path| match args.follow_links {
            true => Root::open_following(path),
            false => Root::open(path),
        };
        let root = match &args.root {
            Some(path) => {
                Some(open(path).map_err(|source| Failure::Root { path: path.clone(), source })?)
            }
            None => None,
        };
        let (perf, hq) = (args.limits.perf(), args.limits.hq());
        let (http3, site) = (args.limits.http3(), args.limits.site());
        Ok(Self { protocols, root, perf, hq, http3, site, counters: Mutex::default() })
    }

    /// The apps of a worker.
    pub(super) fn apps(&self, worker: usize) -> Protocols {
        let apps = self.protocols.iter().map(|protocol| {
            let app: Box<dyn App> = match protocol {
                Protocol::H3 => Box::new(self.http3(worker)),
                Protocol::Perf => Box::new(Perf::new(self.perf.clone())),
                Protocol::Echo => Box::new(Echo::new()),
                Protocol::HqInterop => Box::new(Hq::new(self.root.clone(), self.hq.clone())),
            };
            (protocol.name().to_vec(), app)
        });
        Protocols::new(apps.collect())
    }

    /// What the apps count, in Prometheus text format; empty without HTTP/3.
    pub(super) fn metrics(&self) -> String {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.is_empty() { String::new() } else { Counters::text(&counters) }
    }

    fn http3(&self, worker: usize) -> Http3<Site> {
        let files =
            self.root.as_ref().map(|root| Files::new(root.clone(), FilesOptions::default()));
        let app = Http3::serving(Site::new(files, self.site.clone()), self.http3.clone());
        // Workers start at the same time, in any order.
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if counters.len() <= worker {
            counters.resize_with(worker + 1, Arc::default);
        }
        app.counting(Arc::clone(&counters[worker]))
    }
}

/// Refuses what is for protocols that are not offered.
fn check(protocols: &[Protocol], args: &ServeArgs) -> Result<(), Failure> {
    let has_http3 = protocols.contains(&Protocol::H3);
    if has_http3 {
        args.limits.check_for_http3()?;
    }
    let has_files = has_http3 || protocols.contains(&Protocol::HqInterop);
    let root = args.root.as_ref().filter(|_| !has_files);
    let root = root.map(|path| format!("--root {}", path.display()));
    let limits = if has_http3 { Vec::new() } else { args.limits.given_for_http3() };
    let (why, remedy) = match root {
        Some(_) => ("which serves no files", "add h3 or hq-interop"),
        None => ("which is not HTTP/3", "add h3"),
    };
    let flags: Vec<String> = root.into_iter().chain(limits).collect();
    if flags.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = protocols.iter().map(|one| String::from_utf8_lossy(one.name())).collect();
    let beside = format!("--alpn {}", names.join(","));
    Err(Failure::WithoutEffect { flags: flags.join(", "), beside, why, remedy })
}

/// --alpn.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(super) enum Protocol {
    /// HTTP/3: files, and paths to measure with
    H3,
    /// As many bytes as the client asks for (draft-banks-quic-performance)
    Perf,
    /// What the client sent
    Echo,
    /// Files, by HTTP/0.9
    HqInterop,
}

impl Protocol {
    pub(super) fn name(self) -> &'static [u8] {
        match self {
            Self::H3 => Http3::<Site>::ALPN,
            Self::Perf => Perf::ALPN,
            Self::Echo => Echo::ALPN,
            Self::HqInterop => Hq::ALPN,
        }
    }
}
