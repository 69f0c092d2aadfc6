//! Every operation in plain f64 loops: the reference for the backends.
//!
//! Nothing here is shared with a backend except the random generator that defines the dropout masks.

use bitfit::backend::DropoutKey;
use bitfit::program::{Activation, Dropout};
use bitfit::rng::Philox;

/// The factor of one element under dropout, straight from the definition in `Dropout`'s doc. The rows are part of a
/// batch's, with as many tokens before them as sequences: tests choose the part that way.
pub fn mask(dropout: Dropout, key: DropoutKey, row: usize, col: usize) -> f64 {
    if dropout.p == 0.0 {
        return 1.0;
    }
    let row = key.first.tokens + row as u32;
    let counter = [col as u32 / 8, row, dropout.site, key.step as u32];
    let word = Philox::from_seed(key.seed).block(counter)[col % 8 / 2];
    let half = word >> (16 * (col % 2)) & 0xFFFF;
    let dropped = (f64::from(dropout.p) * 65_536.0).round();
    if f64::from(half) >= dropped { 65_536.0 / (65_536.0 - dropped) } else { 0.0 }
}

/// `x` `[rows, width]` under dropout.
pub fn masked(x: &[f64], width: usize, dropout: Dropout, key: DropoutKey) -> Vec<f64> {
    x.iter().enumerate().map(|(i, x)| x * mask(dropout, key, i / width, i % width)).collect()
}

/// Standard normal distribution function: a series near zero, a continued fraction in the tail.
fn phi(x: f64) -> f64 {
    let a = x.abs();
    let density = (-0.5 * a * a).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let tail = if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for k in 1..120 {
            term *= a * a / f64::from(2 * k + 1);
            sum += term;
        }
        0.5 - density * sum
    } else {
        let mut fraction = a;
        for k in (1..200).rev() {
            fraction = a + f64::from(k) / fraction;
        }
        density / fraction
    };
    if x < 0.0 { tail } else { 1.0 - tail }
}

pub fn activation(kind: Activation, x: f64) -> f64 {
    match kind {
        Activation::GeluErf => x * phi(x),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + inner.tanh())
        }
        Activation::Relu => x.max(0.0),
    }
}

pub fn activation_derivative(kind: Activation, x: f64) -> f64 {
    match kind {
        Activation::GeluErf => {
            phi(x) + x * (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt()
        }
        Activation::GeluTanh => {
            let c = (2.0 / std::f64::consts::PI).sqrt();
            let t = (c * (x + 0.044715 * x.powi(3))).tanh();
            0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3.0 * 0.044715 * x * x)
        }
        Activation::Relu => f64::from(u8::from(x > 0.0)),
    }
}

/// `x·Wᵀ + b`: x `[_, inputs]`, w `[outputs, inputs]`.
pub fn linear(x: &[f64], w: &[f64], b: &[f64]) -> Vec<f64> {
    let inputs = w.len() / b.len();
    x.chunks(inputs)
        .flat_map(|x| {
            w.chunks(inputs)
                .zip(b)
                .map(|(w, b)| b + x.iter().zip(w).map(|(x, w)| x * w).sum::<f64>())
        })
        .collect()
}

/// `dy·W`.
pub fn linear_backward(dy: &[f64], w: &[f64], outputs: usize) -> Vec<f64> {
    let inputs = w.len() / outputs;
    let mut dx = Vec::new();
    for dy in dy.chunks(outputs) {
        let mut row = vec![0.0; inputs];
        for (d, w) in dy.iter().zip(w.chunks(inputs)) {
            row.iter_mut().zip(w).for_each(|(r, w)| *r += d * w);
        }
        dx.extend(row);
    }
    dx
}

/// `dyᵀ·x`, `[outputs, inputs]`.
pub fn weight_gradient(dy: &[f64], x: &[f64], outputs: usize, inputs: usize) -> Vec<f64> {
    let mut dw = vec![0.0; outputs * inputs];
    for (dy, x) in dy.chunks(outputs).zip(x.chunks(inputs)) {
        for (o, d) in dy.iter().enumerate() {
            for (i, x) in x.iter().enumerate() {
                dw[o * inputs + i] += d * x;
            }
        }
    }
    dw
}

