//! The masked-word head, on a backend and on the oracle: the labelled tokens' rows out of all and back, its products,
//! the activation and the LayerNorm between them, and the loss over a vocabulary.

use crate::cases::{Case, EPS, Kind, Outcomes};
use crate::oracle;
use crate::rig::{Rig, sum, wide};
use bitfit::backend::Backend;
use bitfit::batch::Labels;
use bitfit::program::{
    ActNorm, ActNormBack, Aside, Dense, DenseBack, Dropout, HeadWeight, In, Loss, LossKind, Norm,
    Numbers, Op, Out, Pool, PoolBack, PoolKind, Portion, Rows, Zero,
};

/// About a third of the tokens may have a label.
const PORTION: Portion = Portion { thousandths: 340 };
const ROWS: Rows = Rows::Labelled(PORTION);

/// A label for every third token from `first` on.
fn labels(tokens: usize, first: usize, classes: usize) -> Vec<u32> {
    let of = |token: usize| match token % 3 == first {
        true => (token * 7 % classes) as u32,
        false => Labels::IGNORED,
    };
    (0..tokens).map(of).collect()
}

/// Runs a case of this file's kinds on a fresh rig. A one-token batch has no label in some of the cases.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    let tokens = rig.batch.tokens();
    let (first, classes) = match case.kind {
        Kind::LabelledRows { .. } => (1, 5),
        Kind::LabelledLoss { outputs, .. } => (2, outputs),
        Kind::LabelledDense { table, .. } => (usize::from(table), 2),
        _ => (0, 2),
    };
    let known = labels(tokens, first, classes);
    rig.batch.labels = Labels::Tokens(known.clone());
    match case.kind {
        Kind::LabelledRows { hidden } => {
            let x = rig.stream(Rows::Tokens, hidden, 1.0);
            let pooled = rig.output_f32(ROWS, hidden);
            let dy = rig.input_f32(ROWS, hidden, 1.0);
            let dx = rig.output_stream(Rows::Tokens, hidden);
            rig.start(0, hidden);
            let kind = PoolKind::Labelled(PORTION);
            let forward = Pool { kind, x: In(x), out: Out(pooled) };
            let backward = PoolBack { kind, dy: In(dy), dx: Out(dx) };
            rig.run_all(name, vec![forward.into(), backward.into()], Numbers::NONE);
            let (all, d) = (wide(&rig.read(x)), wide(&rig.read(dy)));
            let labelled: Vec<usize> =
                (0..tokens).filter(|&token| known[token] != Labels::IGNORED).collect();
            let mut taken: Vec<f64> = Vec::new();
            let mut spread = vec![0.0; tokens * hidden];
            for (row, &token) in labelled.iter().enumerate() {
                taken.extend(&all[token * hidden..][..hidden]);
                spread[token * hidden..][..hidden].copy_from_slice(&d[row * hidden..][..hidden]);
            }
            out.f32("labelled", rig.read(pooled), taken);
            out.activation("dx", rig, dx, spread);
        }
        Kind::LabelledDense { inputs, outputs, table } => {
            let (id, w) = match table {
                true => rig.table(outputs, inputs, 0.1),
                false => rig.head_weight(outputs, inputs, 0.1),
            };
            let x = rig.input_f32(ROWS, inputs, 1.0);
            let y = rig.output_f32(ROWS, outputs);
            let dy = rig.input_f32(ROWS, outputs, 1.0);
            let dx = rig.output_f32(ROWS, inputs);
            let bias = rig.param(outputs);
            rig.start(outputs + 2, inputs.max(outputs));
            let (weight, dropout, tanh) = (HeadWeight::Frozen(id), Dropout::NONE, false);
            let forward = Dense { x: In(x), weight, bias, dropout, tanh, y: Out(y) };
            let backward = DenseBack {
                x: In(x),
                weight,
                dropout,
                tanh,
                dy: In(dy),
                dx: Aside(Some(dx)),
                dweight: sum(false, bias),
                dbias: sum(true, bias),
            };
            rig.run_all(name, vec![forward.into(), backward.into()], Numbers::NONE);
            let (x, dy) = (wide(&rig.read(x)), wide(&rig.read(dy)));
            out.f32("y", rig.read(y), oracle::linear(&x, &w, &rig.values(bias)));
            out.f32("dx", rig.read(dx), oracle::linear_backward(&dy, &w, outputs));
            out.gradient("dbias", rig, bias, oracle::column_sums(&dy, outputs));
        }
        Kind::ActNorm { width, act } => {
            let x = rig.input_f32(ROWS, width, 1.5);
            let y = rig.output_f32(ROWS, width);
            let (gamma, beta) = (rig.param(width), rig.param(width));
            rig.start(0, width);
            let norm = Norm { gamma, beta, eps: EPS };
            rig.run(name, ActNorm { x: In(x), act, norm, y: Out(y) });
            let (x_hat, _) = activated(act, &wide(&rig.read(x)), width);
            let want = oracle::affine(&x_hat, &rig.values(gamma), &rig.values(beta));
            out.f32("y", rig.read(y), want);
        }
        Kind::ActNormBackward { width, act, dbeta } => {
            let x = rig.input_f32(ROWS, width, 1.5);
            let dx = rig.input_f32(ROWS, width, 1.0);
            let (beta, gamma) = (rig.param(width), rig.param(width));
            rig.start(if dbeta { width + 1 } else { 0 }, width);
            let dy = wide(&rig.read(dx));
            let norm = Norm { gamma, beta, eps: EPS };
            let over = rig.over(dx);
            let op = ActNormBack { x: In(x), act, norm, dx: over, dbeta: sum(dbeta, beta) };
            rig.run(name, op);
            let x = wide(&rig.read(x));
            let want = oracle::act_norm_backward(act, &dy, &x, &rig.values(gamma), EPS.into());
            out.f32("dx", rig.read(over.now), want);
            if dbeta {
                out.gradient("dbeta", rig, beta, oracle::column_sums(&dy, width));
            }
        }
        Kind::LabelledLoss { outputs, gradient } => {
            let logits = rig.input_f32(ROWS, outputs, 3.0);
            let d = gradient.then(|| rig.output_f32(ROWS, outputs));
            rig.start(0, outputs);
            let kind = LossKind::CrossEntropy;
            let loss = Loss { kind, class_weights: None, logits: In(logits), dlogits: Aside(d) };
            let ops = vec![Op::from(Zero {}), loss.clone().into(), loss.into()];
            rig.run_all(name, ops, Numbers { weight: 0.125, update: None });
            let mut classes = known;
            classes.retain(|&class| class != Labels::IGNORED);
            let x = wide(&rig.read(logits));
            let (total, dx) = oracle::cross_entropy(&x, outputs, &classes, None);
            let report = rig.backend.step_report().unwrap();
            out.f32("loss", vec![report.loss], vec![0.25 * total]);
            if let Some(d) = d {
                out.f32("dlogits", rig.read(d), dx.iter().map(|d| d * 0.125).collect());
            }
        }
        _ => unreachable!("not one of this file's cases: {case:?}"),
    }
}

/// x̂ and rstd after the activation.
fn activated(act: bitfit::program::Activation, x: &[f64], width: usize) -> (Vec<f64>, Vec<f64>) {
    let values: Vec<f64> = x.iter().map(|&x| oracle::activation(act, x)).collect();
    oracle::normalise(&values, width, EPS.into())
}
