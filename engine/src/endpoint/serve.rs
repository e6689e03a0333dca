//! serve brings a connection's events to the app.

use std::time::Instant;

use quiclane_datapath::Datapath;
use quinn_proto::{ConnectionHandle, Dir, Event, StreamEvent};

use super::connection::{Phase, close_reason};
use super::{Connection, Endpoint};
use crate::app::{App, CloseReason, Conn};
use crate::congestion;

impl Endpoint {
    /// Serves every connection that was ready when it was called; true if the app was told
    /// anything, so that it may have found something to do.
    pub(crate) fn serve<A: App + ?Sized>(
        &mut self,
        now: Instant,
        app: &mut A,
        datapath: &mut impl Datapath,
    ) -> bool {
        let mut told_any = false;
        for _ in 0..self.ready.len() {
            let Some(slot) = self.ready.pop_front() else { break };
            let Some(connection) = self.connections[slot as usize].as_mut() else { continue };
            connection.in_ready = false;
            let Served { told, drained } = self.serve_one(slot as usize, now, app);
            told_any |= told;
            if drained {
                self.remove(slot as usize, datapath);
                continue;
            }
            let Some(connection) = self.connections[slot as usize].as_mut() else { continue };
            if !std::mem::replace(&mut connection.in_sending, true) {
                self.sending.push_back(slot);
            }
        }
        told_any
    }

    /// Handles all events of one connection.
    fn serve_one<A: App + ?Sized>(&mut self, slot: usize, now: Instant, app: &mut A) -> Served {
        let mut served = Served { told: false, drained: false };
        loop {
            let (mut progressed, drained) = self.endpoint_events(slot);
            served.drained |= drained;
            let Some(connection) = self.connections[slot].as_mut() else { return served };
            let was_half_open = connection.is_half_open();
            let mut readable = None;
            while let Some(event) = connection.proto.poll() {
                (progressed, served.told) = (true, true);
                // One for each frame that arrived; all of them were fed in before the first is
                // told, so that a run of them for one stream is one piece of news.
                if let Event::Stream(StreamEvent::Readable { id }) = event
                    && readable.replace(id) == Some(id)
                {
                    continue;
                }
                dispatch(connection, event, now, app, &self.counters);
            }
            if let Some(reason) = connection.closing.take() {
                (progressed, served.told) = (true, true);
                tell_closed(connection, &reason, app);
            }
            if was_half_open && !connection.is_half_open() {
                self.half_open_ended();
            }
            if !progressed {
                return served;
            }
        }
    }

    /// Carries events between the connection and quinn-proto's endpoint.
    fn endpoint_events(&mut self, slot: usize) -> (bool, bool) {
        let (mut progressed, mut drained) = (false, false);
        while let Some(connection) = self.connections[slot].as_mut()
            && let Some(event) = connection.proto.poll_endpoint_events()
        {
            progressed = true;
            drained |= event.is_drained();
            let before = self.issued();
            let answer = self.proto.handle_event(ConnectionHandle(slot), event);
            let issued = self.issued() - before;
            let Some(connection) = self.connections[slot].as_mut() else { break };
            connection.issued_cids += issued;
            if let Some(event) = answer {
                connection.proto.handle_event(event);
            }
        }
        (progressed, drained)
    }

    /// Closes a connection whose peer makes us queue more connection IDs than it lets us send.
    pub(super) fn enforce_cid_limit(&mut self, slot: usize, now: Instant) {
        let limit = self.settings.limits.issued_cids_unacknowledged;
        let Some(connection) = self.connections[slot].as_mut() else { return };
        if connection.issued_cids <= limit || connection.proto.is_closed() {
            return;
        }
        // Frames sent include retransmissions, which are few: this errs towards patience.
        let sent = connection.proto.stats().frame_tx.new_connection_id;
        if connection.issued_cids.saturating_sub(sent) > limit {
            self.counters.issued_cids.add(1);
            connection.close_at_limit(now, "issued_cids_unacknowledged");
            self.touch(slot);
        }
    }
}

/// What serving one connection brought.
struct Served {
    /// The app was called.
    told: bool,
    /// The connection is over for quinn-proto too and must be removed.
    drained: bool,
}

impl Connection {
    fn is_half_open(&self) -> bool {
        self.is_incoming() && matches!(self.phase, Phase::Handshake { .. })
    }
}

fn dispatch<A: App + ?Sized>(
    connection: &mut Connection,
    event: Event,
    now: Instant,
    app: &mut A,
    counters: &crate::metrics::WorkerCounters,
) {
    match event {
        Event::Connected => {
            if matches!(connection.phase, Phase::Handshake { .. }) {
                connection.phase = Phase::Connected;
                connection.alpn = connection.negotiated_alpn();
                connection.address_proven = true;
                connection.off_path.validated(connection.home);
                counters.connected.add(1);
                app.connected(&mut Conn { inner: connection, now });
                // Streams that 0-RTT data opened wait until here: what is replayed before the
                // handshake is complete never reaches the app.
                accept(connection, Dir::Bi, now, app);
                accept(connection, Dir::Uni, now, app);
            }
        }
        Event::ConnectionLost { reason } => {
            let reason = connection.closing.take().unwrap_or_else(|| close_reason(&reason));
            tell_closed(connection, &reason, app);
        }
        Event::HandshakeDataReady => {}
        event if connection.phase == Phase::Connected => {
            established(connection, &event, now, app);
        }
        _ => {}
    }
}

fn established<A: App + ?Sized>(
    connection: &mut Connection,
    event: &Event,
    now: Instant,
    app: &mut A,
) {
    let conn = &mut Conn { inner: connection, now };
    match *event {
        Event::Stream(StreamEvent::Opened { dir }) => accept(connection, dir, now, app),
        Event::Stream(StreamEvent::Readable { id }) => app.readable(conn, id),
        Event::Stream(StreamEvent::Writable { id }) => app.writable(conn, id),
        Event::Stream(StreamEvent::Finished { id }) => app.finished(conn, id),
        Event::Stream(StreamEvent::Stopped { id, error_code }) => {
            app.stopped(conn, id, error_code);
        }
        Event::Stream(StreamEvent::Available { dir }) => app.available(conn, dir),
        Event::DatagramReceived => app.datagrams_received(conn),
        Event::DatagramsUnblocked => app.datagrams_unblocked(conn),
        _ => {}
    }
}

fn accept<A: App + ?Sized>(connection: &mut Connection, dir: Dir, now: Instant, app: &mut A) {
    while connection.phase == Phase::Connected
        && let Some(stream) = connection.proto.streams().accept(dir)
    {
        app.opened(&mut Conn { inner: connection, now }, stream);
        app.readable(&mut Conn { inner: connection, now }, stream);
    }
}

fn tell_closed<A: App + ?Sized>(connection: &mut Connection, reason: &CloseReason, app: &mut A) {
    let app_knows = match connection.phase {
        Phase::Connected => true,
        // An app knows the connections it opened, not those that never got through to it.
        Phase::Handshake { .. } => !connection.is_incoming(),
        Phase::ToldClosed => false,
    };
    connection.phase = Phase::ToldClosed;
    if app_knows {
        app.counted(connection.id, &congestion::last_stats(&connection.proto));
        app.closed(connection.id, reason);
    }
}
