//! servers are what the load generator is tested against: one that behaves, and its evil twins.

use std::collections::HashMap;

use quiclane::apps::{Perf, PerfOptions};
use quiclane::{App, CloseReason, Conn, ConnId, Limits, Read, Retry, StreamId, VarInt};
use quiclane_loadgen::PERF_ALPN;

use crate::own::Server;

/// How a server misbehaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// Not at all.
    None,
    /// Half the bytes asked for.
    ShortResponse,
    /// One byte more than asked for.
    LongResponse,
    /// RESET_STREAM instead of a response.
    Reset,
    /// No response ever.
    Silence,
    /// STOP_SENDING as soon as a request begins.
    RefuseUpload,
    /// Closes each connection at this many requests.
    CloseAfter(u32),
}

/// A server of `perf`.
pub(crate) fn start(fault: Fault) -> Server {
    Server::new(PERF_ALPN, Limits::default(), Retry::Auto, move || -> Box<dyn App> {
        match fault {
            Fault::None => Box::new(Perf::new(PerfOptions::default())),
            fault => Box::new(Faulty { fault, requests: HashMap::new() }),
        }
    })
}

/// A `perf` server with a fault. It takes requests whose first 8 bytes arrive together.
struct Faulty {
    fault: Fault,
    requests: HashMap<ConnId, u32>,
}

impl App for Faulty {
    fn connected(&mut self, conn: &mut Conn<'_>) {
        if self.fault == Fault::CloseAfter(0) {
            conn.close(VarInt::from_u32(9), "closed at once");
        }
    }

    fn opened(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        if self.fault == Fault::RefuseUpload {
            let _ = conn.stop(stream, VarInt::from_u32(9));
        }
    }

    fn readable(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let mut size = None;
        let read = conn.read(stream, usize::MAX, |chunk| {
            if size.is_none() && chunk.len() >= 8 {
                size = Some(u64::from_be_bytes(chunk[..8].try_into().unwrap()));
            }
        });
        let (Ok(Read::Finished), Some(size)) = (read, size) else { return };
        match self.fault {
            Fault::ShortResponse => respond(conn, stream, size / 2),
            Fault::LongResponse => respond(conn, stream, size + 1),
            Fault::Reset => conn.reset(stream, VarInt::from_u32(9)).unwrap(),
            Fault::CloseAfter(limit) => {
                let requests = self.requests.entry(conn.id()).or_default();
                *requests += 1;
                if *requests >= limit {
                    conn.close(VarInt::from_u32(9), "enough");
                } else {
                    respond(conn, stream, size);
                }
            }
            Fault::None | Fault::Silence | Fault::RefuseUpload => {}
        }
    }

    fn closed(&mut self, id: ConnId, _reason: &CloseReason) {
        self.requests.remove(&id);
    }
}

/// Responses small enough to be written at once.
fn respond(conn: &mut Conn<'_>, stream: StreamId, size: u64) {
    let mut data = vec![0; usize::try_from(size).unwrap()].into();
    conn.write(stream, &mut data).unwrap();
    conn.finish(stream).unwrap();
}
