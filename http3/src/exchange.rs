//! exchange is one request and its response, as the bytes of its stream come (RFC 9114 section 4).
//!
//! ```text
//!   server   Head ─ HEADERS ─► Body ─ DATA* ─► Body ─ HEADERS ─► Trailed ─ end ─►
//!   client   Head ─ HEADERS 1xx ─► Head ─ HEADERS ─► Body ...
//!   any      what breaks a rule, or a refusal ─► the rest is ignored
//! ```
//!
//! Invariant: a section is collected only from bytes that have come, and only while it is cut;
//! content is never collected.

use crate::event::{Input, Role};
use crate::frame::{FrameHeader, FrameReader, Piece, is_of_http2, kind};
use crate::glitch::{Glitch, Glitches};
use crate::prepared::Method;
use crate::sections::Sections;
use crate::validate::{self, Section};
use crate::violation::Violation;

/// What an exchange needs of its connection.
pub(crate) struct Context<'c> {
    pub(crate) role: Role,
    pub(crate) takes_connect: bool,
    pub(crate) takes_extended_connect: bool,
    pub(crate) sections: &'c mut Sections,
    pub(crate) unfinished: &'c mut Unfinished,
    pub(crate) glitches: &'c mut Glitches,
}

/// What the stream says next. Sections are in [`Sections`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Step<'d> {
    Request,
    Refused {
        status: u16,
    },
    Interim,
    Response,
    Data(&'d [u8]),
    Trailers,
    Finished,
    /// The input is used up.
    Nothing,
}

/// The state of one exchange.
#[derive(Debug)]
pub(crate) struct Exchange {
    frames: FrameReader,
    receiving: Receiving,
    pub(crate) sending: Sending,
    /// Whether the peer gave it up.
    pub(crate) is_given_up: bool,
    method: Method,
    content: Content,
    /// The beginning of a section that is cut.
    block: Vec<u8>,
}

/// How far the peer's message is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Receiving {
    Head,
    Body,
    Trailed,
    /// Or not of interest any more.
    Ended,
}

/// How far our message is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sending {
    Head,
    Body,
    Trailed,
    Ended,
}

/// What is known of the content.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Content {
    /// Whatever comes.
    Any,
    /// As many bytes are still to come.
    Announced(u64),
    /// There may not be any.
    Forbidden,
}

/// Sections that are cut, of all exchanges of a connection.
#[derive(Debug)]
pub(crate) struct Unfinished {
    bytes: usize,
    bytes_max: usize,
    /// Memory for the next one.
    spare: Vec<u8>,
}

impl Unfinished {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { bytes: 0, bytes_max, spare: Vec::new() }
    }

    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    fn collect(&mut self, block: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Violation> {
        if self.bytes + bytes.len() > self.bytes_max {
            return Err(Violation::BlocksInPieces);
        }
        if block.capacity() == 0 {
            std::mem::swap(block, &mut self.spare);
        }
        self.bytes += bytes.len();
        block.extend_from_slice(bytes);
        Ok(())
    }

    fn release(&mut self, block: &mut Vec<u8>) {
        self.bytes -= block.len();
        let mut memory = std::mem::take(block);
        if memory.capacity() <= SPARE_BYTES_MAX && memory.capacity() > self.spare.capacity() {
            memory.clear();
            self.spare = memory;
        }
    }
}

impl Exchange {
    pub(crate) fn new(sending: Sending, method: Method) -> Self {
        Self {
            frames: FrameReader::default(),
            receiving: Receiving::Head,
            sending,
            is_given_up: false,
            method,
            content: Content::Any,
            block: Vec::new(),
        }
    }

    /// Bytes of a cut section.
    #[cfg(any(test, feature = "fuzz"))]
    pub(crate) fn collected(&self) -> usize {
        self.block.len()
    }

    /// Whether both sides said all.
    pub(crate) fn is_over(&self) -> bool {
        self.receiving == Receiving::Ended && self.sending == Sending::Ended
    }

    /// Whether more of the peer's message is expected.
    pub(crate) fn is_receiving(&self) -> bool {
        self.receiving != Receiving::Ended
    }

    /// The peer says no more, or we do not listen any more.
    pub(crate) fn end_receiving(&mut self, unfinished: &mut Unfinished) {
        self.receiving = Receiving::Ended;
        unfinished.release(&mut self.block);
    }

