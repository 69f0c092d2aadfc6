//! The elements of a picture: positioned lines, filled shapes and text, from which SVG and PNG are drawn.

/// Right and down, in units of one SVG pixel.
pub type Point = (f64, f64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint(pub u8, pub u8, pub u8);

pub const INK: Paint = Paint(0x22, 0x22, 0x22);
pub const PALE: Paint = Paint(0xdd, 0xdd, 0xdd);
pub const GREY: Paint = Paint(0x66, 0x66, 0x66);
pub const PAPER: Paint = Paint(0xff, 0xff, 0xff);

/// The position of a text relative to its anchor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Center,
    Right,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    Line {
        points: Vec<Point>,
        color: Paint,
        width: f64,
    },
    /// A polygon, with opacity `share`.
    Fill {
        points: Vec<Point>,
        color: Paint,
        share: f64,
    },
    /// Vertically centred on its anchor; `upwards` rotates it to be read from the right.
    Words {
        at: Point,
        text: String,
        size: f64,
        align: Align,
        color: Paint,
        upwards: bool,
    },
}

/// What distinguishes a series from the others, with and without colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    pub color: Paint,
    dash: usize,
    marker: usize,
    hatch: usize,
}

const COLORS: [Paint; 6] = [
    Paint(0x1b, 0x6c, 0xa8),
    Paint(0xd0, 0x55, 0x20),
    Paint(0x22, 0x7a, 0x3c),
    Paint(0x8a, 0x4f, 0xb0),
    Paint(0x9a, 0x72, 0x00),
    Paint(0x55, 0x55, 0x55),
];
/// Lengths of dashes and of the gaps between them.
const DASHES: [&[f64]; 5] = [&[], &[7.0, 4.0], &[2.0, 3.0], &[9.0, 3.0, 2.0, 3.0], &[14.0, 4.0]];
/// Corners of markers in units of their radius; hollow ones come after filled ones.
const MARKERS: usize = 8;
const HATCHES: usize = 6;

/// The style of a series by its index.
pub fn style(place: usize) -> Style {
    Style {
        color: COLORS[place % COLORS.len()],
        dash: place % DASHES.len(),
        marker: place % MARKERS,
        hatch: place % HATCHES,
    }
}

/// The shapes of a picture, later ones on top.
#[derive(Debug, Clone, PartialEq)]
pub struct Canvas {
    pub width: f64,
    pub height: f64,
    pub shapes: Vec<Shape>,
}

impl Canvas {
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, shapes: Vec::new() }
    }

    pub fn line(&mut self, points: &[Point], color: Paint, width: f64) {
        self.shapes.push(Shape::Line { points: points.to_vec(), color, width });
    }

    pub fn fill(&mut self, points: &[Point], color: Paint, share: f64) {
        self.shapes.push(Shape::Fill { points: points.to_vec(), color, share });
    }

    pub fn words(&mut self, at: Point, text: impl Into<String>, size: f64, align: Align) {
        self.words_in(at, text, size, align, INK);
    }

    pub fn words_in(
        &mut self,
        at: Point,
        text: impl Into<String>,
        size: f64,
        align: Align,
        color: Paint,
    ) {
        let text = text.into();
        self.shapes.push(Shape::Words { at, text, size, align, color, upwards: false });
    }

    pub fn upwards(&mut self, at: Point, text: impl Into<String>, size: f64) {
        let (text, align) = (text.into(), Align::Center);
        self.shapes.push(Shape::Words { at, text, size, align, color: INK, upwards: true });
    }

    /// A line in the dashes of a style.
    pub fn dashed(&mut self, points: &[Point], style: Style, width: f64) {
        let pattern = DASHES[style.dash];
        if pattern.is_empty() {
            return self.line(points, style.color, width);
        }
        // The pattern continues through corners: `left` is what remains of a dash or gap, by its index in the pattern.
        let (mut place, mut left) = (0, pattern[0]);
        let mut stroke: Vec<Point> = points.first().copied().into_iter().collect();
        for pair in points.windows(2) {
            let (from, to) = (pair[0], pair[1]);
            let length = (to.0 - from.0).hypot(to.1 - from.1);
            let mut done = 0.0;
            while length - done > left {
                done += left;
                let share = done / length;
                let at = (from.0 + share * (to.0 - from.0), from.1 + share * (to.1 - from.1));
                if place % 2 == 0 {
                    stroke.push(at);
                    self.line(&stroke, style.color, width);
                }
                stroke = vec![at];
                place = (place + 1) % pattern.len();
                left = pattern[place];
            }
            left -= length - done;
            stroke.push(to);
        }
        if place % 2 == 0 && stroke.len() > 1 {
            self.line(&stroke, style.color, width);
        }
    }

    /// The marker of a style.
    pub fn marker(&mut self, (x, y): Point, style: Style, radius: f64) {
        let around = |corners: &[(f64, f64)]| -> Vec<Point> {
            corners.iter().map(|(dx, dy)| (x + radius * dx, y + radius * dy)).collect()
        };
        let circle: Vec<(f64, f64)> =
            (0..24).map(|i| (f64::from(i) * std::f64::consts::TAU / 24.0).sin_cos()).collect();
        let corners: &[(f64, f64)] = match style.marker % 4 {
            0 => &circle,
            1 => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            2 => &[(0.0, -1.15), (1.1, 0.85), (-1.1, 0.85)],
            _ => &[(0.0, -1.25), (1.25, 0.0), (0.0, 1.25), (-1.25, 0.0)],
        };
        let points = around(corners);
        let full = style.marker < 4;
        self.fill(&points, if full { style.color } else { PAPER }, 1.0);
        let closed: Vec<Point> = points.iter().chain(points.first()).copied().collect();
        self.line(&closed, if full { PAPER } else { style.color }, if full { 0.8 } else { 1.6 });
    }

    /// Two crossed strokes: a run that did not finish.
    pub fn cross(&mut self, (x, y): Point, radius: f64, color: Paint) {
        self.line(&[(x - radius, y - radius), (x + radius, y + radius)], color, 1.6);
        self.line(&[(x - radius, y + radius), (x + radius, y - radius)], color, 1.6);
    }

    /// A bar in the colour and hatching of a style.
    pub fn bar(&mut self, (left, top): Point, (right, bottom): Point, style: Style) {
        let corners = [(left, top), (right, top), (right, bottom), (left, bottom)];
        self.fill(&corners, style.color, if style.hatch == 0 { 1.0 } else { 0.3 });
        let (height, wide) = (bottom - top, right - left);
        // Strokes at 45 degrees, clipped at the edges of the bar.
        let mut slope = |rising: bool, step: f64| {
            let mut from = -height;
            while from < wide {
                let (low, high) = (from.max(0.0), (from + height).min(wide));
                let place = |x: f64| if rising { bottom - (x - from) } else { top + (x - from) };
                if high > low {
                    let points = [(left + low, place(low)), (left + high, place(high))];
                    self.line(&points, style.color, 1.0);
                }
                from += step;
            }
        };
        match style.hatch {
            1 => slope(true, 6.0),
            2 => slope(false, 6.0),
            3 => {
                slope(true, 8.0);
                slope(false, 8.0);
            }
            4 => slope(true, 12.0),
            _ => {}
        }
        let closed = [corners[0], corners[1], corners[2], corners[3], corners[0]];
        self.line(&closed, style.color, 1.0);
    }
}