/// Column sums of `a ⊙ b`: the gradient of a gain.
pub fn product_sums(a: &[f64], b: &[f64], width: usize) -> Vec<f64> {
    let product: Vec<f64> = a.iter().zip(b).map(|(a, b)| a * b).collect();
    column_sums(&product, width)
}

/// `x`, each column multiplied by a factor.
pub fn scaled(x: &[f64], factors: &[f64]) -> Vec<f64> {
    x.iter().zip(factors.iter().cycle()).map(|(x, factor)| x * factor).collect()
}

/// A table of `count` rows, each the sum of those `rows` that have its id.
pub fn scatter(rows: &[f64], ids: &[usize], count: usize, width: usize) -> Vec<f64> {
    let mut table = vec![0.0; count * width];
    for (row, &id) in rows.chunks(width).zip(ids) {
        let sum = &mut table[id * width..(id + 1) * width];
        sum.iter_mut().zip(row).for_each(|(s, r)| *s += r);
    }
    table
}

pub fn column_sums(x: &[f64], width: usize) -> Vec<f64> {
    let mut sums = vec![0.0; width];
    for row in x.chunks(width) {
        sums.iter_mut().zip(row).for_each(|(s, x)| *s += x);
    }
    sums
}

/// x̂ and rstd of each row.
pub fn normalise(x: &[f64], width: usize, eps: f64) -> (Vec<f64>, Vec<f64>) {
    let (mut x_hat, mut rstds) = (Vec::new(), Vec::new());
    for row in x.chunks(width) {
        let mean = row.iter().sum::<f64>() / width as f64;
        let var = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
        let rstd = 1.0 / (var + eps).sqrt();
        x_hat.extend(row.iter().map(|x| (x - mean) * rstd));
        rstds.push(rstd);
    }
    (x_hat, rstds)
}

pub fn affine(x_hat: &[f64], gamma: &[f64], beta: &[f64]) -> Vec<f64> {
    let width = gamma.len();
    x_hat.iter().enumerate().map(|(i, x)| x * gamma[i % width] + beta[i % width]).collect()
}

/// Gradient of LayerNorm's input.
pub fn norm_backward(dy: &[f64], x_hat: &[f64], rstd: &[f64], gamma: &[f64]) -> Vec<f64> {
    let width = gamma.len();
    let mut dz = Vec::new();
    for (row, rstd) in rstd.iter().enumerate() {
        let range = row * width..(row + 1) * width;
        let g: Vec<f64> = dy[range.clone()].iter().zip(gamma).map(|(d, g)| d * g).collect();
        let x = &x_hat[range];
        let mean = g.iter().sum::<f64>() / width as f64;
        let along = g.iter().zip(x).map(|(g, x)| g * x).sum::<f64>() / width as f64;
        dz.extend(g.iter().zip(x).map(|(g, x)| rstd * (g - mean - x * along)));
    }
    dz
}

/// Gradient of the input of an activation followed by a LayerNorm.
pub fn act_norm_backward(
    act: Activation,
    dy: &[f64],
    x: &[f64],
    gamma: &[f64],
    eps: f64,
) -> Vec<f64> {
    let values: Vec<f64> = x.iter().map(|&x| activation(act, x)).collect();
    let (x_hat, rstd) = normalise(&values, gamma.len(), eps);
    let dz = norm_backward(dy, &x_hat, &rstd, gamma);
    dz.iter().zip(x).map(|(d, &x)| d * activation_derivative(act, x)).collect()
}

/// Shape and randomness of an attention call.
#[derive(Clone, Copy)]
pub struct Attention<'a> {
    pub lens: &'a [usize],
    pub heads: usize,
    pub dim: usize,
    pub dropout: Dropout,
    pub key: DropoutKey,
    /// Dropout's row of the first token, in heads.
    pub first_row: usize,
    /// Rounds everything the textbook formulas store as a tensor: [`exactly`], or to 16 bits for what a straightforward
    /// implementation in that type would give.
    pub stored: &'a dyn Fn(f64) -> f64,
}

