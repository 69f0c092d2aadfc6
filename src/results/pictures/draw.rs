//! Draws a canvas as SVG and as PNG.
//!
//! The PNG's letters come from a font in this program, reduced to the characters used here, so that nothing is needed
//! from the machine; the SVG leaves its font to the viewer.

use super::canvas::{Align, Canvas, Paint, Shape};
use anyhow::{Context, Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

static FONT: &[u8] = include_bytes!("DejaVuSans.ttf");
const FAMILY: &str = "sans-serif";
/// How much lower a PNG's letters must be placed to be centred, relative to their size: there the font's box is
/// centred, in an SVG its letters.
const DROP: f64 = 0.18;
/// Dots per unit: for sharp letters in a PNG, and half-unit positions in an SVG.
const DENSITY: f64 = 2.0;

impl Canvas {
    /// # Errors
    /// None: writing to a string cannot fail.
    pub fn svg(&self) -> Result<String> {
        let mut text = String::new();
        let (width, height) = self.dots();
        self.draw(SVGBackend::with_string(&mut text, (width, height)).into_drawing_area(), 0.0)?;
        // Displayed in units, with the precision of its dots.
        let dots = format!("<svg width=\"{width}\" height=\"{height}\"");
        let units = format!("<svg width=\"{}\" height=\"{}\"", self.width, self.height);
        Ok(text.replacen(&dots, &units, 1))
    }

    /// # Errors
    /// None for a picture that fits in memory.
    pub fn png(&self) -> Result<Vec<u8>> {
        // Registering the same font again has no effect.
        register_font(FAMILY, FontStyle::Normal, FONT)
            .map_err(|_| anyhow!("the built-in font does not load"))?;
        let (width, height) = self.dots();
        let mut dots = vec![0; 3 * width as usize * height as usize];
        let area = BitMapBackend::with_buffer(&mut dots, (width, height)).into_drawing_area();
        self.draw(area, DROP)?;
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().context("cannot make the picture")?;
        writer.write_image_data(&dots).context("cannot make the picture")?;
        writer.finish().context("cannot make the picture")?;
        Ok(file)
    }

    fn dots(&self) -> (u32, u32) {
        ((DENSITY * self.width) as u32, (DENSITY * self.height) as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: DrawingArea<B, Shift>, drop: f64) -> Result<()> {
        let wrong =
            |error: DrawingAreaErrorKind<B::ErrorType>| anyhow!("cannot draw the picture: {error}");
        let at = |(x, y): (f64, f64)| ((DENSITY * x).round() as i32, (DENSITY * y).round() as i32);
        let rgb = |Paint(red, green, blue): Paint| RGBColor(red, green, blue);
        area.fill(&WHITE).map_err(wrong)?;
        for shape in &self.shapes {
            match shape {
                Shape::Line { points, color, width } => {
                    let points: Vec<_> = points.iter().copied().map(at).collect();
                    let width = (DENSITY * width).round().max(1.0) as u32;
                    let line = PathElement::new(points, rgb(*color).stroke_width(width));
                    area.draw(&line).map_err(wrong)?;
                }
                Shape::Fill { points, color, share } => {
                    let points: Vec<_> = points.iter().copied().map(at).collect();
                    let fill = Polygon::new(points, rgb(*color).mix(*share).filled());
                    area.draw(&fill).map_err(wrong)?;
                }
                Shape::Words { at: place, text, size, align, color, upwards } => {
                    let horizontal = match align {
                        Align::Left => HPos::Left,
                        Align::Center => HPos::Center,
                        Align::Right => HPos::Right,
                    };
                    let font = FontDesc::from((FAMILY, DENSITY * size));
                    let font = match upwards {
                        true => font.transform(FontTransform::Rotate270),
                        false => font,
                    };
                    let anchor = Pos::new(horizontal, VPos::Center);
                    let ink = rgb(*color);
                    let style = TextStyle::from(font).color(&ink).pos(anchor);
                    let (x, y) = *place;
                    let drop = drop * size;
                    let place = if *upwards { (x + drop, y) } else { (x, y + drop) };
                    area.draw_text(text, &style, at(place)).map_err(wrong)?;
                }
            }
        }
        area.present().map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::super::canvas::{INK, style};
    use super::*;

    fn example() -> Canvas {
        let mut canvas = Canvas::new(120.0, 60.0);
        canvas.bar((10.0, 10.0), (50.0, 30.0), style(0));
        canvas.words((60.0, 20.0), "a <b> & ±Δβ", 12.0, Align::Left);
        canvas.upwards((100.0, 30.0), "up", 12.0);
        canvas.line(&[(0.0, 0.0), (120.0, 60.0)], INK, 1.0);
        canvas
    }

    #[test]
    fn the_svg_has_its_words_as_text_and_its_size_in_units() {
        let svg = example().svg().unwrap();
        assert!(
            svg.starts_with("<svg width=\"120\" height=\"60\" viewBox=\"0 0 240 120\""),
            "{svg}"
        );
        assert!(svg.contains("a &lt;b&gt; &amp; ±Δβ") && svg.contains("rotate(270"), "{svg}");
        assert!(svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn the_png_has_bars_and_letters_on_white() {
        let file = example().png().unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&file)).read_info().unwrap();
        let mut dots = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut dots).unwrap();
        assert_eq!((info.width, info.height), (240, 120));
        let has = |color: [u8; 3]| dots.chunks_exact(3).filter(|dot| *dot == color).count();
        assert!(has([255, 255, 255]) > 20_000);
        assert!(has([0x1b, 0x6c, 0xa8]) > 2_000, "the bar");
        assert!(has([0x22, 0x22, 0x22]) > 100, "letters");
    }
}
