//! Embeddings, LayerNorm and the bias gradients beside it, on a backend and on the oracle.

use crate::cases::{Case, EPS, Kind, Outcomes};
use crate::codes::{decoded_x_hat, root_step, words_of};
use crate::oracle;
use crate::rig::{Rig, wide};
use bitfit::backend::{
    Backend, BiasGrad, Dropout, EmbedForward, Norm, NormRestore, ParamRange, ResidualNormBackward,
    ResidualNormForward, Rows, SavedNorm, XHatType,
};

/// Runs a case of this file's kinds on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    let tokens = rig.batch.tokens();
    let dropout = Dropout { p: case.p, site: 7 };
    let key = rig.key;
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
            rig.run(name, &[x], &[], |b| b.embed_forward(op));
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
            out.activation("out", rig, x, oracle::masked(&y, hidden, dropout, key));
        }
        Kind::ResidualNorm { hidden, saved } => {
            let x = rig.input(tokens, hidden, 1.0);
            let residual = rig.input(tokens, hidden, 1.0);
            let saved = saved.map(|stored| {
                let x_hat = match stored {
                    XHatType::Full => rig.output(tokens, hidden),
                    XHatType::Bits8 => rig.output_f32(1, stored.bytes(tokens, hidden, 4) / 4),
                };
                (stored, x_hat, rig.output_f32(tokens, 1))
            });
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
                saved: saved.map(|(stored, x_hat, rstd)| SavedNorm {
                    x_hat: rig.region(x_hat),
                    stored,
                    rstd: rig.region(rstd),
                }),
                rows: Rows::Tokens,
            };
            let written: Vec<_> = [x]
                .into_iter()
                .chain(saved.iter().flat_map(|s| [s.1, s.2]))
                .collect();
            rig.run(name, &written, &[], |b| b.residual_norm_forward(op));
            let mut sum = oracle::masked(&branch, hidden, dropout, key);
            sum.iter_mut()
                .zip(wide(&rig.read(residual)))
                .for_each(|(s, r)| *s += r);
            let (x_hat, rstd) = oracle::normalise(&sum, hidden, f64::from(EPS));
            let want = oracle::affine(&x_hat, &rig.values(norm.gamma), &rig.values(norm.beta));
            out.activation("out", rig, x, want);
            if let Some((stored, kept, kept_rstd)) = saved {
                match stored {
                    XHatType::Full => out.activation("x_hat", rig, kept, x_hat),
                    XHatType::Bits8 => {
                        let got = decoded_x_hat(&rig.read(kept), x_hat.len(), hidden);
                        for (got, want) in got.iter().zip(&x_hat) {
                            // Where f32 arithmetic decides between two codes.
                            let off = (got.abs().sqrt() - want.abs().sqrt()).abs();
                            let same = got * want >= 0.0;
                            assert!(
                                same && off <= 0.501 * root_step(hidden),
                                "{name}: {want} became {got}"
                            );
                        }
                    }
                }
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
            rig.run(name, &[y], &[], |b| b.norm_restore(op));
            let want = oracle::affine(
                &wide(&rig.read(x_hat)),
                &rig.values(norm.gamma),
                &rig.values(norm.beta),
            );
            out.activation("out", rig, y, want);
        }
        Kind::ResidualNormBackward {
            hidden,
            stored,
            sums,
            branch,
        } => {
            let dx = rig.input(tokens, hidden, 1.0);
            let x_hat = match stored {
                XHatType::Full => rig.input(tokens, hidden, 1.0),
                XHatType::Bits8 => {
                    let mut bytes = vec![0u8; stored.bytes(tokens, hidden, 4)];
                    bytes.fill_with(|| rig.numbers.below(255) as u8 ^ 128);
                    rig.given_f32(words_of(&bytes))
                }
            };
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
                    stored,
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
            rig.run(name, &written, grads, |b| b.residual_norm_backward(op));
            let x_hat = match stored {
                XHatType::Full => wide(&rig.read(x_hat)),
                XHatType::Bits8 => decoded_x_hat(&rig.read(x_hat), tokens * hidden, hidden),
            };
            let dz = oracle::norm_backward(&dy, &x_hat, &wide(&rig.read(rstd)), &rig.values(gamma));
            let want = oracle::masked(&dz, hidden, dropout, key);
            if sums {
                out.gradient("dbeta", rig, dbeta, oracle::column_sums(&dy, hidden));
                out.gradient("dbias", rig, dbias, oracle::column_sums(&want, hidden));
            }
            if let Some(d) = d_branch {
                out.activation("d_branch", rig, d, want);
            }
            out.activation("dx", rig, dx, dz);
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
            rig.run(name, &[], &[grad], |b| b.bias_grad(op));
            let under = oracle::masked(&wide(&rig.read(dy)), width, dropout, key);
            out.gradient("grad", rig, grad, oracle::column_sums(&under, width));
        }
        _ => unreachable!("not one of this file's cases: {case:?}"),
    }
}
