//! The operations of full fine-tuning on a backend and on the oracle.

use crate::cases::{Case, EPS, Kind, Outcomes};
use crate::oracle;
use crate::rig::{Rig, wide};
use bitfit::backend::Backend;
use bitfit::program::{Dropout, EmbedBack, GainGrad, In, Norm, Rows, Sum, TableIds, WeightGrad};

/// Runs a case of this file's kinds on a fresh rig.
pub fn run<B: Backend>(case: &Case, name: &str, rig: &mut Rig<B>, out: &mut Outcomes) {
    let tokens = rig.batch.tokens();
    let dropout = Dropout { p: case.p, site: 7 };
    match case.kind {
        Kind::WeightGrad { inputs, outputs } => {
            let dy = rig.input(Rows::Tokens, outputs, 1.0);
            let x = rig.input(Rows::Tokens, inputs, 1.0);
            let grad = rig.param(outputs * inputs);
            rig.start(outputs * inputs + 2, inputs.max(outputs));
            let op = WeightGrad { dy: In(dy), x: In(x), grad: Sum(Some(grad)) };
            rig.run(name, op);
            let (dy, x) = (wide(&rig.read(dy)), wide(&rig.read(x)));
            let dw = oracle::weight_gradient(&dy, &x, outputs, inputs);
            out.gradient("dweight", rig, grad, dw);
        }
        Kind::GainGrad { width } => {
            let dy = rig.stream(Rows::Tokens, width, 1.0);
            let x_hat = rig.input(Rows::Tokens, width, 1.0);
            let grad = rig.param(width);
            rig.start(width + 2, width);
            let op = GainGrad { dy: In(dy), x_hat: In(x_hat), grad: Sum(Some(grad)) };
            rig.run(name, op);
            let sums = oracle::product_sums(&wide(&rig.read(dy)), &wide(&rig.read(x_hat)), width);
            out.gradient("dgamma", rig, grad, sums);
        }
        Kind::EmbedBackward { hidden, vocab, types } => {
            for token in 0..tokens {
                // Ids that come once, often and never; the table's first and last row.
                rig.batch.ids[token] = match token {
                    0 => vocab as u32 - 1,
                    1 => 0,
                    _ if token % 3 == 0 => 1,
                    _ => rig.numbers.below(vocab) as u32,
                };
                rig.batch.type_ids[token] = (token % 2) as u32;
            }
            let longest = *case.lens.iter().max().unwrap();
            let dx = rig.stream(Rows::Tokens, hidden, 1.0);
            let tables = [vocab, longest, types].map(|rows| (rows, rig.trained(rows, hidden)));
            let norm = Norm { gamma: rig.param(hidden), beta: rig.param(hidden), eps: EPS };
            let trainable = (vocab + longest + types + 2) * hidden + 10;
            rig.start(trainable, hidden);
            let dy = wide(&rig.read(dx));
            let [word, position, token_type] = tables.map(|(_, (weight, _))| weight);
            let [dword, dposition, dtype] = tables.map(|(_, (_, grad))| Sum(Some(grad)));
            let op = EmbedBack {
                tables: TableIds { word, position, token_type },
                norm,
                dropout,
                dx: rig.over(dx),
                dword,
                dposition,
                dtype,
                dgamma: Sum(Some(norm.gamma)),
                dbeta: Sum(Some(norm.beta)),
            };
            rig.run(name, op);

            let batch = &rig.batch;
            let ids = [
                batch.ids.iter().map(|&id| id as usize).collect::<Vec<_>>(),
                batch.positions.iter().map(|&id| id as usize).collect(),
                // With one row in the table any type means that row.
                batch.type_ids.iter().map(|&id| id as usize % types).collect(),
            ];
            let mut sum = vec![0.0; tokens * hidden];
            for ((_, (_, range)), ids) in tables.iter().zip(&ids) {
                let values = rig.stored(&rig.values(*range));
                for (row, &id) in sum.chunks_mut(hidden).zip(ids) {
                    let from = &values[id * hidden..(id + 1) * hidden];
                    row.iter_mut().zip(from).for_each(|(s, v)| *s += v);
                }
            }
            let (x_hat, rstd) = oracle::normalise(&sum, hidden, f64::from(EPS));
            let dy = oracle::masked(&dy, hidden, dropout, rig.key);
            let dz = oracle::norm_backward(&dy, &x_hat, &rstd, &rig.values(norm.gamma));
            let names = ["dword", "dposition", "dtoken_type"];
            let stored = rig.rounded(&dz);
            for ((name, (rows, (_, range))), ids) in names.into_iter().zip(tables).zip(&ids) {
                let want = oracle::scatter(&dz, ids, rows, hidden);
                let straight = oracle::scatter(&stored, ids, rows, hidden);
                out.gradient_beside(name, rig, range, want, straight);
            }
            let dgamma = oracle::product_sums(&dy, &x_hat, hidden);
            out.gradient("dgamma", rig, norm.gamma, dgamma);
            let dbeta = oracle::column_sums(&dy, hidden);
            out.gradient("dbeta", rig, norm.beta, dbeta);
            out.activation("dx", rig, dx, dz);
        }
        _ => unreachable!("not a case of full fine-tuning: {case:?}"),
    }
}
