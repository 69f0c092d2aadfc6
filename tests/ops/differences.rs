//! The oracle's gradients against central differences of its own forward: this proves the formulas.

use crate::oracle::{self, Attention};
use crate::rig::{Numbers, wide};
use bitfit::backend::DropoutKey;
use bitfit::program::{Activation, Dropout};

const KEY: DropoutKey = DropoutKey::new(99, 3);
const DROPOUTS: [Dropout; 2] = [Dropout::NONE, Dropout { p: 0.3, site: 4 }];

/// `analytic` must be the gradient of `Σ upstream · f(x)`.
fn check(
    name: &str,
    x: &[f64],
    upstream: &[f64],
    f: impl Fn(&[f64]) -> Vec<f64>,
    analytic: &[f64],
) {
    let objective = |x: &[f64]| f(x).iter().zip(upstream).map(|(y, u)| y * u).sum::<f64>();
    assert_eq!(f(x).len(), upstream.len());
    assert_eq!(x.len(), analytic.len());
    let scale = analytic.iter().map(|a| a.abs()).fold(0.0, f64::max);
    assert!(scale > 0.0, "{name}: the gradient is zero everywhere");
    for i in 0..x.len() {
        let mut moved = x.to_vec();
        moved[i] = x[i] + 1e-5;
        let up = objective(&moved);
        moved[i] = x[i] - 1e-5;
        let numeric = (up - objective(&moved)) / 2e-5;
        let off = (numeric - analytic[i]).abs() / scale;
        assert!(off < 1e-7, "{name}[{i}]: {numeric} by differences, {} by formula", analytic[i]);
    }
}

fn normal(numbers: &mut Numbers, count: usize) -> Vec<f64> {
    wide(&numbers.normal(count, 1.0))
}

#[test]
fn linear_input_weight_and_bias_gradients() {
    let n = &mut Numbers::new("linear");
    let (rows, inputs, outputs) = (4, 5, 3);
    let (x, w, b) = (normal(n, rows * inputs), normal(n, outputs * inputs), normal(n, outputs));
    let dy = normal(n, rows * outputs);
    check("dx", &x, &dy, |x| oracle::linear(x, &w, &b), &oracle::linear_backward(&dy, &w, outputs));
    let dw = oracle::weight_gradient(&dy, &x, outputs, inputs);
    check("dw", &w, &dy, |w| oracle::linear(&x, w, &b), &dw);
    check("db", &b, &dy, |b| oracle::linear(&x, &w, b), &oracle::column_sums(&dy, outputs));
}

#[test]
fn activation_and_norm_of_a_head_on_masked_words() {
    let n = &mut Numbers::new("act norm");
    let (x, dy) = (normal(n, 24), normal(n, 24));
    let (gamma, beta) = (normal(n, 8), normal(n, 8));
    for act in [Activation::GeluErf, Activation::GeluTanh, Activation::Relu] {
        let f = |x: &[f64], beta: &[f64]| {
            let values: Vec<f64> = x.iter().map(|&x| oracle::activation(act, x)).collect();
            oracle::affine(&oracle::normalise(&values, 8, 1e-5).0, &gamma, beta)
        };
        let dx = oracle::act_norm_backward(act, &dy, &x, &gamma, 1e-5);
        check(&format!("{act:?} dx"), &x, &dy, |x| f(x, &beta), &dx);
        check("dbeta", &beta, &dy, |beta| f(&x, beta), &oracle::column_sums(&dy, 8));
    }
}

#[test]
fn activation_derivatives() {
    let n = &mut Numbers::new("activations");
    let x: Vec<f64> = normal(n, 60).iter().map(|x| x * 2.0).collect();
    let dy = vec![1.0; x.len()];
    for kind in [Activation::GeluErf, Activation::GeluTanh, Activation::Relu] {
        let slope: Vec<f64> = x.iter().map(|&x| oracle::activation_derivative(kind, x)).collect();
        let f = |x: &[f64]| x.iter().map(|&x| oracle::activation(kind, x)).collect();
        check(&format!("{kind:?}"), &x, &dy, f, &slope);
    }
}

