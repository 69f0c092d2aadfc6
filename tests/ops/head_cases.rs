//! Pooling, the dense layers of the head and the losses, on a backend and on the oracle.

use crate::cases::{Case, Kind, Outcomes};
use crate::oracle;
use crate::rig::{Rig, sum, wide};
use bitfit::backend::Backend;
use bitfit::batch::Labels;
use bitfit::program::{
    Aside, Dense, DenseBack, Dropout, HeadWeight, In, Loss, LossKind, Numbers, Op, Out, Pool,
    PoolBack, PoolKind, Rows, Storage, Zero,
};

/// Runs a case of this file's kinds on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    let dropout = Dropout { p: case.p, site: 7 };
    let key = rig.key;
    match case.kind {
        Kind::Pool { hidden, kind } => {
            let x = rig.stream(Rows::Tokens, hidden, 1.0);
            let pooled = rig.output_f32(kind.rows(), hidden);
            rig.start(0, hidden);
            let op = Pool { kind, x: In(x), out: Out(pooled) };
            rig.run(name, op);
            let mean = kind == PoolKind::Mean;
            let want = oracle::pool(mean, &case.lens, hidden, &wide(&rig.read(x)));
            out.f32("pooled", rig.read(pooled), want);
        }
        Kind::PoolBackward { hidden, kind } => {
            let dx = rig.output_stream(Rows::Tokens, hidden);
            let pooled = rig.input_f32(kind.rows(), hidden, 1.0);
            rig.start(0, hidden);
            let op = PoolBack { kind, dy: In(pooled), dx: Out(dx) };
            rig.run(name, op);
            let mean = kind == PoolKind::Mean;
            let dy = wide(&rig.read(pooled));
            let want = oracle::pool_backward(mean, &case.lens, hidden, &dy);
            out.activation("dx", rig, dx, want);
        }
        Kind::Dense { rows, stored, inputs, outputs, tanh, trained } => {
            let frozen = (!trained).then(|| rig.head_weight(outputs, inputs, 0.1));
            let x = rig.random(rows, inputs, stored, 1.0);
            let y = rig.output_f32(rows, outputs);
            let (matrix, bias) = (rig.param(outputs * inputs), rig.param(outputs));
            rig.start(0, inputs.max(outputs));
            let weight =
                frozen.as_ref().map_or(HeadWeight::Param(matrix), |f| HeadWeight::Frozen(f.0));
            let op = Dense { x: In(x), weight, bias, dropout, tanh, y: Out(y) };
            rig.run(name, op);
            let w = frozen.map_or_else(|| rig.values(matrix), |f| f.1);
            let input = oracle::masked(&wide(&rig.read(x)), inputs, dropout, key);
            let z = oracle::linear(&input, &w, &rig.values(bias));
            let want = z.iter().map(|&z| if tanh { z.tanh() } else { z }).collect();
            out.f32("y", rig.read(y), want);
        }
        Kind::DenseBackward { rows, stored, inputs, outputs, tanh, trained, bias, dx } => {
            let frozen = (!trained).then(|| rig.head_weight(outputs, inputs, 0.1));
            let x = rig.random(rows, inputs, stored, if tanh { 0.4 } else { 1.0 });
            let dy = rig.input_f32(rows, outputs, 1.0);
            let dx = dx.then(|| rig.output_as(rows, inputs, stored));
            let (matrix, shift) = (rig.param(outputs * inputs), rig.param(outputs));
            // Without `bias` the bias is after what trains.
            rig.start(
                outputs * inputs + 2 + if bias { outputs + 2 } else { 0 },
                inputs.max(outputs),
            );
            let weight =
                frozen.as_ref().map_or(HeadWeight::Param(matrix), |f| HeadWeight::Frozen(f.0));
            let op = DenseBack {
                x: In(x),
                weight,
                dropout,
                tanh,
                dy: In(dy),
                dx: Aside(dx),
                dweight: sum(trained, matrix),
                dbias: sum(bias, shift),
            };
            rig.run(name, op);
            let w = frozen.map_or_else(|| rig.values(matrix), |f| f.1);
            let (x, dy) = (wide(&rig.read(x)), wide(&rig.read(dy)));
            let input = oracle::masked(&x, inputs, dropout, key);
            if trained {
                let dw = oracle::weight_gradient(&dy, &input, outputs, inputs);
                out.gradient("dweight", rig, matrix, dw);
            }
            if bias {
                out.gradient("dbias", rig, shift, oracle::column_sums(&dy, outputs));
            }
            if let Some(dx) = dx {
                let through = oracle::linear_backward(&dy, &w, outputs);
                let through = oracle::masked(&through, inputs, dropout, key);
                let slope = |x: f64| if tanh { 1.0 - x * x } else { 1.0 };
                let want = through.iter().zip(x).map(|(d, x)| d * slope(x)).collect();
                match stored {
                    Storage::F32 => out.f32("dx", rig.read(dx), want),
                    _ => out.activation("dx", rig, dx, want),
                }
            }
        }
        Kind::Loss { kind, rows, outputs, gradient, weighted } => {
            let count = rig.batch.limits().rows(rows);
            let logits = rig.input_f32(rows, outputs, 3.0);
            let d = gradient.then(|| rig.output_f32(rows, outputs));
            let mut classes: Vec<u32> = (0..count).map(|s| (s % outputs) as u32).collect();
            if rows == Rows::Tokens {
                classes.iter_mut().step_by(3).for_each(|class| *class = Labels::IGNORED);
            }
            let mut values = rig.numbers.normal(count * outputs, 2.0);
            if kind == LossKind::Binary {
                values.iter_mut().for_each(|value| *value = f32::from(*value > 0.0));
            }
            let ends = |&len: &usize| [(len / 3) as u32, len as u32 - 1];
            let spans: Vec<[u32; 2]> = case.lens.iter().map(ends).collect();
            rig.batch.labels = match (kind, rows) {
                (LossKind::CrossEntropy, Rows::Sequences) => Labels::Classes(classes.clone()),
                (LossKind::CrossEntropy, Rows::Tokens | Rows::Labelled(_)) => {
                    Labels::Tokens(classes.clone())
                }
                (LossKind::MeanSquared | LossKind::Binary, _) => Labels::Values(values.clone()),
                (LossKind::Span, _) => Labels::Spans(spans.clone()),
            };
            let class_weights = weighted.then(|| rig.param(outputs));
            rig.start(0, outputs);
            let weight = 0.125;
            let loss = Loss { kind, class_weights, logits: In(logits), dlogits: Aside(d) };
            // Twice: the step's loss accumulates over micro-batches.
            let ops = vec![Op::from(Zero {}), loss.clone().into(), loss.into()];
            let numbers = Numbers { weight, update: None };
            rig.run_all(name, ops, numbers);
            let x = wide(&rig.read(logits));
            let factors = class_weights.map(|range| rig.values(range));
            let (total, dx) = match kind {
                LossKind::CrossEntropy => {
                    oracle::cross_entropy(&x, outputs, &classes, factors.as_deref())
                }
                LossKind::MeanSquared => oracle::mean_squared(&x, &values),
                LossKind::Binary => oracle::binary(&x, &values),
                LossKind::Span => oracle::spans(&x, &case.lens, &spans),
            };
            let report = rig.backend.step_report().unwrap();
            out.f32("loss", vec![report.loss], vec![2.0 * f64::from(weight) * total]);
            if let Some(d) = d {
                let want = dx.iter().map(|d| d * f64::from(weight)).collect();
                out.f32("dlogits", rig.read(d), want);
            }
        }
        _ => unreachable!("not one of this file's cases: {case:?}"),
    }
}
