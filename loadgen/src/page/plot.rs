//! plot draws lines over axes, as SVG. Colours and fonts are those of the page.

use std::fmt;

use crate::text::{group, nanoseconds};

/// Lines over a pair of axes.
#[derive(Debug)]
pub(super) struct Plot {
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
}

/// A line, broken where there is nothing.
#[derive(Debug)]
pub(super) struct Line {
    name: String,
    class: String,
    points: Vec<Option<(f64, f64)>>,
}

impl Line {
    pub(super) fn new(name: &str, class: String, points: Vec<Option<(f64, f64)>>) -> Self {
        Self { name: name.into(), class, points }
    }

    /// What is on the vertical axis.
    pub(super) fn values(&self) -> impl Iterator<Item = f64> {
        self.points.iter().flatten().map(|(_, y)| *y)
    }

    /// Where the line ends.
    fn last(&self) -> Option<(f64, f64)> {
        self.points.iter().rev().flatten().next().copied()
    }
}

/// From where to where, and what is marked.
#[derive(Debug)]
pub(super) struct Axis {
    from: f64,
    to: f64,
    is_log: bool,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// Time since the run began, to `end` seconds.
    pub(super) fn seconds(end: f64) -> Self {
        let step = step(end);
        let ticks = steps(0.0, end, step).map(|at| (at, format!("{} s", short(at, step))));
        Self { from: 0.0, to: end, is_log: false, ticks: ticks.collect() }
    }

    /// Numbers from 0 on.
    pub(super) fn counts(values: impl Iterator<Item = f64>) -> Self {
        let most = values.fold(1.0, f64::max) * 1.05;
        let step = step(most);
        let ticks = steps(0.0, most, step).map(|at| (at, thousands(at, step)));
        Self { from: 0.0, to: most, is_log: false, ticks: ticks.collect() }
    }

    /// Nanoseconds, whole decades of them.
    pub(super) fn times(values: impl Iterator<Item = f64>) -> Self {
        let (mut least, mut most) = (f64::MAX, 1_000.0);
        for value in values.filter(|value| *value > 0.0) {
            (least, most) = (f64::min(least, value), f64::max(most, value));
        }
        let from = least.min(most).log10().floor();
        let to = most.log10().ceil().max(from + 1.0);
        let ticks = steps(from, to, 1.0).map(|power| {
            let ns = 10_f64.powf(power);
            (ns, round_time(ns))
        });
        Self { from: 10_f64.powf(from), to: 10_f64.powf(to), is_log: true, ticks: ticks.collect() }
    }

    /// 1 of so many: the half, then nines.
    pub(super) fn percentiles(count: u64) -> Self {
        let to = (count.max(10) as f64).min(PERCENTILES_MAX);
        let names = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %"];
        let ticks =
            names.into_iter().zip(0..).map(|(name, power)| (10_f64.powi(power), name.into()));
        let ticks = ticks.filter(|(at, _)| *at <= to);
        Self { from: 1.0, to, is_log: true, ticks: ticks.collect() }
    }

    /// Where a value is, from 0 to 1.
    fn place(&self, value: f64) -> f64 {
        let (from, to, value) = match self.is_log {
            true => (self.from.log10(), self.to.log10(), value.max(self.from).log10()),
            false => (self.from, self.to, value),
        };
        ((value - from) / (to - from)).clamp(0.0, 1.0)
    }
}

impl fmt::Display for Plot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let x = |value| LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT);
        let y = |value| HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM);
        writeln!(f, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">")?;
        for (at, name) in &self.y.ticks {
            let at = y(*at);
            let (from, to) = (LEFT, WIDTH - RIGHT);
            writeln!(f, "<path class=\"grid\" d=\"M{from:.1} {at:.1}H{to:.1}\"/>")?;
            let (left, low) = (LEFT - 8.0, at + 4.0);
            writeln!(f, "<text class=\"tick end\" x=\"{left:.1}\" y=\"{low:.1}\">{name}</text>")?;
        }
        for (at, name) in &self.x.ticks {
            let (at, low) = (x(*at), HEIGHT - BOTTOM + 18.0);
            writeln!(f, "<text class=\"tick middle\" x=\"{at:.1}\" y=\"{low:.1}\">{name}</text>")?;
        }
        for line in &self.lines {
            let mut path = String::new();
            let mut is_drawing = false;
            for point in &line.points {
                let Some((at, value)) = point else {
                    is_drawing = false;
                    continue;
                };
                let command = if is_drawing { 'L' } else { 'M' };
                path.push_str(&format!("{command}{:.1} {:.1}", x(*at), y(*value)));
                is_drawing = true;
            }
            let (class, name) = (&line.class, &line.name);
            writeln!(f, "<path class=\"line {class}\" d=\"{path}\"><title>{name}</title></path>")?;
        }
        for (line, at) in self.lines.iter().zip(self.labels(y)) {
            let (class, name) = (&line.class, &line.name);
            let (left, low) = (WIDTH - RIGHT + 8.0, at + 4.0);
            writeln!(
                f,
                "<text class=\"label {class}\" x=\"{left:.1}\" y=\"{low:.1}\">{name}</text>"
            )?;
        }
        f.write_str("</svg>")
    }
}

