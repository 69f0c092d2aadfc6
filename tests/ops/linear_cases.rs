//! Linear layers on a backend and on the oracle.

use crate::cases::{Case, Keep, Kind, Mode, Outcomes};
use crate::codes::{codes, decoded, words_of};
use crate::oracle;
use crate::rig::{Rig, wide};
use bitfit::backend::{
    ActivationOutput, Backend, Derivative, DerivativeType, LinearActivation, LinearBackward,
    LinearForward, Rows,
};

/// Runs a case of this file's kinds on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    let tokens = rig.batch.tokens();
    let sequences = rig.batch.sequences();
    let row_count = |rows| match rows {
        Rows::Tokens => tokens,
        Rows::Sequences => sequences,
    };
    match case.kind {
        Kind::Linear {
            inputs,
            outputs,
            rows,
            parts,
            act,
        } => {
            let count = row_count(rows);
            let (weight, w) = rig.weight(outputs, inputs, 1.0 / (inputs as f32).sqrt());
            let x = rig.input(count, inputs, 1.0);
            let y = rig.output(count, outputs);
            let keep = act.map_or(Keep::Nothing, |a| a.1);
            let derivative = match keep {
                Keep::Nothing | Keep::Alone => None,
                Keep::Beside(DerivativeType::Full) => Some(rig.output(count, outputs)),
                Keep::Beside(stored) => {
                    Some(rig.output_f32(1, stored.bytes(count, outputs, 4) / 4))
                }
            };
            let bias: Vec<_> = (0..parts).map(|_| rig.param(outputs / parts)).collect();
            rig.start(0, inputs.max(outputs));
            let op = LinearForward {
                x: rig.region(x),
                weight,
                bias: &bias,
                out: rig.region(y),
                rows,
                activation: act.map(|(kind, _)| LinearActivation {
                    kind,
                    output: match (keep, derivative) {
                        (Keep::Alone, _) => ActivationOutput::Derivative,
                        (Keep::Beside(stored), Some(d)) => ActivationOutput::Both(Derivative {
                            region: rig.region(d),
                            stored,
                        }),
                        _ => ActivationOutput::Value,
                    },
                }),
            };
            let written: Vec<_> = [y].into_iter().chain(derivative).collect();
            rig.run(name, &written, &[], |b| b.linear_forward(op));
            let b: Vec<f64> = bias.iter().flat_map(|&p| rig.values(p)).collect();
            let z = oracle::linear(&wide(&rig.read(x)), &w, &b);
            let slopes = |kind| -> Vec<f64> {
                z.iter()
                    .map(|&z| oracle::activation_derivative(kind, z))
                    .collect()
            };
            match (keep, derivative, act) {
                (Keep::Beside(DerivativeType::Full), Some(d), Some((kind, _))) => {
                    out.activation("derivative", rig, d, slopes(kind));
                }
                (Keep::Beside(stored), Some(d), Some((kind, _))) => {
                    let got = decoded(&rig.read(d), stored, count, outputs);
                    // Where the product's own rounding decides between two codes.
                    let half = 0.5 / codes(stored).0 + 2e-4;
                    for (got, want) in got.iter().zip(slopes(kind)) {
                        assert!((got - want).abs() <= half, "{name}: {want} became {got}");
                    }
                }
                _ => {}
            }
            let want = match (act, keep) {
                (Some((kind, _)), Keep::Alone) => slopes(kind),
                (Some((kind, _)), _) => z.iter().map(|&z| oracle::activation(kind, z)).collect(),
                (None, _) => z,
            };
            out.activation("out", rig, y, want);
        }
        Kind::LinearBackward {
            inputs,
            outputs,
            rows,
            mode,
            dbias,
        } => {
            let count = row_count(rows);
            let (weight, w) = rig.weight(outputs, inputs, 1.0 / (outputs as f32).sqrt());
            let dy = rig.input(count, outputs, 1.0);
            let dx = rig.input(count, inputs, 1.0);
            let derivative = match mode {
                Mode::Overwrite | Mode::Accumulate => None,
                Mode::InPlace => Some(dx),
                Mode::Multiply(DerivativeType::Full) => Some(rig.input(count, inputs, 1.0)),
                Mode::Multiply(stored) => {
                    let mut bytes = vec![0u8; stored.bytes(count, inputs, 4)];
                    bytes.fill_with(|| rig.numbers.below(256) as u8);
                    Some(rig.given_f32(words_of(&bytes)))
                }
            };
            let stored = match mode {
                Mode::Multiply(stored) => stored,
                _ => DerivativeType::Full,
            };
            let grad = rig.param(inputs);
            rig.start(inputs + 2, inputs.max(outputs));
            let before = wide(&rig.read(dx));
            let op = LinearBackward {
                dy: rig.region(dy),
                weight,
                dx: rig.region(dx),
                accumulate: mode == Mode::Accumulate,
                rows,
                derivative: derivative.map(|d| Derivative {
                    region: rig.region(d),
                    stored,
                }),
                dbias: dbias.then_some(grad),
            };
            let grads: Vec<_> = dbias.then_some(grad).into_iter().collect();
            rig.run(name, &[dx], &grads, |b| b.linear_backward(op));
            let mut want = oracle::linear_backward(&wide(&rig.read(dy)), &w, outputs);
            if mode == Mode::Accumulate {
                want.iter_mut().zip(&before).for_each(|(w, b)| *w += b);
            }
            if let Some(d) = derivative {
                let slopes = match (mode, stored) {
                    (Mode::InPlace, _) => before,
                    (_, DerivativeType::Full) => wide(&rig.read(d)),
                    _ => decoded(&rig.read(d), stored, count, inputs),
                };
                want.iter_mut().zip(slopes).for_each(|(w, d)| *w *= d);
            }
            if dbias {
                let sums = oracle::column_sums(&want, inputs);
                // Fused with the product these are sums of what was never rounded.
                let straight = match mode {
                    Mode::Multiply(_) | Mode::InPlace => sums.clone(),
                    _ => oracle::column_sums(&rig.rounded(&want), inputs),
                };
                out.gradient_beside("dbias", rig, grad, sums, straight);
            }
            out.activation("dx", rig, dx, want);
        }
        _ => unreachable!("not one of this file's cases: {case:?}"),
    }
}
