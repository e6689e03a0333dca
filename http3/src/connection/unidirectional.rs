//! unidirectional is the part of a connection that reads the peer's unidirectional streams.

use super::Connection;
use crate::code::Code;
use crate::control::{Told, Uni, UniKind};
use crate::event::{Event, Input, Role};
use crate::glitch::Glitch;
use crate::qpack::instructions::{self, DecoderStream};
use crate::violation::Violation;

impl Connection {
    pub(super) fn recv_uni<'c, 'd>(
        &'c mut self,
        stream: u64,
        input: &mut Input<'d>,
    ) -> Result<Option<Event<'c, 'd>>, Violation> {
        while let Some(at) = self.unis.iter().position(|(id, _)| *id == stream) {
            let Some((_, uni)) = self.unis.get_mut(at) else { break };
            let read = match uni {
                Uni::Untold(reader) => match reader.read(&mut input.data) {
                    Some(kind) => {
                        if !self.told(at, UniKind::of(kind))? {
                            input.is_end = false;
                            return Ok(Some(Event::Stop(Code::StreamCreationError)));
                        }
                        continue;
                    }
                    None => 0,
                },
                Uni::Control => {
                    if let Some(told) = self.control.step(&mut input.data, &mut self.glitches)? {
                        return Ok(Some(self.controlled(told)));
                    }
                    0
                }
                Uni::Encoder => instructions::of_encoder(std::mem::take(&mut input.data))?,
                Uni::Decoder(decoder) => decoder.read(std::mem::take(&mut input.data))?,
            };
            self.glitches.add_many(Glitch::QpackInstruction, read)?;
            break;
        }
        input.data = &[];
        if std::mem::take(&mut input.is_end) {
            self.end_uni(stream)?;
        }
        Ok(None)
    }

    /// A stream told its type: whether it is read on.
    fn told(&mut self, at: usize, kind: UniKind) -> Result<bool, Violation> {
        let (critical, uni) = match kind {
            UniKind::Control => (0, Uni::Control),
            UniKind::Encoder => (1, Uni::Encoder),
            UniKind::Decoder => (2, Uni::Decoder(DecoderStream::default())),
            UniKind::Push if self.role == Role::Server => {
                return Err(Violation::PushStreamFromClient);
            }
            //= https://www.rfc-editor.org/rfc/rfc9114#section-4.6
            //# A client MUST treat receipt of a push stream as a connection error
            //# of type H3_ID_ERROR when no MAX_PUSH_ID frame has been sent
            UniKind::Push => return Err(Violation::PushIdUnknown),
            UniKind::Unknown => {
                self.unis.swap_remove(at);
                self.glitches.add(Glitch::UnknownStream)?;
                return Ok(false);
            }
        };
        if self.has.get_mut(critical).is_some_and(|has| std::mem::replace(has, true)) {
            return Err(Violation::CriticalStreamTwice);
        }
        if let Some(place) = self.unis.get_mut(at) {
            place.1 = uni;
        }
        Ok(true)
    }

    fn controlled(&mut self, told: Told) -> Event<'static, 'static> {
        match told {
            Told::Settings(settings) => {
                self.settings = Some(settings);
                Event::Settings(settings)
            }
            Told::GoAway(from) => {
                self.go_away_received = true;
                Event::GoAway { from }
            }
        }
    }

    /// The peer ended or reset one of its streams.
    pub(super) fn end_uni(&mut self, stream: u64) -> Result<(), Violation> {
        let Some(at) = self.unis.iter().position(|(id, _)| *id == stream) else { return Ok(()) };
        match self.unis.swap_remove(at).1 {
            //= https://www.rfc-editor.org/rfc/rfc9114#section-6.2
            //# A receiver MUST tolerate unidirectional streams being
            //# closed or reset prior to the reception of the unidirectional stream
            //# header.
            Uni::Untold(_) => self.glitches.add(Glitch::UnknownStream),
            Uni::Control | Uni::Encoder | Uni::Decoder(_) => Err(Violation::CriticalStreamClosed),
        }
    }
}
