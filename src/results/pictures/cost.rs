//! The cost of runs: memory on the device, time per step, and size of the result.

use super::Picture;
use super::canvas::{Align, Canvas, fitting_apart, style};
use super::chart::{Axis, SMALL, TEXT, WIDTH, head};
use crate::results::groups::{Group, Groups};
use crate::results::rows::RunRow;
use crate::results::units::{bytes, seconds};

pub const NAME: &str = "memory-and-time";

const LABELS: f64 = 230.0;
const ROW: f64 = 34.0;
/// Space right of a bar, for its value.
const VALUE: f64 = 74.0;

struct Panel {
    title: &'static str,
    /// For each group the value and its text.
    bars: Vec<Option<(f64, String)>>,
}

pub fn draw(groups: &Groups<'_>) -> Option<Picture> {
    let panel = |title, bar: &dyn Fn(&Group<'_>) -> Option<(f64, String)>| Panel {
        title,
        bars: groups.list.iter().map(bar).collect(),
    };
    let most = |of: fn(&RunRow) -> Option<u64>| {
        move |group: &Group<'_>| group.most(of).map(|size| (size as f64, bytes(size)))
    };
    let time = |group: &Group<'_>| {
        group.median(|run| run.seconds_per_step).map(|time| (time, seconds(time)))
    };
    let mut panels = vec![
        panel("memory on the device (bytes)", &most(|run| run.allocated_bytes)),
        panel("time per step (seconds)", &time),
        panel("result (bytes)", &most(|run| run.result_bytes)),
    ];
    panels.retain(|panel| panel.bars.iter().any(Option::is_some));
    if panels.is_empty() {
        return None;
    }
    let mut canvas = Canvas::new(WIDTH, 0.0);
    let title = "Memory and time".to_owned();
    let notes = [
        "At the best rate: the most bytes of any seed, the median time. Steps take longer when runs share the threads.",
    ];
    let top = head(&mut canvas, &title, &notes) + 18.0;
    let middle = |place: usize| top + ROW * (place as f64 + 0.5);
    let labels: Vec<String> = groups.list.iter().map(Group::label).collect();
    for (place, name) in fitting_apart(&labels, SMALL, LABELS - 30.0).into_iter().enumerate() {
        canvas.words((LABELS - 12.0, middle(place)), name, SMALL, Align::Right);
    }
    let width = (WIDTH - LABELS - 16.0) / panels.len() as f64;
    for (column, panel) in panels.iter().enumerate() {
        let left = LABELS + width * column as f64;
        canvas.words((left, top - 12.0), panel.title, TEXT - 1.0, Align::Left);
        let axis = Axis::from_zero("", panel.bars.iter().flatten().map(|(value, _)| *value));
        for (place, bar) in panel.bars.iter().enumerate() {
            let y = middle(place);
            let Some((value, written)) = bar else {
                canvas.words((left, y), "-", SMALL, Align::Left);
                continue;
            };
            let long = (axis.share(*value) * (width - VALUE)).max(1.0);
            canvas.bar((left, y - 10.0), (left + long, y + 10.0), style(place));
            canvas.words((left + long + 6.0, y), written, SMALL, Align::Left);
        }
    }
    canvas.height = top + ROW * groups.list.len() as f64 + 14.0;
    Some(Picture { name: NAME, title, canvas })
}
