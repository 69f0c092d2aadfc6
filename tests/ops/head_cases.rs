//! Pooling, the dense layers of the head and the losses, on a backend and on the oracle.

use crate::cases::{Case, Kind, Outcomes};
use crate::oracle;
use crate::rig::{Rig, wide};
use bitfit::backend::{
    Backend, Dense, DenseBackward, Dropout, HeadWeight, Loss, LossKind, Pool, PoolKind, Rows,
};
use bitfit::batch::Labels;

/// Runs a case of this file's kinds on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    let tokens = rig.batch.tokens();
    let sequences = rig.batch.sequences();
    let dropout = Dropout { p: case.p, site: 7 };
    let key = rig.key;
    match case.kind {
        Kind::Pool { hidden, kind } => {
            let x = rig.input(tokens, hidden, 1.0);
            let pooled = rig.output_f32(sequences, hidden);
            rig.start(0, hidden);
            let op = Pool {
                kind,
                hidden,
                x: rig.region(x),
                pooled: rig.region(pooled),
                rows: Rows::Tokens,
            };
            rig.run(name, &[pooled], &[], |b| b.pool_forward(op));
            let mean = kind == PoolKind::Mean;
            let want = oracle::pool(mean, &case.lens, hidden, &wide(&rig.read(x)));
            out.f32("pooled", rig.read(pooled), want);
        }
        Kind::PoolBackward { hidden, kind } => {
            let dx = rig.output(tokens, hidden);
            let pooled = rig.input_f32(sequences, hidden, 1.0);
            rig.start(0, hidden);
            let op = Pool {
                kind,
                hidden,
                x: rig.region(dx),
                pooled: rig.region(pooled),
                rows: Rows::Tokens,
            };
            rig.run(name, &[dx], &[], |b| b.pool_backward(op));
            let mean = kind == PoolKind::Mean;
            let want = oracle::pool_backward(mean, &case.lens, hidden, &wide(&rig.read(pooled)));
            out.activation("dx", rig, dx, want);
        }
        Kind::Dense {
            inputs,
            outputs,
            tanh,
            trained,
        } => {
            let frozen = (!trained).then(|| rig.head_weight(outputs, inputs, 0.1));
            let x = rig.input_f32(sequences, inputs, 1.0);
            let y = rig.output_f32(sequences, outputs);
            let (matrix, bias) = (rig.param(outputs * inputs), rig.param(outputs));
            rig.start(0, inputs.max(outputs));
            let weight = frozen
                .as_ref()
                .map_or(HeadWeight::Param(matrix), |f| HeadWeight::Frozen(f.0));
            let (xr, yr) = (rig.region(x), rig.region(y));
            let op = Dense {
                x: xr,
                weight,
                bias,
                y: yr,
                inputs,
                outputs,
                dropout,
                tanh,
            };
            rig.run(name, &[y], &[], |b| b.dense_forward(op));
            let w = frozen.map_or_else(|| rig.values(matrix), |f| f.1);
            let input = oracle::masked(&wide(&rig.read(x)), inputs, dropout, key);
            let z = oracle::linear(&input, &w, &rig.values(bias));
            let want = z.iter().map(|&z| if tanh { z.tanh() } else { z }).collect();
            out.f32("y", rig.read(y), want);
        }
        Kind::DenseBackward {
            inputs,
            outputs,
            tanh,
            trained,
            bias,
            dx,
        } => {
            let frozen = (!trained).then(|| rig.head_weight(outputs, inputs, 0.1));
            let x = rig.input_f32(sequences, inputs, 1.0);
            let y = rig.input_f32(sequences, outputs, 0.4);
            let dy = rig.input_f32(sequences, outputs, 1.0);
            let dx = dx.then(|| rig.output_f32(sequences, inputs));
            let (matrix, shift) = (rig.param(outputs * inputs), rig.param(outputs));
            // Without `bias` the bias lies behind what trains.
            rig.start(
                outputs * inputs + 2 + if bias { outputs + 2 } else { 0 },
                inputs.max(outputs),
            );
            let before = wide(&rig.read(dy));
            let weight = frozen
                .as_ref()
                .map_or(HeadWeight::Param(matrix), |f| HeadWeight::Frozen(f.0));
            let (xr, yr) = (rig.region(x), rig.region(y));
            let layer = Dense {
                x: xr,
                weight,
                bias: shift,
                y: yr,
                inputs,
                outputs,
                dropout,
                tanh,
            };
            let op = DenseBackward {
                layer,
                dy: rig.region(dy),
                dx: dx.map(|d| rig.region(d)),
            };
            let written: Vec<_> = [dy].into_iter().chain(dx).collect();
            let mut grads = Vec::new();
            grads.extend(trained.then_some(matrix));
            grads.extend(bias.then_some(shift));
            rig.run(name, &written, &grads, |b| b.dense_backward(op));
            let w = frozen.map_or_else(|| rig.values(matrix), |f| f.1);
            let input = oracle::masked(&wide(&rig.read(x)), inputs, dropout, key);
            let slope = |y: f64| if tanh { 1.0 - y * y } else { 1.0 };
            let dz: Vec<f64> = before
                .iter()
                .zip(wide(&rig.read(y)))
                .map(|(d, y)| d * slope(y))
                .collect();
            if trained {
                let dw = oracle::weight_gradient(&dz, &input, outputs, inputs);
                out.gradient("dweight", rig, matrix, dw);
            }
            if bias {
                out.gradient("dbias", rig, shift, oracle::column_sums(&dz, outputs));
            }
            if let Some(dx) = dx {
                let through = oracle::linear_backward(&dz, &w, outputs);
                out.f32(
                    "dx",
                    rig.read(dx),
                    oracle::masked(&through, inputs, dropout, key),
                );
            }
            out.f32("dy", rig.read(dy), dz);
        }
        Kind::Loss {
            kind,
            outputs,
            gradient,
        } => {
            let logits = rig.input_f32(sequences, outputs, 3.0);
            let d = gradient.then(|| rig.output_f32(sequences, outputs));
            let classes: Vec<u32> = (0..sequences).map(|s| (s % outputs) as u32).collect();
            let values = rig.numbers.normal(sequences, 2.0);
            rig.batch.labels = match kind {
                LossKind::CrossEntropy => Labels::Classes(classes.clone()),
                LossKind::MeanSquared => Labels::Values(values.clone()),
            };
            rig.start(0, outputs);
            let weight = 0.125;
            let (lr, dlogits) = (rig.region(logits), d.map(|d| rig.region(d)));
            let op = Loss {
                kind,
                logits: lr,
                outputs,
                weight,
                dlogits,
            };
            rig.backend.zero_gradients().unwrap();
            let written: Vec<_> = d.into_iter().collect();
            // Twice: the step's loss accumulates over micro-batches.
            rig.run(name, &written, &[], |b| {
                b.loss(op).and_then(|()| b.loss(op))
            });
            let x = wide(&rig.read(logits));
            let (total, dx) = match kind {
                LossKind::CrossEntropy => oracle::cross_entropy(&x, outputs, &classes),
                LossKind::MeanSquared => oracle::mean_squared(&x, &values),
            };
            let report = rig.backend.step_report().unwrap();
            out.f32(
                "loss",
                vec![report.loss],
                vec![2.0 * f64::from(weight) * total],
            );
            if let Some(d) = d {
                let want = dx.iter().map(|d| d * f64::from(weight)).collect();
                out.f32("dlogits", rig.read(d), want);
            }
        }
        _ => unreachable!("not one of this file's cases: {case:?}"),
    }
}
