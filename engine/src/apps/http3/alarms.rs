//! alarms are the times at which streams are to be visited: because their exchange wants to go on,
//! or to see whether their client did.
//!
//! Invariant: each stream has at most one, and none when it is over; so a client that gives up
//! waiting leaves nothing behind.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::app::{ConnId, StreamId};

/// The alarms of all streams of a worker.
#[derive(Debug, Default)]
pub(super) struct Alarms(BTreeSet<(Instant, ConnId, StreamId)>);

impl Alarms {
    /// Sets the alarm of a stream, whose own note of it is `set`.
    pub(super) fn set(
        &mut self,
        set: &mut Option<Instant>,
        at: Instant,
        id: ConnId,
        stream: StreamId,
    ) {
        if *set != Some(at) {
            self.clear(set, id, stream);
            self.0.insert((at, id, stream));
            *set = Some(at);
        }
    }

    pub(super) fn clear(&mut self, set: &mut Option<Instant>, id: ConnId, stream: StreamId) {
        if let Some(at) = set.take() {
            self.0.remove(&(at, id, stream));
        }
    }

    /// The next stream whose time has come. Its alarm is off, and its note has to be cleared.
    pub(super) fn due(&mut self, now: Instant) -> Option<(ConnId, StreamId)> {
        let (at, id, stream) = *self.0.first()?;
        if at > now {
            return None;
        }
        self.0.pop_first();
        Some((id, stream))
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, ..)| *at)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::app::Dir;

    #[test]
    fn a_stream_has_one_alarm_and_leaves_none() {
        let now = crate::clock::now();
        let id = ConnId { slot: 0, generation: 0 };
        let stream = |index| StreamId::new(quinn_proto::Side::Client, Dir::Bi, index);
        let (mut alarms, mut notes) = (Alarms::default(), [None; 2]);
        for seconds in [9, 5, 5, 7] {
            let at = now + Duration::from_secs(seconds);
            alarms.set(&mut notes[0], at, id, stream(0));
        }
        alarms.set(&mut notes[1], now + Duration::from_secs(8), id, stream(1));
        assert_eq!((alarms.0.len(), alarms.next()), (2, Some(now + Duration::from_secs(7))));
        assert_eq!(alarms.due(now), None);
        alarms.clear(&mut notes[0], id, stream(0));
        assert_eq!(alarms.due(now + Duration::from_secs(8)), Some((id, stream(1))));
        assert_eq!((alarms.0.len(), alarms.next(), notes[0]), (0, None, None));
    }
}
