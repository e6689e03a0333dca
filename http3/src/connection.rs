//! connection is the state of HTTP/3 on one QUIC connection, for either side.
//!
//! The caller owns the streams. It tells the core what QUIC tells it, and does what the core says:
//!
//! ```text
//!   QUIC says                     call                     and then
//!   connected                     control_bytes            open a unidirectional stream, write
//!                                 control_opened           them there, control_written
//!   the peer opened a stream      opened                   Refused: reset and stop with its code
//!   bytes or end of a stream      recv until None          see Event
//!   RESET_STREAM                  reset
//!   STOP_SENDING                  stopped
//!   a datagram                    datagram
//!                                 Err(violation) of any    close with its code and text
//! ```
//!
//! What we send is written by the caller: [`Prepared::frame`], then for content a [`DataHeader`]
//! and the content, then the frame of trailers. [`Connection::request`], [`Connection::respond`]
//! and [`Connection::trailers`] check and note it.
//!
//! [`DataHeader`]: crate::DataHeader

use self::exchanges::Exchanges;
use crate::control::{CONTROL_STREAM_TYPE, Control, Uni, VarintReader};
use crate::event::{Datagram, Event, Input, Opened, Role, SendError};
use crate::exchange::{Context, Exchange, Sending, Step, Unfinished};
use crate::frame::kind;
use crate::glitch::{Glitch, Glitches};
use crate::limits::Config;
use crate::message::{Request, Response};
use crate::prepared::{Kind, Method, Prepared};
use crate::sections::Sections;
use crate::settings::{self, Settings};
use crate::varint;
use crate::violation::{Scope, Violation};

mod exchanges;
#[cfg(any(test, feature = "fuzz"))]
mod promises;
mod unidirectional;

/// HTTP/3 on one connection. No input makes it panic, and its memory stays within its
/// [`Limits`](crate::Limits).
#[derive(Debug)]
pub struct Connection {
    role: Role,
    config: Config,
    exchanges: Exchanges,
    unis: Vec<(u64, Uni)>,
    /// Which critical streams the peer has opened: control, encoder, decoder.
    has: [bool; 3],
    control: Control,
    sections: Sections,
    unfinished: Unfinished,
    glitches: Glitches,
    settings: Option<Settings>,
    /// The lowest request stream that the peer has not opened.
    requests_from: u64,
    go_away_received: bool,
    go_away_sent: Option<u64>,
    out: Vec<u8>,
    out_written: usize,
    control_stream: Option<u64>,
}

impl Connection {
    /// A connection of which nothing was sent and nothing received. It holds a few hundred bytes
    /// until the first request.
    #[must_use]
    pub fn new(role: Role, config: Config) -> Self {
        let mut out = vec![CONTROL_STREAM_TYPE];
        settings::encode(&config, role == Role::Server, &mut out);
        let limits = &config.limits;
        Self {
            role,
            exchanges: Exchanges::default(),
            unis: Vec::new(),
            has: [false; 3],
            control: Control::new(role, limits.settings_max),
            sections: Sections::new(limits),
            unfinished: Unfinished::new(limits.unfinished_bytes_max),
            glitches: Glitches::new(limits.glitches_max),
            settings: None,
            requests_from: 0,
            go_away_received: false,
            go_away_sent: None,
            out,
            out_written: 0,
            control_stream: None,
            config,
        }
    }

    /// What is to be written to our control stream, a unidirectional one that stays open for the
    /// life of the connection: SETTINGS at first, later GOAWAY. We open no other: QPACK streams
    /// would stay empty (RFC 9204 section 4.2 allows to leave them out).
    #[must_use]
    pub fn control_bytes(&self) -> &[u8] {
        self.out.get(self.out_written..).unwrap_or_default()
    }

    /// Notes that the first `bytes` of [`control_bytes`](Self::control_bytes) were written.
    pub fn control_written(&mut self, bytes: usize) {
        self.out_written += bytes;
        if self.out_written >= self.out.len() {
            self.out.clear();
            self.out_written = 0;
        }
    }

    /// Notes which stream our control stream is.
    pub fn control_opened(&mut self, stream: u64) {
        self.control_stream = Some(stream);
    }

