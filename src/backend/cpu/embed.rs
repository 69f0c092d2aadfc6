//! The embedding layer: three table rows, their sum, LayerNorm and dropout.

use super::CpuBackend;
use super::colsum::CHUNK;
use super::dropout::Mask;
use super::norm::Affine;
use super::normalise::{affine, normalise};
use super::operands::Operands;
use super::sparse::BesideTables;
use super::weights::{HostMatrices, Matrix};
use super::workers::Workers;
use crate::backend::ids::LargestIds;
use crate::batch::Batch;
use crate::program::{AddedRows, Embed, Program, Rows, WeightId};
use anyhow::{Result, ensure};

/// See [`Embed`].
pub fn forward(cpu: &mut CpuBackend, program: &Program, op: &Embed) -> Result<()> {
    let at = Operands::new(program, &cpu.batch, cpu.arithmetic);
    let shape = (Rows::Tokens, at.shape(op.out.0)?.1);
    let norm = Affine::read(&cpu.params.value, op.norm, shape.1)?;
    let ids = op.tables.ids();
    let tables = Tables::get(&cpu.weights, &cpu.params.value, ids)?;
    tables.check(&cpu.batch, shape.1)?;
    let tables = tables.with(&cpu.params.value, op.added)?;
    let mask = Mask::new(op.dropout, cpu.key, (Rows::Tokens, 1));
    let [out] = cpu.arena.regions([at.whole(op.out.0, shape)?])?;
    embeddings(tables, &cpu.batch, norm, mask, out, &cpu.workers);
    Ok(())
}

/// The tables, each `[rows, hidden]`.
#[derive(Clone, Copy)]
pub struct Tables<'a> {
    pub word: Matrix<'a>,
    pub position: Matrix<'a>,
    pub token_type: Matrix<'a>,
    /// Single values added to them.
    pub beside: Option<BesideTables<'a>>,
}

impl<'a> Tables<'a> {
    /// For words, positions and token types.
    pub fn get(weights: &'a HostMatrices, params: &'a [f32], ids: [WeightId; 3]) -> Result<Self> {
        let [word, position, token_type] = ids;
        Ok(Self {
            word: weights.get(word, params)?,
            position: weights.get(position, params)?,
            token_type: weights.get(token_type, params)?,
            beside: None,
        })
    }

    /// The same with single values added.
    pub fn with(self, params: &'a [f32], added: Option<AddedRows>) -> Result<Self> {
        let beside = added.map(|added| BesideTables::read(params, added, &self)).transpose()?;
        Ok(Self { beside, ..self })
    }

    /// # Errors
    /// If a table has another width, or an id has no row.
    pub fn check(&self, batch: &Batch, hidden: usize) -> Result<()> {
        for table in [self.word, self.position, self.token_type] {
            ensure!(
                table.cols == hidden,
                "an embedding table has {} columns, not {hidden}",
                table.cols
            );
        }
        LargestIds::of(batch).check([self.word.rows, self.position.rows, self.token_type.rows])
    }

    /// A token's row in the token-type table: a one-row table (RoBERTa) serves every token.
    pub fn type_of(&self, batch: &Batch, token: usize) -> u32 {
        if self.token_type.rows == 1 { 0 } else { batch.type_ids[token] }
    }

    /// The rows of a token.
    pub fn rows(&self, batch: &Batch, token: usize) -> [usize; 3] {
        [batch.ids[token], batch.positions[token], self.type_of(batch, token)]
            .map(|row| row as usize)
    }

    /// `row = word[id] + position[pos] + token_type[type]` of a token.
    pub fn sum(&self, batch: &Batch, token: usize, row: &mut [f32]) {
        let [word, position, token_type] = self.rows(batch, token);
        self.word.copy_row(word, row);
        self.position.add_row(position, row);
        self.token_type.add_row(token_type, row);
        if let Some(beside) = &self.beside {
            beside.add([word, position, token_type], row);
        }
    }
}

/// `out = dropout(LN(word[id] + position[pos] + token_type[type]))`, `[tokens, hidden]`.
fn embeddings(
    tables: Tables<'_>,
    batch: &Batch,
    norm: Affine<'_>,
    mask: Option<Mask>,
    out: &mut [f32],
    workers: &Workers,
) {
    let hidden = norm.gamma.len();
    workers.chunks(out, CHUNK * hidden, |chunk, out| {
        for (token, row) in (chunk * CHUNK..).zip(out.chunks_exact_mut(hidden)) {
            tables.sum(batch, token, row);
            normalise(row, norm.eps);
            affine(row, norm.gamma, norm.beta);
            if let Some(mask) = mask {
                mask.apply(token as u32, row);
            }
        }
    });
}
