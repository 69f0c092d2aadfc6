//! What charts share: axes with ticks that people would choose, legends, and positions of values.

use super::canvas::{Align, Canvas, GREY, INK, PALE, Point, Style, fitting, style, width_of};
use crate::table::grouped;
use crate::words::short;

/// Font sizes.
pub const TITLE: f64 = 21.0;
pub const TEXT: f64 = 16.5;
pub const SMALL: f64 = 15.0;

/// All pictures have this width.
pub const WIDTH: f64 = 960.0;
/// Space left of a plot, for ticks and title, and right of it.
pub const LEFT: f64 = 100.0;
pub const RIGHT: f64 = 24.0;
/// Space below a plot, for ticks, title, and a gap before the next.
pub const BELOW: f64 = 68.0;

/// A range of values, and their format.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub title: String,
    low: f64,
    high: f64,
    log: bool,
    pub ticks: Vec<(f64, String)>,
}

impl Axis {
    /// From 0 to beyond the largest; also in the other direction if a value is negative.
    pub fn from_zero(title: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        Self::over(title, values.into_iter().chain([0.0]), 0.0)
    }

    /// Around the values, slightly beyond them.
    pub fn around(title: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        Self::over(title, values, 0.06)
    }

    fn over(title: impl Into<String>, values: impl IntoIterator<Item = f64>, room: f64) -> Self {
        let (low, high) = range(values).unwrap_or((0.0, 1.0));
        let wide = match high - low {
            // All equal, as far as can be seen.
            wide if wide <= 1e-9 * high.abs().max(low.abs()) => high.abs().max(1e-3) * 0.1,
            wide => wide,
        };
        let middle_only = high - low < wide;
        let room = if middle_only { wide / 2.0 } else { room * wide };
        let (low, high) = (low - room, high + room);
        let step = nice_step((high - low) / 7.0);
        let (low, high) = match room == 0.0 {
            true => ((low / step).floor() * step, (high / step).ceil() * step),
            false => (low, high),
        };
        let first = (low / step - 1e-9).ceil() as i64;
        let last = (high / step + 1e-9).floor() as i64;
        let ticks = (first..=last).map(|i| i as f64 * step);
        let ticks = ticks.map(|value| (value, written(value, step))).collect();
        Self { title: title.into(), low, high, log: false, ticks }
    }

    /// Positive values on a logarithmic scale; if there are few, ticks are at the values themselves.
    pub fn log(title: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        let values = values.into_iter().filter(|value| *value > 0.0 && value.is_finite());
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let (low, high) = range(values.iter().copied()).unwrap_or((1.0, 10.0));
        // A tenth of the range, and at least enough to put a single value in the middle.
        let room = (high / low).powf(0.08).max(1.25);
        let (low, high) = (low / room, high * room);
        let apart = |pair: &[f64]| (pair[1] / pair[0]).ln() / (high / low).ln() > 0.07;
        let few = !values.is_empty() && values.len() <= 10 && values.windows(2).all(apart);
        let ticks = match few {
            true => values,
            false => {
                let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
                // No more labels than there is room for.
                let every = powers.clone().count().div_ceil(10);
                powers.step_by(every).map(|power| 10f64.powi(power)).collect()
            }
        };
        let inside = |value: &f64| *value >= low && *value <= high;
        let whole = |value: f64| value.fract() == 0.0 && value < 1e7;
        let text = |value| if whole(value) { grouped(value) } else { short(value) };
        let ticks = ticks.into_iter().filter(inside).map(|value| (value, text(value))).collect();
        Self { title: title.into(), low, high, log: true, ticks }
    }

    /// The position of a value along the axis: 0 at its start, 1 at its end. Values outside are clamped.
    pub fn share(&self, value: f64) -> f64 {
        let share = match self.log {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// The smallest and the largest; `None` if no value is finite.
fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = values.into_iter().filter(|value| value.is_finite());
    finite.fold(None, |range, value| match range {
        None => Some((value, value)),
        Some((low, high)) => Some((f64::min(low, value), f64::max(high, value))),
    })
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(f64::MIN_POSITIVE).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
    steps.into_iter().find(|step| *step >= least * (1.0 - 1e-9)).unwrap_or(10.0 * power)
}

/// A tick, with as many decimals as its step has.
fn written(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 12.0) as usize;
    if value.abs() >= 1e6 || (decimals > 5 && value != 0.0) {
        return short(value);
    }
    let text = format!("{value:.decimals$}");
    if text.trim_start_matches('-').chars().all(|c| "0.".contains(c)) {
        return "0".to_owned();
    }
    text.replacen('-', "−", 1)
}

/// A chart's position and axes.
pub struct Plot {
    pub left: f64,
    pub top: f64,
    pub width: f64,
    pub height: f64,
    pub x: Axis,
    pub y: Axis,
}

impl Plot {
    /// As wide as a picture allows.
    pub fn across(top: f64, height: f64, x: Axis, y: Axis) -> Self {
        Self { left: LEFT, top, width: WIDTH - LEFT - RIGHT, height, x, y }
    }

    pub fn at(&self, x: f64, y: f64) -> Point {
        (self.left + self.width * self.x.share(x), self.top + self.height * (1.0 - self.y.share(y)))
    }

    pub fn bottom(&self) -> f64 {
        self.top + self.height
    }

