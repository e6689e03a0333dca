//! report is what a test says; the README defines each number.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use quiclane::{CloseReason, ConnectionStats};
use serde::Serialize;

use super::calmness::{Calmness, recovered};
use super::ending::DefenceEnding;
use super::phase::PhaseReport;
use super::seen::Seen;
use super::{DefenceConfig, Kind};
use crate::protocol::H3_ALPN;
use crate::slo::SloReport;
use crate::tally::ClassCount;

/// The result of a test. Displayed, a text for people.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct DefenceReport {
    /// Version of this schema.
    pub schema: u32,
    /// What was done.
    pub defence: Kind,
    /// To whom.
    pub target: SocketAddr,
    /// How often a second, as asked for.
    pub rate: u64,
    /// For how long, as asked for, in seconds.
    pub length_s: f64,
    /// How the test ended.
    pub ending: DefenceEnding,
    /// What became of the server's users; absent when nobody can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Calmness>,
    /// Whether they had the same again afterwards; absent when nobody can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recovered: Option<bool>,
    /// The generator could not keep its rate, or the probe was late by its own doing.
    pub saturated: bool,
    /// What was done and what came back; absent when it was not begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub abuse: Option<AbuseReport>,
    /// What an ordinary user saw.
    pub probe: ProbeReport,
    /// What became of the objectives during the abuse; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slo: Option<SloReport>,
    /// Handshakes of the probe that failed before the abuse; not part of the JSON.
    #[serde(skip)]
    pub handshake_errors: Vec<ClassCount>,
}

/// What an ordinary user saw.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct ProbeReport {
    /// Before the abuse.
    pub before: PhaseReport,
    /// While it lasted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub during: Option<PhaseReport>,
    /// After it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<PhaseReport>,
}

/// What was done and what came back.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct AbuseReport {
    /// How long it lasted, in seconds.
    pub duration_s: f64,
    /// Pieces that were due.
    pub due: u64,
    /// Pieces that were done.
    pub done: u64,
    /// Pieces that were due when no stream or connection for them was to be had.
    pub held_back: u64,
    /// Of the pieces that were done, per second.
    pub done_per_s: f64,
    /// What was sent.
    pub sent: Traffic,
    /// What came back.
    pub received: Traffic,
    /// Bytes that came back for each that was sent.
    pub amplification: f64,
    /// That is more than 3, and no address had been validated (RFC 9000 section 8.1).
    pub amplified: bool,
    /// Datagrams that the kernel did not take.
    pub not_taken: u64,
    /// Stateless resets, or with datagrams what looks like them.
    pub stateless_resets: u64,
    /// How often the server closed a connection, by code.
    pub closes: Vec<CloseCount>,
    /// Connections that ended otherwise, by class.
    pub ended: BTreeMap<String, u64>,
    /// What datagrams were answered with; absent where there are connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answers: Option<DatagramAnswers>,
    /// What became of connections; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connections: Option<ConnectionCounts>,
    /// What became of streams; absent where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub streams: Option<StreamCounts>,
}

/// Datagrams, and the bytes of UDP payload in them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Traffic {
    /// How many.
    pub datagrams: u64,
    /// Bytes in all of them.
    pub bytes: u64,
}

impl Traffic {
    /// Adds what was counted elsewhere.
    pub(super) fn add(&mut self, datagrams: u64, bytes: u64) {
        self.datagrams += datagrams;
        self.bytes += bytes;
    }
}

/// What datagrams were answered with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct DatagramAnswers {
    /// Retry packets.
    pub retries: u64,
    /// Version Negotiation packets.
    pub version_negotiations: u64,
    /// Handshakes that the server began: its flight came.
    pub flights: u64,
}

/// What became of connections.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ConnectionCounts {
    /// Handshakes begun.
    pub tried: u64,
    /// Handshakes completed.
    pub opened: u64,
    /// Handshakes that the server refused (CONNECTION_REFUSED).
    pub refused: u64,
    /// Handshakes that failed otherwise.
    pub failed: u64,
    /// Connections that were open when the abuse was over.
    pub open_at_end: u64,
}

/// What became of streams.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct StreamCounts {
    /// Streams opened.
    pub opened: u64,
    /// Most bidirectional streams that the server allowed to be open at once on a connection; where
    /// they are left open, and its limit was reached.
    pub allowed_bidi: u64,
    /// The same of unidirectional ones.
    pub allowed_uni: u64,
    /// Streams left open that the server reset, stopped or answered in full.
    pub ended_by_server: u64,
    /// Those of them that it answered in full.
    pub answered: u64,
    /// Streams left open that were still there when the abuse was over.
    pub open_at_end: u64,
}

