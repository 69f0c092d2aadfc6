//! The last layer of a head on sequences with its loss and its backward, on a backend and on the oracle.

use crate::cases::{Case, Kind, Outcomes};
use crate::oracle;
use crate::rig::{Rig, sum, wide};
use bitfit::backend::Backend;
use bitfit::batch::Labels;
use bitfit::program::{
    Aside, Dense, DenseBack, Dropout, HeadWeight, In, Loss, LossKind, Numbers, Op, Out, Rows,
    Storage,
};

/// Few classes and many, and inputs of each number of 256-column parts.
pub fn table(add: &mut impl FnMut(Kind)) {
    let few = [(8, 1), (384, 2), (264, 3), (520, 4), (776, 4)];
    let many = [(72, 7), (64, 33), (33, 5)];
    for (inputs, outputs) in few.into_iter().chain(many) {
        for (kind, weighted) in [
            (LossKind::CrossEntropy, outputs == 3),
            (LossKind::MeanSquared, false),
            (LossKind::Binary, false),
        ] {
            for stored in [Storage::F32, Storage::Stream] {
                let dx = outputs != 3;
                add(Kind::Classifier { kind, stored, inputs, outputs, weighted, dx });
            }
        }
    }
}

/// Runs a case of this file's kind on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    let Kind::Classifier { kind, stored, inputs, outputs, weighted, dx } = case.kind else {
        unreachable!("not this file's kind: {case:?}")
    };
    let (rows, dropout, key) = (Rows::Sequences, Dropout { p: case.p, site: 7 }, rig.key);
    // The inputs are the output of a tanh, unless they are hidden states.
    let tanh = stored == Storage::F32;
    // Logits of ordinary size: the loss of a class that is certain is nearly nothing.
    let x = rig.random(rows, inputs, stored, (8.0 / inputs as f32).sqrt());
    let logits = rig.output_f32(rows, outputs);
    let dlogits = rig.output_f32(rows, outputs);
    let dx = dx.then(|| rig.output_as(rows, inputs, stored));
    let (matrix, shift) = (rig.param(outputs * inputs), rig.param(outputs));
    let trainable = outputs * inputs + outputs + 4;
    let class_weights = weighted.then(|| rig.param(outputs));
    let classes: Vec<u32> = (0..case.lens.len()).map(|s| (s % outputs) as u32).collect();
    let mut values = rig.numbers.normal(classes.len() * outputs, 2.0);
    if kind == LossKind::Binary {
        values.iter_mut().for_each(|value| *value = f32::from(*value > 0.0));
    }
    rig.batch.labels = match kind {
        LossKind::CrossEntropy => Labels::Classes(classes.clone()),
        _ => Labels::Values(values.clone()),
    };
    // A list with such a tensor, as models have, has room for few classes to be one launch.
    let widest = 4 * inputs;
    rig.output_f32(rows, widest);
    rig.start(trainable, widest.max(outputs));
    let weight = HeadWeight::Param(matrix);
    let forward = Dense { x: In(x), weight, bias: shift, dropout, tanh: false, y: Out(logits) };
    let of_loss = Loss { kind, class_weights, logits: In(logits), dlogits: Aside(Some(dlogits)) };
    let back = DenseBack {
        x: In(x),
        weight,
        dropout,
        tanh,
        dy: In(dlogits),
        dx: Aside(dx),
        dweight: sum(true, matrix),
        dbias: sum(true, shift),
    };
    let factor = 0.125;
    let numbers = Numbers { weight: factor, update: None };
    let ops: Vec<Op> = vec![forward.into(), of_loss.into(), back.into()];
    rig.run_all(name, ops, numbers);

    let x = wide(&rig.read(x));
    let (w, b) = (rig.values(matrix), rig.values(shift));
    let input = oracle::masked(&x, inputs, dropout, key);
    let y = oracle::linear(&input, &w, &b);
    let factors = class_weights.map(|range| rig.values(range));
    let (total, d) = match kind {
        LossKind::CrossEntropy => oracle::cross_entropy(&y, outputs, &classes, factors.as_deref()),
        LossKind::Binary => oracle::binary(&y, &values),
        _ => oracle::mean_squared(&y, &values),
    };
    let d: Vec<f64> = d.iter().map(|d| d * f64::from(factor)).collect();
    let report = rig.backend.step_report().unwrap();
    out.f32("loss", vec![report.loss], vec![f64::from(factor) * total]);
    let dw = oracle::weight_gradient(&d, &input, outputs, inputs);
    out.gradient("dweight", rig, matrix, dw);
    out.gradient("dbias", rig, shift, oracle::column_sums(&d, outputs));
    if let Some(dx) = dx {
        let through =
            oracle::masked(&oracle::linear_backward(&d, &w, outputs), inputs, dropout, key);
        let slope = |x: f64| if tanh { 1.0 - x * x } else { 1.0 };
        let want = through.iter().zip(x).map(|(d, x)| d * slope(x)).collect();
        match stored {
            Storage::F32 => out.f32("dx", rig.read(dx), want),
            _ => out.activation("dx", rig, dx, want),
        }
    }
    out.f32("y", rig.read(logits), y);
    out.f32("dlogits", rig.read(dlogits), d);
}
