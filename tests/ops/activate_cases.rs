//! An activation whose input has something added to its product, on a backend and on the oracle.

use crate::cases::{Case, Kind, Outcomes};
use crate::codes::{codes, decoded};
use crate::oracle;
use crate::rig::{Numbers, Rig, sum, wide};
use bitfit::backend::Backend;
use bitfit::program::{Activate, ActivateBack, Activation, Aside, In, Rows, Storage};

/// Runs a case of this file's kinds on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    match case.kind {
        Kind::Activate { rows, width, act, value, slope } => {
            let x = rig.stream(rows, width, 1.5);
            let y = value.then(|| rig.output(rows, width));
            let slope = slope.map(|stored| (rig.output_as(rows, width, stored), stored));
            rig.start(0, width);
            let kept = slope.map(|(slope, _)| slope);
            rig.run(name, Activate { x: In(x), act, out: Aside(y), slope: Aside(kept) });
            let x = wide(&rig.read(x));
            if let Some((slope, stored)) = slope {
                let want: Vec<f64> =
                    x.iter().map(|&x| oracle::activation_derivative(act, x)).collect();
                if stored == Storage::Activation {
                    out.activation("slope", rig, slope, want);
                } else {
                    let got = decoded(&rig.read(slope), stored, x.len() / width, width);
                    let half = 0.5 / codes(stored).0 + 2e-5;
                    for (got, want) in got.iter().zip(want) {
                        assert!((got - want).abs() <= half, "{name}: {want} became {got}");
                    }
                }
            }
            if let Some(y) = y {
                out.activation(
                    "out",
                    rig,
                    y,
                    x.iter().map(|&x| oracle::activation(act, x)).collect(),
                );
            }
        }
        Kind::ActivateBackward { rows, width, stored, dbias } => {
            let dx = rig.input(rows, width, 1.0);
            let slope = match stored {
                Storage::Activation => rig.input(rows, width, 1.0),
                _ => {
                    let any = |numbers: &mut Numbers| numbers.below(256) as u8;
                    rig.coded(rows, width, stored, any)
                }
            };
            let grad = rig.param(width);
            rig.start(width + 2, width);
            let dy = wide(&rig.read(dx));
            let over = rig.over(dx);
            let dbias_sum = sum(dbias, grad);
            rig.run(name, ActivateBack { slope: In(slope), dx: over, dbias: dbias_sum });
            let slopes = match stored {
                Storage::Activation => wide(&rig.read(slope)),
                _ => decoded(&rig.read(slope), stored, dy.len() / width, width),
            };
            let want: Vec<f64> = dy.iter().zip(&slopes).map(|(dy, slope)| dy * slope).collect();
            if dbias {
                out.gradient("dbias", rig, grad, oracle::column_sums(&want, width));
            }
            out.activation("dx", rig, dx, want);
        }
        _ => unreachable!("not one of this file's cases: {case:?}"),
    }
}

pub fn table(add: &mut impl FnMut(Kind)) {
    let stored = [Storage::Activation, Storage::Slope8, Storage::Slope4];
    for (width, act) in
        [(7, Activation::Relu), (96, Activation::GeluTanh), (384, Activation::GeluErf)]
    {
        for rows in [Rows::Tokens, Rows::Sequences] {
            add(Kind::Activate { rows, width, act, value: true, slope: None });
            for stored in stored {
                let slope = Some(stored);
                add(Kind::Activate { rows, width, act, value: stored != Storage::Slope4, slope });
                add(Kind::ActivateBackward { rows, width, stored, dbias: width != 7 });
            }
        }
    }
}

/// For orders of warps.
pub fn oddest(add: &mut impl FnMut(f32, Kind)) {
    let (rows, width, act, stored) = (Rows::Tokens, 312, Activation::GeluErf, Storage::Slope8);
    add(0.0, Kind::Activate { rows, width, act, value: true, slope: Some(stored) });
    add(0.0, Kind::ActivateBackward { rows, width, stored, dbias: true });
}
