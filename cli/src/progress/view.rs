//! view shows a run on a terminal while it lasts, in a few lines below what is there already.

use std::collections::VecDeque;
use std::io::{self, Stderr};
use std::time::Duration;

use ratatui::backend::CrosstermBackend;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Paragraph, Sparkline};
use ratatui::{Frame, Terminal, TerminalOptions, Viewport};

/// What there is to see of a run.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// What is loaded.
    pub(super) title: String,
    /// How long it has been measured, and of how much: `3 s of 10 s`.
    pub(super) progress: String,
    /// The rate of the last second, and what it is of.
    pub(super) rate: (u64, &'static str),
    /// The rates of earlier seconds, the last one at the end.
    pub(super) rates: VecDeque<u64>,
    /// 99th percentiles of the latency, in nanoseconds.
    pub(super) p99s: VecDeque<u64>,
    /// The last of them, for people.
    pub(super) p99: String,
    /// Everything else, in words.
    pub(super) words: String,
    /// Whether something failed.
    pub(super) has_failed: bool,
    /// The share of the time that each worker has something to do.
    pub(super) workers: Vec<f64>,
}

impl Shown {
    /// Takes the figures of another second.
    pub(super) fn push(&mut self, rate: u64, p99: u64) {
        for (values, value) in [(&mut self.rates, rate), (&mut self.p99s, p99)] {
            values.push_back(value);
            if values.len() > HISTORY {
                values.pop_front();
            }
        }
    }
}

/// A part of a terminal.
#[derive(Debug)]
pub(super) struct View {
    terminal: Terminal<CrosstermBackend<Stderr>>,
}

impl View {
    /// Takes some lines of the terminal on stderr.
    pub(super) fn open() -> io::Result<Self> {
        let backend = CrosstermBackend::new(io::stderr());
        let options = TerminalOptions { viewport: Viewport::Inline(HEIGHT) };
        Ok(Self { terminal: Terminal::with_options(backend, options)? })
    }

    pub(super) fn draw(&mut self, shown: &Shown) {
        // A terminal that is gone is no reason to stop measuring.
        let _ = self.terminal.draw(|frame| draw(frame, shown));
    }

    /// Gives the lines back, so that the report stands alone.
    pub(super) fn close(&mut self) {
        let place = self.terminal.get_frame().area().as_position();
        let _ = self.terminal.clear();
        let _ = self.terminal.set_cursor_position(place);
        let _ = self.terminal.show_cursor();
    }
}

fn draw(frame: &mut Frame<'_>, shown: &Shown) {
    let rows = Layout::vertical([Constraint::Length(1); HEIGHT as usize]).split(frame.area());
    let [title, progress] = sides(rows[0], shown.progress.chars().count());
    frame.render_widget(Line::from(shown.title.as_str()).bold(), title);
    frame.render_widget(Line::from(shown.progress.as_str()).right_aligned(), progress);
    let (rate, what) = shown.rate;
    series(frame, rows[1], what, &grouped(rate), &shown.rates, Style::new().cyan());
    series(frame, rows[2], "p99", &shown.p99, &shown.p99s, Style::new().yellow());
    let words = Line::from(shown.words.as_str());
    frame.render_widget(if shown.has_failed { words.red() } else { words }, rows[3]);
    frame.render_widget(Paragraph::new(workers(&shown.workers, rows[4].width)), rows[4]);
}

/// A row in two: what is at the right takes what it needs.
fn sides(row: Rect, right: usize) -> [Rect; 2] {
    let right = u16::try_from(right).unwrap_or(u16::MAX);
    Layout::horizontal([Constraint::Fill(1), Constraint::Length(right)]).areas(row)
}

/// A name, the last value, and those before it as a line of bars.
fn series(
    frame: &mut Frame<'_>,
    row: Rect,
    name: &str,
    value: &str,
    values: &VecDeque<u64>,
    style: Style,
) {
    let [left, right] =
        Layout::horizontal([Constraint::Length(NAME_WIDTH), Constraint::Fill(1)]).areas(row);
    let text = Line::from(vec![Span::raw(format!("{name:<13}")), Span::raw(value).bold()]);
    frame.render_widget(text, left);
    // The newest at the right end.
    let room = usize::from(right.width);
    let values: Vec<u64> = values.iter().copied().skip(values.len().saturating_sub(room)).collect();
    frame.render_widget(Sparkline::default().data(values).style(style), right);
}

