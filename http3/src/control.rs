//! control reads the unidirectional streams of a peer (RFC 9114 section 6.2): which kind each is,
//! and the frames of its control stream.

use crate::event::Role;
use crate::frame::{FrameHeader, FrameReader, Piece, is_of_http2, kind};
use crate::glitch::{Glitch, Glitches};
use crate::qpack::instructions::DecoderStream;
use crate::settings::{Settings, SettingsReader};
use crate::varint;
use crate::violation::Violation;

/// One unidirectional stream of the peer.
#[derive(Debug)]
pub(crate) enum Uni {
    /// Its type is still to come, or cut.
    Untold(VarintReader),
    Control,
    Encoder,
    Decoder(DecoderStream),
}

/// What a stream is for, by its type.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum UniKind {
    Control,
    Push,
    Encoder,
    Decoder,
    Unknown,
}

impl UniKind {
    pub(crate) const fn of(kind: u64) -> Self {
        match kind {
            0x00 => Self::Control,
            0x01 => Self::Push,
            0x02 => Self::Encoder,
            0x03 => Self::Decoder,
            _ => Self::Unknown,
        }
    }
}

/// The type of our control stream.
pub(crate) const CONTROL_STREAM_TYPE: u8 = 0x00;

/// Collects an integer that may be cut.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct VarintReader {
    partial: [u8; varint::VARINT_BYTES_MAX],
    partial_bytes: usize,
}

impl VarintReader {
    /// Takes the integer from the front of `data`, or all of `data`.
    pub(crate) fn read(&mut self, data: &mut &[u8]) -> Option<u64> {
        while let Some((byte, rest)) = data.split_first() {
            // Eight bytes are always a whole integer, so there is room.
            *self.partial.get_mut(self.partial_bytes)? = *byte;
            self.partial_bytes += 1;
            *data = rest;
            if let Some((value, _)) = varint::decode(self.partial.get(..self.partial_bytes)?) {
                self.partial_bytes = 0;
                return Some(value);
            }
        }
        None
    }
}

/// What the peer's control stream said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Told {
    Settings(Settings),
    /// The first identifier that the peer will not process.
    GoAway(u64),
}

/// The peer's control stream.
#[derive(Debug)]
pub(crate) struct Control {
    role: Role,
    settings_max: usize,
    frames: FrameReader,
    has_settings: bool,
    settings: SettingsReader,
    number: VarintReader,
    go_away: Option<u64>,
    max_push_id: Option<u64>,
}

impl Control {
    pub(crate) fn new(role: Role, settings_max: usize) -> Self {
        Self {
            role,
            settings_max,
            frames: FrameReader::default(),
            has_settings: false,
            settings: SettingsReader::default(),
            number: VarintReader::default(),
            go_away: None,
            max_push_id: None,
        }
    }

    /// Takes the next thing that `data` says; `None` when it is used up.
    pub(crate) fn step(
        &mut self,
        data: &mut &[u8],
        glitches: &mut Glitches,
    ) -> Result<Option<Told>, Violation> {
        while let Some(piece) = self.frames.next(data) {
            let told = match piece {
                Piece::Header(header) => self.begin(header, glitches)?,
                Piece::Payload { kind: kind::SETTINGS, bytes, is_last } => {
                    self.settings.read(bytes, self.settings_max)?;
                    if is_last { Some(Told::Settings(self.settings.finish()?)) } else { None }
                }
                Piece::Payload { kind, bytes, is_last } if is_number(kind) => {
                    self.number(kind, bytes, is_last)?
                }
                Piece::Payload { bytes, .. } => {
                    glitches.skip(bytes.len())?;
                    None
                }
            };
            if told.is_some() {
                return Ok(told);
            }
        }
        Ok(None)
    }

