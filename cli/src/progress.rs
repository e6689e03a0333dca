//! progress shows a run while it lasts: a live view on a terminal, or a bar where nobody asked for
//! more, and one line per second elsewhere.

mod busy;
mod view;

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quiclane::clock;
use quiclane_loadgen::{Progress, Stop, Workload};

use crate::output;
use busy::Busy;
use view::{Shown, VIEW_INTERVAL, View};

/// Shows one run.
#[derive(Debug)]
pub(crate) struct Meter {
    display: Display,
    /// What lines begin with: which of several runs it is.
    label: String,
    workload: Workload,
    stop: Stop,
    /// What was shown last, and when.
    last: Option<(Instant, Progress)>,
    /// When measuring began.
    measuring_since: Option<Instant>,
}

#[derive(Debug)]
enum Display {
    Nothing,
    Bar(ProgressBar),
    Lines,
    View(Box<Live>),
}

/// A view and what is in it.
#[derive(Debug)]
struct Live {
    view: View,
    shown: Shown,
    busy: Busy,
}

impl Meter {
    /// A meter for a run of `workload` that ends at `stop`.
    pub(crate) fn new(quiet: bool, workload: Workload, stop: Stop) -> Self {
        let display = if quiet {
            Display::Nothing
        } else if io::stderr().is_terminal() {
            Display::Bar(bar(stop))
        } else {
            Display::Lines
        };
        Self::shown(display, workload, stop)
    }

    /// The same with a live view of the run of `title`, where there is a terminal for it.
    pub(crate) fn live(quiet: bool, workload: Workload, stop: Stop, title: &str) -> Self {
        let mut meter = Self::new(quiet, workload, stop);
        if let Display::Bar(_) = meter.display
            && let Ok(view) = View::open()
        {
            let shown = Shown { title: title.into(), ..Shown::default() };
            meter.display = Display::View(Box::new(Live { view, shown, busy: Busy::new() }));
        }
        meter
    }

    /// Lines, wherever it is shown.
    pub(crate) fn plain(quiet: bool, workload: Workload, stop: Stop) -> Self {
        let display = if quiet { Display::Nothing } else { Display::Lines };
        Self::shown(display, workload, stop)
    }

    fn shown(display: Display, workload: Workload, stop: Stop) -> Self {
        Self { display, label: String::new(), workload, stop, last: None, measuring_since: None }
    }

    /// The same, of the run that `label` names among several.
    pub(crate) fn labelled(mut self, label: &str) -> Self {
        self.label = format!("{label}: ");
        if let Display::View(live) = &mut self.display {
            live.shown.title.insert_str(0, &self.label);
        }
        self
    }

    /// Shows how far the run is, if it is time to.
    pub(crate) fn show(&mut self, progress: Progress) {
        let now = clock::now();
        if progress.measuring > 0 {
            self.measuring_since.get_or_insert(now);
        }
        let interval = match self.display {
            Display::Nothing => return,
            Display::Bar(_) => BAR_INTERVAL,
            Display::Lines => LINE_INTERVAL,
            Display::View(_) => VIEW_INTERVAL,
        };
        let Some((since, before)) = self.last else {
            if let Display::View(live) = &mut self.display {
                live.shown.progress = "connecting".into();
                live.view.draw(&live.shown);
            }
            self.last = Some((now, Progress::default()));
            return;
        };
        let passed = now.saturating_duration_since(since);
        if passed < interval {
            return;
        }
        let text = self.text(&before, &progress, passed);
        let position = self.position(now, &progress);
        let (rate, done) = (self.rate(&before, &progress, passed), self.done(now));
        match &mut self.display {
            Display::Nothing => {}
            Display::View(live) => {
                let Live { view, shown, busy } = &mut **live;
                shown.rate = rate;
                shown.progress = done;
                shown.p99 = quiclane_loadgen::nanoseconds(progress.p99_ns);
                shown.has_failed = progress.requests_failed + progress.handshakes_failed > 0;
                shown.words = text;
                shown.workers = busy.look();
                shown.push(rate.0, progress.p99_ns);
                view.draw(shown);
            }
            Display::Lines => output::log(format_args!("{}{text}", self.label)),
            Display::Bar(bar) => {
                bar.set_position(position);
                bar.set_message(format!("{}{text}", self.label));
            }
        }
        self.last = Some((now, progress));
    }

    /// Takes the bar away, so that the report stands alone.
    pub(crate) fn clear(&mut self) {
        match &mut self.display {
            Display::Bar(bar) => bar.finish_and_clear(),
            Display::View(live) => live.view.close(),
            Display::Nothing | Display::Lines => {}
        }
    }