/// The chain that the fused backward product implements: through W, then the activation, to the bias below.
#[test]
fn product_times_derivative_and_its_column_sums() {
    let n = &mut Numbers::new("chain");
    let (rows, inner, outputs) = (3, 4, 2);
    let (z, b) = (normal(n, rows * inner), normal(n, inner));
    let (w, dy) = (normal(n, outputs * inner), normal(n, rows * outputs));
    let kind = Activation::GeluErf;
    let forward = |b: &[f64]| {
        let h: Vec<f64> =
            z.iter().enumerate().map(|(i, z)| oracle::activation(kind, z + b[i % inner])).collect();
        oracle::linear(&h, &w, &[0.0, 0.0])
    };
    let mut dz = oracle::linear_backward(&dy, &w, outputs);
    for (i, d) in dz.iter_mut().enumerate() {
        *d *= oracle::activation_derivative(kind, z[i] + b[i % inner]);
    }
    check("bias below", &b, &dy, forward, &oracle::column_sums(&dz, inner));
}

#[test]
fn attention_gradients_with_and_without_dropout() {
    for dropout in DROPOUTS {
        let n = &mut Numbers::new("attention");
        let lens = [3, 1, 4];
        let op = Attention {
            lens: &lens,
            heads: 2,
            dim: 3,
            dropout,
            key: KEY,
            first_row: 0,
            stored: &oracle::exactly,
        };
        let (qkv, dout) = (normal(n, 8 * 18), normal(n, 8 * 6));
        let d = op.backward(&qkv, &dout);
        check("qkv", &qkv, &dout, |x| op.forward(x).0, &d);
        if dropout.p == 0.0 {
            // Why attention has no bias gradient for the keys.
            let sums = oracle::column_sums(&d, 18);
            assert!(sums[6..12].iter().all(|s| s.abs() < 1e-12), "{sums:?}");
        }
    }
}

#[test]
fn residual_norm_gradients_of_branch_residual_and_shift() {
    for dropout in DROPOUTS {
        let n = &mut Numbers::new("norm");
        let (rows, width) = (3, 6);
        let (x, r) = (normal(n, rows * width), normal(n, rows * width));
        let (gamma, beta) = (normal(n, width), normal(n, width));
        let dy = normal(n, rows * width);
        let sum = |x: &[f64], r: &[f64]| -> Vec<f64> {
            oracle::masked(x, width, dropout, KEY).iter().zip(r).map(|(x, r)| x + r).collect()
        };
        let f = |x: &[f64], r: &[f64], beta: &[f64]| {
            oracle::affine(&oracle::normalise(&sum(x, r), width, 1e-5).0, &gamma, beta)
        };
        let (x_hat, rstd) = oracle::normalise(&sum(&x, &r), width, 1e-5);
        let dz = oracle::norm_backward(&dy, &x_hat, &rstd, &gamma);
        check("residual", &r, &dy, |r| f(&x, r, &beta), &dz);
        check("branch", &x, &dy, |x| f(x, &r, &beta), &oracle::masked(&dz, width, dropout, KEY));
        check("shift", &beta, &dy, |b| f(&x, &r, b), &oracle::column_sums(&dy, width));
        let gained = |gamma: &[f64]| {
            oracle::affine(&oracle::normalise(&sum(&x, &r), width, 1e-5).0, gamma, &beta)
        };
        let dgamma = oracle::product_sums(&dy, &x_hat, width);
        check("gain", &gamma, &dy, gained, &dgamma);
    }
}

/// `EmbedBack`: to a table through LayerNorm and dropout, tokens sharing rows.
#[test]
fn table_gradients_through_norm_and_dropout() {
    for dropout in DROPOUTS {
        let n = &mut Numbers::new("tables");
        let (width, ids) = (4, [2, 0, 2, 2, 4]);
        let (word, rest) = (normal(n, 5 * width), normal(n, ids.len() * width));
        let (gamma, beta) = (normal(n, width), normal(n, width));
        let dy = normal(n, ids.len() * width);
        let sum = |word: &[f64]| -> Vec<f64> {
            let rows = ids.iter().flat_map(|id| &word[id * width..(id + 1) * width]);
            rows.zip(&rest).map(|(w, r)| w + r).collect()
        };
        let f = |word: &[f64]| {
            let (x_hat, _) = oracle::normalise(&sum(word), width, 1e-5);
            oracle::masked(&oracle::affine(&x_hat, &gamma, &beta), width, dropout, KEY)
        };
        let (x_hat, rstd) = oracle::normalise(&sum(&word), width, 1e-5);
        let masked = oracle::masked(&dy, width, dropout, KEY);
        let dz = oracle::norm_backward(&masked, &x_hat, &rstd, &gamma);
        check("table", &word, &dy, f, &oracle::scatter(&dz, &ids, 5, width));
    }
}

