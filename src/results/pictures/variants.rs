//! The groups compared: a dot for each seed, with mean and standard deviation.

use super::canvas::{Canvas, INK, PALE, style};
use super::chart::{Axis, WIDTH, head};
use super::row_chart::RowChart;
use super::{Picture, at_rate, metric_title};
use crate::results::groups::Groups;
use crate::results::units::measure;

pub const NAME: &str = "variants";

pub fn draw(groups: &Groups<'_>) -> Option<Picture> {
    let measured = groups.list.iter().filter_map(|group| {
        let at = group.at_best()?;
        Some((group, at, at.mean()?))
    });
    let shown: Vec<_> = measured.collect();
    if shown.is_empty() {
        return None;
    }
    let mut canvas = Canvas::new(WIDTH, 0.0);
    let title = format!("{} at the best rate", metric_title(groups, "dev"));
    let notes = [
        "Dots: seeds. Vertical bar: their mean. Grey: one sample standard deviation on either side.",
    ];
    let top = head(&mut canvas, &title, &notes);
    let values = shown.iter().flat_map(|(_, at, mean)| {
        let by = at.deviation().unwrap_or(0.0);
        at.dev().into_iter().chain([mean - by, mean + by])
    });
    let axis = Axis::around(metric_title(groups, "dev"), values);
    let chart = RowChart::begin(&mut canvas, top, shown.len(), axis);
    let mut words = Vec::new();
    for (row, (group, at, mean)) in shown.iter().enumerate() {
        let (y, mut figure) = (chart.y(row), measure(*mean));
        if let Some(by) = at.deviation() {
            let (low, high) = (chart.x(mean - by), chart.x(mean + by));
            let corners = [(low, y - 8.0), (high, y - 8.0), (high, y + 8.0), (low, y + 8.0)];
            canvas.fill(&corners, PALE, 1.0);
            figure += &format!(" ± {}", measure(by));
        }
        canvas.line(&[(chart.x(*mean), y - 12.0), (chart.x(*mean), y + 12.0)], INK, 2.4);
        for value in at.dev() {
            canvas.marker((chart.x(value), y), style(0), 4.5);
        }
        words.push((at_rate(group), figure));
    }
    chart.words(&mut canvas, &words);
    Some(Picture { name: NAME, title, canvas })
}