    /// The rate that the run is about.
    fn rate(&self, before: &Progress, now: &Progress, passed: Duration) -> (u64, &'static str) {
        let (count, what) = match self.workload.is_handshakes() || now.measuring == 0 {
            true => (now.handshakes.saturating_sub(before.handshakes), "handshakes/s"),
            false => (now.requests.saturating_sub(before.requests), "requests/s"),
        };
        let ms = millis(passed).max(1);
        (count.saturating_mul(1_000) / ms, what)
    }

    /// How long it has been measured, and of how much.
    fn done(&self, now: Instant) -> String {
        let Some(since) = self.measuring_since else { return "connecting".into() };
        let passed = now.saturating_duration_since(since).as_secs();
        match self.stop {
            Stop::Duration(all) => format!("{passed} s of {} s", all.as_secs()),
            Stop::Requests(_) | Stop::Never => format!("{passed} s"),
        }
    }

    fn position(&self, now: Instant, progress: &Progress) -> u64 {
        match self.stop {
            Stop::Requests(_) if self.workload.is_handshakes() => progress.handshakes,
            Stop::Requests(_) => progress.requests + progress.requests_failed,
            Stop::Never => 0,
            Stop::Duration(_) => {
                let since = self.measuring_since.unwrap_or(now);
                millis(now.saturating_duration_since(since))
            }
        }
    }

    fn text(&self, before: &Progress, now: &Progress, passed: Duration) -> String {
        let per_s = |after: u64, before: u64| {
            after.saturating_sub(before) as f64 / passed.as_secs_f64().max(1e-9)
        };
        let failed = now.requests_failed + now.handshakes_failed;
        let handshakes = per_s(now.handshakes, before.handshakes);
        if self.workload.is_handshakes() {
            return format!("{handshakes:.0} handshakes/s, {failed} failed");
        }
        if now.measuring == 0 {
            return format!("connecting: {} open, {failed} failed", now.open);
        }
        if self.workload.is_idle() {
            let Progress { open, idle_losses, reconnects, .. } = now;
            let counts = format!("{open} connections held, {idle_losses} lost");
            return format!("{counts}, {reconnects} replaced, {failed} handshakes failed");
        }
        let requests = per_s(now.requests, before.requests);
        let bytes = |progress: &Progress| progress.bytes_down + progress.bytes_up;
        let gbit_s = per_s(bytes(now), bytes(before)) * 8.0 / 1e9;
        format!(
            "{requests:.0} requests/s, {gbit_s:.3} Gbit/s, {} connections, {failed} failed",
            now.open
        )
    }
}

fn bar(stop: Stop) -> ProgressBar {
    let length = match stop {
        Stop::Requests(requests) => Some(requests),
        Stop::Duration(duration) => Some(millis(duration)),
        Stop::Never => None,
    };
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    let template = match length {
        Some(_) => "{wide_bar} {percent:>3}%  {msg}",
        None => "{elapsed:>4}  {wide_msg}",
    };
    // The template is a constant; a plain bar is no reason to stop.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Smooth to the eye.
const BAR_INTERVAL: Duration = Duration::from_millis(200);

/// Readable in a log.
const LINE_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(requests: u64) -> Progress {
        let mut progress = Progress::default();
        progress.requests = requests;
        progress.measuring = 1;
        progress
    }

    #[test]
    fn rates_are_those_since_the_last_look() {
        let meter = Meter::new(true, Workload::Download(1), Stop::Requests(1_000));
        let text = meter.text(&progress(100), &progress(300), Duration::from_secs(2));
        assert!(text.starts_with("100 requests/s"), "{text}");
        assert_eq!(meter.position(clock::now(), &progress(300)), 300);
    }

    #[test]
    fn idle_connections_are_held_lost_and_replaced() {
        let meter = Meter::new(true, Workload::Idle, Stop::Never);
        let mut now = progress(0);
        (now.open, now.idle_losses, now.reconnects) = (5, 3, 2);
        let text = meter.text(&progress(0), &now, Duration::from_secs(1));
        assert!(text.starts_with("5 connections held, 3 lost, 2 replaced"), "{text}");
    }

    #[test]
    fn before_measuring_connections_are_what_counts() {
        let meter = Meter::new(true, Workload::Download(1), Stop::Requests(1));
        let text = meter.text(&Progress::default(), &Progress::default(), Duration::from_secs(1));
        assert!(text.starts_with("connecting"), "{text}");
    }
}
