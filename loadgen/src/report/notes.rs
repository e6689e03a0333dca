//! notes says what a reader has to know to judge the numbers of a run.

use std::time::Duration;

use super::StreamLimitReport;
use crate::config::{LoadConfig, Stop};
use crate::tally::{Ending, Span, Tally};
use crate::text;

/// What a reader has to know to judge the numbers, one sentence each.
pub(super) fn notes(config: &LoadConfig, tally: &Tally) -> Vec<String> {
    let all = [
        ending(config, tally),
        busy(tally),
        late(config, tally),
        unsent(config, tally),
        silent(tally),
        lost(config, tally),
        limited(config, tally),
    ];
    all.into_iter().flatten().collect()
}

/// How it ended, unless it did as it should.
fn ending(config: &LoadConfig, tally: &Tally) -> Option<String> {
    Some(match tally.ending {
        Ending::Complete if tally.handshakes.ok > 0 && came_to_nothing(config, tally) => {
            format!(
                "no request was answered in {:.1} s and no content came back ({} in flight at the \
                 end): see whether the server answers at all, or give the run more time",
                tally.measured.map_or(Duration::ZERO, Span::length).as_secs_f64(),
                tally.requests.cancelled
            )
        }
        Ending::Complete => return None,
        Ending::GaveUp => format!(
            "gave up: nothing was answered for {} s and nothing is in flight; {} {} not started",
            config.dark_max().as_secs_f64(),
            not_started(config, tally),
            if config.workload.is_handshakes() { "handshakes" } else { "requests" }
        ),
        Ending::Interrupted => "interrupted: the numbers are those until then".into(),
        Ending::NothingConnected => "no connection could be established".into(),
    })
}

/// That the generator may have been the limit.
fn busy(tally: &Tally) -> Option<String> {
    let busy = tally.busy.filter(|&busy| busy > SATURATED)?;
    Some(format!(
        "the generator had something to do for {:.0} % of the time: the server may be capable of \
         more; give the generator more workers, or cores or a machine of its own",
        busy * 100.0
    ))
}

/// That the generator was late by itself.
fn late(config: &LoadConfig, tally: &Tally) -> Option<String> {
    let at = lags(tally).then(|| lag_quantile(tally))?;
    let (what, whose) = match config.workload.is_handshakes() {
        true => ("began handshakes", "more could be under way"),
        false => ("sent requests", "connections had room"),
    };
    Some(format!(
        "the generator {what} late by {} us ({:.0} % were less late) though {whose}: give it \
         more workers, or cores or a machine of its own",
        text::group(tally.lag.value_at_quantile(at) / 1_000),
        at * 100.0
    ))
}

/// That much of the schedule was never sent.
fn unsent(config: &LoadConfig, tally: &Tally) -> Option<String> {
    if tally.unsent * UNSENT_NOTE <= tally.sent {
        return None;
    }
    let (what, why) = match (config.workload.is_handshakes(), tally.held) {
        (true, _) => ("handshakes", "as many as allowed were under way; allow more with -c"),
        (_, 0) => ("requests", "there was no connection"),
        _ => (
            "requests",
            "no connection had room; with more of them (-c) or streams (-m) the server queues",
        ),
    };
    Some(format!(
        "{} {what} were due and not sent, and are in none of the times: {why}",
        text::group(tally.unsent)
    ))
}

/// That connections moved and no answer came.
fn silent(tally: &Tally) -> Option<String> {
    let silent = tally.request_errors.of(&SILENCE) + tally.idle_losses.of(&SILENCE);
    (tally.upkeep.migrations > 0 && silent > 0).then(|| {
        format!(
            "connections moved {} times, and {} times no answer came: so it is with a server that \
             does not follow a client to a new address, or follows it a few times only",
            text::group(tally.upkeep.migrations),
            text::group(silent)
        )
    })
}

/// That none of the connections that were only held was left.
fn lost(config: &LoadConfig, tally: &Tally) -> Option<String> {
    if !config.workload.is_idle() || tally.held > 0 || tally.idle_losses.total() == 0 {
        return None;
    }
    let seconds = tally.measured.map_or(0.0, |span| span.length().as_secs_f64());
    Some(match config.reconnect {
        true => "no connection was open at the end".into(),
        false => format!("all connections were lost within {seconds:.1} s, none was left"),
    })
}

/// That requests waited for the server's limit of streams.
fn limited(config: &LoadConfig, tally: &Tally) -> Option<String> {
    let limit = StreamLimitReport::new(tally)?;
    (tally.stream_limited * STREAM_LIMITED_NOTE > tally.requests.started)
        .then(|| format!("{limit}; it allows fewer than {}, or late", config.streams))
}

/// Whether requests were the work and none of them came to anything, not even to a failure. A run
/// shorter than the time after which requests have stalled cannot say which one failed; that all
/// went well is the one thing that it must not say.
pub(super) fn came_to_nothing(config: &LoadConfig, tally: &Tally) -> bool {
    let makes_requests = !config.workload.is_handshakes() && !config.workload.is_idle();
    makes_requests && tally.requests.ended() == 0 && tally.bytes_down == 0 && !tally.uploading
}

fn not_started(config: &LoadConfig, tally: &Tally) -> u64 {
    let started =
        if config.workload.is_handshakes() { &tally.handshakes } else { &tally.requests }.started;
    match config.stop {
        Stop::Requests(requests) => requests.saturating_sub(started),
        Stop::Duration(_) | Stop::Never => 0,
    }
}

/// Whether the generator was late by itself, by so much that the times it measured are its own.
pub(super) fn lags(tally: &Tally) -> bool {
    if tally.latency.is_empty() {
        // Nothing was measured that it could spoil.
        return false;
    }
    let at = lag_quantile(tally);
    let [lag, latency] = [&tally.lag, &tally.latency]
        .map(|times| Duration::from_nanos(times.value_at_quantile(at)).as_secs_f64());
    lag > LAG_MAX.as_secs_f64() && lag > LAG_MAX_SHARE * latency
}

/// Which percentile of the lag says so. One wake-up that came late is no bottleneck, so that of few
/// requests it is a lower one.
fn lag_quantile(tally: &Tally) -> f64 {
    (1.0 - LATE_MIN / tally.lag.len().max(1) as f64).clamp(0.5, 0.99)
}

/// A worker that had something to do for more than this share of the time cannot be said to have
/// waited for the server.
pub(crate) const SATURATED: f64 = 0.97;

/// A lag whose percentile is no longer than this is never held against the generator.
const LAG_MAX: Duration = Duration::from_millis(1);

/// So many requests that were late make a generator that is.
const LATE_MIN: f64 = 10.0;

/// Nor one that is at most this share of the latency it would spoil.
const LAG_MAX_SHARE: f64 = 0.1;

/// The classes of errors of a server that is not heard of any more.
const SILENCE: [&str; 3] = ["stalled", "timeout", "idle_timeout"];

/// One request in this many that was not sent is worth a note.
const UNSENT_NOTE: u64 = 100;

/// One request in this many held back is worth a note.
const STREAM_LIMITED_NOTE: u64 = 100;
