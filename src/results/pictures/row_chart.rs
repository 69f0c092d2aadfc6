//! A chart with one row per name: values along a common axis, followed by a figure.

use super::canvas::{Align, Canvas, INK, PALE, fitting, fitting_apart};
use super::chart::{Axis, SMALL, TEXT, WIDTH};

/// Space left of the values, for the names.
const NAMES: f64 = 300.0;
const ROW: f64 = 34.0;
/// Space right of the values.
const FIGURES: f64 = 150.0;

pub struct RowChart {
    top: f64,
    rows: usize,
    axis: Axis,
}

impl RowChart {
    /// Draws the axis below, and separates the rows.
    pub fn begin(canvas: &mut Canvas, top: f64, rows: usize, axis: Axis) -> Self {
        let chart = Self { top, rows, axis };
        let bottom = chart.bottom();
        for (value, text) in &chart.axis.ticks {
            let x = chart.x(*value);
            canvas.line(&[(x, top), (x, bottom + 4.0)], PALE, 0.8);
            canvas.words((x, bottom + 15.0), text, SMALL, Align::Center);
        }
        let right = WIDTH - FIGURES;
        let middle = (NAMES + right) / 2.0;
        canvas.words((middle, bottom + 38.0), &chart.axis.title, TEXT, Align::Center);
        canvas.line(&[(NAMES, top), (NAMES, bottom), (right, bottom)], INK, 1.0);
        canvas.height = bottom + 56.0;
        chart
    }

    /// The x position where the values start.
    pub fn left() -> f64 {
        NAMES
    }

    fn bottom(&self) -> f64 {
        self.top + ROW * self.rows as f64
    }

    pub fn x(&self, value: f64) -> f64 {
        NAMES + (WIDTH - NAMES - FIGURES) * self.axis.share(value)
    }

    /// The middle of a row.
    pub fn y(&self, row: usize) -> f64 {
        self.top + ROW * (row as f64 + 0.5)
    }

    /// Text before and after the values of each row: a name and a figure.
    pub fn words(&self, canvas: &mut Canvas, rows: &[(String, String)]) {
        let names: Vec<String> = rows.iter().map(|(name, _)| name.clone()).collect();
        let names = fitting_apart(&names, SMALL, NAMES - 26.0);
        for (row, (name, (_, figure))) in names.into_iter().zip(rows).enumerate() {
            canvas.words((NAMES - 12.0, self.y(row)), name, SMALL, Align::Right);
            let figure = fitting(figure, SMALL, FIGURES - 14.0).replace('-', "−");
            canvas.words((WIDTH - FIGURES + 12.0, self.y(row)), figure, SMALL, Align::Left);
        }
    }
}
