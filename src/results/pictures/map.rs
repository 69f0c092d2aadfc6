//! How far each kind of bias moved in each layer, as the paper's figure has it.

use super::Picture;
use super::canvas::{Align, Canvas, Paint, INK, PAPER, fitting};
use super::chart::{SMALL, TEXT, WIDTH, head};
use crate::results::moved::Moved;
use crate::settings::biases::Component;
use crate::words::{count, short};

pub const NAME: &str = "bias-changes";

const LABELS: f64 = 190.0;
const ROW: f64 = 26.0;
/// Wider cells than this look empty.
const WIDEST: f64 = 74.0;

/// Mean |Δb| of a group at its best rate.
#[derive(Debug, Clone)]
pub struct GroupMoved {
    pub name: String,
    /// Of how many seeds it is the mean.
    pub seeds: usize,
    pub moved: Moved,
}

/// What is shown of a kind: its cells, one for each layer or a single one.
type Line = (Component, Vec<Option<f64>>);

fn lines(moved: &Moved) -> Vec<Line> {
    let by_layer = moved.by_layer.iter().cloned();
    let single = moved.single.iter().map(|(kind, value)| (*kind, vec![*value]));
    let moved = |line: &Line| line.1.iter().any(Option::is_some);
    by_layer.chain(single).filter(moved).collect()
}

pub fn draw(groups: &[GroupMoved]) -> Option<Picture> {
    let shown: Vec<(&GroupMoved, Vec<Line>)> = groups
        .iter()
        .map(|group| (group, lines(&group.moved)))
        .filter(|(_, lines)| !lines.is_empty())
        .collect();
    let values = shown.iter().flat_map(|(_, lines)| lines.iter().flat_map(|line| &line.1));
    let most = values.flatten().copied().filter(|v| v.is_finite()).fold(0.0, f64::max);
    if shown.is_empty() {
        return None;
    }
    // Cells are short: a power of ten stands in the title.
    let power = if most > 0.0 { most.log10().floor() as i32 - 1 } else { 0 };
    let unit = 10f64.powi(power);
    let layers = shown.iter().flat_map(|(_, lines)| lines.iter().map(|line| line.1.len())).max()?;
    let cell = ((WIDTH - LABELS - 20.0) / layers as f64).min(WIDEST);
    let mut canvas = Canvas::new(WIDTH, 0.0);
    let title = format!("Mean |Δb| by layer and kind of bias, in units of {}", short(unit));
    let notes = ["How far training moved the biases, at the best rate. All maps have the same scale: from white, 0, to black, the largest."];
    let mut top = head(&mut canvas, &title, &notes);
    for (group, lines) in &shown {
        let name = format!("{} ({})", group.name, count(group.seeds, "seed"));
        canvas.words((16.0, top + 4.0), fitting(&name, TEXT, WIDTH - 40.0), TEXT, Align::Left);
        top += 24.0;
        let depth = lines.iter().map(|line| line.1.len()).max().unwrap_or(1);
        for (row, (kind, cells)) in lines.iter().enumerate() {
            let y = top + ROW * row as f64;
            canvas.words((LABELS - 10.0, y + ROW / 2.0), kind.name(), SMALL, Align::Right);
            for (layer, value) in cells.iter().enumerate() {
                let x = LABELS + cell * layer as f64;
                let Some(value) = value else { continue };
                let share = if most > 0.0 && value.is_finite() { value / most } else { 0.0 };
                let shade = (255.0 * (1.0 - 0.85 * share)).round() as u8;
                let color = Paint(shade, shade, shade);
                let corners = [(x, y), (x + cell, y), (x + cell, y + ROW), (x, y + ROW)];
                canvas.fill(&corners, color, 1.0);
                let closed = [corners[0], corners[1], corners[2], corners[3], corners[0]];
                canvas.line(&closed, Paint(0xbb, 0xbb, 0xbb), 0.6);
                let text = if value.is_finite() { format!("{:.1}", value / unit) } else { "-".into() };
                let ink = if shade < 140 { PAPER } else { INK };
                let size = SMALL.min(cell * 0.42);
                let middle = (x + cell / 2.0, y + ROW / 2.0);
                canvas.words_in(middle, text, size, Align::Center, ink);
            }
        }
        let below = top + ROW * lines.len() as f64 + 12.0;
        if depth > 1 {
            canvas.words((LABELS - 10.0, below), "layer", SMALL, Align::Right);
            for layer in 0..depth {
                let x = LABELS + cell * (layer as f64 + 0.5);
                canvas.words((x, below), layer.to_string(), SMALL, Align::Center);
            }
        }
        top = below + 26.0;
    }
    canvas.height = top;
    Some(Picture { name: NAME, title, canvas })
}