    /// The peer ends a direction early: whether it gives the exchange up by that, for the first
    /// time. A client does while the response is not complete, a server with its response.
    pub(crate) fn gives_up(&mut self, by_server: bool) -> bool {
        let is_early = if by_server { self.is_receiving() } else { self.sending != Sending::Ended };
        is_early && !std::mem::replace(&mut self.is_given_up, true)
    }

    /// Takes the next thing that the input says.
    pub(crate) fn step<'d>(
        &mut self,
        input: &mut Input<'d>,
        context: &mut Context<'_>,
    ) -> Result<Step<'d>, Violation> {
        loop {
            if !self.is_receiving() {
                *input = Input::new(&[]);
                return Ok(Step::Nothing);
            }
            let step = match self.frames.next(&mut input.data) {
                Some(Piece::Header(header)) => self.begin(header, context)?,
                Some(Piece::Payload { kind: kind::DATA, bytes, .. }) => Step::Data(bytes),
                Some(Piece::Payload { kind: kind::HEADERS, bytes, is_last }) => {
                    self.section(bytes, is_last, context)?
                }
                Some(Piece::Payload { bytes, .. }) => {
                    context.glitches.skip(bytes.len())?;
                    Step::Nothing
                }
                None if std::mem::take(&mut input.is_end) => return self.end(context),
                None => return Ok(Step::Nothing),
            };
            if step != Step::Nothing {
                return Ok(step);
            }
        }
    }

    /// A frame begins: may it, here?
    fn begin(
        &mut self,
        header: FrameHeader,
        context: &mut Context<'_>,
    ) -> Result<Step<'static>, Violation> {
        let is_server = context.role == Role::Server;
        match header.kind {
            //= https://www.rfc-editor.org/rfc/rfc9114#section-4.1
            //# Receipt of an invalid sequence of frames MUST be treated as a
            //# connection error of type H3_FRAME_UNEXPECTED.
            kind::DATA | kind::HEADERS if self.receiving == Receiving::Trailed => {
                Err(Violation::FrameAfterTrailers)
            }
            kind::DATA if self.receiving == Receiving::Head => Err(Violation::DataBeforeHeaders),
            kind::DATA => {
                if header.length < header.header_bytes as u64 {
                    context.glitches.add(Glitch::EmptyData)?;
                }
                self.count(header.length).map(|()| Step::Nothing)
            }
            kind::HEADERS if header.length > context.sections.block_bytes_max() => {
                self.unreadable(Violation::FieldSectionTooLarge, context)
            }
            kind::HEADERS if header.length == 0 => Err(Violation::BlockTruncated),
            kind::HEADERS => Ok(Step::Nothing),
            kind::PUSH_PROMISE if is_server => Err(Violation::PushPromiseFromClient),
            kind::PUSH_PROMISE => Err(Violation::PushIdUnknown),
            kind::CANCEL_PUSH | kind::SETTINGS | kind::GOAWAY | kind::MAX_PUSH_ID => {
                Err(Violation::ControlFrameOnRequest)
            }
            kind::PRIORITY_UPDATE | kind::PRIORITY_UPDATE_PUSH => {
                Err(Violation::PriorityUpdateMisplaced)
            }
            kind if is_of_http2(kind) => Err(Violation::FrameOfHttp2),
            _ => context.glitches.add(Glitch::UnknownFrame).map(|()| Step::Nothing),
        }
    }

    /// More of a section came.
    fn section(
        &mut self,
        bytes: &[u8],
        is_last: bool,
        context: &mut Context<'_>,
    ) -> Result<Step<'static>, Violation> {
        let section = match (self.receiving, context.role) {
            (Receiving::Head, Role::Server) => Section::Request,
            (Receiving::Head, Role::Client) => Section::Response,
            _ => Section::Trailers,
        };
        let outcome = if is_last && self.block.is_empty() {
            context.sections.read(bytes, section)
        } else {
            context.unfinished.collect(&mut self.block, bytes)?;
            if !is_last {
                return Ok(Step::Nothing);
            }
            let outcome = context.sections.read(&self.block, section);
            context.unfinished.release(&mut self.block);
            outcome
        };
        match outcome {
            Ok(()) => self.begin_message(section, context),
            Err(too @ (Violation::FieldSectionTooLarge | Violation::FieldsTooMany)) => {
                self.unreadable(too, context)
            }
            Err(violation) => Err(violation),
        }
    }

    /// A section is complete and valid.
    fn begin_message(
        &mut self,
        section: Section,
        context: &mut Context<'_>,
    ) -> Result<Step<'static>, Violation> {
        let head = &context.sections.head;
        match section {
            Section::Request => {
                self.receiving = Receiving::Body;
                self.content = head.content_length.map_or(Content::Any, Content::Announced);
                let method = validate::of(&context.sections.fields, head.method);
                let takes = match head.protocol {
                    Some(_) => context.takes_extended_connect,
                    None => context.takes_connect,
                };
                if method == Some(b"CONNECT") && !takes {
                    //= https://www.rfc-editor.org/rfc/rfc9220#section-3
                    //# If a server advertises support for Extended CONNECT but
                    //# receives an Extended CONNECT request with a ":protocol" value
                    //# that is unknown or is not supported, the server SHOULD respond
                    //# to the request with a 501 (Not Implemented) status code
                    // So we do for all of them.
                    return self.refuse(501, context);
                }
                Ok(Step::Request)
            }
            Section::Response if head.status < 200 => {
                context.glitches.add(Glitch::InterimResponse)?;
                Ok(Step::Interim)
            }
            Section::Response => {
                self.receiving = Receiving::Body;
                let has_none = self.method == Method::Head || matches!(head.status, 204 | 304);
                self.content = match head.content_length {
                    _ if has_none => Content::Forbidden,
                    Some(bytes) => Content::Announced(bytes),
                    None => Content::Any,
                };
                Ok(Step::Response)
            }
            Section::Trailers => {
                self.receiving = Receiving::Trailed;
                Ok(Step::Trailers)
            }
        }
    }

    /// A section is beyond its limits: nothing else is wrong with it, so a server can say so.
    fn unreadable(
        &mut self,
        violation: Violation,
        context: &mut Context<'_>,
    ) -> Result<Step<'static>, Violation> {
        if context.role == Role::Server && self.receiving == Receiving::Head {
            return self.refuse(431, context);
        }
        Err(violation)
    }

    fn refuse(
        &mut self,
        status: u16,
        context: &mut Context<'_>,
    ) -> Result<Step<'static>, Violation> {
        (self.receiving, self.is_given_up) = (Receiving::Ended, true);
        context.glitches.add(Glitch::RefusedRequest)?;
        Ok(Step::Refused { status })
    }

    //= https://www.rfc-editor.org/rfc/rfc9114#section-4.1.2
    //# A request or response that is defined as having content when it
    //# contains a Content-Length header field (Section 8.6 of [HTTP]) is
    //# malformed if the value of the Content-Length header field does not
    //# equal the sum of the DATA frame lengths received.
    /// Content is announced by a DATA frame.
    fn count(&mut self, bytes: u64) -> Result<(), Violation> {
        match &mut self.content {
            Content::Any => {}
            Content::Announced(left) => {
                *left = left.checked_sub(bytes).ok_or(Violation::BodyTooLong)?;
            }
            Content::Forbidden if bytes == 0 => {}
            Content::Forbidden => return Err(Violation::BodyForbidden),
        }
        Ok(())
    }

    /// The stream ends.
    fn end(&mut self, context: &mut Context<'_>) -> Result<Step<'static>, Violation> {
        //= https://www.rfc-editor.org/rfc/rfc9114#section-7.1
        //# When a stream terminates cleanly, if the last frame on the stream was
        //# truncated, this MUST be treated as a connection error of type
        //# H3_FRAME_ERROR.
        if !self.frames.is_between_frames() {
            return Err(Violation::FrameTruncated);
        }
        if self.receiving == Receiving::Head {
            return Err(match context.role {
                Role::Server => Violation::RequestCutOff,
                Role::Client => Violation::ResponseMissing,
            });
        }
        if matches!(self.content, Content::Announced(1..)) {
            return Err(Violation::BodyTooShort);
        }
        self.end_receiving(context.unfinished);
        Ok(Step::Finished)
    }
}

/// Memory kept for the next section that is cut.
const SPARE_BYTES_MAX: usize = 4 << 10;