/// Who speaks in a CONNECTION_CLOSE.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseLayer {
    /// QUIC or TLS, frame type 0x1c.
    Transport,
    /// The application, frame type 0x1d.
    Application,
}

/// How often a connection was closed with one code.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[non_exhaustive]
pub struct CloseCount {
    /// Who spoke.
    pub layer: CloseLayer,
    /// The code; null for all beyond the first 64 different ones.
    pub code: Option<u64>,
    /// Its name, if it has one in the protocol that was spoken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<&'static str>,
    /// How often.
    pub count: u64,
}

impl AbuseReport {
    /// Adds what another worker counted.
    pub(super) fn add(&mut self, other: Self) {
        let Self { duration_s, due, done, held_back, sent, received, .. } = other;
        self.duration_s = self.duration_s.max(duration_s);
        self.due += due;
        self.done += done;
        self.held_back += held_back;
        self.sent.add(sent.datagrams, sent.bytes);
        self.received.add(received.datagrams, received.bytes);
        self.not_taken += other.not_taken;
        self.stateless_resets += other.stateless_resets;
        for CloseCount { layer, code, count, .. } in other.closes {
            self.note_close(layer, code, count);
        }
        for (class, count) in other.ended {
            *self.ended.entry(class).or_default() += count;
        }
        // Who sends datagrams does so alone.
        self.answers = self.answers.or(other.answers);
        if let Some(theirs) = other.connections {
            let ours = self.connections.get_or_insert_default();
            ours.tried += theirs.tried;
            ours.opened += theirs.opened;
            ours.refused += theirs.refused;
            ours.failed += theirs.failed;
            ours.open_at_end += theirs.open_at_end;
        }
        if let Some(theirs) = other.streams {
            let ours = self.streams.get_or_insert_default();
            ours.opened += theirs.opened;
            ours.allowed_bidi = ours.allowed_bidi.max(theirs.allowed_bidi);
            ours.allowed_uni = ours.allowed_uni.max(theirs.allowed_uni);
            ours.ended_by_server += theirs.ended_by_server;
            ours.answered += theirs.answered;
            ours.open_at_end += theirs.open_at_end;
        }
    }

    /// Notes how a connection ended. What we closed ourselves is no news.
    pub(super) fn note_end(&mut self, reason: &CloseReason) {
        match reason {
            CloseReason::Application { code, .. } => {
                self.note_close(CloseLayer::Application, Some(*code), 1);
            }
            CloseReason::PeerTransport { code, .. } => {
                self.note_close(CloseLayer::Transport, Some(*code), 1);
            }
            CloseReason::StatelessReset => self.stateless_resets += 1,
            CloseReason::Local => {}
            other => *self.ended.entry(other.class().to_owned()).or_default() += 1,
        }
    }

    /// Notes `count` closes with `code`.
    pub(super) fn note_close(&mut self, layer: CloseLayer, code: Option<u64>, count: u64) {
        let is_known = |known: &&mut CloseCount| known.layer == layer && known.code == code;
        if let Some(known) = self.closes.iter_mut().find(is_known) {
            known.count += count;
        } else if self.closes.len() < CLOSE_CODES_MAX || code.is_none() {
            self.closes.push(CloseCount { layer, code, name: None, count });
        } else {
            self.note_close(layer, None, count);
        }
    }

    /// Adds what a connection counted.
    pub(super) fn note_traffic(&mut self, stats: &ConnectionStats) {
        self.sent.add(stats.udp_tx.datagrams, stats.udp_tx.bytes);
        self.received.add(stats.udp_rx.datagrams, stats.udp_rx.bytes);
    }

    /// Derives what follows from the counts.
    fn finish(&mut self, kind: Kind, is_http3: bool) {
        for close in &mut self.closes {
            close.name = close.code.and_then(|code| close_name(close.layer, code, is_http3));
        }
        self.closes.sort_by_key(|close| std::cmp::Reverse(close.count));
        let seconds = self.duration_s;
        self.done_per_s = if seconds > 0.0 { self.done as f64 / seconds } else { 0.0 };
        let sent = self.sent.bytes;
        let factor = if sent > 0 { self.received.bytes as f64 / sent as f64 } else { 0.0 };
        self.amplification = factor;
        // Who completes handshakes proves an address, and who follows a Retry as well.
        let is_validated = match kind {
            Kind::InitialFlood | Kind::Junk => false,
            Kind::HandshakeAbandon => self.answers.is_some_and(|answers| answers.retries > 0),
            Kind::Churn | Kind::RapidReset | Kind::SlowReader | Kind::StreamExhaustion => true,
        };
        self.amplified = !is_validated && factor > AMPLIFICATION_MAX;
    }