    /// The peer opened `stream`.
    ///
    /// # Errors
    /// For a stream that the peer may not open, and when the refused ones were too many.
    pub fn opened(&mut self, stream: u64) -> Result<Opened, Violation> {
        if is_uni(stream) {
            if self.unis.len() >= self.config.limits.uni_streams_max {
                self.glitches.add(Glitch::UnknownStream)?;
                return Ok(Opened::Refused(Violation::StreamTypeUnknown));
            }
            self.unis.push((stream, Uni::Untold(VarintReader::default())));
            return Ok(Opened::Accepted);
        }
        //= https://www.rfc-editor.org/rfc/rfc9114#section-6.1
        //# Clients MUST treat receipt of a server-initiated bidirectional
        //# stream as a connection error of type H3_STREAM_CREATION_ERROR unless
        //# such an extension has been negotiated.
        if self.role == Role::Client {
            return Err(Violation::StreamFromServer);
        }
        self.requests_from = self.requests_from.max(stream.saturating_add(STREAM_STEP));
        let refused = if self.go_away_sent.is_some_and(|from| stream >= from) {
            Violation::RequestAfterGoAway
        } else if self.exchanges.len() >= self.config.limits.requests_max {
            Violation::RequestsTooMany
        } else {
            self.exchanges.insert(stream, Exchange::new(Sending::Head, Method::Other));
            return Ok(Opened::Accepted);
        };
        self.glitches.add(Glitch::RefusedRequest)?;
        Ok(Opened::Refused(refused))
    }

    /// What the next bytes of `stream` say; `None` when the input is used up. Call it until then.
    /// Bytes of streams that are over, or not known, mean nothing.
    ///
    /// # Errors
    /// When the connection has to be closed, with the violation's code.
    pub fn recv<'c, 'd>(
        &'c mut self,
        stream: u64,
        input: &mut Input<'d>,
    ) -> Result<Option<Event<'c, 'd>>, Violation> {
        if is_uni(stream) {
            return self.recv_uni(stream, input);
        }
        let Some(at) = self.exchanges.find(stream) else {
            *input = Input::new(&[]);
            return Ok(None);
        };
        let Some(exchange) = self.exchanges.at(at) else { return Ok(None) };
        let mut context = Context {
            role: self.role,
            takes_connect: self.config.connect,
            takes_extended_connect: self.config.extended_connect,
            sections: &mut self.sections,
            unfinished: &mut self.unfinished,
            glitches: &mut self.glitches,
        };
        let step = match exchange.step(input, &mut context) {
            Ok(step) => step,
            Err(violation) => return self.failed(at, violation, input).map(Some),
        };
        if exchange.is_over() {
            self.remove(at);
        }
        let Sections { fields, head, .. } = &self.sections;
        Ok(Some(match step {
            Step::Request => Event::Request(Request { fields, head }),
            Step::Refused { status } => Event::Refused { status },
            Step::Interim => Event::Interim(Response { fields, head }),
            Step::Response => Event::Response(Response { fields, head }),
            Step::Data(bytes) => Event::Data(bytes),
            Step::Trailers => Event::Trailers(fields),
            Step::Finished => Event::Finished,
            Step::Nothing => return Ok(None),
        }))
    }

    /// The peer abandoned what it sends on `stream` (RESET_STREAM).
    ///
    /// # Errors
    /// For a critical stream, and for too many requests given up.
    pub fn reset(&mut self, stream: u64) -> Result<(), Violation> {
        if is_uni(stream) {
            return self.end_uni(stream);
        }
        let Some(at) = self.exchanges.find(stream) else { return Ok(()) };
        let Some(exchange) = self.exchanges.at(at) else { return Ok(()) };
        let gives_up = exchange.gives_up(self.role == Role::Client);
        exchange.end_receiving(&mut self.unfinished);
        self.ended(at, gives_up)
    }

    /// The peer wants no more of what we send on `stream` (STOP_SENDING). Reset it.
    ///
    /// # Errors
    /// For our control stream, and for too many requests given up.
    pub fn stopped(&mut self, stream: u64) -> Result<(), Violation> {
        if self.control_stream == Some(stream) {
            return Err(Violation::CriticalStreamClosed);
        }
        let Some(at) = self.exchanges.find(stream) else { return Ok(()) };
        let Some(exchange) = self.exchanges.at(at) else { return Ok(()) };
        // A server may well want no more of a request that it has answered.
        let gives_up = self.role == Role::Server && exchange.gives_up(false);
        exchange.sending = Sending::Ended;
        self.ended(at, gives_up)
    }

