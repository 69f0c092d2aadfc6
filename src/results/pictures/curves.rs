//! Learning curves: the loss of training steps and the measure on dev rows, as the mean over the seeds with a band
//! around it.

use super::Picture;
use super::canvas::{Canvas, style};
use super::chart::{Axis, BELOW, LEFT, Plot, RIGHT, WIDTH, head, legend};
use crate::results::history::History;
use crate::results::statistics::{deviation, mean};
use crate::settings::metric::Metric;
use std::collections::BTreeMap;

pub const NAME: &str = "learning-curves";

const LINES: usize = 6;
const HEIGHT: f64 = 270.0;
/// A loss is shown as the mean over this many stretches of the run: single steps are noisy.
const STRETCHES: f64 = 40.0;

/// The course of a group's runs at its best rate, one history per seed.
#[derive(Debug, Clone)]
pub struct GroupHistory {
    pub name: String,
    pub seeds: Vec<History>,
}

/// Step, with mean and deviation over the seeds.
type Curve = Vec<(f64, f64, f64)>;

/// What is drawn for a group.
struct Curves<'a> {
    name: &'a str,
    loss: Curve,
    dev: Curve,
}

impl GroupHistory {
    fn last_step(&self) -> f64 {
        let steps = self.seeds.iter().flat_map(|seed| seed.loss.iter().chain(&seed.dev));
        steps.map(|(step, _)| *step).fold(0.0, f64::max)
    }

    fn loss(&self) -> Curve {
        let stretch = (self.last_step() / STRETCHES).max(1.0);
        let means = |seed: &History| -> Vec<(f64, f64)> {
            let mut stretches: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
            for &(step, loss) in &seed.loss {
                stretches.entry(((step - 1.0) / stretch) as u64).or_default().push((step, loss));
            }
            let mean_of = |all: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
                mean(&all.iter().map(of).collect::<Vec<_>>()).unwrap_or(0.0)
            };
            stretches
                .values()
                .map(|all| (mean_of(all, |point| point.0), mean_of(all, |point| point.1)))
                .collect()
        };
        over_seeds(self.seeds.iter().map(means))
    }

    fn dev(&self) -> Curve {
        over_seeds(self.seeds.iter().map(|seed| seed.dev.clone()))
    }
}

/// At the steps that all seeds have.
fn over_seeds(seeds: impl Iterator<Item = Vec<(f64, f64)>>) -> Curve {
    let seeds: Vec<_> = seeds.collect();
    let mut steps: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for &(step, value) in seeds.iter().flatten().filter(|(_, value)| value.is_finite()) {
        // Positive floats sort by their bits.
        steps.entry(step.to_bits()).or_default().push(value);
    }
    let whole = steps.into_iter().filter(|(_, values)| values.len() == seeds.len());
    whole
        .map(|(step, values)| {
            let (mean, by) = (mean(&values).unwrap_or(0.0), deviation(&values).unwrap_or(0.0));
            (f64::from_bits(step), mean, by)
        })
        .collect()
}

pub fn draw(histories: &[GroupHistory], metric: Option<Metric>) -> Option<Picture> {
    let curves: Vec<Curves<'_>> = histories
        .iter()
        .map(|group| Curves { name: &group.name, loss: group.loss(), dev: group.dev() })
        .collect();
    if curves.iter().all(|group| group.loss.is_empty() && group.dev.is_empty()) {
        return None;
    }
    let mut canvas = Canvas::new(WIDTH, 0.0);
    let title = "Learning curves at the best rate".to_owned();
    let notes = [
        "Means over the seeds; bands: one sample standard deviation on either side. The loss is the mean over a \
         fortieth of the \
         run.",
    ];
    let mut top = head(&mut canvas, &title, &notes);
    let values = |of: fn(&Curves<'_>) -> Curve| {
        let all = curves.iter().flat_map(of);
        all.flat_map(|(_, mean, by)| [mean - by, mean + by])
    };
    let steps = || {
        let all = curves.iter().flat_map(|group| group.loss.iter().chain(&group.dev));
        Axis::from_zero("optimizer steps", all.map(|(step, ..)| *step))
    };
    let dev_title = metric.map_or("dev".to_owned(), |metric| format!("{metric} on dev rows"));
    let axes = [
        Axis::around("training loss", values(|group| group.loss.clone())),
        Axis::around(dev_title, values(|group| group.dev.clone())),
    ];
    let measured = curves.iter().any(|group| !group.dev.is_empty());
    let columns = if measured { 2 } else { 1 };
    for panel in curves.chunks(LINES) {
        let names: Vec<_> =
            panel.iter().enumerate().map(|(i, group)| (group.name.to_owned(), i)).collect();
        top = legend(&mut canvas, &names, (LEFT, top), WIDTH - LEFT - RIGHT) + 6.0;
        for (column, y) in axes.iter().take(columns).enumerate() {
            let all = WIDTH - RIGHT;
            let width = all / columns as f64 - LEFT;
            let left = LEFT + column as f64 * all / columns as f64;
            let plot = Plot { left, top, width, height: HEIGHT, x: steps(), y: y.clone() };
            plot.draw_axes(&mut canvas);
            let curve = |group: &Curves<'_>| match column {
                0 => group.loss.clone(),
                _ => group.dev.clone(),
            };
            for (place, group) in panel.iter().enumerate() {
                let band: Vec<_> =
                    curve(group).iter().map(|&(x, mean, by)| (x, mean - by, mean + by)).collect();
                plot.band(&mut canvas, &band, style(place));
            }
            for (place, group) in panel.iter().enumerate() {
                let line: Vec<_> = curve(group).iter().map(|&(x, mean, _)| (x, mean)).collect();
                plot.line(&mut canvas, &line, style(place));
                // A few markers on a long curve, all on a short one.
                let every = line.len().div_ceil(8).max(1);
                for &(x, mean) in line.iter().skip(place % every).step_by(every) {
                    canvas.marker(plot.at(x, mean), style(place), 4.0);
                }
            }
        }
        top += HEIGHT + BELOW;
    }
    canvas.height = top - 8.0;
    Some(Picture { name: NAME, title, canvas })
}
