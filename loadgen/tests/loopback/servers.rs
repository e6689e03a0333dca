//! servers are what the load generator is tested against: one that behaves, and its evil twins.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quiclane::apps::{Perf, PerfOptions, Protocols};
use quiclane::metrics::WorkerSnapshot;
use quiclane::{
    App, ClientTls, CloseReason, Config, Conn, ConnId, Engine, Provider, Read, Resume,
    ServerConfig, ServerTls, StreamId, Target, Trust, VarInt,
};
use quiclane_loadgen::PERF_ALPN;
use rustls::RootCertStore;
use rustls::pki_types::PrivatePkcs8KeyDer;

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

/// A server with two workers on loopback; stops when dropped.
pub(crate) struct Server {
    engine: Option<Engine>,
    tls: ClientTls,
}

impl Server {
    pub(crate) fn start(fault: Fault) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let alpn = || vec![PERF_ALPN.to_vec()];
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let trust = Trust::Roots(Arc::new(roots));
        let tls = ClientTls::new(Provider::default(), trust, alpn(), Resume::Off).unwrap();
        let served = vec![certificate];
        let server = ServerTls::new(Provider::default(), served, key.into(), alpn(), false);
        let server = ServerConfig::new(SocketAddr::from(([127, 0, 0, 1], 0)), server.unwrap());
        let config = Config { server: Some(server), workers: 2, ..Config::default() };
        let engine = Engine::start(config, move |_| {
            let app: Box<dyn App> = match fault {
                Fault::None => Box::new(Perf::new(PerfOptions::default())),
                fault => Box::new(Faulty { fault, requests: HashMap::new() }),
            };
            Protocols::new(vec![(PERF_ALPN.to_vec(), app)])
        })
        .unwrap();
        Self { engine: Some(engine), tls }
    }

    pub(crate) fn target(&self) -> Target {
        let address = self.engine.as_ref().unwrap().listen()[0];
        Target { address, server_name: "localhost".into(), tls: self.tls.clone(), local: None }
    }

    /// What all workers have counted.
    pub(crate) fn sum(&self, field: impl Fn(&WorkerSnapshot) -> u64) -> u64 {
        self.engine.as_ref().unwrap().metrics().snapshots().iter().map(field).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let engine = self.engine.take().unwrap();
        engine.stop(Duration::ZERO);
        engine.join().unwrap();
    }
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