    /// Pieces that were due, and that the generator alone did not do.
    #[must_use]
    pub fn not_kept_up(&self) -> u64 {
        self.due.saturating_sub(self.done + self.held_back)
    }

    /// Whether the generator fell behind its rate.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.not_kept_up() as f64 > BEHIND_MAX * self.due as f64
    }
}

impl DefenceReport {
    /// What is known before the abuse begins.
    pub(super) fn new(config: &DefenceConfig, target: SocketAddr, seen: &Seen) -> Self {
        let before = PhaseReport::new(seen);
        Self {
            schema: 1,
            defence: config.kind,
            target,
            rate: config.rate,
            length_s: config.length.as_secs_f64(),
            ending: DefenceEnding::Complete,
            verdict: None,
            recovered: None,
            saturated: before.saturated,
            abuse: None,
            probe: ProbeReport { before, during: None, after: None },
            slo: None,
            handshake_errors: seen.handshake_errors(),
        }
    }

    /// Notes what was seen while the abuse lasted.
    pub(super) fn during(&mut self, config: &DefenceConfig, seen: &Seen) {
        let during = PhaseReport::new(seen);
        self.saturated |= during.saturated;
        self.slo = config.probe.slo.as_ref().map(|slo| slo.judge(&seen.together()));
        self.probe.during = Some(during);
    }

    /// Notes what was seen afterwards.
    pub(super) fn after(&mut self, seen: &Seen) {
        let after = PhaseReport::new(seen);
        self.saturated |= after.saturated;
        self.probe.after = Some(after);
    }

    /// Notes the abuse itself, and judges.
    pub(super) fn conclude(&mut self, config: &DefenceConfig, mut abuse: AbuseReport) {
        abuse.finish(config.kind, config.abuse.protocol.alpn() == H3_ALPN);
        let is_behind = abuse.is_behind();
        self.saturated |= is_behind;
        self.abuse = Some(abuse);
        if self.ending != DefenceEnding::Complete {
            return;
        }
        let ProbeReport { before, during, after } = &self.probe;
        let reliable = !is_behind && !self.left_nothing_lying();
        let verdict = |during| Calmness::new(before, during, reliable);
        self.verdict = during.as_ref().and_then(verdict);
        self.recovered = after.as_ref().and_then(|after| recovered(before, after));
    }
}

impl DefenceReport {
    /// Whether a slow reader had no response that it could leave lying: the server sent all of
    /// each and was done with it.
    pub(super) fn left_nothing_lying(&self) -> bool {
        let streams = self.abuse.as_ref().and_then(|abuse| abuse.streams);
        self.defence == Kind::SlowReader
            && streams.is_some_and(
                |StreamCounts { answered, ended_by_server, open_at_end, .. }| {
                    answered > 0 && answered == ended_by_server && open_at_end == 0
                },
            )
    }
}

/// A time as the JSON has it.
pub(super) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}

/// What a code of a close is called.
fn close_name(layer: CloseLayer, code: u64, is_http3: bool) -> Option<&'static str> {
    match layer {
        CloseLayer::Application => {
            quiclane_http3::Code::of(code).filter(|_| is_http3).map(quiclane_http3::Code::name)
        }
        CloseLayer::Transport => TRANSPORT_CODES.get(usize::try_from(code).ok()?).copied(),
    }
}

/// RFC 9000 section 20.1, from 0 on.
const TRANSPORT_CODES: [&str; 17] = [
    "NO_ERROR",
    "INTERNAL_ERROR",
    "CONNECTION_REFUSED",
    "FLOW_CONTROL_ERROR",
    "STREAM_LIMIT_ERROR",
    "STREAM_STATE_ERROR",
    "FINAL_SIZE_ERROR",
    "FRAME_ENCODING_ERROR",
    "TRANSPORT_PARAMETER_ERROR",
    "CONNECTION_ID_LIMIT_ERROR",
    "PROTOCOL_VIOLATION",
    "INVALID_TOKEN",
    "APPLICATION_ERROR",
    "CRYPTO_BUFFER_EXCEEDED",
    "KEY_UPDATE_ERROR",
    "AEAD_LIMIT_REACHED",
    "NO_VIABLE_PATH",
];

