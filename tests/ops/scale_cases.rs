//! Columns multiplied by factors, on a backend and on the oracle.

use crate::cases::{Case, Kind, Outcomes};
use crate::codes::decoded;
use crate::oracle;
use crate::rig::{Numbers, Rig, wide};
use bitfit::backend::Backend;
use bitfit::program::{In, Out, Rows, Scale, ScaleBack, Storage, Sum};

/// Runs a case of this file's kinds on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    match case.kind {
        Kind::Scale { rows, width, scaled } => {
            let x = rig.input(rows, width, 1.0);
            let y = rig.output(rows, width);
            let factor = rig.param(scaled);
            rig.start(0, width);
            rig.run(name, Scale { x: In(x), factor, out: Out(y) });
            let all = factors(&rig.values(factor), width);
            out.activation("out", rig, y, oracle::scaled(&wide(&rig.read(x)), &all));
        }
        Kind::ScaleBackward { rows, width, scaled, slope, grad } => {
            let dx = rig.input(rows, width, 1.0);
            let x = rig.input(rows, width, 1.0);
            let slope = slope.map(|stored| match stored {
                Storage::Activation => (rig.input(rows, width, 1.0), stored),
                _ => {
                    let any = |numbers: &mut Numbers| numbers.below(256) as u8;
                    (rig.coded(rows, width, stored, any), stored)
                }
            });
            let factor = rig.param(scaled);
            rig.start(scaled + 2, width);
            let dy = wide(&rig.read(dx));
            let op = ScaleBack {
                dx: rig.over(dx),
                x: In(x),
                factor,
                slope: slope.map(|(slope, _)| In(slope)),
                dfactor: Sum(grad.then_some(factor)),
            };
            rig.run(name, op);
            let all = factors(&rig.values(factor), width);
            let mut want = oracle::scaled(&dy, &all);
            if let Some((slope, stored)) = slope {
                let slopes = match stored {
                    Storage::Activation => wide(&rig.read(slope)),
                    _ => decoded(&rig.read(slope), stored, want.len() / width, width),
                };
                want.iter_mut().zip(&slopes).for_each(|(w, slope)| *w *= slope);
            }
            if grad {
                let sums = oracle::product_sums(&dy, &wide(&rig.read(x)), width);
                out.gradient("dfactor", rig, factor, sums[width - scaled..].to_vec());
            }
            out.activation("dx", rig, dx, want);
        }
        _ => unreachable!("not one of this file's cases: {case:?}"),
    }
}

/// One factor per column: those before the last have 1.
fn factors(last: &[f64], width: usize) -> Vec<f64> {
    let ones = std::iter::repeat_n(1.0, width - last.len());
    ones.chain(last.iter().copied()).collect()
}

/// What stays before the next rows.
pub fn table(add: &mut impl FnMut(Kind)) {
    for rows in [Rows::Tokens, Rows::Sequences] {
        for (width, scaled) in [(7, 3), (33, 33), (96, 64), (384, 384), (1152, 768)] {
            add(Kind::Scale { rows, width, scaled });
            let slopes = [Storage::Activation, Storage::Slope8, Storage::Slope4].map(Some);
            let slopes = slopes.into_iter().filter(|_| width == scaled && rows == Rows::Tokens);
            for slope in slopes.chain([None]) {
                let grad = width != 96;
                add(Kind::ScaleBackward { rows, width, scaled, slope, grad });
            }
        }
    }
}
