//! The gradients of matrices, gains and tables, on a backend and on the oracle.

use crate::cases::{Case, EPS, Kind, Outcomes};
use crate::codes::decoded_x_hat;
use crate::oracle;
use crate::rig::{Numbers, Rig, wide};
use bitfit::backend::Backend;
use bitfit::program::{
    Dropout, EmbedBack, GainGrad, In, Norm, ParamRange, Rows, Storage, Sum, TableIds, WeightGrad,
    WeightId,
};

/// An embedding table.
struct Table {
    id: WeightId,
    rows: usize,
    /// Its values, if it trains; otherwise they are here.
    trains: Option<ParamRange>,
    frozen: Vec<f64>,
}

impl Table {
    fn new<B: Backend>(rig: &mut Rig<B>, rows: usize, cols: usize, trains: bool) -> Self {
        if trains {
            let (id, range) = rig.trained(rows, cols);
            return Self { id, rows, trains: Some(range), frozen: Vec::new() };
        }
        let (id, frozen) = rig.table(rows, cols, 1.0);
        Self { id, rows, trains: None, frozen }
    }

    fn values<B: Backend>(&self, rig: &Rig<B>) -> Vec<f64> {
        match self.trains {
            Some(range) => rig.stored(&rig.values(range)),
            None => self.frozen.clone(),
        }
    }
}

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
        Kind::GainGrad { width, stored } => {
            let dy = rig.stream(Rows::Tokens, width, 1.0);
            let x_hat = match stored {
                Storage::Activation => rig.input(Rows::Tokens, width, 1.0),
                _ => {
                    let any = |numbers: &mut Numbers| numbers.below(255) as u8 ^ 128;
                    rig.coded(Rows::Tokens, width, stored, any)
                }
            };
            let grad = rig.param(width);
            rig.start(width + 2, width);
            let op = GainGrad { dy: In(dy), x_hat: In(x_hat), grad: Sum(Some(grad)) };
            rig.run(name, op);
            let x_hat = match stored {
                Storage::Activation => wide(&rig.read(x_hat)),
                _ => decoded_x_hat(&rig.read(x_hat), tokens * width, width),
            };
            let sums = oracle::product_sums(&wide(&rig.read(dy)), &x_hat, width);
            out.gradient("dgamma", rig, grad, sums);
        }
        Kind::EmbedBackward { hidden, vocab, types, tables: train } => {
            for token in 0..tokens {
                // Ids that occur once, often and never; the table's first and last row.
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
            let tables = [vocab, longest, types].map(|rows| Table::new(rig, rows, hidden, train));
            let norm = Norm { gamma: rig.param(hidden), beta: rig.param(hidden), eps: EPS };
            let of_tables = if train { (vocab + longest + types) * hidden + 6 } else { 0 };
            rig.start(of_tables + 2 * hidden + 4, hidden);
            let dy = wide(&rig.read(dx));
            let [word, position, token_type] = tables.each_ref().map(|table| table.id);
            let [dword, dposition, dtype] = tables.each_ref().map(|table| Sum(table.trains));
            let op = EmbedBack {
                tables: TableIds { word, position, token_type },
                added: None,
                norm,
                dropout,
                dx: rig.over(dx),
                dword,
                dposition,
                dtype,
                dadded: Sum(None),
                dgamma: Sum(Some(norm.gamma)),
                dbeta: Sum(Some(norm.beta)),
            };
            rig.run(name, op);

            let batch = &rig.batch;
            let ids = [
                batch.ids.iter().map(|&id| id as usize).collect::<Vec<_>>(),
                batch.positions.iter().map(|&id| id as usize).collect(),
                // If the table has one row, any type means that row.
                batch.type_ids.iter().map(|&id| id as usize % types).collect(),
            ];
            let mut sum = vec![0.0; tokens * hidden];
            for (table, ids) in tables.iter().zip(&ids) {
                let values = table.values(rig);
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
            for ((name, table), ids) in names.into_iter().zip(&tables).zip(&ids) {
                let Some(range) = table.trains else { continue };
                let want = oracle::scatter(&dz, ids, table.rows, hidden);
                let straight = oracle::scatter(&stored, ids, table.rows, hidden);
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
