//! The generalisation gap: how much better a group is on rows that it has seen.

use super::canvas::{Align, Canvas, GREY, style};
use super::chart::{Axis, SMALL, WIDTH, head};
use super::row_chart::RowChart;
use super::{Picture, at_rate, metric_title};
use crate::results::groups::Groups;
use crate::results::rows::RunRow;
use crate::results::units::difference;

pub const NAME: &str = "generalisation-gap";

/// The markers of both sides.
const DEV: usize = 0;
const TRAIN: usize = 5;

pub fn draw(groups: &Groups<'_>) -> Option<Picture> {
    let shown: Vec<_> = groups
        .list
        .iter()
        .filter_map(|group| {
            let at = group.at_best()?;
            let train = at.mean_of(|run| run.train.filter(|_| run.gap().is_some()))?;
            let dev = at.mean_of(|run| run.dev.filter(|_| run.gap().is_some()))?;
            Some((group, train, dev, at.mean_of(RunRow::gap)?))
        })
        .collect();
    if shown.is_empty() {
        return None;
    }
    let mut canvas = Canvas::new(WIDTH, 0.0);
    let title = format!("Generalisation gap: {}", metric_title(groups, "train and dev"));
    let notes = [
        "Means over the seeds at the best rate. The number is train − dev; train is measured on no more rows than dev has.",
    ];
    let top = head(&mut canvas, &title, &notes);
    let mut left = RowChart::left();
    for (name, place) in [("dev rows", DEV), ("rows that were trained on", TRAIN)] {
        canvas.marker((left, top), style(place), 5.0);
        canvas.words((left + 12.0, top), name, SMALL, Align::Left);
        left += 140.0;
    }
    let values = shown.iter().flat_map(|(_, train, dev, _)| [*train, *dev]);
    let axis = Axis::around(metric_title(groups, "train and dev"), values);
    let chart = RowChart::begin(&mut canvas, top + 16.0, shown.len(), axis);
    for (row, (_, train, dev, _)) in shown.iter().enumerate() {
        let y = chart.y(row);
        canvas.line(&[(chart.x(*dev), y), (chart.x(*train), y)], GREY, 1.6);
        canvas.marker((chart.x(*train), y), style(TRAIN), 5.0);
        canvas.marker((chart.x(*dev), y), style(DEV), 5.0);
    }
    let words = shown.iter().map(|(group, .., gap)| (at_rate(group), difference(*gap)));
    chart.words(&mut canvas, &words.collect::<Vec<_>>());
    Some(Picture { name: NAME, title, canvas })
}
