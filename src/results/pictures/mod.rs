//! Pictures of runs' results, as SVG and PNG. They are readable without colour: lines differ in dashes and markers,
//! bars in hatching, and map cells show their numbers.

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

/// A picture and its description.
#[derive(Debug)]
pub struct Picture {
    /// The name of its file, without suffix.
    pub name: &'static str,
    pub title: String,
    pub canvas: Canvas,
}

/// Everything that the pictures are made from.
pub struct Findings<'a> {
    pub groups: &'a Groups<'a>,
    pub answers: &'a AnswersByRun,
    /// Of groups, in order; those without logs are omitted.
    pub histories: &'a [GroupHistory],
    /// Of groups that trained biases, in order.
    pub moved: &'a [GroupMoved],
}

/// The names of all possible pictures.
pub const NAMES: [&str; 7] =
    [variants::NAME, rates::NAME, sizes::NAME, gap::NAME, curves::NAME, map::NAME, cost::NAME];

/// Those for which the runs have data.
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

/// The name of the measure on an axis.
fn metric_title(groups: &Groups<'_>, rows: &str) -> String {
    let metric = groups.metric.map_or("value".to_owned(), |metric| metric.to_string());
    format!("{metric} on {rows} rows")
}

/// A group with the rate that represents it.
fn at_rate(group: &Group<'_>) -> String {
    match group.at_best() {
        Some(at) => format!("{}, lr {}", group.label(), at.rate),
        None => group.label(),
    }
}

#[cfg(test)]
mod tests;
