//! session is what HTTP/3 does with a whole connection: control streams, GOAWAY, broken rules.

use std::mem;

use quiclane::{Conn, Dir, StreamId};
use quiclane_http3::Violation;

use super::Client;
use super::exchange::{Failure, Session, Told};
use super::requests::RequestId;
use crate::protocol::Protocol;

impl Client {
    /// Begins HTTP/3 on the connection of `seat`, if that is spoken and has not begun.
    pub(super) fn begin_session(&mut self, conn: &mut Conn<'_>, seat: usize) {
        let seat = self.seats.seat_mut(seat);
        if matches!(self.job.config.protocol, Protocol::Http3(_)) && seat.session.is_none() {
            seat.session.insert(Box::new(Session::new())).control(conn);
        }
    }

    /// Goes on with our control stream.
    pub(super) fn control(&mut self, conn: &mut Conn<'_>) {
        if let Some((_, session)) = self.session(conn) {
            session.control(conn);
        }
    }

    /// The server opened `stream`.
    pub(super) fn opened_by_server(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        if let Some((seat, session)) = self.session(conn)
            && let Err(violation) = session.opened(conn, stream)
        {
            self.break_off(conn, seat, violation);
        }
    }

    /// Reads what there is on a stream of the server's.
    pub(super) fn listen(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        let Some((seat, session)) = self.session(conn) else { return };
        match session.listen(conn, stream) {
            Ok(Told { go_away: Some(from), .. }) => self.go_away(conn, seat, from),
            Ok(_) => {}
            Err(violation) => self.break_off(conn, seat, violation),
        }
    }

    /// The server wants no more of `stream`, which carries no request in flight.
    pub(super) fn control_stopped(&mut self, conn: &mut Conn<'_>, stream: StreamId) {
        if let Some((seat, session)) = self.session(conn)
            && session.is_control(stream)
            && let Err(violation) = session.stopped(stream)
        {
            self.break_off(conn, seat, violation);
        }
    }

    fn session(&mut self, conn: &Conn<'_>) -> Option<(usize, &mut Session)> {
        let seat = self.seats.of(conn.id())?;
        Some((seat, self.seats.seat_mut(seat).session.as_deref_mut()?))
    }

    /// The server is going away: what it will not answer goes elsewhere, and the connection ends
    /// when it has answered the rest.
    fn go_away(&mut self, conn: &mut Conn<'_>, seat: usize, from: u64) {
        let Some(session) = &mut self.seats.seat_mut(seat).session else { return };
        self.tally.goaways += u64::from(!mem::replace(&mut session.is_leaving, true));
        if self.exchange.is_none() {
            self.lose(seat, GOING_AWAY, || None);
            self.seats.vacate(seat, self.again());
            return conn.close(self.codes.done, "done");
        }
        let streams = self.seats.seat_mut(seat).streams.iter();
        let unanswered = streams.filter(|(stream, _)| u64::from(**stream) >= from);
        let mut unanswered: Vec<(StreamId, RequestId)> =
            unanswered.map(|(stream, id)| (*stream, *id)).collect();
        unanswered.sort_unstable();
        for (_, id) in unanswered {
            if self.job.config.reconnect {
                self.park(conn, id);
            } else {
                self.give_up(conn, id, Failure::plain(GOING_AWAY));
            }
        }
        self.fill(conn, seat);
    }

    /// Takes a request back, to be sent again on the next connection.
    fn park(&mut self, conn: &mut Conn<'_>, id: RequestId) {
        let Some(request) = self.requests.get_mut(id) else { return };
        let Some(exchange) = &self.exchange else { return };
        request.outgoing = exchange.begin(request.which);
        (request.heard, request.received, request.status) = (0, 0, 0);
        (request.first, request.answered, request.is_parked) = (None, false, true);
        let (seat, stream) = (request.seat, request.stream);
        self.abandon(conn, seat, stream, self.codes.cancelled);
        let seat = self.seats.seat_mut(seat);
        seat.streams.remove(&stream);
        seat.parked.push_back(id);
        self.parked += 1;
    }

    /// Sends requests again that were taken back.
    pub(super) fn unpark(&mut self, conn: &mut Conn<'_>, seat: usize) {
        let may = |session: &Session| !session.is_leaving;
        while self.seats.seat_mut(seat).session.as_deref().is_some_and(may)
            && let Some(&id) = self.seats.seat_mut(seat).parked.front()
            && let Some(stream) = conn.open(Dir::Bi)
        {
            self.seats.seat_mut(seat).parked.pop_front();
            self.parked -= 1;
            if let Some(request) = self.requests.get_mut(id) {
                request.is_parked = false;
            }
            self.carry(conn, seat, stream, id);
        }
    }

    /// Closes a connection whose server broke a rule.
    pub(super) fn break_off(&mut self, conn: &mut Conn<'_>, seat: usize, violation: Violation) {
        let failure = Failure::violation(violation);
        conn.close(violation.code().value().into(), violation.text());
        self.lose(seat, failure.class, || failure.example());
        self.seats.vacate(seat, self.again());
    }
}

/// The error class of requests, and of held connections, that a GOAWAY ended.
const GOING_AWAY: &str = "going_away";