//= https://www.rfc-editor.org/rfc/rfc9000#section-8
//# an endpoint MUST limit the amount of data it sends to the unvalidated
//# address to three times the amount of data received from that address
const AMPLIFICATION_MAX: f64 = 3.0;

/// A generator that left out a larger share of what was due did another test than the one that was
/// asked for.
const BEHIND_MAX: f64 = 0.05;

/// A server that means harm may have a code for every connection.
const CLOSE_CODES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closes_are_counted_by_code_and_bounded() {
        let mut report = AbuseReport::default();
        for code in 0..1_000 {
            report.note_close(CloseLayer::Application, Some(code), 2);
        }
        report.note_close(CloseLayer::Application, Some(7), 1);
        report.note_close(CloseLayer::Transport, Some(7), 1);
        assert!(report.closes.len() <= CLOSE_CODES_MAX + 2, "{}", report.closes.len());
        let of = |layer, code| {
            let found = |close: &&CloseCount| close.layer == layer && close.code == code;
            report.closes.iter().find(found).map(|close| close.count)
        };
        assert_eq!(of(CloseLayer::Application, Some(7)), Some(3));
        assert_eq!(of(CloseLayer::Application, None), Some(2 * (1_000 - 64)));
        assert_eq!(of(CloseLayer::Transport, None), Some(1));
    }

    #[test]
    fn codes_have_the_names_of_their_layer() {
        use CloseLayer::{Application, Transport};
        assert_eq!(close_name(Application, 0x107, true), Some("H3_EXCESSIVE_LOAD"));
        assert_eq!(close_name(Application, 0x107, false), None);
        assert_eq!(close_name(Transport, 2, true), Some("CONNECTION_REFUSED"));
        assert_eq!(close_name(Transport, 0x10, true), Some("NO_VIABLE_PATH"));
        assert_eq!(close_name(Transport, u64::MAX, true), None);
    }

    #[test]
    fn a_generator_is_behind_by_what_it_did_not_do_itself() {
        let of = |done, held_back| AbuseReport { due: 100, done, held_back, ..Default::default() };
        assert!(!of(95, 0).is_behind() && of(94, 0).is_behind());
        assert!(!of(10, 90).is_behind() && of(10, 80).is_behind());
        assert_eq!(of(10, 80).not_kept_up(), 10);
    }

    #[test]
    fn more_than_three_times_is_too_much_before_an_address_is_validated() {
        let traffic = |bytes| Traffic { datagrams: 1, bytes };
        let of = |kind, bytes, retries| {
            let answers = Some(DatagramAnswers { retries, ..DatagramAnswers::default() });
            let (sent, received) = (traffic(1_200), traffic(bytes));
            let mut report = AbuseReport { sent, received, answers, ..AbuseReport::default() };
            report.finish(kind, true);
            report.amplified
        };
        for (kind, bytes, retries, is_amplified) in [
            (Kind::InitialFlood, 3_600, 0, false),
            (Kind::InitialFlood, 3_601, 0, true),
            (Kind::InitialFlood, 3_601, 1, true),
            (Kind::Junk, 3_601, 0, true),
            (Kind::HandshakeAbandon, 3_601, 0, true),
            (Kind::HandshakeAbandon, 3_601, 1, false),
            (Kind::SlowReader, 1 << 20, 0, false),
        ] {
            assert_eq!(of(kind, bytes, retries), is_amplified, "{kind} {bytes} {retries}");
        }
    }

    #[test]
    fn workers_add_up() {
        let one = || AbuseReport {
            duration_s: 1.0,
            due: 1,
            connections: Some(ConnectionCounts { opened: 2, ..Default::default() }),
            streams: Some(StreamCounts { opened: 3, allowed_bidi: 7, ..Default::default() }),
            ..AbuseReport::default()
        };
        let mut sum = one();
        sum.note_end(&CloseReason::Application { code: 7, reason: String::new() });
        sum.note_end(&CloseReason::IdleTimeout);
        let mut all = one();
        all.add(sum);
        assert_eq!((all.due, all.duration_s), (2, 1.0));
        assert_eq!(all.connections.unwrap().opened, 4);
        assert_eq!((all.streams.unwrap().opened, all.streams.unwrap().allowed_bidi), (6, 7));
        assert_eq!((all.closes[0].count, all.ended["idle_timeout"]), (1, 1));
    }
}
