//! How far each kind of bias moved in each layer, as in the paper's figure.

use super::Picture;
use super::canvas::{Align, Canvas, INK, PAPER, Paint, fitting};
use super::chart::{SMALL, TEXT, WIDTH, head};
use crate::results::moved::Moved;
use crate::settings::biases::Component;
use crate::words::{count, short};

pub const NAME: &str = "bias-changes";

const LABELS: f64 = 190.0;
const ROW: f64 = 26.0;
/// Wider cells look empty.
const WIDEST: f64 = 74.0;

/// Mean |Δb| of a group at its best rate.
#[derive(Debug, Clone)]
pub struct GroupMoved {
    pub name: String,
    /// How many seeds it averages.
    pub seeds: usize,
    pub moved: Moved,
}

/// What is shown for a kind: its cells, one per layer or a single one.
type Line = (Component, Vec<Option<f64>>);

/// The kinds with any movement: per-layer ones, and those that exist once per model.
struct Map<'a> {
    group: &'a GroupMoved,
    by_layer: Vec<Line>,
    single: Vec<Line>,
}

impl<'a> Map<'a> {
    fn of(group: &'a GroupMoved) -> Self {
        let moved = |line: &Line| line.1.iter().any(Option::is_some);
        let single = group.moved.single.iter().map(|(kind, value)| (*kind, vec![*value]));
        let by_layer = group.moved.by_layer.iter().cloned();
        Self {
            group,
            by_layer: by_layer.filter(moved).collect(),
            single: single.filter(moved).collect(),
        }
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.by_layer.iter().chain(&self.single)
    }
}

/// The scale of all maps.
struct Shades {
    most: f64,
    /// The unit of the numbers shown.
    unit: f64,
    /// The width of a cell.
    cell: f64,
}

impl Shades {
    /// A row of cells with its name.
    fn line(&self, canvas: &mut Canvas, top: f64, (kind, cells): &Line) {
        canvas.words((LABELS - 10.0, top + ROW / 2.0), kind.name(), SMALL, Align::Right);
        for (place, value) in cells.iter().enumerate() {
            let x = LABELS + self.cell * place as f64;
            let Some(value) = value else { continue };
            let finite = value.is_finite();
            let share = if self.most > 0.0 && finite { value / self.most } else { 0.0 };
            let shade = (255.0 * (1.0 - 0.85 * share)).round() as u8;
            let (right, bottom) = (x + self.cell, top + ROW);
            let corners = [(x, top), (right, top), (right, bottom), (x, bottom), (x, top)];
            canvas.fill(&corners[..4], Paint(shade, shade, shade), 1.0);
            canvas.line(&corners, Paint(0xbb, 0xbb, 0xbb), 0.6);
            let text = if finite { format!("{:.1}", value / self.unit) } else { "-".to_owned() };
            let ink = if shade < 140 { PAPER } else { INK };
            let middle = (x + self.cell / 2.0, top + ROW / 2.0);
            canvas.words_in(middle, text, SMALL.min(0.42 * self.cell), Align::Center, ink);
        }
    }
}

pub fn draw(groups: &[GroupMoved]) -> Option<Picture> {
    let maps: Vec<Map<'_>> =
        groups.iter().map(Map::of).filter(|map| map.lines().next().is_some()).collect();
    let lines = || maps.iter().flat_map(Map::lines);
    let values = lines().flat_map(|line| &line.1).flatten().copied();
    let most = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
    let layers = lines().map(|line| line.1.len()).max()?;
    // Cells are narrow, so a power of ten is in the title.
    let power = if most > 0.0 { most.log10().floor() as i32 - 1 } else { 0 };
    let cell = ((WIDTH - LABELS - 20.0) / layers as f64).min(WIDEST);
    let shades = Shades { most, unit: 10f64.powi(power), cell };
    let mut canvas = Canvas::new(WIDTH, 0.0);
    let title = format!("Mean |Δb| by layer and kind of bias, in units of {}", short(shades.unit));
    let notes = [
        "How far training moved the biases, at the best rate. All maps share one scale: white is 0, black the largest.",
    ];
    let mut top = head(&mut canvas, &title, &notes);
    for map in &maps {
        let name = format!("{} ({})", map.group.name, count(map.group.seeds, "seed"));
        canvas.words((16.0, top + 4.0), fitting(&name, TEXT, WIDTH - 40.0), TEXT, Align::Left);
        top += 20.0;
        for line in &map.by_layer {
            shades.line(&mut canvas, top, line);
            top += ROW;
        }
        if let Some((_, cells)) = map.by_layer.first() {
            canvas.words((LABELS - 10.0, top + 11.0), "layer", SMALL, Align::Right);
            for layer in 0..cells.len() {
                let x = LABELS + cell * (layer as f64 + 0.5);
                canvas.words((x, top + 11.0), layer.to_string(), SMALL, Align::Center);
            }
            top += 24.0;
        }
        for line in &map.single {
            shades.line(&mut canvas, top, line);
            top += ROW;
        }
        top += 20.0;
    }
    canvas.height = top;
    Some(Picture { name: NAME, title, canvas })
}
