//! forest draws effects with their intervals, one below the other, and every block behind them, as
//! SVG. Colours and fonts are those of the page.

use std::borrow::Cow;
use std::fmt;

use quiclane_loadgen::escaped;
use quiclane_tuning::experiment::{Calibration, Effect, Phase, Point};

use super::percent;

/// The effects of one workload.
pub(super) struct Forest<'f> {
    pub(super) calibration: &'f Calibration,
    pub(super) effects: &'f [&'f Effect],
    /// The smallest effect that matters, a log ratio.
    pub(super) smallest: f64,
}

/// A row of the picture.
struct Row<'f> {
    name: &'f str,
    class: &'static str,
    /// Low, effect, high.
    found: Option<[f64; 3]>,
    points: &'f [Point],
    /// Whether only points of the confirmation are behind the interval.
    is_confirmed: bool,
}

impl Forest<'_> {
    fn rows(&self) -> Vec<Row<'_>> {
        let estimate = self.calibration.estimate;
        let itself = Row {
            name: "baseline against itself",
            class: "equivalent",
            found: estimate.map(|of| [of.low, of.effect, of.high]),
            points: &self.calibration.points,
            is_confirmed: false,
        };
        let of = |effect: &&Effect| -> Row<'_> {
            // The borrow is of the slice, not of the closure's argument.
            let effect: &Effect = effect;
            Row {
                name: "",
                class: effect.verdict.name(),
                found: effect.estimate.map(|of| [of.low, of.effect, of.high]),
                points: &[],
                is_confirmed: effect.is_confirmed,
            }
        };
        let named = self.effects.iter().map(|effect| Row {
            name: &effect.name,
            points: &effect.points,
            ..of(effect)
        });
        std::iter::once(itself).chain(named).collect()
    }

    /// How far from the middle the ends of the axis are, a log ratio: of many rows the few largest
    /// effects are beyond, so that all others can be told apart.
    fn reach(&self, rows: &[Row<'_>]) -> f64 {
        let far = |row: &Row<'_>| {
            let ends = row.found.into_iter().flatten();
            let points = row.points.iter().map(|point| point.ratio);
            let all = ends.chain(points).map(f64::abs).filter(|value| value.is_finite());
            all.fold(2.0 * self.smallest, f64::max)
        };
        let mut far: Vec<f64> = rows.iter().map(far).collect();
        far.sort_unstable_by(f64::total_cmp);
        let beyond = if far.len() < MANY { 0 } else { far.len() / 5 };
        let most = far.len().checked_sub(1 + beyond).and_then(|at| far.get(at));
        (most.copied().unwrap_or(1.0) * 1.05).min(REACH_MAX)
    }

    /// Room for the names.
    fn left(rows: &[Row<'_>]) -> f64 {
        let longest = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        (longest as f64 * LETTER + 2.0 * GAP).clamp(LEFT_MIN, LEFT_MAX)
    }
}

impl fmt::Display for Forest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows();
        let (reach, left) = (self.reach(&rows), Self::left(&rows));
        let x = |value: f64| {
            let share = (value.clamp(-reach, reach) + reach) / (2.0 * reach);
            left + share * (WIDTH - left - RIGHT)
        };
        let height = TOP + rows.len() as f64 * ROW + BOTTOM;
        let low = height - BOTTOM;
        writeln!(f, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">")?;
        let (from, to) = (x(-self.smallest), x(self.smallest));
        let (width, tall) = (to - from, low - TOP);
        writeln!(
            f,
            "<rect class=\"band\" x=\"{from:.1}\" y=\"{TOP}\" width=\"{width:.1}\" \
             height=\"{tall:.1}\"/>"
        )?;
        for tick in ticks(reach) {
            let (at, text) = (x(tick), percent(tick));
            let class = if tick == 0.0 { "axis" } else { "grid" };
            writeln!(f, "<path class=\"{class}\" d=\"M{at:.1} {TOP}V{low:.1}\"/>")?;
            let text = if tick == 0.0 { "0".to_owned() } else { text };
            // Above as well: of many rows the first ones are far from the end.
            for y in [TOP - 8.0, low + 18.0] {
                writeln!(
                    f,
                    "<text class=\"tick middle\" x=\"{at:.1}\" y=\"{y:.1}\">{text}</text>"
                )?;
            }
        }
        for (number, row) in rows.iter().enumerate() {
            row.draw(TOP + (number as f64 + 0.5) * ROW, left, &x, f)?;
            row.draw_beyond(TOP + (number as f64 + 0.5) * ROW, reach, &x, f)?;
        }
        writeln!(f, "</svg>")
    }
}

