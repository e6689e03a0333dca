//! ending is how far a test came.

use serde::Serialize;

use super::seen::Seen;

/// How a test ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DefenceEnding {
    /// All three parts were seen.
    Complete,
    /// Somebody stopped it.
    Interrupted,
    /// The probe had no connection before the abuse, which was not begun.
    NothingConnected,
    /// The probe had connections before the abuse, but no answer. It was not begun either.
    NothingAnswered,
}

impl DefenceEnding {
    /// What follows from what was seen before the abuse: `Complete` if it can begin.
    pub(super) fn of(Seen { users, newcomers }: &Seen, is_interrupted: bool) -> Self {
        match users.counts.ok {
            _ if is_interrupted => Self::Interrupted,
            1.. => Self::Complete,
            0 if users.report.handshakes + newcomers.counts.ok == 0 => Self::NothingConnected,
            0 => Self::NothingAnswered,
        }
    }

    /// Whether the abuse was never begun, because nobody was there to see it.
    #[must_use]
    pub fn is_unbegun(self) -> bool {
        matches!(self, Self::NothingConnected | Self::NothingAnswered)
    }
}
