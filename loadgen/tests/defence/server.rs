//! server is our own, with limits that are soon reached.

use quiclane::apps::http3::{self, Options, Site, SiteOptions};
use quiclane::apps::{Http3, Perf, PerfOptions};
use quiclane::{App, Limits, Retry};
use quiclane_loadgen::H3_ALPN;

use crate::own::Server;

/// A server of HTTP/3 or `perf`.
pub(crate) fn start(alpn: &'static [u8], limits: Limits, retry: Retry) -> Server {
    Server::new(alpn, limits, retry, move || -> Box<dyn App> {
        match alpn == H3_ALPN {
            true => {
                let limits = http3::Limits { glitches_max: GLITCHES, ..Default::default() };
                let options = Options { limits, ..Options::default() };
                let site = Site::new(None, SiteOptions::default());
                Box::new(Http3::serving(site, options))
            }
            false => Box::new(Perf::new(PerfOptions::default())),
        }
    })
}

/// Some twenty requests that are given up.
const GLITCHES: u32 = 100;
