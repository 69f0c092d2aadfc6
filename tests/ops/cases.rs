//! What a case is, and how each kind runs on a backend and on the oracle.

use crate::oracle::{self, Attention};
use crate::rig::{Rig, wide};
use crate::{first_cases, full_cases};
use bitfit::backend::weight_gradients::WeightGradients;
use bitfit::backend::{
    Activation, ActivationOutput, AttentionBackward, AttentionForward, Backend, BiasGrad, Dense,
    DenseBackward, Derivative, DerivativeType, Dropout, EmbedForward, HeadWeight, LinearActivation,
    LinearBackward, LinearForward, Loss, LossKind, Norm, NormRestore, ParamRange, Pool, PoolKind,
    ResidualNormBackward, ResidualNormForward, Rows, SavedNorm, WeightType,
};
use bitfit::batch::Labels;

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Case {
    /// Tokens of each sequence.
    pub lens: Vec<usize>,
    pub weights: WeightType,
    /// Dropout probability, where the operation has dropout.
    pub p: f32,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Embed {
        hidden: usize,
        vocab: usize,
        types: usize,
    },
    Linear {
        inputs: usize,
        outputs: usize,
        rows: Rows,
        parts: usize,
        act: Option<(Activation, Keep)>,
    },
    LinearBackward {
        inputs: usize,
        outputs: usize,
        rows: Rows,
        mode: Mode,
        dbias: bool,
    },
    Attention {
        heads: usize,
        dim: usize,
        lse: bool,
    },
    AttentionBackward {
        heads: usize,
        dim: usize,
        dbias: bool,
    },
    ResidualNorm {
        hidden: usize,
        saved: bool,
    },
    NormRestore {
        hidden: usize,
    },
    ResidualNormBackward {
        hidden: usize,
        sums: bool,
        branch: bool,
    },
    BiasGrad {
        width: usize,
    },
    Pool {
        hidden: usize,
        kind: PoolKind,
    },
    PoolBackward {
        hidden: usize,
        kind: PoolKind,
    },
    Dense {
        inputs: usize,
        outputs: usize,
        tanh: bool,
        trained: bool,
    },
    DenseBackward {
        inputs: usize,
        outputs: usize,
        tanh: bool,
        trained: bool,
        bias: bool,
        dx: bool,
    },
    Loss {
        kind: LossKind,
        outputs: usize,
        gradient: bool,
    },
    /// Of the first tokens alone, as the next three.
    FirstAttention {
        heads: usize,
        dim: usize,
        lse: bool,
    },
    FirstAttentionBackward {
        heads: usize,
        dim: usize,
        dbias: bool,
    },
    /// Their rows out of all and back, and pooled.
    FirstTokens {
        hidden: usize,
    },
    /// LayerNorm, restored and backward, and a bias gradient, with a row a sequence.
    SequenceNorm {
        hidden: usize,
    },
    /// Of full fine-tuning, as the rest.
    WeightGrad {
        inputs: usize,
        outputs: usize,
    },
    GainGrad {
        width: usize,
    },
    EmbedBackward {
        hidden: usize,
        vocab: usize,
        types: usize,
    },
}

/// What a linear layer leaves of its activation's derivative.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    Nothing,
    Beside(DerivativeType),
    /// The derivative and no value.
    Alone,
}

/// What a backward product does with its output.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Overwrite,
    Accumulate,
    Multiply(DerivativeType),
    /// Multiplies, and takes the derivative's place.
    InPlace,
}

/// Steps between 0 and 1 of a stored derivative, and the code of 0.
fn codes(stored: DerivativeType) -> (f64, f64) {
    match stored {
        DerivativeType::Full => unreachable!("not stored in codes"),
        DerivativeType::Bits8 => (200.0, 26.0),
        DerivativeType::Bits4 => (11.0, 2.0),
    }
}

/// The codes of `[rows, width]` derivatives in 32-bit words.
fn words_of(bytes: &[u8]) -> Vec<f32> {
    bytes
        .chunks(4)
        .map(|chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            f32::from_le_bytes(word)
        })
        .collect()
}

