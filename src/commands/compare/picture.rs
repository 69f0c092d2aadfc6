//! The picture of a comparison: for each measure a panel with one bar a run, as SVG and as PNG.
//!
//! The PNG's letters come from a font in this program, cut down to what is written here, so that nothing of the
//! machine is needed; the SVG leaves letters to whoever shows it.

use super::report::{Report, RunRow};
use crate::results::units::{bytes, seconds};
use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

static FONT: &[u8] = include_bytes!("../../results/pictures/DejaVuSans.ttf");
const FAMILY: &str = "sans-serif";

const WIDTH: u32 = 1120;
/// Left of the bars: the runs' names.
const NAMES: i32 = 150;
const TOP: i32 = 44;
const LINE: i32 = 36;
const BAR: i32 = 20;
/// Right of a bar: its value.
const VALUE: i32 = 76;
const GAP: i32 = 14;
/// The PNG has this many dots a unit, for sharp letters.
const DENSITY: u32 = 2;

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const COLORS: [RGBColor; 6] = [
    RGBColor(0x1f, 0x77, 0xb4),
    RGBColor(0x9e, 0x9e, 0x9e),
    RGBColor(0xd6, 0x5f, 0x2c),
    RGBColor(0x2c, 0x8c, 0x4a),
    RGBColor(0x8e, 0x5b, 0xb0),
    RGBColor(0xb8, 0x8a, 0x1e),
];

/// A measure: its name, and of each run the value and how it is written.
struct Panel {
    title: String,
    bars: Vec<Option<(f64, String)>>,
}

pub struct Picture {
    names: Vec<String>,
    panels: Vec<Panel>,
}

impl Picture {
    /// The measures that at least one run has.
    pub fn of(report: &Report) -> Self {
        let panel = |title: &str, value: fn(&RunRow) -> Option<(f64, String)>| Panel {
            title: title.to_owned(),
            bars: report.rows.iter().map(value).collect(),
        };
        let size = |value: Option<u64>| value.map(|b| (b as f64, bytes(b)));
        let mut panels = vec![
            Panel {
                title: "device memory".to_owned(),
                bars: report.rows.iter().map(|r| size(r.allocated_bytes)).collect(),
            },
            Panel {
                title: "peak RSS".to_owned(),
                bars: report.rows.iter().map(|r| size(r.peak_rss_bytes)).collect(),
            },
            panel("time per step", |r| Some((r.seconds_per_step, seconds(r.seconds_per_step)))),
        ];
        if let Some(metric) = &report.metric {
            panels.push(panel(&format!("dev {metric}"), |r| {
                r.dev.map(|value| (value, format!("{value:.4}")))
            }));
        }
        panels.retain(|panel| panel.bars.iter().any(Option::is_some));
        Self { names: report.rows.iter().map(|row| row.run.clone()).collect(), panels }
    }

    pub fn svg(&self) -> Result<String> {
        let mut text = String::new();
        let area = SVGBackend::with_string(&mut text, self.size(1)).into_drawing_area();
        self.draw(area, 1)?;
        Ok(text)
    }

    pub fn png(&self) -> Result<Vec<u8>> {
        // Registering the same font once more changes nothing.
        register_font(FAMILY, FontStyle::Normal, FONT)
            .map_err(|_| anyhow!("the built-in font does not load"))?;
        let (width, height) = self.size(DENSITY);
        let mut dots = vec![0; 3 * (width * height) as usize];
        let area = BitMapBackend::with_buffer(&mut dots, (width, height)).into_drawing_area();
        self.draw(area, DENSITY as i32)?;
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().context("cannot make the picture")?;
        writer.write_image_data(&dots).context("cannot make the picture")?;
        writer.finish().context("cannot make the picture")?;
        Ok(file)
    }

    fn size(&self, density: u32) -> (u32, u32) {
        let height = TOP + LINE * self.names.len() as i32 + GAP;
        (WIDTH * density, height as u32 * density)
    }

    /// Every place below is in units of the SVG, which `density` multiplies.
    fn draw<B: DrawingBackend>(&self, area: DrawingArea<B, Shift>, density: i32) -> Result<()> {
        let wrong =
            |error: DrawingAreaErrorKind<B::ErrorType>| anyhow!("cannot draw the picture: {error}");
        let at = |x: i32, y: i32| (x * density, y * density);
        let text = |text: &str, (x, y): (i32, i32), size: i32, right: bool| {
            let horizontal = if right { HPos::Right } else { HPos::Left };
            let style = (FAMILY, size * density)
                .into_text_style(&area)
                .color(&INK)
                .pos(Pos::new(horizontal, VPos::Center));
            area.draw_text(text, &style, at(x, y)).map_err(wrong)
        };
        area.fill(&WHITE).map_err(wrong)?;
        let middle = |run: usize| TOP + LINE * run as i32 + LINE / 2;
        for (run, name) in self.names.iter().enumerate() {
            text(&shortened(name), (NAMES - GAP, middle(run)), 14, true)?;
        }
        let count = self.panels.len().max(1) as i32;
        let width = (WIDTH as i32 - NAMES) / count;
        for (place, panel) in self.panels.iter().enumerate() {
            let left = NAMES + width * place as i32;
            text(&panel.title, (left, TOP / 2), 15, false)?;
            let values = panel.bars.iter().flatten().map(|(value, _)| *value);
            let most = values.fold(0.0, f64::max).max(f64::MIN_POSITIVE);
            for (run, bar) in panel.bars.iter().enumerate() {
                let Some((value, written)) = bar else {
                    text("-", (left, middle(run)), 13, false)?;
                    continue;
                };
                // Where a measure can be negative, nothing is left of zero.
                let share = (value / most).clamp(0.0, 1.0);
                let long = 1 + (share * f64::from(width - VALUE - GAP)) as i32;
                let (top, bottom) = (middle(run) - BAR / 2, middle(run) + BAR / 2);
                let color = COLORS[run % COLORS.len()].filled();
                area.draw(&Rectangle::new([at(left, top), at(left + long, bottom)], color))
                    .map_err(wrong)?;
                text(written, (left + long + 6, middle(run)), 13, false)?;
            }
        }
        area.present().map_err(wrong)
    }
}

/// A name that fits beside the bars.
fn shortened(name: &str) -> String {
    const MOST: usize = 16;
    if name.chars().count() <= MOST {
        return name.to_owned();
    }
    name.chars().take(MOST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::compare::report::tests::example;

    #[test]
    fn the_svg_has_every_name_title_and_value_as_text() {
        let svg = Picture::of(&example()).svg().unwrap();
        for text in
            ["bitfit", "a &lt;b&gt; &amp; ", "device memory", "1.23 MB", "21.4 ms", "0.8420"]
        {
            assert!(svg.contains(text), "no `{text}` in {svg}");
        }
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        // No run tells its peak RSS: there is no panel for it.
        assert!(!svg.contains("RSS"));
    }

    #[test]
    fn the_png_has_bars_and_letters_on_white() {
        let file = Picture::of(&example()).png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&file)).read_info().unwrap();
        let mut dots = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut dots).unwrap();
        assert_eq!((info.width, info.height), (2240, 260));
        let has = |color: [u8; 3]| dots.chunks_exact(3).filter(|dot| *dot == color).count();
        assert!(has([255, 255, 255]) > 300_000);
        assert!(has([0x1f, 0x77, 0xb4]) > 10_000, "the first run's bars");
        assert!(has([0x22, 0x22, 0x22]) > 300, "letters");
    }
}