    /// Client: notes that `request` is sent on `stream`, which was just opened for it. Write its
    /// frame there.
    ///
    /// # Errors
    /// When it must not be sent; then nothing is noted.
    pub fn request(&mut self, stream: u64, request: &Prepared) -> Result<(), SendError> {
        let Kind::Request { method } = request.kind() else { return Err(SendError::OutOfOrder) };
        if self.role == Role::Server {
            return Err(SendError::OutOfOrder);
        }
        if self.go_away_received {
            return Err(SendError::GoingAway);
        }
        if !stream.is_multiple_of(STREAM_STEP) || self.exchanges.get(stream).is_some() {
            return Err(SendError::NoSuchStream);
        }
        self.fits(request)?;
        self.exchanges.insert(stream, Exchange::new(Sending::Body, method));
        Ok(())
    }

    /// Server: notes that `response`, interim or final, is sent on `stream`. Write its frame there.
    ///
    /// # Errors
    /// When it must not be sent; then nothing is noted.
    pub fn respond(&mut self, stream: u64, response: &Prepared) -> Result<(), SendError> {
        self.fits(response)?;
        let is_server = self.role == Role::Server;
        let exchange = self.exchanges.get_mut(stream).ok_or(SendError::NoSuchStream)?;
        match (response.kind(), exchange.sending) {
            (Kind::Interim, Sending::Head) if is_server => {}
            (Kind::Response, Sending::Head) if is_server => exchange.sending = Sending::Body,
            _ => return Err(SendError::OutOfOrder),
        }
        Ok(())
    }

    /// Notes that `trailers` are sent on `stream`, after all content. Write their frame there.
    ///
    /// # Errors
    /// When they must not be sent; then nothing is noted.
    pub fn trailers(&mut self, stream: u64, trailers: &Prepared) -> Result<(), SendError> {
        self.fits(trailers)?;
        let exchange = self.exchanges.get_mut(stream).ok_or(SendError::NoSuchStream)?;
        if exchange.sending != Sending::Body || trailers.kind() != Kind::Trailers {
            return Err(SendError::OutOfOrder);
        }
        exchange.sending = Sending::Trailed;
        Ok(())
    }

    /// Notes that we ended `stream` (FIN): our message is complete.
    pub fn finished(&mut self, stream: u64) {
        let Some(at) = self.exchanges.find(stream) else { return };
        let Some(exchange) = self.exchanges.at(at) else { return };
        exchange.sending = Sending::Ended;
        if exchange.is_over() {
            self.remove(at);
        }
    }

    /// Notes that we read no more of `stream` (our STOP_SENDING).
    pub fn ignored(&mut self, stream: u64) {
        let Some(at) = self.exchanges.find(stream) else { return };
        let Some(exchange) = self.exchanges.at(at) else { return };
        exchange.end_receiving(&mut self.unfinished);
        if exchange.is_over() {
            self.remove(at);
        }
    }

    /// Notes that we gave `stream` up in both directions: RESET_STREAM and STOP_SENDING, with
    /// [`Code::RequestCancelled`](crate::Code::RequestCancelled), or
    /// [`Code::RequestRejected`](crate::Code::RequestRejected) by a server that did nothing yet.
    pub fn abandoned(&mut self, stream: u64) {
        if let Some(at) = self.exchanges.find(stream) {
            self.forget(at);
        }
    }

    /// Server: notes that we gave `stream` up in both directions because the client, for too long,
    /// did not go on with its request ([`Code::RequestIncomplete`](crate::Code::RequestIncomplete))
    /// or took nothing of the response
    /// ([`Code::RequestCancelled`](crate::Code::RequestCancelled)). The core has no clock: how long
    /// that is, the caller says.
    ///
    /// # Errors
    /// When the client has let too many requests stall.
    pub fn stalled(&mut self, stream: u64) -> Result<(), Violation> {
        let Some(at) = self.exchanges.find(stream) else { return Ok(()) };
        self.forget(at);
        self.glitches.add(Glitch::Stalled)
    }

    /// Starts a graceful shutdown in two steps (RFC 9114 section 5.2): says that no more requests
    /// should come, and still takes those on their way. Write
    /// [`control_bytes`](Self::control_bytes). A client has only the second step.
    pub fn go_away_soon(&mut self) {
        if self.role == Role::Server {
            self.say_go_away(GO_AWAY_SOON);
        }
    }

    /// Refuses requests from now on: server, all that have not been opened; client, pushes. Write
    /// [`control_bytes`](Self::control_bytes).
    pub fn go_away(&mut self) {
        let from = if self.role == Role::Server { self.requests_from } else { 0 };
        self.say_go_away(from);
    }

