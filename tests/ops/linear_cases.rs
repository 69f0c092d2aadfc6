//! Linear layers on a backend and on the oracle.

use crate::cases::{Case, Keep, Kind, Mode, Outcomes};
use crate::codes::{codes, decoded};
use crate::oracle;
use crate::rig::{Numbers, Rig, sum, wide};
use bitfit::backend::Backend;
use bitfit::program::{Aside, Dest, In, Linear, LinearBack, Out, Rows, Storage};

/// Runs a case of this file's kinds on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    match case.kind {
        Kind::Linear { inputs, outputs, rows, parts, act } => {
            let (weight, w) = rig.weight(outputs, inputs, 1.0 / (inputs as f32).sqrt());
            // As in an encoder: from its stream, or to it.
            let from_stream = act.is_some() || parts > 1;
            let x = match from_stream {
                true => rig.stream(rows, inputs, 1.0),
                false => rig.input(rows, inputs, 1.0),
            };
            let keep = act.map_or(Keep::Nothing, |a| a.1);
            let y = (!matches!(keep, Keep::Alone(_))).then(|| match from_stream {
                true => rig.output(rows, outputs),
                false => rig.output_stream(rows, outputs),
            });
            let slope = match keep {
                Keep::Nothing => None,
                Keep::Beside(storage) | Keep::Alone(storage) => {
                    Some((rig.output_as(rows, outputs, storage), storage))
                }
            };
            let bias: Vec<_> = (0..parts).map(|_| rig.param(outputs / parts)).collect();
            rig.start(0, inputs.max(outputs));
            let op = Linear {
                x: In(x),
                weight,
                bias: bias.clone(),
                act: act.map(|(kind, _)| kind),
                out: Aside(y),
                slope: Aside(slope.map(|(slope, _)| slope)),
            };
            rig.run(name, op);
            let b: Vec<f64> = bias.iter().flat_map(|&p| rig.values(p)).collect();
            let x = wide(&rig.read(x));
            let z = oracle::linear(&x, &w, &b);
            let z_straight = oracle::linear(&rig.rounded(&x), &w, &b);
            if let (Some((slope, storage)), Some((kind, _))) = (slope, act) {
                let derivatives = |z: &[f64]| -> Vec<f64> {
                    z.iter().map(|&z| oracle::activation_derivative(kind, z)).collect()
                };
                let want = derivatives(&z);
                if storage == Storage::Activation {
                    let straight = derivatives(&z_straight);
                    out.activation_beside("derivative", rig, slope, want, straight);
                } else {
                    let got = decoded(&rig.read(slope), storage, z.len() / outputs, outputs);
                    // Half a step, and a margin for when the product's own rounding decides between two codes.
                    let half = 0.5 / codes(storage).0 + 2e-4;
                    let want = derivatives(&z_straight);
                    for (got, want) in got.iter().zip(want) {
                        assert!((got - want).abs() <= half, "{name}: {want} became {got}");
                    }
                }
            }
            if let Some(y) = y {
                let value = |&z| act.map_or(z, |(kind, _)| oracle::activation(kind, z));
                let (want, straight) = (z.iter().map(value), z_straight.iter().map(value));
                out.activation_beside("out", rig, y, want.collect(), straight.collect());
            }
        }
        Kind::LinearBackward { inputs, outputs, rows, mode, dbias } => {
            let (weight, w) = rig.weight(outputs, inputs, 1.0 / (outputs as f32).sqrt());
            // As in an encoder: from the stream's gradient through an activation, or onto it.
            let (from_stream, onto) = match mode {
                Mode::Multiply(_) | Mode::InPlace => (true, false),
                Mode::Accumulate => (false, true),
                Mode::Overwrite => (rows == Rows::Tokens, rows == Rows::Sequences),
            };
            let dy = match from_stream {
                true => rig.stream(rows, outputs, 1.0),
                false => rig.input(rows, outputs, 1.0),
            };
            // What is in the gradient's place before, which some modes read.
            let was = match onto {
                true => rig.stream(rows, inputs, 1.0),
                false => rig.input(rows, inputs, 1.0),
            };
            let over = rig.over(was);
            let dx = over.now;
            let slope = match mode {
                Mode::Overwrite | Mode::Accumulate => None,
                Mode::InPlace => Some((was, Storage::Activation)),
                Mode::Multiply(Storage::Activation) => {
                    Some((rig.input(rows, inputs, 1.0), Storage::Activation))
                }
                Mode::Multiply(storage) => {
                    let any = |numbers: &mut Numbers| numbers.below(256) as u8;
                    Some((rig.coded(rows, inputs, storage, any), storage))
                }
            };
            let grad = rig.param(inputs);
            rig.start(inputs + 2, inputs.max(outputs));
            let before = wide(&rig.read(dx));
            let op = LinearBack {
                dy: In(dy),
                weight,
                slope: slope.map(|(slope, _)| In(slope)),
                dx: match mode {
                    Mode::Accumulate => Dest::Onto(over),
                    _ => Dest::New(Out(dx)),
                },
                dbias: sum(dbias, grad),
            };
            rig.run(name, op);
            let dy = wide(&rig.read(dy));
            let mut want = oracle::linear_backward(&dy, &w, outputs);
            let mut straight = oracle::linear_backward(&rig.rounded(&dy), &w, outputs);
            for want in [&mut want, &mut straight] {
                if mode == Mode::Accumulate {
                    want.iter_mut().zip(&before).for_each(|(w, b)| *w += b);
                }
            }
            if let Some((slope, storage)) = slope {
                let slopes = match (mode, storage) {
                    (Mode::InPlace, _) => before,
                    (_, Storage::Activation) => wide(&rig.read(slope)),
                    _ => decoded(&rig.read(slope), storage, want.len() / inputs, inputs),
                };
                want.iter_mut().zip(&slopes).for_each(|(w, d)| *w *= d);
                straight.iter_mut().zip(&slopes).for_each(|(w, d)| *w *= d);
            }
            if dbias {
                let sums = oracle::column_sums(&want, inputs);
                // Fused with the product, these are sums of values that were never rounded.
                let straight = match mode {
                    Mode::Multiply(_) | Mode::InPlace => oracle::column_sums(&straight, inputs),
                    _ => oracle::column_sums(&rig.rounded(&straight), inputs),
                };
                out.gradient_beside("dbias", rig, grad, sums, straight);
            }
            out.activation_beside("dx", rig, dx, want, straight);
        }
        _ => unreachable!("not one of this file's cases: {case:?}"),
    }
}