/// `ColumnSum`: a shift under dropout.
#[test]
fn shift_under_dropout() {
    let n = &mut Numbers::new("shift");
    let (x, b, dy) = (normal(n, 12), normal(n, 4), normal(n, 12));
    for dropout in DROPOUTS {
        let f = |b: &[f64]| {
            let sum: Vec<f64> = x.iter().enumerate().map(|(i, x)| x + b[i % 4]).collect();
            oracle::masked(&sum, 4, dropout, KEY)
        };
        let d = oracle::column_sums(&oracle::masked(&dy, 4, dropout, KEY), 4);
        check("shift", &b, &dy, f, &d);
    }
}

#[test]
fn pooling_gradients() {
    let n = &mut Numbers::new("pool");
    let lens = [2, 1, 3];
    let (x, d) = (normal(n, 6 * 2), normal(n, 3 * 2));
    for mean in [false, true] {
        let analytic = oracle::pool_backward(mean, &lens, 2, &d);
        check("pool", &x, &d, |x| oracle::pool(mean, &lens, 2, x), &analytic);
    }
}

#[test]
fn dense_gradients_through_dropout_and_tanh() {
    for dropout in DROPOUTS {
        let n = &mut Numbers::new("dense");
        let (rows, inputs, outputs) = (3, 4, 2);
        let (z, w, b) = (normal(n, rows * inputs), normal(n, outputs * inputs), normal(n, outputs));
        let dy = normal(n, rows * outputs);
        let input = |z: &[f64]| -> Vec<f64> {
            let x: Vec<f64> = z.iter().map(|z| z.tanh()).collect();
            oracle::masked(&x, inputs, dropout, KEY)
        };
        let f = |z: &[f64], w: &[f64]| oracle::linear(&input(z), w, &b);
        let through = oracle::linear_backward(&dy, &w, outputs);
        let dx = oracle::masked(&through, inputs, dropout, KEY);
        let slopes = z.iter().map(|z| 1.0 - z.tanh().powi(2));
        let dz: Vec<f64> = dx.iter().zip(slopes).map(|(d, slope)| d * slope).collect();
        check("dz", &z, &dy, |z| f(z, &w), &dz);
        let dw = oracle::weight_gradient(&dy, &input(&z), outputs, inputs);
        check("dw", &w, &dy, |w| f(&z, w), &dw);
    }
}

#[test]
fn loss_gradients() {
    let n = &mut Numbers::new("loss");
    let logits = normal(n, 12);
    let classes = [0, 2, 1, 2];
    let (_, d) = oracle::cross_entropy(&logits, 3, &classes, None);
    check(
        "cross-entropy",
        &logits,
        &[1.0],
        |x| vec![oracle::cross_entropy(x, 3, &classes, None).0],
        &d,
    );
    let weights = Some(&[0.5, 2.0, 1.5][..]);
    let (_, d) = oracle::cross_entropy(&logits, 3, &classes, weights);
    let of = |x: &[f64]| vec![oracle::cross_entropy(x, 3, &classes, weights).0];
    check("weighted cross-entropy", &logits, &[1.0], of, &d);
    let targets: Vec<f32> = (0..logits.len()).map(|i| (i % 2) as f32).collect();
    let (_, d) = oracle::binary(&logits, &targets);
    check("binary", &logits, &[1.0], |x| vec![oracle::binary(x, &targets).0], &d);
    let lens = [logits.len() / 2];
    let (_, d) = oracle::spans(&logits[..2 * lens[0]], &lens, &[[0, 1]]);
    let of = |x: &[f64]| vec![oracle::spans(x, &lens, &[[0, 1]]).0];
    check("spans", &logits[..2 * lens[0]], &[1.0], of, &d);
    let values = n.normal(12, 1.0);
    let (_, d) = oracle::mean_squared(&logits, &values);
    check("squared", &logits, &[1.0], |x| vec![oracle::mean_squared(x, &values).0], &d);
}
