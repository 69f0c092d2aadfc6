//! The measure against the number of training rows.

use super::canvas::{Canvas, style};
use super::chart::{Axis, BELOW, LEFT, Plot, RIGHT, WIDTH, head, legend};
use super::{Findings, Picture, metric_title};
use std::collections::BTreeSet;

pub const NAME: &str = "training-rows";

/// The option whose values are numbers of rows; the other options separate the lines.
const OPTION: &str = "train-rows";
const LINES: usize = 6;
const HEIGHT: f64 = 320.0;

struct Line {
    name: String,
    points: Vec<AtRows>,
}

/// The result for a number of rows.
struct AtRows {
    rows: f64,
    mean: f64,
    interval: Option<(f64, f64)>,
}

pub fn draw(findings: &Findings<'_>) -> Option<Picture> {
    let groups = findings.groups;
    let mut lines: Vec<Line> = Vec::new();
    for group in groups.list.iter().filter(|group| group.axis(OPTION).is_some()) {
        let Some(at) = group.at_best() else { continue };
        let rows = at.median_of(|run| run.train_rows.map(|rows| rows as f64));
        let (Some(rows), Some(mean)) = (rows, at.mean()) else { continue };
        let interval = group.interval(findings.answers).map(|found| (found.low, found.high));
        let name = group.label_without(OPTION);
        let place = lines.iter().position(|line| line.name == name).unwrap_or_else(|| {
            lines.push(Line { name, points: Vec::new() });
            lines.len() - 1
        });
        lines[place].points.push(AtRows { rows, mean, interval });
    }
    lines.iter_mut().for_each(|line| line.points.sort_by(|a, b| a.rows.total_cmp(&b.rows)));
    let all = || lines.iter().flat_map(|line| line.points.iter());
    if all().map(|point| point.rows.to_bits()).collect::<BTreeSet<_>>().len() < 2 {
        return None;
    }
    let mut canvas = Canvas::new(WIDTH, 0.0);
    let title = format!("{} by the number of training rows", metric_title(groups, "dev"));
    let notes = [
        "Means over the seeds at the best rate of each number of rows; bars: 95 % bootstrap intervals over seeds, and over dev",
        "rows if these are known.",
    ];
    let mut top = head(&mut canvas, &title, &notes);
    let x = Axis::log("training rows (log scale)", all().map(|point| point.rows));
    let values = all().flat_map(|&AtRows { mean, interval, .. }| {
        let (low, high) = interval.unwrap_or((mean, mean));
        [low, mean, high]
    });
    let y = Axis::around(metric_title(groups, "dev"), values);
    for panel in lines.chunks(LINES) {
        let names: Vec<_> =
            panel.iter().enumerate().map(|(place, line)| (line.name.clone(), place)).collect();
        top = legend(&mut canvas, &names, (LEFT, top), WIDTH - LEFT - RIGHT) + 6.0;
        let plot = Plot::across(top, HEIGHT, x.clone(), y.clone());
        plot.draw_axes(&mut canvas);
        for (place, line) in panel.iter().enumerate() {
            let style = style(place);
            let by = 6.0 * (place as f64 - (panel.len() as f64 - 1.0) / 2.0);
            let shifted = |rows: f64, value: f64| {
                let (x, y) = plot.at(rows, value);
                (x + by, y)
            };
            let points: Vec<_> =
                line.points.iter().map(|point| shifted(point.rows, point.mean)).collect();
            canvas.dashed(&points, style, 1.8);
            for (&AtRows { rows, interval, .. }, &point) in line.points.iter().zip(&points) {
                if let Some(interval) = interval {
                    plot.whisker(&mut canvas, rows, interval, style, by);
                }
                canvas.marker(point, style, 4.5);
            }
        }
        top = plot.bottom() + BELOW;
    }
    canvas.height = top - 8.0;
    Some(Picture { name: NAME, title, canvas })
}
