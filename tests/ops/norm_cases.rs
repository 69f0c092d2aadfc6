//! Embeddings, LayerNorm and the accompanying bias gradients, on a backend and on the oracle.

use crate::cases::{Case, EPS, Kind, Outcomes};
use crate::codes::{decoded_x_hat, root_step};
use crate::oracle;
use crate::rig::{Numbers, Rig, sum, wide};
use bitfit::backend::Backend;
use bitfit::program::{
    Aside, ColumnSum, Dropout, Embed, In, Norm, NormBack, Out, ResidualNorm, Restore, Rows,
    Storage, Sum, TableIds,
};

/// Runs a case of this file's kinds on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    let tokens = rig.batch.tokens();
    let dropout = Dropout { p: case.p, site: 7 };
    let key = rig.key;
    match case.kind {
        Kind::Embed { hidden, vocab, types } => {
            for token in 0..tokens {
                rig.batch.ids[token] = match token {
                    0 => vocab as u32 - 1,
                    1 => 0,
                    _ => rig.numbers.below(vocab) as u32,
                };
                // If the table has one row, any type means that row.
                rig.batch.type_ids[token] = (token % 2) as u32;
            }
            let longest = *case.lens.iter().max().unwrap();
            let (word, words) = rig.table(vocab, hidden, 1.0);
            let (position, positions) = rig.table(longest, hidden, 0.5);
            let (token_type, type_rows) = rig.table(types, hidden, 0.3);
            let x = rig.output_stream(Rows::Tokens, hidden);
            let norm = Norm { gamma: rig.param(hidden), beta: rig.param(hidden), eps: EPS };
            rig.start(0, hidden);
            let op = Embed {
                tables: TableIds { word, position, token_type },
                added: None,
                norm,
                dropout,
                out: Out(x),
            };
            rig.run(name, op);
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
            let x = rig.stream(Rows::Tokens, hidden, 1.0);
            let residual = rig.stream(Rows::Tokens, hidden, 1.0);
            let saved = saved.map(|stored| {
                let x_hat = rig.output_as(Rows::Tokens, hidden, stored);
                (stored, x_hat, rig.output_f32(Rows::Tokens, 1))
            });
            let norm = Norm { gamma: rig.param(hidden), beta: rig.param(hidden), eps: EPS };
            rig.start(0, hidden);
            let branch = wide(&rig.read(x));
            let op = ResidualNorm {
                x: rig.over(x),
                residual: In(residual),
                dropout,
                norm,
                sum: Aside(None),
                x_hat: Aside(saved.map(|(_, x_hat, _)| x_hat)),
                rstd: Aside(saved.map(|(_, _, rstd)| rstd)),
            };
            rig.run(name, op);
            let mut sum = oracle::masked(&branch, hidden, dropout, key);
            sum.iter_mut().zip(wide(&rig.read(residual))).for_each(|(s, r)| *s += r);
            let (x_hat, rstd) = oracle::normalise(&sum, hidden, f64::from(EPS));
            let want = oracle::affine(&x_hat, &rig.values(norm.gamma), &rig.values(norm.beta));
            out.activation("out", rig, x, want);
            if let Some((stored, kept, kept_rstd)) = saved {
                match stored {
                    Storage::Activation => out.activation("x_hat", rig, kept, x_hat),
                    _ => {
                        let got = decoded_x_hat(&rig.read(kept), x_hat.len(), hidden);
                        for (got, want) in got.iter().zip(&x_hat) {
                            // A margin for when f32 arithmetic decides between two codes.
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
            let x_hat = rig.input(Rows::Tokens, hidden, 1.0);
            let y = rig.output_stream(Rows::Tokens, hidden);
            let norm = Norm { gamma: rig.param(hidden), beta: rig.param(hidden), eps: EPS };
            rig.start(0, hidden);
            let op = Restore { x_hat: In(x_hat), norm, out: Out(y) };
            rig.run(name, op);
            let want = oracle::affine(
                &wide(&rig.read(x_hat)),
                &rig.values(norm.gamma),
                &rig.values(norm.beta),
            );
            out.activation("out", rig, y, want);
        }
        Kind::ResidualNormBackward { hidden, stored, sums, branch } => {
            let dx = rig.stream(Rows::Tokens, hidden, 1.0);
            let x_hat = match stored {
                Storage::Activation => rig.input(Rows::Tokens, hidden, 1.0),
                _ => {
                    let any = |numbers: &mut Numbers| numbers.below(255) as u8 ^ 128;
                    rig.coded(Rows::Tokens, hidden, stored, any)
                }
            };
            let rstd = rig.input_f32(Rows::Tokens, 1, 1.0);
            let d_branch = branch.then(|| rig.output_stream(Rows::Tokens, hidden));
            let (dbeta, dbias) = (rig.param(hidden), rig.param(hidden));
            let gamma = rig.param(hidden);
            rig.start(2 * hidden + 4, hidden);
            let dy = wide(&rig.read(dx));
            let op = NormBack {
                x_hat: In(x_hat),
                rstd: In(rstd),
                gamma,
                dropout,
                dx: rig.over(dx),
                beside: None,
                branch: d_branch.map(Out),
                dbeta: sum(sums, dbeta),
                dbias: sum(sums, dbias),
            };
            rig.run(name, op);
            let x_hat = match stored {
                Storage::Activation => wide(&rig.read(x_hat)),
                _ => decoded_x_hat(&rig.read(x_hat), tokens * hidden, hidden),
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
        Kind::StreamNorm { hidden } => {
            let x = rig.stream(Rows::Tokens, hidden, 1.0);
            let residual = rig.stream(Rows::Tokens, hidden, 1.0);
            let stream = rig.output_stream(Rows::Tokens, hidden);
            let norm = Norm { gamma: rig.param(hidden), beta: rig.param(hidden), eps: EPS };
            rig.start(0, hidden);
            let mut sum = oracle::masked(&wide(&rig.read(x)), hidden, dropout, key);
            let op = ResidualNorm {
                x: rig.over(x),
                residual: In(residual),
                dropout,
                norm,
                sum: Aside(Some(stream)),
                x_hat: Aside(None),
                rstd: Aside(None),
            };
            rig.run(name, op);
            sum.iter_mut().zip(wide(&rig.read(residual))).for_each(|(s, r)| *s += r);
            let (x_hat, _) = oracle::normalise(&sum, hidden, f64::from(EPS));
            let want = oracle::affine(&x_hat, &rig.values(norm.gamma), &rig.values(norm.beta));
            out.activation("out", rig, x, want);
            out.activation("sum", rig, stream, sum);
        }
        Kind::StreamNormBackward { hidden } => {
            let dx = rig.stream(Rows::Tokens, hidden, 1.0);
            let beside = rig.stream(Rows::Tokens, hidden, 1.0);
            let x_hat = rig.input(Rows::Tokens, hidden, 1.0);
            let rstd = rig.input_f32(Rows::Tokens, 1, 1.0);
            let d_branch = rig.output_stream(Rows::Tokens, hidden);
            let (dbeta, dbias) = (rig.param(hidden), rig.param(hidden));
            let gamma = rig.param(hidden);
            rig.start(2 * hidden + 4, hidden);
            let dy = wide(&rig.read(dx));
            let op = NormBack {
                x_hat: In(x_hat),
                rstd: In(rstd),
                gamma,
                dropout,
                dx: rig.over(dx),
                beside: Some(In(beside)),
                branch: Some(Out(d_branch)),
                dbeta: sum(true, dbeta),
                dbias: sum(true, dbias),
            };
            rig.run(name, op);
            let (x_hat, rstd) = (wide(&rig.read(x_hat)), wide(&rig.read(rstd)));
            let mut dz = oracle::norm_backward(&dy, &x_hat, &rstd, &rig.values(gamma));
            dz.iter_mut().zip(wide(&rig.read(beside))).for_each(|(dz, beside)| *dz += beside);
            let branch = oracle::masked(&dz, hidden, dropout, key);
            out.gradient("dbeta", rig, dbeta, oracle::column_sums(&dy, hidden));
            out.gradient("dbias", rig, dbias, oracle::column_sums(&branch, hidden));
            out.activation("d_branch", rig, d_branch, branch);
            out.activation("dx", rig, dx, dz);
        }
        Kind::BiasGrad { width } => {
            let dy = rig.stream(Rows::Tokens, width, 1.0);
            let grad = rig.param(width);
            rig.start(width + 2, width);
            let op = ColumnSum { dy: In(dy), dropout, grad: Sum(Some(grad)) };
            rig.run(name, op);
            let under = oracle::masked(&wide(&rig.read(dy)), width, dropout, key);
            out.gradient("grad", rig, grad, oracle::column_sums(&under, width));
        }
        _ => unreachable!("not one of this file's cases: {case:?}"),
    }
}
