//! http3 is requests and their responses in HTTP/3, and what belongs to the whole connection.
//!
//! ```text
//! client ─► HEADERS │ DATA header │ content │ FIN             both headers encoded once for all
//! server ─► HEADERS │ DATA ... │ FIN                          content is counted, not kept
//! ```
//!
//! The rules of the protocol are those of [`quiclane_http3`]; here its events become counts.

use std::time::Instant;

use bytes::Bytes;
use quiclane::{Conn, Dir, Read, StreamId, VarInt};
use quiclane_http3::{
    Config, Connection, DataHeader, Event, Input, Limits, Opened, Prepared, Role, SendError,
    Violation,
};

use super::order::Turns;
use super::{Failure, Heard, Outgoing, Why};
use crate::client::requests::Request;
use crate::protocol::HttpRequest;

/// The requests of one worker, taken in turn, as often as they weigh. Each worker has copies of its
/// own, so that workers do not count references to the same bytes.
#[derive(Debug)]
pub(crate) struct Http3 {
    requests: Vec<(Prepared, Outgoing)>,
    turns: Turns,
}

impl Http3 {
    /// `requests` in turn, the first one of `worker` being another one than its neighbour's.
    pub(crate) fn new(requests: &[HttpRequest], worker: usize) -> Self {
        let turns = Turns::new(requests.iter().map(HttpRequest::weight), worker);
        Self { requests: requests.iter().map(template).collect(), turns }
    }

    pub(super) fn next(&mut self) -> usize {
        self.turns.next()
    }

    pub(super) fn begin(&self, which: usize) -> Outgoing {
        self.requests[which].1.clone()
    }
}

fn template(request: &HttpRequest) -> (Prepared, Outgoing) {
    let head = request.head();
    let (payload, zeros) = request.body().parts();
    let content = payload.len() as u64 + zeros;
    let mut overhead = head.frame().to_vec();
    if content > 0 {
        overhead.extend_from_slice(DataHeader::new(content).as_bytes());
    }
    (head.clone(), Outgoing::new(&overhead, payload, zeros))
}

/// HTTP/3 on one connection.
#[derive(Debug)]
pub(crate) struct Session {
    core: Connection,
    control: Option<StreamId>,
    /// The server has said GOAWAY, or takes no request of ours: nothing new is started.
    pub(crate) is_leaving: bool,
    /// A response was complete: another connection makes sense at once.
    pub(crate) has_answered: bool,
}

impl Session {
    /// A session that has said nothing yet.
    pub(crate) fn new() -> Self {
        // Whoever measures a server that misbehaves wants to see all of it: we do not hang up.
        let limits = Limits { glitches_max: u32::MAX, ..Limits::default() };
        let core = Connection::new(Role::Client, Config { limits, ..Config::default() });
        Self { core, control: None, is_leaving: false, has_answered: false }
    }

    /// Opens our control stream and writes to it, as soon and as far as the server allows.
    pub(crate) fn control(&mut self, conn: &mut Conn<'_>) {
        if self.control.is_none() {
            self.control = conn.open(Dir::Uni);
            if let Some(stream) = self.control {
                self.core.control_opened(id(stream));
            }
        }
        let Some(stream) = self.control else { return };
        while !self.core.control_bytes().is_empty() {
            let mut bytes = Bytes::copy_from_slice(self.core.control_bytes());
            // Blocked: we come again. Anything else is the end of the connection anyway.
            let Ok(written) = conn.write(stream, &mut bytes) else { return };
            self.core.control_written(written);
        }
    }

    /// Whether `stream` is our control stream.
    pub(crate) fn is_control(&self, stream: StreamId) -> bool {
        self.control == Some(stream)
    }

    /// The server opened `stream`.
    pub(crate) fn opened(
        &mut self,
        conn: &mut Conn<'_>,
        stream: StreamId,
    ) -> Result<(), Violation> {
        if let Opened::Refused(violation) = self.core.opened(id(stream))? {
            stop(conn, stream, violation);
        }
        Ok(())
    }

