//! Pictures of what runs have found, as SVG and PNG. They are read without colour, too: lines differ in dashes and
//! markers, bars in hatches, and cells of a map have their numbers.

mod canvas;
mod chart;
mod cost;
mod curves;
mod draw;
mod gap;
mod map;
mod rates;
pub mod roofline;
mod row_chart;
mod sizes;
mod variants;

pub use canvas::Canvas;
pub use curves::GroupHistory;
pub use map::GroupMoved;

use super::groups::{AnswersByRun, Group, Groups};

/// A picture and what is to be said with it.
#[derive(Debug)]
pub struct Picture {
    /// Its file's, without an ending.
    pub name: &'static str,
    pub title: String,
    pub canvas: Canvas,
}

/// All that the pictures are made of.
pub struct Findings<'a> {
    pub groups: &'a Groups<'a>,
    pub answers: &'a AnswersByRun,
    /// Of groups in their order; those of which no log is there are left out.
    pub histories: &'a [GroupHistory],
    /// Of groups that trained biases, in their order.
    pub moved: &'a [GroupMoved],
}

/// The names of all pictures that there can be.
pub const NAMES: [&str; 7] =
    [variants::NAME, rates::NAME, sizes::NAME, gap::NAME, curves::NAME, map::NAME, cost::NAME];

/// Those for which the runs have something to show.
pub fn all(findings: &Findings<'_>) -> Vec<Picture> {
    let drawn = [
        variants::draw(findings.groups),
        rates::draw(findings.groups),
        sizes::draw(findings),
        gap::draw(findings.groups),
        curves::draw(findings.histories, findings.groups.metric),
        map::draw(findings.moved),
        cost::draw(findings.groups),
    ];
    drawn.into_iter().flatten().collect()
}

/// How the measure is called on an axis.
fn metric_title(groups: &Groups<'_>, rows: &str) -> String {
    let metric = groups.metric.map_or("value".to_owned(), |metric| metric.to_string());
    format!("{metric} on {rows} rows")
}

/// A group with the rate that stands for it.
fn at_rate(group: &Group<'_>) -> String {
    match group.at_best() {
        Some(at) => format!("{}, lr {}", group.label(), at.rate),
        None => group.label(),
    }
}

#[cfg(test)]
mod tests;