impl Row<'_> {
    fn draw(
        &self,
        y: f64,
        left: f64,
        x: &dyn Fn(f64) -> f64,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let Self { name, class, found, points, is_confirmed } = self;
        let (left, base) = (left - GAP, y + 4.0);
        let name = shortened(name);
        let name = escaped(&name);
        writeln!(f, "<text class=\"name end\" x=\"{left:.1}\" y=\"{base:.1}\">{name}</text>")?;
        for point in *points {
            let is_used = (point.phase == Phase::Confirm) == *is_confirmed;
            let kind = match (point.breaches.is_empty(), is_used) {
                (false, _) => "void",
                (true, false) => "early",
                (true, true) => "used",
            };
            let (at, low) = (x(point.ratio), y + DOTS);
            writeln!(f, "<circle class=\"dot {kind}\" cx=\"{at:.1}\" cy=\"{low:.1}\" r=\"2.5\"/>")?;
        }
        let Some([low, effect, high]) = found else { return Ok(()) };
        let (from, to, middle) = (x(*low), x(*high), x(*effect));
        let (above, below) = (y - 5.0, y + 5.0);
        writeln!(
            f,
            "<path class=\"whisker {class}\" d=\"M{from:.1} {y:.1}H{to:.1}M{from:.1} {above:.1}\
             V{below:.1}M{to:.1} {above:.1}V{below:.1}\"/>"
        )?;
        let (side, corner) = (middle - 3.0, y - 3.0);
        writeln!(
            f,
            "<rect class=\"mark {class}\" x=\"{side:.1}\" y=\"{corner:.1}\" width=\"6\" \
             height=\"6\"/>"
        )
    }
}

impl Row<'_> {
    /// An effect that the axis has no room for is written beside its end.
    fn draw_beyond(
        &self,
        y: f64,
        reach: f64,
        x: &dyn Fn(f64) -> f64,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let found = self.found.filter(|[_, effect, _]| effect.abs() > reach);
        let Some([low, effect, high]) = found else { return Ok(()) };
        let (at, side) = match effect < 0.0 {
            true => (x(high) + GAP, "start"),
            false => (x(low) - GAP, "end"),
        };
        let (base, class, text) = (y + 4.0, self.class, percent(effect));
        writeln!(
            f,
            "<text class=\"beyond {class} {side}\" x=\"{at:.1}\" y=\"{base:.1}\">{text}</text>"
        )
    }
}

/// A name that there is room for; the table has all of it.
fn shortened(name: &str) -> Cow<'_, str> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
    let room = ((LEFT_MAX - 2.0 * GAP) / LETTER) as usize;
    match name.chars().count() > room {
        true => Cow::Owned(name.chars().take(room - 1).chain(['\u{2026}']).collect()),
        false => Cow::Borrowed(name),
    }
}

/// Round percentages that fit, a handful of them on each side. Where effects are large, those below
/// are the inverse of those above: of -100 % and less there are none.
fn ticks(reach: f64) -> Vec<f64> {
    let most = reach.exp_m1() * 100.0;
    let steps = [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];
    let step = steps.into_iter().find(|step| most / step <= 5.0).unwrap_or(1_000.0);
    let up = |number: i32| (f64::from(number) * step / 100.0).ln_1p();
    let down = |number: i32| match step < LARGE {
        true => (-f64::from(number) * step / 100.0).ln_1p(),
        false => -up(number),
    };
    let mut ticks = vec![0.0];
    for side in [&up as &dyn Fn(i32) -> f64, &down] {
        let mut last = 0.0_f64;
        for tick in (1..=6).map(side).filter(|tick| tick.abs() <= reach) {
            if (tick - last).abs() >= APART * reach {
                ticks.push(tick);
                last = tick;
            }
        }
    }
    ticks.sort_unstable_by(f64::total_cmp);
    ticks
}