impl Plot {
    /// Where the names of the lines stand: at their ends, but not on each other.
    fn labels(&self, y: impl Fn(f64) -> f64) -> Vec<f64> {
        let wanted = |line: &Line| line.last().map_or(HEIGHT - BOTTOM, |(_, value)| y(value));
        let mut places: Vec<(usize, f64)> = self.lines.iter().map(wanted).enumerate().collect();
        places.sort_by(|a, b| a.1.total_cmp(&b.1));
        // Down from the top, and back up where the last ones left the plot.
        for at in 1..places.len() {
            places[at].1 = places[at].1.max(places[at - 1].1 + LABEL_HEIGHT);
        }
        let mut floor = HEIGHT - BOTTOM;
        for place in places.iter_mut().rev() {
            place.1 = place.1.min(floor);
            floor = place.1 - LABEL_HEIGHT;
        }
        places.sort_by_key(|place| place.0);
        places.into_iter().map(|(_, at)| at).collect()
    }
}

/// 1, 2 or 5 times a power of ten, so that there are about five of them up to `most`.
fn step(most: f64) -> f64 {
    let rough = most / 6.0;
    let power = 10_f64.powf(rough.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= rough);
    factor.unwrap_or(10.0) * power
}

fn steps(from: f64, to: f64, step: f64) -> impl Iterator<Item = f64> {
    (0..).map(move |n| from + f64::from(n) * step).take_while(move |at| *at <= to * 1.000_001)
}

/// With as many decimals as the step has.
fn short(value: f64, step: f64) -> String {
    let decimals = if step >= 1.0 { 0 } else { 2 };
    format!("{value:.decimals$}")
}

fn thousands(value: f64, step: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates")]
    if step >= 1.0 { group(value.round() as u64) } else { short(value, step) }
}

/// A power of ten of nanoseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most an hour")]
fn round_time(ns: f64) -> String {
    match ns {
        1e3..1e6 => format!("{:.0} us", ns / 1e3),
        1e6..1e9 => format!("{:.0} ms", ns / 1e6),
        1e9.. => format!("{:.0} s", ns / 1e9),
        _ => nanoseconds(ns as u64),
    }
}

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 84.0;
const RIGHT: f64 = 84.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 32.0;
const LABEL_HEIGHT: f64 = 15.0;
/// Six nines.
const PERCENTILES_MAX: f64 = 1e6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_marks() {
        let names =
            |axis: &Axis| axis.ticks.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&Axis::seconds(10.0)), ["0 s", "2 s", "4 s", "6 s", "8 s", "10 s"]);
        assert_eq!(names(&Axis::seconds(0.5))[1], "0.10 s");
        let counts = Axis::counts([123_456.0].into_iter());
        assert_eq!(names(&counts), ["0", "50,000", "100,000"]);
        let times = Axis::times([75_000.0, 3_500_000.0].into_iter());
        assert_eq!(names(&times), ["10 us", "100 us", "1 ms", "10 ms"]);
        assert_eq!(names(&Axis::percentiles(5_000)), ["0 %", "90 %", "99 %", "99.9 %"]);
        // Nothing at all was measured.
        assert!(!names(&Axis::times(std::iter::empty())).is_empty());
        assert!(!names(&Axis::counts(std::iter::empty())).is_empty());
    }

    #[test]
    fn a_line_is_broken_where_there_is_nothing() {
        let points = vec![Some((0.0, 1.0)), Some((1.0, 2.0)), None, Some((3.0, 1.0))];
        let lines = vec![Line::new("a", "k0".into(), points)];
        let plot = Plot { x: Axis::seconds(4.0), y: Axis::counts([2.0].into_iter()), lines };
        let svg = plot.to_string();
        let path = svg.split("line k0\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!((path.matches('M').count(), path.matches('L').count()), (2, 1), "{path}");
    }

    #[test]
    fn names_do_not_stand_on_each_other() {
        let line = |value| Line::new("x", "k0".into(), vec![Some((1.0, value))]);
        let lines = vec![line(1.0), line(1.1), line(0.0), line(0.0), line(100.0)];
        let plot = Plot { x: Axis::seconds(1.0), y: Axis::counts([100.0].into_iter()), lines };
        let y = |value| HEIGHT - BOTTOM - plot.y.place(value) * (HEIGHT - TOP - BOTTOM);
        let mut places = plot.labels(y);
        places.sort_by(f64::total_cmp);
        assert!(
            places.windows(2).all(|pair| pair[1] - pair[0] >= LABEL_HEIGHT - 1e-9),
            "{places:?}"
        );
        assert!(places.last().unwrap() <= &(HEIGHT - BOTTOM));
    }
}