/// The approximate width of a text.
pub fn width_of(text: &str, size: f64) -> f64 {
    0.5 * size * text.chars().count() as f64
}

/// A text shortened to fit a width, by removing its middle.
pub fn fitting(text: &str, size: f64, width: f64) -> String {
    let most = ((width / (0.5 * size)) as usize).max(3);
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= most {
        return text.to_owned();
    }
    let (first, last) = (most / 2, most - most / 2 - 1);
    let from = letters.len() - last;
    letters[..first].iter().chain(['…'].iter()).chain(&letters[from..]).collect()
}

/// The same for several texts, keeping different ones different: those that would become equal lose their common
/// beginning instead.
pub fn fitting_apart(texts: &[String], size: f64, width: f64) -> Vec<String> {
    let short: Vec<String> = texts.iter().map(|text| fitting(text, size, width)).collect();
    let apart = |(place, text): (usize, &String)| {
        let alike: Vec<&String> = (texts.iter().zip(&short))
            .filter(|(other, fitted)| **fitted == short[place] && *other != text)
            .map(|(other, _)| other)
            .collect();
        let common = |other: &&String| {
            text.chars().zip(other.chars()).take_while(|(one, two)| one == two).count()
        };
        match alike.iter().map(common).min() {
            None => short[place].clone(),
            Some(common) => {
                let rest: String = text.chars().skip(common).collect();
                let most = ((width / (0.5 * size)) as usize).max(3) - 1;
                format!("…{}", rest.chars().take(most).collect::<String>())
            }
        }
    };
    texts.iter().enumerate().map(apart).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_go_on_around_corners_and_leave_gaps() {
        let mut canvas = Canvas::new(100.0, 100.0);
        canvas.dashed(&[(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)], style(1), 1.0);
        let length = |points: &[Point]| -> f64 {
            points.windows(2).map(|p| (p[1].0 - p[0].0).hypot(p[1].1 - p[0].1)).sum()
        };
        let strokes: Vec<f64> = canvas
            .shapes
            .iter()
            .map(|shape| match shape {
                Shape::Line { points, .. } => length(points),
                other => panic!("{other:?}"),
            })
            .collect();
        // Dashes of 7 and gaps of 4 over a length of 20.
        assert_eq!(strokes.len(), 2);
        assert!((strokes[0] - 7.0).abs() < 1e-9 && (strokes[1] - 7.0).abs() < 1e-9, "{strokes:?}");
        canvas.dashed(&[], style(1), 1.0);
        canvas.dashed(&[(1.0, 1.0), (1.0, 1.0)], style(2), 1.0);
    }

    #[test]
    fn the_first_styles_differ_without_colour() {
        for a in 0..8 {
            for b in 0..a {
                let (a, b) = (style(a), style(b));
                assert!((a.dash, a.marker, a.hatch) != (b.dash, b.marker, b.hatch));
            }
        }
    }

    #[test]
    fn long_names_lose_their_middle() {
        assert_eq!(fitting("short", 10.0, 100.0), "short");
        assert_eq!(fitting("a-very-long-name-seed2", 10.0, 50.0), "a-ver…eed2");
        assert_eq!(fitting("äöüäöüäöü", 10.0, 1.0), "ä…ü");
        let names = ["lora, lora-rank 2, weights f16", "lora, lora-rank 4, weights f16", "full"];
        let fitted = fitting_apart(&names.map(str::to_owned), 10.0, 75.0);
        assert_eq!(fitted, ["…2, weights f16", "…4, weights f16", "full"]);
    }

    #[test]
    fn hatches_stay_within_their_bar() {
        for place in 0..6 {
            let mut canvas = Canvas::new(100.0, 100.0);
            canvas.bar((10.0, 10.0), (33.0, 30.0), style(place));
            for shape in &canvas.shapes {
                let (Shape::Line { points, .. } | Shape::Fill { points, .. }) = shape else {
                    panic!("{shape:?}")
                };
                for (x, y) in points {
                    assert!((10.0..=33.0).contains(x) && (10.0..=30.0).contains(y), "{shape:?}");
                }
            }
        }
    }
}
