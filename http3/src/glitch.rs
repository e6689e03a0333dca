//! glitch counts what costs more than it carries, so that nobody can keep us busy with it.
//!
//! ```text
//!   score = sum of points - completed exchanges - what the caller forgave, never below 0
//!   score > Limits::glitches_max  ─►  Violation::Glitches, H3_EXCESSIVE_LOAD
//! ```
//!
//! Everything counted here is legal and happens to honest peers, seldom.

use crate::violation::Violation;

/// Something that costs more than it carries.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Glitch {
    /// A DATA frame with less payload than header: 1 point.
    EmptyData,
    /// A frame of a type that means nothing here, 1 point, and 1 for each 4 KiB inside.
    UnknownFrame,
    /// A frame on the control stream after SETTINGS: 1 point.
    ControlFrame,
    /// An instruction on a QPACK stream, of which none has an effect: 1 point.
    QpackInstruction,
    /// An interim response: 1 point.
    InterimResponse,
    /// A unidirectional stream of a type that means nothing here, or that ends before its type is
    /// told: 2 points.
    UnknownStream,
    /// A request that was refused unprocessed: too large, too late or too many: 5 points.
    RefusedRequest,
    /// A message that broke a rule and ended its stream: 5 points.
    MalformedMessage,
    /// A request that the client gave up before it was answered, or a response that the server
    /// gave up: 5 points.
    Cancelled,
    /// A request that was given up because the client did not go on with it, or with taking the
    /// response: 25 points. It was held for as long as the caller waits, a minute or so, in which
    /// other points are forgiven.
    Stalled,
}

impl Glitch {
    /// Every glitch.
    pub const ALL: [Self; 10] = [
        Self::EmptyData,
        Self::UnknownFrame,
        Self::ControlFrame,
        Self::QpackInstruction,
        Self::InterimResponse,
        Self::UnknownStream,
        Self::RefusedRequest,
        Self::MalformedMessage,
        Self::Cancelled,
        Self::Stalled,
    ];

    /// A short stable name, for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EmptyData => "empty_data",
            Self::UnknownFrame => "unknown_frame",
            Self::ControlFrame => "control_frame",
            Self::QpackInstruction => "qpack_instruction",
            Self::InterimResponse => "interim_response",
            Self::UnknownStream => "unknown_stream",
            Self::RefusedRequest => "refused_request",
            Self::MalformedMessage => "malformed_message",
            Self::Cancelled => "cancelled",
            Self::Stalled => "stalled",
        }
    }

    const fn points(self) -> u32 {
        match self {
            Self::EmptyData
            | Self::UnknownFrame
            | Self::ControlFrame
            | Self::QpackInstruction
            | Self::InterimResponse => 1,
            Self::UnknownStream => 2,
            Self::RefusedRequest | Self::MalformedMessage | Self::Cancelled => 5,
            Self::Stalled => 25,
        }
    }
}

/// The glitches of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Glitches {
    max: u32,
    score: u32,
    skipped_bytes: u64,
    counts: [u32; Glitch::ALL.len()],
}

impl Glitches {
    pub(crate) fn new(max: u32) -> Self {
        Self { max, score: 0, skipped_bytes: 0, counts: [0; Glitch::ALL.len()] }
    }

    /// Counts one.
    pub(crate) fn add(&mut self, glitch: Glitch) -> Result<(), Violation> {
        self.add_many(glitch, 1)
    }

    pub(crate) fn add_many(&mut self, glitch: Glitch, times: u32) -> Result<(), Violation> {
        if let Some(count) = self.counts.get_mut(glitch as usize) {
            *count = count.saturating_add(times);
        }
        self.score = self.score.saturating_add(glitch.points().saturating_mul(times));
        if self.score > self.max { Err(Violation::Glitches) } else { Ok(()) }
    }

    /// Counts bytes that were skipped because they mean nothing.
    pub(crate) fn skip(&mut self, bytes: usize) -> Result<(), Violation> {
        self.skipped_bytes += bytes as u64;
        let times = self.skipped_bytes / SKIPPED_BYTES_A_POINT;
        self.skipped_bytes %= SKIPPED_BYTES_A_POINT;
        self.score = self.score.saturating_add(u32::try_from(times).unwrap_or(u32::MAX));
        if self.score > self.max { Err(Violation::Glitches) } else { Ok(()) }
    }

    pub(crate) fn forgive(&mut self, points: u32) {
        self.score = self.score.saturating_sub(points);
    }

    pub(crate) fn score(&self) -> u32 {
        self.score
    }

    pub(crate) fn count(&self, glitch: Glitch) -> u32 {
        self.counts.get(glitch as usize).copied().unwrap_or_default()
    }
}

/// Unknown frames are legal and some peers send a few small ones; 4 MB of them is too much.
const SKIPPED_BYTES_A_POINT: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_rises_with_glitches_and_falls_with_good_deeds() {
        let mut glitches = Glitches::new(10);
        assert_eq!(glitches.add(Glitch::Cancelled), Ok(()));
        assert_eq!(glitches.add_many(Glitch::EmptyData, 5), Ok(()));
        assert_eq!(glitches.add(Glitch::EmptyData), Err(Violation::Glitches));
        glitches.forgive(4);
        assert_eq!(glitches.score(), 7);
        glitches.forgive(100);
        assert_eq!(glitches.add_many(Glitch::UnknownStream, u32::MAX), Err(Violation::Glitches));
        assert_eq!(glitches.count(Glitch::EmptyData), 6);
    }

    #[test]
    fn skipped_bytes_add_up() {
        let mut glitches = Glitches::new(1);
        for _ in 0..2 * SKIPPED_BYTES_A_POINT - 1 {
            assert_eq!(glitches.skip(1), Ok(()));
        }
        assert_eq!(glitches.skip(1), Err(Violation::Glitches));
        assert_eq!(Glitches::new(1000).skip(usize::MAX), Err(Violation::Glitches));
    }

    #[test]
    fn counts_are_in_the_order_of_the_list() {
        for (at, glitch) in Glitch::ALL.into_iter().enumerate() {
            assert_eq!(glitch as usize, at, "{}", glitch.name());
        }
    }
}
