//! patience has an end: a client that owes bytes of a request is not waited for without end.
//!
//! ```text
//!   head       owed from the first visit until it is complete
//!   content    owed while the exchange asks for it in vain, or while it is thrown away; from the
//!              last byte on
//! ```
//!
//! A request that comes at once owes nothing when its visit ends, so it sets no alarm.

use std::time::Instant;

use quiclane_http3::{Code, Violation};

use super::{Receiving, Sending, Stream, Visit};

impl Stream {
    /// Gives up a request whose client owes bytes for too long, or sees to it that this is noticed.
    pub(super) fn keep_time(&mut self, at: &mut Visit<'_, '_>) -> Result<(), Violation> {
        let due = |since: Instant| since.checked_add(at.shared.request_timeout);
        if self.receiving != Receiving::Over
            && let Some(due) = self.owes_since.and_then(due)
        {
            if at.conn.now() >= due {
                self.stalled(at)?;
            } else if self.alarm.is_none_or(|alarm| alarm > due) {
                at.shared.alarms.set(&mut self.alarm, due, at.conn.id(), at.stream);
            }
        }
        if self.is_over() {
            at.shared.alarms.clear(&mut self.alarm, at.conn.id(), at.stream);
        }
        Ok(())
    }

    //= https://www.rfc-editor.org/rfc/rfc9114#section-4.1
    //# If a client-initiated stream terminates without enough of the HTTP
    //# message to provide a complete response, the server SHOULD abort its
    //# response stream with the error code H3_REQUEST_INCOMPLETE.
    /// The client did not go on with its request.
    fn stalled(&mut self, at: &mut Visit<'_, '_>) -> Result<(), Violation> {
        at.shared.counters.stalled.add(1);
        if matches!(self.sending, Sending::Over) {
            self.stop_reading(Code::NoError, at);
            return Ok(());
        }
        let outcome = at.core.stalled(at.stream.into());
        self.abandon(Code::RequestIncomplete, at);
        outcome
    }
}