    /// A frame begins: may it, here?
    fn begin(
        &mut self,
        header: FrameHeader,
        glitches: &mut Glitches,
    ) -> Result<Option<Told>, Violation> {
        //= https://www.rfc-editor.org/rfc/rfc9114#section-6.2.1
        //# If the first frame of the control stream is any other frame type,
        //# this MUST be treated as a connection error of type
        //# H3_MISSING_SETTINGS.
        if !self.has_settings && header.kind != kind::SETTINGS {
            return Err(Violation::SettingsMissing);
        }
        match header.kind {
            kind::SETTINGS if self.has_settings => Err(Violation::SettingsTwice),
            kind::SETTINGS => {
                self.has_settings = true;
                if header.length > 0 {
                    return Ok(None);
                }
                Ok(Some(Told::Settings(self.settings.finish()?)))
            }
            kind::DATA | kind::HEADERS | kind::PUSH_PROMISE => {
                Err(Violation::RequestFrameOnControl)
            }
            kind::MAX_PUSH_ID if self.role == Role::Client => Err(Violation::MaxPushIdFromServer),
            kind::PRIORITY_UPDATE | kind::PRIORITY_UPDATE_PUSH if self.role == Role::Client => {
                Err(Violation::PriorityUpdateMisplaced)
            }
            kind if is_number(kind) => {
                if !(1..=varint::VARINT_BYTES_MAX as u64).contains(&header.length) {
                    return Err(Violation::FrameLength);
                }
                glitches.add(Glitch::ControlFrame)?;
                Ok(None)
            }
            kind::PRIORITY_UPDATE | kind::PRIORITY_UPDATE_PUSH => {
                glitches.add(Glitch::ControlFrame)?;
                Ok(None)
            }
            kind if is_of_http2(kind) => Err(Violation::FrameOfHttp2),
            _ => glitches.add(Glitch::UnknownFrame).map(|()| None),
        }
    }

    /// More of a frame that is one integer.
    fn number(
        &mut self,
        kind: u64,
        bytes: &[u8],
        is_last: bool,
    ) -> Result<Option<Told>, Violation> {
        let mut data = bytes;
        let number = self.number.read(&mut data);
        //= https://www.rfc-editor.org/rfc/rfc9114#section-7.1
        //# A frame payload that contains additional bytes
        //# after the identified fields or a frame payload that terminates before
        //# the end of the identified fields MUST be treated as a connection
        //# error of type H3_FRAME_ERROR.
        if is_last != number.is_some() || !data.is_empty() {
            return Err(Violation::FrameLength);
        }
        let Some(number) = number else { return Ok(None) };
        match kind {
            kind::GOAWAY => self.told_to_go_away(number).map(Some),
            kind::MAX_PUSH_ID => {
                if self.max_push_id.is_some_and(|before| number < before) {
                    return Err(Violation::MaxPushIdDecreased);
                }
                self.max_push_id = Some(number);
                Ok(None)
            }
            // CANCEL_PUSH: we neither promise pushes nor allow them.
            _ => Err(Violation::PushIdUnknown),
        }
    }

    fn told_to_go_away(&mut self, id: u64) -> Result<Told, Violation> {
        //= https://www.rfc-editor.org/rfc/rfc9114#section-7.2.6
        //# A client MUST treat receipt of a GOAWAY frame containing a stream ID
        //# of any other type as a connection error of type H3_ID_ERROR.
        if self.role == Role::Client && !id.is_multiple_of(4) {
            return Err(Violation::GoAwayId);
        }
        //= https://www.rfc-editor.org/rfc/rfc9114#section-5.2
        //# Receiving a GOAWAY containing a larger identifier than previously
        //# received MUST be treated as a connection error of type H3_ID_ERROR.
        if self.go_away.is_some_and(|before| id > before) {
            return Err(Violation::GoAwayIncreased);
        }
        self.go_away = Some(id);
        Ok(Told::GoAway(id))
    }
}

/// Whether a frame is one integer.
const fn is_number(kind: u64) -> bool {
    matches!(kind, kind::CANCEL_PUSH | kind::GOAWAY | kind::MAX_PUSH_ID)
}
