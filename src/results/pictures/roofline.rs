//! Operations of a step compared with a device's limits: operations per second against operations per byte.

use super::Picture;
use super::canvas::{Canvas, GREY, INK, style};
use super::chart::{Axis, BELOW, LEFT, Plot, RIGHT, WIDTH, head, legend};

pub const NAME: &str = "roofline";

const HEIGHT: f64 = 380.0;

/// A device's limits per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roofs {
    pub flops: f64,
    pub bytes: f64,
}

/// An operation with matrix products.
#[derive(Clone, Debug, PartialEq)]
pub struct Spot {
    pub name: String,
    pub flops: f64,
    pub bytes: f64,
    pub seconds: f64,
}

impl Spot {
    fn intensity(&self) -> f64 {
        self.flops / self.bytes
    }

    fn rate(&self) -> f64 {
        self.flops / self.seconds / 1e9
    }

    /// Whether it can be drawn.
    fn stands(&self) -> bool {
        [self.flops, self.bytes, self.seconds].iter().all(|value| value.is_finite() && *value > 0.0)
    }
}

/// `None` if no operation can be drawn.
pub fn draw(title: &str, roofs: Roofs, spots: &[Spot]) -> Option<Picture> {
    let spots: Vec<&Spot> = spots.iter().filter(|spot| spot.stands()).collect();
    if spots.is_empty() {
        return None;
    }
    // Where both roofs meet: left of it memory is the limit.
    let ridge = roofs.flops / roofs.bytes;
    let mut canvas = Canvas::new(WIDTH, 0.0);
    let notes = [
        "Each operation with products, grouped by kind and shape. The line, as measured: a large copy left of the corner, a",
        "large product right of it. Data in the caches can exceed the copy.",
    ];
    let top = head(&mut canvas, title, &notes);
    let names: Vec<_> =
        spots.iter().enumerate().map(|(place, spot)| (spot.name.clone(), place)).collect();
    let top = legend(&mut canvas, &names, (LEFT, top), WIDTH - LEFT - RIGHT) + 6.0;
    let along = spots.iter().map(|spot| spot.intensity()).chain([ridge / 4.0, ridge * 4.0]);
    let along: Vec<f64> = along.collect();
    let x = Axis::log("multiplications and additions per byte (log scale)", along.iter().copied());
    let peak = roofs.flops / 1e9;
    let rates = spots.iter().map(|spot| spot.rate()).chain([peak, peak * 1.3]);
    let y = Axis::log("GFLOP/s (log scale)", rates);
    let plot = Plot::across(top, HEIGHT, x, y);
    plot.draw_axes(&mut canvas);
    let roof = |intensity: f64| peak.min(roofs.bytes * intensity / 1e9);
    let (low, high) = along.iter().fold((ridge, ridge), |(a, b), &x| (a.min(x), b.max(x)));
    let corners = [low, ridge, high].map(|intensity| plot.at(intensity, roof(intensity)));
    canvas.line(&corners, INK, 1.8);
    for (place, spot) in spots.iter().enumerate() {
        let (x, y) = plot.at(spot.intensity(), spot.rate());
        let above = plot.at(spot.intensity(), roof(spot.intensity()));
        canvas.line(&[(x, y), above], GREY, 0.6);
        canvas.marker((x, y), style(place), 5.5);
    }
    canvas.height = plot.bottom() + BELOW - 8.0;
    Some(Picture { name: NAME, title: title.to_owned(), canvas })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_without_products_have_no_place_and_the_others_have_names() {
        let roofs = Roofs { flops: 2e11, bytes: 2e10 };
        let spot =
            |name: &str, flops| Spot { name: name.to_owned(), flops, bytes: 1e8, seconds: 0.01 };
        assert_eq!(draw("t", roofs, &[spot("norm", 0.0)]).map(|picture| picture.name), None);
        let drawn = draw("t", roofs, &[spot("norm", 0.0), spot("Linear", 1e9)]).unwrap();
        let svg = drawn.canvas.svg().unwrap();
        assert!(svg.contains("Linear") && !svg.contains(">norm") && svg.contains("GFLOP/s"));
    }
}
