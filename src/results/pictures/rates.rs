//! The result of each learning rate, by group.

use super::canvas::{Align, Canvas, style};
use super::chart::{Axis, BELOW, LEFT, Plot, RIGHT, SMALL, WIDTH, head, legend};
use super::{Picture, metric_title};
use crate::results::groups::{AtRate, Group, Groups};
use crate::results::rows::RunEnd;

pub const NAME: &str = "learning-rates";

/// More lines cannot be distinguished in one panel.
const LINES: usize = 6;
const HEIGHT: f64 = 300.0;

/// The rates of a group that are numbers, in order.
fn rates<'g, 'a>(group: &'g Group<'a>) -> Vec<(f64, &'g AtRate<'a>)> {
    let known = group.rates.iter().filter_map(|at| Some((at.lr.filter(|lr| *lr > 0.0)?, at)));
    let mut rates: Vec<_> = known.collect();
    rates.sort_by(|a, b| a.0.total_cmp(&b.0));
    rates
}

fn diverged(at: &AtRate<'_>) -> bool {
    at.runs.iter().any(|run| run.outcome == RunEnd::Diverged)
}

pub fn draw(groups: &Groups<'_>) -> Option<Picture> {
    let shown: Vec<_> = groups
        .list
        .iter()
        .map(|group| (group.label(), rates(group)))
        .filter(|(_, rates)| rates.len() > 1)
        .filter(|(_, rates)| rates.iter().any(|(_, at)| at.mean().is_some() || diverged(at)))
        .collect();
    if !shown.iter().any(|(_, rates)| rates.iter().any(|(_, at)| at.mean().is_some())) {
        return None;
    }
    let mut canvas = Canvas::new(WIDTH, 0.0);
    let title = format!("{} by learning rate", metric_title(groups, "dev"));
    let notes = [
        "Means over the seeds, with one sample standard deviation on either side. A cross below a marker: some of \
         these runs diverged.",
    ];
    let mut top = head(&mut canvas, &title, &notes);
    let all = || shown.iter().flat_map(|(_, rates)| rates.iter());
    let lrs = all().map(|(lr, _)| *lr);
    let values = all().flat_map(|(_, at)| {
        let (mean, by) = (at.mean().unwrap_or(f64::NAN), at.deviation().unwrap_or(0.0));
        [mean - by, mean + by]
    });
    let y = Axis::around(metric_title(groups, "dev"), values);
    let x = Axis::log("learning rate (log scale)", lrs);
    for panel in shown.chunks(LINES) {
        let names: Vec<_> =
            panel.iter().enumerate().map(|(place, (name, _))| (name.clone(), place)).collect();
        top = legend(&mut canvas, &names, (LEFT, top), WIDTH - LEFT - RIGHT) + 6.0;
        let plot = Plot::across(top, HEIGHT, x.clone(), y.clone());
        plot.draw_axes(&mut canvas);
        for (place, (_, rates)) in panel.iter().enumerate() {
            let style = style(place);
            // Side by side if they share a rate.
            let by = 7.0 * (place as f64 - (panel.len() as f64 - 1.0) / 2.0);
            let means: Vec<_> = rates
                .iter()
                .filter_map(|(lr, at)| Some((*lr, at.mean()?, at.deviation())))
                .collect();
            let points: Vec<_> = means
                .iter()
                .map(|&(lr, mean, _)| {
                    let (x, y) = plot.at(lr, mean);
                    (x + by, y)
                })
                .collect();
            canvas.dashed(&points, style, 1.5);
            for (&(lr, mean, deviation), &point) in means.iter().zip(&points) {
                if let Some(deviation) = deviation {
                    let range = (mean - deviation, mean + deviation);
                    plot.whisker(&mut canvas, lr, range, style, by);
                }
                canvas.marker(point, style, 4.5);
            }
            for (lr, at) in rates {
                if diverged(at) {
                    let x = plot.at(*lr, 0.0).0 + by;
                    canvas.cross((x, plot.bottom() - 7.0), 3.5, style.color);
                    canvas.marker((x, plot.bottom() - 19.0), style, 3.5);
                }
            }
        }
        top = plot.bottom() + BELOW;
    }
    if shown.len() > LINES {
        let panels = shown.len().div_ceil(LINES);
        let text = format!("{panels} panels with the same axes");
        canvas.words((WIDTH - RIGHT, top - 30.0), text, SMALL, Align::Right);
    }
    canvas.height = top - 8.0;
    Some(Picture { name: NAME, title, canvas })
}