/// The derivatives whose codes fill `words`.
fn decoded(words: &[f32], stored: DerivativeType, rows: usize, width: usize) -> Vec<f64> {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let (steps, zero) = codes(stored);
    let row_bytes = stored.row_bytes(width, 1);
    (0..rows * width)
        .map(|i| {
            let (row, col) = (i / width, i % width);
            let code = match stored {
                DerivativeType::Bits4 => bytes[row * row_bytes + col / 2] >> (4 * (col % 2)) & 15,
                _ => bytes[row * row_bytes + col],
            };
            (f64::from(code) - zero) / steps
        })
        .collect()
}

/// One result of a case: what the backend wrote, and what it should have been.
pub struct Outcome {
    pub name: &'static str,
    pub got: Vec<f32>,
    pub want: Vec<f64>,
    /// What a straightforward 16-bit implementation would give: the textbook's formulas with exact sums, each tensor
    /// rounded when it is stored. Its error is the yardstick of 16-bit backends.
    pub straight: Vec<f64>,
    /// Held in f32 by every backend.
    pub f32: bool,
}

pub struct Outcomes(Vec<Outcome>);

impl Outcomes {
    pub fn activation<B: Backend>(
        &mut self,
        name: &'static str,
        rig: &Rig<B>,
        id: usize,
        want: Vec<f64>,
    ) {
        let straight = rig.rounded(&want);
        self.add(name, rig.read(id), want, straight, false);
    }

    pub fn f32(&mut self, name: &'static str, got: Vec<f32>, want: Vec<f64>) {
        let straight = want.clone();
        self.add(name, got, want, straight, true);
    }

    /// A parameter gradient: what was there plus `sums`.
    pub fn gradient<B: Backend>(
        &mut self,
        name: &'static str,
        rig: &Rig<B>,
        range: ParamRange,
        sums: Vec<f64>,
    ) {
        let straight = sums.clone();
        self.gradient_beside(name, rig, range, sums, straight);
    }

    /// The same where a straightforward implementation has other sums: those of what it stored.
    pub fn gradient_beside<B: Backend>(
        &mut self,
        name: &'static str,
        rig: &Rig<B>,
        range: ParamRange,
        sums: Vec<f64>,
        straight: Vec<f64>,
    ) {
        let before = rig.gradient_before(range);
        let after = |sums: Vec<f64>| before.iter().zip(&sums).map(|(a, b)| a + b).collect();
        self.add(
            name,
            rig.gradient(range),
            after(sums),
            after(straight),
            true,
        );
    }

    fn add(
        &mut self,
        name: &'static str,
        got: Vec<f32>,
        want: Vec<f64>,
        straight: Vec<f64>,
        f32: bool,
    ) {
        self.0.push(Outcome {
            name,
            got,
            want,
            straight,
            f32,
        });
    }
}

pub const EPS: f32 = 1e-12;

/// Runs a case on a backend that stores matrices as the case says.
pub fn run<B: WeightGradients>(case: &Case, backend: B) -> Vec<Outcome> {
    let stored: fn(f32) -> f32 = match case.weights {
        WeightType::F16 => |v| half::f16::from_f32(v).to_f32(),
        // 8 and 4 bits round a matrix as a whole: see `Rig::weight`.
        WeightType::F32 | WeightType::Int8 | WeightType::Nf4 => |v| v,
    };
    run_stored(case, backend, stored)
}

