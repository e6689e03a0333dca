//! connection is what HTTP/3 remembers of one connection, and what it does besides requests: the
//! control stream, the client's unidirectional streams, datagrams.

use std::time::{Duration, Instant};

use bytes::Bytes;
use quiclane_http3::{Code, Connection as Core, Event, Input, Opened, Role, Violation};

use super::alarms::Alarms;
use super::options::Options;
use super::stream::{Flow, Shared, Step, Stream, Visit};
use crate::app::{Conn, ConnId, Dir, Read, StreamId, VarInt, WriteError};
use crate::apps::tables::{Reuse, StreamTable};

/// One connection. Without a core it is none yet, or was refused.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) core: Option<Box<Core>>,
    pub(super) streams: StreamTable<Stream>,
    /// What it may still keep for exchanges that collect.
    pub(super) room: usize,
    flow: Flow,
    control: Option<StreamId>,
    /// From when on the glitches of another second are forgiven.
    forgives_at: Option<Instant>,
    /// When it was told that the server goes away.
    pub(super) going_since: Option<Instant>,
    /// Whether it was told which requests are still served.
    pub(super) is_last_call: bool,
}

impl Connection {
    pub(super) fn begin(&mut self, options: &Options, now: Instant) {
        self.core = Some(Box::new(Core::new(Role::Server, options.config())));
        self.room = options.collected_bytes_max;
        self.forgives_at = Some(now + FORGIVING_INTERVAL);
    }

    /// Writes what the control stream has to say, as far as it goes now.
    pub(super) fn say(&mut self, conn: &mut Conn<'_>) {
        let Some(core) = &mut self.core else { return };
        if self.control.is_none() {
            // Else the client lets us open it later, or does without.
            let Some(stream) = conn.open(Dir::Uni) else { return };
            core.control_opened(stream.into());
            self.control = Some(stream);
        }
        let Some(stream) = self.control else { return };
        while !core.control_bytes().is_empty() {
            let mut bytes = Bytes::copy_from_slice(core.control_bytes());
            match conn.write(stream, &mut bytes) {
                Ok(written) => core.control_written(written),
                // `stopped` hears of the other errors.
                Err(WriteError::Blocked | WriteError::Stopped(_) | WriteError::Closed) => return,
            }
        }
    }

    pub(super) fn is_control(&self, stream: StreamId) -> bool {
        self.control == Some(stream)
    }

    /// The client opened a stream.
    pub(super) fn opened(
        &mut self,
        conn: &mut Conn<'_>,
        stream: StreamId,
    ) -> Result<(), Violation> {
        let Some(core) = &mut self.core else { return Ok(()) };
        match core.opened(stream.into())? {
            Opened::Accepted => self.streams.insert(stream, Stream::new()),
            Opened::Refused(violation) => {
                let code = VarInt::from_u32(violation.code().value());
                // Errors say that the client gave up first.
                let _ = conn.stop(stream, code);
                if stream.dir() == Dir::Bi {
                    let _ = conn.reset(stream, code);
                }
            }
        }
        Ok(())
    }

    /// A request stream, and what is needed to go on with it.
    pub(super) fn visit<'a, 'c>(
        &'a mut self,
        conn: &'a mut Conn<'c>,
        stream: StreamId,
        shared: &'a mut Shared,
    ) -> Option<(Visit<'a, 'c>, &'a mut Stream)> {
        let Self { core, streams, room, flow, .. } = self;
        let state = streams.get(stream)?;
        let core = core.as_deref_mut()?;
        Some((Visit { core, conn, stream, shared, room, flow }, state))
    }

    /// The client wants no more of a stream that is not served any more: a response that was
    /// written to its end, of which a part was lost; or the control stream, where it may not.
    pub(super) fn stopped(
        &mut self,
        conn: &mut Conn<'_>,
        stream: StreamId,
        code: VarInt,
    ) -> Result<Step, Violation> {
        let _ = conn.reset(stream, code);
        let Some(core) = &mut self.core else { return Ok(Step::Blocked) };
        core.stopped(stream.into()).map(|()| Step::Blocked)
    }

    /// Reads a unidirectional stream of the client.
    pub(super) fn receive(
        &mut self,
        conn: &mut Conn<'_>,
        stream: StreamId,
    ) -> Result<Step, Violation> {
        let Some(core) = &mut self.core else { return Ok(Step::Over) };
        let mut outcome = Ok(None);
        let read = conn.read(stream, UNI_BYTES, |chunk| {
            if outcome == Ok(None) {
                outcome = show(core, stream, Input::new(&chunk));
            }
        });
        if let Some(code) = outcome? {
            let _ = conn.stop(stream, VarInt::from_u32(code.value()));
            return Ok(Step::Over);
        }
        match read {
            Ok(Read::More) => Ok(Step::More),
            Ok(Read::Blocked) => Ok(Step::Blocked),
            Ok(Read::Finished) => show(core, stream, Input::end()).map(|_| Step::Over),
            Ok(Read::Reset(_)) | Err(_) => core.reset(stream.into()).map(|()| Step::Over),
        }
    }

    /// Forgets glitches of seconds that have passed.
    pub(super) fn forgive(&mut self, now: Instant, per_s: u32) {
        let Some(at) = &mut self.forgives_at else { return };
        if now < *at {
            return;
        }
        let seconds = 1 + now.saturating_duration_since(*at).as_secs();
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        *at += FORGIVING_INTERVAL * seconds;
        if let Some(core) = &mut self.core {
            core.forgive(seconds.saturating_mul(per_s));
        }
    }

    /// Whether it could be closed and nobody would miss anything.
    pub(super) fn is_idle(&self, conn: &mut Conn<'_>) -> bool {
        let own = usize::from(self.control.is_some());
        self.core.as_ref().is_none_or(|core| core.exchanges() == 0) && conn.send_streams() <= own
    }

    /// Its exchanges wait for nothing any more.
    pub(super) fn end(&mut self, id: ConnId, alarms: &mut Alarms) {
        for (stream, state) in self.streams.iter_mut() {
            state.end(id, stream, alarms);
        }
    }
}

impl Reuse for Connection {
    fn clear(&mut self) {
        self.streams.clear();
        let streams = std::mem::take(&mut self.streams);
        *self = Self { streams, ..Self::default() };
    }
}

/// Shows the core some bytes of a unidirectional stream. It may want no more of it, with a code.
fn show(
    core: &mut Core,
    stream: StreamId,
    mut input: Input<'_>,
) -> Result<Option<Code>, Violation> {
    while let Some(event) = core.recv(stream.into(), &mut input)? {
        match event {
            Event::Stop(code) => return Ok(Some(code)),
            Event::Failed(violation) => return Ok(Some(violation.code())),
            _ => {}
        }
    }
    Ok(None)
}

/// How often glitches are forgiven.
const FORGIVING_INTERVAL: Duration = Duration::from_secs(1);

/// What is read of a unidirectional stream in one visit: none of them has much to say.
const UNI_BYTES: usize = 16 << 10;