/// A bar for each worker, as long as there is room.
fn workers(shares: &[f64], width: u16) -> Line<'static> {
    let mut spans = vec![Span::raw(format!("{:<13}", "workers"))];
    let width = usize::from(width.saturating_sub(13));
    let room = match width / WORKER_WIDTH {
        room if room >= shares.len() => room,
        _ => width.saturating_sub(MORE_WIDTH) / WORKER_WIDTH,
    };
    for (worker, share) in shares.iter().enumerate().take(room) {
        let eighths = (share * 8.0).round().clamp(0.0, 8.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 8")]
        let bar = format!("{:<8}", "█".repeat(eighths as usize));
        let bar = Span::raw(bar);
        spans.push(Span::raw(format!("{worker:>3} ")));
        spans.push(if *share > BUSY { bar.red() } else { bar.green() });
        spans.push(Span::raw(format!("{:>4.0} %  ", share * 100.0)));
    }
    if shares.len() > room {
        spans.push(Span::raw(format!(" {} more", shares.len() - room)));
    }
    Line::from(spans)
}

/// A number with commas.
fn grouped(number: u64) -> String {
    quiclane_loadgen::group(number)
}

/// Seconds that are remembered.
const HISTORY: usize = 300;
const HEIGHT: u16 = 5;
const NAME_WIDTH: u16 = 30;
/// Number, bar and per cent.
const WORKER_WIDTH: usize = 20;
/// ` 1000 more`.
const MORE_WIDTH: usize = 10;
/// From here on the generator may be what is measured.
const BUSY: f64 = 0.97;

/// How often it is drawn.
pub(super) const VIEW_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::*;

    fn lines(shown: &Shown, width: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, HEIGHT)).unwrap();
        terminal.draw(|frame| draw(frame, shown)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let cell = |x, y| buffer[(x, y)].symbol().to_owned();
        (0..HEIGHT).map(|y| (0..width).map(|x| cell(x, y)).collect()).collect()
    }

    fn shown() -> Shown {
        let mut shown = Shown {
            title: "https://example.org/".into(),
            progress: "3 s of 10 s".into(),
            rate: (123_456, "requests/s"),
            p99: "1.23 ms".into(),
            words: "10 connections, 4.120 Gbit/s, 0 failed".into(),
            workers: vec![0.5, 0.99],
            ..Shown::default()
        };
        for rate in [0, 50, 100] {
            shown.push(rate, 1_000);
        }
        shown
    }

    #[test]
    fn everything_is_there() {
        let lines = lines(&shown(), 100);
        assert!(lines[0].starts_with("https://example.org/") && lines[0].ends_with("3 s of 10 s"));
        assert!(lines[1].starts_with("requests/s   123,456"), "{}", lines[1]);
        assert!(lines[1].contains("▄█"), "{}", lines[1]);
        assert!(lines[2].starts_with("p99          1.23 ms"), "{}", lines[2]);
        assert!(lines[3].contains("0 failed"), "{}", lines[3]);
        assert!(lines[4].contains("0 ████      50 %") && lines[4].contains("99 %"), "{}", lines[4]);
    }

    #[test]
    fn a_small_terminal_shows_what_has_room() {
        let mut shown = shown();
        shown.workers = vec![0.1; 64];
        for width in [1, 10, 40, 80] {
            let lines = lines(&shown, width);
            assert_eq!(lines.len(), usize::from(HEIGHT));
        }
        assert!(lines(&shown, 80)[4].contains("62 more"), "{:?}", lines(&shown, 80));
    }

    #[test]
    fn only_so_much_is_remembered() {
        let mut shown = Shown::default();
        for n in 0..1_000 {
            shown.push(n, n);
        }
        assert_eq!((shown.rates.len(), shown.rates.back()), (HISTORY, Some(&999)));
    }
}