    /// The axes with ticks, pale grid lines, and titles.
    pub fn draw_axes(&self, canvas: &mut Canvas) {
        let right = self.left + self.width;
        for (value, text) in &self.y.ticks {
            let y = self.at(0.0, *value).1;
            canvas.line(&[(self.left, y), (right, y)], PALE, 0.8);
            canvas.words((self.left - 7.0, y), text, SMALL, Align::Right);
        }
        for (value, text) in &self.x.ticks {
            let x = self.left + self.width * self.x.share(*value);
            canvas.line(&[(x, self.bottom()), (x, self.bottom() + 4.0)], INK, 1.0);
            canvas.words((x, self.bottom() + 15.0), text, SMALL, Align::Center);
        }
        let corner = (self.left, self.bottom());
        canvas.line(&[(self.left, self.top), corner, (right, corner.1)], INK, 1.0);
        let middle = self.left + self.width / 2.0;
        canvas.words((middle, self.bottom() + 38.0), &self.x.title, TEXT, Align::Center);
        canvas.upwards((self.left - 78.0, self.top + self.height / 2.0), &self.y.title, TEXT);
    }

    /// A line through values in order of x.
    pub fn line(&self, canvas: &mut Canvas, values: &[(f64, f64)], style: Style) {
        let points: Vec<Point> = values.iter().map(|&(x, y)| self.at(x, y)).collect();
        canvas.dashed(&points, style, 1.8);
    }

    /// The area between two values at each x.
    pub fn band(&self, canvas: &mut Canvas, values: &[(f64, f64, f64)], style: Style) {
        let over = values.iter().map(|&(x, _, high)| self.at(x, high));
        let under = values.iter().rev().map(|&(x, low, _)| self.at(x, low));
        let points: Vec<Point> = over.chain(under).collect();
        if values.len() > 1 {
            canvas.fill(&points, style.color, 0.14);
        }
    }

    /// From one value to another, with end caps.
    pub fn whisker(
        &self,
        canvas: &mut Canvas,
        x: f64,
        (low, high): (f64, f64),
        style: Style,
        by: f64,
    ) {
        let ((place, a), (_, b)) = (self.at(x, low), self.at(x, high));
        let place = place + by;
        canvas.line(&[(place, a), (place, b)], style.color, 1.3);
        for y in [a, b] {
            canvas.line(&[(place - 3.5, y), (place + 3.5, y)], style.color, 1.3);
        }
    }
}

/// The title of a picture and lines that describe it; returns their lower end.
pub fn head(canvas: &mut Canvas, title: &str, notes: &[&str]) -> f64 {
    canvas.words((16.0, 24.0), title, TITLE, Align::Left);
    let mut y = 27.0;
    for note in notes {
        y += 20.0;
        canvas.words_in((16.0, y), *note, SMALL, Align::Left, GREY);
    }
    y + 24.0
}

/// Rows of names with their styles, from `top` down; returns their lower end.
pub fn legend(
    canvas: &mut Canvas,
    names: &[(String, usize)],
    (left, top): Point,
    width: f64,
) -> f64 {
    const LINE: f64 = 22.0;
    const SIGN: f64 = 44.0;
    let (mut x, mut y) = (left, top);
    for (name, place) in names {
        let name = fitting(name, SMALL, width - SIGN - 14.0);
        let wide = SIGN + width_of(&name, SMALL) + 22.0;
        if x > left && x + wide > left + width {
            (x, y) = (left, y + LINE);
        }
        canvas.dashed(&[(x, y), (x + 34.0, y)], style(*place), 1.8);
        canvas.marker((x + 17.0, y), style(*place), 4.5);
        canvas.words((x + SIGN - 3.0, y), name, SMALL, Align::Left);
        x += wide;
    }
    y + LINE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_are_those_that_people_would_choose() {
        assert_eq!(ticks(&Axis::from_zero("", [0.0, 4.7])), ["0", "1", "2", "3", "4", "5"]);
        assert_eq!(
            ticks(&Axis::around("", [0.81, 0.86])),
            ["0.81", "0.82", "0.83", "0.84", "0.85", "0.86"]
        );
        assert_eq!(
            ticks(&Axis::from_zero("", [-3.0, 120.0])),
            ["−20", "0", "20", "40", "60", "80", "100", "120"]
        );
        assert_eq!(ticks(&Axis::log("", [3e-4, 1e-3, 3e-3])), ["0.0003", "0.001", "0.003"]);
        assert_eq!(ticks(&Axis::log("", (1..=1000).map(f64::from))), ["1", "10", "100", "1,000"]);
    }

    #[test]
    fn odd_values_have_an_axis() {
        let odd: [&[f64]; 8] = [
            &[],
            &[f64::NAN],
            &[0.0],
            &[0.5, 0.5],
            &[-1e300, 1e300],
            &[f64::INFINITY, 1.0],
            &[1e-300],
            &[-2.0, -2.0],
        ];
        for values in odd {
            for axis in [
                Axis::from_zero("", values.iter().copied()),
                Axis::around("", values.iter().copied()),
                Axis::log("", values.iter().copied()),
            ] {
                assert!(axis.ticks.len() < 40, "{values:?}: {axis:?}");
                for value in values {
                    let share = axis.share(*value);
                    assert!((0.0..=1.0).contains(&share), "{values:?}: {share}");
                }
            }
        }
        let one = Axis::around("", [0.5, 0.5]);
        assert!((one.share(0.5) - 0.5).abs() < 1e-9 && one.ticks.len() > 2, "{one:?}");
        assert!((Axis::log("", [7.0]).share(7.0) - 0.5).abs() < 1e-9);
    }
}