/// Storage that loses nothing.
pub fn exactly(x: f64) -> f64 {
    x
}

impl Attention<'_> {
    fn hidden(&self) -> usize {
        self.heads * self.dim
    }

    fn each_head(&self, mut work: impl FnMut(usize, usize, usize)) {
        let mut first = 0;
        for &len in self.lens {
            for head in 0..self.heads {
                work(first, len, head);
            }
            first += len;
        }
    }

    /// Part 0, 1, 2 is q, k, v.
    fn place(&self, token: usize, part: usize, head: usize) -> usize {
        token * 3 * self.hidden() + part * self.hidden() + head * self.dim
    }

    /// Probabilities before dropout and log-sum-exp of one query.
    fn probabilities(
        &self,
        qkv: &[f64],
        first: usize,
        len: usize,
        head: usize,
        i: usize,
    ) -> (Vec<f64>, f64) {
        let q = &qkv[self.place(first + i, 0, head)..][..self.dim];
        let scores: Vec<f64> = (0..len)
            .map(|j| {
                let k = &qkv[self.place(first + j, 1, head)..][..self.dim];
                let product = q.iter().zip(k).map(|(q, k)| q * k).sum::<f64>();
                (self.stored)((self.stored)(product) / (self.dim as f64).sqrt())
            })
            .collect();
        let most = scores.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - most).exp()).sum();
        let lse = most + sum.ln();
        let p = scores.iter().map(|s| (self.stored)((s - lse).exp()));
        (p.collect(), lse)
    }

    fn mask(&self, token: usize, head: usize, key: usize) -> f64 {
        let before = self.key.first.tokens as usize;
        let row = (before + self.first_row + token) * self.heads + head;
        mask(self.dropout, DropoutKey::new(self.key.seed, self.key.step), row, key)
    }

    /// Output and, `[heads, tokens]`, log-sum-exp.
    pub fn forward(&self, qkv: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let tokens: usize = self.lens.iter().sum();
        let mut out = vec![0.0; tokens * self.hidden()];
        let mut lses = vec![0.0; tokens * self.heads];
        self.each_head(|first, len, head| {
            for i in 0..len {
                let (p, lse) = self.probabilities(qkv, first, len, head, i);
                lses[head * tokens + first + i] = lse;
                for (j, p) in p.iter().enumerate() {
                    let p = (self.stored)(p * self.mask(first + i, head, j));
                    for c in 0..self.dim {
                        out[(first + i) * self.hidden() + head * self.dim + c] +=
                            p * qkv[self.place(first + j, 2, head) + c];
                    }
                }
            }
        });
        out.iter_mut().for_each(|x| *x = (self.stored)(*x));
        (out, lses)
    }

    /// dqkv, by the textbook softmax Jacobian (no use of the saved output).
    pub fn backward(&self, qkv: &[f64], dout: &[f64]) -> Vec<f64> {
        let mut d = vec![0.0; qkv.len()];
        let scale = 1.0 / (self.dim as f64).sqrt();
        self.each_head(|first, len, head| {
            for i in 0..len {
                let (p, _) = self.probabilities(qkv, first, len, head, i);
                let dout = &dout[(first + i) * self.hidden() + head * self.dim..][..self.dim];
                let mut dp = vec![0.0; len];
                for j in 0..len {
                    let m = self.mask(first + i, head, j);
                    let v = self.place(first + j, 2, head);
                    let kept = (self.stored)(p[j] * m);
                    for c in 0..self.dim {
                        dp[j] += dout[c] * qkv[v + c];
                        d[v + c] += kept * dout[c];
                    }
                    dp[j] = (self.stored)(m * (self.stored)(dp[j]));
                }
                let along: f64 = p.iter().zip(&dp).map(|(p, d)| p * d).sum();
                let q = self.place(first + i, 0, head);
                for j in 0..len {
                    let ds = (self.stored)((self.stored)(p[j] * (dp[j] - along)) * scale);
                    let k = self.place(first + j, 1, head);
                    for c in 0..self.dim {
                        d[q + c] += ds * qkv[k + c];
                        d[k + c] += ds * qkv[q + c];
                    }
                }
            }
        });
        d.iter_mut().for_each(|x| *x = (self.stored)(*x));
        d
    }
}