    /// Reads a QUIC datagram; `None` if it is for nobody.
    ///
    /// # Errors
    /// When it names no possible stream.
    pub fn datagram<'d>(&self, data: &'d [u8]) -> Result<Option<Datagram<'d>>, Violation> {
        let (quarter, bytes) = varint::decode(data).ok_or(Violation::DatagramTruncated)?;
        //= https://www.rfc-editor.org/rfc/rfc9297#section-2.1
        //# The largest legal QUIC
        //# stream ID value is 2^62-1, so the largest legal value of the Quarter
        //# Stream ID field is 2^60-1.  Receipt of an HTTP/3 Datagram that
        //# includes a larger value MUST be treated as an HTTP/3 connection error
        //# of type H3_DATAGRAM_ERROR (0x33).
        if quarter > varint::VARINT_MAX / STREAM_STEP {
            return Err(Violation::DatagramStream);
        }
        let stream = quarter * STREAM_STEP;
        let takes =
            self.config.datagrams && self.exchanges.get(stream).is_some_and(Exchange::is_receiving);
        let payload = data.get(bytes..).unwrap_or_default();
        Ok(takes.then_some(Datagram { stream, payload }))
    }

    /// Appends what stands before the payload of a datagram for `stream`. Send it only if
    /// [`settings`](Self::settings) say that the peer takes datagrams.
    pub fn datagram_header(&self, stream: u64, out: &mut Vec<u8>) {
        varint::encode(stream / STREAM_STEP, out);
    }

    /// Takes points off the score of glitches. The core has no clock: a caller that has one may
    /// forgive some each second, so that a long life is not a disadvantage.
    pub fn forgive(&mut self, points: u32) {
        self.glitches.forgive(points);
    }

    /// The score of glitches; at most [`Limits::glitches_max`](crate::Limits::glitches_max).
    #[must_use]
    pub fn glitches(&self) -> u32 {
        self.glitches.score()
    }

    /// How often a glitch happened on this connection.
    #[must_use]
    pub fn glitch_count(&self, glitch: Glitch) -> u32 {
        self.glitches.count(glitch)
    }

    /// What the peer announced, once it has.
    #[must_use]
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }

    /// Exchanges that are not over.
    #[must_use]
    pub fn exchanges(&self) -> usize {
        self.exchanges.len()
    }
}

/// Exchanges.
impl Connection {
    /// Takes an exchange out that is over.
    fn remove(&mut self, at: usize) {
        if let Some(exchange) = self.exchanges.take(at)
            && !exchange.is_given_up
        {
            self.glitches.forgive(1);
        }
    }

    /// Takes an exchange out, however far it is.
    fn forget(&mut self, at: usize) {
        if let Some(mut exchange) = self.exchanges.take(at) {
            exchange.end_receiving(&mut self.unfinished);
        }
    }

    /// One direction has ended by the peer's will.
    fn ended(&mut self, at: usize, gives_up: bool) -> Result<(), Violation> {
        if self.exchanges.at(at).is_some_and(|exchange| exchange.is_over()) {
            self.remove(at);
        }
        if gives_up { self.glitches.add(Glitch::Cancelled) } else { Ok(()) }
    }

    /// A rule was broken on the stream of an exchange.
    fn failed<'c, 'd>(
        &'c mut self,
        at: usize,
        violation: Violation,
        input: &mut Input<'d>,
    ) -> Result<Event<'c, 'd>, Violation> {
        if violation.scope() == Scope::Connection {
            return Err(violation);
        }
        *input = Input::new(&[]);
        self.forget(at);
        self.glitches.add(Glitch::MalformedMessage)?;
        Ok(Event::Failed(violation))
    }

    fn fits(&self, section: &Prepared) -> Result<(), SendError> {
        let bytes = section.section_bytes();
        match self.settings.and_then(|settings| settings.field_section_bytes_max) {
            Some(bytes_max) if bytes > bytes_max => {
                Err(SendError::SectionTooLarge { bytes, bytes_max })
            }
            _ => Ok(()),
        }
    }

    fn say_go_away(&mut self, from: u64) {
        if self.go_away_sent.is_none_or(|before| from < before) {
            self.go_away_sent = Some(from);
            varint::encode(kind::GOAWAY, &mut self.out);
            varint::encode(varint::bytes_of(from) as u64, &mut self.out);
            varint::encode(from, &mut self.out);
        }
    }
}

/// Whether a stream is unidirectional (RFC 9000 section 2.1).
const fn is_uni(stream: u64) -> bool {
    stream & 0x02 != 0
}

/// From one request stream to the next.
const STREAM_STEP: u64 = 4;

/// The largest ID of a request stream: allows all that come.
const GO_AWAY_SOON: u64 = varint::VARINT_MAX - 3;