/// Runs a case on a backend that rounds matrices with `stored`; memory outside the case's outputs is checked
/// on the way.
pub fn run_stored<B: WeightGradients>(
    case: &Case,
    backend: B,
    stored: fn(f32) -> f32,
) -> Vec<Outcome> {
    let name = format!("{case:?}");
    let mut rig = Rig::new(backend, stored, &name, &case.lens);
    rig.weights = case.weights;
    let mut out = Outcomes(Vec::new());
    let tokens = rig.batch.tokens();
    let sequences = rig.batch.sequences();
    let dropout = Dropout { p: case.p, site: 7 };
    let key = rig.key;
    let row_count = |rows| {
        if rows == Rows::Tokens {
            tokens
        } else {
            sequences
        }
    };
    match case.kind {
        Kind::Embed {
            hidden,
            vocab,
            types,
        } => {
            for token in 0..tokens {
                rig.batch.ids[token] = match token {
                    0 => vocab as u32 - 1,
                    1 => 0,
                    _ => rig.numbers.below(vocab) as u32,
                };
                // With one row in the table any type means that row.
                rig.batch.type_ids[token] = (token % 2) as u32;
            }
            let longest = *case.lens.iter().max().unwrap();
            let (word, words) = rig.table(vocab, hidden, 1.0);
            let (position, positions) = rig.table(longest, hidden, 0.5);
            let (token_type, type_rows) = rig.table(types, hidden, 0.3);
            let x = rig.output(tokens, hidden);
            let norm = Norm {
                gamma: rig.param(hidden),
                beta: rig.param(hidden),
                eps: EPS,
            };
            rig.start(0, hidden);
            let op = EmbedForward {
                word,
                position,
                token_type,
                norm,
                dropout,
                out: rig.region(x),
            };
            rig.run(&name, &[x], &[], |b| b.embed_forward(op));
            let mut sum = Vec::new();
            for token in 0..tokens {
                let kind = rig.batch.type_ids[token] as usize % types;
                for c in 0..hidden {
                    sum.push(
                        words[rig.batch.ids[token] as usize * hidden + c]
                            + positions[rig.batch.positions[token] as usize * hidden + c]
                            + type_rows[kind * hidden + c],
                    );
                }
            }
            let (x_hat, _) = oracle::normalise(&sum, hidden, f64::from(EPS));
            let y = oracle::affine(&x_hat, &rig.values(norm.gamma), &rig.values(norm.beta));
            out.activation("out", &rig, x, oracle::masked(&y, hidden, dropout, key));
        }
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
            rig.run(&name, &written, &[], |b| b.linear_forward(op));
            let b: Vec<f64> = bias.iter().flat_map(|&p| rig.values(p)).collect();
            let z = oracle::linear(&wide(&rig.read(x)), &w, &b);
            let slopes = |kind| -> Vec<f64> {
                z.iter()
                    .map(|&z| oracle::activation_derivative(kind, z))
                    .collect()
            };
            match (keep, derivative, act) {
                (Keep::Beside(DerivativeType::Full), Some(d), Some((kind, _))) => {
                    out.activation("derivative", &rig, d, slopes(kind));
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
            out.activation("out", &rig, y, want);
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
            rig.run(&name, &[dx], &grads, |b| b.linear_backward(op));
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
                out.gradient_beside("dbias", &rig, grad, sums, straight);
            }
            out.activation("dx", &rig, dx, want);
        }
        Kind::Attention { heads, dim, lse } => {
            let hidden = heads * dim;
            let qkv = rig.input(tokens, 3 * hidden, 1.5);
            let y = rig.output(tokens, hidden);
            let sums = lse.then(|| rig.output_f32(tokens, heads));
            rig.start(0, 3 * hidden);
            let op = AttentionForward {
                qkv: rig.region(qkv),
                out: rig.region(y),
                lse: sums.map(|s| rig.region(s)),
                heads,
                head_dim: dim,
                dropout,
            };
            let written: Vec<_> = [y].into_iter().chain(sums).collect();
            rig.run(&name, &written, &[], |b| b.attention_forward(op));
            let reference = Attention {
                lens: &case.lens,
                heads,
                dim,
                dropout,
                key,
                first_row: 0,
                stored: &oracle::exactly,
            };
            let x = wide(&rig.read(qkv));
            let (want, want_lse) = reference.forward(&x);
            let round = |x| rig.round(x);
            let in_16_bits = Attention {
                stored: &round,
                ..reference
            };
            let straight = in_16_bits.forward(&x).0;
            out.add("out", rig.read(y), want, straight, false);
            if let Some(sums) = sums {
                out.f32("lse", rig.read(sums), want_lse);
            }
        }
        Kind::AttentionBackward { heads, dim, dbias } => {
            let hidden = heads * dim;
            let qkv = rig.input(tokens, 3 * hidden, 1.5);
            let y = rig.input(tokens, hidden, 0.0);
            let lse = rig.input_f32(tokens, heads, 0.0);
            let dout = rig.input(tokens, hidden, 1.0);
            let dqkv = rig.output(tokens, 3 * hidden);
            let (query, value) = (rig.param(hidden), rig.param(hidden));
            rig.start(2 * hidden + 4, 3 * hidden);
            let reference = Attention {
                lens: &case.lens,
                heads,
                dim,
                dropout,
                key,
                first_row: 0,
                stored: &oracle::exactly,
            };
            let x = wide(&rig.read(qkv));
            let (o, l) = reference.forward(&x);
            let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<f32>>();
            rig.backend
                .write_activations(rig.region(y), &narrow(&o))
                .unwrap();
            rig.backend.write_f32(rig.region(lse), &narrow(&l)).unwrap();
            let op = AttentionBackward {
                qkv: rig.region(qkv),
                out: rig.region(y),
                lse: rig.region(lse),
                dout: rig.region(dout),
                dqkv: rig.region(dqkv),
                heads,
                head_dim: dim,
                dropout,
                dbias_query: dbias.then_some(query),
                dbias_value: dbias.then_some(value),
            };
            let grads: &[ParamRange] = if dbias { &[query, value] } else { &[] };
            rig.run(&name, &[dqkv], grads, |b| b.attention_backward(op));
            let dout = wide(&rig.read(dout));
            let want = reference.backward(&x, &dout);
            let round = |x| rig.round(x);
            let in_16_bits = Attention {
                stored: &round,
                ..reference
            };
            let straight = in_16_bits.backward(&x, &dout);
            if dbias {
                let sums = oracle::column_sums(&want, 3 * hidden);
                let straight = oracle::column_sums(&straight, 3 * hidden);
                for (name, range, part) in [("dbias_query", query, 0), ("dbias_value", value, 2)] {
                    let of = |sums: &[f64]| sums[part * hidden..][..hidden].to_vec();
                    out.gradient_beside(name, &rig, range, of(&sums), of(&straight));
                }
            }
            out.add("dqkv", rig.read(dqkv), want, straight, false);
        }
        Kind::ResidualNorm { hidden, saved } => {
            let x = rig.input(tokens, hidden, 1.0);
            let residual = rig.input(tokens, hidden, 1.0);
            let saved = saved.then(|| (rig.output(tokens, hidden), rig.output_f32(tokens, 1)));
            let norm = Norm {
                gamma: rig.param(hidden),
                beta: rig.param(hidden),
                eps: EPS,
            };
            rig.start(0, hidden);
            let branch = wide(&rig.read(x));
            let op = ResidualNormForward {
                x: rig.region(x),
                residual: rig.region(residual),
                dropout,
                norm,
                saved: saved.map(|(x_hat, rstd)| SavedNorm {
                    x_hat: rig.region(x_hat),
                    rstd: rig.region(rstd),
                }),
                rows: Rows::Tokens,
            };
            let written: Vec<_> = [x]
                .into_iter()
                .chain(saved.iter().flat_map(|s| [s.0, s.1]))
                .collect();
            rig.run(&name, &written, &[], |b| b.residual_norm_forward(op));
            let mut sum = oracle::masked(&branch, hidden, dropout, key);
            sum.iter_mut()
                .zip(wide(&rig.read(residual)))
                .for_each(|(s, r)| *s += r);
            let (x_hat, rstd) = oracle::normalise(&sum, hidden, f64::from(EPS));
            let want = oracle::affine(&x_hat, &rig.values(norm.gamma), &rig.values(norm.beta));
            out.activation("out", &rig, x, want);
            if let Some((kept, kept_rstd)) = saved {
                out.activation("x_hat", &rig, kept, x_hat);
                out.f32("rstd", rig.read(kept_rstd), rstd);
            }
        }
        Kind::NormRestore { hidden } => {
            let x_hat = rig.input(tokens, hidden, 1.0);
            let y = rig.output(tokens, hidden);
            let norm = Norm {
                gamma: rig.param(hidden),
                beta: rig.param(hidden),
                eps: EPS,
            };
            rig.start(0, hidden);
            let op = NormRestore {
                x_hat: rig.region(x_hat),
                norm,
                out: rig.region(y),
                rows: Rows::Tokens,
            };
            rig.run(&name, &[y], &[], |b| b.norm_restore(op));
            let want = oracle::affine(
                &wide(&rig.read(x_hat)),
                &rig.values(norm.gamma),
                &rig.values(norm.beta),
            );
            out.activation("out", &rig, y, want);
        }
        Kind::ResidualNormBackward {
            hidden,
            sums,
            branch,
        } => {
            let dx = rig.input(tokens, hidden, 1.0);
            let x_hat = rig.input(tokens, hidden, 1.0);
            let rstd = rig.input_f32(tokens, 1, 1.0);
            let d_branch = branch.then(|| rig.output(tokens, hidden));
            let (dbeta, dbias) = (rig.param(hidden), rig.param(hidden));
            let gamma = rig.param(hidden);
            rig.start(2 * hidden + 4, hidden);
            let dy = wide(&rig.read(dx));
            let op = ResidualNormBackward {
                dx: rig.region(dx),
                saved: SavedNorm {
                    x_hat: rig.region(x_hat),
                    rstd: rig.region(rstd),
                },
                gamma,
                dropout,
                d_branch: d_branch.map(|d| rig.region(d)),
                dbeta: sums.then_some(dbeta),
                dbias: sums.then_some(dbias),
                rows: Rows::Tokens,
            };
            let grads: &[ParamRange] = if sums { &[dbeta, dbias] } else { &[] };
            let written: Vec<_> = [dx].into_iter().chain(d_branch).collect();
            rig.run(&name, &written, grads, |b| b.residual_norm_backward(op));
            let dz = oracle::norm_backward(
                &dy,
                &wide(&rig.read(x_hat)),
                &wide(&rig.read(rstd)),
                &rig.values(gamma),
            );
            let want = oracle::masked(&dz, hidden, dropout, key);
            if sums {
                out.gradient("dbeta", &rig, dbeta, oracle::column_sums(&dy, hidden));
                out.gradient("dbias", &rig, dbias, oracle::column_sums(&want, hidden));
            }
            if let Some(d) = d_branch {
                out.activation("d_branch", &rig, d, want);
            }
            out.activation("dx", &rig, dx, dz);
        }
        Kind::BiasGrad { width } => {
            let dy = rig.input(tokens, width, 1.0);
            let grad = rig.param(width);
            rig.start(width + 2, width);
            let op = BiasGrad {
                dy: rig.region(dy),
                dropout,
                grad,
                rows: Rows::Tokens,
            };
            rig.run(&name, &[], &[grad], |b| b.bias_grad(op));
            let under = oracle::masked(&wide(&rig.read(dy)), width, dropout, key);
            out.gradient("grad", &rig, grad, oracle::column_sums(&under, width));
        }
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
            rig.run(&name, &[pooled], &[], |b| b.pool_forward(op));
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
            rig.run(&name, &[dx], &[], |b| b.pool_backward(op));
            let mean = kind == PoolKind::Mean;
            let want = oracle::pool_backward(mean, &case.lens, hidden, &wide(&rig.read(pooled)));
            out.activation("dx", &rig, dx, want);
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
            rig.run(&name, &[y], &[], |b| b.dense_forward(op));
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
            rig.run(&name, &written, &grads, |b| b.dense_backward(op));
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
                out.gradient("dweight", &rig, matrix, dw);
            }
            if bias {
                out.gradient("dbias", &rig, shift, oracle::column_sums(&dz, outputs));
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
            rig.run(&name, &written, &[], |b| {
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
        Kind::FirstAttention { .. }
        | Kind::FirstAttentionBackward { .. }
        | Kind::FirstTokens { .. }
        | Kind::SequenceNorm { .. } => first_cases::run(case, &name, &mut rig, &mut out),
        Kind::WeightGrad { .. } | Kind::GainGrad { .. } | Kind::EmbedBackward { .. } => {
            full_cases::run(case, &name, &mut rig, &mut out)
        }
    }
    out.0
}