    /// Reads what there is on a stream of the server's.
    pub(crate) fn listen(
        &mut self,
        conn: &mut Conn<'_>,
        stream: StreamId,
    ) -> Result<Told, Violation> {
        let (core, mut told, mut outcome) = (&mut self.core, Told::default(), Ok(()));
        let read = conn.read(stream, usize::MAX, |chunk| {
            if outcome.is_ok() {
                outcome = told.hear(core, id(stream), Input::new(&chunk));
            }
        });
        outcome?;
        match read {
            Ok(Read::Finished) => told.hear(core, id(stream), Input::end())?,
            Ok(Read::Reset(_)) => core.reset(id(stream))?,
            Ok(Read::Blocked | Read::More) | Err(_) => {}
        }
        if let Some(violation) = told.ignore {
            stop(conn, stream, violation);
        }
        Ok(told)
    }

    /// Notes that request number `which` is sent on `stream`.
    pub(crate) fn begin(
        &mut self,
        http: &Http3,
        which: usize,
        stream: StreamId,
    ) -> Result<(), Failure> {
        let (head, _) = &http.requests[which];
        self.core.request(id(stream), head).map_err(|error| match error {
            SendError::SectionTooLarge { bytes, bytes_max } => {
                Failure { class: "header_too_large", why: Why::TooLarge { bytes, bytes_max } }
            }
            // Not with the streams that we open, after the GOAWAY that we look for.
            _ => Failure::plain("going_away"),
        })
    }

    /// Notes that a request was written, FIN included.
    pub(crate) fn written(&mut self, stream: StreamId) {
        self.core.finished(id(stream));
    }

    /// Notes that the server wants no more of a request.
    pub(crate) fn stopped(&mut self, stream: StreamId) -> Result<(), Violation> {
        self.core.stopped(id(stream))
    }

    /// Notes that a request was given up.
    pub(crate) fn abandoned(&mut self, stream: StreamId) {
        self.core.abandoned(id(stream));
    }

    /// Reads what there is of a response.
    pub(crate) fn read(&mut self, conn: &mut Conn<'_>, request: &mut Request) -> Heard {
        let (stream, now, core) = (request.stream, conn.now(), &mut self.core);
        let mut heard = Heard::Part;
        let outcome = conn.read(stream, usize::MAX, |chunk| {
            request.heard += chunk.len() as u64;
            if matches!(heard, Heard::Part) {
                heard = hear(core, Input::new(&chunk), request, now);
            }
        });
        match (heard, outcome) {
            (Heard::Part, Ok(Read::Finished)) => heard = hear(core, Input::end(), request, now),
            (Heard::Part, Ok(Read::Reset(code))) => {
                heard = match core.reset(id(stream)) {
                    Ok(()) => Heard::Failed(Failure::reset(code)),
                    Err(violation) => Heard::Broken(violation),
                };
            }
            _ => {}
        }
        self.has_answered |= matches!(heard, Heard::All);
        heard
    }
}

/// What a stream of the server's said that concerns the connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told {
    /// Requests on streams from this ID on will not be processed.
    pub(crate) go_away: Option<u64>,
    /// The stream itself is of no interest.
    ignore: Option<Violation>,
}

impl Told {
    fn hear(
        &mut self,
        core: &mut Connection,
        stream: u64,
        mut input: Input<'_>,
    ) -> Result<(), Violation> {
        while let Some(event) = core.recv(stream, &mut input)? {
            match event {
                Event::GoAway { from } => self.go_away = Some(from),
                Event::Failed(violation) => self.ignore = Some(violation),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Takes what came of a response.
fn hear(core: &mut Connection, mut input: Input<'_>, request: &mut Request, now: Instant) -> Heard {
    loop {
        match core.recv(id(request.stream), &mut input) {
            Ok(Some(Event::Data(content))) => request.received += content.len() as u64,
            Ok(Some(Event::Response(response))) => {
                request.status = response.status();
                request.first = Some(now);
            }
            Ok(Some(Event::Finished)) => return Heard::All,
            Ok(Some(Event::Failed(violation))) => {
                return Heard::Failed(Failure::malformed(violation));
            }
            Ok(Some(_)) => {}
            Ok(None) => return Heard::Part,
            Err(violation) => return Heard::Broken(violation),
        }
    }
}

fn stop(conn: &mut Conn<'_>, stream: StreamId, violation: Violation) {
    // Over already, perhaps: then there is nothing to stop.
    let _ = conn.stop(stream, violation.code().value().into());
}

fn id(stream: StreamId) -> u64 {
    VarInt::from(stream).into_inner()
}