/// Pooled vectors: the first row of each sequence, or the mean of its rows.
pub fn pool(mean: bool, lens: &[usize], hidden: usize, x: &[f64]) -> Vec<f64> {
    let mut out = Vec::new();
    let mut first = 0;
    for &len in lens {
        let used = if mean { len } else { 1 };
        let rows = &x[first * hidden..(first + used) * hidden];
        out.extend(column_sums(rows, hidden).iter().map(|s| s / used as f64));
        first += len;
    }
    out
}

pub fn pool_backward(mean: bool, lens: &[usize], hidden: usize, d_pooled: &[f64]) -> Vec<f64> {
    let mut dx = Vec::new();
    for (&len, d) in lens.iter().zip(d_pooled.chunks(hidden)) {
        for token in 0..len {
            let share = match (mean, token) {
                (true, _) => 1.0 / len as f64,
                (false, 0) => 1.0,
                _ => 0.0,
            };
            dx.extend(d.iter().map(|d| d * share));
        }
    }
    dx
}

/// Sum of the rows' cross-entropies, weighted by class, and its gradient.
pub fn cross_entropy(
    logits: &[f64],
    outputs: usize,
    classes: &[u32],
    weights: Option<&[f64]>,
) -> (f64, Vec<f64>) {
    let (mut total, mut d) = (0.0, Vec::new());
    for (row, &class) in logits.chunks(outputs).zip(classes) {
        if class == u32::MAX {
            d.extend(row.iter().map(|_| 0.0));
            continue;
        }
        let class = class as usize;
        let weight = weights.map_or(1.0, |weights| weights[class]);
        let most = row.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = row.iter().map(|x| (x - most).exp()).sum();
        total += weight * (most + sum.ln() - row[class]);
        let one = |j: usize| if j == class { 1.0 } else { 0.0 };
        let softmax = row.iter().map(|x| (x - most).exp() / sum);
        d.extend(softmax.enumerate().map(|(j, p)| weight * (p - one(j))));
    }
    (total, d)
}

pub fn binary(logits: &[f64], targets: &[f32]) -> (f64, Vec<f64>) {
    let pairs = || logits.iter().zip(targets).map(|(&x, &y)| (x, f64::from(y)));
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let loss = |(x, y): (f64, f64)| -y * sigmoid(x).ln() - (1.0 - y) * (1.0 - sigmoid(x)).ln();
    (pairs().map(loss).sum(), pairs().map(|(x, y)| sigmoid(x) - y).collect())
}

/// Cross-entropy over the tokens of each sequence, of starts and of ends.
pub fn spans(logits: &[f64], lens: &[usize], spans: &[[u32; 2]]) -> (f64, Vec<f64>) {
    let (mut total, mut d) = (0.0, vec![0.0; logits.len()]);
    let mut first = 0;
    for (&len, ends) in lens.iter().zip(spans) {
        for (column, &end) in ends.iter().enumerate() {
            let row: Vec<f64> = (0..len).map(|t| logits[(first + t) * 2 + column]).collect();
            let (loss, gradient) = cross_entropy(&row, len, &[end], None);
            total += loss;
            for (t, gradient) in gradient.into_iter().enumerate() {
                d[(first + t) * 2 + column] = gradient;
            }
        }
        first += len;
    }
    (total, d)
}

pub fn mean_squared(logits: &[f64], values: &[f32]) -> (f64, Vec<f64>) {
    let difference: Vec<f64> = logits.iter().zip(values).map(|(x, &y)| x - f64::from(y)).collect();
    (difference.iter().map(|d| d * d).sum(), difference.iter().map(|d| 2.0 * d).collect())
}
