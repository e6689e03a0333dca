//! draining ends connections gracefully (RFC 9114 section 5.2).
//!
//! ```text
//!   stop ─► GOAWAY with the largest ID: send no more    ─► its requests on their way are served
//!        ─► GOAWAY with the next ID: later ones are not ─► when all are answered and
//!                                                            acknowledged: H3_NO_ERROR
//!                 └ two round trips later, when idle, or shortly before the deadline
//! ```

use std::time::{Duration, Instant};

use quiclane_http3::Code;

use super::connection::Connection;
use crate::app::{Conn, Lane, VarInt};
use crate::apps::tables::ConnTable;

/// A stop under way.
#[derive(Debug)]
pub(super) struct Draining {
    /// When everybody is told the last request, idle or not.
    last_call: Instant,
    /// When to look at the connections again.
    look: Instant,
}

impl Draining {
    /// Tells everybody that the server goes away.
    pub(super) fn begin(
        connections: &mut ConnTable<Connection>,
        lane: &mut Lane<'_>,
        deadline: Instant,
    ) -> Self {
        let now = lane.now();
        for (id, connection) in connections.iter_mut() {
            let Some(core) = &mut connection.core else { continue };
            core.go_away_soon();
            connection.going_since = Some(now);
            if let Some(mut conn) = lane.conn(id) {
                connection.say(&mut conn);
            }
        }
        let left = deadline.saturating_duration_since(now);
        let last_call = deadline.checked_sub((left / 4).min(LAST_CALL_MAX)).unwrap_or(now);
        Self { last_call, look: now + LOOK }
    }

    /// Goes on with it. Connections are looked at every few milliseconds, not in every turn.
    pub(super) fn turn(&mut self, connections: &mut ConnTable<Connection>, lane: &mut Lane<'_>) {
        let now = lane.now();
        if now < self.look {
            return lane.wake_at(self.look);
        }
        self.look = now + LOOK;
        let mut is_any = false;
        for (id, connection) in connections.iter_mut() {
            is_any = true;
            let Some(mut conn) = lane.conn(id) else { continue };
            let is_idle = connection.is_idle(&mut conn);
            if !is_idle && (connection.is_last_call || now < self.last_call) {
                continue;
            }
            // Requests that the client sent before it heard of the first GOAWAY are here by then.
            let heard = connection.going_since.map_or(now, |since| since + 2 * conn.rtt() + LOOK);
            if !connection.is_last_call && (now >= heard || now >= self.last_call) {
                last_call(connection, now);
                connection.say(&mut conn);
            }
            if is_idle && connection.is_last_call {
                close(&mut conn);
            }
        }
        if is_any {
            lane.wake_at(self.look);
        }
    }
}

/// Closes what is left.
//= https://www.rfc-editor.org/rfc/rfc9114#section-8.1
//# This is used when the connection or stream needs to be closed, but there is no error to
//# signal.
pub(super) fn end(connections: &mut ConnTable<Connection>, lane: &mut Lane<'_>) {
    for (id, _) in connections.iter_mut() {
        if let Some(mut conn) = lane.conn(id) {
            close(&mut conn);
        }
    }
}

fn close(conn: &mut Conn<'_>) {
    conn.close(VarInt::from_u32(Code::NoError.value()), "server stopping");
}

/// Says which requests are still served: those that have come.
pub(super) fn last_call(connection: &mut Connection, now: Instant) {
    if let Some(core) = &mut connection.core {
        core.go_away();
        connection.going_since.get_or_insert(now);
        connection.is_last_call = true;
    }
}

/// How often connections are looked at. More lets idle ones linger, less costs a busy worker time
/// for each of them.
const LOOK: Duration = Duration::from_millis(10);

/// The longest time before the deadline at which no more requests are taken: enough for a response
/// of usual size.
const LAST_CALL_MAX: Duration = Duration::from_secs(1);