const WIDTH: f64 = 940.0;
const LEFT_MIN: f64 = 160.0;
const LEFT_MAX: f64 = 400.0;
/// Between a name and the axis.
const GAP: f64 = 12.0;
/// Width of a letter, or a little more.
const LETTER: f64 = 7.2;
const RIGHT: f64 = 20.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 28.0;
const ROW: f64 = 40.0;

/// How far below its interval the blocks of a row are.
const DOTS: f64 = 13.0;

/// Steps of the axis, percent, from which on there are too few round ones below 0.
const LARGE: f64 = 50.0;

/// Room that the words of a tick need, a share of half of the axis.
const APART: f64 = 0.15;

/// From so many rows on a few may be beyond the axis.
const MANY: usize = 12;

/// Twenty times as much: beyond, nothing could be told apart.
const REACH_MAX: f64 = 3.0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_shortened() {
        assert_eq!(shortened("gro=on"), "gro=on");
        let long = shortened(&"\u{e4}".repeat(200)).into_owned();
        assert!(long.ends_with('\u{2026}') && long.chars().count() < 60, "{long}");
    }

    #[test]
    fn of_many_rows_the_few_largest_are_beyond_the_axis() {
        let row = |effect: f64| Row {
            name: "x",
            class: "worse",
            found: Some([effect - 0.01, effect, effect + 0.01]),
            points: &[],
            is_confirmed: false,
        };
        let log = crate::tune::report::page::tests::log();
        let findings = quiclane_tuning::experiment::Findings::new(&log);
        let calibration = &findings.calibrations[0];
        let forest = Forest { calibration, effects: &[], smallest: 0.02 };
        let effects = |count: usize| (0..count).map(|at| if at < 2 { -1.0 } else { 0.03 });
        let reach = |count| forest.reach(&effects(count).map(row).collect::<Vec<_>>());
        assert!(reach(20) < 0.05 && reach(5) > 1.0, "{} {}", reach(20), reach(5));
        struct Beyond<'r>(&'r Row<'r>, f64);
        impl fmt::Display for Beyond<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.draw_beyond(0.0, self.1, &|value| value, f)
            }
        }
        let drawn = |effect| Beyond(&row(effect), 0.1).to_string();
        assert!(drawn(-1.0).contains("start") && drawn(-1.0).contains(">-63.2 %<"));
        assert_eq!(drawn(0.05), "");
    }

    #[test]
    fn ticks_are_round_and_few() {
        for reach in [0.01, 0.03, 0.0954, 0.1, 0.5, 1.0, 1.2, 2.0, 3.0] {
            let ticks = ticks(reach);
            assert!((3..=13).contains(&ticks.len()), "{reach}: {ticks:?}");
            assert!(ticks.contains(&0.0) && ticks.is_sorted());
            assert!(ticks.iter().all(|tick| tick.abs() <= reach), "{reach}: {ticks:?}");
            let apart = ticks.windows(2).all(|pair| pair[1] - pair[0] >= APART * reach);
            assert!(apart, "{reach}: {ticks:?}");
        }
    }

    #[test]
    fn large_effects_have_ticks_on_both_sides() {
        let below = |reach| {
            let below = ticks(reach).into_iter().filter(|tick| *tick < 0.0);
            below.map(percent).collect::<Vec<_>>()
        };
        assert_eq!(below(0.09), ["-8.0 %", "-6.0 %", "-4.0 %", "-2.0 %"]);
        assert_eq!(below(1.2), ["-66.7 %", "-60.0 %", "-50.0 %", "-33.3 %"]);
        assert_eq!(below(2.0), ["-85.7 %", "-80.0 %", "-66.7 %"]);
        assert_eq!(below(3.0), ["-90.9 %", "-83.3 %"]);
    }

    #[test]
    fn ticks_have_their_words_at_both_ends() {
        let log = crate::tune::report::page::tests::log();
        let findings = quiclane_tuning::experiment::Findings::new(&log);
        let forest = Forest { calibration: &findings.calibrations[0], effects: &[], smallest: 0.1 };
        let drawn = forest.to_string();
        assert_eq!(drawn.matches(">+10.0 %</text>").count(), 2, "{drawn}");
        assert_eq!(drawn.matches(">0</text>").count(), 2, "{drawn}");
    }
}
